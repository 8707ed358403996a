// Package remote is the HTTP client for what other parties publish: discovery documents, keys, tokens and group lists. The
// party is known by its configuration, its answers are not trusted: every call is bounded in time and size, nothing is
// decompressed, and a redirect may not leave the host that was asked.
//
// The package reads no answers and keeps none.
package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// Bounds of every call.
const (
	DialTimeout = 5 * time.Second
	CallTimeout = 10 * time.Second // one call, to the last byte of its answer
	MaxAnswer   = 1 << 20          // discovery, keys, tokens and userinfo are a few KiB

	maxHeader   = 64 << 10
	maxRedirect = 3
)

// Config says whom to call, and how to get there.
type Config struct {
	// Base is the party's main URL. Only its host is dialled at Connect.
	Base *url.URL
	// Connect is the address to dial in place of Base's, as host or host:port; see [CheckConnect]. Empty: look it up.
	Connect string
	// CA is a PEM file of the authorities that may vouch for the party. Empty: the system's.
	CA string
}

// Kind says what was wrong with an answer.
type Kind string

// What this package refuses by itself.
const (
	Busy       Kind = "busy"       // 5xx or 429: the party cannot answer now
	Compressed Kind = "compressed" // an encoding that was not asked for
	TooLarge   Kind = "too_large"  // more than MaxAnswer announced
)

// Error is an answer that the client refused. An answer that turns out too large while it is read ends in an
// [*http.MaxBytesError] instead.
type Error struct {
	Kind   Kind
	Status int // of the answer
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Unreachable tells whether err means that the party did not answer, or could not for now: nothing is known. Every other
// error is an answer that makes no sense.
func Unreachable(err error) bool {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.Kind == Busy
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return false
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return true
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// NewClient returns the one client for all calls to a party.
func NewClient(cfg Config) (*http.Client, error) {
	roots, err := authorities(cfg.CA)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: DialTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    DialTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // what is not asked for cannot expand
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           4,
		IdleConnTimeout:        30 * time.Second,
	}
	if cfg.Connect != "" {
		transport.Proxy = nil
		transport.DialContext = redial(hostPort(cfg.Base), connectAddress(cfg.Connect, cfg.Base))
	}
	return &http.Client{
		Transport:     boundedTransport{transport},
		CheckRedirect: sameHostOnly,
		Timeout:       CallTimeout,
	}, nil
}

// ParseBase reads the URL of a party, exactly as it must be written: https://host/path and nothing after it. http:// is for
// loopback, where no network is needed.
func ParseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is no URL", raw)
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("%q: want https://host/path and nothing after it", raw)
	case u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname()):
		return u, nil
	}
	return nil, fmt.Errorf("%q: want https://; http:// is for loopback only", raw)
}

// CheckConnect tells what is wrong with an address to dial in place of base's.
func CheckConnect(connect string, base *url.URL) error {
	if connect == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(connectAddress(connect, base))
	if err != nil || host == "" || port == "" || strings.ContainsAny(connect, "/@ ") {
		return fmt.Errorf("connect %q: want host or host:port", connect)
	}
	if base.Scheme == "http" && !IsLoopback(host) {
		return fmt.Errorf("connect %q: an http:// issuer is reached on loopback only", connect)
	}
	return nil
}

// AllowedEndpoint tells whether a URL that the party at base published may be called: https, and no address that only we
// can reach; or http on loopback where base is there too.
func AllowedEndpoint(endpoint string, base *url.URL) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	if IsLoopback(base.Hostname()) {
		return u.Scheme == "https" || u.Scheme == "http" && base.Scheme == "http" && IsLoopback(u.Hostname())
	}
	return u.Scheme == "https" && !ourOwn(u.Hostname())
}

// ourOwn tells hosts that mean something else here than at the party: ourselves and what a machine's host tells it, such as
// a cloud's credentials at 169.254.169.254.
func ourOwn(host string) bool {
	if IsLoopback(host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	ip = ip.Unmap()
	return err == nil && (ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast())
}

// IsLoopback tells hosts that no network is needed for. Names below .localhost are not among them: their meaning depends
// on the resolver.
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca %s holds no certificate", file)
	}
	return pool, nil
}

// redial dials another address in place of one. TLS and HTTP never learn of it.
func redial(from, to string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: DialTimeout}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == from {
			addr = to
		}
		return d.DialContext(ctx, network, addr)
	}
}

// connectAddress is where base is dialled; without a port it is base's.
func connectAddress(connect string, base *url.URL) string {
	if _, _, err := net.SplitHostPort(connect); err == nil {
		return connect
	}
	return net.JoinHostPort(connect, portOf(base))
}

func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), portOf(u)) }

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// sameHostOnly lets a GET move within its host. Everything else, above all a POST that carries a code and a client's
// proof, ends with the redirect as its answer.
func sameHostOnly(req *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Method == http.MethodGet && req.URL.Scheme == first.URL.Scheme && req.URL.Host == first.URL.Host &&
		len(via) <= maxRedirect {
		return nil
	}
	return http.ErrUseLastResponse
}

// boundedTransport refuses answers that are compressed unasked, larger than [MaxAnswer], or say that the server cannot
// answer now.
type boundedTransport struct{ http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := acceptable(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, MaxAnswer)
	return resp, nil
}

// CloseIdleConnections lets [http.Client.CloseIdleConnections] reach the connections.
func (t boundedTransport) CloseIdleConnections() {
	if transport, ok := t.RoundTripper.(*http.Transport); ok {
		transport.CloseIdleConnections()
	}
}

func acceptable(resp *http.Response) error {
	switch coding := resp.Header.Get("Content-Encoding"); {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return &Error{Busy, resp.StatusCode, fmt.Errorf("provider answered %d", resp.StatusCode)}
	case coding != "" && coding != "identity":
		return &Error{Compressed, resp.StatusCode, errors.New("answer is compressed, which was not asked for")}
	case resp.ContentLength > MaxAnswer:
		return &Error{TooLarge, resp.StatusCode, fmt.Errorf("answer of %d bytes is too large", resp.ContentLength)}
	}
	return nil
}
