package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/gateway/upstream/http1"
)

const (
	// maxResponseHead bounds the head of an app's answer, all 1xx answers before it included.
	maxResponseHead = 256 << 10
	// idlePerAddress bounds the connections kept open to one address.
	idlePerAddress = 256
	// h2PingAfter and h2PingTimeout find HTTP/2 connections whose other end is gone: all requests to an address share one.
	h2PingAfter   = 15 * time.Second
	h2PingTimeout = 10 * time.Second
)

// legs are the connections to one endpoint, one kind for each protocol. Pools that follow each other share them as long as
// the settings they depend on stay the same.
type legs struct {
	scheme, host string // of requests' URLs
	digest       string // of the settings
	protocol     Protocol
	dialer       dialer
	http1        *http.Transport
	h2           *http.Transport
	lean         *http1.Transport // nil unless it is used

	users atomic.Int64 // pools, and exchanges under way
}

// settings are what all legs of a pool have in common.
type settings struct {
	timeouts Timeouts
	protocol Protocol
	lean     bool
	tls      *tls.Config // for https
	own      *Own        // where connections never lead
	digest   string      // of all of it: equal digests, equal connections
}

// digestFor tells the connections of addresses apart that may lead to different places.
func (s *settings) digestFor(allow netip.Prefix) string { return s.digest + " " + allow.String() }

func newSettings(cfg *Config) (*settings, error) {
	roots, digest, err := loadRoots(cfg.TLS.CA)
	if err != nil {
		return nil, err
	}
	t := cfg.Timeouts
	return &settings{
		timeouts: t,
		protocol: cfg.Protocol,
		lean:     cfg.Lean,
		tls: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: cfg.TLS.ServerName,
			InsecureSkipVerify: cfg.TLS.InsecureSkipVerify, GetClientCertificate: cfg.ClientCertificate,
		},
		own: cfg.Own,
		digest: fmt.Sprintf("%v %v %v %s %t %s %q %q %q %t %v", t.Connect, t.Response, t.Idle, cfg.Protocol, cfg.Lean, digest, cfg.TLS.ServerName, cfg.TLS.ClientCertificate,
			cfg.ClientDigest, cfg.TLS.InsecureSkipVerify, cfg.Own),
	}, nil
}

func loadRoots(file string) (roots *x509.CertPool, digest string, err error) {
	if file == "" {
		return nil, "", nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, "", fmt.Errorf("reading the upstreams' authorities: %w", err)
	}
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, "", fmt.Errorf("%s holds no certificate", file)
	}
	sum := sha256.Sum256(pem)
	return roots, hex.EncodeToString(sum[:]), nil
}

// newLegs makes the connections to an address; ip stands for its name when that was resolved. They lead nowhere but to an
// app, or into allow.
func newLegs(u *URL, ip netip.Addr, allow netip.Prefix, s *settings) *legs {
	network, address := u.dialled(ip)
	l := &legs{scheme: u.Scheme, host: u.Host, digest: s.digestFor(allow), protocol: s.protocol,
		dialer: dialer{network: network, address: address, timeout: s.timeouts.Connect, egress: egress{allow, s.own}}}
	if u.Scheme == "unix" {
		l.scheme, l.host = "http", "localhost"
	}
	if u.Scheme == "https" {
		l.dialer.tls = s.tls.Clone()
		if l.dialer.tls.ServerName == "" {
			l.dialer.tls.ServerName = u.Hostname()
		}
		l.dialer.tls.ClientSessionCache = tls.NewLRUClientSessionCache(idlePerAddress)
	}
	l.http1, l.h2 = l.transport(s.timeouts), l.transport(s.timeouts)
	l.http1.DialContext, l.http1.DialTLSContext = l.dialer.watched, l.dialer.watchedTLS
	l.http1.Protocols = protocols((*http.Protocols).SetHTTP1)
	l.h2.DialContext, l.h2.DialTLSContext = l.dialer.plain, l.dialer.h2
	l.h2.Protocols = protocols((*http.Protocols).SetUnencryptedHTTP2)
	if l.scheme == "https" {
		l.h2.Protocols = protocols((*http.Protocols).SetHTTP2)
	}
	l.h2.HTTP2 = &http.HTTP2Config{SendPingTimeout: h2PingAfter, PingTimeout: h2PingTimeout}
	if s.lean {
		l.lean = l.leanTransport(s.timeouts)
	}
	return l
}

func (l *legs) leanTransport(t Timeouts) *http1.Transport {
	lean := &http1.Transport{Dial: l.dialer.connect, ConnectTimeout: t.Connect, ResponseTimeout: t.Response, IdleTimeout: t.Idle,
		MaxIdle: idlePerAddress, MaxHead: maxResponseHead}
	if l.dialer.tls != nil {
		lean.TLS = l.dialer.tls.Clone()
		lean.TLS.NextProtos = []string{"http/1.1"}
	}
	return lean
}

func protocols(set func(*http.Protocols, bool)) *http.Protocols {
	p := new(http.Protocols)
	set(p, true)
	return p
}

// transport has no proxy, follows no redirect and decompresses nothing. Connections are dialled by us, to the endpoint's
// own address whatever the URL says.
func (l *legs) transport(t Timeouts) *http.Transport {
	return &http.Transport{
		ResponseHeaderTimeout:  t.Response,
		IdleConnTimeout:        t.Idle,
		MaxIdleConnsPerHost:    idlePerAddress,
		MaxResponseHeaderBytes: maxResponseHead,
		DisableCompression:     true,
		WriteBufferSize:        8 << 10,
		ReadBufferSize:         8 << 10,
	}
}

// carrier is the leg that is made for a request, and the context it wants.
func (l *legs) carrier(ctx context.Context, req *http.Request) (http.RoundTripper, context.Context) {
	switch {
	case l.isH2(req):
		return l.h2, ctx
	case l.lean != nil && http1.Fits(req):
		return l.lean, ctx
	}
	return l.http1, watching(ctx)
}

// isH2 reports whether a request goes by HTTP/2. Upgrades are of HTTP/1.1 (RFC 9113 §8.6).
func (l *legs) isH2(req *http.Request) bool {
	switch l.protocol {
	case ProtocolHTTP1:
		return false
	case ProtocolH2, ProtocolH2C:
		return req.Header["Upgrade"] == nil
	}
	// What a client says must not have HTTP/2 written to a server that has not said that it speaks it: it could take
	// what is in the frames for requests. Over TLS it says so before anything is sent.
	return l.scheme == "https" && isGRPC(req)
}

// isGRPC recognises a gRPC call by its method, its content type with or without a message format, and by the field that
// all calls have (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). gRPC-Web is another protocol, made for
// HTTP/1.1.
func isGRPC(req *http.Request) bool {
	contentType, te := req.Header["Content-Type"], req.Header["Te"]
	if req.Method != http.MethodPost || len(contentType) != 1 || len(te) != 1 || te[0] != "trailers" || req.Header["Upgrade"] != nil {
		return false
	}
	rest, found := strings.CutPrefix(contentType[0], "application/grpc")
	return found && (rest == "" || rest[0] == '+')
}

// disagreed holds when the app did not agree to HTTP/2, for which only the client's request was a reason: clients must not
// be able to have addresses taken out of service.
func (l *legs) disagreed(err error) bool {
	return l.protocol == ProtocolAuto && errors.Is(err, errNoH2)
}

var errNoH2 = errors.New("no agreement with the app on h2 over TLS")

func (l *legs) hold() { l.users.Add(1) }

// release lets go of the legs. Those nobody uses any more keep no connection.
func (l *legs) release() {
	if l.users.Add(-1) == 0 {
		l.closeIdle()
	}
}

func (l *legs) closeIdle() {
	l.http1.CloseIdleConnections()
	l.h2.CloseIdleConnections()
	if l.lean != nil {
		l.lean.CloseIdle()
	}
}

// dialer connects to one endpoint.
type dialer struct {
	network, address string
	timeout          time.Duration
	tls              *tls.Config // nil without TLS
	egress           egress
}

func (d *dialer) connect(ctx context.Context) (net.Conn, error) {
	dial := net.Dialer{Timeout: d.timeout, ControlContext: d.egress.control}
	inner, err := dial.DialContext(ctx, d.network, d.address)
	if err != nil {
		return nil, &connectError{"connecting to the app", err}
	}
	return inner, nil
}

// secure speaks TLS on a connection; what is left of the time to connect bounds it.
func (d *dialer) secure(ctx context.Context, inner net.Conn, protocol string) (net.Conn, error) {
	config := d.tls.Clone()
	config.NextProtos = []string{protocol}
	secured := tls.Client(inner, config)
	err := secured.HandshakeContext(ctx)
	switch chosen := secured.ConnectionState().NegotiatedProtocol; {
	case err != nil && protocol == "h2":
		err = fmt.Errorf("%w: %w", errNoH2, err)
	case err != nil || chosen == protocol:
	case protocol == "h2":
		err = errNoH2
	case chosen != "":
		err = fmt.Errorf("the app does not speak %s over TLS", protocol)
	}
	if err != nil {
		inner.Close()
		return nil, &connectError{"securing the connection to the app", err}
	}
	return secured, nil
}

// dialTLS connects and secures within the time for both.
func (d *dialer) dialTLS(ctx context.Context, protocol string, wrap func(net.Conn) net.Conn) (net.Conn, error) {
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	inner, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	return d.secure(ctx, wrap(inner), protocol)
}

func (d *dialer) plain(ctx context.Context, _, _ string) (net.Conn, error) { return d.connect(ctx) }

func (d *dialer) h2(ctx context.Context, _, _ string) (net.Conn, error) {
	return d.dialTLS(ctx, "h2", func(c net.Conn) net.Conn { return c })
}

func (d *dialer) watched(ctx context.Context, _, _ string) (net.Conn, error) {
	inner, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(inner), nil
}

func (d *dialer) watchedTLS(ctx context.Context, _, _ string) (net.Conn, error) {
	return d.dialTLS(ctx, "http/1.1", func(c net.Conn) net.Conn { return newConn(c) })
}

// target fills in where a request goes.
func (l *legs) target(u *url.URL) { u.Scheme, u.Host = l.scheme, l.host }

// checkProtocol refuses a protocol that an address cannot speak.
func checkProtocol(p Protocol, u *URL) error {
	switch {
	case p == ProtocolH2 && u.Scheme != "https":
		return fmt.Errorf("protocol h2 needs https:// upstreams, not %s: h2c is HTTP/2 without TLS", u)
	case p == ProtocolH2C && u.Scheme == "https":
		return fmt.Errorf("protocol h2c is HTTP/2 without TLS, and %s has it: use h2", u)
	}
	return nil
}
