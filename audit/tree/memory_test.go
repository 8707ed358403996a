package tree

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
)

// memoryFiles are files that forget at a power cut what was not synced, and fail when they are told to.
type memoryFiles struct {
	mu      sync.Mutex
	files   map[string][]byte // as programs see it
	disk    map[string][]byte // what is durable
	dirty   map[string]bool   // written since their last sync
	folders map[string]bool
	writes  int
	bytes   int
	fail    func(operation, name string) error // asked before every change; nil: all works
}

func newMemoryFiles() *memoryFiles {
	return &memoryFiles{files: map[string][]byte{}, disk: map[string][]byte{}, dirty: map[string]bool{}, folders: map[string]bool{".": true}}
}

var errDisk = errors.New("the disk says no")

func (m *memoryFiles) asked(operation, name string) error {
	if m.fail == nil {
		return nil
	}
	return m.fail(operation, name)
}

func (m *memoryFiles) ReadFile(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(b), nil
}

func (m *memoryFiles) ReadDir(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]bool{}
	for _, all := range []map[string]bool{m.folders, nameSet(m.files)} {
		for file := range all {
			if rest, ok := strings.CutPrefix(file, name+"/"); ok {
				first, _, _ := strings.Cut(rest, "/")
				found[first] = true
			}
		}
	}
	if len(found) == 0 && !m.folders[name] {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Collect(maps.Keys(found)), nil
}

func nameSet(files map[string][]byte) map[string]bool {
	names := map[string]bool{}
	for name := range files {
		names[name] = true
	}
	return names
}

func (m *memoryFiles) WriteFile(name string, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.asked("write", name); err != nil {
		return err
	}
	if !m.folders[path.Dir(name)] {
		return &fs.PathError{Op: "create", Path: name, Err: fs.ErrNotExist}
	}
	m.files[name], m.dirty[name] = slices.Clone(b), true
	m.writes++
	m.bytes += len(b)
	return nil
}

// ReplaceFile fails before the new content is there, or after.
func (m *memoryFiles) ReplaceFile(name string, b []byte) error {
	if err := m.WriteFile(name, b); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk[name] = m.files[name]
	delete(m.dirty, name)
	return m.asked("replace", name)
}

func (m *memoryFiles) Sync(names []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if err := m.asked("sync", name); err != nil {
			return err
		}
		b, ok := m.files[name]
		if !ok {
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		m.disk[name] = b
		delete(m.dirty, name)
	}
	return nil
}

func (m *memoryFiles) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.asked("remove", name); err != nil {
		return err
	}
	if m.folders[name] {
		for _, all := range []map[string]bool{m.folders, nameSet(m.files)} {
			for file := range all {
				if strings.HasPrefix(file, name+"/") {
					return &fs.PathError{Op: "remove", Path: name, Err: errors.New("directory not empty")}
				}
			}
		}
		delete(m.folders, name)
		return nil
	}
	if _, ok := m.files[name]; !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.files, name)
	return nil
}

func (m *memoryFiles) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.asked("mkdir", name); err != nil {
		return err
	}
	for ; name != "."; name = path.Dir(name) {
		m.folders[name] = true
	}
	return nil
}

// powerCut is what a disk holds after one: each change since the last sync happened, or did not, or left a mess.
func (m *memoryFiles) powerCut(r *rand.Rand) *memoryFiles {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemoryFiles()
	for _, name := range slices.Sorted(maps.Keys(m.disk)) {
		if _, ok := m.files[name]; ok || r.IntN(2) == 0 { // else a removal that lasted
			after.disk[name] = m.disk[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		b := m.files[name]
		if !m.dirty[name] {
			continue
		}
		switch r.IntN(4) {
		case 0: // never arrived
		case 1:
			after.disk[name] = slices.Clone(b[:r.IntN(len(b)+1)])
		case 2:
			after.disk[name] = make([]byte, len(b))
		case 3:
			after.disk[name] = slices.Clone(b)
		}
	}
	for name, b := range after.disk {
		after.files[name] = slices.Clone(b)
		for name = path.Dir(name); name != "."; name = path.Dir(name) {
			after.folders[name] = true
		}
	}
	return after
}
