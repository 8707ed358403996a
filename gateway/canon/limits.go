package canon

// Limits bound what one request may cost. A zero field means its default, so the zero value is safe.
type Limits struct {
	// Path is how many bytes the decoded path may have. Default 4096, which is also the most.
	Path int `yaml:"path" default:"4096"`
	// Query is how many bytes the query may have as received. Default 8192, which is also the most.
	Query int `yaml:"query" default:"8192"`
	// Params is how many parameters the query may have. Default 1000.
	Params int `yaml:"params" default:"1000"`
	// Fields is how many header fields there may be, each line counted. Default 256.
	Fields int `yaml:"fields" default:"256"`
	// Header is how many bytes all header names and values may have. Default 65536.
	Header int `yaml:"header" default:"65536"`
	// Cookies is how many cookies there may be. Default 512.
	Cookies int `yaml:"cookies" default:"512"`
}

// orDefaults are sized for what browsers and their apps send, and so that what a policy reads of a request always fits
// its audit record.
func (lim Limits) orDefaults() Limits {
	set := func(limit *int, value int) {
		if *limit <= 0 {
			*limit = value
		}
	}
	set(&lim.Path, 4<<10)
	set(&lim.Query, 8<<10)
	set(&lim.Params, 1000)
	set(&lim.Fields, 256)
	set(&lim.Header, 64<<10)
	set(&lim.Cookies, 512)
	return lim
}
