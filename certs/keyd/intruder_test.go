package keyd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
	"sallyport/test/memscan"
)

// configure changes top-level settings of keyd.yaml.
func configure(t *testing.T, s *keydtest.Setup, settings map[string]any) {
	t.Helper()
	data, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	maps.Copy(c, settings)
	if data, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Config, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// strictly makes s one that root starts, and that becomes keyd's user with every protection or not at all.
func strictly(t *testing.T, s *keydtest.Setup) *keydtest.Setup {
	t.Helper()
	configure(t, s, map[string]any{"strict": true, "user": strconv.Itoa(keydtest.KeydUID), "group": strconv.Itoa(keydtest.GatewayUID)})
	s.UID = os.Geteuid() // who starts it
	return s
}

// openFolder is one where everybody may leave a core file.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runGDB runs gdb in dir as uid.
func runGDB(t *testing.T, uid int, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("gdb", append([]string{"-nx", "-nh", "-batch"}, args...)...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() < 0) {
		t.Fatalf("gdb: %v: %s", err, out)
	}
	return string(out)
}

// KEY-03: a debugger gets nothing, neither as the gateway's user nor as keyd's own: no attachment, no memory, no core file.
// What it gets of a process that does not protect itself shows that it would.
func TestKEY03DebuggersGetNothing(t *testing.T) {
	s := strictly(t, keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)...))
	p := s.Start(t)
	// The programs of tests lie in folders of root's.
	victim := keydtest.As(t, keydtest.KeydUID, "squat", filepath.Join(s.Dir, "state", "open.sock"))
	waitListening(t, victim)
	for _, tt := range []struct {
		uid, pid int
		dumps    bool
	}{
		{keydtest.GatewayUID, p.PID(), false},
		{keydtest.StrangerUID, p.PID(), false},
		{keydtest.KeydUID, p.PID(), false},
		{keydtest.KeydUID, victim.Process.Pid, true},
	} {
		dir := openFolder(t)
		said := runGDB(t, tt.uid, dir, "-p", strconv.Itoa(tt.pid), "-ex", "info registers", "-ex", "x/4xg $sp", "-ex", "generate-core-file made.core")
		_, err := os.Stat(filepath.Join(dir, "made.core"))
		if dumped := err == nil; dumped != tt.dumps {
			t.Errorf("uid %d, pid %d: core file %t, want %t; gdb says: %s", tt.uid, tt.pid, dumped, tt.dumps, said)
		}
		if !tt.dumps && !strings.Contains(said, "Operation not permitted") {
			t.Errorf("uid %d: gdb is not refused: %s", tt.uid, said)
		}
	}
	if !p.Running() {
		t.Error("keyd is gone")
	}
}

// KEY-01, KEY-02: after all that, the keys are where they belong: in keyd's memory, where only root finds them, and in
// their files. Not in its state, its log, its folders or what it left when it crashed.
func TestKEY02CrashesLeaveNothing(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGQUIT, syscall.SIGFPE} {
		t.Run(signal.String(), func(t *testing.T) {
			s := strictly(t, keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)...))
			secrets, err := memscan.Files(filepath.Join(s.Dir, "keys", "*.pem"))
			if err != nil {
				t.Fatal(err)
			}
			dir := openFolder(t)
			cmd := s.Command()
			cmd.Dir = dir
			p := s.StartCommand(t, cmd)
			if finds, err := memscan.Process(p.PID(), secrets); err != nil || len(finds) == 0 {
				t.Fatalf("the scanner does not find the keys where they are: %v", err)
			}
			p.Signal(t, signal)
			keydtest.Eventually(t, "keyd is gone", func() error {
				if p.Running() {
					return errors.New("it runs")
				}
				return nil
			})
			if p.Cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
				t.Error("the kernel wrote a core file")
			}
			if finds, err := memscan.Bytes([]byte(p.Log()), secrets); err != nil || len(finds) > 0 {
				t.Errorf("keyd's log has keys: %v %v", finds, err)
			}
			if strings.Contains(p.Log(), "rsp") || strings.Contains(p.Log(), "goroutine") {
				t.Errorf("a crash shows what was going on: %s", p.Log())
			}
			for _, folder := range []string{dir, filepath.Join(s.Dir, "state"), filepath.Join(s.Dir, "run")} {
				findNone(t, folder, secrets)
			}
		})
	}
}

func findNone(t *testing.T, folder string, secrets []memscan.Secret) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if strings.Contains(d.Name(), "core") {
			t.Errorf("there is %s", path)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		finds, err := memscan.Bytes(data, secrets)
		for _, f := range finds {
			t.Errorf("%s: %s", path, f)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// crash is a program that hides as keyd does, unless told otherwise, wants a core file with all its might, and aborts.
func crash(args []string) error {
	if args[0] == "hidden" {
		if err := keyd.Hide(); err != nil {
			return err
		}
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &lim); err != nil {
		return err
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &lim); err != nil {
		return err
	}
	signal.Reset()
	debug.SetTraceback("crash")
	if err := unix.Kill(os.Getpid(), syscall.SIGABRT); err != nil {
		return err
	}
	return unix.Pause() // until it arrives
}

// The kernel writes no core file of a process that hid as keyd does, and one of another: the tests above could fail.
func TestNoCoreFiles(t *testing.T) {
	for how, want := range map[string]bool{"hidden": false, "open": true} {
		cmd := keydtest.As(t, keydtest.KeydUID, "crash", how)
		cmd.Dir = openFolder(t)
		out, err := cmd.CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGABRT {
			t.Fatalf("%s: got %v, want an abort: %s", how, err, out)
		}
		if got := exit.Sys().(syscall.WaitStatus).CoreDump(); got != want {
			t.Errorf("%s: core file %t, want %t", how, got, want)
		}
	}
}

// Started by root, keyd is its own user on every thread before it reads a key, with the one group that may reach the
// socket, no capability, and every protection.
func TestKeydBecomesItsUser(t *testing.T) {
	s := strictly(t, keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)...))
	p := s.Start(t)
	for range 50 {
		dial(t, s).Close()
	}
	st, err := keyd.AskStatus(s.Socket)
	if err != nil || st.UID != keydtest.KeydUID {
		t.Fatalf("got %+v %v, want uid %d", st, err, keydtest.KeydUID)
	}
	for _, f := range st.Sandbox {
		if !f.Holds {
			t.Errorf("%s does not hold: %s", f.Name, f.Detail)
		}
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID()))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("got %v %v, want threads", tasks, err)
	}
	uid, gid := strings.Repeat(fmt.Sprintf("\t%d", keydtest.KeydUID), 4), strings.Repeat(fmt.Sprintf("\t%d", keydtest.GatewayUID), 4)
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err != nil {
			continue // the thread ended
		}
		for _, want := range []string{"Uid:" + uid, "Gid:" + gid, fmt.Sprintf("Groups:\t%d", keydtest.GatewayUID), "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !bytes.Contains(status, []byte("\n"+want)) {
				t.Errorf("%s lacks %q", task, want)
			}
		}
		// The one to lock memory stays where root may not lift the limit of it.
		if !regexp.MustCompile(`\nCapPrm:\t0{12}[04]000\nCapEff:\t0{12}[04]000\n`).Match(status) {
			t.Errorf("%s has capabilities:\n%s", task, status)
		}
	}
	info, err := os.Stat(s.Socket)
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != keydtest.KeydUID || info.Sys().(*syscall.Stat_t).Gid != keydtest.GatewayUID {
		t.Errorf("the socket is not keyd's and the gateway's group's: %+v %v", info, err)
	}
	if out, err := keydtest.As(t, keydtest.GatewayUID, "ask", s.Socket).Output(); err != nil || !strings.HasPrefix(string(out), "status ok") {
		t.Errorf("the gateway cannot talk to it: %q %v", out, err)
	}
}

func TestStrictNamesAllThatDoesNotHold(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, keys(t)[:1]...)
	configure(t, s, map[string]any{"strict": true})
	if said := s.Fails(t); !strings.Contains(said, "unprivileged: keyd runs as root: name a `user`") || strings.Contains(said, "seccomp") {
		t.Errorf("got %q, want the fact that does not hold, and what to do, and no other", said)
	}
	if _, err := os.Lstat(s.Socket); err == nil {
		t.Error("a keyd that refused to start left its socket")
	}
	// Two at once: as root, with capabilities that memory takes but without its limit.
	cmd := exec.Command("prlimit", "--memlock=65536:65536", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock",
		keydtest.Binary(), "run", "--config", s.Config)
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("unprivileged: ")) || !bytes.Contains(out, []byte("memory_locked: the limit is 65536 bytes")) {
		t.Errorf("got %v %s, want both facts", err, out)
	}
	configure(t, s, map[string]any{"strict": false})
	if log := s.Start(t).Log(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "name=unprivileged") {
		t.Errorf("got %q, want a warning", log)
	}
}

func TestWhoKeydMayBe(t *testing.T) {
	self := strconv.Itoa(keydtest.KeydUID)
	for _, tt := range []struct {
		name     string
		settings map[string]any
		starter  int
		want     string // empty: it starts
	}{
		{"the user itself", map[string]any{"user": self, "group": self}, keydtest.KeydUID, ""},
		{"root as a number", map[string]any{"user": "0"}, 0, "user is root"},
		{"root by name", map[string]any{"user": "root"}, 0, "user is root"},
		{"nobody that is known", map[string]any{"user": "no-such-user"}, 0, "no-such-user"},
		{"a group that is not known", map[string]any{"user": self, "group": "no-such-group"}, 0, "no-such-group"},
		{"a group alone", map[string]any{"group": self}, 0, "group is named without a user"},
		{"the number for nobody", map[string]any{"user": "4294967295"}, 0, "4294967295"},
		{"somebody else", map[string]any{"user": strconv.Itoa(keydtest.StrangerUID)}, keydtest.KeydUID, "was started as uid 61001"},
		{"another group", map[string]any{"user": self, "group": "1"}, keydtest.KeydUID, "gid 1"},
		{"a user to whom nothing belongs", map[string]any{"user": strconv.Itoa(keydtest.StrangerUID)}, 0, "belongs to uid 61001"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)[:1]...)
			s.UID = tt.starter
			configure(t, s, tt.settings)
			if tt.want == "" {
				s.Start(t)
				return
			}
			if said := s.Fails(t); !strings.Contains(said, tt.want) {
				t.Errorf("got %q, want %q", said, tt.want)
			}
		})
	}
}

// A configuration speaks for its owner only: root believes its own, and the one of the user that it names.
func TestWhoseConfigurationRootBelieves(t *testing.T) {
	for owner, want := range map[int]string{keydtest.KeydUID: "", keydtest.StrangerUID: "belongs to uid 61003"} {
		s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID}, keys(t)[:1]...)
		strictly(t, s)
		chown(t, s.Config, owner)
		if want == "" {
			s.Start(t)
		} else if said := s.Fails(t); !strings.Contains(said, want) {
			t.Errorf("owner %d: got %q, want %q", owner, said, want)
		}
	}
	c := &keyd.Config{User: "daemon"}
	if uid, gid, err := c.Identity(); err != nil || uid != 1 || gid != 1 {
		t.Errorf("a user by name: got %d %d %v, want 1 1", uid, gid, err)
	}
}
