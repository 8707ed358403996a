package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/test/harness"
)

const (
	slowAnswer = 10 << 20 // bytes of an answer that slow clients read
	slowPace   = 20 << 10 // bytes a second
	// freedWithin is how soon the app must be free of clients that have hardly begun to read.
	freedWithin = 2 * time.Second
	// mostMemory is what a gateway may take that holds all their answers.
	mostMemory = 300 << 20
)

// spoolApp is an app that knows how many connections it is held by.
type spoolApp struct {
	url      string
	held     atomic.Int64 // connections with a request on them
	finished atomic.Int64 // answers of /download that were handed over as a whole
	release  chan struct{}
	asked    sync.Map // X-Id of a request with a body → *atomic.Int64
}

func newSpoolApp(t *testing.T) *spoolApp {
	t.Helper()
	a := &spoolApp{release: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/download", a.download)
	mux.HandleFunc("/first", a.first)
	mux.HandleFunc("/live/first", a.first)
	mux.HandleFunc("/upload", a.upload)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	active := sync.Map{}
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateActive {
			active.Store(conn, true)
			a.held.Add(1)
			return
		}
		if _, was := active.LoadAndDelete(conn); was {
			a.held.Add(-1)
		}
	}
	server.Start()
	a.url = server.URL
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return a
}

// download answers with n bytes, of which each says where in which answer it stands.
func (a *spoolApp) download(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	n, _ := strconv.ParseInt(query.Get("n"), 10, 64)
	seed, _ := strconv.ParseUint(query.Get("seed"), 10, 64)
	say(w.Header(), query.Get("say"))
	if query.Get("length") != "" {
		w.Header().Set("Content-Length", query.Get("n"))
	}
	if (&pattern{seed: seed}).say(w, n) == nil {
		a.finished.Add(1)
	}
}

// first says the beginning of its answer, and the rest when it is told to.
func (a *spoolApp) first(w http.ResponseWriter, r *http.Request) {
	say(w.Header(), r.URL.Query().Get("say"))
	io.WriteString(w, "first\n")
	http.NewResponseController(w).Flush()
	select {
	case <-a.release:
		io.WriteString(w, "last\n")
	case <-r.Context().Done():
	}
}

// say sets a field given as name: value.
func say(header http.Header, field string) {
	if name, value, found := strings.Cut(field, ": "); found {
		header.Set(name, value)
	}
}

// upload answers with the digest of what it was sent.
func (a *spoolApp) upload(w http.ResponseWriter, r *http.Request) {
	n, _ := a.asked.LoadOrStore(r.Header.Get("X-Id"), new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		return
	}
	io.WriteString(w, hex.EncodeToString(sum.Sum(nil)))
}

// pattern is endless content that says where in which answer it stands: noise that repeats after a prime number of bytes,
// so that no two blocks of a body are alike which a buffer could mix up. It begins elsewhere for each seed. Nothing is
// computed, neither to say nor to check it: that would take the processors from what is measured.
type pattern struct{ seed, at uint64 }

const period = 1<<20 + 7

var noise = sync.OnceValue(func() []byte {
	block := make([]byte, period)
	rand.NewChaCha8([32]byte{1}).Read(block) // never fails
	return block
})

// next is the content from here on, as far as it is in one piece.
func (p *pattern) next() []byte { return noise()[(p.seed*104_729+p.at)%period:] }

func (p *pattern) Read(b []byte) (int, error) {
	n := copy(b, p.next())
	p.at += uint64(n)
	return n, nil
}

// say writes n bytes.
func (p *pattern) say(w io.Writer, n int64) error {
	for n > 0 {
		piece := p.next()
		piece = piece[:min(n, int64(len(piece)), 256<<10)]
		if _, err := w.Write(piece); err != nil {
			return err
		}
		n -= int64(len(piece))
		p.at += uint64(len(piece))
	}
	return nil
}

// Write checks what arrives against the pattern.
func (p *pattern) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		want := p.next()
		n := min(len(rest), len(want))
		if !bytes.Equal(rest[:n], want[:n]) {
			return len(b) - len(rest), fmt.Errorf("answer %d is %w, near byte %d", p.seed, errAnother, p.at)
		}
		p.at, rest = p.at+uint64(n), rest[n:]
	}
	return len(b), nil
}

var errAnother = errors.New("another answer")

// spoolStand is a stand with a spool folder of its own, before an app of this kind.
func spoolStand(t *testing.T, app *spoolApp, settings string) *harness.Stand {
	t.Helper()
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["`+app.url+`"], access: { groups: [staff] }`+settings+` }
`, "spool: { dir: DIR/spool }")
	if err := os.Mkdir(filepath.Join(s.Dir, "spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// slowClients is how many clients there are, and how soon the app has to be free of them: SALLYPORT_CLIENTS, on a machine
// that does nothing else, or as many as a quick run has.
func slowClients(t *testing.T) (n int, within time.Duration) {
	t.Helper()
	text := os.Getenv("SALLYPORT_CLIENTS")
	if text == "" {
		return 100, time.Minute
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SALLYPORT_CLIENTS is %q, want a number", text)
	}
	return n, freedWithin
}

// Clients that read 10 MiB at 20 KiB/s each hold no connection of the app, the gateway's memory stays small, every byte is
// right, and when they are gone so is what waited for them.
func TestSpoolFreesTheAppFromSlowClients(t *testing.T) {
	app := newSpoolApp(t)
	s := spoolStand(t, app, "")
	gw := s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	n, within := slowClients(t)
	hurry := make(chan struct{})
	list, wait := beginSlowly(t, s, cookie, n, hurry)
	began := time.Now()
	harness.Eventually(t, 2*time.Minute, "the app to be free", func() bool { return app.held.Load() == 0 })
	free := time.Since(began)
	t.Logf("%d clients: app free %s after the last answer began, gateway at %d MiB, %d files", n, free.Round(time.Millisecond), rss(t, gw)>>20, spooled(t, s, gw))
	if free > within {
		t.Errorf("the app was held for %s", free)
	}
	if finished := app.finished.Load(); finished != int64(n) {
		t.Errorf("the app handed over %d of %d answers", finished, n)
	}
	if memory := rss(t, gw); memory > mostMemory {
		t.Errorf("the gateway takes %d MiB", memory>>20)
	}
	if begun(list) != n || done(list) != 0 {
		t.Errorf("%d clients are reading and %d are done: they were to be slow", begun(list), done(list))
	}
	close(hurry)
	wait()
	harness.Eventually(t, 2*time.Minute, "the spool to be empty", func() bool { return spooled(t, s, gw) == 0 })
	if memory := rss(t, gw); memory > mostMemory {
		t.Errorf("the gateway takes %d MiB afterwards", memory>>20)
	}
}

// beginSlowly starts n clients, each when the one before has begun to read, and returns when the last one has.
func beginSlowly(t *testing.T, s *harness.Stand, cookie *http.Cookie, n int, hurry <-chan struct{}) (list []*slowClient, wait func()) {
	t.Helper()
	var readers sync.WaitGroup
	var failed atomic.Int64
	for i := range n {
		c := dialSlow(t, s, uint64(i))
		list = append(list, c)
		readers.Go(func() {
			if err := c.read(cookie, hostOf(s, "wiki"), slowAnswer, hurry); err != nil && failed.Add(1) < 5 {
				t.Error(err)
			}
		})
		harness.Eventually(t, 2*time.Minute, "the answer to begin", c.begun.Load)
	}
	return list, readers.Wait
}

// slowClient is a connection of its own with hardly any room in the kernel.
type slowClient struct {
	conn       *tls.Conn
	seed       uint64
	begun, all atomic.Bool
}

func dialSlow(t *testing.T, s *harness.Stand, seed uint64) *slowClient {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10) })
	}}
	conn, err := tls.DialWithDialer(&dialer, "tcp", s.Address(), &tls.Config{ServerName: "wiki." + harness.Domain, RootCAs: s.Roots(), NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &slowClient{conn: conn, seed: seed}
}

// ask sends a request for an answer with this many bytes.
func (c *slowClient) ask(cookie *http.Cookie, host string, n int, more string) (*http.Response, error) {
	if _, err := fmt.Fprintf(c.conn, "GET /download?seed=%d&n=%d%s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", c.seed, n, more, host, cookie); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(c.conn, 4<<10), nil)
	if err != nil {
		return nil, err
	}
	if c.begun.Store(true); res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("client %d got %d", c.seed, res.StatusCode)
	}
	return res, nil
}

// read takes the answer at the slow pace, until it may hurry.
func (c *slowClient) read(cookie *http.Cookie, host string, n int, hurry <-chan struct{}) error {
	res, err := c.ask(cookie, host, n, "")
	if err != nil {
		return err
	}
	check := &pattern{seed: c.seed}
	const perSecond = 4
	pace := time.NewTicker(time.Second / perSecond)
	defer pace.Stop()
	for slow := true; slow; {
		if _, err := io.CopyN(check, res.Body, slowPace/perSecond); err != nil {
			return err
		}
		select {
		case <-pace.C:
		case <-hurry:
			slow = false
		}
	}
	if _, err := io.Copy(check, res.Body); err != nil {
		return fmt.Errorf("client %d, after %d bytes: %w", c.seed, check.at, err)
	}
	if c.all.Store(true); check.at != uint64(n) {
		return fmt.Errorf("client %d got %d bytes of %d", c.seed, check.at, n)
	}
	return nil
}

func begun(list []*slowClient) (n int) {
	for _, c := range list {
		if c.begun.Load() {
			n++
		}
	}
	return n
}

func done(list []*slowClient) (n int) {
	for _, c := range list {
		if c.all.Load() {
			n++
		}
	}
	return n
}

// rss is the resident memory of a process in bytes.
func rss(t *testing.T, gw *harness.Process) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", gw.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// spooled is how many files of the spool the gateway has open.
func spooled(t *testing.T, s *harness.Stand, gw *harness.Process) (n int) {
	t.Helper()
	for _, name := range openFiles(t, gw) {
		if strings.HasPrefix(name, filepath.Join(s.Dir, "spool")+"/") {
			n++
		}
	}
	return n
}

// The same for clients over HTTP/2, many on one connection, in answers with and without a length.
func TestSpoolFreesTheAppFromSlowStreams(t *testing.T) {
	app := newSpoolApp(t)
	s := spoolStand(t, app, "")
	gw := s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	client := clients(s)[1]
	client.Timeout = 0
	const n = 20
	var open []*http.Response
	for i := range n {
		more := ""
		if i%2 == 0 {
			more = "&length=yes"
		}
		res, err := client.Do(request(t, http.MethodGet, s.URL("wiki", fmt.Sprintf("/download?seed=%d&n=%d%s", i, slowAnswer, more)), cookie, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		open = append(open, res)
	}
	harness.Eventually(t, 2*time.Minute, "the app to be free", func() bool { return app.held.Load() == 0 })
	for i, res := range open {
		if i%4 == 3 {
			res.Body.Close() // leaves
			continue
		}
		check := &pattern{seed: uint64(i)}
		if _, err := io.Copy(check, res.Body); err != nil || check.at != slowAnswer {
			t.Errorf("stream %d: %d bytes, %v", i, check.at, err)
		}
	}
	harness.Eventually(t, 2*time.Minute, "the spool to be empty", func() bool { return spooled(t, s, gw) == 0 })
}

// Clients that leave, at any moment of their answer, leave nothing behind.
func TestSpoolIsFreedWhenClientsLeave(t *testing.T) {
	app := newSpoolApp(t)
	s := spoolStand(t, app, "")
	probes := withProbes(t, s)
	gw := s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	random := rand.New(rand.NewPCG(1, 2))
	const n = 40
	var list []*slowClient
	for i := range n {
		c := dialSlow(t, s, uint64(i))
		res, err := c.ask(cookie, hostOf(s, "wiki"), slowAnswer, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(&pattern{seed: c.seed}, res.Body, random.Int64N(200_000)); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	harness.Eventually(t, 2*time.Minute, "the app to be free", func() bool { return app.held.Load() == 0 })
	if files := spooled(t, s, gw); files != n {
		t.Errorf("%d files are open for %d answers", files, n)
	}
	if bytes := gauge(t, probes, `sallyport_spool_disk_bytes`); bytes < n*5<<20 {
		t.Errorf("metrics know of %.0f bytes", bytes)
	}
	for _, c := range list {
		c.conn.NetConn().Close() // without a word
	}
	harness.Eventually(t, 2*time.Minute, "the spool to be empty", func() bool {
		return spooled(t, s, gw) == 0 && gauge(t, probes, "sallyport_spool_disk_bytes") == 0 && gauge(t, probes, "sallyport_spool_bodies") == 0 &&
			gauge(t, probes, "sallyport_spool_memory_bytes") == 0
	})
	if names, err := os.ReadDir(filepath.Join(s.Dir, "spool")); err != nil || len(names) > 0 {
		t.Errorf("the folder holds %v, %v", names, err)
	}
}

// What is a stream passes as the app says it: the first bytes arrive while the app still speaks, and an app that says
// more than the client takes has to wait for it.
func TestSpoolLeavesStreamsAlone(t *testing.T) {
	for name, c := range map[string]struct{ path, say string }{
		"events":           {"/first", "Content-Type: text/event-stream"},
		"asked by the app": {"/first", "X-Accel-Buffering: no"},
		"declared":         {"/live/first", ""},
		"only chunked":     {"/first", "Content-Type: text/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			app := newSpoolApp(t)
			s := streamStand(t, app)
			cookie := session(t, s, "wiki", "ada", "staff")
			for _, client := range clients(s) {
				res, err := client.Do(request(t, http.MethodGet, s.URL("wiki", c.path+"?say="+strings.ReplaceAll(c.say, " ", "%20")), cookie, nil))
				if err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(res.Body)
				if !lines.Scan() || lines.Text() != "first" {
					t.Fatalf("%s: %q, %v", res.Proto, lines.Text(), lines.Err())
				}
				app.release <- struct{}{}
				if !lines.Scan() || lines.Text() != "last" {
					t.Errorf("%s: %q, %v", res.Proto, lines.Text(), lines.Err())
				}
				res.Body.Close()
			}
		})
	}
	t.Run("under back-pressure", func(t *testing.T) {
		app := newSpoolApp(t)
		s := streamStand(t, app)
		cookie := session(t, s, "wiki", "ada", "staff")
		const large = 64 << 20 // more than all buffers between app and client hold
		var streams []*slowClient
		for i, more := range []string{"&say=Content-Type:%20text/event-stream", "&say=X-Accel-Buffering:%20no"} {
			c := dialSlow(t, s, uint64(i))
			if _, err := c.ask(cookie, hostOf(s, "wiki"), large, more); err != nil {
				t.Fatal(err)
			}
			streams = append(streams, c)
		}
		plain := dialSlow(t, s, 9)
		if _, err := plain.ask(cookie, hostOf(s, "wiki"), large, ""); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, 2*time.Minute, "the plain answer to be handed over, and nothing else", func() bool {
			return app.finished.Load() == 1 && app.held.Load() == int64(len(streams))
		})
	})
}

func streamStand(t *testing.T, app *spoolApp) *harness.Stand {
	t.Helper()
	s := spoolStand(t, app, ", streams: { paths: [/live/] }")
	s.Start(t)
	return s
}

// Slow uploads hold no app either, and arrive whole.
func TestSpoolFreesTheAppFromSlowUploads(t *testing.T) {
	app := newSpoolApp(t)
	s := spoolStand(t, app, "")
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	const n, size = 30, 512 << 10
	rest := make(chan struct{})
	var group sync.WaitGroup
	half := make(chan struct{}, n)
	for i := range n {
		client := clients(s)[i%2]
		group.Go(func() {
			body := io.MultiReader(io.LimitReader(&pattern{seed: uint64(i)}, size/2), gate{half, rest}, io.LimitReader(&pattern{seed: uint64(i), at: size / 2}, size/2))
			if err := upload(t.Context(), client, s.URL("wiki", "/upload"), cookie, http.MethodPost, fmt.Sprint(i), uint64(i), size, body); err != nil {
				t.Error(err)
			}
		})
	}
	for range n {
		<-half
	}
	if held := app.held.Load(); held != 0 {
		t.Errorf("%d uploads hold the app while they are under way", held)
	}
	if _, body := send(t, clients(s)[0], http.MethodGet, s.URL("wiki", "/"), cookie, nil); body != "hello" {
		t.Errorf("another request got %q", body)
	}
	close(rest)
	group.Wait()
	for i := range n {
		asked, found := app.asked.Load(fmt.Sprint(i))
		if !found || asked.(*atomic.Int64).Load() != 1 {
			t.Errorf("upload %d reached the app %v times", i, asked)
		}
	}
}

// gate is a place in a body at which the client pauses.
type gate struct {
	reached chan<- struct{}
	open    <-chan struct{}
}

func (g gate) Read([]byte) (int, error) {
	g.reached <- struct{}{}
	<-g.open
	return 0, io.EOF
}

// upload sends content and compares the digest that the app answers with.
func upload(ctx context.Context, client *http.Client, address string, cookie *http.Cookie, method, id string, seed uint64, size int64, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	req.AddCookie(cookie)
	req.Header.Set("X-Id", id)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return statusError(res.StatusCode)
	}
	sum := sha256.New()
	io.CopyN(sum, &pattern{seed: seed}, size)
	if want := hex.EncodeToString(sum.Sum(nil)); string(text) != want {
		return fmt.Errorf("upload %s arrived as something else", id)
	}
	return nil
}

type statusError int

func (e statusError) Error() string { return fmt.Sprintf("got %d", int(e)) }

// A request that is sent again is sent with its whole body; one that may not be repeated is sent once.
func TestSpoolReplaysBodiesToAnotherAddress(t *testing.T) {
	app := newSpoolApp(t)
	var met sync.Map
	broken := breakingApp(t, &met)
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["`+app.url+`", "http://`+broken+`"], balance: { method: round_robin }, ejection: { failures: 0, rate: 0 },
      retry: { attempts: 2, budget: 1 }, access: { groups: [staff] } }
`, "")
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	const size = 3 << 20
	failed := 0
	for i := range 24 {
		client, method := clients(s)[i%2], http.MethodPut
		if i%3 == 0 {
			method = http.MethodPost
		}
		err := upload(t.Context(), client, s.URL("wiki", "/upload"), cookie, method, fmt.Sprint(i), uint64(i), size, io.LimitReader(&pattern{seed: uint64(i)}, size))
		code := statusError(0)
		switch {
		case method == http.MethodPut && err != nil:
			t.Errorf("PUT %d: %v", i, err)
		case method == http.MethodPost && errors.As(err, &code) && code == http.StatusBadGateway:
			failed++
		case err != nil:
			t.Errorf("POST %d: %v", i, err)
		}
		if method == http.MethodPost {
			_, first := met.Load(fmt.Sprint(i))
			if _, second := app.asked.Load(fmt.Sprint(i)); first && second {
				t.Errorf("LB-02: POST %d was sent to both addresses", i)
			}
		}
	}
	if failed == 0 {
		t.Error("no POST met the broken address: the test shows nothing")
	}
}

// breakingApp reads a part of each body and resets the connection. It notes the ids it met.
func breakingApp(t *testing.T, met *sync.Map) (address string) {
	t.Helper()
	return serveOn(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/upload" {
			return
		}
		met.Store(r.Header.Get("X-Id"), true)
		io.CopyN(io.Discard, r.Body, 64<<10)
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}), func(p *http.Protocols) { p.SetHTTP1(true) }, nil)
}
