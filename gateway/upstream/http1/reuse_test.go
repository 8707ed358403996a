package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestConnectionsAreUsedAgain(t *testing.T) {
	for _, name := range []string{"length", "no body", "chunked", "trailers", "204", "304", "length and keep-alive", "103", "a body of 100 KB", "a head of 200 KiB", "a field of 20 KiB"} {
		raw := rawAnswer(t, name)
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, raw) })
		lean := origin.transport(t)
		for range 3 {
			if _, err := outcomeOf(lean, request(t, "GET", "/case", "")); err != nil {
				t.Fatal(name, err)
			}
			unharmed(t, lean, "/next")
		}
		if n := origin.accepted.Load(); n != 1 {
			t.Errorf("%s: %d connections", name, n)
		}
		if size := lean.idle.conns[0].br.Size(); size != readSize {
			t.Errorf("%s: an unused connection holds a buffer of %d bytes", name, size)
		}
	}
}

func TestDoubtfulConnectionsAreNotUsedAgain(t *testing.T) {
	for _, name := range []string{"length and close", "close among others", "chunked and close", "HTTP/1.0", "HTTP/1.0 keep-alive", "HTTP/1.2",
		"RESP-01 length and chunked", "RESP-01 chunked and length", "RESP-01 204 with both",
		"RESP-12 more than the length", "RESP-12 after chunks", "RESP-12 after trailers", "RESP-12 body on 204", "RESP-12 body on 304", "SMUG-41 second answer"} {
		raw := rawAnswer(t, name)
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, raw) })
		lean := origin.transport(t)
		if _, err := outcomeOf(lean, request(t, "GET", "/case", "")); err != nil {
			t.Fatal(name, err)
		}
		unharmed(t, lean, "/next")
		if n := origin.accepted.Load(); n != 2 {
			t.Errorf("%s: %d connections", name, n)
		}
	}
}

// poisoned reports whether the next request gets an answer nobody asked for, when one is sent by late after the app's
// answer was read to its end.
func poisoned(t *testing.T, lean *Transport, origin *origin, late func()) bool {
	t.Helper()
	if _, err := outcomeOf(lean, request(t, "GET", "/case", "")); err != nil {
		t.Fatal(err)
	}
	if len(lean.idle.conns) != 1 {
		t.Fatalf("%d connections are kept", len(lean.idle.conns))
	}
	late()
	got, err := get(t, lean, "/next")
	if err != nil {
		t.Fatal(err)
	}
	return got != "/next"
}

// waiting reports whether something is in the socket of the kept connection, or its end.
func waiting(lean *Transport) bool {
	_, err := lean.idle.conns[0].socket.receive(nil)
	return err != errNothing
}

func TestSMUG41AnswerThatComesWhileNobodyAsks(t *testing.T) {
	for _, trusting := range []bool{false, true} {
		conns := make(chan net.Conn, 1)
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, ok+hello); conns <- c })
		lean := origin.transport(t)
		lean.trusting = trusting
		got := poisoned(t, lean, origin, func() {
			send(<-conns, evil)
			eventually(t, "the second answer arrives", func() bool { return waiting(lean) })
		})
		if got != trusting {
			t.Errorf("with the mutant %v: poisoned is %v", trusting, got)
		}
	}
}

func TestClosedConnectionIsNoticedBeforeItIsUsed(t *testing.T) {
	for _, trusting := range []bool{false, true} {
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, ok+hello); c.Close() })
		lean := origin.transport(t)
		lean.trusting = trusting
		if _, err := outcomeOf(lean, request(t, "GET", "/case", "")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end arrives", func() bool { return waiting(lean) })
		_, err := outcomeOf(lean, request(t, "POST", "/next", ""))
		if (err != nil) != trusting { // a POST is not repeated
			t.Errorf("with the mutant %v: %v", trusting, err)
		}
		if trusting && reached(err) != Stale && reached(err) != Unsent {
			t.Errorf("the error is %v", err)
		}
	}
}

// gather is a connection whose writes are sent together: several TLS records in one segment.
type gather struct {
	net.Conn
	mu   sync.Mutex
	held *bytes.Buffer // nil = send at once
}

func (g *gather) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != nil {
		return g.held.Write(p)
	}
	return g.Conn.Write(p)
}

func (g *gather) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = new(bytes.Buffer)
}

// release sends what was held, but for the last bytes.
func (g *gather) release(but int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Conn.Write(g.held.Bytes()[:g.held.Len()-but])
	g.held = nil
}

type gatherListener struct{ net.Listener }

func (l gatherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gather{Conn: c}, nil
}

// securedOrigin is an origin that speaks TLS, and a Transport to it.
func securedOrigin(t *testing.T, configure func(server *tls.Config), answer func(c net.Conn, r *http.Request)) (*origin, *Transport) {
	t.Helper()
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	borrowed.Close()
	client := borrowed.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName, client.NextProtos = "example.com", nil
	server := &tls.Config{Certificates: borrowed.TLS.Certificates}
	if configure != nil {
		configure(server)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := serveOrigin(t, tls.NewListener(gatherListener{listener}, server), answer)
	lean := o.transport(t)
	lean.TLS = client
	return o, lean
}

// TestSMUG41SecondAnswerInTLS: what crypto/tls has read ahead shows neither in the socket nor above TLS.
func TestSMUG41SecondAnswerInTLS(t *testing.T) {
	large := ok + "Content-Length: 12000\r\n\r\n" + strings.Repeat("0123456789ab", 1000)
	for name, write := range map[string]func(c *tls.Conn){
		"in the same record":                    func(c *tls.Conn) { send(c, ok+hello+evil) },
		"in the same large record":              func(c *tls.Conn) { send(c, large+evil) },
		"in the next record":                    func(c *tls.Conn) { send(c, ok+hello); send(c, evil) },
		"in the next record, after a large one": func(c *tls.Conn) { send(c, large); send(c, evil) },
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			_, lean := securedOrigin(t, func(server *tls.Config) { server.MaxVersion = version }, func(c net.Conn, _ *http.Request) {
				c.(*tls.Conn).NetConn().(*gather).hold()
				write(c.(*tls.Conn))
				c.(*tls.Conn).NetConn().(*gather).release(0)
			})
			for range 3 {
				if _, err := outcomeOf(lean, request(t, "GET", "/case", "")); err != nil {
					t.Fatal(name, err)
				}
				unharmed(t, lean, "/next")
			}
		}
	}
}

// TestSMUG41SecondAnswerInTLSIsFoundBySilence is the same where nothing but the look into TLS can find it, with the mutant
// that does not look.
func TestSMUG41SecondAnswerInTLSIsFoundBySilence(t *testing.T) {
	for _, trusting := range []bool{false, true} {
		_, lean := securedOrigin(t, nil, func(c net.Conn, _ *http.Request) {
			c.(*tls.Conn).NetConn().(*gather).hold()
			send(c, ok+hello)
			send(c, evil)
			c.(*tls.Conn).NetConn().(*gather).release(0)
		})
		lean.trusting = trusting
		if got := poisoned(t, lean, nil, func() {}); got != trusting {
			t.Errorf("with the mutant %v: poisoned is %v", trusting, got)
		}
	}
}

// TestSMUG41HalfARecord: the beginning of a second answer is in crypto/tls, the rest comes later.
func TestSMUG41HalfARecord(t *testing.T) {
	for _, missing := range []int{1, 20, len(evil) + 18} { // the last leaves four bytes of the record's header
		_, lean := securedOrigin(t, func(server *tls.Config) { server.MinVersion = tls.VersionTLS13 }, func(c net.Conn, _ *http.Request) {
			c.(*tls.Conn).NetConn().(*gather).hold()
			send(c, ok+hello)
			send(c, evil)
			c.(*tls.Conn).NetConn().(*gather).release(missing)
		})
		if _, err := outcomeOf(lean, request(t, "GET", "/case", "")); err != nil {
			t.Fatal(err)
		}
		c := lean.idle.pop()
		if c == nil {
			t.Fatal("the connection is not kept")
		}
		if waitingIn(c) {
			t.Error("the half record is in the socket: this shows nothing")
		}
		if c.silent() {
			t.Errorf("half a record, %d bytes missing, is taken for silence", missing)
		}
		c.cut()
	}
}

func waitingIn(c *conn) bool {
	_, err := c.socket.receive(nil)
	return err != errNothing
}

func TestTLSConnectionsAreUsedAgain(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		origin, lean := securedOrigin(t, func(server *tls.Config) { server.MaxVersion = version }, nil)
		lean.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(1) // asks for tickets: they are no bytes nobody asked for
		for range 3 {
			unharmed(t, lean, "/next")
		}
		if n := origin.accepted.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		res, err := lean.RoundTrip(request(t, "GET", "/next", ""))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.TLS == nil || res.TLS.Version != version {
			t.Errorf("the answer says %+v of TLS", res.TLS)
		}
	}
}

func TestTLSThatDoesNotFitIsNeverUsed(t *testing.T) { // SSRF-04
	for name, configure := range map[string]func(server, client *tls.Config){
		"unknown authority": func(_, client *tls.Config) { client.RootCAs = nil },
		"another name":      func(_, client *tls.Config) { client.ServerName = "wiki.internal" },
		"another protocol": func(server, client *tls.Config) {
			server.NextProtos, client.NextProtos = []string{"h2"}, []string{"h2"}
		},
	} {
		origin, lean := securedOrigin(t, nil, nil)
		server := &tls.Config{}
		configure(server, lean.TLS)
		if server.NextProtos != nil {
			origin, lean = securedOrigin(t, func(s *tls.Config) { s.NextProtos = server.NextProtos }, nil)
			configure(server, lean.TLS)
		}
		_, err := get(t, lean, "/")
		if e, isOurs := errors.AsType[*Error](err); !isOurs || e.Stage != Unsent || origin.requests.Load() != 0 {
			t.Errorf("%s: %v, %d requests", name, err, origin.requests.Load())
		}
	}
}

func TestConnectionWhoseSilenceCannotBeProvenIsUsedOnce(t *testing.T) {
	origin := newOrigin(t, nil)
	lean := origin.transport(t)
	lean.Dial = func(ctx context.Context) (net.Conn, error) {
		c, err := origin.plain(ctx)
		return struct{ net.Conn }{c}, err
	}
	unharmed(t, lean, "/1")
	unharmed(t, lean, "/2")
	if n := origin.accepted.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestUnixSocketsAreUsedAgain(t *testing.T) {
	listener, err := net.Listen("unix", t.TempDir()+"/app.sock")
	if err != nil {
		t.Fatal(err)
	}
	origin := serveOrigin(t, listener, nil)
	lean := origin.transport(t)
	lean.Dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", listener.Addr().String())
	}
	for range 3 {
		unharmed(t, lean, "/next")
	}
	if n := origin.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, ok+hello) })
	lean := origin.transport(t)
	lean.MaxIdle = 2
	var bodies []io.Closer
	for range 5 {
		res, err := lean.RoundTrip(request(t, "GET", "/case", ""))
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, res.Body)
	}
	for _, body := range bodies {
		body.Close()
	}
	if n := len(lean.idle.conns); n != 2 {
		t.Errorf("%d connections are kept", n)
	}
	eventually(t, "the app sees the others closed", func() bool { return origin.open() == 2 })
	unharmed(t, lean, "/next")
	if n := origin.accepted.Load(); n != 5 {
		t.Errorf("%d connections were made", n)
	}
}

func (o *origin) open() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.conns)
}

func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	origin := newOrigin(t, nil)
	lean := origin.transport(t)
	lean.IdleTimeout = 20 * time.Millisecond
	unharmed(t, lean, "/1")
	eventually(t, "the app sees it closed", func() bool { return origin.open() == 0 })
	unharmed(t, lean, "/2")
	eventually(t, "the app sees it closed again", func() bool { return origin.open() == 0 })

	lean = origin.transport(t)
	lean.IdleTimeout = time.Hour
	unharmed(t, lean, "/3")
	lean.idle.mu.Lock()
	lean.idle.conns[0].idleSince = time.Now().Add(-2 * time.Hour) // the reaper sleeps
	lean.idle.mu.Unlock()
	before := origin.accepted.Load()
	unharmed(t, lean, "/4")
	if origin.accepted.Load() != before+1 {
		t.Error("a connection unused for too long was used")
	}
}

func TestCloseIdleClosesWhatIsInUseWhenItIsOver(t *testing.T) {
	origin := newOrigin(t, func(c net.Conn, _ *http.Request) {
		send(c, ok+"Content-Length: 100000\r\n\r\n"+strings.Repeat("x", 100000))
	})
	lean := origin.transport(t)
	unharmed(t, lean, "/1")
	res, err := lean.RoundTrip(request(t, "GET", "/case", ""))
	if err != nil {
		t.Fatal(err)
	}
	lean.CloseIdle()
	if n, err := io.Copy(io.Discard, res.Body); n != 100000 || err != nil {
		t.Error(n, err)
	}
	res.Body.Close()
	eventually(t, "the app sees it closed", func() bool { return origin.open() == 0 })
	unharmed(t, lean, "/2")
	if n := origin.open(); n != 1 {
		t.Errorf("%d connections afterwards", n)
	}
}
