// Package place says where a client is: in which of the operator's named networks, and in which country.
//
// Places are made once for a configuration, by New, and asked for each new connection: Zone and Country. Both say nothing,
// rather than guess, of an address that nobody has named or that the database does not know.
package place

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
)

// Networks are address ranges by name.
type Networks map[string][]netip.Prefix

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Check refuses names and prefixes that could never be found, and a prefix of two names.
func (n Networks) Check() error {
	owner := map[netip.Prefix]string{}
	for _, name := range slices.Sorted(maps.Keys(n)) {
		prefixes := n[name]
		if !nameForm.MatchString(name) {
			return fmt.Errorf("network %q: want lower-case letters, digits and inner hyphens, at most 63", name)
		}
		for _, p := range prefixes {
			switch {
			case !p.IsValid() || p.Addr().Is4In6():
				return fmt.Errorf("network %s: not an address prefix; write one such as 10.0.0.0/8", name)
			case p != p.Masked():
				return fmt.Errorf("network %s: %v has bits beyond its length; %v is the network it lies in", name, p, p.Masked())
			case owner[p] != "" && owner[p] != name:
				return fmt.Errorf("network %s: %v is in network %s, too", name, p, owner[p])
			}
			owner[p] = name
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

// Places says where addresses are. It never changes, and may be asked by many goroutines at once.
type Places struct {
	byLength []length // longest first
	country  *countries
}

// length is all named networks of one prefix length.
type length struct {
	bits  int
	names map[netip.Prefix]string
}

// New reads the database, if there is one, and refuses it by name when it is broken. Networks have passed their Check.
func New(networks Networks, geoip GeoIP) (*Places, error) {
	p := &Places{byLength: lengths(networks)}
	if geoip.Database == "" {
		return p, nil
	}
	var err error
	if p.country, err = readCountries(geoip.Database); err != nil {
		return nil, fmt.Errorf("geoip: %s: %w", geoip.Database, err)
	}
	return p, nil
}

func lengths(networks Networks) []length {
	by := map[int]map[netip.Prefix]string{}
	for name, prefixes := range networks {
		for _, prefix := range prefixes {
			if by[prefix.Bits()] == nil {
				by[prefix.Bits()] = map[netip.Prefix]string{}
			}
			by[prefix.Bits()][prefix] = name
		}
	}
	var list []length
	for _, bits := range slices.Backward(slices.Sorted(maps.Keys(by))) {
		list = append(list, length{bits, by[bits]})
	}
	return list
}

// Zone is the name of the network that an address is in, or empty. Of networks that overlap the longest prefix counts. It
// allocates nothing.
func (p *Places) Zone(address netip.Addr) string {
	if p == nil {
		return ""
	}
	address = address.Unmap().WithZone("")
	for _, l := range p.byLength {
		prefix, err := address.Prefix(l.bits)
		if err != nil {
			continue // longer than an address of this family is
		}
		if name, found := l.names[prefix]; found {
			return name
		}
	}
	return ""
}

// Country is the ISO 3166-1 alpha-2 code of the country that an address is in, or empty where the database names none.
func (p *Places) Country(address netip.Addr) string {
	if p == nil || p.country == nil || !address.IsValid() {
		return ""
	}
	return p.country.of(address.Unmap().WithZone(""))
}
