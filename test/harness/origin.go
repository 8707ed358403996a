package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Origin is an internal app that remembers what it was asked. It serves /echo (a WebSocket), /events (server-sent
// events), /size?n=BYTES, /headers (what it received) and a greeting everywhere else.
type Origin struct {
	URL string

	handler  http.Handler
	mu       sync.Mutex
	requests []Seen
	closing  chan struct{}
}

// Seen is one request as the app saw it.
type Seen struct {
	ID     string // X-Request-Id, which the gateway sets and records
	Method string
	Target string // the request line's target
	Host   string
	Header http.Header
}

// NewOrigin starts an app on a free loopback port for the length of the test.
func NewOrigin(t testing.TB) *Origin {
	o := &Origin{closing: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", o.echo)
	mux.HandleFunc("/events", o.events)
	mux.HandleFunc("/size", o.size)
	mux.HandleFunc("/headers", o.headers)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s", r.URL.Path) })
	o.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/size" { // which is for measuring, and asked often
			o.remember(r)
		}
		mux.ServeHTTP(w, r)
	})
	server := httptest.NewServer(o.handler)
	o.URL = server.URL
	t.Cleanup(func() {
		close(o.closing)
		server.CloseClientConnections()
		server.Close()
	})
	return o
}

// Handler is the app without its own listener, for tests that reach it in another way.
func (o *Origin) Handler() http.Handler { return o.handler }

func (o *Origin) remember(r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = append(o.requests, Seen{ID: r.Header.Get("X-Request-Id"), Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header.Clone()})
}

// Seen is everything the app was asked so far.
func (o *Origin) Seen() []Seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Seen(nil), o.requests...)
}

// Forget empties the memory.
func (o *Origin) Forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = nil
}

func (o *Origin) echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // origins are the gateway's matter
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for {
		kind, message, err := conn.Read(context.WithoutCancel(r.Context()))
		if err != nil || conn.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

func (o *Origin) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		fmt.Fprintf(w, "data: %d\n\n", n)
		w.(http.Flusher).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-o.closing:
			return
		}
	}
}

func (o *Origin) size(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil {
		http.Error(w, "n must be a number of bytes", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	io.CopyN(w, endless{}, n)
}

func (o *Origin) headers(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
	r.Header.Write(w)
}

// endless is a body of any length.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
