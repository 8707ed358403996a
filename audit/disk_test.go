package audit

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"sync"
)

const sector = 512

// errPower is what a machine answers that lost its power or whose process was killed.
var errPower = errors.New("the machine is off")

// disk simulates what a file system promises and no more: what was not synced is kept apart, and a power cut drops it,
// tears it by sector, or lets a later write survive an earlier one. Names are synced by folder, on their own.
type disk struct {
	// Lies a disk or a programmer may tell: with them the tests must find lost records.
	forgetsSync    func(name string) bool
	forgetsSyncDir bool
	skipsRewrites  bool // drops a write of what is there already

	mu      sync.Mutex
	rnd     *rand.Rand
	names   map[string]*inode // as running programs see them
	durable map[string]*inode // as they are on the disk
	pending []nameChange
	opsLeft int // until the present machine stops; negative: it does not
	cut     bool
	off     func()
}

// inode is one file.
type inode struct {
	name    string // its latest
	cached  []byte // as running programs see it
	durable []byte
	pending []fileChange
}

// fileChange is a write, or with no data a change of size.
type fileChange struct {
	at   int64
	data []byte
}

// nameChange is the creation, renaming or removal of a name.
type nameChange struct {
	folder   string
	from, to string // "" for creation and removal
	file     *inode
}

func newDisk(rnd *rand.Rand) *disk {
	var own *rand.Rand // nil for a disk whose power stays on
	if rnd != nil {
		own = rand.New(rand.NewPCG(rnd.Uint64(), 0)) // cuts happen in the committer's goroutine, beside the test's
	}
	return &disk{rnd: own, names: map[string]*inode{}, durable: map[string]*inode{}, opsLeft: -1}
}

// machine is a FileSystem that lives until its disk loses power.
type machine struct {
	disk *disk

	mu     sync.Mutex
	fault  func(op, name string) error // asked before each change; may block
	dead   bool
	locked bool
	ops    int
}

// boot starts a machine on the disk. It stops after ops changes (never, if negative): by a power cut, or else by a
// kill, after which the page cache lives on.
func (d *disk) boot(ops int, cut bool) *machine {
	m := &machine{disk: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opsLeft, d.cut = ops, cut
	d.off = m.kill
	return m
}

// stop ends the present machine now, unless it is off already.
func (d *disk) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopLocked()
}

func (d *disk) stopLocked() {
	if d.off == nil {
		return
	}
	d.off()
	d.off, d.opsLeft = nil, -1
	if d.cut {
		d.powerCutLocked()
	}
}

func (m *machine) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

// setFault has fault asked before each change from now on; nil ends that.
func (m *machine) setFault(fault func(op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

// changes is how many changes were asked for so far.
func (m *machine) changes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

func (m *machine) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errPower
	}
	return nil
}

// change runs one change of the disk, or stops the machine at it: before it, or when it is half done.
func (m *machine) change(op, name string, do func(d *disk)) error {
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
	if err := m.alive(); err != nil {
		return err
	}
	if d.opsLeft == 0 {
		if op == "write" || op == "rename" {
			do(d)
		}
		d.stopLocked()
		return errPower
	}
	d.opsLeft--
	do(d)
	return nil
}

// powerCutLocked forgets, for each thing that was not synced, what a disk may forget.
func (d *disk) powerCutLocked() {
	odds := []float64{0, 0.1, 0.5, 0.9, 1}[d.rnd.IntN(5)]
	survives := func() bool { return d.rnd.Float64() < odds }
	for _, c := range d.pending {
		if survives() {
			c.apply(d.durable)
		}
	}
	d.pending = nil
	d.names = maps.Clone(d.durable)
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		f := d.names[name]
		for _, c := range f.pending {
			f.durable = c.tear(f.durable, survives)
		}
		f.pending = nil
		f.cached = slices.Clone(f.durable)
	}
}

func (c nameChange) apply(names map[string]*inode) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.file
	}
}

// tear applies those sectors of a write that survive.
func (c fileChange) tear(b []byte, survives func() bool) []byte {
	if c.data == nil {
		if survives() {
			return resize(b, c.at)
		}
		return b
	}
	for from := 0; from < len(c.data); {
		to := min(len(c.data), from+sector-int((c.at+int64(from))%sector))
		if survives() {
			b = put(b, c.data[from:to], c.at+int64(from))
		}
		from = to
	}
	return b
}

func put(b, data []byte, at int64) []byte {
	if end := at + int64(len(data)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[at:], data)
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func (m *machine) MkdirAll(string) error { return m.alive() }
func (m *machine) Close() error          { return nil }

func (m *machine) OpenFile(name string, flag int) (File, error) {
	d := m.disk
	create := flag&os.O_CREATE != 0
	d.mu.Lock()
	f, ok := d.names[name]
	d.mu.Unlock()
	if err := m.alive(); err != nil {
		return nil, err
	}
	if !ok && !create {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if !ok {
		f = new(inode)
		err := m.change("create", name, func(d *disk) {
			d.renameLocked(nameChange{folder: path.Dir(name), to: name, file: f})
		})
		if err != nil {
			return nil, err
		}
	}
	file := &machineFile{m, f}
	if ok && flag&os.O_TRUNC != 0 {
		return file, file.Truncate(0)
	}
	return file, nil
}

func (d *disk) renameLocked(c nameChange) {
	c.apply(d.names)
	if c.to != "" {
		c.file.name = c.to
	}
	d.pending = append(d.pending, c)
}

func (m *machine) Rename(from, to string) error {
	return m.change("rename", to, func(d *disk) {
		d.renameLocked(nameChange{folder: path.Dir(to), from: from, to: to, file: d.names[from]})
	})
}

func (m *machine) Remove(name string) error {
	return m.change("remove", name, func(d *disk) {
		d.renameLocked(nameChange{folder: path.Dir(name), from: name})
	})
}

func (m *machine) ReadDir(folder string) ([]string, error) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if err := m.alive(); err != nil {
		return nil, err
	}
	var names []string
	for name := range m.disk.names {
		if path.Dir(name) == folder {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *machine) SyncDir(folder string) error {
	return m.change("syncdir", folder, func(d *disk) {
		if d.forgetsSyncDir {
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

func (m *machine) Lock(string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return nil, ErrLocked
	}
	m.locked = true
	return machineLock{m}, nil
}

func (m *machine) Locked(string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.locked, nil
}

type machineLock struct{ m *machine }

func (l machineLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.locked = false
	return nil
}

// machineFile is an open file.
type machineFile struct {
	m    *machine
	file *inode
}

func (f *machineFile) name() string {
	f.m.disk.mu.Lock()
	defer f.m.disk.mu.Unlock()
	return f.file.name
}

func (f *machineFile) ReadAt(b []byte, at int64) (int, error) {
	f.m.disk.mu.Lock()
	defer f.m.disk.mu.Unlock()
	if err := f.m.alive(); err != nil {
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

func (f *machineFile) WriteAt(b []byte, at int64) (int, error) {
	err := f.m.change("write", f.name(), func(d *disk) {
		if d.skipsRewrites && f.file.holds(b, at) {
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

func (f *machineFile) Truncate(size int64) error {
	return f.m.change("truncate", f.name(), func(*disk) {
		f.file.cached = resize(f.file.cached, size)
		f.file.pending = append(f.file.pending, fileChange{at: size})
	})
}

func (f *machineFile) Sync() error {
	return f.m.change("sync", f.name(), func(d *disk) {
		if d.forgetsSync == nil || !d.forgetsSync(f.file.name) {
			f.file.syncLocked()
		}
	})
}

func (f *inode) holds(b []byte, at int64) bool {
	end := at + int64(len(b))
	return end <= int64(len(f.cached)) && bytes.Equal(f.cached[at:end], b)
}

func (f *inode) syncLocked() {
	for _, c := range f.pending {
		f.durable = c.tear(f.durable, func() bool { return true })
	}
	f.pending = nil
}

// loseDirty is what Linux does after a sync that failed: the pages count as clean, and no later sync writes them.
func (f *inode) loseDirty() { f.pending = nil }

func (f *machineFile) Size() (int64, error) {
	f.m.disk.mu.Lock()
	defer f.m.disk.mu.Unlock()
	return int64(len(f.file.cached)), f.m.alive()
}

func (f *machineFile) Close() error { return nil }
