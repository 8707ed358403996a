package test

import (
	"bufio"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/test/harness"
)

// hostile is an app that answers with exact bytes, by path.
type hostile struct {
	address string
	asked   sync.Map // path → *atomic.Int64
}

// scripts are what the hostile app does with a connection after it read a request's head.
var scripts = map[string]func(conn net.Conn){
	"/sound":              says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
	"/banner":             says("SSH-2.0-OpenSSH_9.2p1\r\n"),
	"/silent":             says(""),
	"/head":               says("HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 2<<20) + "\r\nContent-Length: 0\r\n\r\n"),
	"/bare-cr":            says("HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n"),
	"/nul":                says("HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 0\r\n\r\n"),
	"/two-lengths":        says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
	"/unasked-switch":     says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
	"/length-and-chunked": says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
	"/two-answers":        says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
	"/early":              flood("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"),
	"/metadata":           says("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n"),
	"/cookies": says("HTTP/1.1 200 OK\r\nSet-Cookie: __Host-sallyport=evil; Path=/; Secure\r\nSet-Cookie: __host-SALLYPORT=evil\r\n" +
		"Set-Cookie: =__Host-sallyport=evil\r\nSet-Cookie: theirs=1\r\nClear-Site-Data: \"cookies\"\r\nContent-Length: 2\r\n\r\nok"),
	"/half":  says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
	"/slow":  func(conn net.Conn) { io.Copy(io.Discard, conn) }, // until the gateway hangs up
	"/reset": func(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) },
}

// says answers and hangs up.
func says(answer string) func(net.Conn) {
	return func(conn net.Conn) { io.WriteString(conn, answer) }
}

// flood repeats an answer for as long as anybody listens.
func flood(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		}
	}
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	h := &hostile{address: listener.Addr().String()}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go h.serve(conn)
		}
	}()
	return h
}

func (h *hostile) serve(conn net.Conn) {
	defer conn.Close()
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	n, _ := h.asked.LoadOrStore(request.URL.Path, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	if script := scripts[request.URL.Path]; script != nil {
		script(conn)
	}
}

func (h *hostile) times(path string) int64 {
	n, ok := h.asked.Load(path)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

// hostileApps are the hostile app and ways to reach none.
const hostileApps = `
  - { name: wiki, host: wiki.corp.test, upstreams: ["http://HOSTILE"], access: { groups: [staff] }, timeouts: { response: 2s } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["http://127.0.0.1:1", "http://127.0.0.1:2"], access: { groups: [staff] } }
`

// RESP-01…13, SMUG-41, COOK-18, SSRF-01, LB-02, LB-04: whatever an app answers, one request gets one answer, errors name
// no address and no cause, nothing is followed or retried, and the next person is served.
func TestHostileApp(t *testing.T) {
	app := newHostile(t)
	s := harness.New(t, strings.ReplaceAll(hostileApps, "HOSTILE", app.address), "")
	s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	cookie := s.Cookie(t, browser, "wiki")
	harness.Get(t, browser, s.URL("payroll", "/"))
	client := &http.Client{Transport: s.Transport(), CheckRedirect: stay}
	for path, want := range map[string]int{
		"/banner": 502, "/silent": 502, "/head": 502, "/bare-cr": 502, "/nul": 502, "/two-lengths": 502, "/unasked-switch": 502, "/reset": 502,
		"/early": 502, "/slow": 504, "/length-and-chunked": 200, "/two-answers": 200, "/metadata": 302, "/cookies": 200,
	} {
		res, body := send(t, client, http.MethodGet, s.URL("wiki", path), cookie, nil)
		if res.StatusCode != want {
			t.Errorf("%s got %d, want %d: %s", path, res.StatusCode, want, body)
		}
		if want >= 500 {
			namesNothing(t, path, res, body, app.address)
		}
		if strings.Contains(body, "poison") {
			t.Errorf("%s got what nobody asked for: %q", path, body)
		}
		if _, body := send(t, client, http.MethodGet, s.URL("wiki", "/sound"), cookie, nil); body != "ok" {
			t.Errorf("after %s the next request got %q", path, body)
		}
		if n := app.times(path); n != 1 {
			t.Errorf("%s reached the app %d times", path, n)
		}
	}
	t.Run("a redirect is the client's to follow", func(t *testing.T) {
		res, _ := send(t, client, http.MethodGet, s.URL("wiki", "/metadata"), cookie, nil)
		if got := res.Header.Get("Location"); got != "http://169.254.169.254/latest/meta-data/" {
			t.Errorf("SSRF-01: Location %q", got)
		}
	})
	t.Run("cookies of our name stay here", func(t *testing.T) {
		res, _ := send(t, client, http.MethodGet, s.URL("wiki", "/cookies"), cookie, nil)
		if got := res.Header.Values("Set-Cookie"); len(got) != 1 || got[0] != "theirs=1; Secure; HttpOnly; SameSite=Lax" || res.Header.Get("Clear-Site-Data") != "" {
			t.Errorf("COOK-18: Set-Cookie %q, Clear-Site-Data %q", got, res.Header.Get("Clear-Site-Data"))
		}
		waitForOutcome(t, s, func(r audit.Record) bool { return r.Code == "upstream_cookie_blocked" })
	})
	t.Run("half an answer is none", func(t *testing.T) {
		req := request(t, http.MethodGet, s.URL("wiki", "/half"), cookie, nil)
		if res, err := client.Do(req); err == nil && drain(res) == nil {
			t.Error("a broken answer ended well")
		}
		waitForOutcome(t, s, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "upstream_broke_off" })
	})
	t.Run("what may have arrived is not sent again", func(t *testing.T) {
		before := app.times("/reset")
		if res, _ := send(t, client, http.MethodPost, s.URL("wiki", "/reset"), cookie, strings.NewReader("once")); res.StatusCode != 502 {
			t.Errorf("LB-02: got %d", res.StatusCode)
		}
		if n := app.times("/reset") - before; n != 1 {
			t.Errorf("LB-02: the app was asked %d times", n)
		}
	})
	t.Run("nobody answers for an app that is away", func(t *testing.T) {
		res, body := send(t, client, http.MethodGet, s.URL("payroll", "/sound"), s.Cookie(t, browser, "payroll"), nil)
		if res.StatusCode != 502 {
			t.Errorf("LB-04: got %d %s", res.StatusCode, body)
		}
		namesNothing(t, "LB-04", res, body, "127.0.0.1:1")
		if _, page := harness.Get(t, browser, s.URL("payroll", "/sound")); strings.Contains(page, "127.0.0.1") || strings.Contains(page, "connection") {
			t.Errorf("LB-04: the page says too much: %.4000s", page)
		}
	})
}

// namesNothing holds an error answer against what it must not tell.
func namesNothing(t *testing.T, path string, res *http.Response, body, address string) {
	t.Helper()
	secrets := []string{address, "127.0.0.1", "SSH-2.0", "connection re", "EOF", "malformed", "timeout awaiting"}
	if _, port, _ := strings.Cut(address, ":"); len(port) > 2 { // shorter ones look like the time in Date
		secrets = append(secrets, ":"+port)
	}
	for _, secret := range secrets {
		if strings.Contains(body, secret) || strings.Contains(fmt.Sprint(res.Header), secret) {
			t.Errorf("%s: the answer tells %q: %s", path, secret, body)
		}
	}
}

func request(t *testing.T, method, address string, cookie *http.Cookie, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	if cookie != nil {
		req.AddCookie(cookie)
	}
	return req
}

// send asks once and reads the whole answer.
func send(t *testing.T, client *http.Client, method, address string, cookie *http.Cookie, body io.Reader) (*http.Response, string) {
	t.Helper()
	res, err := client.Do(request(t, method, address, cookie, body))
	if err != nil {
		t.Fatalf("%s %s: %v", method, address, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("%s %s: reading the answer: %v", method, address, err)
	}
	return res, string(text)
}

// SSRF-04: an app behind TLS is believed only when the configured authority, or the system's, vouches for it.
func TestHostileAppBehindTLS(t *testing.T) {
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "behind TLS") }))
	origin.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that the gateway breaks off
	origin.StartTLS()
	defer origin.Close()
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["`+origin.URL+`"], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["`+origin.URL+`"], upstream_tls: { ca: DIR/app.pem }, access: { groups: [staff] } }
`, "")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: origin.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(s.Dir, "app.pem"), certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	browser := s.Browser()
	if status, _ := s.SignIn(t, browser, "wiki", "ada", "staff"); status != http.StatusBadGateway {
		t.Errorf("an app that nobody vouches for: got %d", status)
	}
	if status, body := harness.Get(t, browser, s.URL("payroll", "/")); status != http.StatusOK || body != "behind TLS" {
		t.Errorf("an app that its authority vouches for: got %d %s", status, body)
	}
}

// SSRF-02: no app lives where clouds keep their secrets, neither by address nor by name.
func TestHostileAddressesAreRefused(t *testing.T) {
	for _, address := range []string{"http://169.254.169.254", "http://[::ffff:169.254.169.254]", "http://[fe80::1]", "http://0.0.0.0:80", "http://[::]",
		"unix:run/x.sock", "unix://host/x.sock", "file:///etc/passwd", "http://user:word@10.0.0.1", "ftp://10.0.0.1"} {
		s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["`+address+`"], access: { groups: [staff] } }
`, "")
		if out, code := s.Sallyport(t, "check"); code != 1 || !strings.Contains(out, "upstream") {
			t.Errorf("%s: check exits with %d: %s", address, code, out)
		}
	}
}

// An app that is slow to read holds nobody else up, and neither does one that never ends.
func TestHostileAppHoldsUpItsOwnOnly(t *testing.T) {
	app := newHostile(t)
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["http://`+app.address+`"], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], access: { groups: [staff] } }
`, "")
	s.Start(t)
	browser := s.Browser()
	s.Provider.SetPerson(map[string]any{"groups": []string{"staff"}})
	harness.Get(t, browser, s.URL("payroll", "/"))
	harness.Get(t, browser, s.URL("wiki", "/sound"))
	cookie := s.Cookie(t, browser, "wiki")
	client := &http.Client{Transport: s.Transport(), Timeout: 30 * time.Second}
	ctx, quit := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 50 {
		req := request(t, http.MethodGet, s.URL("wiki", "/slow"), cookie, nil).WithContext(ctx)
		group.Go(func() {
			if res, err := client.Do(req); err == nil {
				drain(res)
			}
		})
	}
	harness.Eventually(t, 2*time.Minute, "all of them to wait", func() bool { return app.times("/slow") == 50 })
	if status, _ := harness.Get(t, browser, s.URL("payroll", "/")); status != http.StatusOK {
		t.Errorf("another app got %d", status)
	}
	if _, body := send(t, client, http.MethodGet, s.URL("wiki", "/sound"), cookie, nil); body != "ok" {
		t.Errorf("the same app got %q", body)
	}
	quit()
	group.Wait()
}
