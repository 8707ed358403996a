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
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/audit"
	"sallyport/gateway/listen"
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
		"resets": func(f *http2.Framer, n uint32) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: headBlock(), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", b.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: wikiHost, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(2 * time.Minute))
			go io.Copy(io.Discard, conn)
			io.WriteString(conn, http2.ClientPreface)
			framer := http2.NewFramer(conn, nil)
			framer.WriteSettings()
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

func headBlock() []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", wikiHost}, {":path", "/"}} {
		encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return block.Bytes()
}
