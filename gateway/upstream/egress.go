package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// ErrForbiddenAddress means that an upstream name resolved to an address no app lives at.
var ErrForbiddenAddress = errors.New("upstream address is link-local, a cloud's metadata service, reserved, multicast or unspecified")

// ErrOwnAddress means that an upstream leads to the gateway itself.
var ErrOwnAddress = errors.New("upstream address is the gateway's own")

// Forbidden holds for addresses no app lives at: link-local ones and others where clouds keep their metadata services,
// multicast, broadcast, reserved and unspecified ones, in every way in which IPv6 can carry IPv4.
func Forbidden(ip netip.Addr) bool {
	ip = embedded(ip.Unmap().WithZone(""))
	if ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return true
	}
	return slices.ContainsFunc(forbidden[:], func(p netip.Prefix) bool { return p.Contains(ip) })
}

var forbidden = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // this network (RFC 1122 §3.2.1.3)
	netip.MustParsePrefix("240.0.0.0/4"),        // reserved, and broadcast (RFC 1112 §4, RFC 919 §7)
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud's metadata
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle's classic
	netip.MustParsePrefix("fd00:ec2::/32"),      // Amazon's
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google's
	netip.MustParsePrefix("fec0::/10"),          // site-local, deprecated (RFC 3879)
}

// embedded is the IPv4 address that an IPv6 address stands for to a translator or tunnel, or the address itself.
func embedded(ip netip.Addr) netip.Addr {
	if !ip.Is6() || ip.IsLoopback() || ip.IsUnspecified() {
		return ip
	}
	b := ip.As16()
	switch {
	case nat64.Contains(ip), compatible.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 §2.1
	compatible = netip.MustParsePrefix("::/96")        // RFC 4291 §2.5.5.1
	sixToFour  = netip.MustParsePrefix("2002::/16")    // RFC 3056 §2
)

// Own is where the gateway itself listens: for people, for operators and for its key process. No app lives there: what the
// gateway sent there would come back in as its own word. The zero value is nowhere. It is immutable.
type Own struct {
	TCP  []netip.AddrPort // an unspecified address stands for all of this machine's
	Unix []string         // paths of sockets
}

// Has reports whether a network address, as Dial takes it, is one of the gateway's own.
func (o *Own) Has(network, address string) bool {
	if o == nil {
		return false
	}
	if network == "unix" {
		return slices.ContainsFunc(o.Unix, func(own string) bool { return own == address || sameFile(own, address) })
	}
	to, err := netip.ParseAddrPort(address)
	return err == nil && slices.ContainsFunc(o.TCP, func(own netip.AddrPort) bool {
		return own.Port() == to.Port() && (own.Addr().Unmap() == to.Addr().Unmap() || own.Addr().IsUnspecified() && isLocal(to.Addr()))
	})
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// isLocal reports whether connections to ip stay on this machine.
func isLocal(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() {
		return true
	}
	addresses, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(addresses, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap().WithZone("") == ip
	})
}

// egress says where the connections of one configured address may lead.
type egress struct {
	allow netip.Prefix // see Address
	own   *Own
}

// permits reports whether an app may live at ip.
func (e *egress) permits(ip netip.Addr) bool {
	return !Forbidden(ip) || e.allow.IsValid() && e.allow.Contains(ip.Unmap().WithZone(""))
}

// control is net.Dialer.ControlContext. It judges the address that is really dialled, after name resolution, so that a DNS
// answer cannot lead into a metadata service or back into the gateway.
func (e *egress) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network == "unix" {
		if e.own.Has(network, address) {
			return ErrOwnAddress
		}
		return nil
	}
	to, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return fmt.Errorf("reading the resolved address %q: %w", address, err)
	case !e.permits(to.Addr()):
		return ErrForbiddenAddress
	case e.own.Has("tcp", address):
		return ErrOwnAddress
	}
	return nil
}
