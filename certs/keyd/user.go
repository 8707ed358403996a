package keyd

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// become makes the process that of the user in keyd.yaml, on every thread and for good, if root started it. A process that
// somebody else started must be that user's already, as systemd's User= makes it.
func become(c *Config) error {
	if c.User == "" && c.Group == "" {
		return nil
	}
	uid, gid, err := c.identity()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return checkIdentity(uid, gid)
	}
	keep, err := keepMemoryLockable()
	if err != nil {
		return fmt.Errorf("becoming uid %d: %w", uid, err)
	}
	// The groups first: a user who is not root cannot drop them. Package syscall, unlike x/sys/unix, speaks for all threads.
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return fmt.Errorf("becoming uid %d: dropping groups: %w", uid, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("becoming uid %d: gid %d: %w", uid, gid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("becoming uid %d: %w", uid, err)
	}
	if err := setCapabilities(keep); err != nil {
		return fmt.Errorf("becoming uid %d: %w", uid, err)
	}
	return checkNoWayBack(uid)
}

// keepMemoryLockable lets a process that is about to leave root lock its memory. Without the limit nothing else is needed;
// where root may not lift it, as in many containers, one capability has to stay, which it returns: memory is all that it is
// good for. Where root has not even that, lockMemory will say so.
func keepMemoryLockable() (keep uint32, err error) {
	none := &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, none) == nil || !mayLockAll() {
		return 0, nil
	}
	if _, _, errno := psx.Syscall3(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); errno != 0 {
		return 0, fmt.Errorf("keeping capabilities: %w", errno)
	}
	return lockCapability, nil
}

// setCapabilities leaves every thread these and no others.
func setCapabilities(keep uint32) error {
	var pinned runtime.Pinner
	defer pinned.Unpin()
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	pinned.Pin(header)
	pinned.Pin(data)
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(data)), 0)
	if errno != 0 {
		return fmt.Errorf("dropping capabilities: %w", errno)
	}
	return nil
}

// identity resolves user and group of the configuration, names or numbers. A user without an account has the group of the
// same number.
func (c *Config) identity() (uid, gid int, err error) {
	if c.User == "" {
		return 0, 0, errors.New("group is named without a user")
	}
	uid, gid, err = lookUpUser(c.User)
	if err != nil {
		return 0, 0, err
	}
	if uid == 0 {
		return 0, 0, errors.New("user is root: keyd needs a user of its own")
	}
	if c.Group != "" {
		gid, err = lookUpGroup(c.Group)
	}
	return uid, gid, err
}

func lookUpUser(name string) (uid, gid int, err error) {
	if uid, ok := number(name); ok {
		account, err := user.LookupId(name)
		if err != nil {
			return uid, uid, nil
		}
		gid, err = strconv.Atoi(account.Gid)
		return uid, gid, err
	}
	account, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("user: %w", err)
	}
	uid, err = strconv.Atoi(account.Uid)
	if err != nil {
		return 0, 0, fmt.Errorf("user %q: %w", name, err)
	}
	gid, err = strconv.Atoi(account.Gid)
	return uid, gid, err
}

func lookUpGroup(name string) (int, error) {
	if gid, ok := number(name); ok {
		return gid, nil
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group: %w", err)
	}
	return strconv.Atoi(group.Gid)
}

// number reads an id. The kernel takes 2³²-1 for "leave it".
func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n != 1<<32-1
}

// checkIdentity wants a process that root did not start to be whom keyd.yaml names.
func checkIdentity(uid, gid int) error {
	if os.Geteuid() != uid || os.Getuid() != uid {
		return fmt.Errorf("keyd.yaml names the user with uid %d, and keyd was started as uid %d: start it as that user, or as root", uid, os.Geteuid())
	}
	if os.Getegid() != gid {
		return fmt.Errorf("keyd.yaml names the group with gid %d, and keyd was started with gid %d", gid, os.Getegid())
	}
	return nil
}

// checkNoWayBack asks the kernel instead of believing the calls before.
func checkNoWayBack(uid int) error {
	if err := syscall.Setresuid(-1, 0, -1); !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("becoming uid %d: root can be had back: got %v, want %w", uid, err, syscall.EPERM)
	}
	caps, err := capabilities()
	if err != nil {
		return fmt.Errorf("becoming uid %d: %w", uid, err)
	}
	if caps&^lockCapability != 0 {
		return fmt.Errorf("becoming uid %d: capabilities %#x stay", uid, caps)
	}
	return nil
}

// capabilities are those that the calling thread has, or can give itself.
func capabilities() (uint64, error) {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return 0, fmt.Errorf("reading capabilities: %w", err)
	}
	low := data[0].Effective | data[0].Permitted
	high := data[1].Effective | data[1].Permitted
	return uint64(high)<<32 | uint64(low), nil
}
