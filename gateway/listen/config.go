package listen

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ProxyProtocol is `proxy_protocol` in the configuration: the load balancers that pass TCP connections through and say
// in front of each who the client is (PROXY protocol, version 1 or 2). It holds for listen and listen_http. Changing it
// needs a restart.
type ProxyProtocol struct {
	// Trusted are the load balancers' own addresses or networks, such as [10.0.7.4, 10.0.8.0/24]. Each of their
	// connections must begin with a header, and is dropped otherwise: a balancer that forgot it would make everybody look
	// like the balancer. Whoever is on the list can claim any address, so keep it narrow; what is wider than a private
	// network (10.0.0.0/8, fc00::/7) is refused. From everybody else no header is looked for, and one that is there fails
	// the TLS handshake. Default: nobody.
	Trusted []Network `yaml:"trusted" config:"single"`
	// Timeout is how long a header may take to arrive in full, between 100ms and 1m. Balancers send it at once. Default
	// 5s.
	Timeout time.Duration `yaml:"timeout" default:"5s"`
}

// Check tells whether the settings make sense together.
func (p ProxyProtocol) Check() error {
	if len(p.Trusted) == 0 {
		return nil
	}
	for i, n := range p.Trusted {
		if err := n.check(); err != nil {
			return fmt.Errorf("trusted[%d]: %w", i, err)
		}
		if slices.Contains(p.Trusted[:i], n) {
			return fmt.Errorf("trusted[%d]: %s is there twice", i, n)
		}
	}
	if p.Timeout < 100*time.Millisecond || p.Timeout > time.Minute {
		return fmt.Errorf("timeout: %v is not between 100ms and 1m", p.Timeout)
	}
	return nil
}

// trusts reports whether the peer's headers are believed.
func (p ProxyProtocol) trusts(peer netip.Addr) bool {
	return slices.ContainsFunc(p.Trusted, func(n Network) bool { return n.Contains(peer) })
}

// Network is an address, or all addresses that begin with the same bits: 10.0.7.4, 10.0.8.0/24, 2001:db8::/32.
type Network struct{ prefix netip.Prefix }

// UnmarshalText accepts an address or a prefix without host bits. IPv4 is written as IPv4, and zones are not part of a
// network.
func (n *Network) UnmarshalText(text []byte) error {
	s := string(text)
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("%q is no address", s)
		}
		if a.Zone() != "" {
			return fmt.Errorf("%q names a zone: leave out %%%s", s, a.Zone())
		}
		n.prefix = netip.PrefixFrom(a, a.BitLen())
		return n.check()
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is no network", s)
	}
	n.prefix = p
	return n.check()
}

// The widest networks that can be somebody's own: RFC 1918 §3 and RFC 4193 §3.1.
const (
	widest4 = 8
	widest6 = 7
)

func (n Network) check() error {
	p := n.prefix
	switch {
	case !p.IsValid():
		return errors.New("the network is missing")
	case p.Addr().Is4In6():
		return fmt.Errorf("%s is IPv4 in IPv6: write %s", n, p.Addr().Unmap())
	case p != p.Masked():
		return fmt.Errorf("%s has bits set beyond its length: write %s for the network or %s for the one address", p, p.Masked(), p.Addr())
	case p.IsSingleIP() && (p.Addr().IsUnspecified() || p.Addr().IsMulticast()):
		return fmt.Errorf("%s is nobody's address", n)
	case p.Addr().Is4() && p.Bits() < widest4, p.Addr().Is6() && p.Bits() < widest6:
		return fmt.Errorf("%s would let strangers claim any address: name the load balancers, at most a whole private network", p)
	}
	return nil
}

// Contains reports whether a belongs to the network. IPv4 within IPv6 counts as IPv4, and a zone does not matter.
func (n Network) Contains(a netip.Addr) bool { return n.prefix.Contains(a.Unmap().WithZone("")) }

// String is the network as it is written: an address without its length.
func (n Network) String() string {
	if n.prefix.IsSingleIP() {
		return n.prefix.Addr().String()
	}
	return n.prefix.String()
}

// MarshalText is String.
func (n Network) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// Expectation describes the type in errors of the configuration.
func (Network) Expectation() string {
	return "an address or a network, such as 10.0.7.4 or 10.0.8.0/24"
}

// Pattern describes the type in the configuration's schema.
func (Network) Pattern() string { return `^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$` }
