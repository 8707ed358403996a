package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"sallyport/audit/segment"
)

// Modes of what we create. Others get nothing; the directory's group may read, so that an operator can let auditors in
// (chgrp and the setgid bit on the directory) without giving them the right to write.
const (
	directoryMode = 0o750
	fileMode      = 0o640
)

// directory is the real FileSystem.
type directory struct{ root *os.Root }

// createDirectory opens the audit directory for writing, and creates it durably if need be.
func createDirectory(dir string) (*directory, error) {
	if err := os.MkdirAll(dir, directoryMode); err != nil {
		return nil, fmt.Errorf("creating audit directory: %w", err)
	}
	if err := syncPath(filepath.Dir(filepath.Clean(dir))); err != nil {
		return nil, fmt.Errorf("creating audit directory: %w", err)
	}
	return openDirectory(dir)
}

// openDirectory opens an existing audit directory.
func openDirectory(dir string) (*directory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening audit directory: %w", err)
	}
	return &directory{root}, nil
}

func (d *directory) MkdirAll(name string) error           { return d.root.MkdirAll(name, directoryMode) }
func (d *directory) Rename(oldName, newName string) error { return d.root.Rename(oldName, newName) }
func (d *directory) Remove(name string) error             { return d.root.Remove(name) }
func (d *directory) Close() error                         { return d.root.Close() }

func (d *directory) OpenFile(name string, flag int) (File, error) {
	f, err := d.root.OpenFile(name, flag&^wholeBlocks, fileMode)
	if err != nil {
		return nil, err
	}
	opened := &file{File: f}
	if flag&wholeBlocks != 0 {
		// Not every file system can; the page cache serves as well.
		opened.direct, _ = d.root.OpenFile(name, os.O_WRONLY|unix.O_DIRECT, 0)
	}
	return opened, nil
}

func (d *directory) ReadDir(name string) ([]string, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (d *directory) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Space is what statfs(2) says: what is free for us, which is less than what is free for root.
func (d *directory) Space() (free, size uint64, err error) {
	f, err := d.root.Open(".")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return 0, 0, os.NewSyscallError("fstatfs", err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// Lock takes an open file description lock (fcntl(2), F_OFD_SETLK): like flock(2) it ends with its descriptor, and
// unlike flock(2) it can be asked about without being taken, so that a reader never keeps a gateway from starting.
func (d *directory) Lock(name string) (io.Closer, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, ErrLocked
	}
	return nil, err
}

func (d *directory) Locked(name string) (bool, error) {
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	holder := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &holder); err != nil {
		return false, err
	}
	return holder.Type != unix.F_UNLCK, nil
}

// file is the real File. What is written by whole blocks goes to the disk directly (open(2), O_DIRECT) where that was
// wished for: the page cache would hold a copy that nobody reads, and a sync would have to look for it.
type file struct {
	*os.File
	direct *os.File // the same file; nil where it is not wished for, or not to be had
}

// WriteAt writes through the page cache what cannot go directly: pieces of blocks, and memory that lies as this disk's
// driver does not want it. The kernel keeps both ways in step, and a sync of either is one of both.
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	if f.direct != nil && len(b)%segment.Block == 0 && at%segment.Block == 0 {
		n, err := f.direct.WriteAt(b, at)
		if !errors.Is(err, unix.EINVAL) {
			return n, err
		}
	}
	return f.File.WriteAt(b, at)
}

func (f *file) Close() error {
	if f.direct == nil {
		return f.File.Close()
	}
	return errors.Join(f.direct.Close(), f.File.Close())
}

// Sync is fdatasync(2): content and size, without a journal write for the time of the last change.
func (f *file) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func (f *file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// syncPath makes the names in a folder outside our directory durable.
func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
