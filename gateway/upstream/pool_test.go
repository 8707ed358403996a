package upstream

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func pool(t *testing.T, addresses ...string) *Pool {
	t.Helper()
	return poolOf(t, config(t, addresses...))
}

// config is the default configuration with round robin, which spreads requests as can be told beforehand.
func config(t *testing.T, addresses ...string) Config {
	t.Helper()
	cfg := Defaults()
	cfg.Balance.Method = MethodRoundRobin
	cfg.Timeouts.Response = 5 * time.Second
	for _, text := range addresses {
		a := Address{Weight: 1}
		if err := a.URL.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		cfg.Addresses = append(cfg.Addresses, a)
	}
	return cfg
}

func poolOf(t *testing.T, cfg Config) *Pool {
	t.Helper()
	p, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func send(t *testing.T, p *Pool, method, body string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "wiki.corp.example"
	if body != "" {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	return p.RoundTrip(req)
}

// closedPort is an address on which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestRequestsGoRoundTheAddresses(t *testing.T) {
	var hits [3]atomic.Int64
	var addresses []string
	for i := range hits {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits[i].Add(1) }))
		defer s.Close()
		addresses = append(addresses, s.URL)
	}
	p := pool(t, addresses...)
	for range 30 {
		res, err := send(t, p, "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	for i := range hits {
		if got := hits[i].Load(); got != 10 {
			t.Errorf("address %d got %d of 30 requests, want 10", i, got)
		}
	}
}

func TestUnreachableAddressIsHiddenAlsoFromPosts(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer s.Close()
	p := pool(t, closedPort(t), s.URL)
	for range 10 {
		res, err := send(t, p, "POST", "kept whole")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(got) != "kept whole" {
			t.Fatalf("the app read %q", got)
		}
	}
	state := p.Endpoints()
	if state[0].InService || !state[1].InService {
		t.Errorf("got %+v, want the first out of service", state)
	}
	if state[0].Requests > 2 {
		t.Errorf("an unreachable address was tried %d times in a row", state[0].Requests)
	}
}

// LB-02: a request that an app may have seen is not sent twice.
func TestPostIsNotRepeatedAfterReset(t *testing.T) {
	var seen atomic.Int64
	reset := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		io.ReadAll(r.Body)
		conn, _, _ := http.NewResponseController(w).Hijack()
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}))
	defer reset.Close()
	p := pool(t, reset.URL, reset.URL)
	if res, err := send(t, p, "POST", "once"); err == nil {
		res.Body.Close()
		t.Fatal("a reset connection gave an answer")
	}
	if got := seen.Load(); got != 1 {
		t.Errorf("the app saw %d requests, want 1", got)
	}
}

// LB-04: with every address down there is an error, never somebody else's app.
func TestAllAddressesDownIsAnError(t *testing.T) {
	p := pool(t, closedPort(t), closedPort(t))
	for range 3 {
		if res, err := send(t, p, "GET", ""); err == nil {
			res.Body.Close()
			t.Fatal("got an answer from nowhere")
		}
	}
}

// SSRF-01: redirects are the client's to follow.
func TestRedirectIsPassedOn(t *testing.T) {
	s := httptest.NewServer(http.RedirectHandler("http://169.254.169.254/latest/meta-data/", http.StatusFound))
	defer s.Close()
	res, err := send(t, pool(t, s.URL), "GET", "")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusFound {
		t.Errorf("got status %d, want 302", res.StatusCode)
	}
}

// SSRF-04: an app's certificate is verified; a CA file is the way to trust a private one.
func TestUpstreamCertificatesAreVerified(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	s.Config.ErrorLog = nil
	if res, err := send(t, pool(t, s.URL), "GET", ""); err == nil {
		res.Body.Close()
		t.Fatal("a self-signed certificate was accepted")
	}
	if _, err := New(Config{Addresses: []Address{{}}, TLS: TLS{CA: t.TempDir() + "/missing.pem"}}, nil); err == nil {
		t.Error("a missing CA file was accepted")
	}
}

// RESP-10: the head of an answer is bounded.
func TestHugeResponseHeadIsAnError(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 2048 {
			w.Header().Add("X-Long", fmt.Sprintf("%d-%s", i, strings.Repeat("x", 1000)))
		}
	}))
	defer s.Close()
	if res, err := send(t, pool(t, s.URL), "GET", ""); err == nil {
		res.Body.Close()
		t.Error("a 2 MiB head was accepted")
	}
}

func TestHostHeaderIsThePublicOneUnlessAskedOtherwise(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	defer s.Close()
	p := pool(t, s.URL)
	for want, upstream := range map[string]bool{"wiki.corp.example": false, strings.TrimPrefix(s.URL, "http://"): true} {
		p.cfg.HostUpstream = upstream
		res, err := send(t, p, "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(got) != want {
			t.Errorf("host_header upstream=%v: the app saw %q, want %q", upstream, got, want)
		}
	}
}
