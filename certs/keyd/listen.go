package keyd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptPause is how long keyd waits after a failed accept: out of descriptors, say. It never gives up listening.
const acceptPause = 100 * time.Millisecond

// door is the socket at its path. Nobody can connect before it opens: keyd makes it while it may make sockets, and opens it
// when it has its keys.
type door struct {
	path string
	f    *os.File
}

// claim binds the socket at path, in a folder that nobody else can write, reached without symlinks. What is there
// already must be a socket of our own that nobody listens on any more; everything else is refused.
func claim(path string) (*door, error) {
	dir := filepath.Dir(path)
	if err := checkSocketFolder(dir); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	d := &door{path: path, f: os.NewFile(uintptr(fd), path)}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, errors.Join(fmt.Errorf("listening on %s: %w", path, err), d.f.Close())
	}
	if err := share(path, dir); err != nil {
		d.close()
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return d, nil
}

// open lets connections in. Whoever closes the listener removes the socket.
func (d *door) open() (*net.UnixListener, error) {
	if err := unix.Listen(int(d.f.Fd()), unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", d.path, err)
	}
	l, err := net.FileListener(d.f)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", d.path, err)
	}
	d.f.Close() // FileListener keeps a duplicate
	d.f = nil
	listener := l.(*net.UnixListener)
	listener.SetUnlinkOnClose(true)
	return listener, nil
}

// close removes a socket that was never opened; nil is none.
func (d *door) close() {
	if d == nil || d.f == nil {
		return
	}
	d.f.Close()
	os.Remove(d.path)
}

// checkSocketFolder wants the folder to be ours alone (its group may pass), and nobody else able to move it or what it
// is in: a parent is owned by root or us, and closed to others' writes unless sticky.
func checkSocketFolder(dir string) error {
	if real, err := filepath.EvalSymlinks(dir); err != nil {
		return err
	} else if real != dir {
		return fmt.Errorf("%s is reached through a symlink; it is %s", dir, real)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if err := checkOwnedInfo(info, 0o027); err != nil {
		return fmt.Errorf("%s %w", dir, err)
	}
	for up := filepath.Dir(dir); ; up = filepath.Dir(up) {
		info, err := os.Lstat(up)
		if err != nil {
			return err
		}
		forbidden := fs.FileMode(0o022)
		if info.Mode()&fs.ModeSticky != 0 {
			forbidden = 0
		}
		if err := checkOwnedInfo(info, forbidden); err != nil {
			return fmt.Errorf("%s %w", up, err)
		}
		if up == filepath.Dir(up) {
			return nil
		}
	}
}

// removeStale removes the socket that a killed keyd left behind.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("something is there that is no socket (%s)", info.Mode())
	}
	if owner := ownerOf(info); owner != os.Geteuid() {
		return fmt.Errorf("the socket there belongs to uid %d", owner)
	}
	c, err := net.DialTimeout("unix", path, ioTimeout)
	if err == nil {
		c.Close()
		return errors.New("another process is listening there")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot tell whether somebody is listening there: %w", err)
	}
	return os.Remove(path)
}

// share opens the socket to the group of its folder: who may pass the folder may connect, and is then asked for its
// uid.
func share(path, dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if err := os.Lchown(path, -1, int(info.Sys().(*syscall.Stat_t).Gid)); err != nil {
		return err
	}
	return os.Chmod(path, 0o660)
}

// serve accepts until ctx ends, then closes every connection and waits for it.
func (s *server) serve(ctx context.Context, l *net.UnixListener, allow []uint32) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.log.Error("accepting a connection failed", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		p, err := identify(c, allow)
		if err != nil {
			s.turned.Add(1)
			s.quiet.Do(func() { s.log.Warn("peer refused", "error", err, "peer_uid", p.uid, "peer_pid", p.pid) })
			c.Close()
			continue
		}
		conns.Go(func() {
			if err := s.serveConn(ctx, c, p); err != nil {
				s.quiet.Do(func() { s.log.Warn("connection ended", "error", err, "peer_uid", p.uid, "peer_pid", p.pid) })
			}
		})
	}
}

// identify asks the kernel who connected. SO_PEERCRED is the uid at the time of connect(2) and cannot be forged.
func identify(c *net.UnixConn, allow []uint32) (peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return peer{}, err
	}
	if credErr != nil {
		return peer{}, credErr
	}
	p := peer{uid: int(cred.Uid), pid: int(cred.Pid), maySign: slices.Contains(allow, cred.Uid)}
	p.operates = p.uid == 0 || p.uid == os.Geteuid()
	if !p.maySign && !p.operates {
		return p, errors.New("uid is not in allow_uids")
	}
	return p, nil
}

// inherit wraps the descriptor that a parent handed over: one end of a socketpair.
func inherit(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "parent")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	}
	defer f.Close() // FileConn keeps a duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	if _, ok := c.(*net.UnixConn); !ok {
		return nil, errors.Join(fmt.Errorf("descriptor %d is not a Unix socket", fd), c.Close())
	}
	return c, nil
}

// isGone tells a peer that left, or that we left, from one that broke the protocol.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET)
}

// lock keeps a second keyd away from the same state. The kernel drops it with the process, however that ends.
func lock(dir string) (*os.File, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening state folder: %w", err)
	}
	if err := checkOwnedInfo(info, 0o022); err != nil {
		return nil, fmt.Errorf("opening state folder: %s %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening state folder: %w", err)
	}
	defer root.Close()
	f, err := root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking state folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("locking state folder %s: another keyd runs there: %w", dir, err), f.Close())
	}
	return f, nil
}
