package place

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

// world is the database in testdata, which tests of other packages use, too.
var world = map[string]string{"127.0.0.0/8": "NL", "127.0.0.9/32": "DE", "192.0.2.0/24": "NL", "198.51.100.0/24": "US", "203.0.113.0/24": "DE",
	"203.0.113.128/25": "AT", "2001:db8::/32": "FR", "10.0.0.0/8": "xx", "11.0.0.0/8": "EUR"}

const worldFile = "testdata/countries.mmdb"

func TestCountriesOfTheDatabase(t *testing.T) {
	made := writeDatabase(world, "")
	if *update {
		if err := os.WriteFile(worldFile, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile(worldFile); err != nil || !bytes.Equal(kept, made) {
		t.Fatalf("%s is not what the test would write (run it with -update): %v", worldFile, err)
	}
	p, err := New(nil, GeoIP{Database: worldFile})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"192.0.2.7": "NL", "::ffff:192.0.2.7": "NL", "203.0.113.1": "DE", "203.0.113.200": "AT", "127.0.0.9": "DE",
		"2001:db8:1::1": "FR", "fe80::1%eth0": "", "8.8.8.8": "", "10.1.1.1": "", "11.1.1.1": ""} {
		if got := p.Country(netip.MustParseAddr(address)); got != want {
			t.Errorf("country of %s: got %q, want %q", address, got, want)
		}
	}
	if got := p.Country(netip.Addr{}); got != "" {
		t.Errorf("country of no address: got %q", got)
	}
}

// A database that cannot be believed is refused as a whole, by its name; none is no trouble.
func TestBrokenDatabaseIsRefusedByName(t *testing.T) {
	good := writeDatabase(world, "")
	wild := bytes.Clone(good)
	wild[3], wild[4], wild[5] = 0xff, 0xff, 0xf0 // a pointer to far behind the end
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"empty": {nil, "not a database"}, "text": {[]byte("country: NL"), "not a database"}, "half": {good[:len(good)/2], "not a database"},
		"wild": {wild, "damaged"}, "asn": {writeDatabase(map[string]string{"192.0.2.0/24": "AS1"}, "autonomous_system"), "names no country"},
	} {
		file := filepath.Join(t.TempDir(), name+".mmdb")
		if err := os.WriteFile(file, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(nil, GeoIP{Database: file}); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want the file's name and %q", name, err, c.says)
		}
	}
	if _, err := New(nil, GeoIP{Database: t.TempDir()}); err == nil {
		t.Error("a folder is taken for a database")
	}
	if _, err := New(nil, GeoIP{Database: "/nowhere.mmdb"}); err == nil || !strings.Contains(err.Error(), "/nowhere.mmdb") {
		t.Errorf("an absent file: got %v", err)
	}
	if p, err := New(nil, GeoIP{}); err != nil || p.Country(netip.MustParseAddr("192.0.2.7")) != "" {
		t.Errorf("no database: got %v", err)
	}
}

func TestLongestPrefixNamesTheZone(t *testing.T) {
	p, err := New(networks(t, map[string]string{"corp": "10.0.0.0/8 2001:db8::/32", "office": "10.1.0.0/16", "lab": "10.1.2.0/24", "door": "10.1.2.3/32",
		"everywhere": "::/0"}), GeoIP{})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"10.9.9.9": "corp", "10.1.9.9": "office", "10.1.2.9": "lab", "10.1.2.3": "door", "::ffff:10.1.2.3": "door",
		"192.0.2.1": "", "2001:db8::1": "corp", "2001:db9::1": "everywhere", "fe80::1%eth0": "everywhere"} {
		if got := p.Zone(netip.MustParseAddr(address)); got != want {
			t.Errorf("zone of %s: got %q, want %q", address, got, want)
		}
	}
	var none *Places
	if none.Zone(netip.MustParseAddr("10.1.2.3")) != "" || none.Country(netip.MustParseAddr("10.1.2.3")) != "" || p.Zone(netip.Addr{}) != "" {
		t.Error("no places, or no address, have a name")
	}
}

func TestZonesAreFoundWithoutAllocation(t *testing.T) {
	p, err := New(networks(t, map[string]string{"corp": "10.0.0.0/8 2001:db8::/32", "office": "10.1.0.0/16"}), GeoIP{})
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr("10.1.2.3")
	if n := testing.AllocsPerRun(100, func() { p.Zone(address) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func TestNetworksThatMeanNothingAreRefused(t *testing.T) {
	for _, c := range []struct{ name, prefixes, says string }{
		{"Office", "10.0.0.0/8", "lower-case"}, {"office", "10.1.0.0/8", "10.0.0.0/8"}, {"office", "::ffff:10.0.0.0/104", "not an address prefix"},
	} {
		if err := networks(t, map[string]string{c.name: c.prefixes}).Check(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %s: got %v, want %q", c.name, c.prefixes, err, c.says)
		}
	}
	twice := networks(t, map[string]string{"a": "10.0.0.0/8", "b": "10.0.0.0/8"})
	if err := twice.Check(); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8 is in network a, too") {
		t.Errorf("one prefix of two networks: got %v", err)
	}
}

func networks(t *testing.T, by map[string]string) Networks {
	t.Helper()
	n := Networks{}
	for name, list := range by {
		for text := range strings.FieldsSeq(list) {
			n[name] = append(n[name], netip.MustParsePrefix(text))
		}
	}
	return n
}

// FuzzDatabase: whatever a file holds, it is refused or answers, and never ends the process.
func FuzzDatabase(f *testing.F) {
	f.Add(writeDatabase(world, ""))
	f.Add([]byte("\xab\xcd\xefMaxMind.com"))
	file := filepath.Join(f.TempDir(), "fuzz.mmdb")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := New(nil, GeoIP{Database: file})
		if err != nil {
			return
		}
		if code := p.Country(netip.MustParseAddr("192.0.2.7")); code != "" && len(code) != 2 {
			t.Errorf("country %q", code)
		}
	})
}
