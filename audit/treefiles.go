package audit

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"sallyport/audit/tree"
)

// treeFolder holds, below a log's folder, what is derived from its records: hash tiles and signed checkpoints.
const treeFolder = "tree"

// treeFiles is a log's tree folder, or any other folder of the audit directory, as package tree wants it.
type treeFiles struct {
	fs     FileSystem
	folder string
}

func (t treeFiles) path(name string) string { return path.Join(t.folder, name) }

func (t treeFiles) MkdirAll(name string) error            { return t.fs.MkdirAll(t.path(name)) }
func (t treeFiles) ReadDir(name string) ([]string, error) { return t.fs.ReadDir(t.path(name)) }
func (t treeFiles) Remove(name string) error              { return t.fs.Remove(t.path(name)) }
func (t treeFiles) ReadFile(name string) ([]byte, error)  { return readFile(t.fs, t.path(name)) }

// readFile reads a file of at most tree.MaxFile bytes.
func readFile(fsys FileSystem, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > tree.MaxFile {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, size, tree.MaxFile)
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

func (t treeFiles) WriteFile(name string, b []byte) error { return t.replace(name, b, false) }

func (t treeFiles) ReplaceFile(name string, b []byte) error {
	if err := t.replace(name, b, true); err != nil {
		return err
	}
	return t.fs.SyncDir(path.Dir(t.path(name)))
}

// replace gives a file its name when its content is whole, and on request durable: a rename may reach the disk before
// what was written.
func (t treeFiles) replace(name string, b []byte, sync bool) error {
	name = t.path(name)
	temporary := name + temporarySuffix
	f, err := t.fs.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = t.fs.Rename(temporary, name)
	}
	return err
}

func (t treeFiles) Sync(names []string) error {
	folders := map[string]bool{}
	for _, name := range names {
		if err := t.syncFile(name); err != nil {
			return err
		}
		for name != "." {
			name = path.Dir(name)
			folders[t.path(name)] = true
		}
	}
	deepest := slices.Collect(maps.Keys(folders))
	slices.SortFunc(deepest, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, folder := range deepest {
		if err := t.fs.SyncDir(folder); err != nil {
			return err
		}
	}
	return nil
}

func (t treeFiles) syncFile(name string) error {
	f, err := t.fs.OpenFile(t.path(name), os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
