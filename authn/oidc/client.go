package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// Bounds of every call to a provider.
const (
	dialTimeout = 5 * time.Second
	callTimeout = 10 * time.Second // one call, to the last byte of its answer
	maxAnswer   = 1 << 20          // discovery, keys, tokens and userinfo are a few KiB
	maxHeader   = 64 << 10
	maxRedirect = 3
)

// newHTTPClient returns the one client for all calls to a provider.
func newHTTPClient(cfg Config, issuer *url.URL) (*http.Client, error) {
	roots, err := authorities(cfg.CA)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // what is not asked for cannot expand
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           4,
		IdleConnTimeout:        30 * time.Second,
	}
	if cfg.Connect != "" {
		transport.Proxy = nil
		transport.DialContext = redial(hostPort(issuer), connectAddress(cfg.Connect, issuer))
	}
	return &http.Client{
		Transport:     boundedTransport{transport},
		CheckRedirect: sameHostOnly,
		Timeout:       callTimeout,
	}, nil
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
	d := net.Dialer{Timeout: dialTimeout}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == from {
			addr = to
		}
		return d.DialContext(ctx, network, addr)
	}
}

// connectAddress is where the issuer is dialled; without a port it is the issuer's.
func connectAddress(connect string, issuer *url.URL) string {
	if _, _, err := net.SplitHostPort(connect); err == nil {
		return connect
	}
	return net.JoinHostPort(connect, portOf(issuer))
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

// boundedTransport refuses answers that are compressed unasked, larger than [maxAnswer], or say that the server cannot
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
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}

func acceptable(resp *http.Response) error {
	switch coding := resp.Header.Get("Content-Encoding"); {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("provider answered %d", resp.StatusCode)
	case coding != "" && coding != "identity":
		return &Failure{Code: ProviderInvalidAnswer, Err: errors.New("answer is compressed, which was not asked for")}
	case resp.ContentLength > maxAnswer:
		return fail(ProviderInvalidAnswer, "answer of %d bytes is too large", resp.ContentLength)
	}
	return nil
}
