package upstream

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http prints what apps send that nobody asked for
	goleak.VerifyTestMain(m)
}

// app is one address of an app, whose behaviour a test changes while it runs.
type app struct {
	*httptest.Server
	hits  atomic.Int64
	serve atomic.Pointer[http.HandlerFunc]
}

func newApp(t *testing.T, serve http.HandlerFunc) *app {
	t.Helper()
	a := &app{}
	a.does(serve)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.hits.Add(1)
		(*a.serve.Load())(w, r)
	}))
	t.Cleanup(func() { a.CloseClientConnections(); a.Close() })
	return a
}

func (a *app) does(serve http.HandlerFunc) { a.serve.Store(&serve) }

func fine(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "fine") }

func answers(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// resets reads the request and breaks the connection.
func resets(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// hangs answers nothing until the client leaves.
func hangs(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func slow(by time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(by):
			fine(w, r)
		case <-r.Context().Done():
		}
	}
}

func three(t *testing.T) []*app {
	return []*app{newApp(t, fine), newApp(t, fine), newApp(t, fine)}
}

func urls(apps []*app) []string {
	var list []string
	for _, a := range apps {
		list = append(list, a.URL)
	}
	return list
}

// get sends a GET and reads the whole answer.
func get(ctx context.Context, p *Pool, hint *Hint) (status int, err error) {
	if hint != nil {
		ctx = WithHint(ctx, hint)
	}
	req, err := http.NewRequestWithContext(ctx, "GET", "/x", nil)
	if err != nil {
		return 0, err
	}
	req.Host = "wiki.corp.example"
	res, err := p.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// mustGet is get for answers that must be 200.
func mustGet(t *testing.T, p *Pool, hint *Hint) {
	t.Helper()
	if status, err := get(t.Context(), p, hint); err != nil || status != 200 {
		t.Fatalf("got status %d, %v; want 200", status, err)
	}
}

// load sends GETs with several clients until each has sent its number, and counts those that were not answered 200.
func load(ctx context.Context, p *Pool, clients, each int) (failed int64) {
	var wrong atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range each {
				if status, err := get(ctx, p, nil); err != nil || status != 200 {
					wrong.Add(1)
				}
			}
		})
	}
	all.Wait()
	return wrong.Load()
}

// eventually waits for something that happens soon, unless the machine is busy.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happens that %s", what)
		}
	}
}

// fakeTime is a clock that tests move.
type fakeTime struct{ offset atomic.Int64 }

var fakeStart = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

func (f *fakeTime) now() time.Time          { return fakeStart.Add(time.Duration(f.offset.Load())) }
func (f *fakeTime) advance(d time.Duration) { f.offset.Add(int64(d)) }

// eachLeg runs a test with plain requests on either leg.
func eachLeg(t *testing.T, test func(t *testing.T, lean bool)) {
	t.Run("nethttp", func(t *testing.T) { test(t, false) })
	t.Run("lean", func(t *testing.T) { test(t, true) })
}

func endpointAt(t *testing.T, p *Pool, address string) Endpoint {
	t.Helper()
	for _, e := range p.Endpoints() {
		if e.Address == address {
			return e
		}
	}
	t.Fatalf("there is no endpoint %s", address)
	return Endpoint{}
}

// quiet is for servers whose clients misbehave on purpose.
var quiet = log.New(io.Discard, "", 0)
