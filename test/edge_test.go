package test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/audit"
	"sallyport/test/harness"
)

// An answer is compressed where that tells nobody anything, and is the same answer afterwards.
func TestEdgeCompressesOnlyWhereItTellsNobodyAnything(t *testing.T) {
	page := strings.Repeat("<p>Compressible, as pages are.</p>\n", 2000)
	address := serveOn(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Etag", `"strong"`)
		for _, field := range query["say"] {
			say(w.Header(), field)
		}
		if r.Method == http.MethodHead {
			return
		}
		if query.Has("pieces") { // an answer whose length nobody knows, and that pauses
			for rest := page; rest != ""; rest = rest[min(len(rest), 5000):] {
				io.WriteString(w, rest[:min(len(rest), 5000)])
				http.NewResponseController(w).Flush()
			}
			return
		}
		io.WriteString(w, page)
	}), func(p *http.Protocols) { p.SetHTTP1(true) }, nil)
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["http://`+address+`"], compression: true, access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["http://`+address+`"], access: { groups: [staff] } }
`, "")
	s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	harness.Get(t, browser, s.URL("payroll", "/"))
	for _, c := range []struct {
		name, label, query string
		fields             []string // of the request
		want               bool
	}{
		{"the app's own page", "wiki", "", []string{"Sec-Fetch-Site: same-origin"}, true},
		{"the address bar", "wiki", "", []string{"Sec-Fetch-Site: none"}, true},
		{"in pieces", "wiki", "pieces", []string{"Sec-Fetch-Site: none"}, true},
		{"BREACH: a foreign page", "wiki", "", []string{"Sec-Fetch-Site: cross-site"}, false},
		{"BREACH: a sibling host", "wiki", "", []string{"Sec-Fetch-Site: same-site"}, false},
		{"BREACH: nobody vouches", "wiki", "", nil, false},
		{"public", "wiki", "say=Cache-Control:%20public", nil, true},
		{"public, foreign page", "wiki", "say=Cache-Control:%20public", []string{"Sec-Fetch-Site: cross-site"}, true},
		{"private", "wiki", "say=Cache-Control:%20private,%20public", nil, false},
		{"no-transform", "wiki", "say=Cache-Control:%20no-transform", []string{"Sec-Fetch-Site: none"}, false},
		{"asked not to", "wiki", "", []string{"Sec-Fetch-Site: none", "Cache-Control: no-transform"}, false},
		{"a new secret", "wiki", "say=Set-Cookie:%20a=b", []string{"Sec-Fetch-Site: none"}, false},
		{"a picture", "wiki", "say=Content-Type:%20image/png", []string{"Sec-Fetch-Site: none"}, false},
		{"encoded already", "wiki", "say=Content-Encoding:%20br", []string{"Sec-Fetch-Site: none"}, false},
		{"an app without it", "payroll", "", []string{"Sec-Fetch-Site: none"}, false},
	} {
		for _, client := range clients(s) {
			req := request(t, http.MethodGet, s.URL(c.label, "/page?"+c.query), s.Cookie(t, browser, c.label), nil)
			req.Header.Set("Accept-Encoding", "br;q=0.5, gzip")
			for _, field := range c.fields {
				name, value, _ := strings.Cut(field, ": ")
				req.Header.Add(name, value)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("%s over %s: got %d, %v", c.name, res.Proto, res.StatusCode, err)
				continue
			}
			checkCompressed(t, c.name+" over "+res.Proto, res, body, page, c.want)
		}
	}
	t.Run("who does not accept it", func(t *testing.T) {
		req := request(t, http.MethodGet, s.URL("wiki", "/page"), s.Cookie(t, browser, "wiki"), nil)
		req.Header.Set("Accept-Encoding", "identity, gzip;q=0")
		req.Header.Set("Sec-Fetch-Site", "none")
		res, err := clients(s)[0].Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != page || !strings.Contains(strings.Join(res.Header["Vary"], ","), "Accept-Encoding") {
			t.Errorf("got %d bytes, Vary %q, %v", len(body), res.Header["Vary"], err)
		}
	})
}

func checkCompressed(t *testing.T, name string, res *http.Response, body []byte, page string, want bool) {
	t.Helper()
	if got := res.Header.Get("Content-Encoding") == "gzip"; got != want {
		t.Errorf("%s: Content-Encoding %q, want compressed %v", name, res.Header.Get("Content-Encoding"), want)
		return
	}
	if !want {
		if string(body) != page {
			t.Errorf("%s: another body of %d bytes", name, len(body))
		}
		return
	}
	zipped, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if text, err := io.ReadAll(zipped); err != nil || string(text) != page || len(body) > len(page)/5 {
		t.Errorf("%s: %d bytes became %d, %v", name, len(body), len(text), err)
	}
	if tag := res.Header.Get("Etag"); tag != `W/"strong"` || !strings.Contains(strings.Join(res.Header["Vary"], ","), "Accept-Encoding") {
		t.Errorf("%s: ETag %s, Vary %q", name, tag, res.Header["Vary"])
	}
}

// balancerAddress is a loopback address that the tests trust as a load balancer's. Everybody else, the harness among them,
// comes from 127.0.0.1.
const balancerAddress = "127.0.0.2"

// HDR-09: a trusted load balancer says who the client is, by PROXY protocol 1 or 2; nobody else can, and a trusted one
// that says nothing is not served.
func TestEdgeBelievesTrustedBalancersOnly(t *testing.T) {
	s := harness.New(t, harness.Apps, "proxy_protocol: { trusted: ["+balancerAddress+"/32], timeout: 1s }")
	s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	client, server := &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 4711}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.Port}
	one, two := encodeHeader(t, 1, client, server), encodeHeader(t, 2, client, server)
	local := encodeLocal(t)
	for _, c := range []struct {
		name, from string
		header     []byte
		want       string // the client as the app sees it; empty: not served
	}{
		{"version 1", balancerAddress, one, "203.0.113.7"},
		{"version 2", balancerAddress, two, "203.0.113.7"},
		{"the balancer's own check", balancerAddress, local, balancerAddress},
		{"trusted and silent", balancerAddress, nil, ""},
		{"half a header", balancerAddress, one[:len(one)-4], ""},
		{"two headers", balancerAddress, append(bytes.Clone(one), two...), ""},
		{"a stranger's version 1", "127.0.0.1", one, ""},
		{"a stranger's version 2", "127.0.0.1", two, ""},
		{"a stranger", "127.0.0.1", nil, "127.0.0.1"},
	} {
		s.Origin.Forget()
		err := askFrom(s, c.from, c.header, cookie)
		seen := s.Origin.Seen()
		if c.want == "" {
			if err == nil || len(seen) > 0 {
				t.Errorf("%s was served", c.name)
			}
			continue
		}
		if err != nil || len(seen) != 1 {
			t.Errorf("%s: %v, the app was asked %d times", c.name, err, len(seen))
			continue
		}
		if got := seen[0].Header.Get("X-Forwarded-For"); got != c.want {
			t.Errorf("%s: the app was told %q, want %q", c.name, got, c.want)
		}
		if got := recordedClient(t, s, seen[0].ID); got != c.want {
			t.Errorf("%s: the record says %q, want %q", c.name, got, c.want)
		}
	}
	if res, _ := send(t, clients(s)[0], http.MethodGet, s.URL("wiki", "/"), cookie, nil); res.StatusCode != http.StatusOK {
		t.Errorf("afterwards: got %d", res.StatusCode)
	}
}

func encodeHeader(t *testing.T, version byte, client, server net.Addr) []byte {
	t.Helper()
	header := proxyproto.HeaderProxyFromAddrs(version, client, server)
	text, err := header.Format()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func encodeLocal(t *testing.T) []byte {
	t.Helper()
	text, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// askFrom asks for a page over a connection of its own from an address, after saying a header.
func askFrom(s *harness.Stand, from string, header []byte, cookie *http.Cookie) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
	plain, err := dialer.Dial("tcp", s.Address())
	if err != nil {
		return err
	}
	defer plain.Close()
	plain.SetDeadline(time.Now().Add(time.Minute))
	if _, err := plain.Write(header); err != nil {
		return err
	}
	conn := tls.Client(plain, &tls.Config{ServerName: "wiki." + harness.Domain, RootCAs: s.Roots(), NextProtos: []string{"http/1.1"}})
	if _, err := fmt.Fprintf(conn, "GET /page HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", hostOf(s, "wiki"), cookie); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return statusError(res.StatusCode)
	}
	return nil
}

// recordedClient is the address in the decision record of a request.
func recordedClient(t *testing.T, s *harness.Stand, id string) string {
	t.Helper()
	var input struct {
		Context struct {
			Client struct {
				IP netip.Addr `json:"ip"`
			} `json:"client"`
		} `json:"context"`
	}
	for _, r := range records(t, s) {
		if r.Type == audit.TypeDecision && r.RequestID == id {
			if err := json.Unmarshal(r.Input, &input); err != nil {
				t.Fatal(err)
			}
		}
	}
	return input.Context.Client.IP.String()
}

// stopApp answers /slow when it is told to, and everything else at once.
type stopApp struct {
	address string
	waiting atomic.Int64
	release chan struct{}
}

func newStopApp(t *testing.T) *stopApp {
	a := &stopApp{release: make(chan struct{})}
	a.address = serveOn(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			a.waiting.Add(1)
			<-a.release
		}
		io.WriteString(w, "whole")
	}), func(p *http.Protocols) { p.SetHTTP1(true) }, nil)
	return a
}

// A gateway that is asked to stop accepts nobody new, tells HTTP/2 clients so (GOAWAY), closes connections on which nobody
// asks, finishes what is under way, and ends well with all outcomes on record.
func TestEdgeStopsWithoutBreakingAnything(t *testing.T) {
	app := newStopApp(t)
	s := harness.New(t, strings.ReplaceAll(harness.Apps, "ORIGIN", "http://"+app.address), "")
	gw := startLoud(t, s)
	cookie := session(t, s, "wiki", "ada", "staff")
	idle1, idle2 := idleHTTP1(t, s, cookie), dialFrames(t, s)
	var under sync.WaitGroup
	for _, client := range clients(s) {
		under.Go(func() {
			if res, body := send(t, client, http.MethodGet, s.URL("wiki", "/slow"), cookie, nil); res.StatusCode != http.StatusOK || body != "whole" {
				t.Errorf("%s: a request under way got %d %q", res.Proto, res.StatusCode, body)
			}
		})
	}
	busy := dialFrames(t, s)
	busy.get(t, hostOf(s, "wiki"), "/slow", cookie)
	harness.Eventually(t, 2*time.Minute, "three requests under way", func() bool { return app.waiting.Load() == 3 })
	stopped := make(chan error, 1)
	go func() { stopped <- gw.Stop() }()
	if err := idle1(); err != io.EOF {
		t.Errorf("the idle connection ended with %v", err)
	}
	idle2.mustGoAway(t)
	busy.mustGoAway(t)
	harness.Eventually(t, 2*time.Minute, "nobody new to be accepted", func() bool {
		conn, err := net.Dial("tcp", s.Address())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(app.release)
	under.Wait()
	if body := busy.body(t); body != "whole" {
		t.Errorf("the stream under way got %q", body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	list := records(t, s)
	allowed := count(list, func(r audit.Record) bool { return r.Type == audit.TypeDecision && r.Effect == audit.Allow })
	if outcomes := count(list, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "" }); outcomes != allowed {
		t.Errorf("%d outcomes for %d allowed requests", outcomes, allowed)
	}
	gapless(t, list)
}

// idleHTTP1 is a connection on which one request was answered. The function waits for its end.
func idleHTTP1(t *testing.T, s *harness.Stand, cookie *http.Cookie) func() error {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Address(), &tls.Config{ServerName: "wiki." + harness.Domain, RootCAs: s.Roots(), NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", hostOf(s, "wiki"), cookie)
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	drain(res)
	return func() error {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, err := reader.ReadByte()
		return err
	}
}

// frames is an HTTP/2 connection seen frame by frame.
type frames struct {
	*http2.Framer
	conn net.Conn
	data bytes.Buffer // of stream 1
	done bool         // stream 1
}

func dialFrames(t *testing.T, s *harness.Stand) *frames {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Address(), &tls.Config{ServerName: "wiki." + harness.Domain, RootCAs: s.Roots(), NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	f := &frames{Framer: http2.NewFramer(conn, conn), conn: conn}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	f.next(t) // the server's settings: it knows us now
	return f
}

func (f *frames) get(t *testing.T, host, path string, cookie *http.Cookie) {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", path}, {"cookie", cookie.String()}} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
}

// next reads a frame and keeps what belongs to stream 1.
func (f *frames) next(t *testing.T) http2.Frame {
	t.Helper()
	frame, err := f.ReadFrame()
	if err != nil {
		t.Fatalf("reading a frame: %v", err)
	}
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			f.WriteSettingsAck()
		}
	case *http2.DataFrame:
		f.data.Write(frame.Data())
		f.done = frame.StreamEnded()
	case *http2.RSTStreamFrame:
		t.Fatalf("the stream was reset: %v", frame.ErrCode)
	}
	return frame
}

func (f *frames) mustGoAway(t *testing.T) {
	t.Helper()
	for {
		if frame, ok := f.next(t).(*http2.GoAwayFrame); ok {
			if frame.ErrCode != http2.ErrCodeNo {
				t.Errorf("GOAWAY says %v", frame.ErrCode)
			}
			return
		}
	}
}

// body is the rest of stream 1.
func (f *frames) body(t *testing.T) string {
	t.Helper()
	for !f.done {
		f.next(t)
	}
	return f.data.String()
}

// The service manager holds the socket: while one gateway stops and the next one starts, connections wait, and every
// request is answered.
func TestEdgeRestartsOnAnInheritedSocket(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	listener, err := net.Listen("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	start := func() *harness.Process {
		// LISTEN_PID names the process that the sockets are for (sd_listen_fds(3)): the shell becomes it.
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" run --config "$1"`, filepath.Join(harness.Binaries(t), "sallyport"), s.Config)
		cmd.ExtraFiles = []*os.File{socket}
		return s.StartCommand(t, cmd)
	}
	gw := start()
	cookie := session(t, s, "wiki", "ada", "staff")
	quit := make(chan struct{})
	var group sync.WaitGroup
	var answered atomic.Int64
	for n := range crowdSize {
		group.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				if err := askOnce(s, cookie, n%2 == 0); err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for range 3 {
		before := answered.Load()
		harness.Eventually(t, 2*time.Minute, "answers", func() bool { return answered.Load() > before+50 })
		if err := gw.Stop(); err != nil {
			t.Errorf("the gateway ended with %v\n%s", err, gw.Output())
		}
		gw = start()
	}
	before := answered.Load()
	harness.Eventually(t, 2*time.Minute, "answers after the last restart", func() bool { return answered.Load() > before+50 })
	close(quit)
	group.Wait()
	t.Logf("%d requests over three restarts", answered.Load())
}

// askOnce asks over a connection of its own.
func askOnce(s *harness.Stand, cookie *http.Cookie, modern bool) error {
	client := clients(s)[0]
	if modern {
		client = clients(s)[1]
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, s.URL("wiki", "/page"), nil)
	if err != nil {
		return err
	}
	req.AddCookie(cookie)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.Join(statusError(res.StatusCode), drain(res))
	}
	return drain(res)
}
