package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// folder is the audit directory. Names in it have slashes; no link leads out of it, and nothing but regular files is
// opened: a pipe would make a reader wait for ever, and opening a device does things.
type folder struct{ root *os.Root }

var errIrregular = errors.New("this is no regular file")

func (f folder) open(name string) (*os.File, int64, error) {
	info, err := f.root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: errIrregular}
	}
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errIrregular}
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// read returns a small file; one that is longer than limit is an error.
func (f folder) read(name string, limit int64) ([]byte, error) {
	file, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, size, limit)
	}
	return io.ReadAll(io.LimitReader(file, limit))
}

// exists reports whether there is anything of that name.
func (f folder) exists(name string) bool {
	_, err := f.root.Lstat(name)
	return err == nil
}

// isFolder reports whether there is a folder of that name.
func (f folder) isFolder(name string) bool {
	info, err := f.root.Lstat(name)
	return err == nil && info.IsDir()
}

// list yields what is in a folder, in no order and without holding all of it.
func (f folder) list(name string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		d, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_DIRECTORY, 0)
		if err != nil {
			yield(nil, err)
			return
		}
		defer d.Close()
		for {
			entries, err := d.ReadDir(256)
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(nil, err)
				}
				return
			}
		}
	}
}

// notFolder says what is in the place of a folder; nil where that is one, or nothing is there.
func (f folder) notFolder(name string) error {
	info, err := f.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	return &fs.PathError{Op: "open", Path: name, Err: errNoFolder}
}

var errNoFolder = errors.New("this is no folder")

// isDisk says whether an error is one of reading files, as opposed to what they are and what is in them: links that lead
// out or in circles, files in the place of folders and names that are too long come with the directory, and whoever made it
// must not be able to keep the rest of it from being looked at.
func isDisk(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && slices.Contains(diskErrors, errno)
}

var diskErrors = []syscall.Errno{
	syscall.EIO, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EACCES, syscall.EPERM, syscall.EINTR,
	syscall.ESTALE, syscall.ETIMEDOUT, syscall.EUCLEAN, syscall.EBADMSG, // of file servers, and file systems with checksums
}
