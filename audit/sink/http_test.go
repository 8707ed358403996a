package sink

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
)

// collector is an HTTP receiver that keeps the seqs it acknowledged, by log.
type collector struct {
	*shelf
	server *httptest.Server
	ca     string // file
	handle atomic.Pointer[http.HandlerFunc]
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{shelf: newShelf()}
	c.serve(c.accept)
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*c.handle.Load())(w, r) }))
	c.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	c.server.StartTLS()
	t.Cleanup(c.server.Close)
	c.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *collector) serve(h http.HandlerFunc) { c.handle.Store(&h) }

func (c *collector) config() Config {
	return Config{Name: "web", Type: HTTP, URL: c.server.URL + "/in?key=in-the-url", CA: c.ca, BatchWait: time.Millisecond, BatchRecords: 50}
}

func (c *collector) accept(w http.ResponseWriter, r *http.Request) {
	items, err := read(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	c.take(items)
	w.WriteHeader(http.StatusAccepted)
}

// read reads a batch in either encoding.
func read(r *http.Request) (items []item, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	if r.Header.Get("Content-Type") == "application/json" {
		var all []json.RawMessage
		if err := json.Unmarshal(body, &all); err != nil {
			return nil, err
		}
		lines = nil
		for _, one := range all {
			lines = append(lines, one)
		}
	}
	for _, line := range lines {
		it, err := readItem(line)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

func readItem(line []byte) (item, error) {
	var r audit.Record
	err := json.Unmarshal(line, &r)
	return item{log: r.Log, seq: r.Seq, id: r.ID, line: line}, err
}

// gateway is a real audit directory and its logs.
type gateway struct {
	*audit.Audit
	fs   audit.FileSystem
	logs []Log
}

func newGateway(t testing.TB) *gateway {
	t.Helper()
	dir := t.TempDir()
	a, err := audit.Open(audit.Config{Dir: dir, SegmentSize: 1 << 20}, audit.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	fs, err := audit.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{Audit: a, fs: fs}
	for _, l := range []*audit.Log{a.Decisions(), a.Control()} {
		g.logs = append(g.logs, Reading(l, audit.OpenReaderFS(fs, l.Name())))
	}
	t.Cleanup(func() { a.Close(); fs.Close() })
	return g
}

func (g *gateway) write(t testing.TB, n int) {
	t.Helper()
	var writers sync.WaitGroup
	for range 20 {
		writers.Go(func() {
			for range n / 20 {
				input := json.RawMessage(`{"subject":{"id":"corp|1","email":"alice@corp.example"},"note":"` + strings.Repeat("x", 500) + `"}`)
				if _, err := g.Decisions().Append(t.Context(), &audit.Record{Type: audit.TypeDecision, Effect: audit.Allow, Input: input}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
}

func (g *gateway) options(s *shelf) Options {
	return Options{FS: g.fs, Logs: g.logs, Record: s.record, Log: slog.New(slog.DiscardHandler), retry: time.Millisecond}
}

func (g *gateway) arrived(s *shelf) func() bool {
	return func() bool { return complete(s.seqs(audit.DecisionLog), 0, g.logs[0].Next()) == nil }
}

// Batches arrive over TLS from real segments, in either encoding, with headers and token, redacted unless told otherwise.
func TestBatchesArriveOverHTTP(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, encoding := range []Encoding{Array, NDJSON} {
		g, c := newGateway(t), newCollector(t)
		var wrong atomic.Pointer[string]
		c.serve(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Splunk s3cret" || r.Header.Get("X-Tenant") != "t1" || r.ProtoMajor != 2 || r.Method != http.MethodPost {
				text := fmt.Sprint(r.Method, r.Proto, r.Header)
				wrong.Store(&text)
			}
			c.accept(w, r)
		})
		cfg := c.config()
		cfg.TokenFile, cfg.TokenScheme, cfg.Encoding, cfg.Headers = token, "Splunk", encoding, map[string]Secret{"X-Tenant": "t1"}
		c.server.TLS.NextProtos = []string{"h2", "http/1.1"}
		_, end := run(t, g.options(c.shelf), cfg)
		g.write(t, 200)
		c.await(t, "delivery", g.arrived(c.shelf))
		end()
		if text := wrong.Load(); text != nil {
			t.Errorf("request was %s", *text)
		}
		for _, it := range c.got {
			if bytes.Contains(it.line, []byte("alice@")) {
				t.Fatalf("not redacted: %s", it.line)
			}
		}
	}
}

// With disclose what arrives are the record's own bytes.
func TestDisclosedRecordsAreTheirOwnBytes(t *testing.T) {
	g, c := newGateway(t), newCollector(t)
	cfg := c.config()
	cfg.Disclose = true
	g.write(t, 20)
	run(t, g.options(c.shelf), cfg)
	c.await(t, "delivery", g.arrived(c.shelf))
	for _, it := range c.got {
		if _, err := audit.DecodeRecord(it.line); err != nil {
			t.Fatalf("%s: %v", it.line, err)
		}
	}
}

// A receiver that crashes, stalls, cuts answers off and refuses at random gets every record all the same.
func TestUnreliableReceiverGetsEverything(t *testing.T) {
	g, c := newGateway(t), newCollector(t)
	rnd := randomness(t)
	var mu sync.Mutex
	hangs := 2 // each costs a whole Timeout, which is one that no honest request needs
	draw := func() int {
		mu.Lock()
		defer mu.Unlock()
		what := rnd.IntN(12)
		if what == 5 {
			if hangs == 0 {
				return 11
			}
			hangs--
		}
		return what
	}
	c.serve(func(w http.ResponseWriter, r *http.Request) {
		what := draw()
		switch what {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			items, _ := read(r)
			c.take(items)
			panic(http.ErrAbortHandler) // it has them, and its answer is lost
		case 2:
			w.WriteHeader(http.StatusBadGateway)
		case 3:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case 4:
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		case 5:
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done() // hangs until the sink has enough
		default:
			c.accept(w, r)
		}
	})
	cfg := c.config()
	cfg.Timeout = 2 * time.Second
	s, end := run(t, g.options(c.shelf), cfg)
	g.write(t, 400)
	c.await(t, "delivery", g.arrived(c.shelf))
	for range 3 { // the sink is killed as well
		end()
		g.write(t, 60)
		s, end = run(t, g.options(c.shelf), cfg)
	}
	c.await(t, "delivery", g.arrived(c.shelf))
	if l := s.Lags()[0]; l.Dropped != 0 || l.Missed != 0 {
		t.Errorf("%+v", l)
	}
	if n := c.notes; len(n) > 0 {
		t.Errorf("put on record: %+v", n)
	}
}

// What goes wrong is told without URL, token, header or answer, and a certificate that nobody vouches for gets nothing.
func TestErrorsHoldNoSecrets(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("in-the-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	book := newBook(audit.DecisionLog, 5)
	var logged bytes.Buffer
	for name, change := range map[string]func(*collector, *Config){
		"untrusted": func(_ *collector, cfg *Config) { cfg.CA = "" },
		"wrong name": func(_ *collector, cfg *Config) {
			cfg.ServerName = "other.example"
		},
		"closed": func(c *collector, _ *Config) { c.server.Close() },
		"says it again": func(c *collector, _ *Config) {
			c.serve(func(w http.ResponseWriter, r *http.Request) {
				http.Error(w, r.URL.String()+r.Header.Get("Authorization")+r.Header.Get("X-Key"), http.StatusForbidden)
			})
		},
		"no token": func(_ *collector, cfg *Config) { cfg.TokenFile += "-that-is-not-there" },
	} {
		c := newCollector(t)
		cfg := c.config()
		cfg.TokenFile, cfg.Headers = token, map[string]Secret{"X-Key": "in-the-header"}
		change(c, &cfg)
		o := options(newMachine(), c.shelf, nil, book)
		o.open, o.Log = nil, slog.New(slog.NewTextHandler(&logged, nil))
		logged.Reset()
		s, end := run(t, o, cfg)
		var l Lag
		for late := time.Now().Add(patience); l.Error == "" && time.Now().Before(late); {
			l = s.Lags()[0]
			rest(t.Context(), time.Millisecond)
		}
		end()
		text := l.Error + logged.String() + fmt.Sprintf("%v %+v %#v", cfg.Headers, cfg.Headers, cfg.Headers)
		if l.Error == "" || strings.Contains(text, "in-the-") || strings.Contains(text, "/in") {
			t.Errorf("%s: %s", name, text)
		}
		if len(c.got) > 0 {
			t.Errorf("%s: %d records arrived", name, len(c.got))
		}
	}
}

// A receiver below TLS 1.2 gets nothing.
func TestOldTLSIsRefused(t *testing.T) {
	c := newCollector(t)
	old := httptest.NewUnstartedServer(http.HandlerFunc(c.accept))
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, Certificates: c.server.TLS.Certificates}
	old.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	old.StartTLS()
	defer old.Close()
	cfg := c.config()
	cfg.URL = old.URL
	r, err := openReceiver(cfg.filled(), readFile(t, c.ca))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	err = r.send(t.Context(), []item{{line: []byte("{}\n")}})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v, want that the version is refused", err)
	}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Retry-After comes as seconds or as a date (RFC 9110 §10.2.3).
func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "30": 30 * time.Second, "-1": 0, "soon": 0, "99999999999": 0, "4000000000": maxRetryAfter,
		"Sun, 01 Nov 2026 08:01:00 GMT": time.Minute, "Sun, 01 Nov 2026 07:00:00 GMT": 0, "Sun, 01 Nov 2037 07:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

// A file that is no token is never sent.
func TestTokenFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "token")
	for text, want := range map[string]string{"abc": "abc", "abc\r\n": "abc", "": "", "a b": "", "a\nb": "", "a\x00": "", strings.Repeat("x", maxToken+1): ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readToken(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %q, %v; want %q", text, got, err, want)
		}
	}
}
