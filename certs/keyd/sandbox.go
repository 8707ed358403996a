package keyd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/certs/internal/wire"
)

// sealedVar marks the process that seal started: its value is the process's own id, which exec(2) keeps.
const sealedVar = "KEYD_SEALED"

// seal makes the process drop what it was born with, by executing itself once more: the environment (also what
// /proc/<pid>/environ shows), every descriptor above stderr except keep (0: none), and the way to gain privileges by
// exec. Executing is the one way to have no_new_privs on every thread and an empty environment block for certain.
// It returns nil in the sealed process and never returns in the first one, except with an error.
func seal(keep int) error {
	if isSealed() {
		if keep != 0 {
			unix.CloseOnExec(keep)
		}
		return nil
	}
	runtime.LockOSThread() // no_new_privs belongs to the thread that executes
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("sealing: no_new_privs: %w", err)
	}
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("sealing: close_range: %w (Linux 5.11 or newer is needed)", err)
	}
	if keep != 0 {
		if _, err := unix.FcntlInt(uintptr(keep), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("sealing: descriptor %d: %w", keep, err)
		}
	}
	return fmt.Errorf("sealing: %w", syscall.Exec("/proc/self/exe", os.Args, sealedEnvironment()))
}

// sealedEnvironment says whose it is, and that a panic must not print arguments: debug.SetTraceback cannot go below what the
// environment says.
func sealedEnvironment() []string {
	return []string{sealedVar + "=" + strconv.Itoa(os.Getpid()), "GOTRACEBACK=none"}
}

func isSealed() bool { return slices.Equal(os.Environ(), sealedEnvironment()) }

// sandbox closes the process to its neighbours, and itself in, in steps; then it measures what came of that.
type sandbox struct {
	inherited error    // descriptors that it was born with
	memory    error    // why pages may be swapped
	filter    error    // why there is no seccomp filter
	rules     error    // why there are no Landlock rules
	version   int      // of Landlock
	visible   []string // landmarks that could be opened before there were rules
	module    bool     // see territory
}

// newSandbox is the first step of a process that was just sealed; keep is the descriptor of a child.
func newSandbox(keep int) (*sandbox, error) {
	s := &sandbox{inherited: descriptors(keep)}
	exitQuietly()
	unix.Umask(0o177)
	_, _ = time.Now().Zone() // the log's times: the file is out of reach later
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return nil, fmt.Errorf("confining: core files: %w", err)
	}
	return s, nil
}

// exitQuietly ends the process at signals for which Go's runtime prints registers and stacks, whatever it is told. Only root
// and keyd's own user can send them. What is left is a fault in the runtime itself.
func exitQuietly() {
	fatal := make(chan os.Signal, 1)
	signal.Notify(fatal, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGQUIT, unix.SIGSEGV, unix.SIGSYS, unix.SIGTRAP)
	go func() { // for as long as the process lives
		fmt.Fprintln(os.Stderr, "keyd: got", <-fatal)
		os.Exit(2)
	}()
}

// hide closes the process to its neighbours, before it reads any secret and after it became its user, which would undo it.
func (s *sandbox) hide() error {
	// From here on same-uid processes can neither ptrace us nor read /proc/<pid>/mem.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("confining: not dumpable: %w", err)
	}
	s.memory = lockMemory()
	return nil
}

// confine closes the process in, before it reads a key. What the kernel lacks is for facts to say; everything else is an
// error.
func (s *sandbox) confine(t territory) error {
	s.module = t.module
	s.visible = openable(landmarks())
	s.version, s.rules = enclose(t)
	if s.rules != nil && !errors.Is(s.rules, errNoLandlock) {
		return s.rules
	}
	s.filter = install(filter(t))
	return nil
}

// lockMemory keeps all pages, present and future, out of swap. With a finite limit every later growth of the heap could
// kill the process, so then it does not try.
func lockMemory() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return err
	}
	if lim.Max != unix.RLIM_INFINITY && !mayLockAll() {
		return fmt.Errorf("the limit is %d bytes: set LimitMEMLOCK=infinity in the unit, or start keyd as root with a `user`", lim.Max)
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return err
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

const lockCapability = 1 << unix.CAP_IPC_LOCK

// mayLockAll reports CAP_IPC_LOCK, which lifts the limit.
func mayLockAll() bool {
	caps, err := capabilities()
	return err == nil && caps&lockCapability != 0
}

// descriptors returns the open descriptors above stderr that are neither keep nor Go's own (those are closed on exec).
func descriptors(keep int) error {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	var extra []string
	for _, name := range names {
		fd, _ := strconv.Atoi(name)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if fd > 2 && fd != keep && err == nil && flags&unix.FD_CLOEXEC == 0 {
			extra = append(extra, name)
		}
	}
	if len(extra) > 0 {
		return errors.New("inherited: " + strings.Join(extra, " "))
	}
	return nil
}

// facts measures what holds now; what cannot be measured any more was at the start. The detail of what does not hold ends
// with the remedy, if there is one.
func (s *sandbox) facts() []wire.Fact {
	dumpable, err1 := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	nnp, err2 := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	var core unix.Rlimit
	err3 := unix.Getrlimit(unix.RLIMIT_CORE, &core)
	return []wire.Fact{
		fact("unprivileged", privileges()),
		fact("not_dumpable", measured(dumpable == 0, err1, "the process can be traced by its own user")),
		fact("no_core_files", measured(core.Max == 0, err3, "a crash may write memory to disk")),
		fact("no_new_privs", measured(nnp == 1, err2, "exec may gain privileges")),
		fact("environment_empty", measured(isSealed(), nil, "not sealed")),
		fact("no_inherited_descriptors", s.inherited),
		fact("memory_locked", s.memory),
		fact("seccomp", s.filters()),
		s.encloses(),
	}
}

func fact(name string, err error) wire.Fact {
	if err != nil {
		return wire.Fact{Name: name, Detail: err.Error()}
	}
	return wire.Fact{Name: name, Holds: true}
}

func measured(holds bool, err error, otherwise string) error {
	if err == nil && !holds {
		return errors.New(otherwise)
	}
	return err
}

// privileges wants nothing that other users' processes do not have, but the capability to lock memory.
func privileges() error {
	if os.Geteuid() == 0 || os.Getuid() == 0 {
		return errors.New("keyd runs as root: name a `user` in keyd.yaml, or start keyd as one")
	}
	caps, err := capabilities()
	if err == nil && caps&^lockCapability != 0 {
		return fmt.Errorf("keyd has capabilities %#x: set CapabilityBoundingSet= and AmbientCapabilities= in the unit", caps)
	}
	return err
}

// filters tries what the filter must refuse.
func (s *sandbox) filters() error {
	if s.filter != nil {
		return s.filter
	}
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if err := measured(mode == unix.SECCOMP_MODE_FILTER, err, "no filter is installed"); err != nil {
		return err
	}
	var through []string
	for _, a := range forbidden() {
		if a.allowed() && !(s.module && a.name == executableMemory) {
			through = append(through, a.name)
		}
	}
	if len(through) > 0 {
		return errors.New("the filter lets through " + strings.Join(through, ", "))
	}
	return nil
}

// encloses tries to open what is out of reach.
func (s *sandbox) encloses() wire.Fact {
	err := s.rules
	open := openable(s.visible)
	switch {
	case err != nil:
	case len(s.visible) == 0:
		err = errors.New("cannot be told: nothing outside could be opened before there were rules, either")
	case len(open) > 0:
		err = fmt.Errorf("%s can be opened: keep keyd.yaml, dir and state_dir in folders of their own", strings.Join(open, ", "))
	default:
		return wire.Fact{Name: "landlock", Holds: true, Detail: fmt.Sprintf("ABI %d", s.version)}
	}
	return fact("landlock", err)
}

// demand refuses to go on if something does not hold and keyd.yaml is strict, and else says what.
func (s *sandbox) demand(strict bool, log *slog.Logger) error {
	var missing []error
	for _, f := range s.facts() {
		if f.Holds {
			continue
		}
		missing = append(missing, fmt.Errorf("%s: %s", f.Name, f.Detail))
		if !strict {
			log.Warn("protection does not hold", "name", f.Name, "why", f.Detail)
		}
	}
	if !strict || len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("these protections do not hold, and keyd.yaml does not say `strict: false`:\n%w", errors.Join(missing...))
}
