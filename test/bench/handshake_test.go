package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/keyd/keydtest"
	"sallyport/certs/keyring"
	"sallyport/test/harness"
)

const (
	// crowd is how many clients shake hands at once.
	crowd           = 32
	handshakeRounds = 7
	handshakeRound  = 2 * time.Second
	handshakeHost   = "door.corp.example"
	// handshakeTarget and handshakeDelay are what the key process may cost: a share of the handshakes per second of a crowd,
	// and what it adds to the median of a client that is alone.
	handshakeTarget = 0.95
	handshakeDelay  = 100 * time.Microsecond
)

// Full handshakes of TLS 1.3 against a server whose key is the key process's, beside the same server with the same key in
// its own memory. Clients connect, verify a chain with one intermediate as browsers do, shake hands without resumption,
// and read one byte, so that a handshake counts when both ends are through with it.
//
// Clients run on the same processors, and their part of the work is the larger one. The ratio of handshakes per second is
// that of the machine as a whole; the column of the server's own processor time, keyd's included, is what remains of the
// ratio if clients bring their own.
func BenchmarkHandshake(b *testing.B) {
	for _, kind := range []struct {
		name string
		make func() (crypto.Signer, error)
	}{
		{"P-256", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }},
		{"RSA-2048", func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }},
	} {
		b.Run(kind.name, func(b *testing.B) {
			key, err := kind.make()
			if err != nil {
				b.Fatal(err)
			}
			compareDoors(b, kind.name, key)
		})
	}
}

// compareDoors lets the two servers take turns.
func compareDoors(b *testing.B, title string, key crypto.Signer) {
	s := keydtest.Make(b, 0, []int{0}, keydtest.Key{Name: "door", Purpose: "tls-server", Private: key, Hosts: []string{handshakeHost}})
	roots := issue(b, s, key)
	keyd := s.StartCommand(b, exec.Command(filepath.Join(harness.Binaries(b), "keyd"), "run", "--config", s.Config))
	doors := []*door{newDoor(b, s, roots, "key in the server", ""), newDoor(b, s, roots, "key in keyd", s.Socket, keyd.PID())}
	for _, d := range doors {
		d.shake(b, crowd, time.Second) // heaps, connections
	}
	for range handshakeRounds {
		for _, d := range doors {
			d.together = append(d.together, d.shake(b, crowd, handshakeRound))
		}
		for _, d := range doors {
			d.alone = append(d.alone, d.shake(b, 1, handshakeRound/2))
		}
	}
	ratio, added := reportDoors(title, doors[0], doors[1])
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(added.Seconds()*1e6, "added-p50-µs")
	b.ReportMetric(0, "ns/op")
	if ratio < handshakeTarget || added > handshakeDelay {
		b.Logf("%s: the target is a ratio of %.2f and %v", title, handshakeTarget, handshakeDelay)
	}
}

// issue replaces the self-signed certificate by one that an intermediate signed.
func issue(b *testing.B, s *keydtest.Setup, key crypto.Signer) *x509.CertPool {
	root, rootKey := authority(b, "root", nil, nil)
	middle, middleKey := authority(b, "intermediate", root, rootKey)
	leaf := certify(b, &x509.Certificate{DNSNames: []string{handshakeHost}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, middle, key.Public(), middleKey)
	keydtest.WriteChain(b, s.Certificates[:len(s.Certificates)-len("*.pem")]+"door.pem", leaf, middle)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return roots
}

// authority makes a certificate that may sign others; one without a parent signs itself.
func authority(b *testing.B, name string, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if parent == nil {
		parent, parentKey = template, key
	}
	return certify(b, template, parent, key.Public(), parentKey), key
}

func certify(b *testing.B, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		b.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// door is a server that does nothing but shake hands.
type door struct {
	*subject
	config          *tls.Config // of its clients
	together, alone []shakes
}

// shakes are a round of handshakes.
type shakes struct {
	run
	clients time.Duration // processor time of the clients
}

func serverMicros(s shakes) float64 { return cpuMicros(s.run) }
func allMicros(s shakes) float64 {
	return float64((s.cpu + s.clients).Microseconds()) / float64(len(s.latencies))
}

// newDoor starts the server in a process of its own. helpers are the processes that work for it.
func newDoor(b *testing.B, s *keydtest.Setup, roots *x509.CertPool, name, socket string, helpers ...int) *door {
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(b))
	profile := ""
	if profile = profileName(b); profile != "" && socket != "" {
		profile += ".keyd"
	}
	c := newChild(b, "door", address, s.Certificates, filepath.Join(s.Dir, "keys", "door.pem"), socket, profile)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	c.started()
	b.Cleanup(func() { c.Process.Signal(syscall.SIGTERM); c.Wait() })
	d := &door{subject: &subject{name: name, address: address, pids: append(helpers, c.Process.Pid), child: c},
		config: &tls.Config{ServerName: handshakeHost, RootCAs: roots, MinVersion: tls.VersionTLS13}}
	harness.Eventually(b, 10*time.Second, name+" to answer", func() bool { return d.visit() == nil })
	return d
}

// visit is one handshake.
func (d *door) visit() error {
	conn, err := net.DialTimeout("tcp", d.address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetLinger(0) // thousands a second would use up the machine's ports
	c := tls.Client(conn, d.config)
	c.SetDeadline(time.Now().Add(patience))
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// shake lets clients come one after the other, so many at once.
func (d *door) shake(b *testing.B, clients int, length time.Duration) shakes {
	var group sync.WaitGroup
	latencies := make([][]time.Duration, clients)
	cpu, own, start := d.cpu(b), ownCPU(b), time.Now()
	for i := range clients {
		group.Go(func() {
			for began := time.Now(); began.Sub(start) < length; {
				if err := d.visit(); err != nil {
					b.Errorf("%s: %v", d.name, err)
					return
				}
				now := time.Now()
				latencies[i] = append(latencies[i], now.Sub(began))
				began = now
			}
		})
	}
	group.Wait()
	r := run{elapsed: time.Since(start), cpu: d.cpu(b) - cpu, latencies: slices.Concat(latencies...)}
	if b.Failed() || len(r.latencies) == 0 {
		b.FailNow()
	}
	slices.Sort(r.latencies)
	return shakes{r, ownCPU(b) - own}
}

// ownCPU is the processor time of this process, which is the clients.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportDoors prints the table and returns the median ratio for a crowd, and what a client that is alone waits longer.
func reportDoors(title string, yardstick, d *door) (ratio float64, added time.Duration) {
	fmt.Printf("\nHandshakes of TLS 1.3, %s: medians of %d alternating rounds of %v; ratios lowest – median – highest\n", title, handshakeRounds, handshakeRound)
	fmt.Printf("  %-20s %10s  %-18s %14s  %-18s %8s %8s %8s %12s\n", "", fmt.Sprintf("%d: per s", crowd), "ratio", "server's CPU µs", "ratio", "all CPU", "p50 ms", "p99 ms", "1: p50 µs")
	for _, x := range []*door{yardstick, d} {
		fmt.Printf("  %-20s %10.0f  %-18s %14.0f  %-18s %8.0f %8.2f %8.2f %12.0f\n", x.name,
			middle(x.together, func(s shakes) float64 { return perSecond(s.run) }), spread(perRound(x.together, yardstick.together, func(s shakes) float64 { return perSecond(s.run) })),
			middle(x.together, serverMicros), spread(perRound(yardstick.together, x.together, serverMicros)), middle(x.together, allMicros),
			middle(x.together, func(s shakes) float64 { return p50(s.run) }), middle(x.together, func(s shakes) float64 { return p99(s.run) }),
			1e3*middle(x.alone, func(s shakes) float64 { return p50(s.run) }))
	}
	ratio = median(perRound(d.together, yardstick.together, func(s shakes) float64 { return perSecond(s.run) }))
	var more []float64
	for i := range d.alone {
		more = append(more, p50(d.alone[i].run)-p50(yardstick.alone[i].run))
	}
	added = time.Duration(median(more) * float64(time.Millisecond))
	fmt.Printf("  a client that is alone waits %v longer (median of the differences of its rounds' medians)\n\n", added.Round(time.Microsecond))
	return ratio, added
}

func middle(list []shakes, of func(shakes) float64) float64 {
	var values []float64
	for _, s := range list {
		values = append(values, of(s))
	}
	return median(values)
}

// perRound are the ratios of two lanes, each round with its neighbour.
func perRound(list, yardstick []shakes, of func(shakes) float64) []float64 {
	var ratios []float64
	for i := range list {
		ratios = append(ratios, of(list[i])/of(yardstick[i]))
	}
	return ratios
}

// runDoor is the server: certificates chosen as the gateway chooses them, keys in keyd or, without a socket, in a file.
func runDoor(args []string) {
	go tellAllocations()
	address, chains, keyFile, socket, profile := args[0], args[1], args[2], args[3], args[4]
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			log.Fatal(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			log.Fatal(err)
		}
	}
	get, err := certificateFrom(chains, keyFile, socket)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	go serveDoor(l, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: get})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	pprof.StopCPUProfile()
}

func certificateFrom(chains, keyFile, socket string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	if socket == "" {
		pair, err := keydtest.Pair(strings.Replace(chains, "*", "door", 1), keyFile)
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }, err
	}
	keys, err := keyring.Open(context.Background(), keyring.Config{Socket: socket}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	store, err := certs.Load(context.Background(), certs.Config{Certificates: []string{chains}}, keys)
	if err != nil {
		return nil, err
	}
	return store.GetCertificate, nil
}

func serveDoor(l net.Listener, config *tls.Config) {
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer conn.Close()
			c := tls.Server(conn, config)
			c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Write([]byte{'.'}); err != nil {
				return
			}
			io.Copy(io.Discard, c)
		}()
	}
}
