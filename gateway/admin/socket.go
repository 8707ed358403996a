package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketMode admits the owner and the group; the peer's account is checked again on every connection.
const socketMode = 0o660

// socket is a listening Unix socket that removes its file when it is closed, unless another one took the name.
type socket struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// listenSocket binds the socket at path. It is made under another name with its final owner and mode and then renamed,
// so that it is never open to anyone else; a socket left behind by a gateway that is gone is replaced.
func listenSocket(path string, group uint32) (*socket, error) {
	if err := checkFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := checkFree(path); err != nil {
		return nil, err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	made, err := place(fresh, path, group)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), listener.Close(), os.Remove(fresh))
	}
	return &socket{UnixListener: listener, path: path, made: made}, nil
}

// place gives the socket file its owner, mode and name.
func place(fresh, path string, group uint32) (fs.FileInfo, error) {
	if group != noGroup {
		if err := os.Lchown(fresh, -1, int(group)); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(fresh, socketMode); err != nil {
		return nil, err
	}
	if err := os.Rename(fresh, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// Close stops listening and removes the socket file.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if now, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(now, s.made) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}

// checkFolder refuses a folder in which another account could put a socket of its own in place of ours. The folder is
// made when only it is missing.
func checkFolder(folder string) error {
	if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("admin socket: %w", err)
	}
	info, err := os.Stat(folder)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	switch {
	case !info.IsDir():
		return fmt.Errorf("admin socket: %s is not a folder", folder)
	case owner != 0 && owner != os.Geteuid():
		return fmt.Errorf("admin socket: folder %s belongs to another account (uid %d)", folder, owner)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("admin socket: folder %s is writable by others (mode %04o): give the socket a folder of its own", folder, info.Mode().Perm())
	}
	return nil
}

// checkFree refuses a name that holds something else, or the socket of a gateway that is still there.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("admin socket: %s exists and is not a socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("admin socket: another gateway answers on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}
