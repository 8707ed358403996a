package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/gateway/listen"
	"sallyport/gateway/route"
	"sallyport/gateway/signin"
	"sallyport/gateway/spool"
	"sallyport/gateway/ui"
	"sallyport/gateway/upstream"
	"sallyport/policy"
)

// bed is a Server between a client and an app, with everything beside it made up.
type bed struct {
	server   *Server
	origin   string // the app's address
	front    *httptest.Server
	log      *memoryLog
	window   *memoryWindow
	sessions *fakeSessions
	metrics  *prometheus.Registry
	printed  *buffer
}

// connecting are the limits of tests whose story they are not.
var connecting = listen.Connections{Total: 4096, Strangers: 4096, PerAddress: 4096, KnownPerAddress: 4096, Handshakes: 64, Head: 10 * time.Second, Idle: 2 * time.Minute,
	Ping: 30 * time.Second, Streams: 100, Resets: 10_000, Unasked: 2 << 20}

const wikiHost = "wiki.corp.test"

// newBed serves one app, wiki, at the address of a test server; the group staff may open it.
func newBed(t testing.TB, app http.HandlerFunc) *bed {
	t.Helper()
	origin := httptest.NewServer(app)
	t.Cleanup(origin.Close)
	b := &bed{origin: origin.URL, log: &memoryLog{}, window: &memoryWindow{counts: map[string]int{}}, sessions: &fakeSessions{known: map[string]*session.Session{}}, metrics: prometheus.NewRegistry(), printed: &buffer{}}
	b.server = New(Options{Decisions: b.log, Sessions: b.sessions, Assertions: noAssertions{}, Spool: spooler(t), Window: b.window, Connecting: connecting, Pages: ui.New(ui.Options{}), Metrics: b.metrics,
		Log: slog.New(slog.NewTextHandler(b.printed, nil))}, snapshot(t, wiki(t, origin.URL, "staff")))
	b.server.connections.refused = func(string, netip.Addr) {}
	b.front = httptest.NewUnstartedServer(nil)
	b.front.Config = b.server.HTTPServer()
	b.front.EnableHTTP2 = true
	b.front.StartTLS()
	t.Cleanup(b.front.Close)
	b.sessions.put("ada", "staff")
	return b
}

func wiki(t testing.TB, address string, groups ...string) route.App {
	t.Helper()
	at := upstream.Address{Weight: 1}
	if err := at.URL.UnmarshalText([]byte(address)); err != nil {
		t.Fatal(err)
	}
	return route.App{Name: "wiki", Host: wikiHost, Upstreams: []upstream.Address{at}, MaxBody: 1 << 20,
		Timeouts: route.Timeouts{Timeouts: upstream.Timeouts{Connect: 10 * time.Second, Response: 30 * time.Second, Idle: time.Minute}, Client: time.Minute},
		Access:   policy.Access{{Groups: groups}}}
}

// spooler is room for bodies that wait.
func spooler(t testing.TB) *spool.Spooler {
	t.Helper()
	s, err := spool.New(spool.Config{Dir: t.TempDir(), Memory: 8 << 20, PerBody: 256 << 10, Disk: 64 << 20, BodyDisk: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func snapshot(t testing.TB, apps ...route.App) *Snapshot {
	t.Helper()
	table, err := route.NewTable(apps)
	if err != nil {
		t.Fatal(err)
	}
	var known []policy.App
	for _, app := range table.Apps() {
		known = append(known, app.Policy())
	}
	bundle, err := policy.Build(policy.Config{Memo: true}, known)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.Compile(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	s := &Snapshot{Routes: table, Policy: engine, Zone: time.UTC, AuthHost: "auth.corp.test", PublicPort: 443,
		SignIn: signin.New(signin.Options{AuthOrigin: "https://auth.corp.test"})}
	if err := s.Connect(nil, Behind{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Retire(&Snapshot{}) })
	return s
}

// request asks the wiki as the person behind a handle; without one, as a stranger.
func (b *bed) request(t testing.TB, method, path, handle string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+wikiHost+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if handle != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-sallyport", Value: handle})
	}
	return r
}

// client reaches the bed whatever the host; protocol is "http/1.1" or "h2".
func (b *bed) client(t testing.TB, protocol string) *http.Client {
	t.Helper()
	transport := &http.Transport{ForceAttemptHTTP2: protocol == "h2",
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: wikiHost, NextProtos: []string{protocol}}}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, b.front.Listener.Addr().String())
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// dial is a client that speaks HTTP/1.1 by itself.
func (b *bed) dial(t *testing.T) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", b.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: wikiHost, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// get asks for a page as ada and returns status and body.
func (b *bed) get(t *testing.T, path string) (int, string) {
	t.Helper()
	return answerTo(t, b.client(t, "http/1.1"), b.request(t, "GET", path, "ada", nil))
}

func answerTo(t testing.TB, client *http.Client, r *http.Request) (int, string) {
	t.Helper()
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// memoryLog keeps records in memory.
type memoryLog struct {
	mu      sync.Mutex
	records []audit.Record
	failing error
	stuck   chan struct{} // appends wait until it is closed; nil: they do not
	waiting int           // appends that wait
}

func (l *memoryLog) Append(_ context.Context, r *audit.Record) (audit.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if stuck := l.stuck; stuck != nil {
		l.waiting++
		l.mu.Unlock()
		<-stuck
		l.mu.Lock()
	}
	if l.failing != nil {
		return audit.Receipt{}, l.failing
	}
	kept := *r
	kept.Seq = uint64(len(l.records))
	l.records = append(l.records, kept)
	return audit.Receipt{Log: audit.DecisionLog, Seq: kept.Seq, ID: "record"}, nil
}

func (l *memoryLog) Post(ctx context.Context, r *audit.Record) error {
	_, err := l.Append(ctx, r)
	return err
}

func (l *memoryLog) Healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failing
}

func (l *memoryLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = err
}

// of is the records of a type so far.
func (l *memoryLog) of(kind audit.Type) (list []audit.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.Type == kind {
			list = append(list, r)
		}
	}
	return list
}

// one waits for the first record of a type.
func (l *memoryLog) one(t *testing.T, kind audit.Type) (found audit.Record) {
	t.Helper()
	eventually(t, "a record of type "+string(kind), func() bool {
		list := l.of(kind)
		if len(list) > 0 {
			found = list[0]
		}
		return len(list) > 0
	})
	return found
}

// memoryWindow counts in memory, by reason and app.
type memoryWindow struct {
	mu     sync.Mutex
	counts map[string]int
}

func (w *memoryWindow) Count(reason, app string, _ netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[strings.TrimSuffix(reason+" "+app, " ")]++
}

// of is how often a reason was counted, in an app or, with an empty one, in none.
func (w *memoryWindow) of(reason, app string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[strings.TrimSuffix(reason+" "+app, " ")]
}

// fakeSessions knows people by handles that are their names.
type fakeSessions struct {
	mu      sync.Mutex
	known   map[string]*session.Session
	trouble error
	asked   func()          // in the goroutine of the request
	ctx     context.Context // of the latest look-up
}

func (f *fakeSessions) put(handle string, groups ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[handle] = &session.Session{ID: "session of " + handle, Created: time.Now(), Seen: time.Now(),
		Identity: &authn.Identity{Kind: authn.User, Provider: "corp", Subject: handle, Email: handle + "@corp.test", EmailVerified: true, Groups: groups}}
}

func (f *fakeSessions) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = err
}

func (f *fakeSessions) Lookup(ctx context.Context, _, handle string) (*session.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ctx = ctx
	if f.asked != nil {
		f.asked()
	}
	if f.trouble != nil {
		return nil, f.trouble
	}
	if s := f.known[handle]; s != nil {
		return s, nil
	}
	return nil, session.ErrNoSession
}

func (f *fakeSessions) Seal(purpose string, plain []byte) string {
	return hex.EncodeToString([]byte(purpose + "|" + string(plain)))
}

func (f *fakeSessions) Open(purpose, sealed string) ([]byte, error) {
	text, err := hex.DecodeString(sealed)
	plain, ok := strings.CutPrefix(string(text), purpose+"|")
	if err != nil || !ok {
		return nil, session.ErrSealed
	}
	return []byte(plain), nil
}

func (f *fakeSessions) SignedIn(ctx context.Context, handle string) (*session.Session, error) {
	return f.Lookup(ctx, "", handle)
}

type noAssertions struct{}

func (noAssertions) Assertion(context.Context, *session.Session, string) (string, error) {
	return "assertion", nil
}
func (noAssertions) JWKS() []byte { return []byte(`{"keys":[]}`) }

// buffer is what was printed, from many goroutines.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

var errDisk = errors.New("no space left on device")

// rawApp is an app that speaks for itself on each connection, until the function returns.
func rawApp(t *testing.T, serve func(net.Conn, *bufio.Reader)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn, bufio.NewReader(conn))
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// says is a rawApp that answers every request with the same bytes, and closes.
func says(answer string) func(net.Conn, *bufio.Reader) {
	return func(conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(conn, answer)
		}
	}
}
