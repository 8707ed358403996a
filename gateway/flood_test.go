package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/audit"
	"sallyport/gateway/listen"
	"sallyport/policy"
)

// guardedBed is a bed whose door has these limits.
func guardedBed(t *testing.T, limits listen.Connections) (*bed, *listen.Guard) {
	t.Helper()
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	b.front.Close()
	guard := listen.NewGuard(limits, func(string, netip.Addr) {})
	b.server.connecting = limits
	b.front = httptest.NewUnstartedServer(nil)
	b.front.Listener = guard.Watch(b.front.Listener)
	b.front.Config = b.server.HTTPServer()
	b.front.EnableHTTP2 = true
	b.front.StartTLS()
	t.Cleanup(b.front.Close)
	return b, guard
}

// served asks as ada, who is signed in.
func (b *bed) served(t *testing.T, client *http.Client) {
	t.Helper()
	if status, body := answerTo(t, client, b.request(t, "GET", "/", "ada", nil)); status != http.StatusOK || body != "hello" {
		t.Fatalf("somebody who is signed in got %d %q", status, body)
	}
}

// DOS-16, DOS-22: three hundred strangers with a part of a handshake each are more than there is room for. Those who are
// signed in are served, on their connections and on new ones, and nothing is left of the others.
func TestStrangersFlood(t *testing.T) {
	limits := connecting
	limits.Total, limits.Strangers, limits.PerAddress = 200, 100, 100
	b, guard := guardedBed(t, limits)
	person := b.client(t, "h2")
	b.served(t, person)
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for i := range 300 {
		conn, err := net.Dial("tcp", b.front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte{0x16, 3, 1, 2, 0, 1, 0})
		conns = append(conns, conn)
		if i%30 == 0 {
			b.served(t, person)
			b.get(t, "/")
		}
	}
	eventually(t, "two hundred strangers to be closed", func() bool {
		s := guard.Stats()
		return s.Cut >= 200 && s.Strangers <= limits.Strangers
	})
	b.served(t, person)
	for _, conn := range conns {
		conn.Close()
	}
	eventually(t, "nothing to be left of strangers", func() bool {
		return guard.Stats().Strangers == 0 && runtime.NumGoroutine() <= before+60 // those of new connections, which stay
	})
	b.served(t, person)
}

// A crowd of strangers is turned away and counted, without a record each; nobody who is signed in is.
func TestCrowd(t *testing.T) {
	b, _ := guardedBed(t, connecting)
	b.server.crowd.most = 2
	b.server.crowd.inside.Store(2) // so many are being judged
	client := b.client(t, "http/1.1")
	if status, _ := answerTo(t, client, b.request(t, "GET", "/", "", nil)); status != http.StatusServiceUnavailable || b.window.of(crowded, "wiki") != 1 || len(b.log.of(audit.TypeDecision)) != 0 {
		t.Errorf("got %d, counted %d and recorded %d, want 503, 1 and none", status, b.window.of(crowded, "wiki"), len(b.log.of(audit.TypeDecision)))
	}
	b.served(t, client)
	b.server.crowd.inside.Store(1)
	for range 5 {
		if status, _ := answerTo(t, client, b.request(t, "GET", "/", "", nil)); status != http.StatusUnauthorized {
			t.Errorf("got %d with a place free, want 401", status)
		}
	}
	eventually(t, "the places to be free", func() bool { return b.server.crowd.inside.Load() == 1 })
}

// DOS-01, DOS-02: frames that only make work end their connection, whatever they are.
func TestFloodsOfFrames(t *testing.T) {
	limits := connecting
	limits.Unasked, limits.Resets = 256<<10, 50
	b, _ := guardedBed(t, limits)
	for name, send := range map[string]func(f *http2.Framer, n uint32) error{
		"pings":      func(f *http2.Framer, n uint32) error { return f.WritePing(false, [8]byte{byte(n)}) },
		"settings":   func(f *http2.Framer, n uint32) error { return f.WriteSettings() },
		"priorities": func(f *http2.Framer, n uint32) error { return f.WritePriority(2*n+1, http2.PriorityParam{Weight: 1}) },
		"windows":    func(f *http2.Framer, n uint32) error { return f.WriteWindowUpdate(0, 1) },
		"empty continuations": func(f *http2.Framer, n uint32) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headBlock()})
			}
			return f.WriteContinuation(1, false, nil)
		},
		"empty data": func(f *http2.Framer, n uint32) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headBlock(), EndHeaders: true})
			}
			return f.WriteData(1, false, nil)
		},
		"resets": func(f *http2.Framer, n uint32) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: headBlock(), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, framer := b.framer(t)
			go io.Copy(io.Discard, conn)
			for n := range uint32(200_000) {
				if err := send(framer, n); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("the connection is open after %d", n)
				} else if err != nil {
					return
				}
			}
			t.Error("the connection took all of them")
		})
	}
	b.served(t, b.client(t, "h2"))
}

// DOS-02: an open request is no shelter for such frames, whether it is one whose answer the client does not take or one whose
// body does not come; people who are signed in, and bodies that do come, are not touched.
func TestFloodsBesideOpenRequests(t *testing.T) {
	limits := connecting
	limits.Unasked = 256 << 10
	b, _ := guardedBed(t, limits)
	app := wiki(t, b.origin, "staff")
	app.Access = policy.Access{{Public: true}}
	b.server.Swap(snapshot(t, app))
	flood := func(t *testing.T, open func(*http2.Framer) error, send func(f *http2.Framer, n uint32) error) (cut bool) {
		conn, framer := b.framer(t)
		go io.Copy(io.Discard, conn)
		if err := open(framer); err != nil {
			t.Fatal(err)
		}
		for n := range uint32(200_000) {
			if err := send(framer, n); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the connection is open after %d", n)
			} else if err != nil {
				return true
			}
		}
		return false
	}
	priority := func(f *http2.Framer, n uint32) error { return f.WritePriority(2*n+1, http2.PriorityParam{Weight: 1}) }
	emptyData := func(f *http2.Framer, _ uint32) error { return f.WriteData(1, false, nil) }
	untaken := func(f *http2.Framer) error {
		if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize}); err != nil {
			return err
		}
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headBlock(), EndStream: true, EndHeaders: true})
	}
	unsent := func(fields ...string) func(f *http2.Framer) error {
		return func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: postBlock(fields...), EndHeaders: true})
		}
	}
	if !flood(t, untaken, priority) {
		t.Error("priorities beside an answer that is not taken: the connection took all of them")
	}
	if !flood(t, unsent(), emptyData) {
		t.Error("a body of empty frames: the connection took all of them")
	}
	if flood(t, unsent("cookie", "__Host-sallyport=ada"), emptyData) {
		t.Error("somebody who is signed in was cut")
	}
}

// A stranger's upload of several times what may reach nobody arrives, over both protocols.
func TestStrangersUpload(t *testing.T) {
	b, guard := guardedBed(t, connecting)
	app := wiki(t, b.origin, "staff")
	app.Access, app.MaxBody = policy.Access{{Public: true}}, 64<<20
	b.server.Swap(snapshot(t, app))
	for _, protocol := range []string{"http/1.1", "h2"} {
		body := io.LimitReader(zeros{}, 40<<20)
		if status, _ := answerTo(t, b.client(t, protocol), b.request(t, "POST", "/", "", body)); status != http.StatusOK {
			t.Errorf("%s: got %d", protocol, status)
		}
	}
	if s := guard.Stats(); s.Cut != 0 {
		t.Errorf("%d connections were cut", s.Cut)
	}
}

// framer is an HTTP/2 connection by hand, which gives up after two minutes.
func (b *bed) framer(t *testing.T) (*tls.Conn, *http2.Framer) {
	t.Helper()
	conn, err := tls.Dial("tcp", b.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: wikiHost, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.WriteSettings()
	return conn, framer
}

// DOS-17: an HTTP/2 client that does not say whether it is there is left, long before its connection would be for idleness:
// between two heads, and in the middle of one that does not end.
func TestHTTP2ClientsSayThatTheyAreThere(t *testing.T) {
	limits := connecting
	limits.Ping, limits.Idle = time.Second, time.Hour
	b, _ := guardedBed(t, limits)
	for name, begin := range map[string]func(*http2.Framer){
		"nothing": func(*http2.Framer) {},
		"half a head": func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headBlock()})
		},
	} {
		conn, framer := b.framer(t)
		begin(framer)
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is open", name)
		}
	}
}

// DOS-05: of a thousand requests that one connection opens at once, the app sees as many as are configured; the others are
// refused before anything is done.
func TestOpenStreams(t *testing.T) {
	limits := connecting
	limits.Streams = 10
	b, _ := guardedBed(t, limits)
	var inside, most, asked atomic.Int64
	answer := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		for n := inside.Add(1); ; {
			if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		<-answer
		inside.Add(-1)
	}))
	t.Cleanup(app.Close)
	b.server.Swap(snapshot(t, wiki(t, app.URL, "staff")))
	_, framer := b.framer(t)
	go func() {
		for n := range uint32(1000) {
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: headBlock("cookie", "__Host-sallyport=ada"), EndStream: true, EndHeaders: true})
		}
	}()
	refused := 0
	for refused < 1000-limits.Streams {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("after %d were refused: %v", refused, err)
		}
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			refused++
		}
	}
	eventually(t, "the rest to reach the app", func() bool { return inside.Load() == int64(limits.Streams) })
	close(answer)
	if status, _ := answerTo(t, b.client(t, "h2"), b.request(t, "GET", "/", "ada", nil)); status != http.StatusOK {
		t.Errorf("another connection got %d", status)
	}
	if n := asked.Load(); most.Load() > int64(limits.Streams) || n != int64(limits.Streams)+1 {
		t.Errorf("%d at once and %d in all reached the app, want %d and one more", most.Load(), n, limits.Streams)
	}
}

// headBlock is a GET, with further fields.
func headBlock(more ...string) []byte { return block("GET", more...) }

func postBlock(more ...string) []byte { return block("POST", more...) }

func block(method string, more ...string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", wikiHost}, {":path", "/"}} {
		encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for i := 0; i < len(more); i += 2 {
		encoder.WriteField(hpack.HeaderField{Name: more[i], Value: more[i+1]})
	}
	return block.Bytes()
}
