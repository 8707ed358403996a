package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What never reaches the handler is counted, and nothing else is: neither requests over HTTP/1.1 or HTTP/2, many on one
// connection, nor connections on which nobody asks.
func TestConnectionsCountWhatNeverBecomesARequest(t *testing.T) {
	for name, c := range map[string]struct {
		talk func(t *testing.T, server *httptest.Server)
		want []string
	}{
		"HTTP/1.1":              {func(t *testing.T, s *httptest.Server) { ask(t, s, "http/1.1", 3) }, nil},
		"HTTP/2":                {func(t *testing.T, s *httptest.Server) { ask(t, s, "h2", 3) }, nil},
		"nobody asks, HTTP/1.1": {func(t *testing.T, s *httptest.Server) { say(t, s, "http/1.1", "") }, nil},
		"nobody asks, HTTP/2":   {func(t *testing.T, s *httptest.Server) { say(t, s, "h2", preface(t)) }, nil},
		"a bad head": {func(t *testing.T, s *httptest.Server) {
			say(t, s, "http/1.1", "GET / HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n")
		}, []string{"malformed_request"}},
		"half a head": {func(t *testing.T, s *httptest.Server) { say(t, s, "http/1.1", "GET / HT") }, []string{"malformed_request"}},
		"a request, then a bad head": {func(t *testing.T, s *httptest.Server) {
			say(t, s, "http/1.1", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n")
		}, []string{"malformed_request"}},
		"a bad head, HTTP/2": {func(t *testing.T, s *httptest.Server) {
			say(t, s, "h2", preface(t, hpack.HeaderField{Name: ":method", Value: "GET"}, hpack.HeaderField{Name: ":scheme", Value: "https"},
				hpack.HeaderField{Name: ":authority", Value: "a"})) // no :path
		}, []string{"malformed_request"}},
		"no TLS": {func(t *testing.T, s *httptest.Server) {
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
			io.Copy(io.Discard, conn)
		}, []string{"tls_handshake"}},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			c1 := &connections{refused: func(reason string, peer netip.Addr) {
				if !peer.IsLoopback() {
					t.Errorf("refused a peer at %v", peer)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, reason)
			}}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c1.handled(r) }))
			server.EnableHTTP2 = true
			server.Config.ConnContext, server.Config.ConnState = c1.context, c1.state
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.StartTLS()
			c.talk(t, server)
			server.Close() // waits for every connection to be reported closed
			eventually(t, "connections to be forgotten", func() bool {
				empty := true
				c1.open.Range(func(any, any) bool { empty = false; return false })
				return empty
			})
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, c.want) {
				t.Errorf("counted %q, want %q", got, c.want)
			}
		})
	}
}

func ask(t *testing.T, server *httptest.Server, protocol string, times int) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: clientTLS(server, protocol), ForceAttemptHTTP2: protocol == "h2"}
	defer transport.CloseIdleConnections()
	for range times {
		res, err := (&http.Client{Transport: transport}).Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
}

// say sends bytes and hangs up when nothing more comes back.
func say(t *testing.T, server *httptest.Server, protocol, raw string) {
	t.Helper()
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), clientTLS(server, protocol))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	if protocol == "h2" {
		waitForPing(t, conn)
		return
	}
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	io.Copy(io.Discard, conn)
}

// preface opens an HTTP/2 connection, sends one head if there is one, and a ping whose answer shows that both were read.
func preface(t *testing.T, head ...hpack.HeaderField) string {
	t.Helper()
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	framer.WriteSettings()
	if len(head) > 0 {
		encoder := hpack.NewEncoder(&block)
		for _, field := range head {
			if err := encoder.WriteField(field); err != nil {
				t.Fatal(err)
			}
		}
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
	framer.WritePing(false, [8]byte{1})
	return out.String()
}

func waitForPing(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	framer := http2.NewFramer(io.Discard, conn)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("waiting for the ping's answer: %v", err)
		}
		if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
			return
		}
	}
}

func clientTLS(server *httptest.Server, protocol string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{protocol}}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
