package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // http.Transport tells of the hostile answers
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// origin is an app that answers /case with bytes of the test's choice, and everything else properly: the body is the
// request's target.
type origin struct {
	net.Listener
	answer func(c net.Conn, r *http.Request) // of /case; the connection stays open unless it closes it

	accepted atomic.Int64
	requests atomic.Int64
	mu       sync.Mutex
	conns    map[net.Conn]bool
	wait     sync.WaitGroup
}

func newOrigin(t testing.TB, answer func(c net.Conn, r *http.Request)) *origin {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOrigin(t, listener, answer)
}

func serveOrigin(t testing.TB, listener net.Listener, answer func(c net.Conn, r *http.Request)) *origin {
	o := &origin{Listener: listener, answer: answer, conns: map[net.Conn]bool{}}
	o.wait.Go(o.accept)
	t.Cleanup(func() {
		o.Close()
		o.mu.Lock()
		for c := range o.conns {
			c.Close()
		}
		o.mu.Unlock()
		o.wait.Wait()
	})
	return o
}

func (o *origin) accept() {
	for {
		c, err := o.Accept()
		if err != nil {
			return
		}
		o.accepted.Add(1)
		o.mu.Lock()
		o.conns[c] = true
		o.mu.Unlock()
		o.wait.Go(func() { o.serve(c) })
	}
}

func (o *origin) serve(c net.Conn) {
	defer func() {
		c.Close()
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
	}()
	br := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		o.requests.Add(1)
		if r.URL.Path == "/case" {
			o.answer(c, r)
			continue
		}
		io.Copy(io.Discard, r.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.RequestURI), r.RequestURI)
	}
}

// plain dials the origin.
func (o *origin) plain(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", o.Addr().String())
}

// transport is a Transport to the origin whose connections are closed in the end.
func (o *origin) transport(t testing.TB) *Transport {
	lean := &Transport{Dial: o.plain, ResponseTimeout: 20 * time.Second}
	t.Cleanup(lean.CloseIdle)
	return lean
}

func send(c net.Conn, raw string) { io.WriteString(c, raw) }

// request is a request for a target.
func request(t testing.TB, method, target string, body string) *http.Request {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://app.example"+target, r)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// get asks for a target and returns the body.
func get(t testing.TB, rt http.RoundTripper, target string) (string, error) {
	t.Helper()
	res, err := rt.RoundTrip(request(t, "GET", target, ""))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// unharmed asks the origin something ordinary: the answer must be the one to this request.
func unharmed(t testing.TB, rt http.RoundTripper, target string) {
	t.Helper()
	if got, err := get(t, rt, target); err != nil || got != target {
		t.Errorf("the next request got %q, %v; want %q", got, err, target)
	}
}

// eventually polls until ok, or fails.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never happened: " + what)
		}
	}
}

// slices of reads: a connection that hands over at most size bytes at once, wherever packets end.
type splitConn struct {
	net.Conn
	size int
}

func (c *splitConn) Read(p []byte) (int, error) {
	return c.Conn.Read(p[:min(len(p), c.size)])
}

func (c *splitConn) NetConn() net.Conn { return c.Conn }

func split(dial func(context.Context) (net.Conn, error), size int) func(context.Context) (net.Conn, error) {
	if size == 0 {
		return dial
	}
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &splitConn{c, size}, nil
	}
}

// memConn is a connection to an app that knows its answer, and gives it once something was written.
type memConn struct {
	net.Conn
	answer  io.Reader
	written strings.Builder
	asked   chan struct{}
	closed  chan struct{}
	once    sync.Once
	fail    func(n int) (int, error) // what Write returns instead
}

func newMemConn(answer io.Reader) *memConn {
	return &memConn{answer: answer, asked: make(chan struct{}), closed: make(chan struct{})}
}

func (c *memConn) Write(p []byte) (int, error) {
	if c.written.Len() == 0 {
		defer close(c.asked)
	}
	c.written.Write(p)
	if c.fail != nil {
		return c.fail(len(p))
	}
	return len(p), nil
}

func (c *memConn) Read(p []byte) (int, error) {
	select {
	case <-c.asked:
		return c.answer.Read(p)
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *memConn) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memConn) dial(context.Context) (net.Conn, error) {
	return c, nil
}
