package keyd_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

// crime is something that keyd must not be able to do, and what has to be taken out of its confinement for it to work.
// Every crime works for a process that is not confined: the tests run as root.
type crime struct {
	name    string
	do      func(p places) error
	calls   []string // the filter without these rules, and
	noRules bool     // without Landlock, lets it happen
}

// places are the folders of a test, and the process that started the attempt.
type places struct {
	keys, state, elsewhere string
	parent                 int
}

// raw is a system call that gets as far as its arguments: EPERM and EACCES come from a sandbox, others do not.
func raw(number uintptr, args ...uintptr) func(places) error {
	return func(places) error {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		return refusal(errno)
	}
}

// refusal is what a sandbox says; other failures are not its doing.
func refusal(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		return err
	}
	return nil
}

func readFile(path func(places) string) func(places) error {
	return func(p places) error {
		_, err := os.ReadFile(path(p))
		return err
	}
}

func createIn(dir func(places) string) func(places) error {
	return func(p places) error {
		f, err := os.OpenFile(filepath.Join(dir(p), "new"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	}
}

const none = ^uintptr(0) // no descriptor, and no address

func crimes() []crime {
	list := slices.Concat(networkCrimes(), processCrimes(), fileCrimes(), kernelCrimes())
	if runtime.GOARCH == "amd64" {
		list = append(list, crime{name: "open by its older name", do: func(places) error {
			path, _ := unix.BytePtrFromString("/etc/passwd")
			_, _, errno := unix.Syscall(2, uintptr(unsafe.Pointer(path)), 0, 0)
			return refusal(errno)
		}, calls: []string{"open"}, noRules: true})
	}
	return list
}

func networkCrimes() []crime {
	sock := func(name string, family, kind, protocol uintptr) crime {
		return crime{name: name, do: raw(unix.SYS_SOCKET, family, kind, protocol), calls: []string{"socket"}}
	}
	pair := [2]int32{}
	return []crime{
		sock("socket: TCP", unix.AF_INET, unix.SOCK_STREAM, 0),
		sock("socket: TCP over IPv6", unix.AF_INET6, unix.SOCK_STREAM, 0),
		sock("socket: multipath TCP", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP),
		sock("socket: UDP", unix.AF_INET, unix.SOCK_DGRAM, 0),
		sock("socket: raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		sock("socket: Unix", unix.AF_UNIX, unix.SOCK_STREAM, 0),
		sock("socket: netlink", unix.AF_NETLINK, unix.SOCK_RAW, 0),
		sock("socket: packet", unix.AF_PACKET, unix.SOCK_RAW, 0),
		{name: "socketpair", do: raw(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, uintptr(unsafe.Pointer(&pair))), calls: []string{"socketpair"}},
		{name: "bind", do: raw(unix.SYS_BIND, none), calls: []string{"bind"}},
		{name: "connect", do: raw(unix.SYS_CONNECT, none), calls: []string{"connect"}},
		{name: "receive a descriptor", do: raw(unix.SYS_RECVMSG, none), calls: []string{"recvmsg"}},
		{name: "send a descriptor", do: raw(unix.SYS_SENDMSG, none), calls: []string{"sendmsg"}},
		{name: "io_uring", do: raw(unix.SYS_IO_URING_SETUP, 1, 0), calls: []string{"io_uring_setup"}},
	}
}

func processCrimes() []crime {
	fork := func(number uintptr, args ...uintptr) func(places) error {
		return func(places) error {
			var a [3]uintptr
			copy(a[:], args)
			pid, _, errno := unix.RawSyscall(number, a[0], a[1], a[2])
			if errno == 0 && pid == 0 {
				unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0) // the child
			}
			if errno == syscall.ENOSYS {
				errno = syscall.EPERM // what clone3 is told, so that libraries fall back on clone
			}
			return refusal(errno)
		}
	}
	cloneArgs := [11]uint64{4: uint64(unix.SIGCHLD)}
	return []crime{
		{name: "exec", do: func(places) error { return syscall.Exec("/bin/true", []string{"true"}, nil) }, calls: []string{"execve"}, noRules: true},
		{name: "execveat", do: raw(unix.SYS_EXECVEAT, none, 0, 0, 0, unix.AT_EMPTY_PATH), calls: []string{"execveat"}},
		{name: "fork", do: fork(unix.SYS_CLONE, uintptr(unix.SIGCHLD)), calls: []string{"clone"}},
		{name: "fork with clone3", do: fork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&cloneArgs)), unsafe.Sizeof(cloneArgs)), calls: []string{"clone3"}},
		{name: "a thread in a namespace", do: raw(unix.SYS_CLONE, unix.CLONE_THREAD|unix.CLONE_NEWNS|unix.CLONE_FS), calls: []string{"clone"}},
		{name: "ptrace", do: func(p places) error { return unix.PtraceSeize(p.parent) }, calls: []string{"ptrace"}, noRules: true},
		{name: "process_vm_readv", do: func(p places) error {
			local, remote := make([]byte, 8), unix.RemoteIovec{Base: 0x400000, Len: 8}
			_, err := unix.ProcessVMReadv(p.parent, []unix.Iovec{{Base: &local[0], Len: 8}}, []unix.RemoteIovec{remote}, 0)
			return err
		}, calls: []string{"process_vm_readv"}, noRules: true},
		{name: "process_vm_writev", do: raw(unix.SYS_PROCESS_VM_WRITEV, 0), calls: []string{"process_vm_writev"}},
		{name: "kill", do: func(p places) error { return unix.Kill(p.parent, 0) }, calls: []string{"kill"}, noRules: true},
		{name: "tgkill of another process", do: func(p places) error { return unix.Tgkill(p.parent, p.parent, 0) }, calls: []string{"tgkill"}, noRules: true},
		{name: "pidfd_open", do: func(p places) error { _, err := unix.PidfdOpen(p.parent, 0); return err }, calls: []string{"pidfd_open"}},
		{name: "pidfd_getfd", do: raw(unix.SYS_PIDFD_GETFD, none), calls: []string{"pidfd_getfd"}},
		{name: "be dumpable", do: raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1), calls: []string{"prctl"}},
		{name: "setuid", do: raw(unix.SYS_SETRESUID, 0, 0, 0), calls: []string{"setresuid"}},
		{name: "capset", do: raw(unix.SYS_CAPSET, 0), calls: []string{"capset"}},
		{name: "raise a limit", do: func(places) error { return unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{}, nil) }, calls: []string{"prlimit64"}},
		{name: "a limit of another process", do: func(p places) error { return unix.Prlimit(p.parent, unix.RLIMIT_CORE, nil, &unix.Rlimit{}) }, calls: []string{"prlimit64"}},
		{name: "munlockall", do: raw(unix.SYS_MUNLOCKALL), calls: []string{"munlockall"}},
		{name: "map code", do: func(places) error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			return err
		}, calls: []string{"mmap"}},
		{name: "make memory code", do: func(places) error {
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return fmt.Errorf("mapping data: %w", err)
			}
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
		}, calls: []string{"mprotect"}},
		{name: "memfd_create", do: func(places) error { _, err := unix.MemfdCreate("", 0); return err }, calls: []string{"memfd_create"}},
	}
}

func fileCrimes() []crime {
	return []crime{
		{name: "read /etc/passwd", do: readFile(func(places) string { return "/etc/passwd" }), noRules: true},
		{name: "read another's environment", do: readFile(func(p places) string { return fmt.Sprintf("/proc/%d/environ", p.parent) }), noRules: true},
		{name: "read its own memory", do: func(places) error {
			f, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
			if err == nil {
				f.Close()
			}
			return err
		}, noRules: true},
		{name: "list /", do: func(places) error { _, err := os.ReadDir("/"); return err }, noRules: true},
		{name: "read /etc/passwd through a link in the state folder", do: readFile(func(p places) string { return filepath.Join(p.state, "link") }), noRules: true},
		{name: "write elsewhere", do: createIn(func(p places) string { return p.elsewhere }), noRules: true},
		{name: "write to the folder that it reads", do: createIn(func(p places) string { return p.keys }), noRules: true},
		{name: "write to a key file", do: func(p places) error {
			f, err := os.OpenFile(filepath.Join(p.keys, "key"), os.O_WRONLY, 0)
			if err == nil {
				f.Close()
			}
			return err
		}, noRules: true},
		{name: "truncate a key file that it may read", do: func(p places) error {
			f, err := os.OpenFile(filepath.Join(p.keys, "key"), os.O_RDONLY|os.O_TRUNC, 0)
			if err == nil {
				f.Close()
			}
			return err
		}, calls: []string{"openat"}, noRules: true},
		{name: "remove a key file", do: func(p places) error { return os.Remove(filepath.Join(p.keys, "key")) }, noRules: true},
		{name: "move a key file to the state folder", do: func(p places) error {
			return os.Rename(filepath.Join(p.keys, "key"), filepath.Join(p.state, "key"))
		}, noRules: true},
		{name: "link a key file into the state folder", do: func(p places) error {
			return os.Link(filepath.Join(p.keys, "key"), filepath.Join(p.state, "hard"))
		}, noRules: true},
		{name: "symlink", do: func(p places) error { return os.Symlink("/", filepath.Join(p.state, "root")) }, calls: []string{"symlinkat"}, noRules: true},
		{name: "make a folder", do: func(p places) error { return os.Mkdir(filepath.Join(p.state, "sub"), 0o700) }, calls: []string{"mkdirat"}, noRules: true},
		{name: "make a device", do: func(p places) error {
			return unix.Mknodat(unix.AT_FDCWD, filepath.Join(p.state, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		}, calls: []string{"mknodat"}, noRules: true},
		{name: "chmod", do: func(p places) error { return os.Chmod(filepath.Join(p.keys, "key"), 0o644) }, calls: []string{"fchmodat"}},
		{name: "chown", do: func(p places) error { return os.Chown(filepath.Join(p.keys, "key"), 1, 1) }, calls: []string{"fchownat"}},
		{name: "open by handle", do: raw(unix.SYS_OPEN_BY_HANDLE_AT, none), calls: []string{"open_by_handle_at"}},
		{name: "type on its terminal", do: raw(unix.SYS_IOCTL, none, unix.TIOCSTI), calls: []string{"ioctl"}},
		{name: "chroot", do: func(places) error { return unix.Chroot("/") }, calls: []string{"chroot"}},
		{name: "mount", do: raw(unix.SYS_MOUNT, 0, none), calls: []string{"mount"}},
		{name: "fanotify", do: raw(unix.SYS_FANOTIFY_INIT), calls: []string{"fanotify_init"}},
	}
}

func kernelCrimes() []crime {
	return []crime{
		{name: "bpf", do: raw(unix.SYS_BPF, none), calls: []string{"bpf"}},
		{name: "perf_event_open", do: raw(unix.SYS_PERF_EVENT_OPEN, 0), calls: []string{"perf_event_open"}},
		{name: "keyctl", do: raw(unix.SYS_KEYCTL, none), calls: []string{"keyctl"}},
		{name: "add_key", do: raw(unix.SYS_ADD_KEY, 0), calls: []string{"add_key"}},
		{name: "userfaultfd", do: raw(unix.SYS_USERFAULTFD, 0), calls: []string{"userfaultfd"}},
		{name: "unshare", do: raw(unix.SYS_UNSHARE, 0), calls: []string{"unshare"}},
		{name: "setns", do: raw(unix.SYS_SETNS, none), calls: []string{"setns"}},
		{name: "personality", do: raw(unix.SYS_PERSONALITY, 0xffffffff), calls: []string{"personality"}},
		{name: "another filter", do: raw(unix.SYS_SECCOMP, none), calls: []string{"seccomp"}},
		{name: "the log of the kernel", do: raw(unix.SYS_SYSLOG, 10), calls: []string{"syslog"}},
	}
}

// order is what the helpers below are told.
type order struct {
	keyd.Confinement
	Free   bool // do not confine at all
	Places [3]string
	Crime  string
}

func (o order) args(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// refused is the exit code of an attempt that was.
const refused = 3

// attempt is a program that confines itself as keyd does, and then tries one crime, or what keyd does all day.
func attempt(args []string) error {
	var o order
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	p := places{o.Places[0], o.Places[1], o.Places[2], os.Getppid()}
	if !o.Free {
		if _, err := o.Confine(); err != nil {
			return fmt.Errorf("BROKEN: %w", err)
		}
	}
	if o.Crime == "" {
		if err := dayJob(p); err != nil {
			return fmt.Errorf("BROKEN: %w", err)
		}
		return nil
	}
	for _, c := range crimes() {
		if c.name == o.Crime {
			if err := c.do(p); err != nil {
				fmt.Println(err)
				os.Exit(refused)
			}
			return nil
		}
	}
	return errors.New("BROKEN: no such crime")
}

// dayJob is what must stay possible: threads, reading keys, keeping state.
func dayJob(p places) error {
	var all []chan error
	for range 20 {
		done := make(chan error)
		all = append(all, done)
		go func() {
			runtime.LockOSThread() // and the thread ends with it
			_, err := os.ReadFile(filepath.Join(p.keys, "key"))
			done <- err
		}()
	}
	var errs []error
	for _, done := range all {
		errs = append(errs, <-done)
	}
	runtime.GC()
	fresh, final := filepath.Join(p.state, "fresh"), filepath.Join(p.state, "final")
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("state"))
	errs = append(errs, err, f.Sync(), f.Close(), os.Rename(fresh, final), os.Remove(final))
	return errors.Join(errs...)
}

// newPlaces makes the folders, and what they hold.
func newPlaces(t *testing.T) [3]string {
	t.Helper()
	dir := t.TempDir()
	var p [3]string
	for i, name := range []string{"keys", "state", "elsewhere"} {
		p[i] = filepath.Join(dir, name)
		if err := os.Mkdir(p[i], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(p[0], "key"))
	symlink(t, "/etc/passwd", filepath.Join(p[1], "link"))
	return p
}

// commit makes the attempt; refusal is what it met, empty if none.
func commit(t *testing.T, o order) (refusal string) {
	t.Helper()
	o.Places = newPlaces(t)
	o.Read, o.Write = o.Places[:1], o.Places[1:2]
	out, err := keydtest.As(t, os.Geteuid(), "attempt", o.args(t)).CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if err != nil && !ok || strings.Contains(string(out), "BROKEN") {
		t.Fatalf("the attempt could not be made: %v %s", err, out)
	}
	if ok && exit.ExitCode() == refused {
		return string(out)
	}
	return "" // a program that was executed may fail as it likes: it was
}

// saysNo is how a sandbox refuses; the last is Landlock's word for files that would come under other rules.
var saysNo = regexp.MustCompile("permission denied|not permitted|invalid cross-device link")

// What keyd must not do is refused to a program that runs keyd's own confinement, as root; what has no confinement does
// it; and so does a mutant that lacks exactly the rule which is meant.
func TestSandboxRefuses(t *testing.T) {
	for _, c := range crimes() {
		t.Run(c.name, func(t *testing.T) {
			if got := commit(t, order{Crime: c.name}); !saysNo.MatchString(got) {
				t.Errorf("got %q, want the sandbox to refuse it", got)
			}
			if got := commit(t, order{Crime: c.name, Free: true}); got != "" {
				t.Errorf("it does not work without a sandbox, so that this shows nothing: %s", got)
			}
			mutant := keyd.Confinement{Calls: c.calls, NoRules: c.noRules}
			if got := commit(t, order{Crime: c.name, Confinement: mutant}); got != "" {
				t.Errorf("a sandbox without its rule (%s, Landlock %t) refuses it still: %s", c.calls, !c.noRules, got)
			}
		})
	}
}

// Landlock alone keeps the files, and the filter alone the rest: a hole in one is none in the other.
func TestSandboxLayersHoldAlone(t *testing.T) {
	for _, c := range crimes() {
		if len(c.calls) > 0 && c.noRules {
			t.Run(c.name, func(t *testing.T) {
				if commit(t, order{Crime: c.name, Confinement: keyd.Confinement{NoRules: true}}) == "" {
					t.Error("the filter alone does not refuse it")
				}
				if commit(t, order{Crime: c.name, Confinement: keyd.Confinement{Calls: c.calls}}) == "" {
					t.Error("Landlock alone does not refuse it")
				}
			})
		}
	}
}

func TestSandboxLetsKeydWork(t *testing.T) {
	for name, c := range map[string]keyd.Confinement{"keyd": {}, "keyd with a module": {Module: true}} {
		if got := commit(t, order{Confinement: c}); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A PKCS #11 module may map code, and that is all that it adds.
func TestSandboxForModules(t *testing.T) {
	code := []string{"map code", "make memory code"}
	for _, c := range crimes() {
		got := commit(t, order{Crime: c.name, Confinement: keyd.Confinement{Module: true}})
		if may := slices.Contains(code, c.name); may != (got == "") {
			t.Errorf("%s: got %q, want it to work: %t", c.name, got, may)
		}
	}
}

// measure is a program that confines itself and prints the facts.
func measure(args []string) error {
	var o order
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	facts, err := o.Confine()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(facts())
}

// Status tries instead of believing: a hole in the sandbox is in it.
func TestStatusMeasuresTheSandbox(t *testing.T) {
	p := newPlaces(t)
	for _, tt := range []struct {
		name       string
		c          keyd.Confinement
		fact, want string // empty: it holds
	}{
		{"whole", keyd.Confinement{}, "seccomp", ""},
		{"whole", keyd.Confinement{}, "landlock", ""},
		{"with a module", keyd.Confinement{Module: true}, "seccomp", ""},
		{"without rules", keyd.Confinement{NoRules: true}, "landlock", "/, /etc/passwd, /proc/self/status can be opened"},
		{"with too much to read", keyd.Confinement{Read: []string{"/etc"}}, "landlock", "/etc/passwd can be opened: keep keyd.yaml, dir and state_dir in folders of their own"},
		{"sockets", keyd.Confinement{Calls: []string{"socket"}}, "seccomp", "lets through TCP, multipath TCP, Unix sockets, netlink"},
		{"programs", keyd.Confinement{Calls: []string{"execve"}}, "seccomp", "lets through exec"},
		{"processes", keyd.Confinement{Calls: []string{"clone"}}, "seccomp", "lets through fork"},
		{"tracing", keyd.Confinement{Calls: []string{"ptrace", "process_vm_readv"}}, "seccomp", "lets through ptrace, process_vm_readv"},
		{"signals", keyd.Confinement{Calls: []string{"kill"}}, "seccomp", "lets through kill"},
		{"code", keyd.Confinement{Calls: []string{"mprotect"}}, "seccomp", "lets through executable memory"},
		{"limits", keyd.Confinement{Calls: []string{"prlimit64"}}, "seccomp", "lets through new limits"},
	} {
		tt.c.Read, tt.c.Write = append(tt.c.Read, p[0]), p[1:2]
		out, err := keydtest.As(t, os.Geteuid(), "measure", order{Confinement: tt.c}.args(t)).CombinedOutput()
		var facts []wire.Fact
		if err := errors.Join(err, json.Unmarshal(out, &facts)); err != nil {
			t.Fatalf("%s: %v: %s", tt.name, err, out)
		}
		i := slices.IndexFunc(facts, func(f wire.Fact) bool { return f.Name == tt.fact })
		if got := facts[i]; got.Holds != (tt.want == "") || !strings.Contains(got.Detail, tt.want) {
			t.Errorf("%s: got %+v, want %q", tt.name, got, tt.want)
		}
	}
}

// The filter is made from names, which another architecture might not have: it would refuse to start there.
func TestCallsExistOnBothArchitectures(t *testing.T) {
	for goarch, info := range map[string]*arch.Info{"amd64": arch.X86_64, "arm64": arch.AARCH64} {
		for _, name := range keyd.AllowedCalls(goarch) {
			if _, ok := info.SyscallNames[name]; !ok {
				t.Errorf("%s has no call %s", goarch, name)
			}
		}
	}
}

// A child of a gateway is as confined as a keyd that listens.
func TestChildIsConfined(t *testing.T) {
	s := keydtest.Make(t, 0, nil, keys(t)...)
	cmd, ours := startChild(t, s)
	t.Cleanup(func() {
		ours.Close()
		cmd.Wait()
	})
	c, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := wire.Offer(c); err != nil {
		t.Fatal(err)
	}
	var st keyd.Status
	code, body := (&peer{c, t}).ask(wire.OpStatus, nil)
	if err := json.Unmarshal(body, &st); code != wire.OK || err != nil {
		t.Fatalf("got %s %s %v", code, body, err)
	}
	for _, f := range st.Sandbox {
		if !f.Holds && f.Name != "unprivileged" { // root runs the tests
			t.Errorf("%s does not hold: %s", f.Name, f.Detail)
		}
	}
}
