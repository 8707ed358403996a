// Package place says where a client is: in which of the operator's named networks, and in which country.
package place

import (
	"fmt"
	"net/netip"
	"regexp"
)

// Networks are address ranges by name.
type Networks map[string][]netip.Prefix

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Check refuses names and prefixes that could never be found.
func (n Networks) Check() error {
	for name, prefixes := range n {
		if !nameForm.MatchString(name) {
			return fmt.Errorf("network %q: want lower-case letters, digits and inner hyphens, at most 63", name)
		}
		for _, p := range prefixes {
			switch {
			case !p.IsValid() || p.Addr().Is4In6():
				return fmt.Errorf("network %s: not an address prefix; write one such as 10.0.0.0/8", name)
			case p != p.Masked():
				return fmt.Errorf("network %s: %v has bits beyond its length; %v is the network it lies in", name, p, p.Masked())
			}
		}
	}
	return nil
}

// GeoIP says which country an address is in.
type GeoIP struct {
	// Database is a file in MaxMind's format (.mmdb) with countries, such as GeoLite2-Country. It is read again when it is
	// replaced by rename. Default: none, and policies are told no country.
	Database string `yaml:"database" config:"path"`
}
