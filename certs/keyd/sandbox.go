package keyd

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

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
	mark := sealedVar + "=" + strconv.Itoa(os.Getpid())
	if env := os.Environ(); len(env) == 1 && env[0] == mark {
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
	return fmt.Errorf("sealing: %w", syscall.Exec("/proc/self/exe", os.Args, []string{mark}))
}

// confine closes the process to its neighbours before it reads a key, and returns what status reports. Only the memory
// lock may fail: a swapped page is a smaller risk than no gateway.
func confine(keep int) (func() []wire.Fact, error) {
	inherited := descriptors(keep)
	debug.SetTraceback("none") // a crash must not print registers or arguments
	unix.Umask(0o177)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return nil, fmt.Errorf("confining: core files: %w", err)
	}
	// From here on same-uid processes can neither ptrace us nor read /proc/<pid>/mem.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("confining: not dumpable: %w", err)
	}
	memory := lockMemory()
	return func() []wire.Fact { return facts(memory, inherited) }, nil
}

// lockMemory keeps all pages, present and future, out of swap. With a finite limit every later growth of the heap could
// kill the process, so then it does not try.
func lockMemory() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return err
	}
	if lim.Max != unix.RLIM_INFINITY && !mayLockAll() {
		return fmt.Errorf("limit is %d bytes, set LimitMEMLOCK=infinity", lim.Max)
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return err
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

// mayLockAll reports CAP_IPC_LOCK, which lifts the limit.
func mayLockAll() bool {
	var data [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
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

// facts measures what holds now; memory and inherited were measured at the start.
func facts(memory, inherited error) []wire.Fact {
	dumpable, err1 := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	nnp, err2 := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	seccomp, err3 := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	var core unix.Rlimit
	err4 := unix.Getrlimit(unix.RLIMIT_CORE, &core)
	fact := func(name string, holds bool, err error, detail string) wire.Fact {
		if err != nil {
			return wire.Fact{Name: name, Detail: err.Error()}
		}
		if holds {
			detail = ""
		}
		return wire.Fact{Name: name, Holds: holds, Detail: detail}
	}
	env := os.Environ()
	return []wire.Fact{
		fact("not_dumpable", dumpable == 0, err1, "the process can be traced by its own user"),
		fact("no_core_files", core.Max == 0, err4, "a crash may write memory to disk"),
		fact("no_new_privs", nnp == 1, err2, "exec may gain privileges"),
		fact("environment_empty", len(env) == 1 && strings.HasPrefix(env[0], sealedVar+"="), nil, "not sealed"),
		fact("no_inherited_descriptors", true, inherited, ""),
		fact("memory_locked", true, memory, ""),
		fact("seccomp", seccomp == 2, err3, "no filter is installed"),
		fact("landlock", false, nil, "no rules are installed"),
	}
}
