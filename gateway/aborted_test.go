package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// abortedPhases are the moments at which a client leaves, and how many of ten thousand do.
var abortedPhases = []struct {
	name  string
	times int // connections, or for HTTP/2 requests in hundreds
	leave func(t *testing.T, b *bed)
}{
	{"half a handshake", 1000, func(t *testing.T, b *bed) {
		conn, err := net.Dial("tcp", b.front.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		conn.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc})
		conn.Close()
	}},
	{"half a head", 500, func(t *testing.T, b *bed) { b.leaveAfter(t, "GET / HTTP/1.1\r\nHost: %s\r\nX-Half: ") }},
	{"half a body", 500, func(t *testing.T, b *bed) {
		b.leaveAfter(t, "POST /page HTTP/1.1\r\nHost: %s\r\nCookie: __Host-sallyport=ada\r\nContent-Length: 1000\r\n\r\nhalf")
	}},
	{"an answer that is not read", 500, func(t *testing.T, b *bed) {
		b.leaveAfter(t, "GET /page HTTP/1.1\r\nHost: %s\r\nCookie: __Host-sallyport=ada\r\n\r\n")
	}},
	{"a hundred requests taken back", 75, func(t *testing.T, b *bed) {
		conn, err := b.knock("h2")
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		go io.Copy(io.Discard, conn)
		io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, nil)
		framer.WriteSettings()
		for n := range uint32(100) {
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: headBlock("cookie", "__Host-sallyport=ada"), EndStream: true, EndHeaders: true})
			framer.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
		}
	}},
}

// DOS-22: of ten thousand requests whose clients left at any moment nothing is left, in goroutines and in descriptors.
func TestTenThousandAborted(t *testing.T) {
	b, guard := guardedBed(t, connecting)
	answer := make([]byte, 1<<20)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(answer) }))
	t.Cleanup(origin.Close)
	app := wiki(t, origin.URL, "staff")
	app.Timeouts.Idle = time.Second // connections that are kept are none that are left
	b.server.Swap(snapshot(t, app))
	held := holdConnections(t, b, 50) // a baseline of which a twentieth is something
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	for _, phase := range abortedPhases {
		var clients sync.WaitGroup
		for range 10 {
			clients.Go(func() {
				for range phase.times / 10 {
					phase.leave(t, b)
				}
				for range phase.times % 10 {
					phase.leave(t, b)
				}
			})
		}
		clients.Wait()
	}
	eventually(t, "nothing to be left", func() bool {
		return guard.Stats().Strangers+guard.Stats().Known == held && b.server.open.Load() == 0 &&
			runtime.NumGoroutine() <= goroutines+goroutines/20 && openDescriptors(t) <= descriptors+descriptors/20
	})
}

func (b *bed) knock(protocol string) (*tls.Conn, error) {
	return tls.Dial("tcp", b.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: wikiHost, NextProtos: []string{protocol}})
}

// leaveAfter says something on a new connection and closes it.
func (b *bed) leaveAfter(t *testing.T, said string) {
	conn, err := b.knock("http/1.1")
	if err != nil {
		t.Error(err)
		return
	}
	fmt.Fprintf(conn, said, wikiHost)
	conn.NetConn().Close()
}

// holdConnections opens connections that stay.
func holdConnections(t *testing.T, b *bed, n int) int {
	for range n {
		conn, err := b.knock("http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nCookie: __Host-sallyport=ada\r\n\r\n", wikiHost)
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, conn)
	}
	eventually(t, "their answers to be over", func() bool { return b.server.open.Load() == 0 })
	return n
}

func openDescriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
