package keyd

import (
	"runtime"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"

	"sallyport/certs/internal/wire"
)

// Confinement is what a test's process gives up, by the code that does it in keyd.
type Confinement struct {
	Read, Write []string
	Module      bool
	// Mutants: NoRules leaves Landlock out, Calls are allowed whatever their arguments.
	NoRules bool
	Calls   []string
}

// Confine confines the process and returns what keyd's status would say.
func (c Confinement) Confine() (func() []wire.Fact, error) {
	runtime.LockOSThread() // no_new_privs is the thread's until the filter gives it to all
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	box, err := newSandbox(0)
	if err != nil {
		return nil, err
	}
	if err := box.hide(); err != nil {
		return nil, err
	}
	t := territory{read: c.Read, write: c.Write, module: c.Module}
	if !c.NoRules && len(c.Calls) == 0 {
		return box.facts, box.confine(t)
	}
	box.visible = openable(landmarks())
	if !c.NoRules {
		if box.version, err = enclose(t); err != nil {
			return nil, err
		}
	}
	return box.facts, install(c.weakened(t))
}

func (c Confinement) weakened(t territory) seccomp.Policy {
	p := filter(t)
	allowed, fails := &p.Syscalls[0], &p.Syscalls[1]
	allowed.Names = append(allowed.Names, c.Calls...)
	allowed.NamesWithCondtions = unconditional(allowed.NamesWithCondtions, allowed.Names)
	fails.Names = slices.DeleteFunc(fails.Names, func(name string) bool { return slices.Contains(c.Calls, name) })
	return p
}

// Hide is the first half of the confinement: closed to neighbours, and nothing refused.
func Hide() error {
	box, err := newSandbox(0)
	if err != nil {
		return err
	}
	return box.hide()
}

// AllowedCalls are the names of all calls that are allowed, on an architecture of Go's.
func AllowedCalls(goarch string) []string {
	names := append(plainCalls(goarch), moduleCalls(goarch)...)
	for _, call := range conditionalCalls() {
		names = append(names, call.Name)
	}
	return append(names, "clone3")
}

// Identity is whom become would become.
func (c *Config) Identity() (uid, gid int, err error) { return c.identity() }
