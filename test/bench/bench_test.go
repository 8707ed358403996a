// Package bench measures the gateway beside a bare httputil.ReverseProxy that does nothing of what the gateway does:
// both over TLS 1.3 with HTTP/1.1 keep-alive, in one run, alternating, so that what the machine does meanwhile happens
// to both. Run it with "make bench"; SALLYPORT_PROFILE=FILE also writes the gateway's CPU profile.
package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/gateway/boot"
	"sallyport/test/harness"
)

const (
	connections = 64
	answerSize  = 1 << 10
	rounds      = 7
	roundTime   = 3 * time.Second
	groups      = 40 // of the person who asks
)

// Roles that this test binary plays as a child process, so that each proxy has a process of its own to be measured.
const roleVariable = "SALLYPORT_BENCH_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "gateway":
		runGateway(os.Args[1])
	case "bare":
		runBare(os.Args[1], os.Args[2], os.Args[3])
	default:
		code := m.Run()
		harness.RemoveBinaries()
		os.Exit(code)
	}
}

func BenchmarkThroughput(b *testing.B) {
	s := harness.New(b, harness.Apps, "")
	gw := s.StartCommand(b, role("gateway", s.Config))
	cookie := signIn(b, s)
	bare := startBare(b, s)
	subjects := []*subject{
		{name: "bare ReverseProxy", address: bare.address, host: "bare.test", roots: bare.roots, pid: bare.pid},
		{name: "sallyport", address: s.Address(), host: "wiki." + harness.Domain, roots: s.Roots(), pid: gw.Pid(), cookie: cookie},
	}
	for _, x := range subjects {
		x.measure(b, time.Second) // connections, caches, heaps
		x.runs = nil
	}
	for range rounds {
		for _, x := range subjects {
			x.measure(b, roundTime)
		}
	}
	report(subjects)
	ratio := subjects[1].median(perSecond) / subjects[0].median(perSecond)
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(0, "ns/op")
	gw.Stop()
}

func report(subjects []*subject) {
	fmt.Printf("\n%d connections, %d-byte answers, HTTP/1.1 keep-alive over TLS 1.3; sallyport: session of a person in %d groups, policy, durable audit\n"+
		"medians of %d alternating rounds of %s\n\n%-20s %12s %16s %10s %10s\n", connections, answerSize, groups, rounds, roundTime,
		"", "requests/s", "CPU µs/request", "p50 ms", "p99 ms")
	for _, x := range subjects {
		fmt.Printf("%-20s %12.0f %16.1f %10.2f %10.2f\n", x.name, x.median(perSecond), x.median(cpuMicros), x.median(p50), x.median(p99))
	}
	var ratios []float64
	for i := range subjects[0].runs {
		ratios = append(ratios, perSecond(subjects[1].runs[i])/perSecond(subjects[0].runs[i]))
	}
	slices.Sort(ratios)
	fmt.Printf("\nthroughput ratio sallyport / bare: median %.2f, from %.2f to %.2f\n\n", ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
}

func signIn(b *testing.B, s *harness.Stand) string {
	list := []string{"staff"}
	for i := len(list); i < groups; i++ {
		list = append(list, fmt.Sprintf("department-%02d-readers", i))
	}
	browser := s.Browser()
	if status, body := s.SignIn(b, browser, "wiki", "ada", list...); status != http.StatusOK {
		b.Fatalf("sign-in ended with %d: %s", status, body)
	}
	return s.Cookie(b, browser, "wiki").String()
}

func role(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	return cmd
}

// runGateway is the real gateway with its request log discarded, as the bare proxy writes none.
func runGateway(config string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if name := os.Getenv("SALLYPORT_PROFILE"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			log.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	if err := boot.Run(ctx, config, boot.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}); err != nil {
		log.Print(err)
	}
}

type bareProxy struct {
	address string
	roots   *x509.CertPool
	pid     int
}

// startBare starts the yardstick and waits until it answers.
func startBare(b *testing.B, s *harness.Stand) bareProxy {
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b))
	certificate := b.TempDir() + "/bare.pem"
	cmd := role("bare", address, s.Origin.URL, certificate)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	roots := x509.NewCertPool()
	harness.Eventually(b, 10*time.Second, "the bare proxy", func() bool {
		text, err := os.ReadFile(certificate)
		if err != nil || !roots.AppendCertsFromPEM(text) {
			return false
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return bareProxy{address, roots, cmd.Process.Pid}
}

// runBare is what most proxies in Go begin as: one httputil.ReverseProxy behind one http.Server.
func runBare(address, origin, certificate string) {
	target, err := url.Parse(origin)
	if err != nil {
		log.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	transport.DisableCompression = true
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:   &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }},
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{selfSigned(certificate)}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	log.Fatal(server.ServeTLS(listener, "", ""))
}

func selfSigned(file string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"bare.test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// answerPath makes the app answer with as many bytes as are measured.
var answerPath = fmt.Sprintf("/size?n=%d", answerSize)

func requestBytes(host, cookie string) []byte {
	lines := []string{"GET " + answerPath + " HTTP/1.1", "Host: " + host, "Accept: text/html", "User-Agent: bench"}
	if cookie != "" {
		name, _, _ := strings.Cut(cookie, ";")
		lines = append(lines, "Cookie: "+name)
	}
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
}
