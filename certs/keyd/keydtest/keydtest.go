// Package keydtest runs the real keyd for tests: its binary, with keys and certificates made for the occasion, as
// whatever user the test wants. A test package calls Main from TestMain and then Make and Start.
package keydtest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// UIDs that tests use besides root. No account needs to exist for them.
const (
	KeydUID     = 61001 // keyd's own
	GatewayUID  = 61002 // in allow_uids
	StrangerUID = 61003 // another user of the machine
)

// patience bounds every wait. It is long because machines that run tests are slow, and nothing waits for it to pass.
const patience = 2 * time.Minute

// binary is keyd's path, set once by Main.
var binary string

// Main builds keyd and runs the package's tests. helpers are programs that the tests start through As.
func Main(m *testing.M, helpers map[string]func(args []string) error) {
	if name := os.Getenv(helperVar); name != "" {
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keydtest")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "keyd")
	build := exec.Command("go", "build", "-o", binary, "sallyport/cmd/keyd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building keyd: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Binary is the path of the keyd that Main built.
func Binary() string { return binary }

const helperVar = "KEYDTEST_HELPER"

// As prepares the named helper of Main to run as uid, alone in its group.
func As(t testing.TB, uid int, helper string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{helperVar + "=" + helper}
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	return cmd
}

// Key is a key for keyd and, if it has hosts or is for TLS clients, a self-signed certificate.
type Key struct {
	Name     string
	Purpose  string
	Private  crypto.Signer
	Hosts    []string
	ClientID string
	Audience string   // of an oidc-client key
	Origins  []string // of a checkpoint or manifest key
	TLS12    bool     // of a tls-server key
	Rate     int      // requests per second, and burst; 0: what is usual

	Managed bool              // keyd makes it: no file is written, nor a certificate
	Rotate  map[string]string // every, announce and overlap; nil: never
}

// Setup is a folder with everything that keyd needs.
type Setup struct {
	Dir, Config, Socket string
	Certificates        string         // glob of the chains
	Roots               *x509.CertPool // of the servers' certificates
	ClientRoots         *x509.CertPool // of the clients'
	UID                 int            // who owns it, and runs keyd
}

// Make writes keys, certificates and keyd.yaml for a keyd that runs as uid. allow is allow_uids. Assertions are for
// issuer https://auth.corp.example and audiences https://*.corp.example.
func Make(t testing.TB, uid int, allow []int, keys ...Key) *Setup {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) // other users must get through
	s := &Setup{
		Dir: dir, Config: filepath.Join(dir, "keyd.yaml"), Socket: filepath.Join(dir, "run", "keyd.sock"),
		Certificates: filepath.Join(dir, "certs", "*.pem"), Roots: x509.NewCertPool(), ClientRoots: x509.NewCertPool(), UID: uid,
	}
	for name, mode := range map[string]os.FileMode{"keys": 0o700, "state": 0o700, "run": 0o750, "certs": 0o755, "clients": 0o755} {
		must(t, os.Mkdir(filepath.Join(dir, name), mode))
		must(t, os.Chown(filepath.Join(dir, name), uid, gidOf(uid, allow, name)))
	}
	var config []map[string]any
	for _, k := range keys {
		entry := map[string]any{"name": k.Name, "purpose": k.Purpose, "file": k.Name + ".pem"}
		if !k.Managed {
			s.WriteKey(t, k)
		}
		if len(k.Hosts) > 0 {
			entry["names"] = k.Hosts
		}
		if len(k.Hosts) > 0 && !k.Managed {
			s.writeCertificate(t, k)
		}
		if k.Managed {
			entry["managed"] = true
		}
		if k.Rotate != nil {
			entry["rotate"] = k.Rotate
		}
		if k.Purpose == "tls-client" {
			s.writeClientCertificate(t, k)
		}
		if k.ClientID != "" {
			entry["client_id"], entry["audiences"] = k.ClientID, []string{k.Audience}
		}
		if k.TLS12 {
			entry["tls12"] = true
		}
		if k.Rate > 0 {
			entry["rate"] = map[string]int{"per_second": k.Rate, "burst": k.Rate}
		}
		if len(k.Origins) > 0 {
			entry["origins"] = k.Origins
		}
		config = append(config, entry)
	}
	data, err := json.MarshalIndent(map[string]any{ // JSON is YAML
		"strict": false, "dir": "keys", "state_dir": "state", "listen": s.Socket, "allow_uids": allow, "keys": config,
		"assertion": map[string]any{"issuer": "https://auth.corp.example", "audiences": []string{"https://*.corp.example"}},
	}, "", "  ")
	must(t, err)
	must(t, os.WriteFile(s.Config, data, 0o644))
	for _, k := range keys {
		for _, origin := range k.Origins {
			if k.Purpose == "checkpoint" {
				s.NewEpoch(t, "--origin", origin, "--first")
			}
		}
	}
	return s
}

// NewEpoch runs `keyd new-epoch` as keyd's user and returns what it prints.
func (s *Setup) NewEpoch(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.TryNewEpoch(args...)
	if err != nil {
		t.Fatalf("keyd new-epoch: %v: %s", err, out)
	}
	return out
}

// TryNewEpoch is NewEpoch where it may fail.
func (s *Setup) TryNewEpoch(args ...string) (string, error) {
	cmd := s.as(exec.Command(binary, append([]string{"new-epoch", "--config", s.Config}, args...)...))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// gidOf gives the socket's folder to the first allowed user's group, and the rest to keyd's.
func gidOf(uid int, allow []int, folder string) int {
	if folder == "run" && len(allow) > 0 {
		return allow[0]
	}
	return uid
}

// WriteKey writes, or replaces, one key file.
func (s *Setup) WriteKey(t testing.TB, k Key) {
	t.Helper()
	path := filepath.Join(s.Dir, "keys", k.Name+".pem")
	must(t, os.WriteFile(path, PEM(t, k.Private), 0o600))
	must(t, os.Chown(path, s.UID, s.UID))
}

// PEM is the private key as keyd reads it.
func PEM(t testing.TB, private crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (s *Setup) writeCertificate(t testing.TB, k Key) {
	t.Helper()
	cert := SelfSigned(t, k.Private, k.Hosts, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	s.Roots.AddCert(cert)
	WriteChain(t, filepath.Join(s.Dir, "certs", k.Name+".pem"), cert)
}

// ClientChain is the file of the certificate of a tls-client key.
func (s *Setup) ClientChain(name string) string { return filepath.Join(s.Dir, "clients", name+".pem") }

func (s *Setup) writeClientCertificate(t testing.TB, k Key) {
	t.Helper()
	cert := SelfSignedClient(t, k.Private, k.Name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	s.ClientRoots.AddCert(cert)
	WriteChain(t, s.ClientChain(k.Name), cert)
}

// SelfSigned makes a server certificate that vouches for itself.
func SelfSigned(t testing.TB, private crypto.Signer, hosts []string, from, until time.Time) *x509.Certificate {
	t.Helper()
	return selfSigned(t, private, &x509.Certificate{
		DNSNames: hosts, NotBefore: from, NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// SelfSignedClient makes a client certificate that vouches for itself.
func SelfSignedClient(t testing.TB, private crypto.Signer, name string, from, until time.Time) *x509.Certificate {
	t.Helper()
	return selfSigned(t, private, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func selfSigned(t testing.TB, private crypto.Signer, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.KeyUsage = big.NewInt(1), x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

// WriteChain writes certificates as the gateway reads them.
func WriteChain(t testing.TB, path string, chain ...*x509.Certificate) {
	t.Helper()
	var b bytes.Buffer
	for _, c := range chain {
		must(t, pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	must(t, os.WriteFile(path, b.Bytes(), 0o644))
}

// Process is a running keyd.
type Process struct {
	Cmd    *exec.Cmd
	log    *buffer
	exited chan struct{}
}

// Command prepares `keyd run` for s without starting it.
func (s *Setup) Command() *exec.Cmd {
	return s.as(exec.Command(binary, "run", "--config", s.Config))
}

// as makes cmd run as keyd's user.
func (s *Setup) as(cmd *exec.Cmd) *exec.Cmd {
	if s.UID != os.Geteuid() {
		groups := []uint32{GatewayUID} // to hand the socket to it
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{
			Uid: uint32(s.UID), Gid: uint32(s.UID), Groups: groups,
		}}
	}
	return cmd
}

// Start runs keyd until the test ends, and returns when it listens.
func (s *Setup) Start(t testing.TB) *Process {
	t.Helper()
	return s.StartCommand(t, s.Command())
}

// StartCommand is Start for a Command that the test changed.
func (s *Setup) StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, log: &buffer{}, exited: make(chan struct{})}
	cmd.Stderr = p.log
	must(t, cmd.Start())
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.exited
	})
	Eventually(t, "keyd listens", func() error {
		select {
		case <-p.exited:
			t.Fatalf("keyd exited: %s", p.log)
		default:
		}
		c, err := net.Dial("unix", s.Socket)
		if err == nil {
			c.Close()
		}
		return err
	})
	return p
}

// Kill ends keyd at once, without giving it a chance to clean up, and waits until it is gone.
func (p *Process) Kill() {
	p.Cmd.Process.Kill()
	<-p.exited
}

// Signal sends a signal.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	must(t, p.Cmd.Process.Signal(sig))
}

// Stop makes keyd hang, and returns when all of it does: a signal takes its time to reach every thread.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	Eventually(t, "keyd hangs", func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID()))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			status, err := os.ReadFile(task)
			if err != nil {
				return err
			}
			if !bytes.Contains(status, []byte("\nState:\tT")) {
				return fmt.Errorf("%s is not stopped", task)
			}
		}
		return nil
	})
}

// PID is keyd's process id.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Running reports whether the process has not exited.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Log is what keyd wrote to stderr so far.
func (p *Process) Log() string { return p.log.String() }

// Fails runs keyd, which must exit by itself with an error, and returns what it said.
func (s *Setup) Fails(t testing.TB) string {
	t.Helper()
	cmd := s.Command()
	var b buffer
	cmd.Stderr = &b
	must(t, cmd.Start())
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 2 {
		t.Fatalf("keyd ended with %v, want exit code 2; it said: %s", err, b.String())
	}
	return b.String()
}

// Seed is a seed that is printed, so that a failure can be repeated with SALLYPORT_SEED.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := mathrand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return seed
}

// Eventually polls until check returns nil.
func Eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buffer is a bytes.Buffer that a process may write while a test reads.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Pair is a chain with its key at hand: what a server without a key process would hold, to compare with.
func Pair(chain, key string) (tls.Certificate, error) { return tls.LoadX509KeyPair(chain, key) }
