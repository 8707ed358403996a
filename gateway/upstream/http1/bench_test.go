package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"sallyport/gateway/upstream/http1"
)

// BenchmarkRoundTrip measures both legs against an origin that costs next to nothing: it answers whatever ends a head
// with the same bytes. 64 requests are under way at once; the time is the processor's, of both ends.
func BenchmarkRoundTrip(b *testing.B) {
	for _, secured := range []bool{false, true} {
		for _, size := range []int{1 << 10, 64 << 10} {
			for _, leg := range []string{"http.Transport", "http1"} {
				name := map[bool]string{false: "tcp", true: "tls"}[secured] + "/" + strconv.Itoa(size>>10) + "KiB/" + leg
				b.Run(name, func(b *testing.B) { benchmark(b, secured, size, leg) })
			}
		}
	}
}

func benchmark(b *testing.B, secured bool, size int, leg string) {
	listener, config := plainOrigin(b, secured, size)
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", listener.Addr().String())
	}
	var rt http.RoundTripper
	scheme := "http"
	if secured {
		scheme = "https"
	}
	if leg == "http1" {
		lean := &http1.Transport{Dial: dial, TLS: config, ResponseTimeout: 30e9}
		defer lean.CloseIdle()
		rt = lean
	} else {
		standard := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			TLSClientConfig: config, ResponseHeaderTimeout: 30e9, MaxIdleConnsPerHost: 256, DisableCompression: true,
			ReadBufferSize: 8 << 10, WriteBufferSize: 8 << 10}
		defer standard.CloseIdleConnections()
		rt = standard
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ask := func(buf []byte) {
		req, _ := http.NewRequestWithContext(ctx, "GET", scheme+"://app.example/reports/2024?page=3", nil)
		req.Header = benchHeader
		res, err := rt.RoundTrip(req)
		if err != nil {
			b.Error(err)
			return
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{res.Body}, buf)
		if res.Body.Close(); err != nil || n != int64(size) {
			b.Error(n, err)
		}
	}
	b.SetParallelism(connections / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.SetBytes(int64(size))
	b.ResetTimer()
	before := cpu()
	b.RunParallel(func(pb *testing.PB) {
		for buf := make([]byte, 32<<10); pb.Next(); {
			ask(buf)
		}
	})
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
}

const connections = 64

var benchHeader = http.Header{
	"Accept": {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "Accept-Encoding": {"gzip, deflate, br"},
	"Accept-Language": {"de,en-US;q=0.7,en;q=0.3"}, "Cookie": {"app=0123456789abcdef0123456789abcdef; theme=dark"},
	"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
	"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Host": {"wiki.corp.example"}, "X-Forwarded-Proto": {"https"},
	"X-Request-Id": {"0193f3a0-1111-7222-8333-444455556666"}, "X-Sallyport-User": {"corp|ada"}, "X-Sallyport-Email": {"ada@corp.example"},
	"X-Sallyport-Assertion": {string(bytes.Repeat([]byte("eyJhbGciOiJF"), 60))},
}

// cpu is the processor time of this process, user and system.
func cpu() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func plainOrigin(b *testing.B, secured bool, size int) (net.Listener, *tls.Config) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var config *tls.Config
	accept := listener
	if secured {
		// borrowed for its certificate
		server := httptest.NewUnstartedServer(nil)
		server.StartTLS()
		config = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		config.ServerName, config.NextProtos, config.MinVersion = "example.com", nil, tls.VersionTLS13
		accept = tls.NewListener(listener, &tls.Config{Certificates: server.TLS.Certificates})
		server.Close()
	}
	b.Cleanup(func() { listener.Close() })
	answer := append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"+
		"Cache-Control: private, max-age=0\r\nEtag: \"0123456789\"\r\nVary: Accept-Encoding\r\nContent-Length: "+strconv.Itoa(size)+"\r\n\r\n"),
		bytes.Repeat([]byte("x"), size)...)
	go func() {
		for {
			c, err := accept.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				br := bufio.NewReaderSize(c, 8<<10)
				for {
					for {
						line, err := br.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) == 2 {
							break
						}
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener, config
}
