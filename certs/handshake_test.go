package certs_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/keyd/keydtest"
	"sallyport/certs/keyring"
)

// handshakeWithin is how long a handshake may take that has to fail: the key process's deadline, of six seconds, and what a
// busy machine takes besides.
const handshakeWithin = time.Minute

func tlsKey(name string, private crypto.Signer) keydtest.Key {
	return keydtest.Key{Name: name, Purpose: "tls-server", Private: private, Hosts: []string{name + ".corp.example"}}
}

// serve answers handshakes with the store's certificates and echoes, until the test ends. It returns its address.
func serve(t testing.TB, get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) string {
	t.Helper()
	return serveAs(t, &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true})
}

// serveAs is serve with any settings.
func serveAs(t testing.TB, config *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	return l.Addr().String()
}

func store(t testing.TB, s *keydtest.Setup, c *keyring.Client) *certs.Store {
	t.Helper()
	st, err := certs.Load(t.Context(), certs.Config{Certificates: []string{s.Certificates}}, c)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func open(t testing.TB, s *keydtest.Setup) *keyring.Client {
	t.Helper()
	c, err := keyring.Open(context.Background(), keyring.Config{Socket: s.Socket, UID: s.UID}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func dial(s *keydtest.Setup, addr, host string) (*tls.Conn, error) {
	d := &net.Dialer{Timeout: handshakeWithin}
	return tls.DialWithDialer(d, "tcp", addr, &tls.Config{ServerName: host, RootCAs: s.Roots})
}

func echo(c *tls.Conn) error {
	c.SetDeadline(time.Now().Add(handshakeWithin))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 5))
	return err
}

func TestHandshakesWithEveryKindOfKey(t *testing.T) {
	keys := []keydtest.Key{
		tlsKey("p256", ec(t, elliptic.P256())), tlsKey("p384", ec(t, elliptic.P384())),
		tlsKey("ed25519", ed(t)), tlsKey("rsa", rsaKey()),
	}
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, keys...)
	s.Start(t)
	addr := serve(t, store(t, s, open(t, s)).GetCertificate)
	for _, k := range keys {
		c, err := dial(s, addr, k.Hosts[0])
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
			continue
		}
		if v := c.ConnectionState().Version; v != tls.VersionTLS13 {
			t.Errorf("%s: got version %x, want TLS 1.3", k.Name, v)
		}
		if err := echo(c); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
		c.Close()
	}
	for _, host := range []string{"unknown.corp.example", ""} {
		_, err := tls.Dial("tcp", addr, &tls.Config{ServerName: host, InsecureSkipVerify: true})
		if alert, ok := errors.AsType[tls.AlertError](err); (!ok || alert != 112) && !strings.Contains(fmt.Sprint(err), "unrecognized name") {
			t.Errorf("%q: got %v, want the alert unrecognized_name", host, err)
		}
	}
	_, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "p256.corp.example", RootCAs: s.Roots, MaxVersion: tls.VersionTLS12})
	if err == nil {
		t.Error("a TLS 1.2 handshake succeeded")
	}
}

// Without MinVersion and the store's choice crypto/tls would try TLS 1.2 with these keys too; the key process is what
// refuses.
func TestKEY05NoTLS12EvenIfTheGatewayTried(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, tlsKey("wiki", ec(t, elliptic.P256())))
	s.Start(t)
	st := store(t, s, open(t, s))
	get := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { // a store that does not look at versions
		faked := *hello
		faked.SupportedVersions = append([]uint16{tls.VersionTLS13}, hello.SupportedVersions...)
		return st.GetCertificate(&faked)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.(*tls.Conn).Handshake()
			c.Close()
		}
		served <- err
	}()
	_, err = tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "wiki.corp.example", RootCAs: s.Roots, MaxVersion: tls.VersionTLS12})
	if err == nil {
		t.Error("a TLS 1.2 handshake succeeded")
	}
	if err := <-served; !strings.Contains(fmt.Sprint(err), keyring.ErrRefused.Error()) { // crypto/tls does not wrap it
		t.Errorf("the server says %v, want %v", err, keyring.ErrRefused)
	}
}

// KEY-10: under load, keyd is killed, and then stopped. Connections that stand live on; new handshakes fail within a
// deadline, never with another key; and all is well again when keyd is back, without the gateway's doing.
func TestKEY10UnderLoad(t *testing.T) {
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, tlsKey("wiki", ec(t, elliptic.P256())))
	p := s.Start(t)
	addr := serve(t, store(t, s, open(t, s)).GetCertificate)
	standing, err := dial(s, addr, "wiki.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	defer standing.Close()

	load := startClients(t, s, addr)
	handshakes := func() {
		before := load.good.Load()
		keydtest.Eventually(t, "20 more handshakes succeed", func() error {
			if n := load.good.Load() - before; n < 20 {
				return fmt.Errorf("%d did", n)
			}
			return nil
		})
	}
	handshakes()

	for _, tt := range []struct {
		name    string
		away    func()
		restore func()
	}{
		{"killed", p.Kill, func() { p = s.Start(t) }},
		{"stopped", func() { p.Stop(t) }, func() { p.Signal(t, syscall.SIGCONT) }},
	} {
		tt.away()
		before := load.failed.Load()
		began := time.Now()
		if c, err := dial(s, addr, "wiki.corp.example"); err == nil {
			c.Close()
			t.Errorf("%s: a new handshake succeeded", tt.name)
		}
		if took := time.Since(began); took > handshakeWithin {
			t.Errorf("%s: failing took %v", tt.name, took)
		}
		keydtest.Eventually(t, "load fails", func() error {
			if load.failed.Load() == before {
				return errors.New("no handshake failed yet")
			}
			return nil
		})
		if err := echo(standing); err != nil {
			t.Errorf("%s: the standing connection: %v", tt.name, err)
		}
		tt.restore()
		handshakes()
	}
	load.stop()
	if d := time.Duration(load.slowest.Load()); d > handshakeWithin {
		t.Errorf("the slowest handshake took %v, want at most %v", d, handshakeWithin)
	}
	t.Logf("%d handshakes succeeded, %d failed, the slowest took %v", load.good.Load(), load.failed.Load(), time.Duration(load.slowest.Load()))
}

// clients are programs that connect, echo and leave, over and over.
type clients struct {
	good, failed, slowest atomic.Int64
	stop                  func()
}

func startClients(t *testing.T, s *keydtest.Setup, addr string) *clients {
	var l clients
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				c, err := dial(s, addr, "wiki.corp.example")
				if err == nil {
					err = errors.Join(echo(c), c.Close())
				}
				if took := int64(time.Since(began)); took > l.slowest.Load() {
					l.slowest.Store(took)
				}
				if err != nil {
					l.failed.Add(1)
				} else {
					l.good.Add(1)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(l.stop)
	return &l
}

// BenchmarkHandshake compares whole TLS 1.3 handshakes, both ends in this process, by where the server's key is. The two
// take turns, so that a busy machine slows both: believe the ratio more than the times.
func BenchmarkHandshake(b *testing.B) {
	private := ec(b, elliptic.P256())
	s := keydtest.Make(b, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, tlsKey("wiki", private))
	s.Start(b)
	inProcess, err := load(filepath.Dir(s.Certificates), localKeys{local(private, "wiki", "wiki.corp.example")})
	if err != nil {
		b.Fatal(err)
	}
	local, remote := serve(b, inProcess.GetCertificate), serve(b, store(b, s, open(b, s)).GetCertificate)
	var tookLocal, tookRemote time.Duration
	for b.Loop() {
		tookLocal += timed(b, s, local)
		tookRemote += timed(b, s, remote)
	}
	b.ReportMetric(float64(tookLocal.Microseconds())/float64(b.N), "in-process-µs")
	b.ReportMetric(float64(tookRemote.Microseconds())/float64(b.N), "keyd-µs")
	b.ReportMetric(tookRemote.Seconds()/tookLocal.Seconds(), "ratio")
}

// timed makes one connection and returns how long the handshake took.
func timed(b *testing.B, s *keydtest.Setup, addr string) time.Duration {
	began := time.Now()
	c, err := dial(s, addr, "wiki.corp.example")
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	c.Close()
	return took
}

// BenchmarkSign is the one step in which they differ: a CertificateVerify signature.
func BenchmarkSign(b *testing.B) {
	private := ec(b, elliptic.P256())
	s := keydtest.Make(b, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, tlsKey("wiki", private))
	s.Start(b)
	keys, err := open(b, s).List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	message := []byte(strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00" + strings.Repeat("h", 32))
	for _, tt := range []struct {
		key    string
		signer crypto.Signer
	}{{"in-process", private}, {"keyd", open(b, s).TLSServer(keys[0])}} {
		b.Run(tt.key, func(b *testing.B) {
			for b.Loop() {
				if _, err := crypto.SignMessage(tt.signer, rand.Reader, message, crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(tt.key+"-parallel", func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := crypto.SignMessage(tt.signer, rand.Reader, message, crypto.SHA256); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
