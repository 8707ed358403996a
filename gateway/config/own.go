package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"sallyport/gateway/upstream"
)

// Own is where the gateway itself listens, as far as the configuration says.
func (c *Config) Own() *upstream.Own {
	own := &upstream.Own{}
	for _, address := range []string{c.Listen, c.ListenHTTP, c.Admin.Listen} {
		host, port, err := net.SplitHostPort(address)
		number, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil || number == 0 {
			continue // none, or one that nobody can name beforehand
		}
		ip, err := netip.ParseAddr(host)
		switch {
		case host == "localhost":
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		case err != nil:
			ip = netip.IPv6Unspecified()
		}
		own.TCP = append(own.TCP, netip.AddrPortFrom(ip, uint16(number)))
	}
	for _, path := range []string{c.Admin.Socket, c.Keys.Socket} {
		if path != "" {
			own.Unix = append(own.Unix, path)
		}
	}
	return own
}

// checkUpstreams refuses apps that would live in the gateway, as far as their addresses say so; names are looked at again
// whenever a connection is made.
func (c *Config) checkUpstreams(i int) (errs []error) {
	own := c.Own()
	for j, address := range c.Apps[i].Upstreams {
		if network, where := address.URL.Dialled(); own.Has(network, where) {
			errs = append(errs, At(fmt.Sprintf("apps[%d].upstreams[%d].url", i, j), fmt.Errorf("%s is the gateway's own: no app lives there", &address.URL)))
		}
	}
	return errs
}
