package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/test/harness"
)

// appCertificate is what an app behind TLS shows, self-signed.
type appCertificate struct {
	pair tls.Certificate
	file string
}

func newAppCertificate(t *testing.T) appCertificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"app.internal"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := appCertificate{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, filepath.Join(t.TempDir(), "app.pem")}
	if err := os.WriteFile(c.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// leg is a way to an app.
type leg struct {
	name     string
	start    func(t *testing.T, handler http.Handler) (address string)
	settings string // of the app, beside its address
	proto    string // what the app sees
}

func legs(t *testing.T) []leg {
	certificate := newAppCertificate(t)
	plain := func(protocols func(*http.Protocols)) func(*testing.T, http.Handler) string {
		return func(t *testing.T, handler http.Handler) string {
			return "http://" + serveOn(t, "tcp", "127.0.0.1:0", handler, protocols, nil)
		}
	}
	secure := func(protocols func(*http.Protocols)) func(*testing.T, http.Handler) string {
		return func(t *testing.T, handler http.Handler) string {
			return "https://" + serveOn(t, "tcp", "127.0.0.1:0", handler, protocols, &certificate.pair)
		}
	}
	http1 := func(p *http.Protocols) { p.SetHTTP1(true) }
	trusted := ", upstream_tls: { ca: " + certificate.file + " }"
	return []leg{
		{"HTTP/1.1", plain(http1), "", "HTTP/1.1"},
		{"HTTP/1.1 said so", plain(http1), ", upstream_protocol: http1", "HTTP/1.1"},
		{"HTTP/1.1 over TLS", secure(http1), trusted, "HTTP/1.1"},
		{"h2c", plain(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }), ", upstream_protocol: h2c", "HTTP/2.0"},
		{"h2", secure(func(p *http.Protocols) { p.SetHTTP2(true) }), ", upstream_protocol: h2" + trusted, "HTTP/2.0"},
		{"unix", func(t *testing.T, handler http.Handler) string {
			dir, err := os.MkdirTemp("", "app-") // the path of a socket must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			return "unix:" + serveOn(t, "unix", filepath.Join(dir, "s"), handler, http1, nil)
		}, "", "HTTP/1.1"},
	}
}

// serveOn starts an app for the length of the test and returns its address.
func serveOn(t *testing.T, network, address string, handler http.Handler, protocols func(*http.Protocols), pair *tls.Certificate) string {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	protocols(server.Protocols)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if pair != nil {
			server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*pair}}
			server.ServeTLS(listener, "", "")
			return
		}
		server.Serve(listener)
	}()
	t.Cleanup(func() { server.Close(); <-served })
	return listener.Addr().String()
}

// Over each leg an app gets what it was sent and the client what the app says: method, path and query to the letter, a
// body either way, who is asking, status, fields, trailers, and a HEAD without a body.
func TestUpstreamLegsCarryTheSame(t *testing.T) {
	for _, l := range legs(t) {
		t.Run(l.name, func(t *testing.T) {
			var protos sync.Map
			address := l.start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				protos.Store(r.Proto, true)
				if r.URL.Path == "/" {
					return
				}
				sum := sha256.New()
				n, err := io.Copy(sum, r.Body)
				if err != nil {
					t.Errorf("reading the body: %v", err)
				}
				w.Header().Set("Trailer", "X-Sum")
				w.Header().Set("X-Saw", fmt.Sprintf("%s %s %s %d %v", r.Method, r.RequestURI, r.Host, n, r.Header.Get("X-Sallyport-User") != ""))
				w.WriteHeader(http.StatusTeapot)
				io.CopyN(w, io.MultiReader(strings.NewReader("the answer "), rest{}), 300_000)
				w.Header().Set("X-Sum", hex.EncodeToString(sum.Sum(nil)))
			}))
			s := harness.New(t, fmt.Sprintf(`
  - { name: wiki, host: wiki.corp.test, upstreams: ["%s"]%s, access: { groups: [staff] } }
`, address, l.settings), "")
			s.Start(t)
			cookie := session(t, s, "wiki", "ada", "staff")
			for _, client := range clients(s) {
				for _, body := range []string{"", "short", strings.Repeat("long ", 200_000)} {
					checkLeg(t, s, client, cookie, body)
				}
				res, text := send(t, client, http.MethodHead, s.URL("wiki", "/a%20b"), cookie, nil)
				if res.StatusCode != http.StatusTeapot || text != "" {
					t.Errorf("HEAD: got %d and %d bytes", res.StatusCode, len(text))
				}
			}
			protos.Range(func(proto, _ any) bool {
				if proto != l.proto {
					t.Errorf("the app was spoken to in %v, want %s", proto, l.proto)
				}
				return true
			})
		})
	}
}

// rest is an endless answer.
type rest struct{}

func (rest) Read(p []byte) (int, error) { return copy(p, "and so on "), nil }

func checkLeg(t *testing.T, s *harness.Stand, client *http.Client, cookie *http.Cookie, body string) {
	t.Helper()
	method, reader := http.MethodPut, io.Reader(strings.NewReader(body))
	if body == "" {
		method, reader = http.MethodGet, nil
	}
	res, err := client.Do(request(t, method, s.URL("wiki", "/a%20b/c?q=1&q=%2F"), cookie, reader))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || len(text) != 300_000 || !bytes.HasPrefix(text, []byte("the answer and so on and so")) {
		t.Errorf("%s: %d bytes came back, %v", res.Proto, len(text), err)
	}
	want := fmt.Sprintf("%s /a%%20b/c?q=1&q=%%2F %s %d true", method, hostOf(s, "wiki"), len(body))
	if got := res.Header.Get("X-Saw"); res.StatusCode != http.StatusTeapot || got != want {
		t.Errorf("%s: got %d, the app saw %q, want %q", res.Proto, res.StatusCode, got, want)
	}
	if sum := sha256.Sum256([]byte(body)); res.Trailer.Get("X-Sum") != hex.EncodeToString(sum[:]) {
		t.Errorf("%s: trailer %v after a body of %d bytes", res.Proto, res.Trailer, len(body))
	}
}

// An app over HTTP/2 has its answers broken off, its streams reset and its connection closed: each is an error of the one
// request it happens to, and the next is served.
func TestUpstreamOverHTTP2ThatBreaksOff(t *testing.T) {
	var asked atomic.Int64
	address := serveOn(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/half":
			w.Write(bytes.Repeat([]byte("x"), 100_000))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/reset":
			asked.Add(1)
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "sound")
	}), func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, nil)
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["http://`+address+`"], upstream_protocol: h2c, access: { groups: [staff] } }
`, "")
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	for _, client := range clients(s) {
		if res, err := client.Do(request(t, http.MethodGet, s.URL("wiki", "/half"), cookie, nil)); err == nil && drain(res) == nil {
			t.Errorf("%s: half an answer ended well", res.Proto)
		}
		before := asked.Load()
		if res, _ := send(t, client, http.MethodPost, s.URL("wiki", "/reset"), cookie, strings.NewReader("once")); res.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: a reset stream got %d", res.Proto, res.StatusCode)
		}
		if n := asked.Load() - before; n != 1 {
			t.Errorf("LB-02: a POST was asked %d times", n)
		}
		if _, body := send(t, client, http.MethodGet, s.URL("wiki", "/sound"), cookie, nil); body != "sound" {
			t.Errorf("the next request got %q", body)
		}
	}
}

// SSRF-04: TLS to apps is verified unless the operator says otherwise, by the name that is configured.
func TestUpstreamTLSIsVerified(t *testing.T) {
	certificate := newAppCertificate(t)
	address := serveOn(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "for "+r.TLS.ServerName)
	}), func(p *http.Protocols) { p.SetHTTP1(true) }, &certificate.pair)
	other := newAppCertificate(t)
	for settings, want := range map[string]struct {
		status int
		body   string
	}{
		"":                                 {502, ""},
		"{ ca: " + other.file + " }":       {502, ""},
		"{ ca: " + certificate.file + " }": {200, "for "},
		"{ ca: " + certificate.file + ", server_name: app.internal }":   {200, "for app.internal"},
		"{ ca: " + certificate.file + ", server_name: other.internal }": {502, ""},
		"{ insecure_skip_verify: true }":                                {200, "for "},
	} {
		app := `
  - { name: wiki, host: wiki.corp.test, upstreams: ["https://` + address + `"], access: { groups: [staff] }`
		if settings != "" {
			app += ", upstream_tls: " + settings
		}
		s := harness.New(t, app+" }\n", "")
		s.Start(t)
		status, body := s.SignIn(t, s.Browser(), "wiki", "ada", "staff")
		if status != want.status || want.body != "" && body != want.body {
			t.Errorf("%s: got %d %.40q, want %d %q", settings, status, body, want.status, want.body)
		}
	}
}

// A WebSocket passes to an app that is spoken to over HTTP/2 otherwise, and through TLS.
func TestUpstreamLegsCarryWebSockets(t *testing.T) {
	for _, l := range legs(t) {
		if strings.HasPrefix(l.name, "h2") {
			continue // such an app has no HTTP/1.1 in this test
		}
		t.Run(l.name, func(t *testing.T) {
			origin := harness.NewOrigin(t)
			s := harness.New(t, fmt.Sprintf(`
  - { name: wiki, host: wiki.corp.test, upstreams: ["%s"]%s, access: { groups: [staff] } }
`, l.start(t, origin.Handler()), l.settings), "")
			s.Start(t)
			browser := s.Browser()
			s.SignIn(t, browser, "wiki", "ada", "staff")
			conn := dialEcho(t, s, browser)
			for i := range 50 {
				if want := strings.Repeat("x", i*300); echo(t, conn, want) != want {
					t.Fatalf("message %d is another", i)
				}
			}
		})
	}
}
