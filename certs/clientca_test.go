package certs_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/clienttest"
)

// loadClients loads authorities, with lists if there are any.
func loadClients(t *testing.T, previous *certs.ClientAuthorities, authorities []byte, lists ...[]byte) (*certs.ClientAuthorities, error) {
	t.Helper()
	dir := t.TempDir()
	cfg := certs.ClientCertificates{Authorities: []string{clienttest.Write(t, dir, "ca.pem", authorities)}}
	for i, list := range lists {
		cfg.Revocation = append(cfg.Revocation, clienttest.Write(t, dir, fmt.Sprintf("%d.crl", i), list))
	}
	return certs.LoadClientAuthorities(cfg, previous, time.Now())
}

func loadedClients(t *testing.T, authorities []byte, lists ...[]byte) *certs.ClientAuthorities {
	t.Helper()
	a, err := loadClients(t, nil, authorities, lists...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func withUsage(usage ...x509.ExtKeyUsage) clienttest.Change {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usage }
}

func valid(from, until time.Duration) clienttest.Change {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(until) }
}

func uris(list ...string) clienttest.Change {
	return func(c *x509.Certificate) {
		for _, text := range list {
			u, err := url.Parse(text)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// Each way in which a certificate cannot count has its own word. A mutant that builds no chain, or one without the purpose,
// accepts some of these.
func TestEachProblemOfAClientCertificateIsNamed(t *testing.T) {
	ours, namesake, foreign := clienttest.NewAuthority(t, "people"), clienttest.NewAuthority(t, "people"), clienttest.NewAuthority(t, "others")
	below := ours.Below(t, "below")
	late := ours.Below(t, "late", valid(-2*time.Hour, -time.Hour))
	narrow := ours.Below(t, "narrow", func(c *x509.Certificate) {
		c.PermittedDNSDomains = []string{"corp.test"}
		c.PermittedDNSDomainsCritical = true
	})
	servers := ours.Below(t, "servers", withUsage(x509.ExtKeyUsageServerAuth))
	a := loadedClients(t, clienttest.PEM(ours))
	show := func(by *clienttest.Authority, changes ...clienttest.Change) []*x509.Certificate {
		return []*x509.Certificate{by.Issue(t, "ada", changes...).Leaf}
	}
	for name, tt := range map[string]struct {
		shown []*x509.Certificate
		want  certs.ClientProblem
	}{
		"good":                      {show(ours), ""},
		"good, with what it needs":  {append(show(below), below.Certificate), ""},
		"good, among others":        {append(show(ours), foreign.Certificate, namesake.Certificate), ""},
		"between left out":          {show(below), certs.ClientUnknownAuthority},
		"expired":                   {show(ours, valid(-2*time.Hour, -time.Minute)), certs.ClientExpired},
		"not yet valid":             {show(ours, valid(time.Minute, time.Hour)), certs.ClientNotYetValid},
		"issuer expired":            {append(show(late), late.Certificate), certs.ClientExpired},
		"another authority":         {show(foreign), certs.ClientUnknownAuthority},
		"another of the same name":  {show(namesake), certs.ClientUnknownAuthority},
		"and that one sent along":   {append(show(namesake), namesake.Certificate), certs.ClientUnknownAuthority},
		"made for servers":          {show(ours, withUsage(x509.ExtKeyUsageServerAuth)), certs.ClientNotForClients},
		"made for anything":         {show(ours, withUsage(x509.ExtKeyUsageAny)), certs.ClientNotForClients},
		"not said what for":         {show(ours, withUsage()), certs.ClientNotForClients},
		"key that does not sign":    {show(ours, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), certs.ClientNotForClients},
		"an authority itself":       {[]*x509.Certificate{ours.Certificate}, certs.ClientNotForClients},
		"an authority as a client":  {show(ours, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), certs.ClientNotForClients},
		"authority for servers":     {append(show(servers), servers.Certificate), certs.ClientNotForClients},
		"name beyond its authority": {append(show(narrow, func(c *x509.Certificate) { c.DNSNames = []string{"pc.evil.test"} }), narrow.Certificate), certs.ClientInvalid},
		"unknown critical extension": {show(ours, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), certs.ClientInvalid},
		"too many":  {append(show(ours), slices.Repeat([]*x509.Certificate{below.Certificate}, 5)...), certs.ClientTooLarge},
		"too large": {show(ours, func(c *x509.Certificate) { c.DNSNames = manyNames(2000) }), certs.ClientTooLarge},
	} {
		got := a.Verify(tt.shown, time.Now())
		if got.Problem != tt.want {
			t.Errorf("%s: got %q, want %q", name, got.Problem, tt.want)
		}
		if (got.Fingerprint == "") != (got.Problem != "") {
			t.Errorf("%s: a certificate that does not count is described: %+v", name, got)
		}
	}
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("host-%04d.corp.test", i))
	}
	return names
}

func TestClientCertificateIsDescribedWhole(t *testing.T) {
	ours := clienttest.NewAuthority(t, "people")
	a := loadedClients(t, clienttest.PEM(ours))
	shown := ours.Issue(t, "ada, O=evil", uris("urn:device:d-1"), func(c *x509.Certificate) {
		c.SerialNumber, c.DNSNames, c.EmailAddresses = big.NewInt(0xabc), []string{"pc.corp.test"}, []string{"ada@corp.test"}
	}).Leaf
	got := a.Verify([]*x509.Certificate{shown}, time.Now())
	if got.Subject != `CN=ada\, O=evil,O=Corp` || got.Issuer != "CN=people,O=Corp" || got.Serial != "abc" || len(got.Fingerprint) != 64 ||
		!slices.Equal(got.DNSNames, []string{"pc.corp.test"}) || !slices.Equal(got.Emails, []string{"ada@corp.test"}) ||
		!slices.Equal(got.URIs, []string{"urn:device:d-1"}) || !got.NotAfter.Equal(shown.NotAfter) {
		t.Errorf("got %+v", got)
	}
}

// A certificate with two common names is shown with both, and names no device: pkix.Name would keep the last.
func TestDeviceIsNamedOnceOrNotAtAll(t *testing.T) {
	ours := clienttest.NewAuthority(t, "devices")
	twice := func(c *x509.Certificate) {
		raw, err := asn1.Marshal(pkix.RDNSequence{
			{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "d-1"}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "d-2"}}})
		if err != nil {
			t.Fatal(err)
		}
		c.RawSubject = raw
	}
	for name, tt := range map[string]struct {
		from   string
		change clienttest.Change
		want   string
	}{
		"nobody asks":         {"", uris("urn:device:d-1"), ""},
		"common name":         {"common_name", uris(), "pc"},
		"two common names":    {"common_name", twice, ""},
		"address":             {"urn:device:", uris("urn:device:d-1"), "d-1"},
		"among others":        {"urn:device:", uris("urn:person:ada", "urn:device:d-1"), "d-1"},
		"two addresses":       {"urn:device:", uris("urn:device:d-1", "urn:device:d-2"), ""},
		"none":                {"urn:device:", uris("urn:person:ada"), ""},
		"an empty one":        {"urn:device:", uris("urn:device:"), ""},
		"a host and a path":   {"spiffe://corp.test/device/", uris("spiffe://corp.test/device/d-1"), "d-1"},
		"a host that is near": {"spiffe://corp.test/device/", uris("spiffe://corp.test.evil/device/d-1"), ""},
		"longer than an id":   {"urn:device:", uris("urn:device:" + strings.Repeat("x", 300)), ""},
	} {
		dir := t.TempDir()
		a, err := certs.LoadClientAuthorities(certs.ClientCertificates{Authorities: []string{clienttest.Write(t, dir, "ca.pem", clienttest.PEM(ours))}, DeviceFrom: tt.from}, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		got := a.Verify([]*x509.Certificate{ours.Issue(t, "pc", tt.change).Leaf}, time.Now())
		if got.Problem != "" || got.Device != tt.want {
			t.Errorf("%s: got %q (%s), want %q", name, got.Device, got.Problem, tt.want)
		}
		if name == "two common names" && got.Subject != "CN=d-2,CN=d-1" {
			t.Errorf("the subject is %q", got.Subject)
		}
	}
}

// A mutant that looks at the client's own certificate alone accepts what an authority between has lost.
func TestRevokedCertificatesDoNotCount(t *testing.T) {
	ours := clienttest.NewAuthority(t, "people")
	below, lost := ours.Below(t, "below"), ours.Below(t, "lost")
	later := time.Now().Add(time.Hour)
	good, bad, deep := ours.Issue(t, "ada").Leaf, ours.Issue(t, "eve").Leaf, below.Issue(t, "bob").Leaf
	authorities := clienttest.PEM(ours, below, lost)
	a := loadedClients(t, authorities, ours.List(t, later, bad, lost.Certificate), below.List(t, later), lost.List(t, later))
	unlisted := ours.Below(t, "unlisted")
	for name, tt := range map[string]struct {
		shown []*x509.Certificate
		at    time.Time
		want  certs.ClientProblem
	}{
		"good":                    {[]*x509.Certificate{good}, time.Now(), ""},
		"good, below":             {[]*x509.Certificate{deep}, time.Now(), ""},
		"revoked":                 {[]*x509.Certificate{bad}, time.Now(), certs.ClientRevoked},
		"authority revoked":       {[]*x509.Certificate{lost.Issue(t, "mal").Leaf}, time.Now(), certs.ClientRevoked},
		"authority without list":  {[]*x509.Certificate{unlisted.Issue(t, "mal").Leaf, unlisted.Certificate}, time.Now(), certs.ClientListMissing},
		"revoked, and list late":  {[]*x509.Certificate{bad}, later.Add(-time.Second), certs.ClientRevoked},
		"same serial, other list": {[]*x509.Certificate{below.Issue(t, "x", func(c *x509.Certificate) { c.SerialNumber = bad.SerialNumber }).Leaf}, time.Now(), ""},
	} {
		if got := a.Verify(tt.shown, tt.at); got.Problem != tt.want {
			t.Errorf("%s: got %q, want %q", name, got.Problem, tt.want)
		}
	}
}

// A list past its next update says nothing any more, neither good nor bad, and the moment is not slept through.
func TestCertificatesDoNotCountAfterTheListsNextUpdate(t *testing.T) {
	ours := clienttest.NewAuthority(t, "people", valid(-time.Hour, 100*time.Hour))
	next := time.Now().Add(30 * time.Second).Truncate(time.Second)
	leaf := ours.Issue(t, "ada", valid(-time.Hour, 50*time.Hour)).Leaf
	a := loadedClients(t, clienttest.PEM(ours), ours.List(t, next))
	before := a.Verify([]*x509.Certificate{leaf}, next.Add(-time.Second))
	if before.Problem != "" || before.Until.After(next) {
		t.Errorf("before: got %q, asked again at %v, after %v", before.Problem, before.Until, next)
	}
	if got := a.Verify([]*x509.Certificate{leaf}, next.Add(time.Second)); got.Problem != certs.ClientListExpired {
		t.Errorf("after: got %q", got.Problem)
	}
	if infos := a.Infos(); len(infos) != 1 || !infos[0].Counts(next) || infos[0].Counts(next.Add(time.Second)) || !infos[0].NextUpdate.Equal(next) {
		t.Errorf("described as %+v", infos)
	}
}

// TLS-08: whatever is wrong with a file is an error that names it, and never fewer demands.
func TestEveryBadFileOfClientAuthoritiesIsNamed(t *testing.T) {
	ours, foreign := clienttest.NewAuthority(t, "people"), clienttest.NewAuthority(t, "people")
	later := time.Now().Add(time.Hour)
	list := ours.List(t, later)
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	critical := func(id ...int) []byte {
		return ours.ListOf(t, &x509.RevocationList{NextUpdate: later,
			ExtraExtensions: []pkix.Extension{{Id: id, Critical: true, Value: []byte{2, 1, 1}}}})
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.Issue(t, "ada").Leaf.Raw})
	for name, tt := range map[string]struct{ authorities, list, key []byte }{
		"empty":               {authorities: []byte{}},
		"white space":         {authorities: []byte("\n")},
		"no PEM":              {authorities: []byte("people")},
		"cut":                 {authorities: clienttest.PEM(ours)[:300]},
		"a client's":          {authorities: leaf},
		"one of them bad":     {authorities: append(clienttest.PEM(ours), leaf...)},
		"expired":             {authorities: clienttest.PEM(clienttest.NewAuthority(t, "old", valid(-2*time.Hour, -time.Hour)))},
		"not yet":             {authorities: clienttest.PEM(clienttest.NewAuthority(t, "new", valid(time.Hour, 2*time.Hour)))},
		"may not issue":       {authorities: clienttest.PEM(clienttest.NewAuthority(t, "x", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }))},
		"list: empty":         {list: []byte{}},
		"list: no list":       {list: []byte("people")},
		"list: cut":           {list: cut(list)},
		"list: certificate":   {list: clienttest.PEM(ours)},
		"list: more behind":   {list: append(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}), 'x')},
		"list: expired":       {list: ours.ListOf(t, &x509.RevocationList{ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: time.Now().Add(-time.Hour)})},
		"list: not yet":       {list: ours.ListOf(t, &x509.RevocationList{ThisUpdate: later, NextUpdate: later.Add(time.Hour)})},
		"list: of a namesake": {list: foreign.List(t, later)},
		"list: a difference":  {list: critical(2, 5, 29, 27)},
		"list: a part":        {list: critical(2, 5, 29, 28)},
	} {
		dir := t.TempDir()
		authorities := clienttest.PEM(ours)
		if tt.authorities != nil {
			authorities = tt.authorities
		}
		cfg := certs.ClientCertificates{Authorities: []string{clienttest.Write(t, dir, "ca.pem", authorities)}}
		bad := "ca.pem"
		if tt.list != nil {
			cfg.Revocation, bad = []string{clienttest.Write(t, dir, "people.crl", tt.list)}, "people.crl"
		}
		a, err := certs.LoadClientAuthorities(cfg, nil, time.Now())
		if err == nil || a != nil || !strings.Contains(err.Error(), filepath.Join(dir, bad)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, cfg := range []certs.ClientCertificates{
		{Authorities: []string{"/nowhere/ca.pem"}}, {Revocation: []string{"/nowhere/x.crl"}}, {DeviceFrom: "common_name"}, {SignIn: true},
		{Authorities: []string{t.TempDir()}}, {Authorities: []string{"x"}, DeviceFrom: "device"},
		{Authorities: []string{clienttest.Write(t, t.TempDir(), "ca.pem", clienttest.PEM(clienttest.NewAuthority(t, "devices")))}, DeviceFrom: "URN:device:"}} {
		if a, err := certs.LoadClientAuthorities(cfg, nil, time.Now()); err == nil || a != nil {
			t.Errorf("%+v: got %v", cfg, err)
		}
	}
	if a, err := certs.LoadClientAuthorities(certs.ClientCertificates{}, nil, time.Now()); a != nil || err != nil {
		t.Errorf("nothing: got %v, %v", a, err)
	}
}

// A list that nobody else's authority has: forgetting one of several is refused, not taken for nothing revoked.
func TestEveryAuthorityNeedsAListOrNoneDoes(t *testing.T) {
	one, two := clienttest.NewAuthority(t, "one"), clienttest.NewAuthority(t, "two")
	_, err := loadClients(t, nil, clienttest.PEM(one, two), one.List(t, time.Now().Add(time.Hour)))
	if err == nil || !strings.Contains(err.Error(), "no revocation list of CN=two") {
		t.Errorf("got %v", err)
	}
}

func TestReloadNeverGoesBackInRevocation(t *testing.T) {
	ours := clienttest.NewAuthority(t, "people")
	later := time.Now().Add(time.Hour)
	eve := ours.Issue(t, "eve").Leaf
	old, soon := ours.List(t, later), ours.List(t, later, eve)
	current := loadedClients(t, clienttest.PEM(ours), soon, old)
	if got := current.Verify([]*x509.Certificate{eve}, time.Now()); got.Problem != certs.ClientRevoked {
		t.Errorf("of two lists the older one counts: got %q", got.Problem)
	}
	if _, err := loadClients(t, current, clienttest.PEM(ours), old); err == nil || !strings.Contains(err.Error(), "older than the one in force") {
		t.Errorf("got %v", err)
	}
}

// What has expired since it was loaded must not keep the gateway from loading anything else; what is new may not be so.
func TestReloadTakesWhatHasExpiredMeanwhile(t *testing.T) {
	ours := clienttest.NewAuthority(t, "people", valid(-time.Hour, 100*time.Hour))
	next := time.Now().Add(time.Hour)
	dir := t.TempDir()
	cfg := certs.ClientCertificates{Authorities: []string{clienttest.Write(t, dir, "ca.pem", clienttest.PEM(ours))},
		Revocation: []string{clienttest.Write(t, dir, "people.crl", ours.List(t, next))}}
	current, err := certs.LoadClientAuthorities(cfg, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	after := next.Add(time.Hour)
	if _, err := certs.LoadClientAuthorities(cfg, current, after); err != nil {
		t.Errorf("the list in force, expired: %v", err)
	}
	if _, err := certs.LoadClientAuthorities(cfg, nil, after); err == nil {
		t.Error("the gateway starts with an expired list")
	}
	clienttest.Write(t, dir, "people.crl", ours.List(t, next.Add(time.Minute)))
	if _, err := certs.LoadClientAuthorities(cfg, current, after); err == nil {
		t.Error("another expired list was taken")
	}
	if err := os.Remove(cfg.Revocation[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.LoadClientAuthorities(cfg, current, time.Now()); err == nil {
		t.Error("a list that is gone was taken")
	}
}

// Two authorities on file of which one has issued the other: what it issued can be revoked.
func TestAuthorityBetweenIsNoAnchor(t *testing.T) {
	root := clienttest.NewAuthority(t, "root")
	below := root.Below(t, "below")
	later := time.Now().Add(time.Hour)
	leaf := below.Issue(t, "ada").Leaf
	a := loadedClients(t, clienttest.PEM(below, root), root.List(t, later, below.Certificate), below.List(t, later))
	if got := a.Verify([]*x509.Certificate{leaf}, time.Now()); got.Problem != certs.ClientRevoked {
		t.Errorf("got %q", got.Problem)
	}
	alone := loadedClients(t, clienttest.PEM(below), below.List(t, later))
	if got := alone.Verify([]*x509.Certificate{leaf}, time.Now()); got.Problem != "" {
		t.Errorf("trusted by itself: got %q", got.Problem)
	}
	if got := alone.Verify([]*x509.Certificate{root.Issue(t, "x").Leaf, root.Certificate}, time.Now()); got.Problem != certs.ClientUnknownAuthority {
		t.Errorf("its issuer: got %q", got.Problem)
	}
}
