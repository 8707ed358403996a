package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// maxAnswer bounds what the authority may answer; a chain has a few kilobytes.
	maxAnswer = 1 << 20
	// askTime is how long one request to the authority may take.
	askTime = 30 * time.Second
	// maxRetryAfter bounds how long the authority may have us wait.
	maxRetryAfter = 7 * 24 * time.Hour
)

// newHTTP returns a client that asks the directory's host and nobody else.
func newHTTP(cfg *Config) (*http.Client, error) {
	directory, err := cfg.directory()
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	roots, err := rootsWith(cfg.CA)
	if err != nil {
		return nil, err
	}
	base := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           8,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
	return &http.Client{Transport: &bounded{base, directory}, Timeout: askTime}, nil
}

// rootsWith are the system's authorities and those of a file; nil stands for the system's alone.
func rootsWith(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading ca: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's authorities: %w", err)
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca: %s holds no certificate in PEM", file)
	}
	return roots, nil
}

// bounded holds an authority to its own host and to answers of reasonable size. An authority names the address of
// everything but its directory, redirects included: what it names must not lead us into the network that we guard.
type bounded struct {
	base      http.RoundTripper
	directory *url.URL
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != b.directory.Scheme || r.URL.Host != b.directory.Host {
		return nil, fmt.Errorf("the authority leads to %q, which is not on the host of its directory", r.URL.Redacted())
	}
	res, err := b.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	noteRetryAfter(r.Context(), res)
	res.Body = &limited{res.Body, maxAnswer}
	return res, nil
}

// limited fails after so many bytes instead of pretending that the answer ends there.
type limited struct {
	io.ReadCloser
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if len(p) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.ReadCloser.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, errors.New("the authority's answer is too large")
	}
	return n, err
}

// hints are what the authority said beside its answers while an attempt was under way.
type hints struct {
	mu    sync.Mutex
	after time.Duration // of the last refusal
}

type hintsKey struct{}

func withHints(ctx context.Context) (context.Context, *hints) {
	h := &hints{}
	return context.WithValue(ctx, hintsKey{}, h), h
}

func (h *hints) retryAfter() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.after
}

// noteRetryAfter keeps what a refusal says about when to come back, and puts what all answers say into bounds: acmez
// polls at once when the time has passed, and gives up when it cannot read it.
func noteRetryAfter(ctx context.Context, res *http.Response) {
	text := res.Header.Get("Retry-After")
	if text == "" {
		return
	}
	after, ok := parseRetryAfter(text, time.Now())
	if !ok {
		res.Header.Del("Retry-After")
		return
	}
	res.Header.Set("Retry-After", strconv.Itoa(int(after/time.Second)))
	if h, ok := ctx.Value(hintsKey{}).(*hints); ok && res.StatusCode >= 400 {
		h.mu.Lock()
		h.after = after
		h.mu.Unlock()
	}
}

// parseRetryAfter reads seconds or a date (RFC 9110 §10.2.3): at least a second, at most a week.
func parseRetryAfter(text string, now time.Time) (time.Duration, bool) {
	var after time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = at.Sub(now)
	} else {
		return 0, false
	}
	return min(max(after.Round(time.Second), time.Second), maxRetryAfter), true
}
