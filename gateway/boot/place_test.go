package boot

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/authn/session"
	"sallyport/gateway"
	"sallyport/gateway/config"
	"sallyport/gateway/place"
)

// A country database that is broken, or replaced by a broken one, refuses the configuration by its name; a good one is
// watched, so that its replacement is read.
func TestBrokenDatabaseRefusesTheConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "countries.mmdb")
	good, err := os.ReadFile("../place/testdata/countries.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	load := func(text []byte) (*frozen, error) {
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		f := &frozen{config: &config.Config{GeoIP: place.GeoIP{Database: file}}, snapshot: &gateway.Snapshot{}}
		return f, f.locate()
	}
	f, err := load(good)
	if err != nil || f.snapshot.Places.Country(netip.MustParseAddr("192.0.2.1")) != "NL" {
		t.Fatalf("the good one: %v", err)
	}
	if !slices.Contains(f.watched(), file) {
		t.Errorf("watched are %q", f.watched())
	}
	if _, err := load(good[:len(good)/2]); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("half of it: %v", err)
	}
	if f.snapshot.Places.Country(netip.MustParseAddr("192.0.2.1")) != "NL" {
		t.Error("what is in force has changed with the file")
	}
}

// To be bound to a certificate that nobody is asked for would end every session.
func TestBindingToCertificatesNeedsAuthorities(t *testing.T) {
	f := &frozen{config: &config.Config{Session: session.Config{Bind: session.Bind{ClientCertificate: true}}}, snapshot: &gateway.Snapshot{}}
	if err := f.locate(); err == nil || !strings.Contains(err.Error(), "session.bind.client_certificate") {
		t.Errorf("without authorities: %v", err)
	}
	f.config.TLS.ClientCertificates.Authorities = []string{"ca.pem"}
	if err := f.locate(); err != nil || !f.snapshot.Bind.ClientCertificate {
		t.Errorf("with one: %v", err)
	}
}
