package certs_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/tls"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/keyd/keydtest"
)

func TestConcernsOfCertificates(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	for name, tt := range map[string]struct {
		names []string
		until time.Time
		want  []string // how its lines begin
	}{
		"nothing":       {[]string{"wiki.corp.example"}, now.Add(31 * day), []string{"no certificate is for pay.corp.example"}},
		"soon":          {[]string{"wiki.corp.example"}, now.Add(29*day + time.Hour), []string{"x.pem expires in 29 days, at ", "no certificate is for pay.corp.example"}},
		"shared":        {[]string{"wiki.corp.example", "pay.corp.example"}, now.Add(31 * day), []string{"x.pem is for wiki.corp.example, pay.corp.example: browsers"}},
		"not ours":      {[]string{"pay.corp.example", "wiki.corp.example.org"}, now.Add(31 * day), []string{"no certificate is for wiki.corp.example"}},
		"wildcard":      {[]string{"*.corp.example"}, now.Add(31 * day), []string{"x.pem is for *.corp.example: browsers"}},
		"other domains": {[]string{"*.other.example"}, now.Add(31 * day), []string{"no certificate is for wiki", "no certificate is for pay", "x.pem is for *.other.example: browsers"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			keydtest.WriteChain(t, filepath.Join(dir, "x.pem"), keydtest.SelfSigned(t, ec(t, elliptic.P256()), tt.names, now.Add(-day), tt.until))
			infos, err := certs.CheckFiles(certs.Config{Certificates: []string{filepath.Join(dir, "*.pem")}})
			if err != nil {
				t.Fatal(err)
			}
			got := certs.Concerns(infos, []string{"wiki.corp.example", "pay.corp.example"}, now)
			for i := range got {
				got[i] = strings.ReplaceAll(got[i], dir+"/", "")
			}
			if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestADefaultHostNeedsACertificate(t *testing.T) {
	dir, k := t.TempDir(), ec(t, elliptic.P256())
	keydtest.WriteChain(t, filepath.Join(dir, "x.pem"), fresh(t, k, "*.corp.example"))
	keys := localKeys{local(k, "x", "*.corp.example")}
	for host, want := range map[string]string{
		"": "", "wiki.corp.example": "", "corp.example": "no certificate is for corp.example", "a.b.corp.example": "no certificate is for",
		"WIKI.corp.example": "is no host", "*.corp.example": "is no host", "wiki.corp.example:443": "is no host",
	} {
		cfg := certs.Config{Certificates: []string{filepath.Join(dir, "*.pem")}, Default: host}
		_, loaded := certs.Load(t.Context(), cfg, keys)
		_, checked := certs.CheckFiles(cfg)
		for what, err := range map[string]error{"load": loaded, "check": checked} {
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %s says %v, want %q", host, what, err, want)
			}
		}
	}
}

// A name's own certificates come before a wildcard's; those of the default host are for everybody else, and for nobody who
// has one.
func TestDefaultAndWildcardChoice(t *testing.T) {
	dir := t.TempDir()
	own, wild, other, slow := ec(t, elliptic.P256()), rsaKey(), ec(t, elliptic.P256()), rsaKey()
	keydtest.WriteChain(t, filepath.Join(dir, "own.pem"), fresh(t, own, "wiki.corp.example"))
	keydtest.WriteChain(t, filepath.Join(dir, "wild.pem"), fresh(t, wild, "*.corp.example"))
	keydtest.WriteChain(t, filepath.Join(dir, "other.pem"), fresh(t, other, "other.example"))
	keydtest.WriteChain(t, filepath.Join(dir, "slow.pem"), fresh(t, slow, "other.example"))
	s, err := certs.Load(t.Context(), certs.Config{Certificates: []string{filepath.Join(dir, "*.pem")}, Default: "other.example"},
		localKeys{local(own, "own", "wiki.corp.example"), local(other, "other", "other.example"), local(slow, "slow", "other.example", "*.corp.example")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		sni     string
		rsaOnly bool
		want    string // the first name of the certificate
		private crypto.Signer
	}{
		{"wiki.corp.example", false, "wiki.corp.example", own},
		{"wiki.corp.example", true, "*.corp.example", wild},
		{"pay.corp.example", false, "*.corp.example", wild},
		{"other.example", false, "other.example", other},
		{"", false, "other.example", other},
		{"", true, "other.example", slow},
		{"unknown.example", false, "other.example", other},
		{"unknown.example", true, "other.example", slow},
		{"192.0.2.1", false, "other.example", other},
		{"a.b.corp.example", false, "other.example", other},
	} {
		c, err := s.GetCertificate(hello(tt.sni, tt.rsaOnly))
		if err != nil || c == nil || c.Leaf.DNSNames[0] != tt.want || c.PrivateKey != crypto.PrivateKey(tt.private) {
			t.Errorf("%q, only RSA %v: got %v and %v, want %s", tt.sni, tt.rsaOnly, c, err, tt.want)
		}
	}
	for host, want := range map[string]bool{"wiki.corp.example": true, "pay.corp.example": true, "unknown.example": false, "": false} {
		if s.Covers(host) != want {
			t.Errorf("covers %q: got %v, want %v", host, !want, want)
		}
	}
}

func hello(sni string, rsaOnly bool) *tls.ClientHelloInfo {
	schemes := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}
	if rsaOnly {
		schemes = schemes[1:]
	}
	return &tls.ClientHelloInfo{ServerName: sni, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: schemes,
		SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256}}
}
