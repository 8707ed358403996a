package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/audit"
	"sallyport/certs"
	"sallyport/certs/clienttest"
	"sallyport/gateway/route"
	"sallyport/policy"
)

// certBed is a bed whose host asks for certificates: the wiki demands one, /docs/ does not ask, /lab/ is public and
// demands one, /notes/ is told of it.
type certBed struct {
	*bed
	people *clienttest.Authority
	dir    string
	cfg    certs.ClientCertificates
}

func newCertBed(t *testing.T) *certBed {
	t.Helper()
	c := &certBed{bed: newBed(t, func(http.ResponseWriter, *http.Request) {}), people: clienttest.NewAuthority(t, "people"), dir: t.TempDir()}
	c.cfg = certs.ClientCertificates{Authorities: []string{clienttest.Write(t, c.dir, "ca.pem", clienttest.PEM(c.people))}, DeviceFrom: "urn:device:"}
	c.front.Close()
	c.front = httptest.NewUnstartedServer(nil)
	c.front.Config = c.server.HTTPServer()
	c.front.EnableHTTP2 = true
	c.front.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	c.front.StartTLS()
	t.Cleanup(c.front.Close)
	c.reload(t)
	return c
}

// apps are one host's, with different demands.
func (c *certBed) apps(t *testing.T) []route.App {
	var apps []route.App
	for _, part := range []struct {
		name   route.Name
		path   string
		certs  route.ClientCerts
		public bool
	}{{"wiki", "/", route.ClientCertsRequired, false}, {"docs", "/docs/", route.ClientCertsNone, false},
		{"lab", "/lab/", route.ClientCertsRequired, true}, {"notes", "/notes/", route.ClientCertsOptional, false}} {
		app := wiki(t, c.origin, "staff")
		app.Name, app.Path, app.ClientCerts, app.Owner = part.name, part.path, part.certs, "it@corp.test"
		if part.public {
			app.Access = policy.Access{{Public: true}}
		}
		apps = append(apps, app)
	}
	return apps
}

// reload puts the files as they are into force.
func (c *certBed) reload(t *testing.T) {
	t.Helper()
	next := snapshot(t, c.apps(t)...)
	var err error
	if next.ClientAuthorities, err = certs.LoadClientAuthorities(c.cfg, c.server.Snapshot().ClientAuthorities, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.server.Swap(next)
}

// showing is a client that shows a certificate, over a connection of its own.
func (c *certBed) showing(t *testing.T, protocol string, shown ...tls.Certificate) *http.Client {
	t.Helper()
	client := c.client(t, protocol)
	client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(shown) == 0 {
			return new(tls.Certificate), nil
		}
		return &shown[0], nil
	}
	return client
}

func (c *certBed) last(t *testing.T) (in *policy.Input) {
	t.Helper()
	records := c.log.of(audit.TypeDecision)
	in, err := policy.ParseInput(records[len(records)-1].Document.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// Two demands on one host, over both protocols: each app gets its own, whatever the connection has shown.
func TestEachAppDemandsItsOwnOfTheSameConnection(t *testing.T) {
	c := newCertBed(t)
	ada := c.people.Issue(t, "ada")
	other := clienttest.NewAuthority(t, "people").Issue(t, "ada")
	old := c.people.Issue(t, "ada", func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) })
	huge := c.people.Issue(t, "ada", func(x *x509.Certificate) {
		for n := range 200 {
			x.DNSNames = append(x.DNSNames, fmt.Sprintf("host-%d.corp.test", n))
		}
	})
	for _, protocol := range []string{"http/1.1", "h2"} {
		for name, tt := range map[string]struct {
			shown            []tls.Certificate
			problem          string
			wiki, lab, notes int
		}{
			"none":      {nil, "", 403, 403, 200},
			"good":      {[]tls.Certificate{ada}, "", 200, 200, 200},
			"other":     {[]tls.Certificate{other}, "unknown_authority", 403, 403, 200},
			"expired":   {[]tls.Certificate{old}, "expired", 403, 403, 200},
			"too large": {[]tls.Certificate{huge}, "too_large", 403, 403, 200},
		} {
			client := c.showing(t, protocol, tt.shown...)
			for _, ask := range []struct {
				handle, path string
				want         int
				told         bool // the policy hears of the certificate
			}{{"ada", "/", tt.wiki, true}, {"ada", "/docs/", 200, false}, {"", "/lab/", tt.lab, true}, {"ada", "/lab/", tt.lab, true}, {"ada", "/notes/", tt.notes, true},
				{"", "/", 401, true}, {"", "/docs/", 401, false}} {
				status, body := answerTo(t, client, c.request(t, "GET", ask.path, ask.handle, nil))
				if status != ask.want {
					t.Errorf("%s, %s: %q gets %d of %s, want %d: %s", protocol, name, ask.handle, status, ask.path, ask.want, body)
				}
				if ask.want == 401 && len(c.log.of(audit.TypeDecision)) == 0 {
					continue
				}
				s := c.last(t).Subject
				if valid := len(tt.shown) > 0 && tt.problem == ""; (s.Cert != nil) != (ask.told && valid) {
					t.Errorf("%s, %s: the policy is told %+v of %s", protocol, name, s.Cert, ask.path)
				}
				if ask.told && s.CertProblem != tt.problem || !ask.told && s.CertProblem != "" {
					t.Errorf("%s, %s: the problem at %s is %q, want %q", protocol, name, ask.path, s.CertProblem, tt.problem)
				}
			}
		}
	}
}

// The one who would pass is told what to do, people on a page and programs in JSON; the connection ends, so that the next
// one can bring a certificate.
func TestRefusalForWantOfACertificateSaysWhatToDo(t *testing.T) {
	c := newCertBed(t)
	client := c.showing(t, "http/1.1")
	r := c.request(t, "GET", "/", "ada", nil)
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Error, Message string }
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil || said.Error != "client_certificate" || !strings.Contains(said.Message, "Yours showed none") || !res.Close {
		t.Errorf("a program is told %+v (%v), connection closed: %v", said, err, res.Close)
	}
	res.Body.Close()
	r = c.request(t, "GET", "/", "ada", nil)
	r.Header.Set("Accept", "text/html")
	if status, body := answerTo(t, client, r); status != 403 || !strings.Contains(body, "close all of its windows") || !strings.Contains(body, "it@corp.test") {
		t.Errorf("a person is told %d %s", status, body)
	}
}

func TestPolicyIsToldOfCertificateAndDevice(t *testing.T) {
	c := newCertBed(t)
	shown := c.people.Issue(t, "ada", withURI(t, "urn:device:d-7"))
	client := c.showing(t, "h2", shown)
	for _, ask := range []struct{ handle, path string }{{"ada", "/"}, {"", "/lab/"}} {
		answerTo(t, client, c.request(t, "GET", ask.path, ask.handle, nil))
		s := c.last(t).Subject
		if s.Cert == nil || s.Cert.Subject != "CN=ada,O=Corp" || s.Device == nil || s.Device.ID != "d-7" || s.Device.Source != "certificate" || s.Device.Managed != nil {
			t.Errorf("%s: told %+v of %+v", ask.path, s.Cert, s.Device)
		}
	}
}

// One person with two devices at once: what is kept of a session is not mistaken for the other's.
func TestCertificatesOfOneSessionAreNotConfused(t *testing.T) {
	c := newCertBed(t)
	phone := c.showing(t, "h2", c.people.Issue(t, "ada", withURI(t, "urn:device:phone")))
	laptop := c.showing(t, "http/1.1", c.people.Issue(t, "ada", withURI(t, "urn:device:laptop")))
	bare := c.showing(t, "h2")
	for range 3 {
		for client, want := range map[*http.Client]string{phone: "phone", laptop: "laptop", bare: ""} {
			answerTo(t, client, c.request(t, "GET", "/notes/", "ada", nil))
			if got := c.last(t).Subject.Device; (got == nil) != (want == "") || got != nil && got.ID != want {
				t.Fatalf("got %+v, want %q", got, want)
			}
		}
	}
	if got := testutil.ToFloat64(c.server.metrics.certificates.WithLabelValues("valid")); got != 2 {
		t.Errorf("verified %v times on two connections", got)
	}
}

// What was good when the connection was made is asked again with each request, and what is open is ended.
func TestRevokedCertificateEndsWhatItOpened(t *testing.T) {
	c := newCertBed(t)
	eve := c.people.Issue(t, "eve")
	later := time.Now().Add(time.Hour)
	c.cfg.Revocation = []string{clienttest.Write(t, c.dir, "people.crl", c.people.List(t, later))}
	c.reload(t)
	client := c.showing(t, "h2", eve)
	if status, _ := answerTo(t, client, c.request(t, "GET", "/", "ada", nil)); status != 200 {
		t.Fatalf("got %d before", status)
	}
	clienttest.Write(t, c.dir, "people.crl", c.people.List(t, later, eve.Leaf))
	c.reload(t)
	if status, body := answerTo(t, client, c.request(t, "GET", "/", "ada", nil)); status != 403 || !strings.Contains(body, "revoked") {
		t.Errorf("on the same connection: got %d %s", status, body)
	}
	if got := c.last(t).Subject.CertProblem; got != "revoked" {
		t.Errorf("recorded as %q", got)
	}
}

// A connection that was made when nobody asked cannot be one that shows a certificate: it ends, and the next one can.
func TestConnectionFromBeforeTheDemandEnds(t *testing.T) {
	c := newCertBed(t)
	front := httptest.NewUnstartedServer(nil)
	front.Config, front.EnableHTTP2 = c.server.HTTPServer(), true
	front.StartTLS()
	defer front.Close()
	client := c.showing(t, "h2", c.people.Issue(t, "ada"))
	var dials int
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		address := front.Listener.Addr().String()
		if dials++; dials > 1 {
			address = c.front.Listener.Addr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	for n, want := range []int{403, 200} {
		if status, _ := answerTo(t, client, c.request(t, "GET", "/", "ada", nil)); status != want {
			t.Errorf("request %d: got %d, want %d", n, status, want)
		}
	}
}

func TestSignInCanDemandACertificate(t *testing.T) {
	c := newCertBed(t)
	next := *c.server.Snapshot()
	next.SignInCertificate = true
	c.server.Swap(&next)
	if !next.AsksForCertificate("Auth.corp.test") || !next.AsksForCertificate(wikiHost) || next.AsksForCertificate("other.corp.test") {
		t.Error("the hosts that ask are others")
	}
	for name, shown := range map[string][]tls.Certificate{"none": nil, "foreign": {clienttest.NewAuthority(t, "people").Issue(t, "x")}, "good": {c.people.Issue(t, "ada")}} {
		client := c.showing(t, "h2", shown...)
		client.Transport.(*http.Transport).TLSClientConfig.ServerName = "auth.corp.test"
		for path, refused := range map[string]bool{"/": true, "/.sallyport/callback/corp": true, jwksPath: false, clientJWKSPath: false} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://auth.corp.test"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.AddCookie(&http.Cookie{Name: "__Host-sallyport", Value: "ada"})
			status, body := answerTo(t, client, r)
			if got := status == 403 && strings.Contains(body, "client_certificate"); got != (refused && name != "good") {
				t.Errorf("%s, %s: got %d %s", name, path, status, body)
			}
		}
	}
}

// The list of apps shows what a certificate would open: it is shown to the app's host, and not to the list's.
func TestAppsThatDemandACertificateAreListed(t *testing.T) {
	c := newCertBed(t)
	client := c.showing(t, "h2")
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = "auth.corp.test"
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://auth.corp.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: "__Host-sallyport", Value: "ada"})
	if status, body := answerTo(t, client, r); status != 200 || strings.Count(body, "https://"+wikiHost+"/") < 4 {
		t.Errorf("got %d %s", status, body)
	}
	c.sessions.put("ada", "guests")
	if _, body := answerTo(t, client, r); strings.Count(body, `href="https://`+wikiHost) != 1 {
		t.Errorf("a guest sees %s", body)
	}
}

func withURI(t *testing.T, text string) clienttest.Change {
	t.Helper()
	r, err := http.NewRequest("GET", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *x509.Certificate) { c.URIs = append(c.URIs, r.URL) }
}
