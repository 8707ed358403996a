package keyd_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	"golang.org/x/sys/unix"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

func TestMain(m *testing.M) {
	keydtest.Main(m, map[string]func([]string) error{
		"reach": reach, "trace": trace, "ask": ask, "squat": squat, "hostile": keyd.Hostile, "hostile frames": keyd.HostileFrames,
		"attempt": attempt, "measure": measure, "crash": crash,
	})
}

// reach is a program that succeeds if it can read any of the files.
func reach(files []string) error {
	var errs []error
	for _, f := range files {
		if _, err := os.ReadFile(f); err == nil {
			fmt.Println(f)
			return nil
		} else {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// trace is a program that succeeds if it can look into the process by any way the kernel has.
func trace(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	attach := unix.PtraceAttach(pid)
	seize := unix.PtraceSeize(pid)
	_, mem := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	local, remote := make([]byte, 8), unix.RemoteIovec{Base: 0x400000, Len: 8}
	_, vm := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &local[0], Len: 8}}, []unix.RemoteIovec{remote}, 0)
	for name, err := range map[string]error{"ptrace attach": attach, "ptrace seize": seize, "mem": mem, "process_vm_readv": vm} {
		if err == nil {
			fmt.Println(name)
			return nil
		}
	}
	for _, err := range []error{attach, seize, mem, vm} {
		if !errors.Is(err, os.ErrPermission) {
			fmt.Println("not refused but failed:", err)
			return nil
		}
	}
	return os.ErrPermission
}

// ask is a program that prints whether keyd talks to it, and whether it signs.
func ask(args []string) error {
	c, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	if err := wire.Offer(c); err != nil {
		return err
	}
	for _, f := range []wire.Frame{
		{ID: 1, Kind: byte(wire.OpStatus)},
		{ID: 2, Kind: byte(wire.OpSignTLS13Server), Body: wire.SignBody(wire.KeyID{}, nil)},
	} {
		c.Write(wire.AppendFrame(nil, f))
		answer, err := wire.ReadFrame(c, wire.MaxAnswer)
		if err != nil {
			return err
		}
		fmt.Println(wire.Op(f.Kind), wire.Code(answer.Kind))
	}
	return nil
}

// squat is a program that listens on a socket until its stdin closes.
func squat(args []string) error {
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	fmt.Println("listening")
	io.Copy(io.Discard, os.Stdin)
	return l.Close()
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rsaKey is made once: it takes half a second.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// keys is one key for each purpose and kind.
func keys(t testing.TB) []keydtest.Key {
	t.Helper()
	r, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return []keydtest.Key{
		{Name: "wiki", Purpose: "tls-server", Private: p256(t), Hosts: []string{"wiki.corp.example"}},
		{Name: "edward", Purpose: "tls-server", Private: edKey(t), Hosts: []string{"edward.corp.example"}},
		{Name: "rivest", Purpose: "tls-server", Private: r, Hosts: []string{"rivest.corp.example"}, TLS12: true},
		{Name: "says", Purpose: "assertion", Private: p256(t)},
		{Name: "login", Purpose: "oidc-client", Private: p256(t), ClientID: "sallyport", Audience: "https://login.example/token"},
		{Name: "mutual", Purpose: "tls-client", Private: p256(t)},
		{Name: "log", Purpose: "checkpoint", Private: edKey(t), Origins: []string{decision, control}},
		{Name: "evidence", Purpose: "manifest", Private: edKey(t), Origins: []string{"corp.example/audit/manifest"}},
		{Name: "account", Purpose: "acme-account", Private: p256(t)},
		{Name: "old", Purpose: "tls-server", Private: p256(t), Hosts: []string{"old.corp.example"}, TLS12: true},
	}
}

const decision, control = "corp.example/audit/decision", "corp.example/audit/control"

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// peer is a client that says whatever a test wants.
type peer struct {
	net.Conn
	t testing.TB
}

func dial(t testing.TB, s *keydtest.Setup) *peer {
	t.Helper()
	c, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	if err := wire.Offer(c); err != nil {
		t.Fatal(err)
	}
	return &peer{c, t}
}

func (p *peer) ask(op wire.Op, body []byte) (wire.Code, []byte) {
	p.t.Helper()
	if _, err := p.Write(wire.AppendFrame(nil, wire.Frame{ID: 77, Kind: byte(op), Body: body})); err != nil {
		p.t.Fatal(err)
	}
	f, err := wire.ReadFrame(p, wire.MaxAnswer)
	if err != nil {
		p.t.Fatal(err)
	}
	if f.ID != 77 {
		p.t.Fatalf("got an answer to %d, want 77", f.ID)
	}
	return wire.Code(f.Kind), f.Body
}

func id(t testing.TB, k keydtest.Key) wire.KeyID {
	t.Helper()
	id, err := wire.ID(k.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

var certificateVerify = strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00" + strings.Repeat("h", 32)

func jwt(t testing.TB, kid wire.KeyID, claims map[string]any) []byte {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return []byte(part(map[string]string{"alg": "ES256", "typ": "JWT", "kid": kid.String()}) + "." + part(claims))
}

func assertion(t testing.TB, kid wire.KeyID) []byte {
	now := time.Now().Unix()
	return jwt(t, kid, map[string]any{
		"iss": "https://auth.corp.example", "aud": "https://wiki.corp.example", "sub": "corp|alice", "iat": now, "exp": now + 60,
	})
}

func clientAssertion(t testing.TB, kid wire.KeyID) []byte {
	now := time.Now().Unix()
	return jwt(t, kid, map[string]any{
		"iss": "sallyport", "sub": "sallyport", "aud": "https://login.example/token", "jti": "1", "iat": now, "exp": now + 60,
	})
}

// KEY-02: neither the gateway's user nor a stranger reads a key from a file, an environment or a descriptor, and keyd
// inherits nothing.
func TestKEY02NoKeyWithinReach(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, all...)
	secret, err := os.Open(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	cmd := s.Command()
	cmd.ExtraFiles = []*os.File{secret, secret}
	cmd.Env = append(os.Environ(), "SOME_SECRET=correct-horse")
	p := s.StartCommand(t, cmd)

	proc := fmt.Sprintf("/proc/%d/", p.PID())
	files, err := filepath.Glob(filepath.Join(s.Dir, "keys", "*"))
	if err != nil || len(files) != len(all) {
		t.Fatalf("got %v %v, want the key files", files, err)
	}
	files = append(files, proc+"environ", proc+"mem", proc+"maps", proc+"fd/0", proc+"auxv")
	for _, uid := range []int{keydtest.GatewayUID, keydtest.StrangerUID} {
		if out, err := keydtest.As(t, uid, "reach", files...).Output(); err == nil {
			t.Errorf("uid %d can read %s", uid, out)
		}
	}
	// Even keyd's own user gets only at the files.
	if out, err := keydtest.As(t, keydtest.KeydUID, "reach", files[len(all):]...).Output(); err == nil {
		t.Errorf("a process of keyd's user can read %s", out)
	}
	if env, err := os.ReadFile(proc + "environ"); err != nil || bytes.Contains(env, []byte("horse")) || bytes.Contains(env, []byte("PATH")) {
		t.Errorf("keyd has an environment: %q %v", env, err)
	}
	fds, err := filepath.Glob(proc + "fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, _ := os.Readlink(fd); target == s.Config || strings.Contains(target, "/keys/") {
			t.Errorf("keyd has %s open", target)
		}
	}
}

// KEY-03: keyd cannot be traced, not even by its own user.
func TestKEY03NoTracing(t *testing.T) {
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)...)
	p := s.Start(t)
	for _, uid := range []int{keydtest.GatewayUID, keydtest.StrangerUID, keydtest.KeydUID} {
		if out, err := keydtest.As(t, uid, "trace", strconv.Itoa(p.PID())).Output(); err == nil {
			t.Errorf("uid %d can trace keyd: %s", uid, out)
		}
	}
	// The probe works: a process of the same user that does not protect itself is open to it.
	open := keydtest.As(t, keydtest.KeydUID, "squat", filepath.Join(s.Dir, "state", "open.sock"))
	waitListening(t, open)
	if out, err := keydtest.As(t, keydtest.KeydUID, "trace", strconv.Itoa(open.Process.Pid)).Output(); err != nil {
		t.Errorf("the probe cannot trace an unprotected process: %v %s", err, out)
	}

	st, err := keyd.AskStatus(s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range st.Sandbox {
		if !f.Holds && f.Name != "memory_locked" { // a matter of who started it: see TestKeydBecomesItsUser
			t.Errorf("%s does not hold: %s", f.Name, f.Detail)
		}
	}
	proc, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil || !bytes.Contains(proc, []byte("NoNewPrivs:\t1")) {
		t.Errorf("no_new_privs is not set: %v", err)
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID()))
	for _, task := range tasks {
		if b, err := os.ReadFile(task); err == nil && !bytes.Contains(b, []byte("NoNewPrivs:\t1")) {
			t.Errorf("%s: no_new_privs is not set", task)
		}
	}
}

// waitListening starts a squatter and waits for its word.
func waitListening(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("listening"))); err != nil {
		t.Fatalf("the squatter does not listen: %v", err)
	}
}

// startChild starts a keyd that serves the other end of what it returns. Who calls it waits for the process.
func startChild(t *testing.T, s *keydtest.Setup) (*exec.Cmd, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	cmd := exec.Command(keydtest.Binary(), "run", "--config", s.Config, "--fd", "3")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	return cmd, ours
}

func TestChildLeavesWithItsParent(t *testing.T) {
	s := keydtest.Make(t, 0, nil, keys(t)...)
	cmd, ours := startChild(t, s)
	if err := wire.Offer(ours); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.Socket); err == nil {
		t.Error("a child listens")
	}
	ours.Close()
	timer := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("keyd ended with %v, want a clean exit", err)
	}
}

func TestStatusForPeopleAndPrograms(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	out, err := exec.Command(keydtest.Binary(), "status", "--config", s.Config).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"socket", "wiki", "tls-server", "rivest.corp.example", "not_dumpable", "yes", "landlock"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, err = exec.Command(keydtest.Binary(), "status", "--socket", s.Socket, "--json").Output()
	var st keyd.Status
	if err := errors.Join(err, json.Unmarshal(out, &st)); err != nil || len(st.Keys) != len(all) || st.Mode != "socket" {
		t.Errorf("got %v %+v", err, st)
	}
	out, err = exec.Command(keydtest.Binary(), "status", "--socket", "/nowhere").CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
		t.Errorf("without a keyd: got %v %s, want exit code 2", err, out)
	}
}

func TestTerminatedKeydLeavesNoSocket(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, keys(t)[:1]...)
	p := s.Start(t)
	dial(t, s)
	p.Signal(t, syscall.SIGTERM)
	keydtest.Eventually(t, "keyd is gone", func() error {
		if p.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	if code := p.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
	if _, err := os.Lstat(s.Socket); err == nil {
		t.Error("the socket is still there")
	}
}

// keyd speaks one protocol over one socket: nothing that it links could make it a web client or run policies.
func TestKeydLinksLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "sallyport/cmd/keyd").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if dep == "net/http" || dep == "os/exec" || dep == "crypto/tls" || strings.Contains(dep, "open-policy-agent") {
			t.Errorf("keyd links %s", dep)
		}
	}
}
