package upstream

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// secured is an app behind TLS; its certificate is for example.com and 127.0.0.1.
func secured(t *testing.T, h2 bool, serve http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(serve)
	s.EnableHTTP2 = h2
	s.Config.ErrorLog = quiet
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// authority is the file with the certificate that vouches for a server.
func authority(t *testing.T, s *httptest.Server) string {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// SSRF-04: an app's certificate is verified unless the operator says otherwise, and the two cannot be swapped.
func TestCertificatesAreVerifiedUnlessSwitchedOff(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolAuto, ProtocolH2} {
		eachLeg(t, func(t *testing.T, lean bool) {
			s := secured(t, true, fine)
			for name, row := range map[string]struct {
				tls  TLS
				want bool
			}{
				"by default":              {TLS{}, false},
				"the right authority":     {TLS{CA: authority(t, s)}, true},
				"its name asked for":      {TLS{CA: authority(t, s), ServerName: "example.com"}, true},
				"another name asked for":  {TLS{CA: authority(t, s), ServerName: "other.example"}, false},
				"verification off":        {TLS{InsecureSkipVerify: true}, true},
				"off, with another name":  {TLS{InsecureSkipVerify: true, ServerName: "other.example"}, true},
				"on, with some authority": {TLS{CA: authority(t, secured(t, false, fine))}, true}, // httptest has one certificate
			} {
				cfg := config(t, s.URL)
				cfg.TLS, cfg.Protocol, cfg.Lean = row.tls, protocol, lean
				status, err := get(t.Context(), poolOf(t, cfg), nil)
				if good := err == nil && status == 200; good != row.want {
					t.Errorf("%s, %s: got %d, %v", protocol, name, status, err)
				}
				if _, verification := errors.AsType[*tls.CertificateVerificationError](err); !row.want && !verification {
					t.Errorf("%s, %s: the error is %v", protocol, name, err)
				}
			}
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(fine))
	s.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	s.Config.ErrorLog = quiet
	s.StartTLS()
	t.Cleanup(s.Close)
	cfg := config(t, s.URL)
	cfg.TLS.InsecureSkipVerify = true
	if status, err := get(t.Context(), poolOf(t, cfg), nil); err == nil {
		t.Errorf("got %d over TLS 1.1", status)
	}
}

func TestServerNameIsSentAndClientCertificateShown(t *testing.T) {
	type seen struct{ name, client string }
	got := make(chan seen, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- seen{r.TLS.ServerName, r.TLS.PeerCertificates[0].Subject.CommonName}
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	chain := clientChain(t)
	eachLeg(t, func(t *testing.T, lean bool) {
		cfg := config(t, s.URL)
		cfg.Lean = lean
		cfg.TLS = TLS{CA: authority(t, s), ServerName: "example.com", ClientCertificate: "gateway.pem"}
		cfg.ClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return chain, nil }
		mustGet(t, poolOf(t, cfg), nil)
		if saw := <-got; saw != (seen{"example.com", "sallyport"}) {
			t.Errorf("the app saw %+v", saw)
		}
	})
}

func clientChain(t *testing.T) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sallyport"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+" "+r.RequestURI) })}}
	s.Start()
	t.Cleanup(s.Close)
	eachLeg(t, func(t *testing.T, lean bool) {
		cfg := config(t, "unix:"+path)
		cfg.Lean = lean
		cfg.Health = Health{Type: HealthTCP, Interval: 20 * time.Millisecond, Timeout: time.Second, Rise: 1, Fall: 1}
		p := poolOf(t, cfg)
		for range 3 {
			if _, body, err := outcome(p, request(t.Context(), "GET", "", false)); err != nil || body != "wiki.corp.example /x" {
				t.Errorf("got %q, %v", body, err)
			}
		}
		if got := p.Endpoints()[0]; got.Address != "unix:"+path || got.Resolved != "" || !got.InService {
			t.Errorf("got %+v", got)
		}
	})
}

// overH2 is an app that speaks HTTP/2 without TLS, and HTTP/1.1.
func overH2(t *testing.T, serve http.HandlerFunc) string {
	s := httptest.NewUnstartedServer(serve)
	s.Config.Protocols = protocols((*http.Protocols).SetUnencryptedHTTP2)
	s.Config.Protocols.SetHTTP1(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// trailing answers with the protocol, the trailers it got, and trailers of its own.
func trailing(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "Grpc-Status")
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, r.Proto+" "+r.Trailer.Get("X-Checksum"))
	w.Header().Set("Grpc-Status", "7")
	w.Header().Set(http.TrailerPrefix+"Grpc-Message", "no")
}

func TestProtocols(t *testing.T) {
	plain, secure := overH2(t, trailing), secured(t, true, trailing)
	for _, row := range []struct {
		name, address string
		protocol      Protocol
		contentType   string
		want          string
	}{
		{"auto is HTTP/1.1", plain, ProtocolAuto, "text/plain", "HTTP/1.1"},
		{"auto is HTTP/1.1 over TLS", secure.URL, ProtocolAuto, "text/plain", "HTTP/1.1"},
		{"auto is HTTP/1.1 for gRPC without TLS", plain, ProtocolAuto, "application/grpc", "HTTP/1.1"},
		{"auto is HTTP/2 for gRPC over TLS", secure.URL, ProtocolAuto, "application/grpc+proto", "HTTP/2.0"},
		{"gRPC with a parameter is HTTP/1.1", secure.URL, ProtocolAuto, "application/grpc;x", "HTTP/1.1"},
		{"h2c for gRPC", plain, ProtocolH2C, "application/grpc", "HTTP/2.0"},
		{"gRPC-Web is HTTP/1.1", secure.URL, ProtocolAuto, "application/grpc-web+proto", "HTTP/1.1"},
		{"http1", plain, ProtocolHTTP1, "application/grpc", "HTTP/1.1"},
		{"h2c", plain, ProtocolH2C, "text/plain", "HTTP/2.0"},
		{"h2", secure.URL, ProtocolH2, "text/plain", "HTTP/2.0"},
	} {
		eachLeg(t, func(t *testing.T, lean bool) {
			cfg := config(t, row.address)
			cfg.Protocol, cfg.Lean = row.protocol, lean
			cfg.TLS.CA = authority(t, secure)
			p := poolOf(t, cfg)
			req := request(t.Context(), "POST", "message", false)
			req.Header.Set("Content-Type", row.contentType)
			req.Header.Set("Te", "trailers")
			req.Trailer, req.ContentLength = http.Header{"X-Checksum": {"abc"}}, -1
			res, err := p.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", row.name, err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(body) != row.want+" abc" {
				t.Errorf("%s: the app got %q, %v; want %q", row.name, body, err, row.want+" abc")
			}
			if res.Trailer.Get("Grpc-Status") != "7" || res.Trailer.Get("Grpc-Message") != "no" {
				t.Errorf("%s: the trailers are %v", row.name, res.Trailer)
			}
			if got := p.Endpoints()[0]; got.Outstanding != 0 || got.Failures != 0 {
				t.Errorf("%s: in the end %+v", row.name, got)
			}
		})
	}
}

// A client cannot have an address taken out of service by calls that no app there understands.
func TestCallsToAppsWithoutHTTP2AreNobodysFault(t *testing.T) {
	s := secured(t, false, fine)
	cfg := config(t, s.URL)
	cfg.TLS.CA = authority(t, s)
	p := poolOf(t, cfg)
	for range 20 {
		req := request(t.Context(), "POST", "", false)
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		if res, err := p.RoundTrip(req); err == nil {
			t.Errorf("got %d over %s from an app that speaks HTTP/1.1 only", res.StatusCode, res.Proto)
			res.Body.Close()
		}
	}
	if got := p.Endpoints()[0]; got.Failures != 0 || got.Outstanding != 0 {
		t.Errorf("in the end %+v", got)
	}
	if status, err := get(t.Context(), p, nil); status != http.StatusOK || err != nil {
		t.Errorf("got %d, %v afterwards", status, err)
	}
}

func TestH2NeedsAnAppThatSpeaksIt(t *testing.T) {
	s := secured(t, false, fine)
	cfg := config(t, s.URL)
	cfg.Protocol, cfg.TLS.CA = ProtocolH2, authority(t, s)
	if status, err := get(t.Context(), poolOf(t, cfg), nil); err == nil {
		t.Errorf("got %d from an app that speaks HTTP/1.1 only", status)
	}
	for address, protocol := range map[string]Protocol{"http://10.0.0.1": ProtocolH2, "https://10.0.0.1": ProtocolH2C} {
		cfg := config(t, address)
		cfg.Protocol = protocol
		if _, err := New(cfg, nil); err == nil {
			t.Errorf("%s over %s was accepted", protocol, address)
		}
	}
}

// RESP-10, RESP-11: heads are bounded on every leg, whatever they consist of.
func TestHugeHeadsAreErrors(t *testing.T) {
	headers := func(w http.ResponseWriter, _ *http.Request) {
		for range 2048 {
			w.Header().Add("X-Long", strings.Repeat("x", 1000))
		}
	}
	informational := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", strings.Repeat("x", 1000))
		for r.Context().Err() == nil {
			w.WriteHeader(http.StatusEarlyHints)
		}
	}
	for name, serve := range map[string]http.HandlerFunc{"header": headers, "1xx": informational} {
		for _, protocol := range []Protocol{ProtocolHTTP1, ProtocolH2C} {
			eachLeg(t, func(t *testing.T, lean bool) {
				cfg := config(t, overH2(t, serve))
				cfg.Protocol, cfg.Lean, cfg.Retry.Attempts = protocol, lean, 0
				if status, err := get(t.Context(), poolOf(t, cfg), nil); err == nil {
					t.Errorf("%s over %s: got %d", name, protocol, status)
				}
			})
		}
	}
}

// An upgraded connection is under way until it is closed, and goes both ways.
func TestUpgradesGoByHTTP1WhateverTheProtocol(t *testing.T) {
	upgrade := func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		rw.WriteString("you said " + line)
		rw.Flush()
		io.Copy(io.Discard, rw) // until our side ends
	}
	for _, protocol := range []Protocol{ProtocolAuto, ProtocolH2C} {
		cfg := config(t, overH2(t, upgrade))
		cfg.Protocol, cfg.Lean = protocol, true
		p := poolOf(t, cfg)
		req := request(t.Context(), "GET", "", false)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		res, err := p.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(res.Body.(io.Writer), "hello\n")
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		if err != nil || line != "you said hello\n" || res.StatusCode != 101 {
			t.Errorf("%s: got %d %q, %v", protocol, res.StatusCode, line, err)
		}
		if got := p.Endpoints()[0].Outstanding; got != 1 {
			t.Errorf("%s: %d under way while it is open", protocol, got)
		}
		res.Body.Close()
		if got := p.Endpoints()[0].Outstanding; got != 0 {
			t.Errorf("%s: %d under way when it is closed", protocol, got)
		}
	}
}

// RESP-12, SMUG-41: what an app sends that nobody asked for is nobody's answer.
func TestUnaskedAnswersReachNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { c.Close() })
			go func() {
				r := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nasked"+"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")
				}
			}()
		}
	}()
	t.Cleanup(func() { stop(); listener.Close(); <-done })
	eachLeg(t, func(t *testing.T, lean bool) {
		cfg := config(t, "http://"+listener.Addr().String())
		cfg.Lean = lean
		p := poolOf(t, cfg)
		for range 50 {
			if _, body, err := outcome(p, request(t.Context(), "GET", "", false)); err == nil && body != "asked" {
				t.Fatalf("got %q", body)
			}
		}
	})
}
