package canon

// Limits bound what one request may cost. A zero field means its default, so the zero value is safe.
type Limits struct {
	Path    int // bytes of the decoded path; default 4096
	Query   int // bytes of the query as received; default 8192
	Params  int // query parameters; default 1000
	Fields  int // header fields, each line counted; default 256
	Header  int // bytes of all header names and values; default 65536
	Cookies int // cookies in the request; default 512
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
