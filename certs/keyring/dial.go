package keyring

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errStranger means that the socket is not keyd's.
var errStranger = errors.New("not listened on by keyd's user")

// dialer makes one connection to keyd. release is called after the connection was closed and frees what stood behind
// it.
type dialer interface {
	dial(ctx context.Context) (conn net.Conn, release func() error, err error)
}

// socketDialer reaches a keyd that is a service.
type socketDialer struct {
	path   string
	uid    int
	strict bool
}

func (d socketDialer) dial(ctx context.Context) (net.Conn, func() error, error) {
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "unix", d.path)
	if err != nil {
		return nil, nil, err
	}
	if err := d.checkPeer(conn.(*net.UnixConn)); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, func() error { return nil }, nil
}

// checkPeer asks the kernel for the uid that called listen(2): whoever else can create a socket at this path must not
// be told what we sign.
func (d socketDialer) checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	uid := int(cred.Uid)
	if uid != 0 && uid != d.uid {
		return fmt.Errorf("%s: %w: uid %d listens, want %d or root", d.path, errStranger, uid, d.uid)
	}
	if d.strict && uid != 0 && uid == os.Geteuid() {
		return fmt.Errorf("%s: %w: it runs as our own, uid %d, which strict forbids", d.path, errStranger, uid)
	}
	return nil
}

// childGrace is how long a child may take to leave after its connection closed, before it is killed.
const childGrace = 500 * time.Millisecond

// childDialer starts a keyd for each connection and ends it afterwards.
type childDialer struct{ binary, config string }

func (d childDialer) dial(context.Context) (net.Conn, func() error, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(d.binary, "run", "--config", d.config, "--fd", strconv.Itoa(3))
	cmd.Env = []string{}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	// Its own process group: Ctrl-C reaches the gateway, which drains, and only then keyd.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("starting keyd: %w", err), ours.Close())
	}
	return ours, func() error { return reap(cmd) }, nil
}

// socketpair returns two connected ends; the second is for the child.
func socketpair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "keyd"), os.NewFile(uintptr(fds[1]), "gateway")
	defer ours.Close() // FileConn keeps a duplicate
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}

// reap waits for the child, killing it if it does not leave by itself: it may be stopped.
func reap(cmd *exec.Cmd) error {
	t := time.AfterFunc(childGrace, func() { cmd.Process.Kill() })
	defer t.Stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("keyd ended: %w", err)
	}
	return nil
}
