package spool

import (
	"errors"
	"sync"
	"time"
)

var errDisk = errors.New("no space left on device")

// fakeFolder makes files in memory and fails as it is told.
type fakeFolder struct {
	failures  []bool // of Create and WriteAt, over and over
	slow      bool   // every call takes a while
	cannotCut bool
	unread    bool                 // ReadAt fails
	mistake   func(*fakeFile) file // what is handed out in place of the file; nil for the file itself

	mu    sync.Mutex
	calls int
	open  int
	made  int
}

func (d *fakeFolder) rest() {
	if d.slow {
		time.Sleep(10 * time.Millisecond)
	}
}

func (d *fakeFolder) fails() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	return len(d.failures) > 0 && d.failures[d.calls%len(d.failures)]
}

func (d *fakeFolder) Create() (file, error) {
	if d.fails() {
		return nil, errDisk
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
	d.made++
	f := &fakeFile{folder: d}
	if d.mistake != nil {
		return d.mistake(f), nil
	}
	return f, nil
}

func (d *fakeFolder) Close() error { return nil }

// fakeFile knows which of its bytes may be asked for.
type fakeFile struct {
	folder *fakeFolder

	mu     sync.Mutex
	data   []byte
	freed  int64
	closed bool
}

func (f *fakeFile) WriteAt(p []byte, offset int64) (int, error) {
	f.folder.rest()
	defer f.folder.rest()
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	switch {
	case f.closed:
		return 0, errors.New("write to a closed file")
	case f.folder.fails():
		p, err = p[:len(p)/2], errDisk
	}
	if grow := offset + int64(len(p)) - int64(len(f.data)); grow > 0 {
		f.data = append(f.data, make([]byte, grow)...)
	}
	return copy(f.data[offset:], p), err
}

func (f *fakeFile) ReadAt(p []byte, offset int64) (int, error) {
	f.folder.rest()
	defer f.folder.rest()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return 0, errors.New("read of a closed file")
	case f.folder.unread:
		return 0, errors.New("input/output error")
	case offset < f.freed:
		return 0, errors.New("read of what was given back")
	}
	return copy(p, f.data[offset:]), nil
}

func (f *fakeFile) Punch(offset, n int64) error {
	f.folder.rest()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.folder.cannotCut {
		return errors.ErrUnsupported
	}
	f.freed = offset + n
	return nil
}

func (f *fakeFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("closed twice")
	}
	f.closed = true
	f.folder.mu.Lock()
	defer f.folder.mu.Unlock()
	f.folder.open--
	return nil
}

// mistakes are folders that go wrong without saying so, one each: the tests of bytes must notice.
var mistakes = map[string]func(*fakeFile) file{
	"writes one byte too early once space was given back": func(f *fakeFile) file { return &earlyFile{fakeFile: f} },
	"says that half a write was all of it":                func(f *fakeFile) file { return halfFile{f} },
	"gives a block too much back":                         func(f *fakeFile) file { return greedyFile{f} },
	"reads the first bytes for ever":                      func(f *fakeFile) file { return firstFile{f} },
}

type earlyFile struct{ *fakeFile }

func (f *earlyFile) WriteAt(p []byte, offset int64) (int, error) {
	f.mu.Lock()
	if f.freed > 0 {
		offset--
	}
	f.mu.Unlock()
	return f.fakeFile.WriteAt(p, offset)
}

type halfFile struct{ *fakeFile }

func (f halfFile) WriteAt(p []byte, offset int64) (int, error) {
	f.fakeFile.WriteAt(p[:len(p)/2], offset)
	f.fakeFile.WriteAt([]byte{0}, offset+int64(len(p))-1)
	return len(p), nil
}

type greedyFile struct{ *fakeFile }

func (f greedyFile) Punch(offset, n int64) error { return f.fakeFile.Punch(offset, n+blockSize) }

type firstFile struct{ *fakeFile }

func (f firstFile) ReadAt(p []byte, _ int64) (int, error) { return f.fakeFile.ReadAt(p, f.freed) }
