package keyd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// territory is what keyd can reach once it has confined itself. Everything that it opens later must be in here, also after
// keyd.yaml was read anew: what a changed file would add takes a restart.
type territory struct {
	read   []string // files, and folders with all below them
	write  []string // folders in which files are read, made, renamed and removed
	remove []string // folders in which files are removed
	token  []string // folders of a PKCS #11 module: write, and emptying files
	// module says that code which is not ours runs in the process, a PKCS #11 module: it may map code, and make the few
	// more calls of moduleCalls.
	module bool
}

// territory gathers what this configuration, read from file, needs.
func (c *Config) territory(file string, listens bool) territory {
	// Folders, because whoever edits keyd.yaml replaces it, and rules are about the file that was there.
	t := territory{read: []string{filepath.Dir(file), c.Dir}, write: []string{c.StateDir}}
	if real, err := filepath.EvalSymlinks(file); err == nil && filepath.Dir(real) != filepath.Dir(file) {
		t.read = append(t.read, filepath.Dir(real))
	}
	if slices.ContainsFunc(c.Keys, KeyConfig.generates) {
		t.write = append(t.write, c.Dir)
	}
	if c.PKCS11.used() {
		t.module, t.token = true, c.PKCS11.Folders
	}
	if listens {
		t.remove = append(t.remove, filepath.Dir(c.Listen)) // the socket, at the end
	}
	return t
}

// errNoLandlock is what a kernel without Landlock, or one that was started without it, makes of the rules.
var errNoLandlock = errors.New("the kernel has no Landlock, or was started without it: Linux 5.13 or newer with landlock in lsm= is needed")

// enclose leaves nothing of the file system to any thread but t, no TCP, and no signal or abstract socket beyond this
// process, as far as the kernel's version of Landlock knows these; what it does not know the seccomp filter refuses. It
// returns that version.
func enclose(t territory) (version int, err error) {
	version, err = llsys.LandlockGetABIVersion()
	if err != nil || version < 1 {
		return 0, errNoLandlock
	}
	var rules []landlock.Rule
	for _, path := range t.read {
		info, err := os.Stat(path)
		if err != nil {
			return version, fmt.Errorf("confining: %w", err)
		}
		access := landlock.AccessFSSet(llsys.AccessFSReadFile)
		if info.IsDir() {
			access |= llsys.AccessFSReadDir
		}
		rules = append(rules, landlock.PathAccess(access, path))
	}
	const write = llsys.AccessFSReadFile | llsys.AccessFSReadDir | llsys.AccessFSWriteFile | llsys.AccessFSMakeReg | llsys.AccessFSRemoveFile
	rules = append(rules, landlock.PathAccess(write, t.write...), landlock.PathAccess(llsys.AccessFSRemoveFile, t.remove...),
		landlock.PathAccess(write|llsys.AccessFSTruncate, t.token...))
	// BestEffort takes from the newest set of rights what the kernel has; that it has none was refused above, and facts tries
	// what came of it.
	if err := landlock.V11.BestEffort().Restrict(rules...); err != nil {
		return version, fmt.Errorf("confining: %w", err)
	}
	return version, nil
}

// landmarks are outside any territory: readable by everybody, unless there are rules.
func landmarks() []string { return []string{"/", "/etc/passwd", "/proc/self/status"} }

// openable returns those of the paths that can be opened.
func openable(paths []string) (list []string) {
	for _, path := range paths {
		if f, err := os.Open(path); err == nil {
			f.Close()
			list = append(list, path)
		}
	}
	return list
}
