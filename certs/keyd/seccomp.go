package keyd

import (
	"fmt"
	"os"
	"runtime"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// Every call that is not listed here fails with EPERM, on every thread. It does not kill: Go's runtime, a C library and the
// next kernel try calls that they can do without, which must not cost everybody their sign-in; who gets keyd to make a
// forbidden call must not end it thereby; and what is refused can be tried and reported (see forbidden), which a process
// that dies of it cannot.
//
// No call makes a descriptor of a kind that keyd does not have (socket, io_uring, bpf, perf, userfaultfd, memfd), another
// process (fork, exec) or a way into one (ptrace, process_vm_*, kill, pidfd), receives a descriptor (recvmsg), or makes
// memory executable.

// plainCalls are allowed whatever their arguments; those that a signature takes come first. Kernels since 5.11 remember
// which these are and do not run the filter for them.
func plainCalls(goarch string) []string {
	return []string{
		"futex", "read", "write", "epoll_pwait", "nanosleep", "sched_yield", "madvise", "rt_sigprocmask", "rt_sigreturn",
		"clock_gettime", "clock_nanosleep", "getrandom", "getpid", "gettid", "restart_syscall",
		// memory and threads
		"munmap", "sigaltstack", "rt_sigaction", "sched_getaffinity", "set_robust_list", "rseq", "exit", "exit_group",
		// connections, of sockets that are there
		"listen", "accept4", "getsockname", "getpeername", "getsockopt", "shutdown", "close", "fcntl", "epoll_ctl", "epoll_create1", "eventfd2",
		// files; Landlock says which
		"fstat", statCall(goarch), "getdents64", "lseek", "pread64", "pwrite64",
		"readlinkat", "linkat", "renameat", "unlinkat", "flock", "fsync", "fdatasync",
		// what status asks
		"getuid", "geteuid", "getgid", "getegid", "getppid", "capget", "getrlimit",
	}
}

// moduleCalls are what C code that was written without keyd in mind makes besides. They reach nothing more.
func moduleCalls(goarch string) []string {
	calls := []string{"statx", "faccessat", "faccessat2", "readv", "writev", "ftruncate", "mremap", "brk", "mprotect", "mmap",
		"openat", "umask", "uname", "sysinfo", "gettimeofday", "getrusage", "ppoll", "pselect6", "getcwd", "mkdirat", "renameat2", "fchmod"}
	if goarch == "amd64" {
		calls = append(calls, "open", "stat", "lstat", "access", "readlink", "unlink", "rename", "mkdir", "time", "poll", "select", "getpgrp")
	}
	return calls
}

// statCall is what newfstatat is called in the list of the architecture.
func statCall(goarch string) string {
	if goarch == "arm64" {
		return "fstatat"
	}
	return "newfstatat"
}

// without is the condition that an argument, counted from zero, has none of the bits.
func without(position uint32, bits uint64) seccomp.Condition {
	return seccomp.Condition{Argument: position, Operation: seccomp.BitsNotSet, Value: bits}
}

func equal(position uint32, value uint64) seccomp.Condition {
	return seccomp.Condition{Argument: position, Operation: seccomp.Equal, Value: value}
}

const newNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// conditionalCalls are allowed with some arguments only.
func conditionalCalls() (list []seccomp.NameWithConditions) {
	allow := func(name string, conditions ...seccomp.Condition) {
		list = append(list, seccomp.NameWithConditions{Name: name, Conditions: conditions})
	}
	// Of the bits of one BitsSet one is enough, so that it gets one. A thread of this process, not a process.
	allow("clone", seccomp.Condition{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}, without(0, newNamespace))
	allow("tgkill", equal(0, uint64(os.Getpid()))) // Go interrupts its own threads
	allow("mmap", without(2, unix.PROT_EXEC))
	allow("mprotect", without(2, unix.PROT_EXEC))
	// Before Linux 6.2 Landlock does not refuse to truncate a file that may only be read.
	allow("openat", without(2, unix.O_TRUNC))
	for _, question := range []uint64{unix.PR_GET_DUMPABLE, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP} {
		allow("prctl", equal(0, question))
	}
	allow("prlimit64", equal(0, 0), equal(2, 0)) // ask for a limit of our own
	return list
}

// filter is the whole of what is allowed.
func filter(t territory) seccomp.Policy {
	plain, conditional := plainCalls(runtime.GOARCH), conditionalCalls()
	if t.module {
		plain = append(plain, moduleCalls(runtime.GOARCH)...)
		conditional = unconditional(conditional, plain)
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Names: plain, NamesWithCondtions: conditional, Action: seccomp.ActionAllow},
			// Its flags are in memory, where a filter cannot read them. C libraries fall back on clone for this error only.
			{Names: []string{"clone3"}, Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
		},
	}
}

// unconditional drops the conditions of calls that are allowed without any.
func unconditional(list []seccomp.NameWithConditions, plain []string) (left []seccomp.NameWithConditions) {
	free := map[string]bool{}
	for _, name := range plain {
		free[name] = true
	}
	for _, call := range list {
		if !free[call.Name] {
			left = append(left, call)
		}
	}
	return left
}

// install puts the filter on every thread. no_new_privs, which it takes, holds since seal.
func install(p seccomp.Policy) error {
	if err := seccomp.LoadFilter(seccomp.Filter{Flag: seccomp.FilterFlagTSync, Policy: p}); err != nil {
		return fmt.Errorf("%w (Linux with CONFIG_SECCOMP_FILTER is needed)", err)
	}
	return nil
}

// attempt is a call that the filter refuses with EPERM, made so that it does no harm where there is no filter: it fails
// with another error, or does nothing.
type attempt struct {
	name string
	call [5]uintptr
}

// forbidden are attempts at what keyd must never do.
func forbidden() []attempt {
	return []attempt{
		{"TCP", [5]uintptr{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}},
		{"multipath TCP", [5]uintptr{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP}},
		{"Unix sockets", [5]uintptr{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}},
		{"netlink", [5]uintptr{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, 0}},
		{"exec", [5]uintptr{unix.SYS_EXECVE}},                                            // EFAULT
		{"fork", [5]uintptr{unix.SYS_CLONE, unix.CLONE_NEWNS | unix.CLONE_FS}},           // EINVAL
		{"ptrace", [5]uintptr{unix.SYS_PTRACE, unix.PTRACE_ATTACH}},                      // ESRCH: there is no process 0
		{"process_vm_readv", [5]uintptr{unix.SYS_PROCESS_VM_READV}},                      // ESRCH or 0
		{"kill", [5]uintptr{unix.SYS_KILL, uintptr(os.Getpid()), 0}},                     // 0
		{executableMemory, [5]uintptr{unix.SYS_MPROTECT, 0, 0, unix.PROT_EXEC}},          // 0: no bytes
		{"new limits", [5]uintptr{unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, ^uintptr(0)}}, // EFAULT
	}
}

// executableMemory is the one attempt that a PKCS #11 module must succeed with.
const executableMemory = "executable memory"

// allowed reports whether the kernel did anything else than refuse the call.
func (a attempt) allowed() bool {
	fd, _, errno := unix.Syscall6(a.call[0], a.call[1], a.call[2], a.call[3], a.call[4], 0, 0)
	if errno == 0 && a.call[0] == unix.SYS_SOCKET {
		unix.Close(int(fd))
	}
	return errno != unix.EPERM
}
