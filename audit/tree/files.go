package tree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// Files is a folder that tiles are kept in. Names are slash-separated and relative to it. Methods may be called from
// several goroutines.
type Files interface {
	// ReadFile reads a whole file, fs.ErrNotExist where there is none. It may refuse one that is larger than MaxFile.
	ReadFile(name string) ([]byte, error)
	// ReadDir returns the names in a folder in any order, fs.ErrNotExist where there is no such folder.
	ReadDir(name string) ([]string, error)
	// WriteFile makes or replaces a file in a folder that exists. Whoever reads meanwhile finds the old content or the
	// new. After a power cut it may be missing or hold anything, until Sync answered.
	WriteFile(name string, b []byte) error
	// ReplaceFile is WriteFile for what must survive: after a power cut the file holds the old content or the new, and the
	// new once the call has answered.
	ReplaceFile(name string, b []byte) error
	// Sync makes files, and all names that lead to them, durable. After an error nothing is known of them.
	Sync(names []string) error
	// Remove removes a file or an empty folder.
	Remove(name string) error
	// MkdirAll makes a folder and those that lead to it. One that is there is no error.
	MkdirAll(name string) error
}

// MaxFile is the most that a file of a tree can hold, in bytes: an entry bundle of 256 leaves of 64 KiB and their lengths.
const MaxFile = TileWidth * (1<<16 + 2)

// RootFiles are the files below an open folder.
func RootFiles(root *os.Root) Files { return rootFiles{root} }

type rootFiles struct{ root *os.Root }

func (f rootFiles) ReadFile(name string) ([]byte, error) {
	info, err := f.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxFile {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, info.Size(), MaxFile)
	}
	return f.root.ReadFile(name)
}

func (f rootFiles) ReadDir(name string) ([]string, error) {
	dir, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

func (f rootFiles) MkdirAll(name string) error            { return f.root.MkdirAll(name, 0o755) }
func (f rootFiles) Remove(name string) error              { return f.root.Remove(name) }
func (f rootFiles) WriteFile(name string, b []byte) error { return f.replace(name, b, false) }
func (f rootFiles) replace(name string, b []byte, sync bool) error {
	temporary := name + "." + rand.Text()[:8] + temporarySuffix
	err := f.write(temporary, b, sync)
	if err == nil {
		err = f.root.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(f.root.Remove(temporary)))
	}
	return nil
}

// temporarySuffix ends the names of files that get their own when they are whole.
const temporarySuffix = ".tmp"

func (f rootFiles) write(name string, b []byte, sync bool) error {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if sync && err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (f rootFiles) ReplaceFile(name string, b []byte) error {
	if err := f.replace(name, b, true); err != nil {
		return err
	}
	return f.syncFolders([]string{name})
}

func (f rootFiles) Sync(names []string) error {
	for _, name := range names {
		if err := f.syncOne(name); err != nil {
			return err
		}
	}
	return f.syncFolders(names)
}

// syncFolders makes the names durable that lead to files. A folder is synced before the one that names it.
func (f rootFiles) syncFolders(names []string) error {
	folders := map[string]bool{}
	for _, name := range names {
		for name != "." {
			name = path.Dir(name)
			folders[name] = true
		}
	}
	deepest := slices.Collect(maps.Keys(folders))
	slices.SortFunc(deepest, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, name := range deepest {
		if err := f.syncOne(name); err != nil {
			return err
		}
	}
	return nil
}

func (f rootFiles) syncOne(name string) error {
	file, err := f.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
