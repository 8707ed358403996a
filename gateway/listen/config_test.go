package listen

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "", "127.0.0.1": "", "192.0.2.1/32": "", "2001:db8::/32": "", "fc00::/7": "", "::1": "", "fe80::/10": "",
		"10.0.0.1/8":           "10.0.0.1/8 has bits set beyond its length: write 10.0.0.0/8",
		"2001:db8::1/32":       "write 2001:db8::/32",
		"0.0.0.0/0":            "would let strangers claim any address",
		"::/0":                 "would let strangers claim any address",
		"0.0.0.0/1":            "would let strangers claim any address",
		"128.0.0.0/7":          "would let strangers claim any address",
		"0.0.0.0":              "nobody's address",
		"::":                   "nobody's address",
		"224.0.0.1":            "nobody's address",
		"::ffff:10.0.0.0/104":  "is IPv4 in IPv6",
		"::ffff:10.0.0.1":      "is IPv4 in IPv6: write 10.0.0.1",
		"fe80::1%eth0":         "leave out %eth0",
		"lb.corp.example":      "is no address",
		"10.0.0.0/33":          "is no network",
		"10.0.0.0/08":          "is no network",
		"10.0.0.0/255.0.0.0":   "is no network",
		"10.0.0.0/8,127.0.0.1": "is no network",
		"":                     "is no address",
	} {
		var n, again Network
		err := n.UnmarshalText([]byte(text))
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got %v, want %q", text, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		printed, _ := n.MarshalText()
		if err := again.UnmarshalText(printed); err != nil || again != n {
			t.Errorf("%q prints as %q, which reads as %v (%v)", text, printed, again, err)
		}
	}
}

func TestNetworksContain(t *testing.T) {
	for _, tt := range []struct {
		network, address string
		want             bool
	}{
		{"10.0.0.0/8", "10.255.0.1", true},
		{"10.0.0.0/8", "::ffff:10.255.0.1", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"10.0.0.0/8", "a00::1", false},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.2", false},
		{"127.0.0.1", "::1", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"2001:db8::/32", "2001:db9::", false},
	} {
		if got := networks(t, tt.network)[0].Contains(netip.MustParseAddr(tt.address)); got != tt.want {
			t.Errorf("%s contains %s: got %v", tt.network, tt.address, got)
		}
	}
	if networks(t, "fe80::/10")[0].Contains(netip.Addr{}) {
		t.Error("an address that is none is trusted")
	}
}

func TestProxyProtocolIsChecked(t *testing.T) {
	good := trusting(t, "10.0.0.0/8", "127.0.0.1")
	for name, tt := range map[string]struct {
		spoil func(*ProxyProtocol)
		want  string
	}{
		"good":          {func(p *ProxyProtocol) {}, ""},
		"nobody":        {func(p *ProxyProtocol) { *p = ProxyProtocol{} }, ""},
		"no timeout":    {func(p *ProxyProtocol) { p.Timeout = 0 }, "timeout: 0s"},
		"an hour":       {func(p *ProxyProtocol) { p.Timeout = time.Hour }, "timeout: 1h"},
		"twice":         {func(p *ProxyProtocol) { p.Trusted = append(p.Trusted, p.Trusted[0]) }, "trusted[2]: 10.0.0.0/8 is there twice"},
		"not decoded":   {func(p *ProxyProtocol) { p.Trusted[1] = Network{} }, "trusted[1]: the network is missing"},
		"not validated": {func(p *ProxyProtocol) { p.Trusted[1] = Network{netip.MustParsePrefix("0.0.0.0/0")} }, "trusted[1]: 0.0.0.0/0 would"},
	} {
		p := good
		p.Trusted = append([]Network{}, good.Trusted...)
		tt.spoil(&p)
		err := p.Check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if _, listenErr := Listen(t.Context(), Options{Key: "listen", Address: "127.0.0.1:-1", Proxy: p}); listenErr == nil ||
			tt.want != "" && !strings.Contains(listenErr.Error(), "proxy_protocol: "+tt.want[:5]) {
			t.Errorf("%s: Listen got %v", name, listenErr)
		}
	}
}
