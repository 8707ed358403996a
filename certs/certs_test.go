package certs_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/acme"
	"sallyport/certs/keyd/keydtest"
	"sallyport/certs/keyring"
)

func TestMain(m *testing.M) { keydtest.Main(m, nil) }

// localKeys stands in for the key process where a test is about certificates alone.
type localKeys []localKey

type localKey struct {
	keyring.Key
	private crypto.Signer
}

func (l localKeys) List(context.Context) ([]keyring.Key, error) {
	var list []keyring.Key
	for _, k := range l {
		list = append(list, k.Key)
	}
	return list, nil
}

func (l localKeys) TLSServer(k keyring.Key) crypto.Signer {
	for _, have := range l {
		if have.Name == k.Name {
			return have.private
		}
	}
	return nil
}

func (l localKeys) TLSClient(k keyring.Key) crypto.Signer { return l.TLSServer(k) }

func local(private crypto.Signer, name string, hosts ...string) localKey {
	return localKey{keyring.Key{Name: name, Purpose: keyring.PurposeTLSServer, Public: private.Public(), Names: hosts}, private}
}

func ec(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ed(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rsaKey is made once: it takes half a second.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func fresh(t testing.TB, private crypto.Signer, hosts ...string) *x509.Certificate {
	t.Helper()
	return keydtest.SelfSigned(t, private, hosts, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

func load(dir string, keys certs.Keys) (*certs.Store, error) {
	return certs.Load(context.Background(), certs.Config{Certificates: []string{filepath.Join(dir, "*.pem")}}, keys)
}

func TestEveryBadFileIsNamedWithItsReason(t *testing.T) {
	now, k := time.Now(), ec(t, elliptic.P256())
	other := ec(t, elliptic.P256())
	keys := localKeys{local(k, "wiki", "wiki.corp.example", "*.apps.corp.example"), {
		Key: keyring.Key{Name: "says", Purpose: keyring.PurposeAssertion, Public: other.Public()},
	}}
	good := fresh(t, k, "wiki.corp.example")
	chain := func(c ...*x509.Certificate) func(string) {
		return func(path string) { keydtest.WriteChain(t, path, c...) }
	}
	text := func(s string) func(string) {
		return func(path string) {
			if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		write  func(path string)
		reason string
	}{
		"good":              {chain(good), ""},
		"wildcard":          {chain(fresh(t, k, "*.apps.corp.example")), ""},
		"under-wildcard":    {chain(fresh(t, k, "x.apps.corp.example")), ""},
		"expired":           {chain(keydtest.SelfSigned(t, k, []string{"wiki.corp.example"}, now.Add(-2*time.Hour), now.Add(-time.Hour))), "expired"},
		"not-yet":           {chain(keydtest.SelfSigned(t, k, []string{"wiki.corp.example"}, now.Add(time.Hour), now.Add(2*time.Hour))), "not yet valid"},
		"no-key":            {chain(fresh(t, ec(t, elliptic.P256()), "wiki.corp.example")), "holds no key"},
		"assertion-key":     {chain(fresh(t, other, "wiki.corp.example")), `its key "says" is for assertion`},
		"other-tenant":      {chain(fresh(t, k, "payroll.corp.example")), `it names payroll.corp.example, which its key "wiki" is not for`},
		"beyond-wildcard":   {chain(fresh(t, k, "a.b.apps.corp.example")), "is not for"},
		"no-names":          {chain(fresh(t, k)), "names no host"},
		"not-a-chain":       {chain(good, fresh(t, other, "wiki.corp.example")), "not a chain"},
		"empty":             {text(""), "holds no certificate"},
		"not-pem":           {text("hello"), "not PEM"},
		"garbage-in-pem":    {text(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))), "x509"},
		"private-key":       {text(string(keydtest.PEM(t, k))), "holds a private key"},
		"private-key-below": {text(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Raw})) + string(keydtest.PEM(t, k))), "holds a private key"},
		"too-large":         {text(strings.Repeat("#", 1<<20+1)), "larger than"},
		"a-folder": {func(path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"dangling": {func(path string) {
			if err := os.Symlink("/nowhere", path); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, name+".pem")
			tt.write(path)
			_, err := load(dir, keys)
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %v, want %s and %q", err, path, tt.reason)
			}
		})
	}
}

func TestLoadIsAllOrNothing(t *testing.T) {
	dir, k := t.TempDir(), ec(t, elliptic.P256())
	keydtest.WriteChain(t, filepath.Join(dir, "good.pem"), fresh(t, k, "wiki.corp.example"))
	for _, bad := range []string{"bad1.pem", "bad2.pem"} {
		if err := os.WriteFile(filepath.Join(dir, bad), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := load(dir, localKeys{local(k, "wiki", "wiki.corp.example")})
	if s != nil || err == nil || !strings.Contains(err.Error(), "bad1.pem") || !strings.Contains(err.Error(), "bad2.pem") {
		t.Errorf("got %v %v, want both bad files named and no store", s, err)
	}
	_, err = certs.CheckFiles(certs.Config{Certificates: []string{filepath.Join(dir, "*.pem")}})
	if err == nil || !strings.Contains(err.Error(), "bad1.pem") || !strings.Contains(err.Error(), "bad2.pem") || strings.Contains(err.Error(), "good.pem") {
		t.Errorf("without a key process: got %v, want both bad files named", err)
	}
	if _, err := load(t.TempDir(), localKeys{}); err == nil {
		t.Error("a pattern without files was accepted")
	}
	for name, cfg := range map[string]certs.Config{
		"TLS 1.1":     {Certificates: []string{"*"}, MinVersion: "1.1"},
		"no patterns": {},
		"bad pattern": {Certificates: []string{"["}},
	} {
		if _, err := certs.Load(t.Context(), cfg, localKeys{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNamesChooseCertificates(t *testing.T) {
	dir := t.TempDir()
	exact, wild, fast, slow := ec(t, elliptic.P256()), ec(t, elliptic.P256()), ec(t, elliptic.P256()), rsaKey()
	older := keydtest.SelfSigned(t, exact, []string{"wiki.corp.example"}, time.Now().Add(-time.Hour), time.Now().Add(time.Minute))
	for name, c := range map[string]*x509.Certificate{
		"a-older": older,
		"exact":   fresh(t, exact, "wiki.corp.example"), "wild": fresh(t, wild, "*.corp.example"),
		"fast": fresh(t, fast, "both.example"), "a-slow": fresh(t, slow, "both.example"),
	} {
		keydtest.WriteChain(t, filepath.Join(dir, name+".pem"), c)
	}
	s, err := load(dir, localKeys{
		local(exact, "exact", "wiki.corp.example"), local(wild, "wild", "*.corp.example"),
		local(fast, "fast", "both.example"), local(slow, "slow", "both.example"),
	})
	if err != nil {
		t.Fatal(err)
	}
	any := []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}
	for _, tt := range []struct {
		sni     string
		schemes []tls.SignatureScheme
		want    crypto.Signer // nil: no certificate
	}{
		{"wiki.corp.example", any, exact},
		{"WIKI.corp.EXAMPLE", any, exact},
		{"pay.corp.example", any, wild},
		{"a.b.corp.example", any, nil},
		{"corp.example", any, nil},
		{"*.corp.example", any, wild}, // no client asks for it; it is covered by what it names
		{"unknown.example", any, nil},
		{"", any, nil},
		{"both.example", any, fast},
		{"both.example", any[:1], slow},
		{"both.example", any[1:], fast},
	} {
		c, err := s.GetCertificate(&tls.ClientHelloInfo{
			ServerName: tt.sni, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: tt.schemes,
			SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256},
		})
		if err != nil {
			t.Errorf("%q: %v", tt.sni, err)
		}
		var got crypto.PrivateKey
		if c != nil {
			got = c.PrivateKey
		}
		if (c == nil) != (tt.want == nil) || c != nil && got != crypto.PrivateKey(tt.want) {
			t.Errorf("%q %v: got %v", tt.sni, tt.schemes, c)
		}
		if tt.sni == "wiki.corp.example" && c.Leaf.NotAfter.Equal(older.NotAfter) {
			t.Error("the older of two certificates was chosen")
		}
	}
	infos := s.Certificates()
	if len(infos) != 5 || filepath.Base(infos[2].File) != "exact.pem" || infos[2].Key != "exact" || infos[2].Names[0] != "wiki.corp.example" {
		t.Errorf("got %+v", infos)
	}
}

func TestKeyProcessAwayIsAnError(t *testing.T) {
	dir := t.TempDir()
	keydtest.WriteChain(t, filepath.Join(dir, "x.pem"), fresh(t, ec(t, elliptic.P256()), "x.example"))
	if _, err := load(dir, away{}); !errors.Is(err, keyring.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, keyring.ErrUnavailable)
	}
}

type away struct{ localKeys }

func (away) List(context.Context) ([]keyring.Key, error) { return nil, keyring.ErrUnavailable }

// A certificate of the operator's that has expired since it was loaded keeps no host from the one that was obtained for it.
func TestObtainedChainsComeBesideWhatIsServed(t *testing.T) {
	given, obtained := t.TempDir(), t.TempDir()
	mine, got := ec(t, elliptic.P256()), ec(t, elliptic.P256())
	keys := localKeys{local(mine, "pay", "pay.corp.example"), local(got, "wiki", "wiki.corp.example")}
	keydtest.WriteChain(t, filepath.Join(given, "pay.pem"), fresh(t, mine, "pay.corp.example"))
	cfg := certs.Config{Certificates: []string{filepath.Join(given, "*.pem")}, ACME: &acme.Config{Dir: obtained}}
	store, err := certs.Load(t.Context(), cfg, keys)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	keydtest.WriteChain(t, filepath.Join(given, "pay.pem"), keydtest.SelfSigned(t, mine, []string{"pay.corp.example"}, now.Add(-2*time.Hour), now.Add(-time.Hour)))
	keydtest.WriteChain(t, filepath.Join(obtained, "wiki.corp.example.pem"), fresh(t, got, "wiki.corp.example"))
	if store, err = store.WithObtained(t.Context(), cfg, keys); err != nil {
		t.Fatal(err)
	}
	if !store.Covers("wiki.corp.example") || !store.Covers("pay.corp.example") || len(store.Certificates()) != 2 {
		t.Errorf("served: %+v, want both", store.Certificates())
	}
}
