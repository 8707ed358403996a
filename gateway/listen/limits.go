package listen

// Connections is `limits.connections` in the configuration: what connections may cost before anybody is known on them.
type Connections struct {
	// Strangers is how many connections may be open on which nobody has been identified. Above it the oldest such
	// connection is closed for each new one. Default 4096.
	Strangers int `yaml:"strangers" default:"4096"`
}
