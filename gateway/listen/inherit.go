package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sockets are the listening sockets that a service manager made for this process. One that it did not make is nil.
type Sockets struct {
	HTTPS net.Listener // for `listen`
	HTTP  net.Listener // for `listen_http`
}

// Close closes what was inherited. The service manager keeps the sockets open.
func (s Sockets) Close() error {
	var errs []error
	for _, l := range []net.Listener{s.HTTPS, s.HTTP} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

const (
	// firstInherited is the descriptor of the first socket: SD_LISTEN_FDS_START.
	firstInherited = 3
	// maxInherited bounds how many descriptors we believe to have been passed.
	maxInherited = 64
)

// doors are the names that a socket unit may give its sockets (FileDescriptorName=), and their order if it gives none.
var doors = [...]string{"https", "http"}

// Inherited takes the sockets that the service manager passed by sd_listen_fds(3), at most one per door: by their names
// https and http or, if it has other names for them, in that order. Without any, the Sockets are empty.
//
// It removes the variables from the environment and closes the descriptors on exec, so that no child mistakes the sockets
// for its own: call it once, before starting any. What is passed and is not a listening TCP socket is an error: somebody
// expects it to be served.
func Inherited() (Sockets, error) {
	env := [...]string{os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		os.Unsetenv(name)
	}
	// Variables that reached us through a parent, and were meant for it, name another process.
	if pid, err := strconv.Atoi(env[0]); err != nil || pid != os.Getpid() || env[1] == "" {
		return Sockets{}, nil
	}
	s, err := take(env[1], env[2])
	if err != nil {
		return Sockets{}, fmt.Errorf("taking the service manager's sockets: %w", err)
	}
	return s, nil
}

// take makes listeners of the descriptors. Those that are not what they should be are left alone, but never leak to a
// child.
func take(count, names string) (s Sockets, err error) {
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxInherited {
		return s, fmt.Errorf("LISTEN_FDS=%q is no number up to %d", count, maxInherited)
	}
	for fd := firstInherited; fd < firstInherited+n; fd++ {
		unix.CloseOnExec(fd)
	}
	order, err := assign(n, names)
	if err != nil {
		return s, err
	}
	for i, door := range order {
		fd := firstInherited + i
		l, err := listenerOf(fd)
		if err != nil {
			return Sockets{}, errors.Join(fmt.Errorf("descriptor %d, for %s: %w", fd, door, err), s.Close())
		}
		if door == doors[0] {
			s.HTTPS = l
		} else {
			s.HTTP = l
		}
	}
	return s, nil
}

// assign says which door each of n descriptors is for.
func assign(n int, list string) ([]string, error) {
	if n > len(doors) {
		return nil, fmt.Errorf("%d sockets were passed, and there are two doors: https and http", n)
	}
	names := strings.Split(list, ":")
	if list == "" || !slices.ContainsFunc(names, isDoor) {
		return doors[:n], nil
	}
	if len(names) != n {
		return nil, fmt.Errorf("LISTEN_FDNAMES=%q names %d sockets of %d", list, len(names), n)
	}
	for i, name := range names {
		if !isDoor(name) {
			return nil, fmt.Errorf("a socket is called %q: want https or http", name)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("two sockets are called %s: one socket on [::] takes IPv4 too", name)
		}
	}
	return names, nil
}

func isDoor(name string) bool { return slices.Contains(doors[:], name) }

// checkListening demands a listening TCP socket.
func checkListening(fd int) error {
	for _, want := range []struct {
		option int
		values []int
		text   string
	}{
		{unix.SO_TYPE, []int{unix.SOCK_STREAM}, "not a stream socket"},
		{unix.SO_DOMAIN, []int{unix.AF_INET, unix.AF_INET6}, "not an IP socket"},
		{unix.SO_PROTOCOL, []int{unix.IPPROTO_TCP, unix.IPPROTO_MPTCP}, "not a TCP socket"},
		{unix.SO_ACCEPTCONN, []int{1}, "not listening (is Accept=yes set?)"},
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.option)
		switch {
		case errors.Is(err, unix.ENOTSOCK):
			return errors.New("not a socket")
		case err != nil:
			return os.NewSyscallError("getsockopt", err)
		case !slices.Contains(want.values, got):
			return errors.New(want.text)
		}
	}
	return nil
}

// listenerOf makes a listener of a descriptor that is a listening TCP socket.
func listenerOf(fd int) (net.Listener, error) {
	if err := checkListening(fd); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "inherited socket")
	defer f.Close() // the listener holds a duplicate
	return net.FileListener(f)
}
