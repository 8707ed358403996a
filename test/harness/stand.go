// Package harness puts a whole installation together for a test: the real gateway and key process as child processes,
// an OpenID provider and an internal app on free loopback ports, and browsers that trust its certificates.
package harness

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/certs/keyd"
	"sallyport/test/fakeidp"
)

// Domain of every installation; names in it are never resolved.
const Domain = "corp.test"

// Stand is one installation in a temporary folder. It can be started, killed and started again.
type Stand struct {
	Dir, Config string
	Port        int
	Provider    *fakeidp.Provider
	Origin      *Origin
	roots       *x509.CertPool
	keydConfig  string
	bin         string
	extra       string // top-level lines of the configuration
}

// Apps of a stand that says nothing else: wiki for the group staff, payroll for the group finance.
const Apps = `
  - name: wiki
    host: wiki.corp.test
    upstreams: ["ORIGIN"]
    access: { groups: [staff] }
  - name: payroll
    host: payroll.corp.test
    upstreams: ["ORIGIN"]
    owner: finance@corp.test
    access: { groups: [finance] }
`

// New prepares an installation with these apps; ORIGIN in them is the address of the stand's own app, DIR its folder.
// extra are further top-level lines of the configuration.
func New(t testing.TB, apps, extra string) *Stand {
	t.Helper()
	s := &Stand{Dir: t.TempDir(), Port: FreePort(t), Origin: NewOrigin(t), bin: Binaries(t), extra: extra}
	s.Provider = fakeidp.Start(t, fakeidp.Client{ID: "sallyport", Secret: "a secret of the test", RedirectURI: s.URL("auth", "/.sallyport/callback/corp")})
	made, err := keyd.Init(keyd.InitOptions{Dir: filepath.Join(s.Dir, "keys"), Domain: Domain, Port: s.Port, Lenient: true,
		Hosts: []string{"auth." + Domain, "wiki." + Domain, "payroll." + Domain, "public." + Domain}})
	if err != nil {
		t.Fatal(err)
	}
	s.keydConfig = made.Config
	ca, err := os.ReadFile(made.CA)
	if err != nil {
		t.Fatal(err)
	}
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(ca)
	s.Config = filepath.Join(s.Dir, "sallyport.yaml")
	s.Write(t, apps)
	return s
}

// Write replaces the configuration, by rename, with one that has these apps.
func (s *Stand) Write(t testing.TB, apps string) {
	t.Helper()
	text := fmt.Sprintf(`
domain: corp.test
listen: "127.0.0.1:%[1]d"
public_port: %[1]d
hsts: 0s
admin: { socket: DIR/admin.sock }
identity:
  providers:
    - name: corp
      issuer: %[2]s
      client_id: sallyport
      client_secret: "a secret of the test"
tls: { certificates: "DIR/keys/public/certs/*.pem" }
audit: { dir: DIR/audit, segment_size: 4194304 }
keys: { strict: false, spawn: { binary: %[3]s/keyd, config: %[4]s } }
state: { sqlite: DIR/state.db }
%[5]s
apps:%[6]s`, s.Port, s.Provider.Issuer, s.bin, s.keydConfig, s.extra, apps)
	text = strings.NewReplacer("DIR", s.Dir, "ORIGIN", s.Origin.URL).Replace(text)
	s.WriteRaw(t, text)
}

// WriteRaw replaces the configuration, by rename, with any text.
func (s *Stand) WriteRaw(t testing.TB, text string) {
	t.Helper()
	next := s.Config + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, s.Config); err != nil {
		t.Fatal(err)
	}
}

// URL is a page on one of the stand's hosts, named by its first label.
func (s *Stand) URL(label, path string) string {
	return fmt.Sprintf("https://%s.%s:%d%s", label, Domain, s.Port, path)
}

// Address is where the gateway listens.
func (s *Stand) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Roots vouch for the stand's certificates.
func (s *Stand) Roots() *x509.CertPool { return s.roots }

// Process is a running gateway.
type Process struct {
	cmd    *exec.Cmd
	exited chan error
	mu     sync.Mutex
	stderr bytes.Buffer
}

// Start runs the real binary and waits until it answers.
func (s *Stand) Start(t testing.TB) *Process {
	t.Helper()
	return s.StartCommand(t, exec.Command(filepath.Join(s.bin, "sallyport"), "run", "--config", s.Config))
}

// StartCommand runs a gateway by another command line.
func (s *Stand) StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := s.StartQuietly(t, cmd)
	Eventually(t, 2*time.Minute, "the gateway to answer", func() bool {
		select {
		case err := <-p.exited:
			p.exited <- err
			t.Fatalf("the gateway ended: %v\n%s", err, p.Output())
		default:
		}
		conn, err := tls.Dial("tcp", s.Address(), &tls.Config{ServerName: "auth." + Domain, RootCAs: s.roots})
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return p
}

// StartQuietly runs a gateway by another command line and waits for nothing.
func (s *Stand) StartQuietly(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{cmd: cmd, exited: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- cmd.Wait() }()
	t.Cleanup(p.Kill)
	return p
}

// Write keeps what the process prints.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

// Output is everything the process printed so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// Pid of the gateway.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(sig syscall.Signal) { p.cmd.Process.Signal(sig) }

// Kill is kill -9, waited for.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	p.exited <- <-p.exited
}

// Stop ends the gateway as an operator would and returns its error.
func (p *Process) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	err := <-p.exited
	p.exited <- err
	return err
}

// Browser is an http.Client that reaches the stand's hosts, keeps cookies and asks like a person opening pages.
func (s *Stand) Browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err)
	}
	return &http.Client{Jar: jar, Transport: asBrowser{s.Transport()}, Timeout: 30 * time.Second}
}

// Transport reaches the stand's hosts.
func (s *Stand) Transport() *http.Transport {
	return &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, port, _ := net.SplitHostPort(address); strings.HasSuffix(host, "."+Domain) {
				address = "127.0.0.1:" + port
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		MaxIdleConnsPerHost: 128,
	}
}

type asBrowser struct{ http.RoundTripper }

func (b asBrowser) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Accept") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	}
	return b.RoundTripper.RoundTrip(r)
}

// SignIn opens a page as a person in these groups and follows the sign-in to its end. It returns the final answer's
// status and body.
func (s *Stand) SignIn(t testing.TB, browser *http.Client, label string, person string, groups ...string) (int, string) {
	t.Helper()
	s.Provider.SetPerson(map[string]any{"sub": person, "email": person + "@corp.test", "email_verified": true, "name": person, "groups": groups})
	return Get(t, browser, s.URL(label, "/"))
}

// Get opens a page and returns status and body.
func Get(t testing.TB, client *http.Client, address string) (int, string) {
	t.Helper()
	res, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// Cookie is the browser's session cookie for a host, for clients that are no browsers.
func (s *Stand) Cookie(t testing.TB, browser *http.Client, label string) *http.Cookie {
	t.Helper()
	u, err := url.Parse(s.URL(label, "/"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range browser.Jar.Cookies(u) {
		if c.Name == "__Host-sallyport" {
			return c
		}
	}
	t.Fatalf("no session cookie for %s", label)
	return nil
}

// Sallyport runs the command line against this installation and returns its output and exit code.
func (s *Stand) Sallyport(t testing.TB, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, "sallyport"), args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_CONFIG="+s.Config)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

var binaries struct {
	once sync.Once
	dir  string
	err  error
}

// Binaries is the folder of sallyport and keyd: the one SALLYPORT_BIN names, or one that they are built into once for
// all tests of a process.
func Binaries(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("SALLYPORT_BIN"); dir != "" {
		return dir
	}
	binaries.once.Do(func() {
		binaries.dir, binaries.err = os.MkdirTemp("", "sallyport-bin-")
		if binaries.err != nil {
			return
		}
		root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
		if err != nil {
			binaries.err = err
			return
		}
		build := exec.Command("go", "build", "-trimpath", "-o", binaries.dir+"/", "./cmd/sallyport", "./cmd/keyd")
		build.Dir, build.Env = strings.TrimSpace(string(root)), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			binaries.err = fmt.Errorf("building the binaries: %w\n%s", err, out)
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return binaries.dir
}

// RemoveBinaries is for the end of TestMain.
func RemoveBinaries() { os.RemoveAll(binaries.dir) }

// FreePort is a loopback port that nobody listens on.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Eventually polls until true, and fails the test when that takes longer than within.
func Eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
