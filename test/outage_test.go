package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/audit"
	"sallyport/certs/keyd"
	"sallyport/test/fakeidp"
	"sallyport/test/harness"
)

// AUD-02: whatever is wrong with the disk, everything gets a 503 with a reference, nothing reaches an app, open streams
// end, health and metrics answer; and when the disk is well again so is the gateway, without a restart.
func TestOutageOfTheAuditLogServesNothing(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{diskFailing, diskHanging} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := harness.New(t, harness.Apps, "")
			probes := withProbes(t, s)
			startFaulty(t, s)
			outage(t, s, probes, fault == diskHanging, func() { breakDisk(t, s, fault) }, func() { healDisk(t, s) })
		})
	}
}

// AUD-02 with the kernel's own ENOSPC: the audit directory on a file system of a few MiB that something else fills.
func TestOutageOfAFullFileSystem(t *testing.T) {
	t.Parallel()
	s := harness.New(t, harness.Apps, "")
	probes := withProbes(t, s)
	edit(t, s, "segment_size: 4194304", "segment_size: 1048576")
	dir := filepath.Join(s.Dir, "audit")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m")
	if errors.Is(err, unix.EPERM) {
		t.Log("this root may not mount: the file layer plays the full disk")
		startFaulty(t, s)
		outage(t, s, probes, true, func() { breakDisk(t, s, diskFull) }, func() { healDisk(t, s) })
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s.Start(t)
	ballast := filepath.Join(dir, "somebody else's")
	outage(t, s, probes, true, func() { fill(t, ballast) }, func() {
		if err := os.Remove(ballast); err != nil {
			t.Error(err)
		}
	})
}

// fill writes until there is no more room.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// outage goes through one from beginning to end; with stream, long enough for what is open to be ended.
func outage(t *testing.T, s *harness.Stand, probes string, stream bool, broken, heal func()) {
	t.Helper()
	browser := s.Browser()
	if status, body := s.SignIn(t, browser, "wiki", "ada", "staff"); status != http.StatusOK {
		t.Fatalf("sign-in ended with %d: %s", status, body)
	}
	socket := dialEcho(t, s, browser)
	if got := echo(t, socket, "before"); got != "before" {
		t.Fatalf("the socket says %q", got)
	}
	broken()
	harness.Eventually(t, 2*time.Minute, "the gateway to notice", func() bool {
		status, _ := harness.Get(t, browser, s.URL("wiki", "/page"))
		return status == http.StatusServiceUnavailable
	})
	s.Origin.Forget()
	nothingIsServed(t, s, browser)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/metrics": 200} {
		if status, body := harness.Get(t, http.DefaultClient, probes+path); status != want {
			t.Errorf("%s answers %d, want %d: %s", path, status, want, body)
		}
	}
	if _, page := harness.Get(t, http.DefaultClient, probes+"/metrics"); !strings.Contains(page, "sallyport_audit_healthy 0") {
		t.Error("metrics do not say that the log cannot be written")
	}
	if out, code := s.Sallyport(t, "status"); code != 1 || !strings.Contains(out, "the audit log is unavailable") {
		t.Errorf("status exits with %d: %s", code, out)
	}
	if stream {
		mustEnd(t, socket)
	}
	if len(s.Origin.Seen()) > 0 {
		t.Errorf("an app was asked meanwhile: %+v", s.Origin.Seen())
	}
	heal()
	harness.Eventually(t, 2*time.Minute, "the gateway to recover", func() bool {
		status, _ := harness.Get(t, browser, s.URL("wiki", "/after"))
		return status == http.StatusOK
	})
	if status, body := s.SignIn(t, s.Browser(), "payroll", "bob", "finance"); status != http.StatusOK {
		t.Errorf("sign-in after the outage ended with %d: %s", status, body)
	}
	if stream {
		told := waitForOutcome(t, s, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "audit_unavailable" })
		if told.Outcome.BytesOut == 0 {
			t.Errorf("the socket's outcome: %+v", told.Outcome)
		}
	}
	list := records(t, s)
	gapless(t, list)
	decided := decisionsByRequest(t, list)
	for _, seen := range s.Origin.Seen() {
		if decided[seen.ID].Effect != audit.Allow {
			t.Errorf("%s %s reached the app without a record", seen.Method, seen.Target)
		}
	}
}

// nothingIsServed asks for everything there is.
func nothingIsServed(t *testing.T, s *harness.Stand, browser *http.Client) {
	t.Helper()
	program := &http.Client{Transport: s.Transport(), CheckRedirect: stay}
	person := s.Cookie(t, browser, "wiki")
	for _, c := range []struct {
		method, label, path string
		cookie              *http.Cookie
	}{
		{"GET", "wiki", "/page", person},
		{"POST", "wiki", "/page", person},
		{"GET", "wiki", "/page", nil},
		{"GET", "wiki", "/a//b", person},
		{"GET", "wiki", "/.sallyport/signout", person},
		{"POST", "wiki", "/.sallyport/signout", person},
		{"GET", "payroll", "/", nil},
		{"GET", "auth", "/", nil},
		{"GET", "auth", "/.sallyport/start", nil},
		{"GET", "auth", "/.sallyport/callback/corp?code=c&state=s", nil},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL(c.label, c.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.cookie != nil {
			req.AddCookie(c.cookie)
		}
		res, err := program.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		var told struct{ Error, Reference string }
		if err := json.Unmarshal(body, &told); res.StatusCode != 503 || err != nil || told.Error != "audit_unavailable" || told.Reference == "" {
			t.Errorf("%s %s%s got %d %s", c.method, c.label, c.path, res.StatusCode, body)
		}
	}
	if status, page := harness.Get(t, browser, s.URL("wiki", "/page")); status != 503 || !strings.Contains(page, "audit log") {
		t.Errorf("a person got %d: %s", status, page)
	}
}

// withProbes adds the listener for health and metrics and returns its origin.
func withProbes(t *testing.T, s *harness.Stand) string {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	edit(t, s, "socket: "+s.Dir+"/admin.sock", "socket: "+s.Dir+`/admin.sock, listen: "`+address+`"`)
	return "http://" + address
}

// edit replaces a piece of the configuration.
func edit(t *testing.T, s *harness.Stand, old, now string) {
	t.Helper()
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		t.Fatalf("%q is not in the configuration once:\n%s", old, text)
	}
	s.WriteRaw(t, strings.Replace(string(text), old, now, 1))
}

// KEY-10: without keyd no new connection is made, whatever became of it; open ones go on; then all is well again.
func TestOutageOfTheKeyProcess(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	gw := s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	if out, code := s.Sallyport(t, "status"); code != 0 || !strings.Contains(out, "child process (development), ready") {
		t.Errorf("status exits with %d and does not name the mode: %s", code, out)
	}
	stopped := onlyChild(t, gw)
	syscall.Kill(stopped, syscall.SIGSTOP)
	harness.Eventually(t, 2*time.Minute, "new handshakes to fail", func() bool { return handshakeFails(t, s) })
	if status, _ := harness.Get(t, browser, s.URL("wiki", "/page")); status != http.StatusOK {
		t.Errorf("an open connection got %d", status)
	}
	harness.Eventually(t, 2*time.Minute, "the gateway to start another keyd", func() bool { return !handshakeFails(t, s) })
	killed := onlyChild(t, gw)
	if killed == stopped {
		t.Error("the hung keyd is still the one that serves")
	}
	syscall.Kill(killed, syscall.SIGKILL)
	harness.Eventually(t, 2*time.Minute, "the gateway to start a third keyd", func() bool { return !handshakeFails(t, s) })
	if status, body := s.SignIn(t, s.Browser(), "payroll", "bob", "finance"); status != http.StatusOK {
		t.Errorf("sign-in afterwards ended with %d: %s", status, body)
	}
}

// handshakeFails tries a new connection, which must be answered one way or the other.
func handshakeFails(t *testing.T, s *harness.Stand) bool {
	t.Helper()
	client := &http.Client{Transport: s.Transport(), Timeout: 20 * time.Second, CheckRedirect: stay}
	defer client.CloseIdleConnections()
	res, err := client.Get(s.URL("wiki", "/page"))
	if err != nil {
		if os.IsTimeout(err) {
			t.Error("a handshake without keyd is left hanging")
		}
		return true
	}
	res.Body.Close()
	return false
}

// onlyChild is the process that a gateway started, once there is just one.
func onlyChild(t *testing.T, gw *harness.Process) (pid int) {
	t.Helper()
	harness.Eventually(t, 2*time.Minute, "one child process", func() bool {
		var all []int
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", gw.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range lists {
			text, _ := os.ReadFile(list) // a thread may have ended
			for field := range strings.FieldsSeq(string(text)) {
				child, err := strconv.Atoi(field)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, child)
			}
		}
		if len(all) == 1 {
			pid = all[0]
		}
		return len(all) == 1
	})
	return pid
}

// As a service under its own account, keyd may come and go; with strict keys the whole way of a person works.
func TestOutageOfAKeyService(t *testing.T) {
	const account = 61001
	s := harness.New(t, harness.Apps, "")
	service := newKeyService(t, s, account)
	service.start(t)
	edit(t, s, fmt.Sprintf("keys: { strict: false, spawn: { binary: %s/keyd, config: %s } }", harness.Binaries(t), filepath.Join(s.Dir, "keys", "keyd.yaml")),
		fmt.Sprintf("keys: { socket: %s, uid: %d, strict: true }", service.socket, account))
	edit(t, s, s.Dir+"/keys/public/certs/*.pem", service.certificates)
	s.Start(t)
	browser := s.Browser()
	if status, body := s.SignIn(t, browser, "wiki", "ada", "staff"); status != http.StatusOK {
		t.Fatalf("sign-in ended with %d: %s", status, body)
	}
	if out, code := s.Sallyport(t, "status"); code != 0 || !strings.Contains(out, "socket, ready") {
		t.Errorf("status exits with %d: %s", code, out)
	}
	service.stop(t)
	harness.Eventually(t, 2*time.Minute, "new handshakes to fail", func() bool { return handshakeFails(t, s) })
	if status, _ := harness.Get(t, browser, s.URL("wiki", "/page")); status != http.StatusOK {
		t.Errorf("an open connection got %d", status)
	}
	if out, code := s.Sallyport(t, "status"); code != 1 || !strings.Contains(out, "the key process does not answer") {
		t.Errorf("status exits with %d: %s", code, out)
	}
	service.start(t)
	harness.Eventually(t, 2*time.Minute, "handshakes with the keyd that is back", func() bool { return !handshakeFails(t, s) })
}

// keyService is a keyd under an account of its own.
type keyService struct {
	dir, socket, certificates string
	account                   uint32
	process                   *exec.Cmd
}

func newKeyService(t *testing.T, s *harness.Stand, account uint32) *keyService {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-keyd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(filepath.Join(harness.Binaries(t), "keyd"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "keyd"), program, 0o755)); err != nil {
		t.Fatal(err)
	}
	made, err := keyd.Init(keyd.InitOptions{Dir: filepath.Join(dir, "home"), Domain: harness.Domain, Port: s.Port, Lenient: true,
		Hosts: []string{"auth." + harness.Domain, "wiki." + harness.Domain, "payroll." + harness.Domain}, AllowUIDs: []uint32{uint32(os.Getuid())}})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(made.CA)
	if err != nil {
		t.Fatal(err)
	}
	s.Roots().AppendCertsFromPEM(ca)
	err = filepath.WalkDir(filepath.Join(dir, "home"), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, int(account), int(account)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return &keyService{dir: dir, socket: made.Socket, certificates: made.Certificates, account: account}
}

func (k *keyService) start(t *testing.T) {
	t.Helper()
	process := exec.Command(filepath.Join(k.dir, "keyd"), "run", "--config", filepath.Join(k.dir, "home", "keyd.yaml"))
	process.Dir = "/"
	process.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: k.account, Gid: k.account}}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	k.process = process
	t.Cleanup(func() { process.Process.Kill(); process.Wait() })
	harness.Eventually(t, 2*time.Minute, "keyd's socket", func() bool { _, err := os.Stat(k.socket); return err == nil })
}

func (k *keyService) stop(t *testing.T) {
	t.Helper()
	if err := k.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := k.process.Wait(); err != nil {
		t.Fatal(err)
	}
}

// A provider that is away at the start, goes away later or changes its keys: people read what is wrong, those who are
// signed in go on, and nobody restarts anything.
func TestOutageOfTheProvider(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Provider.Do(fakeidp.Script{Down: true})
	s.Start(t)
	status, page := harness.Get(t, s.Browser(), s.URL("wiki", "/"))
	if status != http.StatusBadGateway || !strings.Contains(page, "The sign-in service does not answer") {
		t.Errorf("without a provider the sign-in answers %d: %.4000s", status, page)
	}
	if out, _ := s.Sallyport(t, "status"); !strings.Contains(out, "corp") || !strings.Contains(out, "NOT READY") {
		t.Errorf("status does not say that the provider is away: %s", out)
	}
	s.Provider.Do(fakeidp.Script{})
	var browser *http.Client
	harness.Eventually(t, 2*time.Minute, "sign-in to work", func() bool {
		browser = s.Browser() // one that tries all the time is shown a page
		status, _ := s.SignIn(t, browser, "wiki", "ada", "staff")
		return status == http.StatusOK
	})
	s.Provider.Rotate()
	if status, body := s.SignIn(t, s.Browser(), "wiki", "bob", "staff"); status != http.StatusOK {
		t.Errorf("sign-in with the provider's new key ended with %d: %s", status, body)
	}
	s.Provider.Do(fakeidp.Script{Down: true})
	if status, _ := harness.Get(t, browser, s.URL("wiki", "/page")); status != http.StatusOK {
		t.Errorf("who is signed in got %d", status)
	}
	stranger := s.Browser()
	res, err := stranger.Get(s.URL("wiki", "/"))
	if err == nil { // the provider's own page would have come next
		drain(res)
		t.Errorf("a provider that is down answered %d", res.StatusCode)
	}
	s.Provider.Do(fakeidp.Script{})
	if status, body := s.SignIn(t, stranger, "wiki", "cleo", "staff"); status != http.StatusOK {
		t.Errorf("sign-in with the provider that is back ended with %d: %s", status, body)
	}
}
