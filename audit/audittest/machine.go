package audittest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
)

// Machine is a file system that lives until its disk loses power. Its methods are those of audit.FileSystem and keep
// that contract; OpenFile differs in its result's type only.
type Machine struct {
	disk *Disk

	mu     sync.Mutex
	fault  func(op, name string) error // asked before each change; may block
	dead   bool
	locked bool
	ops    int
}

// Beside is another process on the same disk. It outlives no power cut by itself, sees the lock held, and takes none.
func (m *Machine) Beside() *Machine { return &Machine{disk: m.disk, locked: true} }

func (m *Machine) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

// SetFault has fault asked before each change from now on; nil ends that.
func (m *Machine) SetFault(fault func(op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

// Changes is how many changes were asked for so far.
func (m *Machine) Changes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// Alive is nil, or ErrPower when the machine has stopped.
func (m *Machine) Alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return ErrPower
	}
	return nil
}

// change runs one change of the disk, or stops the machine at it: before it, or when it is half done.
func (m *Machine) change(op, name string, do func(d *Disk)) error {
	m.mu.Lock()
	m.ops++
	fault := m.fault
	m.mu.Unlock()
	if fault != nil {
		if err := fault(op, name); err != nil {
			return err
		}
	}
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := m.Alive(); err != nil {
		return err
	}
	if d.opsLeft == 0 {
		if op == "write" || op == "rename" {
			do(d)
		}
		d.stopLocked()
		return ErrPower
	}
	d.opsLeft--
	do(d)
	return nil
}

// ErrHeld is what Lock answers while the lock is held; audit calls it ErrLocked.
var ErrHeld = errors.New("the lock is held")

// MkdirAll does nothing: folders are there when a file in them is.
func (m *Machine) MkdirAll(string) error { return m.Alive() }

// Close lets go of nothing: a machine ends when it stops.
func (m *Machine) Close() error { return nil }

// OpenFile opens a file; O_CREATE and O_TRUNC are heeded, all files can be read and written.
func (m *Machine) OpenFile(name string, flag int) (*File, error) {
	d := m.disk
	create := flag&os.O_CREATE != 0
	d.mu.Lock()
	f, ok := d.names[name]
	d.mu.Unlock()
	if err := m.Alive(); err != nil {
		return nil, err
	}
	if !ok && !create {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if !ok {
		f = new(inode)
		err := m.change("create", name, func(d *Disk) {
			d.renamedLocked(nameChange{folder: path.Dir(name), to: name, file: f})
		})
		if err != nil {
			return nil, err
		}
	}
	file := &File{m, f}
	if ok && flag&os.O_TRUNC != 0 {
		return file, file.Truncate(0)
	}
	return file, nil
}

// Rename moves a file within its folder; it is half done only in that it may or may not be durable.
func (m *Machine) Rename(from, to string) error {
	if !m.exists(from) {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	return m.change("rename", to, func(d *Disk) {
		d.renamedLocked(nameChange{folder: path.Dir(to), from: from, to: to, file: d.names[from]})
	})
}

// Remove removes a file.
func (m *Machine) Remove(name string) error {
	if !m.exists(name) {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	return m.change("remove", name, func(d *Disk) {
		d.renamedLocked(nameChange{folder: path.Dir(name), from: name})
	})
}

func (m *Machine) exists(name string) bool {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.disk.names[name] != nil
}

// ReadDir returns the names of the files in a folder, and of the folders in it that hold any.
func (m *Machine) ReadDir(folder string) ([]string, error) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if err := m.Alive(); err != nil {
		return nil, err
	}
	var names []string
	for name := range m.disk.names {
		rest, below := strings.CutPrefix(name, folder+"/")
		if folder == "." {
			rest, below = name, true
		}
		if below {
			first, _, _ := strings.Cut(rest, "/")
			names = append(names, first)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// SyncDir makes the names in a folder durable.
func (m *Machine) SyncDir(folder string) error {
	return m.change("syncdir", folder, func(d *Disk) {
		if d.ForgetsSyncDir {
			return
		}
		d.pending = slices.DeleteFunc(d.pending, func(c nameChange) bool {
			if c.folder == folder {
				c.apply(d.durable)
			}
			return c.folder == folder
		})
	})
}

// Lock takes the one lock of the machine, whatever its name.
func (m *Machine) Lock(string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return nil, ErrHeld
	}
	m.locked = true
	return lock{m}, nil
}

// Locked reports whether it is held.
func (m *Machine) Locked(string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.locked, nil
}

type lock struct{ m *Machine }

func (l lock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.locked = false
	return nil
}

// File is an open file.
type File struct {
	m    *Machine
	file *inode
}

func (f *File) name() string {
	f.m.disk.mu.Lock()
	defer f.m.disk.mu.Unlock()
	return f.file.name
}

// ReadAt reads what running programs see.
func (f *File) ReadAt(b []byte, at int64) (int, error) {
	f.m.disk.mu.Lock()
	defer f.m.disk.mu.Unlock()
	if err := f.m.Alive(); err != nil {
		return 0, err
	}
	if at >= int64(len(f.file.cached)) {
		return 0, io.EOF
	}
	n := copy(b, f.file.cached[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt changes what running programs see, and nothing on the disk yet.
func (f *File) WriteAt(b []byte, at int64) (int, error) {
	err := f.m.change("write", f.name(), func(d *Disk) {
		if d.SkipsRewrites && f.file.holds(b, at) {
			return
		}
		f.file.cached = put(f.file.cached, b, at)
		f.file.pending = append(f.file.pending, fileChange{at, slices.Clone(b)})
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// Truncate changes the size in the same way.
func (f *File) Truncate(size int64) error {
	return f.m.change("truncate", f.name(), func(*Disk) {
		f.file.cached = resize(f.file.cached, size)
		f.file.pending = append(f.file.pending, fileChange{at: size})
	})
}

// Sync makes content and size durable.
func (f *File) Sync() error {
	return f.m.change("sync", f.name(), func(d *Disk) {
		if d.ForgetsSync == nil || !d.ForgetsSync(f.file.name) {
			f.file.syncLocked()
		}
	})
}

// Size is the size that running programs see.
func (f *File) Size() (int64, error) {
	f.m.disk.mu.Lock()
	defer f.m.disk.mu.Unlock()
	return int64(len(f.file.cached)), f.m.Alive()
}

// Close does nothing.
func (f *File) Close() error { return nil }
