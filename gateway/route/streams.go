package route

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Streams are exchanges that must not wait in the spool, and the limits of all that stay open for long.
type Streams struct {
	// Paths are the places whose request bodies and answers go through as they come, such as /live/: a path that ends in
	// a slash stands for everything below it too. WebSockets, server-sent events, gRPC and answers with
	// X-Accel-Buffering: no are streams anywhere. Default: none.
	Paths []string `yaml:"paths" config:"single"`
	// Idle ends an exchange on which nothing moved in either direction for this long. 0 means never. Default 1h.
	Idle time.Duration `yaml:"idle" default:"1h"`
	// Max ends an exchange that is this old. 0 means never: the session's own end always counts. Default 0.
	Max time.Duration `yaml:"max"`
}

// Check reports paths that could be read in two ways and times below zero.
func (s *Streams) Check() error {
	var errs []error
	for _, path := range s.Paths {
		if !strings.HasPrefix(path, "/") || !plainPath(path) {
			errs = append(errs, fmt.Errorf("paths: %q must start with a slash and hold only plain segments", path))
		}
	}
	if s.Idle < 0 || s.Max < 0 {
		errs = append(errs, errors.New("times must not be negative"))
	}
	return errors.Join(errs...)
}

// Declared reports whether the app says that a canonical path of it is a stream.
func (s *Streams) Declared(path string) bool {
	for _, declared := range s.Paths {
		if path == declared || strings.HasSuffix(declared, "/") && (strings.HasPrefix(path, declared) || path+"/" == declared) {
			return true
		}
	}
	return false
}
