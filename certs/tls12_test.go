package certs_test

import (
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"sallyport/certs"
	"sallyport/certs/keyd/keydtest"
)

// oldKeys are keys for TLS 1.2 too, one that is not, and a host that has one of each.
func oldKeys(t testing.TB) []keydtest.Key {
	keys := []keydtest.Key{
		tlsKey("p256", ec(t, elliptic.P256())), tlsKey("p384", ec(t, elliptic.P384())), tlsKey("rsa", rsaKey()),
		tlsKey("new", ec(t, elliptic.P256())), tlsKey("both", ec(t, elliptic.P256())), tlsKey("both-old", ec(t, elliptic.P384())),
	}
	keys[5].Hosts = keys[4].Hosts
	for _, i := range []int{0, 1, 2, 5} {
		keys[i].TLS12 = true
	}
	return keys
}

// serveOld answers handshakes as the gateway does, and echoes. It returns its address.
func serveOld(t testing.TB, store *certs.Store) string {
	t.Helper()
	return serveAs(t, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{GetCertificate: store.GetCertificate, MinVersion: store.MinVersion(hello), CipherSuites: certs.CipherSuites12(), SessionTicketsDisabled: true}, nil
	}})
}

func loadOld(t testing.TB, version string) (*keydtest.Setup, string) {
	t.Helper()
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, oldKeys(t)...)
	s.Start(t)
	st, err := certs.Load(t.Context(), certs.Config{Certificates: []string{s.Certificates}, MinVersion: version}, open(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return s, serveOld(t, st)
}

// A client that knows nothing newer than TLS 1.2 is served with marked keys, and only with them; one that does gets 1.3.
func TestOldClientsAreServedWithMarkedKeys(t *testing.T) {
	s, addr := loadOld(t, "1.2")
	for _, tt := range []struct {
		host   string
		most   uint16
		curves []tls.CurveID
		want   uint16 // version; 0: refused
	}{
		{"p256", tls.VersionTLS12, nil, tls.VersionTLS12},
		{"p256", tls.VersionTLS12, []tls.CurveID{tls.CurveP256}, tls.VersionTLS12},
		{"p256", tls.VersionTLS12, []tls.CurveID{tls.CurveP384}, tls.VersionTLS12},
		{"p256", tls.VersionTLS12, []tls.CurveID{tls.CurveP521}, tls.VersionTLS12},
		{"p384", tls.VersionTLS12, nil, tls.VersionTLS12},
		{"rsa", tls.VersionTLS12, nil, tls.VersionTLS12},
		{"both", tls.VersionTLS12, nil, tls.VersionTLS12},
		{"new", tls.VersionTLS12, nil, 0},
		{"p256", tls.VersionTLS11, nil, 0},
		{"p256", tls.VersionTLS13, nil, tls.VersionTLS13},
		{"rsa", tls.VersionTLS13, nil, tls.VersionTLS13},
		{"new", tls.VersionTLS13, nil, tls.VersionTLS13},
		{"both", tls.VersionTLS13, nil, tls.VersionTLS13},
	} {
		name := fmt.Sprintf("%s up to %s", tt.host, tls.VersionName(tt.most))
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: handshakeWithin}, "tcp", addr, &tls.Config{
			ServerName: tt.host + ".corp.example", RootCAs: s.Roots, MinVersion: tls.VersionTLS10, MaxVersion: tt.most, CurvePreferences: tt.curves,
		})
		if tt.want == 0 {
			if alert, ok := errors.AsType[tls.AlertError](err); (!ok || alert != 70) && !strings.Contains(fmt.Sprint(err), "protocol version") {
				t.Errorf("%s: got %v, want the alert protocol_version", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := c.ConnectionState().Version; got != tt.want {
			t.Errorf("%s: got %s, want %s", name, tls.VersionName(got), tls.VersionName(tt.want))
		}
		if err := echo(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
}

// Marked keys are not enough: the gateway's own configuration must allow TLS 1.2 as well.
func TestMarkedKeysServeTLS13AloneByDefault(t *testing.T) {
	s, addr := loadOld(t, "")
	for _, host := range []string{"p256", "rsa", "new"} {
		_, err := tls.Dial("tcp", addr, &tls.Config{ServerName: host + ".corp.example", RootCAs: s.Roots, MaxVersion: tls.VersionTLS12})
		if err == nil {
			t.Errorf("%s: a TLS 1.2 handshake succeeded", host)
		}
		c, err := dial(s, addr, host+".corp.example")
		if err != nil {
			t.Errorf("%s: TLS 1.3: %v", host, err)
			continue
		}
		c.Close()
	}
}

// KEY-05, KEY-06: another implementation agrees, and gets neither RSA key exchange, nor PKCS #1 v1.5, nor CBC, nor a version
// below.
func TestKEY06OpenSSLGetsTLS12WithForwardSecrecyOnly(t *testing.T) {
	_, addr := loadOld(t, "1.2")
	for _, tt := range []struct {
		host string
		args []string
		want string // in what openssl prints; empty: no session
	}{
		{"p256", []string{"-tls1_2"}, "ECDHE-ECDSA"},
		{"p256", []string{"-tls1_2", "-groups", "P-521:P-256"}, "ECDHE-ECDSA"},
		{"p384", []string{"-tls1_2"}, "ECDHE-ECDSA"},
		{"rsa", []string{"-tls1_2"}, "ECDHE-RSA"},
		{"rsa", []string{"-tls1_2", "-sigalgs", "RSA-PSS+SHA256"}, "ECDHE-RSA"},
		{"p256", nil, "TLSv1.3"},
		{"rsa", []string{"-tls1_2", "-sigalgs", "RSA+SHA256"}, ""},
		{"rsa", []string{"-tls1_2", "-cipher", "AES128-GCM-SHA256"}, ""},
		{"rsa", []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"}, ""},
		{"p256", []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"}, ""},
		{"p256", []string{"-tls1_2", "-sigalgs", "ECDSA+SHA1"}, ""},
		{"p256", []string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, ""},
		{"new", []string{"-tls1_2"}, ""},
	} {
		host := tt.host + ".corp.example"
		cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-connect", addr, "-servername", host}, tt.args...)...)
		out, err := cmd.CombinedOutput()
		if tt.want == "" {
			if err == nil || !strings.Contains(string(out), "Cipher is (NONE)") {
				t.Errorf("%s %v: got %v, want no session: %s", tt.host, tt.args, err, out)
			}
			continue
		}
		if err != nil || !strings.Contains(string(out), tt.want) || strings.Contains(string(out), "Cipher is (NONE)") {
			t.Errorf("%s %v: got %v, want %s: %s", tt.host, tt.args, err, tt.want, out)
		}
	}
}
