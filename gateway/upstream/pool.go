// Package upstream carries one decided request to one of an app's addresses.
//
// A Pool is an http.RoundTripper over the addresses of one app: requests go round them in turn, an address that
// cannot be reached is left alone for a while, and a request that was certainly never sent is tried at the next
// one. It follows no redirect, decompresses nothing, uses no proxy of the environment and never falls back to the
// address of another app.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// restPeriod is how long an unreachable address is left alone: long enough to spare people its connect
	// timeout, short enough that a restarted app is back before anyone complains.
	restPeriod = 5 * time.Second
	// maxResponseHead bounds the head of an app's answer, all 1xx answers before it included.
	maxResponseHead = 256 << 10
	// idlePerAddress bounds the connections kept open to one address.
	idlePerAddress = 256
)

// Config is what a Pool needs to know of an app.
type Config struct {
	Addresses []url.URL
	// HostUpstream sends each address's own name as Host in place of the request's.
	HostUpstream bool
	Connect      time.Duration
	Response     time.Duration
	Idle         time.Duration
	// CAFile names a PEM file of the authorities trusted for https addresses; empty means the system's.
	CAFile string
	Now    func() time.Time
}

// Pool is the set of addresses of one app.
type Pool struct {
	endpoints    []*endpoint
	hostUpstream bool
	transport    *http.Transport
	next         atomic.Uint64
	now          func() time.Time
}

type endpoint struct {
	url         url.URL
	restUntil   atomic.Int64 // Unix nanoseconds; 0 = in service
	outstanding atomic.Int64
	requests    atomic.Uint64
	failures    atomic.Uint64
}

// New builds a pool. An unreadable CA file is an error: verification is never weakened.
func New(cfg Config) (*Pool, error) {
	roots, err := loadRoots(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	p := &Pool{hostUpstream: cfg.HostUpstream, now: cfg.Now}
	if p.now == nil {
		p.now = time.Now
	}
	for _, address := range cfg.Addresses {
		p.endpoints = append(p.endpoints, &endpoint{url: address})
	}
	if len(p.endpoints) == 0 {
		return nil, errors.New("an app needs at least one upstream address")
	}
	dialer := &net.Dialer{Timeout: cfg.Connect, ControlContext: refuseForbidden}
	p.transport = &http.Transport{
		Proxy:                  nil,
		DialContext:            dialWith(dialer),
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    cfg.Connect,
		ResponseHeaderTimeout:  cfg.Response,
		IdleConnTimeout:        cfg.Idle,
		MaxIdleConnsPerHost:    idlePerAddress,
		MaxResponseHeaderBytes: maxResponseHead,
		DisableCompression:     true,
		WriteBufferSize:        8 << 10,
		ReadBufferSize:         8 << 10,
	}
	return p, nil
}

// RoundTrip sends the request to one address. The request's URL carries path and query only; scheme, host and, if
// so configured, the Host header are filled in from the address. Safe for concurrent use.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	body := &heldBody{ReadCloser: req.Body}
	if req.Body == nil || req.Body == http.NoBody {
		body = nil
	}
	first := p.next.Add(1)
	var last error
	for i := range uint64(len(p.endpoints)) {
		e := p.endpoints[(first+i)%uint64(len(p.endpoints))]
		if e.resting(p.now()) && i+1 < uint64(len(p.endpoints)) && p.anyInService() {
			continue
		}
		res, err := p.try(req, e, body)
		if err == nil {
			return res, nil
		}
		last = err
		if !neverSent(err) || req.Context().Err() != nil || body.wasRead() {
			return nil, err
		}
	}
	return nil, last
}

// CloseIdle closes kept connections; those in use finish first. For a pool that a reload replaced.
func (p *Pool) CloseIdle() { p.transport.CloseIdleConnections() }

// Endpoint is the state of one address, for status and metrics.
type Endpoint struct {
	Address     string `json:"address"`
	InService   bool   `json:"in_service"`
	Outstanding int64  `json:"outstanding"`
	Requests    uint64 `json:"requests"`
	Failures    uint64 `json:"failures"`
}

// Endpoints reports the addresses in configuration order.
func (p *Pool) Endpoints() []Endpoint {
	list := make([]Endpoint, 0, len(p.endpoints))
	for _, e := range p.endpoints {
		list = append(list, Endpoint{
			Address: e.url.String(), InService: !e.resting(p.now()), Outstanding: e.outstanding.Load(),
			Requests: e.requests.Load(), Failures: e.failures.Load(),
		})
	}
	return list
}

func (p *Pool) try(req *http.Request, e *endpoint, body *heldBody) (*http.Response, error) {
	out := req.WithContext(httptrace.WithClientTrace(req.Context(), beforeReuse))
	target := *req.URL
	target.Scheme, target.Host = e.url.Scheme, e.url.Host
	out.URL = &target
	if p.hostUpstream {
		out.Host = e.url.Host
	}
	if body != nil {
		out.Body = body
	}
	e.requests.Add(1)
	e.outstanding.Add(1)
	res, err := p.transport.RoundTrip(out)
	if err != nil {
		e.outstanding.Add(-1)
		if req.Context().Err() == nil {
			e.failures.Add(1)
		}
		if neverSent(err) {
			e.restUntil.Store(p.now().Add(restPeriod).UnixNano())
		}
		return nil, err
	}
	e.restUntil.Store(0)
	res.Body = e.whenDone(res.Body)
	return res, nil
}

func (p *Pool) anyInService() bool {
	for _, e := range p.endpoints {
		if !e.resting(p.now()) {
			return true
		}
	}
	return false
}

func (e *endpoint) resting(now time.Time) bool {
	until := e.restUntil.Load()
	return until != 0 && now.UnixNano() < until
}

// whenDone counts the exchange as outstanding until its body is closed. An upgraded connection keeps its Writer:
// ReverseProxy needs it.
func (e *endpoint) whenDone(body io.ReadCloser) io.ReadCloser {
	counted := &countedBody{ReadCloser: body, e: e}
	if rw, ok := body.(io.ReadWriteCloser); ok {
		return &countedConn{countedBody: counted, w: rw}
	}
	return counted
}

type countedBody struct {
	io.ReadCloser
	e    *endpoint
	done atomic.Bool
}

func (b *countedBody) Close() error {
	if b.done.CompareAndSwap(false, true) {
		b.e.outstanding.Add(-1)
	}
	return b.ReadCloser.Close()
}

type countedConn struct {
	*countedBody
	w io.Writer
}

func (c *countedConn) Write(p []byte) (int, error) { return c.w.Write(p) }

// heldBody is a request body that a failed attempt closes in vain as long as nothing was read from it, so that the
// next attempt still has it. Its owner, the server, closes it in the end.
type heldBody struct {
	io.ReadCloser
	read atomic.Bool
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
}

func (b *heldBody) Close() error {
	if b.read.Load() {
		return b.ReadCloser.Close()
	}
	return nil
}

func (b *heldBody) wasRead() bool { return b != nil && b.read.Load() }

// neverSent holds for errors that happened before a byte of the request could leave: such a request may go to
// another address whatever its method (RFC 9110 §9.2.2).
func neverSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// ErrForbiddenAddress means that an upstream name resolved to an address no app lives at.
var ErrForbiddenAddress = errors.New("upstream address is link-local, multicast or unspecified")

// refuseForbidden checks the address that is really dialled, after name resolution, so that a DNS answer cannot
// lead to a cloud metadata service.
func refuseForbidden(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("reading the resolved address %q: %w", address, err)
	}
	if Forbidden(ap.Addr()) {
		return ErrForbiddenAddress
	}
	return nil
}

// Forbidden holds for addresses no app lives at: link-local ones, where cloud metadata services are, multicast and
// unspecified ones.
func Forbidden(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified()
}

func loadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading upstream_ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("upstream_ca %s holds no certificate", file)
	}
	return roots, nil
}
