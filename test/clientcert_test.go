package test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/certs/clienttest"
	"sallyport/policy"
	"sallyport/test/harness"
)

// The wiki demands a certificate, a part of its host is public and asks for none, payroll is told of one.
const certApps = `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], client_certs: required, access: { groups: [staff] } }
  - { name: open, host: wiki.corp.test, path: /open/, upstreams: ["ORIGIN"], access: { public: true } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], client_certs: optional, access: { groups: [staff] } }
  - { name: public, host: public.corp.test, upstreams: ["ORIGIN"], access: { public: true } }
`

// certStand is an installation whose clients have certificates of people.
type certStand struct {
	*harness.Stand
	people *clienttest.Authority
	later  time.Time
}

// newCertStand has further settings of tls.client_certificates, such as sign_in.
func newCertStand(t *testing.T, more string) *certStand {
	t.Helper()
	c := &certStand{Stand: harness.New(t, certApps, ""), people: clienttest.NewAuthority(t, "people"), later: time.Now().Add(time.Hour)}
	clienttest.Write(t, c.Dir, "people.pem", clienttest.PEM(c.people))
	clienttest.Write(t, c.Dir, "people.crl", c.people.List(t, c.later))
	c.configure(t, more)
	return c
}

func (c *certStand) configure(t *testing.T, more string) {
	t.Helper()
	c.Write(t, certApps)
	text, err := os.ReadFile(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	settings := fmt.Sprintf(`certs/*.pem", client_certificates: { authorities: ["%[1]s/people.pem"], revocation: ["%[1]s/people.crl"], device_from: "urn:device:"%[2]s } }`, c.Dir, more)
	c.WriteRaw(t, strings.Replace(string(text), `certs/*.pem" }`, settings, 1))
}

func (c *certStand) issue(t *testing.T, name string, changes ...clienttest.Change) tls.Certificate {
	t.Helper()
	return c.people.Issue(t, name, append(changes, func(x *x509.Certificate) { x.URIs = append(x.URIs, &url.URL{Scheme: "urn", Opaque: "device:" + name}) })...)
}

// showing is a program that shows a certificate, or none, over connections of its own.
func (c *certStand) showing(protocol string, shown *tls.Certificate) *http.Client {
	transport := c.Transport()
	transport.ForceAttemptHTTP2 = protocol == "h2"
	transport.TLSClientConfig.NextProtos = []string{protocol}
	transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if shown == nil {
			return new(tls.Certificate), nil
		}
		return shown, nil
	}
	return &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// session is the cookie of a person who signed in, showing a certificate where somebody asks.
func (c *certStand) session(t *testing.T, label string, shown *tls.Certificate) *http.Cookie {
	t.Helper()
	browser := c.Browser()
	jar := browser.Jar
	*browser = *c.showing("h2", shown)
	browser.Jar, browser.CheckRedirect = jar, nil
	browser.Transport = pages{browser.Transport}
	if status, body := c.SignIn(t, browser, label, "ada", "staff"); status != http.StatusOK {
		t.Fatalf("signing in: %d %s", status, body)
	}
	return c.Cookie(t, browser, label)
}

type pages struct{ http.RoundTripper }

func (p pages) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "text/html")
	return p.RoundTripper.RoundTrip(r)
}

// said is what programs are told.
func said(t *testing.T, res *http.Response) (code, message string) {
	t.Helper()
	var answer struct{ Error, Message string }
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(body, &answer) // an app's answer is none
	return answer.Error, answer.Message
}

// The whole way: a certificate is a factor, what is wrong with it is said, on record and recomputed.
func TestClientCertificateIsAFactor(t *testing.T) {
	c := newCertStand(t, "")
	c.Start(t)
	ada, server := c.issue(t, "ada"), c.issue(t, "srv", func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	foreign := clienttest.NewAuthority(t, "people").Issue(t, "ada")
	late := c.issue(t, "late", func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) })
	early := c.issue(t, "early", func(x *x509.Certificate) { x.NotBefore = time.Now().Add(time.Minute) })
	cookie := c.session(t, "wiki", &ada)
	for _, protocol := range []string{"http/1.1", "h2"} {
		for name, tt := range map[string]struct {
			shown  *tls.Certificate
			status int
			text   string
		}{
			"good": {&ada, 200, ""}, "none": {nil, 403, "Yours showed none"}, "for servers": {&server, 403, "not made for clients"},
			"of a namesake": {&foreign, 403, "not issued for this gateway"}, "expired": {&late, 403, "has expired"}, "not yet valid": {&early, 403, "not valid yet"},
		} {
			client := c.showing(protocol, tt.shown)
			res, err := client.Do(request(t, "GET", c.URL("wiki", "/page"), cookie, nil))
			if err != nil {
				t.Fatalf("%s, %s: %v", protocol, name, err)
			}
			status := res.StatusCode
			if code, message := said(t, res); status != tt.status || !strings.Contains(message, tt.text) || (status == 403) != (code == "client_certificate") {
				t.Errorf("%s, %s: got %d %s: %s", protocol, name, status, code, message)
			}
			res, err = client.Do(request(t, "GET", c.URL("wiki", "/open/"), nil, nil))
			if err != nil || res.StatusCode != 200 {
				t.Errorf("%s, %s: the public part of the host: %v %v", protocol, name, res, err)
			} else {
				drain(res)
			}
		}
		if res, err := c.showing(protocol, &ada).Do(request(t, "GET", c.URL("wiki", "/page"), nil, nil)); err != nil || res.StatusCode != 401 {
			t.Errorf("%s: a certificate alone: %v %v", protocol, res, err)
		}
	}
	recomputeAll(t, c.Stand, 1)
	problems := map[string]int{}
	for _, in := range inputs(t, c.Stand) {
		if in.Resource.ID == "open" && (in.Subject.Cert != nil || in.Subject.CertProblem != "") {
			t.Errorf("an app that does not ask is told %+v", in.Subject)
		}
		problems[in.Subject.CertProblem]++
		if s := in.Subject; s.Cert != nil && (s.Device == nil || s.Device.ID != "ada" || s.Cert.Issuer != "CN=people,O=Corp") {
			t.Errorf("recorded as %+v, %+v", s.Cert, s.Device)
		}
	}
	for _, problem := range []string{"not_for_clients", "unknown_authority", "expired", "not_yet_valid"} {
		if problems[problem] != 2 {
			t.Errorf("%s is on record %d times", problem, problems[problem])
		}
	}
}

// inputs are those of all decisions on record.
func inputs(t *testing.T, s *harness.Stand) (list []*policy.Input) {
	t.Helper()
	for _, r := range records(t, s) {
		if r.Type == audit.TypeDecision && len(r.Input) > 0 {
			in, err := policy.ParseInput(r.Input)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, in)
		}
	}
	return list
}

// Only hosts that ask get to see one, and know the names of the authorities; no other says anything of them.
func TestOnlyHostsThatAskAreShownCertificates(t *testing.T) {
	c := newCertStand(t, "")
	c.Start(t)
	for host, asks := range map[string]bool{"wiki": true, "payroll": true, "public": false, "auth": false} {
		asked := false
		conn, err := tls.Dial("tcp", c.Address(), &tls.Config{ServerName: host + ".corp.test", RootCAs: c.Roots(), GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			if len(info.AcceptableCAs) != 1 || string(info.AcceptableCAs[0]) != string(c.people.Certificate.RawSubject) {
				t.Errorf("%s: told the authorities %q", host, info.AcceptableCAs)
			}
			return new(tls.Certificate), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if asked != asks {
			t.Errorf("%s: asked: %v, want %v", host, asked, asks)
		}
	}
}

// A connection of one host serves no other, so nobody reaches an app that demands a certificate over one that was not asked
// for any (HOST-14); nor by a session that is resumed, there or elsewhere: such a host resumes none.
func TestNoConnectionPassesForAnother(t *testing.T) {
	c := newCertStand(t, "")
	c.Start(t)
	ada := c.issue(t, "ada")
	cookie := c.session(t, "wiki", &ada)
	cache := tls.NewLRUClientSessionCache(8)
	ask := func(sni, host string, shown *tls.Certificate) (status int, resumed bool) {
		t.Helper()
		config := &tls.Config{ServerName: sni + ".corp.test", RootCAs: c.Roots(), ClientSessionCache: oneSession{cache}, NextProtos: []string{"http/1.1"}}
		if shown != nil {
			config.Certificates = []tls.Certificate{*shown}
		}
		conn, err := tls.Dial("tcp", c.Address(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /page HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", hostOf(c.Stand, host), cookie)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		drain(res)
		return res.StatusCode, conn.ConnectionState().DidResume
	}
	for n, step := range []struct {
		sni, host string
		shown     *tls.Certificate
		status    int
		resumed   bool
	}{
		{"public", "public", nil, 200, false},
		{"public", "public", nil, 200, true},  // a ticket is kept
		{"wiki", "wiki", nil, 403, false},     // and does not count here
		{"wiki", "wiki", &ada, 200, false},    // nor stands in the way
		{"wiki", "wiki", nil, 403, false},     // what was shown then is not shown now
		{"public", "wiki", &ada, 421, true},   // the name that was connected to is another
		{"wiki", "public", &ada, 421, false},  // and so is this one
		{"payroll", "wiki", &ada, 421, false}, // although it asks, too
		{"public", "public", &ada, 200, true}, // whatever the client has
	} {
		status, resumed := ask(step.sni, step.host, step.shown)
		if status != step.status || resumed && !step.resumed {
			t.Errorf("step %d, %+v: got %d, resumed %v", n, step, status, resumed)
		}
	}
}

// oneSession offers the ticket of any host to every host.
type oneSession struct{ tls.ClientSessionCache }

func (o oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.ClientSessionCache.Get("x") }
func (o oneSession) Put(_ string, session *tls.ClientSessionState) {
	o.ClientSessionCache.Put("x", session)
}

// A certificate that is revoked ends what it had opened, and is refused on connections that stand.
func TestRevokedClientCertificateIsOut(t *testing.T) {
	c := newCertStand(t, "")
	gw := c.Start(t)
	eve := c.issue(t, "eve")
	cookie := c.session(t, "wiki", &eve)
	ada := c.issue(t, "ada")
	client, other := c.showing("h2", &eve), c.showing("h2", &ada)
	client.Timeout, other.Timeout = 0, 0
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stream, stays := c.events(ctx, t, client, cookie), c.events(ctx, t, other, cookie)
	clienttest.Write(t, c.Dir, "people.crl", c.people.List(t, c.later, eve.Leaf))
	if _, err := io.Copy(io.Discard, stream); ctx.Err() != nil {
		t.Fatalf("the stream goes on (%v)\n%s", err, gw.Output())
	}
	harness.Eventually(t, time.Minute, "the other stream to be decided again", func() bool {
		for _, r := range records(t, c.Stand) {
			if r.Type == audit.TypeReevaluated && r.Effect == audit.Allow {
				return true
			}
		}
		return false
	})
	if _, err := io.ReadFull(stays, make([]byte, 1<<10)); err != nil {
		t.Errorf("what another certificate opened ended too: %v", err)
	}
	res, err := client.Do(request(t, "GET", c.URL("wiki", "/page"), cookie, nil))
	if err != nil {
		t.Fatal(err)
	}
	if code, message := said(t, res); code != "client_certificate" || !strings.Contains(message, "revoked") {
		t.Errorf("got %s: %s", code, message)
	}
	harness.Eventually(t, time.Minute, "the end of the stream to be on record", func() bool {
		for _, r := range records(t, c.Stand) {
			if r.Type == audit.TypeOutcome && r.Outcome.Error == "policy_changed" {
				return true
			}
		}
		return false
	})
	if out, code := c.Sallyport(t, "status"); code != 0 || !strings.Contains(out, "CN=people,O=Corp") {
		t.Errorf("status: %d %s", code, out)
	}
	recomputeAll(t, c.Stand, 1)
}

// events is an open stream of the wiki from which something has come.
func (c *certStand) events(ctx context.Context, t *testing.T, client *http.Client, cookie *http.Cookie) io.Reader {
	t.Helper()
	res, err := client.Do(request(t, "GET", c.URL("wiki", "/events"), cookie, nil).WithContext(ctx))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", res, err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if _, err := res.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return res.Body
}

// TLS-08: a file of authorities or revocation that is missing, unreadable, empty or expired keeps the gateway from
// starting; a running one keeps what it had, still demands certificates, and the failure is on record.
func TestTLS08ClientAuthoritiesFailClosed(t *testing.T) {
	c := newCertStand(t, "")
	ca, crl := filepath.Join(c.Dir, "people.pem"), filepath.Join(c.Dir, "people.crl")
	good := map[string][]byte{ca: clienttest.PEM(c.people), crl: c.people.List(t, c.later)}
	put := func(t *testing.T) {
		t.Helper()
		for path, content := range good {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			clienttest.Write(t, c.Dir, filepath.Base(path), content)
		}
	}
	bad := map[string]func(t *testing.T, path string){
		"missing": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"unreadable": func(t *testing.T, path string) { // for root too
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		},
		"empty":   func(t *testing.T, path string) { clienttest.Write(t, c.Dir, filepath.Base(path), nil) },
		"not one": func(t *testing.T, path string) { clienttest.Write(t, c.Dir, filepath.Base(path), []byte("people\n")) },
		"expired": func(t *testing.T, path string) {
			gone := func(x *x509.Certificate) {
				x.NotBefore, x.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			}
			content := clienttest.PEM(clienttest.NewAuthority(t, "people", gone))
			if path == crl {
				content = c.people.ListOf(t, &x509.RevocationList{ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: time.Now().Add(-time.Hour)})
			}
			clienttest.Write(t, c.Dir, filepath.Base(path), content)
		},
	}
	binary := filepath.Join(harness.Binaries(t), "sallyport")
	for name, spoil := range bad {
		for path := range good {
			put(t)
			spoil(t, path)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			out, err := exec.CommandContext(ctx, binary, "run", "--config", c.Config).CombinedOutput()
			cancel()
			if err == nil || ctx.Err() == context.DeadlineExceeded || !strings.Contains(string(out), path) {
				t.Errorf("%s, %s: started, or does not say why not: %v\n%s", filepath.Base(path), name, err, out)
			}
			if out, code := c.Sallyport(t, "check"); code == 0 || !strings.Contains(out, path) {
				t.Errorf("%s, %s: check says %d %s", filepath.Base(path), name, code, out)
			}
		}
	}
	put(t)
	gw := c.Start(t)
	ada := c.issue(t, "ada")
	cookie := c.session(t, "wiki", &ada)
	refused := 0
	for name, spoil := range bad {
		for path := range good {
			spoil(t, path)
			refused++
			gw.Signal(syscall.SIGHUP) // the watch may be quicker
			harness.Eventually(t, time.Minute, "the refusal to be on record", func() bool { return refusals(t, c.Stand, path) > 0 })
			for shown, want := range map[*tls.Certificate]int{&ada: 200, nil: 403} {
				res, err := c.showing("http/1.1", shown).Do(request(t, "GET", c.URL("wiki", "/page"), cookie, nil))
				if err != nil {
					t.Fatal(err)
				}
				if drain(res); res.StatusCode != want {
					t.Errorf("%s, %s: got %d, want %d", filepath.Base(path), name, res.StatusCode, want)
				}
			}
			put(t)
		}
	}
}

// refusals is how many refused configurations are on record for a file.
func refusals(t *testing.T, s *harness.Stand, path string) (n int) {
	t.Helper()
	for _, r := range readLog(t, s, audit.ControlLog, audit.Filter{}) {
		if r.Code == "config_refused" && strings.Contains(string(r.Detail), path) {
			n++
		}
	}
	return n
}

// Where the sign-in demands a certificate nobody signs in without one, and the keys that apps fetch stay open.
func TestSignInDemandsACertificate(t *testing.T) {
	c := newCertStand(t, ", sign_in: true")
	c.Start(t)
	ada := c.issue(t, "ada")
	c.session(t, "payroll", &ada)
	for path, want := range map[string]int{"/": 403, "/.sallyport/callback/corp": 403, "/.sallyport/jwks.json": 200, "/.sallyport/client.jwks.json": 200} {
		res, err := c.showing("h2", nil).Do(request(t, "GET", c.URL("auth", path), nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		if drain(res); res.StatusCode != want {
			t.Errorf("%s: got %d, want %d", path, res.StatusCode, want)
		}
	}
}
