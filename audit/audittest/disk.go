// Package audittest is the power-cut file layer that everything durable in the audit directory is tested on.
//
// A [Disk] simulates what a file system promises and no more. [Disk.Boot] gives a [Machine], which has the methods of
// audit.FileSystem and stops by itself, at whichever change of the disk the test chose. The package imports nothing of
// ours, so that the tests of every package may use it: they wrap a Machine for the interface's own result types.
package audittest

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

const sector = 512

// ErrPower is what a machine answers that lost its power or whose process was killed.
var ErrPower = errors.New("the machine is off")

// Disk simulates what a file system promises and no more: what was not synced is kept apart, and a power cut drops it,
// tears it by sector, or lets a later write survive an earlier one. Names are synced by folder, on their own.
type Disk struct {
	// Lies a disk or a programmer may tell: with them the tests must find lost records.
	ForgetsSync    func(name string) bool
	ForgetsSyncDir bool
	SkipsRewrites  bool // drops a write of what is there already

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

// NewDisk makes an empty disk. What a power cut leaves is drawn from rnd, which may be nil where none happens.
func NewDisk(rnd *rand.Rand) *Disk {
	var own *rand.Rand // nil for a disk whose power stays on
	if rnd != nil {
		own = rand.New(rand.NewPCG(rnd.Uint64(), 0)) // cuts happen in the committer's goroutine, beside the test's
	}
	return &Disk{rnd: own, names: map[string]*inode{}, durable: map[string]*inode{}, opsLeft: -1}
}

// Boot starts a machine on the disk. It stops after ops changes (never, if negative): by a power cut, or else by a
// kill, after which the page cache lives on.
func (d *Disk) Boot(ops int, cut bool) *Machine {
	m := &Machine{disk: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opsLeft, d.cut = ops, cut
	d.off = m.kill
	return m
}

// Stop ends the present machine now, unless it is off already.
func (d *Disk) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopLocked()
}

func (d *Disk) stopLocked() {
	if d.off == nil {
		return
	}
	d.off()
	d.off, d.opsLeft = nil, -1
	if d.cut {
		d.powerCutLocked()
	}
}

// powerCutLocked forgets, for each thing that was not synced, what a disk may forget.
func (d *Disk) powerCutLocked() {
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

// LoseDirty does to a file what Linux does after a sync that failed: the pages count as clean, and no later sync writes
// them. A fault that answers a sync with an error calls it to be true to life.
func (d *Disk) LoseDirty(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.names[name]; f != nil {
		f.pending = nil
	}
}

func (d *Disk) renamedLocked(c nameChange) {
	c.apply(d.names)
	if c.to != "" {
		c.file.name = c.to
	}
	d.pending = append(d.pending, c)
}
