package upstream

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// Address is one of an app's addresses. Its URL alone may stand for the whole.
type Address struct {
	// URL is http:// or https:// with a host and an optional port and nothing after it, or unix: with the absolute path of
	// a socket on which plain HTTP is spoken. A host name stands for all addresses it resolves to, and is resolved again
	// as often as its DNS records ask for. Required.
	URL URL `yaml:"url" config:"required,short"`
	// Weight is the address's share of requests relative to the others', from 1 to 1000. Default 1.
	Weight int `yaml:"weight" default:"1"`
	// Backup addresses get requests only when no other address is in service. Default false.
	Backup bool `yaml:"backup"`
	// Allow is a network that this address may lead to although no app is expected there: link-local addresses, where clouds
	// keep their metadata services, reserved ones and the like, such as 169.254.10.7/32. Default: none.
	Allow netip.Prefix `yaml:"allow"`
}

const maxWeight = 1000

// Check reports a weight that is none, and an address at which no app lives.
func (a *Address) Check() error {
	if a.Weight < 1 || a.Weight > maxWeight {
		return fmt.Errorf("weight must be from 1 to %d", maxWeight)
	}
	if a.Allow.IsValid() && a.Allow != a.Allow.Masked() {
		return fmt.Errorf("allow: %s has bits set beyond its length: write %s", a.Allow, a.Allow.Masked())
	}
	where := egress{allow: a.Allow}
	if ip, err := netip.ParseAddr(a.URL.Hostname()); err == nil && !where.permits(ip) {
		return fmt.Errorf("upstream %s is link-local, a cloud's metadata service, reserved, multicast or unspecified: if an app lives there, name it in allow", &a.URL)
	}
	return nil
}

// URL is where an app listens.
type URL struct{ url.URL }

// UnmarshalText accepts http:// and https:// addresses without user, path, query or fragment, and unix:/path/to.sock.
func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if err != nil {
		return err
	}
	if parsed.Scheme == "unix" {
		return u.setSocket(parsed)
	}
	switch {
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return fmt.Errorf("upstream %q must start with unix:, http:// or https://", text)
	case parsed.Hostname() == "" || parsed.User != nil || parsed.Opaque != "":
		return fmt.Errorf("upstream %q must be a scheme, a host and an optional port", text)
	case (parsed.Path != "" && parsed.Path != "/") || parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "":
		return fmt.Errorf("upstream %q must have no path, query or fragment", text)
	}
	u.URL = url.URL{Scheme: parsed.Scheme, Host: strings.ToLower(parsed.Host)}
	return nil
}

func (u *URL) setSocket(parsed *url.URL) error {
	if parsed.Host != "" || parsed.User != nil || !strings.HasPrefix(parsed.Path, "/") || path.Clean(parsed.Path) != parsed.Path ||
		parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "" {
		return fmt.Errorf("upstream %q must be unix: and the absolute path of a socket", parsed)
	}
	u.URL = url.URL{Scheme: "unix", OmitHost: true, Path: parsed.Path}
	return nil
}

// MarshalText is the address as configured.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// name is the host when it has to be resolved: neither a number nor a socket.
func (u *URL) name() string {
	if u.Scheme == "unix" {
		return ""
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return ""
	}
	return u.Hostname()
}

func (u *URL) port() string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// Dialled is network and address of a connection, with localhost as its number; other names stay.
func (u *URL) Dialled() (network, address string) {
	var ip netip.Addr
	if u.Hostname() == "localhost" {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return u.dialled(ip)
}

// dialled is network and address of a connection; ip stands for the name when it was resolved.
func (u *URL) dialled(ip netip.Addr) (network, address string) {
	switch {
	case u.Scheme == "unix":
		return "unix", u.Path
	case ip.IsValid():
		return "tcp", net.JoinHostPort(ip.String(), u.port())
	}
	return "tcp", net.JoinHostPort(u.Hostname(), u.port())
}
