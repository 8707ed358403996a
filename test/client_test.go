package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/test/harness"
	"sallyport/test/rawhttp"
)

// DOS-12: who may not pass is told so before a byte of the body is read, and the connection ends.
func TestClientWithoutASessionIsAnsweredBeforeItsBody(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	for name, head := range map[string]string{
		"a large body":     "POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 33554432\r\n\r\n",
		"a chunked body":   "POST /upload HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n",
		"an expectation":   "POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
		"more than is due": "POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1099511627776\r\n\r\n",
	} {
		conn := dialRaw(t, s, "wiki")
		if err := conn.Send(strings.ReplaceAll(head, "{host}", hostOf(s, "wiki"))); err != nil {
			t.Fatal(err)
		}
		if got := conn.Receive(http.MethodPost, 10*time.Second); got.Status != http.StatusUnauthorized {
			t.Errorf("%s: got %v", name, got)
		}
		if next := conn.Receive(http.MethodPost, 10*time.Second); next.Status != 0 || next.Ended == "silence" {
			t.Errorf("%s: the connection goes on: %v", name, next)
		}
		conn.Close()
	}
	if seen := s.Origin.Seen(); len(seen) > 0 {
		t.Errorf("the app was asked: %+v", seen)
	}
}

// A 100 Continue is not given before the decision is: to those who may pass it is, and their body arrives.
func TestClientIsToldToContinueAfterTheDecision(t *testing.T) {
	received := make(chan string, 1)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- string(body)
	}))
	defer origin.Close()
	s := harness.New(t, strings.Replace(harness.Apps, "ORIGIN", origin.URL, 1), "")
	s.Start(t)
	conn, cookie := dialRaw(t, s, "wiki"), session(t, s, "wiki", "ada", "staff")
	<-received // the page that the sign-in led to
	defer conn.Close()
	head := "POST /upload HTTP/1.1\r\nHost: " + hostOf(s, "wiki") + "\r\nCookie: " + cookie.String() + "\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
	if err := conn.Send(head + "body"); err != nil {
		t.Fatal(err)
	}
	if got := conn.Receive(http.MethodPost, 10*time.Second); got.Status != http.StatusOK {
		t.Errorf("got %v", got)
	}
	if body := <-received; body != "body" {
		t.Errorf("the app received %q", body)
	}
}

// A body over the app's limit gets 413, declared or not, over both protocols, and never reaches the app whole.
func TestClientWithTooLargeABody(t *testing.T) {
	largest := make(chan int64, 100)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		largest <- n
	}))
	defer origin.Close()
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["`+origin.URL+`"], max_body: 1MiB, access: { groups: [staff] } }
`, "")
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	const limit = 1 << 20
	for _, client := range clients(s) {
		for _, c := range []struct {
			size     int
			declared bool
			want     int
		}{{limit, true, 200}, {limit, false, 200}, {limit + 1, true, 413}, {limit + 1, false, 413}, {8 * limit, true, 413}, {8 * limit, false, 413}} {
			var body io.Reader = bytes.NewReader(make([]byte, c.size))
			if !c.declared {
				body = io.MultiReader(body) // of unknown length
			}
			res, err := client.Do(request(t, http.MethodPost, s.URL("wiki", "/upload"), cookie, body))
			if err != nil { // the answer may be lost to those who send on, but not to those within the limit
				if c.want == 200 {
					t.Errorf("%d bytes: %v", c.size, err)
				}
				continue
			}
			drain(res)
			if res.StatusCode != c.want {
				t.Errorf("%s, %d bytes, declared %v: got %d, want %d", res.Proto, c.size, c.declared, res.StatusCode, c.want)
			}
		}
	}
	for {
		select {
		case n := <-largest:
			if n > limit {
				t.Errorf("the app received %d bytes", n)
			}
		default:
			return
		}
	}
}

// Large bodies pass byte by byte in both directions and over both protocols, HEAD has no body, and bytes are counted.
func TestClientMovesLargeBodies(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", "12345")
			return
		}
		if r.ProtoMajor == 1 {
			http.NewResponseController(w).EnableFullDuplex() // answers while it reads
		}
		io.Copy(w, r.Body)
	}))
	defer origin.Close()
	s := harness.New(t, strings.Replace(harness.Apps, "ORIGIN", origin.URL, 1), "")
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	const size = 12<<20 + 7
	for _, client := range clients(s) {
		sent, received := sha256.New(), sha256.New()
		body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
		res, err := client.Do(request(t, http.MethodPost, s.URL("wiki", "/mirror"), cookie, body))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(received, res.Body)
		res.Body.Close()
		if err != nil || n != size || !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
			t.Errorf("%s: %d bytes came back, %v", res.Proto, n, err)
		}
		id := res.Header.Get("X-Request-Id")
		waitForOutcome(t, s, func(r audit.Record) bool {
			return r.Outcome != nil && r.Outcome.Status == 200 && r.Outcome.BytesIn == size && r.Outcome.BytesOut == size && (id == "" || r.RequestID == id)
		})
		res, err = client.Do(request(t, http.MethodHead, s.URL("wiki", "/mirror"), cookie, nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 || res.ContentLength != 12345 {
			t.Errorf("HEAD: got %d, length %d", res.StatusCode, res.ContentLength)
		}
		res, _ = send(t, client, http.MethodHead, s.URL("payroll", "/"), nil, nil)
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("HEAD by a stranger: got %d", res.StatusCode)
		}
	}
}

// clients speak HTTP/1.1 and HTTP/2.
func clients(s *harness.Stand) []*http.Client {
	modern := s.Transport()
	modern.ForceAttemptHTTP2 = true
	return []*http.Client{
		{Transport: s.Transport(), CheckRedirect: stay, Timeout: 60 * time.Second},
		{Transport: modern, CheckRedirect: stay, Timeout: 60 * time.Second},
	}
}

// One person in two tabs, and the same sign-in opened twice: both end where they began.
func TestClientWithTwoTabs(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	s.Provider.SetPerson(map[string]any{"sub": "ada", "groups": []string{"staff", "finance"}})
	browser := s.Browser()
	browser.CheckRedirect = stay
	tabs := []string{s.URL("wiki", "/one?tab=1"), s.URL("wiki", "/two"), s.URL("payroll", "/three")}
	at := append([]string(nil), tabs...)
	for range 10 { // each tab follows one redirect in turn
		for i := range at {
			res, err := browser.Get(at[i])
			if err != nil {
				t.Fatal(err)
			}
			drain(res)
			if next := res.Header.Get("Location"); res.StatusCode/100 == 3 {
				to, err := res.Request.URL.Parse(next)
				if err != nil {
					t.Fatal(err)
				}
				at[i] = to.String()
			} else if res.StatusCode != http.StatusOK {
				t.Fatalf("tab %d got %d at %s", i, res.StatusCode, at[i])
			}
		}
	}
	for i := range at {
		if at[i] != tabs[i] {
			t.Errorf("tab %d began at %s and ended at %s", i, tabs[i], at[i])
		}
	}
}

// SIDE-02, DBG-01: strangers get one answer, whether what they ask for exists or not, here or inside.
func TestClientLearnsNothingOfWhatExists(t *testing.T) {
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, path: /docs/, upstreams: ["ORIGIN"], access: { groups: [staff] }, max_body: 1KiB }
  - { name: notes, host: wiki.corp.test, path: /notes/, upstreams: ["ORIGIN"] }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], access: [{ paths: ["/reports/"], groups: [audit] }, { groups: [finance], mfa: true }] }
`, "")
	s.Start(t)
	client := &http.Client{Transport: s.Transport(), CheckRedirect: stay}
	reference := regexp.MustCompile(`"reference":"[^"]*"`)
	answers := map[string][]string{}
	for _, c := range []struct{ method, label, path string }{
		{"GET", "wiki", "/docs/page"}, {"GET", "wiki", "/docs"}, {"GET", "wiki", "/notes/page"}, {"GET", "wiki", "/nothing"}, {"GET", "wiki", "/"},
		{"POST", "wiki", "/docs/page"}, {"POST", "wiki", "/nothing"}, {"GET", "payroll", "/reports/"}, {"GET", "payroll", "/"},
		{"GET", "payroll", "/metrics"}, {"GET", "payroll", "/healthz"}, {"GET", "payroll", "/debug/pprof/"}, {"GET", "payroll", "/debug/vars"},
		{"GET", "payroll", "/v1/status"}, {"DELETE", "payroll", "/"},
	} {
		var body io.Reader
		if c.method == "POST" {
			body = strings.NewReader(strings.Repeat("x", 4096))
		}
		res, text := send(t, client, c.method, s.URL(c.label, c.path), nil, body)
		answer := fmt.Sprint(res.StatusCode, " ", reference.ReplaceAllString(text, ""), res.Header.Get("Www-Authenticate"))
		answers[answer] = append(answers[answer], c.method+" "+c.label+c.path)
	}
	if len(answers) != 1 {
		t.Errorf("strangers are told more than one thing: %v", answers)
	}
	if len(s.Origin.Seen()) > 0 {
		t.Errorf("an app was asked: %v", s.Origin.Seen())
	}
}

// COOK-21: plain http leads to https and does nothing else; https asks browsers to stay.
func TestClientOverPlainHTTPIsLedToHTTPS(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	plain := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	edit(t, s, "hsts: 0s", "hsts: 1h\nlisten_http: \""+plain+"\"")
	s.Start(t)
	for _, c := range []struct {
		raw    string
		status int
		to     string
	}{
		{"GET /page?q=1 HTTP/1.1\r\nHost: wiki.corp.test\r\nCookie: __Host-sallyport=x\r\n\r\n", 308, s.URL("wiki", "/page?q=1")},
		{"GET / HTTP/1.1\r\nHost: WIKI.corp.test:80\r\n\r\n", 308, s.URL("wiki", "/")},
		{"GET //evil.example/ HTTP/1.1\r\nHost: wiki.corp.test\r\n\r\n", 308, s.URL("wiki", "//evil.example/")},
		{"GET http://wiki.corp.test/x HTTP/1.1\r\nHost: wiki.corp.test\r\n\r\n", 308, s.URL("wiki", "/")},
		{"HEAD / HTTP/1.1\r\nHost: auth.corp.test\r\n\r\n", 308, s.URL("auth", "/")},
		{"GET http://evil.example/x HTTP/1.1\r\nHost: wiki.corp.test\r\n\r\n", 421, ""},
		{"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, ""},
		{"POST / HTTP/1.1\r\nHost: wiki.corp.test\r\nContent-Length: 0\r\n\r\n", 421, ""},
		{"OPTIONS * HTTP/1.1\r\nHost: wiki.corp.test\r\n\r\n", 421, ""},
		{"CONNECT wiki.corp.test:443 HTTP/1.1\r\nHost: wiki.corp.test:443\r\n\r\n", 421, ""},
	} {
		status, header := askPlain(t, plain, c.raw)
		if status != c.status || header.Get("Location") != c.to {
			t.Errorf("%q got %d to %q, want %d to %q", c.raw, status, header.Get("Location"), c.status, c.to)
		}
		if header.Get("Set-Cookie") != "" || header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%q got a cookie or a promise over plain http: %v", c.raw, header)
		}
	}
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	browser.CheckRedirect = stay
	for _, address := range []string{s.URL("wiki", "/page"), s.URL("wiki", "/a//b"), s.URL("payroll", "/"), s.URL("auth", "/"), s.URL("auth", "/nothing"),
		s.URL("auth", "/.sallyport/start?app=wiki.corp.test"), s.URL("auth", "/.sallyport/jwks.json"), s.URL("wiki", "/.sallyport/signout")} {
		res, err := browser.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		drain(res)
		if got := res.Header.Values("Strict-Transport-Security"); len(got) != 1 || got[0] != "max-age=3600" {
			t.Errorf("%s: Strict-Transport-Security %q", address, got)
		}
	}
}

func askPlain(t *testing.T, address, raw string) (int, http.Header) {
	t.Helper()
	text, err := rawhttp.Dialer{Address: address}.Plain(strings.Replace(raw, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
	if err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(raw, " ")
	res, err := readResponse(text, method)
	if err != nil {
		t.Fatalf("%q was answered %q: %v", raw, text, err)
	}
	return res.StatusCode, res.Header
}

// DOS-16, DOS-22: half-open requests hold nobody up, and clients that leave at any moment leave nothing behind.
func TestClientsThatLeaveLeaveNothingBehind(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	probes := withProbes(t, s)
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	client := &http.Client{Transport: s.Transport()}
	goroutines, files := gauge(t, probes, "go_goroutines"), gauge(t, probes, "process_open_fds")
	head := "GET /events HTTP/1.1\r\nHost: " + hostOf(s, "wiki") + "\r\nCookie: " + cookie.String() + "\r\n\r\n"
	var open []*rawhttp.Conn
	for _, raw := range []string{"", "GET / HT", head[:len(head)-2], head, strings.Replace(head, "GET /events", "POST /page", 1)[:len(head)-4] + "\r\nContent-Length: 100\r\n\r\nhalf"} {
		for range 8 {
			conn := dialRaw(t, s, "wiki")
			if err := conn.Send(raw); err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
	}
	if _, body := send(t, client, http.MethodGet, s.URL("wiki", "/page"), cookie, nil); body != "hello from /page" {
		t.Errorf("beside %d half-open requests: got %q", len(open), body)
	}
	for _, conn := range open {
		conn.Close()
	}
	leave(t, s, cookie, 200)
	client.CloseIdleConnections()
	harness.Eventually(t, 2*time.Minute, "goroutines and files to be given back", func() bool {
		// Connections to the app are kept open for the next request: two goroutines and a file each.
		return gauge(t, probes, "go_goroutines") <= goroutines+40 && gauge(t, probes, "process_open_fds") <= files+20
	})
}

// leave breaks off requests at random moments.
func leave(t *testing.T, s *harness.Stand, cookie *http.Cookie, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seeded(t), 0))
	var group sync.WaitGroup
	all := clients(s)
	for i := range n {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(20_000))*time.Microsecond)
		req := request(t, http.MethodGet, s.URL("wiki", []string{"/events", "/page", "/size?n=10000000", "/a//b"}[i%4]), cookie, nil).WithContext(ctx)
		group.Go(func() {
			defer cancel()
			if res, err := all[i%2].Do(req); err == nil {
				drain(res)
			}
		})
		if i%16 == 15 {
			group.Wait()
		}
	}
	group.Wait()
	for _, client := range all {
		client.CloseIdleConnections()
	}
}

// gauge is a metric's value.
func gauge(t *testing.T, probes, name string) float64 {
	t.Helper()
	_, page := harness.Get(t, http.DefaultClient, probes+"/metrics")
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no metric %s", name)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// AUD-14: after a bit of everything each request has one decision, each allow one outcome, and the counters agree.
func TestClientsAreAllOnRecord(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	probes := withProbes(t, s)
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	leave(t, s, cookie, 80)
	sent := 0
	for _, client := range clients(s) {
		for _, c := range []struct {
			method, label, path string
			cookie              *http.Cookie
		}{
			{"GET", "wiki", "/page", cookie}, {"HEAD", "wiki", "/page", cookie}, {"GET", "wiki", "/page", nil}, {"GET", "wiki", "/a//b", cookie},
			{"GET", "wiki", "/a/../b", nil}, {"TRACE", "wiki", "/", cookie}, {"BREW", "wiki", "/", nil}, {"GET", "payroll", "/", cookie},
			{"GET", "wiki", "/q?x=%zz", cookie}, {"OPTIONS", "wiki", "/", nil}, {"GET", "wiki", "/nothing%00", cookie},
		} {
			send(t, client, c.method, s.URL(c.label, c.path), c.cookie, nil)
			sent++
		}
		client.CloseIdleConnections()
	}
	var list []audit.Record
	harness.Eventually(t, 2*time.Minute, "every allow to have its outcome", func() bool {
		list = records(t, s)
		return count(list, func(r audit.Record) bool { return r.Type == audit.TypeOutcome }) ==
			count(list, func(r audit.Record) bool { return r.Type == audit.TypeDecision && r.Effect == audit.Allow })
	})
	gapless(t, list)
	decided := decisionsByRequest(t, list)
	if len(decided) < sent {
		t.Errorf("%d decisions for at least %d requests", len(decided), sent)
	}
	outcomes := map[string]bool{}
	for _, r := range list {
		if r.Type == audit.TypeOutcome {
			if outcomes[r.Outcome.Of] {
				t.Errorf("the decision %s has two outcomes", r.Outcome.Of)
			}
			outcomes[r.Outcome.Of] = true
		}
	}
	for id, r := range decided {
		if outcomes[r.ID] != (r.Effect == audit.Allow) {
			t.Errorf("request %s: effect %s, outcome %v", id, r.Effect, outcomes[r.ID])
		}
	}
	for _, seen := range s.Origin.Seen() {
		if decided[seen.ID].Effect != audit.Allow {
			t.Errorf("%s reached the app with effect %q", seen.Target, decided[seen.ID].Effect)
		}
	}
	for _, effect := range []audit.Effect{audit.Allow, audit.Deny, audit.Reject} {
		recorded := count(list, func(r audit.Record) bool { return r.Type == audit.TypeDecision && r.Effect == effect })
		if counted := requestsCounted(t, probes, string(effect)); counted != recorded {
			t.Errorf("%s: %d counted, %d recorded", effect, counted, recorded)
		}
	}
	if n := requestsCounted(t, probes, "unrecorded"); n != 0 {
		t.Errorf("%d requests were not recorded", n)
	}
}

func count(list []audit.Record, is func(audit.Record) bool) (n int) {
	for _, r := range list {
		if is(r) {
			n++
		}
	}
	return n
}

// requestsCounted is how many requests the metrics know with an effect, over all apps.
func requestsCounted(t *testing.T, probes, effect string) (n int) {
	t.Helper()
	_, page := harness.Get(t, http.DefaultClient, probes+"/metrics")
	for _, found := range regexp.MustCompile(`sallyport_requests_total\{app="[^"]*",effect="`+effect+`"\} (\d+)`).FindAllStringSubmatch(page, -1) {
		more, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		n += more
	}
	return n
}

// session signs a person in and returns their cookie on a host.
func session(t *testing.T, s *harness.Stand, label, person string, groups ...string) *http.Cookie {
	t.Helper()
	browser := s.Browser()
	if status, body := s.SignIn(t, browser, label, person, groups...); status != http.StatusOK {
		t.Fatalf("sign-in ended with %d: %.2000s", status, body)
	}
	return s.Cookie(t, browser, label)
}

func dialRaw(t *testing.T, s *harness.Stand, label string) *rawhttp.Conn {
	t.Helper()
	conn, err := rawhttp.Dialer{Address: s.Address(), Roots: s.Roots()}.Dial(label + "." + harness.Domain)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// hostOf is what browsers send as Host.
func hostOf(s *harness.Stand, label string) string {
	return net.JoinHostPort(label+"."+harness.Domain, strconv.Itoa(s.Port))
}

func readResponse(text, method string) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(strings.NewReader(text)), &http.Request{Method: method})
}
