package listen

import (
	"errors"
	"fmt"
	"time"

	"sallyport/gateway/units"
)

// Connections is `limits.connections` in the configuration: what connections may cost before anybody is known on them.
// A connection is a stranger's until a session has been found on it. Changing any of it needs a restart.
type Connections struct {
	// Total is how many connections may be open at each door, of whomever. Above it a stranger's is closed for each new
	// one, or else one of somebody who is signed in on which nobody asks, of the address that has most; where all are being
	// answered, the new one is closed before TLS. Up to 1000000; each may need three descriptors
	// (ulimit -n) and takes some 50 KiB. Default 16384.
	Total int `yaml:"total" default:"16384"`
	// Strangers is how many connections may be open on which nobody has been identified. Above it one of them is closed
	// for each new one: the oldest that never asked for anything, then the one that has asked for nothing for the longest,
	// then of the address with most of them one whose request is being answered. New ones have a head start of 2 s before
	// all of these; one of somebody who is signed in never goes for it. Default 4096.
	Strangers int `yaml:"strangers" default:"4096"`
	// PerAddress is how many of them may come from one address (IPv6: one /64); above it one of the same address is
	// closed. Many people may share an address. Default 1024.
	PerAddress int `yaml:"per_address" default:"1024"`
	// KnownPerAddress is how many connections of people who are signed in may come from one address (IPv6: one /64); above
	// it one on which nobody asks is closed, and one for which there is none counts as a stranger's. An office behind one
	// address needs some for everybody in it. From 1. Default 4096.
	KnownPerAddress int `yaml:"known_per_address" default:"4096"`
	// Handshakes is how many TLS handshakes are computed at once; each costs a signature of the key process. Others wait
	// their turn, those from addresses where somebody is signed in first. Default 16.
	Handshakes int `yaml:"handshakes" default:"16"`
	// Head is how long a TLS handshake may take, and how long the head of a request may take to arrive, from 1s to 1m.
	// Default 10s.
	Head time.Duration `yaml:"head" default:"10s"`
	// Idle is how long a connection may stay open while nobody asks, from 1s to 1h. Default 2m.
	Idle time.Duration `yaml:"idle" default:"2m"`
	// Ping is how long an HTTP/2 client may say nothing before it is asked whether it is there, from 1s to 1h; it has as
	// long again to answer. It bounds heads that never end too: nothing in between them counts. Default 30s.
	Ping time.Duration `yaml:"ping" default:"30s"`
	// Streams is how many requests one HTTP/2 connection may have open, from 1 to 1000. Default 100.
	Streams int `yaml:"streams" default:"100"`
	// Resets is how many requests a stranger may take back on one HTTP/2 connection before it is closed. Default 200.
	Resets int `yaml:"resets" default:"200"`
	// Unasked is how many bytes a client may send in a row that belong to no request, such as HTTP/2 frames that only make
	// work, from 256KiB; of strangers, while a request is open, four times as many in a minute that reach nobody. More than 1MiB is needed for uploads over HTTP/2 that are refused under way. Default 2MiB.
	Unasked units.Bytes `yaml:"unasked" default:"2MiB"`
	// Requests is how many requests of strangers are answered at once. Above it they get a 503 without further work, and
	// the connection is closed. Default 256.
	Requests int `yaml:"requests" default:"256"`
}

// Check tells whether the settings make sense together.
func (c Connections) Check() error {
	var errs []error
	between := func(name string, n, least, most int) {
		if n < least || n > most {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", name, n, least, most))
		}
	}
	lasting := func(name string, d, most time.Duration) {
		if d < time.Second || d > most {
			errs = append(errs, fmt.Errorf("%s: %v is not between 1s and %v", name, d, most))
		}
	}
	between("total", c.Total, 1, 1_000_000)
	between("strangers", c.Strangers, 1, c.Total)
	between("per_address", c.PerAddress, 1, c.Strangers)
	between("known_per_address", c.KnownPerAddress, 1, 1_000_000)
	between("handshakes", c.Handshakes, 1, 10_000)
	between("streams", c.Streams, 1, 1000)
	between("resets", c.Resets, 1, 1_000_000)
	between("requests", c.Requests, 1, 1_000_000)
	lasting("head", c.Head, time.Minute)
	lasting("idle", c.Idle, time.Hour)
	lasting("ping", c.Ping, time.Hour)
	if c.Unasked < leastUnasked {
		errs = append(errs, fmt.Errorf("unasked: %v is less than 256KiB", c.Unasked))
	}
	return errors.Join(errs...)
}

// leastUnasked leaves room for a handshake, and for the head of a request many times over.
const leastUnasked = 256 << 10
