package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// folder makes temporary files. Create may run at once with itself and with Close, and fails after Close.
type folder interface {
	Create() (file, error)
	Close() error
}

// file is one temporary file. Reading, writing and punching run at once, at different places; Close may come at any time
// and frees the space when the calls under way have ended.
type file interface {
	io.ReaderAt
	io.WriterAt
	// Punch gives the space of a range back that is not read again. The file keeps its size.
	Punch(offset, n int64) error
	Close() error
}

// lost says that a file cannot be read back. That is never io.EOF, which would make the part the whole.
func (s *Spooler) lost(err error) error {
	s.failures.Add(1)
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading a spooled body back: %w", err)
}

// noFolder is the folder of a Spooler without files.
type noFolder struct{}

func (noFolder) Create() (file, error) { return nil, ErrFull }
func (noFolder) Close() error          { return nil }

// diskFolder is a folder on disk. All that is done in it goes through the one descriptor, so that it stays the same
// folder whatever becomes of its path.
type diskFolder struct{ root *os.Root }

// openFolder opens a folder and makes sure that files can be made, written and read in it.
func openFolder(dir string) (folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d := diskFolder{root}
	if err := d.probe(); err != nil {
		root.Close()
		return nil, fmt.Errorf("trying a file in %s: %w", dir, err)
	}
	return d, nil
}

func (d diskFolder) probe() error {
	f, err := d.Create()
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.WriteAt([]byte{1}, 0); err != nil {
		return err
	}
	_, err = f.ReadAt(b[:], 0)
	return err
}

func (d diskFolder) Close() error { return d.root.Close() }

// Create makes a file without a name. O_EXCL beside O_TMPFILE means that it cannot get one either (open(2)).
func (d diskFolder) Create() (file, error) {
	f, err := d.root.OpenFile(".", os.O_RDWR|os.O_EXCL|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		f, err = d.createNamed()
	}
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// createNamed is for file systems without O_TMPFILE.
func (d diskFolder) createNamed() (*os.File, error) {
	name := ".sallyport-spool-" + rand.Text()
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := d.root.Remove(name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

type diskFile struct{ *os.File }

func (f diskFile) Punch(offset, n int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var punched error
	err = conn.Control(func(fd uintptr) {
		punched = unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, n)
	})
	return errors.Join(err, punched)
}
