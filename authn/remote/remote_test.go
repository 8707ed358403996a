package remote

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestOnlyEndpointsThatBelongToTheOtherPartyAreCalled(t *testing.T) {
	for _, tc := range []struct {
		base, endpoint string
		want           bool
	}{
		{"https://login.example", "https://login.example/token", true},
		{"https://login.example", "https://keys.elsewhere.example/jwks", true}, // Google's are
		{"https://login.example", "https://10.1.2.3/token", true},
		{"https://login.example", "http://login.example/token", false},
		{"https://login.example", "https://localhost/token", false},
		{"https://login.example", "https://127.0.0.1:8443/token", false},
		{"https://login.example", "https://[::1]/token", false},
		{"https://login.example", "https://[::ffff:127.0.0.1]/token", false},
		{"https://login.example", "https://169.254.169.254/latest", false},
		{"https://login.example", "https://[fe80::1]/", false},
		{"https://login.example", "https://0.0.0.0/", false},
		{"https://login.example", "https://user@login.example/", false},
		{"https://login.example", "https://login.example/#x", false},
		{"https://login.example", "https:login.example", false},
		{"https://login.example", "//login.example/", false},
		{"https://login.example", "javascript:alert(1)", false},
		{"https://login.example", "file:///etc/passwd", false},
		{"https://login.example", "", false},
		{"http://localhost:8000", "http://localhost:8000/token", true},
		{"http://localhost:8000", "http://127.0.0.1:9/token", true},
		{"http://localhost:8000", "http://login.example/token", false},
		{"https://localhost:8000", "http://localhost:8000/token", false},
	} {
		base, err := ParseBase(tc.base)
		if err != nil {
			t.Fatal(err)
		}
		if got := AllowedEndpoint(tc.endpoint, base); got != tc.want {
			t.Errorf("%s of %s: got %v, want %v", tc.endpoint, tc.base, got, tc.want)
		}
	}
}

// The mutant of every row is http.DefaultClient, which takes the answer.
func TestAnswersThatWereNotAskedForAreRefused(t *testing.T) {
	var reached atomic.Int32
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer trap.Close()
	for name, tc := range map[string]struct {
		serve       http.HandlerFunc
		unreachable bool
		mutant      bool // takes it
	}{
		"busy":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, true, true},
		"rate limit": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, true, true},
		"encoded": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			io.WriteString(w, "x")
		}, false, true},
		"announced": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2000000")
			w.Write(make([]byte, 2_000_000))
		}, false, true},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			for range 40 {
				w.Write(bytes.Repeat([]byte("x"), 50_000))
			}
		}, false, true},
		"stalls": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, true, false},
		"cut":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tc.serve)
			defer server.Close()
			client := clientOf(t, server.URL)
			if tc.unreachable && !tc.mutant {
				client.Timeout = time.Second
			}
			err := read(client, server.URL)
			if err == nil || Unreachable(err) != tc.unreachable {
				t.Errorf("got %v, unreachable %v; want an error, unreachable %v", err, Unreachable(err), tc.unreachable)
			}
			if tc.mutant {
				if err := read(http.DefaultClient, server.URL); err != nil {
					t.Errorf("the mutant: %v", err)
				}
			}
		})
	}
	t.Run("redirect", func(t *testing.T) {
		server := httptest.NewServer(http.RedirectHandler(trap.URL, http.StatusTemporaryRedirect))
		defer server.Close()
		resp, err := clientOf(t, server.URL).Get(server.URL)
		if err != nil || resp.StatusCode != http.StatusTemporaryRedirect || reached.Load() != 0 {
			t.Errorf("got %v, %v, %d calls elsewhere; want the redirect itself", resp, err, reached.Load())
		}
		resp.Body.Close()
		if err := read(http.DefaultClient, server.URL); err != nil || reached.Load() != 1 {
			t.Errorf("the mutant: %v, %d calls elsewhere", err, reached.Load())
		}
	})
}

func clientOf(t *testing.T, raw string) *http.Client {
	t.Helper()
	base, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(Config{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func read(c *http.Client, at string) error {
	resp, err := c.Get(at)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	return err
}

func TestPostIsNeverRedirected(t *testing.T) {
	var posts atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		http.Redirect(w, r, "/again", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	resp, err := clientOf(t, server.URL).Post(server.URL, "text/plain", strings.NewReader("code"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if posts.Load() != 1 {
		t.Errorf("%d posts, want 1", posts.Load())
	}
}

func TestErrorNamesWhatWasWrong(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer server.Close()
	err := read(clientOf(t, server.URL), server.URL)
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.Kind != Busy || refused.Status != http.StatusBadGateway {
		t.Errorf("got %v, want busy with 502", err)
	}
}
