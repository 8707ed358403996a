package bench

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/test/harness"
)

// bare starts the yardstick and waits until it answers.
func (bed *bed) bare(b *testing.B) *subject {
	return startBare(b, "bare ReverseProxy", bed.app.url, bed.app.certificate)
}

// floor is an http.Server that has the answer already: what no cache behind net/http can be faster than.
func (bed *bed) floor(b *testing.B) *subject { return startBare(b, "bare http.Server", "", "") }

func startBare(b *testing.B, name, app, appCertificate string) *subject {
	address, dir := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b)), b.TempDir()
	c := newChild(b, "bare", address, dir, app, appCertificate)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	c.started()
	b.Cleanup(func() { c.Process.Kill(); c.Wait() })
	x := &subject{name: name, address: address, host: certificateName, pids: []int{c.Process.Pid}, child: c}
	x.await(b, filepath.Join(dir, "cert.pem"))
	return x
}

// await waits until the subject has a certificate and listens.
func (x *subject) await(b *testing.B, certificate string) {
	harness.Eventually(b, 10*time.Second, x.name+" to answer", func() bool {
		if x.roots = rootsFrom(certificate); x.roots == nil {
			return false
		}
		conn, err := net.Dial("tcp", x.address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// rootsFrom reads a PEM file; nil means that there is none yet.
func rootsFrom(name string) *x509.CertPool {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil
	}
	return roots
}

// runBare is one http.Server before what most proxies in Go begin as, or before the answer itself.
func runBare(args []string) {
	go tellAllocations()
	if err := serveBare(args[0], args[1], args[2], args[3]); err != nil {
		log.Fatal(err)
	}
}

func serveBare(address, dir, app, appCertificate string) error {
	handler := http.Handler(http.HandlerFunc(answer))
	if app != "" {
		var err error
		if handler, err = reverseProxy(app, appCertificate); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	made, err := newCredentials(dir)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:   handler,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{made.pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	return server.ServeTLS(listener, "", "")
}

// reverseProxy is one httputil.ReverseProxy and nothing else.
func reverseProxy(app, appCertificate string) (http.Handler, error) {
	target, err := url.Parse(app)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	transport.DisableCompression = true
	if appCertificate != "" {
		if transport.TLSClientConfig = (&tls.Config{RootCAs: rootsFrom(appCertificate)}); transport.TLSClientConfig.RootCAs == nil {
			return nil, errors.New("no certificate of the app")
		}
	}
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}, nil
}
