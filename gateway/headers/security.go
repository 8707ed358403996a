package headers

// Security is what an app's answers promise to browsers. What the app itself says stays where it is at least as strict.
type Security struct {
	// NoSniff sends X-Content-Type-Options: nosniff. Default true.
	NoSniff *bool `yaml:"nosniff" default:"true"`
}

// Cookies says how the cookies that an app sets are hardened.
type Cookies struct {
	// Script are the names of cookies that the app's own scripts read, which therefore do not become HttpOnly. Default: none.
	Script []string `yaml:"script" config:"single"`
}

// CORS says which other origins' pages may read an app's answers (https://fetch.spec.whatwg.org/#http-cors-protocol). The
// gateway then answers preflights by itself.
type CORS struct {
	// Origins are those pages' origins, such as https://intranet.corp.example. Default: none.
	Origins []string `yaml:"origins" config:"single"`
}
