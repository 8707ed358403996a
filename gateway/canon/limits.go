package canon

import (
	"errors"
	"fmt"
)

// Limits bound what one request may cost. A zero field means its default, so the zero value is safe.
type Limits struct {
	// Path is how many bytes the decoded path may have, from 256 to 4096. Longer ones are refused with 414. Default 4096.
	Path int `yaml:"path" default:"4096"`
	// Query is how many bytes the query may have as received, from 1024 to 8192. Longer ones are refused with 414.
	// Default 8192.
	Query int `yaml:"query" default:"8192"`
	// Params is how many parameters the query may have, from 16 to 8192. More are refused with 400. Default 1000.
	Params int `yaml:"params" default:"1000"`
	// Fields is how many header fields there may be, each line counted, from 32 to 1024. More are refused with 431.
	// Default 256.
	Fields int `yaml:"fields" default:"256"`
	// Header is how many bytes all header names and values may have, from 4096 to 65536. More are refused with 431.
	// Default 65536.
	Header int `yaml:"header" default:"65536"`
	// Cookies is how many cookies there may be, from 16 to 2048. More are refused with 431. Default 512.
	Cookies int `yaml:"cookies" default:"512"`
}

// bounds are from where to where each limit may be set: no smaller than a sign-in needs, and so that what a policy reads
// of a request always fits its audit record and a head fits what the server reads (package gateway, maxHead).
func (lim *Limits) bounds() []bound {
	return []bound{
		{"path", &lim.Path, 256, 4 << 10, 4 << 10},
		{"query", &lim.Query, 1 << 10, 8 << 10, 8 << 10},
		{"params", &lim.Params, 16, 8 << 10, 1000},
		{"fields", &lim.Fields, 32, 1 << 10, 256},
		{"header", &lim.Header, 4 << 10, 64 << 10, 64 << 10},
		{"cookies", &lim.Cookies, 16, 2 << 10, 512},
	}
}

type bound struct {
	name                string
	value               *int
	least, most, normal int
}

// Check refuses limits outside their bounds.
func (lim *Limits) Check() error {
	var errs []error
	for _, b := range lim.bounds() {
		if *b.value < b.least || *b.value > b.most {
			errs = append(errs, &fieldError{b.name, fmt.Errorf("must be from %d to %d", b.least, b.most)})
		}
	}
	return errors.Join(errs...)
}

// orDefaults are sized for what browsers and their apps send.
func (lim Limits) orDefaults() Limits {
	for _, b := range lim.bounds() {
		if *b.value <= 0 {
			*b.value = b.normal
		}
	}
	return lim
}

// fieldError says which field of the configuration it is about.
type fieldError struct {
	field string
	error
}

func (e *fieldError) Field() string { return e.field }
