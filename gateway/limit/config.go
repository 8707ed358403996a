// Package limit bounds how often, and how much at a time, somebody may ask.
package limit

// Config is the part of `limits` in the configuration that is about rates.
type Config struct {
	// Strangers bounds the requests without a session that come from one address.
	Strangers Rate `yaml:"strangers"`
}

// App is an app's `limits`.
type App struct {
	// Person bounds what one person asks of the app.
	Person Rate `yaml:"person"`
}

// Rate is so many requests in so much time, such as 20/s, and how many may come at once.
type Rate struct {
	// Burst is how many may come at once. Default: the rate's own number.
	Burst int `yaml:"burst"`
}
