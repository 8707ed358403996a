package bench

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// app answers /1k, /64k and /cacheable (1 KiB that may be kept) with as many bytes, and everything else with a word.
type app struct {
	url         string
	certificate string // PEM file; empty without TLS
	cacheable   sync.Map
}

var largest = bytes.Repeat([]byte("0123456789abcde\n"), 4<<10) // 64 KiB

func newApp(b *testing.B, secure bool) *app {
	a := &app{}
	server := httptest.NewUnstartedServer(a)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		made, err := newCredentials(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		a.certificate = made.certFile
		// HTTP/1.1 alone, so that all subjects speak the same to it.
		server.TLS = &tls.Config{Certificates: []tls.Certificate{made.pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
		server.StartTLS()
	} else {
		server.Start()
	}
	a.url = server.URL
	b.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return a
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/cacheable" {
		a.counter(r.Host).Add(1)
	}
	answer(w, r)
}

func answer(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Content-Type"] = []string{"application/octet-stream"}
	switch {
	case strings.HasPrefix(r.URL.Path, "/64k"):
		header["Content-Length"] = []string{"65536"}
		w.Write(largest)
		return
	case r.URL.Path == "/cacheable":
		header["Cache-Control"] = []string{"public, max-age=3600"}
		header["Etag"] = []string{`"1"`}
	case r.URL.Path == "/":
		io.WriteString(w, "hello")
		return
	}
	if r.Method == http.MethodPost {
		io.Copy(io.Discard, r.Body)
	}
	header["Content-Length"] = []string{"1024"}
	w.Write(largest[:1<<10])
}

// asked is how often somebody asked for /cacheable on a host whose first label is this.
func (a *app) asked(label string) (n int64) {
	a.cacheable.Range(func(host, counter any) bool {
		if strings.HasPrefix(host.(string), label+".") {
			n += counter.(*atomic.Int64).Load()
		}
		return true
	})
	return n
}

func (a *app) counter(host string) *atomic.Int64 {
	if n, found := a.cacheable.Load(host); found {
		return n.(*atomic.Int64)
	}
	n, _ := a.cacheable.LoadOrStore(host, new(atomic.Int64))
	return n.(*atomic.Int64)
}
