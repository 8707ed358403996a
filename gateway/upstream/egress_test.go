package upstream

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// metadata are addresses at which clouds and networks answer, and no app, in the spellings that connections understand.
var metadata = []string{
	"169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254", "fe80::1", "fe80::1%eth0",
	"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
	"0.0.0.0", "::", "0.1.2.3", "255.255.255.255", "240.0.0.1", "224.0.0.1", "ff02::1", "fec0::1", "::ffff:0.0.0.0", "64:ff9b::",
}

// SSRF-02: the resolved address counts, not the name.
func TestMetadataAddressesAreRefusedWhenDialled(t *testing.T) {
	var where egress
	for _, ip := range metadata {
		address := net.JoinHostPort(ip, "80")
		if err := where.control(t.Context(), "tcp", address, nil); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("%s: got %v", address, err)
		}
		a := Address{URL: URL{url.URL{Scheme: "http", Host: address}}, Weight: 1}
		if a.Check() == nil {
			t.Errorf("%s: the configuration may name it", address)
		}
	}
	for _, address := range []string{"127.0.0.1:80", "[::1]:80", "10.0.0.5:8080", "[fd00::1]:80", "100.64.0.1:80", "[2001:db8::1]:80", "[64:ff9b::a00:5]:80"} {
		if err := where.control(t.Context(), "tcp", address, nil); err != nil {
			t.Errorf("%s: got %v", address, err)
		}
	}
	cfg := config(t)
	cfg.Addresses = []Address{{URL: URL{url.URL{Scheme: "http", Host: "169.254.169.254"}}}}
	if _, err := send(t, poolOf(t, cfg), "GET", ""); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("dialling: got %v", err)
	}
}

// A list of spellings, such as the one that looks at 169.254.0.0/16 alone, does not hold.
func TestMetadataAddressesFindANaiveList(t *testing.T) {
	for name, naive := range map[string]func(netip.Addr) bool{
		"IPv4 only":           func(ip netip.Addr) bool { return ip.Is4() && Forbidden(ip) },
		"without translation": func(ip netip.Addr) bool { return Forbidden(ip) && embedded(ip) == ip },
		"link-local only":     func(ip netip.Addr) bool { return embedded(ip.Unmap()).IsLinkLocalUnicast() },
	} {
		found := false
		for _, ip := range metadata {
			found = found || !naive(netip.MustParseAddr(ip))
		}
		if !found {
			t.Errorf("%s: refuses all of them", name)
		}
	}
}

func TestSpecialAddressesAreAllowedByName(t *testing.T) {
	a := Address{URL: URL{url.URL{Scheme: "http", Host: "169.254.10.7"}}, Weight: 1, Allow: netip.MustParsePrefix("169.254.10.7/32")}
	if err := a.Check(); err != nil {
		t.Error(err)
	}
	where := egress{allow: a.Allow}
	if err := where.control(t.Context(), "tcp", "169.254.10.7:80", nil); err != nil {
		t.Error(err)
	}
	if err := where.control(t.Context(), "tcp", "169.254.169.254:80", nil); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("its neighbour: got %v", err)
	}
	a.Allow = netip.MustParsePrefix("169.254.10.7/24")
	if err := a.Check(); err == nil || !strings.Contains(err.Error(), "169.254.10.0/24") {
		t.Errorf("bits beyond the length: got %v", err)
	}
}

// SSRF-02: nobody reaches the gateway's own listeners by way of an app, whatever name leads there.
func TestNoAppLivesInTheGateway(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the gateway was asked") }))
	defer gateway.Close()
	at := gateway.Listener.Addr().(*net.TCPAddr).AddrPort()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	everywhere := netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
	for name, own := range map[string]*Own{"by address": {TCP: []netip.AddrPort{at}, Unix: []string{socket}}, "on all addresses": {TCP: []netip.AddrPort{everywhere}, Unix: []string{socket}}} {
		for _, address := range []string{gateway.URL, strings.Replace(gateway.URL, "127.0.0.1", "localhost", 1), "unix:" + socket, "unix:" + filepath.Dir(socket) + "/../" + filepath.Base(filepath.Dir(socket)) + "/admin.sock"} {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			cfg := config(t)
			cfg.Own, cfg.Addresses = own, []Address{{URL: URL{*u}}}
			if _, err := send(t, poolOf(t, cfg), "GET", ""); !errors.Is(err, ErrOwnAddress) {
				t.Errorf("%s, %s: got %v", name, address, err)
			}
		}
	}
	if own := (&Own{TCP: []netip.AddrPort{everywhere}}); own.Has("tcp", "192.0.2.1:"+gateway.URL[strings.LastIndexByte(gateway.URL, ':')+1:]) {
		t.Error("another machine's port of the same number is taken for the gateway's")
	}
}
