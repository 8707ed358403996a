package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/audit/segment"
)

// estate is a directory whose logs are old enough to be kept house in, on a disk that may lose power.
type estate struct {
	disk   *disk
	now    time.Time
	config Config
	lines  map[string][]string // by log and seq: every record that was acknowledged
	young  uint64              // seq of the first decision that retention keeps
	signed map[string]uint64   // what the key process has signed; it has a disk of its own
}

const dayOld = 24 * time.Hour

// newEstate writes some segments of old and some of new decisions, and a few control records.
func newEstate(t testing.TB, d *disk, oldOnes, newOnes int) *estate {
	t.Helper()
	e := &estate{
		disk: d, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), lines: map[string][]string{},
		signed: map[string]uint64{}, config: Config{Dir: "unused", Seal: true, Retention: Retention{Decision: dayOld}},
	}
	a, err := e.open(d.boot(-1, false))
	if err != nil {
		t.Fatal(err)
	}
	for i := range oldOnes {
		mustAppend(t, a.Decisions(), strings.Repeat("x", 40<<10+i))
	}
	e.now = e.now.Add(2 * dayOld)
	if err := e.sign(a); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = e.open(d.boot(-1, false)); err != nil { // a run begins a segment
		t.Fatal(err)
	}
	e.young = a.Decisions().Records()
	for i := range newOnes {
		mustAppend(t, a.Decisions(), strings.Repeat("y", 40<<10+i))
		mustAppend(t, a.Control(), "z")
	}
	if err := e.sign(a); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *estate) open(fs FileSystem) (*Audit, error) {
	now := e.now // of this run
	a, err := Open(e.config, quiet(Options{FS: fs, segmentSize: smallestSegment, Now: func() time.Time { return now }}))
	if err != nil {
		return nil, err
	}
	a.upkeep.slower = func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }
	a.upkeep.asSigned = func(log string) uint64 { return e.signed[log] }
	return a, nil
}

// sign has all that is durable signed, and remembers it.
func (e *estate) sign(a *Audit) error {
	for _, l := range []*Log{a.decisions, a.control} {
		n := l.Records()
		for line, err := range OpenReaderFS(a.fs, l.name).Lines(context.Background(), uint64(len(e.lines[l.name]))) {
			if err != nil {
				return err
			}
			if line.Seq == uint64(len(e.lines[l.name])) && line.Seq < n {
				e.lines[l.name] = append(e.lines[l.name], string(line.Raw))
			}
		}
		e.signed[l.name] = uint64(len(e.lines[l.name]))
	}
	return nil
}

// keepHouse is one run of a gateway that does nothing but keep house, until its machine stops.
func (e *estate) keepHouse(fs FileSystem, pass func(a *Audit)) error {
	a, err := e.open(fs)
	if err != nil {
		return err
	}
	defer a.Close()
	for range 3 {
		pass(a)
		if err := e.sign(a); err != nil {
			return err
		}
	}
	return nil
}

func houseKeeping(a *Audit) { a.housekeep(context.Background()) }

// check reads both logs and compares them with what was acknowledged. What is missing must have been old enough, and its
// removal announced and signed.
func (e *estate) check(fs FileSystem) error {
	for _, log := range []string{ControlLog, DecisionLog} {
		r := OpenReaderFS(fs, log)
		b, err := r.Bounds()
		if err != nil {
			return err
		}
		next := b.First
		for line, err := range r.Lines(context.Background(), 0) {
			if err != nil {
				return err
			}
			if line.Seq != next {
				return fmt.Errorf("%s: seq %d where %d should be", log, line.Seq, next)
			}
			if next < uint64(len(e.lines[log])) && e.lines[log][next] != string(line.Raw) {
				return fmt.Errorf("%s: seq %d is not what was acknowledged", log, next)
			}
			next++
		}
		if next < e.signed[log] || next != b.Next {
			return fmt.Errorf("%s: ends at %d, bounds say %d, signed were %d", log, next, b.Next, e.signed[log])
		}
		if err := e.checkBegin(fs, log, b.First); err != nil {
			return err
		}
	}
	return nil
}

func (e *estate) checkBegin(fs FileSystem, log string, begin uint64) error {
	if begin == 0 {
		return nil
	}
	if log == DecisionLog && begin > e.young {
		return fmt.Errorf("decisions up to %d are gone, and only those before %d are old", begin, e.young)
	}
	for entry, err := range OpenReaderFS(fs, ControlLog).All(context.Background(), Filter{Code: CodePruning}) {
		if err != nil {
			return err
		}
		var d PruneDetail
		if err := json.Unmarshal(entry.Record.Detail, &d); err != nil {
			return err
		}
		for _, b := range d.Begins {
			if b.Log == log && b.Seq >= begin && entry.Record.Seq < e.signed[ControlLog] {
				return nil
			}
		}
	}
	return fmt.Errorf("%s begins at %d, and no signed record announces that", log, begin)
}

// settled reports what an estate lacks in which the house was kept to the end.
func (e *estate) settled(fs FileSystem) error {
	for _, log := range []string{DecisionLog, ControlLog} {
		list, err := listForms(fs, log)
		if err != nil {
			return err
		}
		for i, f := range list {
			if last := i == len(list)-1; f.raw != last || f.sealed == last {
				return fmt.Errorf("%s: segment %d of %d: raw %v, sealed %v", log, f.number, len(list), f.raw, f.sealed)
			}
		}
		names, err := fs.ReadDir(log)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.HasSuffix(name, temporarySuffix) {
				return fmt.Errorf("%s/%s is left over", log, name)
			}
		}
	}
	if b, err := OpenReaderFS(fs, DecisionLog).Bounds(); err != nil || b.First != e.young {
		return fmt.Errorf("decisions begin at %d, retention keeps those from %d: %v", b.First, e.young, err)
	}
	_, err := openReserve(fs, ControlLog)
	return err
}

// crashWhile has a machine keep house until it is off; what it leaves is looked at, and another machine finishes.
func crashWhile(t testing.TB, d *disk, ops int, cut bool, pass func(a *Audit)) (finished bool, err error) {
	e := newEstate(t, d, 6, 3)
	m := d.boot(ops, cut)
	err = e.keepHouse(m, pass)
	finished = m.alive() == nil
	d.stop()
	if err != nil && (finished || !errors.Is(err, errPower)) {
		return finished, err
	}
	if err := e.check(d.boot(-1, false)); err != nil {
		return finished, err
	}
	last := d.boot(-1, false)
	if err := e.keepHouse(last, houseKeeping); err != nil {
		return finished, err
	}
	if err := e.check(last); err != nil {
		return finished, err
	}
	return finished, e.settled(last)
}

// A power cut, or a kill, at every single change that keeping house makes loses nothing and leaves no hole; the next start
// finishes it.
func TestHousekeepingSurvivesEveryCrash(t *testing.T) {
	for _, cut := range []bool{true, false} {
		rnd := randomness(t)
		n, step := 0, 1
		if !cut && rounds(t, 0) == 0 {
			step = 5 // a kill leaves more than a power cut does
		}
		for ops, finished := 0, false; !finished; ops += step {
			var err error
			if finished, err = crashWhile(t, newDisk(rnd), ops, cut, houseKeeping); err != nil {
				t.Fatalf("stopped at change %d, power cut %v: %v", ops, cut, err)
			}
			n++
		}
		t.Logf("%d boundaries, power cut %v", n, cut)
		if n < 50/step {
			t.Errorf("only %d changes: house was not kept", n)
		}
	}
}

// The same at random, several times on one disk.
func TestHousekeepingSurvivesRandomCrashes(t *testing.T) {
	rnd := randomness(t)
	for range rounds(t, 20) {
		e := newEstate(t, newDisk(rnd), rnd.IntN(24), rnd.IntN(16))
		if rnd.IntN(2) == 0 {
			e.config.Retention.Control = dayOld
		}
		for range 1 + rnd.IntN(4) {
			m := e.disk.boot(rnd.IntN(120), rnd.IntN(3) > 0)
			if rnd.IntN(3) == 0 {
				m.setFault(failSometimes(m, rand.New(rand.NewPCG(rnd.Uint64(), 1))))
			}
			err := e.keepHouse(m, houseKeeping)
			e.disk.stop()
			if err != nil && !errors.Is(err, errPower) && !errors.Is(err, syscall.EIO) && !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			if err := e.check(e.disk.boot(-1, false)); err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(3) == 0 {
				e.now = e.now.Add(dayOld)
				e.young = e.signed[DecisionLog] // all of it may go, but the newest segment
			}
		}
	}
}

// Mistakes in keeping house, and disks that lie, must be found by the same crashes.
func TestHousekeepingCrashesFindMistakes(t *testing.T) {
	silently := func(a *Audit) { // without a record
		if d, err := a.outdated(context.Background(), DecisionLog, a.upkeep.now().Add(-dayOld)); err == nil && d != nil {
			_ = a.removeSegments(context.Background(), d)
		}
	}
	hastily := func(a *Audit) { // before the record is signed
		signed := a.upkeep.asSigned
		a.upkeep.asSigned = func(log string) uint64 { return max(signed(log), map[string]uint64{ControlLog: 1 << 40}[log]) }
		a.housekeep(context.Background())
		a.housekeep(context.Background())
	}
	atOnce := func(order func(*PruneDetail) []uint64) func(a *Audit) { // one sync for all
		return func(a *Audit) {
			p := a.upkeep.pending[DecisionLog]
			if p == nil || a.covered(ControlLog) <= p.seq {
				a.housekeep(context.Background())
				return
			}
			for _, n := range order(&p.detail) {
				_ = removeIfThere(a.fs, segment.Name(DecisionLog, n))
				_ = removeIfThere(a.fs, segment.SealedName(DecisionLog, n))
			}
			_ = a.fs.SyncDir(DecisionLog)
		}
	}
	upwards := func(d *PruneDetail) (all []uint64) {
		for n := d.FirstSegment; n <= d.LastSegment; n++ {
			all = append(all, n)
		}
		return all
	}
	downwards := func(d *PruneDetail) []uint64 {
		all := upwards(d)
		slices.Reverse(all)
		return all
	}
	young := func(a *Audit) { // what retention keeps
		a.upkeep.retention.Decision = -time.Hour
		a.housekeep(context.Background())
	}
	for name, c := range map[string]struct {
		lie     func(*disk)
		pass    func(*Audit)
		removal bool // the power goes at one of the removals, not anywhere
	}{
		"sealed form not synced": {func(d *disk) {
			d.ForgetsSync = func(name string) bool { return strings.Contains(name, segment.SealedSuffix) }
		}, houseKeeping, false},
		"names not synced":            {func(d *disk) { d.ForgetsSyncDir = true }, houseKeeping, false},
		"removed without a record":    {nil, silently, false},
		"removed before it is signed": {nil, hastily, false},
		"removed in one go":           {nil, atOnce(upwards), true},
		"removed newest first":        {nil, atOnce(downwards), true},
		"removed too young":           {nil, young, false},
	} {
		t.Run(name, func(t *testing.T) {
			rnd := randomness(t)
			for range 500 {
				d := newDisk(rnd)
				e := newEstate(t, d, 14, 8)
				e.config.Seal = c.lie != nil // the other mistakes are in pruning
				if c.lie != nil {
					c.lie(d)
				}
				m := d.boot(rnd.IntN(100), true)
				if c.removal {
					m = d.boot(-1, true)
					m.setFault(stopAtRemoval(d, 2+rnd.IntN(3)))
				}
				_ = e.keepHouse(m, c.pass)
				d.stop()
				if err := e.check(d.boot(-1, false)); err != nil {
					t.Logf("found: %v", err)
					return
				}
			}
			t.Error("not found in 500 power cuts")
		})
	}
}

// stopAtRemoval switches the machine off before the n-th segment of decisions is removed.
func stopAtRemoval(d *disk, n int) func(op, name string) error {
	return func(op, name string) error {
		if _, _, is := segment.Number(path.Base(name)); is && op == "remove" && path.Dir(name) == DecisionLog {
			if n--; n == 0 {
				d.stop()
			}
		}
		return nil
	}
}

// fullDisk is a FileSystem with room for so many bytes.
type fullDisk struct {
	*machine
	mu       sync.Mutex
	capacity int64
	files    map[string]*int64
}

func newFullDisk(m *machine) *fullDisk {
	return &fullDisk{machine: m, capacity: 1 << 40, files: map[string]*int64{}}
}

func (d *fullDisk) used() (n int64) {
	for _, size := range d.files {
		n += *size
	}
	return n
}

func (d *fullDisk) Space() (free, size uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return uint64(max(0, d.capacity-d.used())), uint64(d.capacity), nil
}

// leave lets only so many bytes be free from now on.
func (d *fullDisk) leave(free int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = d.used() + free
}

func (d *fullDisk) OpenFile(name string, flag int) (File, error) {
	f, err := d.machine.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil {
		d.files[name] = new(int64)
	}
	*d.files[name] = size
	return &fullFile{f, d, d.files[name]}, nil
}

func (d *fullDisk) Rename(from, to string) error {
	if err := d.machine.Rename(from, to); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[to] = d.files[from]
	delete(d.files, from)
	return nil
}

func (d *fullDisk) Remove(name string) error {
	if err := d.machine.Remove(name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	return nil
}

type fullFile struct {
	File
	disk *fullDisk
	size *int64
}

func (f *fullFile) WriteAt(b []byte, at int64) (int, error) {
	f.disk.mu.Lock()
	grown := max(0, at+int64(len(b))-*f.size)
	if f.disk.used()+grown > f.disk.capacity && grown > 0 {
		f.disk.mu.Unlock()
		return 0, syscall.ENOSPC
	}
	*f.size += grown
	f.disk.mu.Unlock()
	return f.File.WriteAt(b, at)
}

func (f *fullFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	*f.size = size
	f.disk.mu.Unlock()
	return f.File.Truncate(size)
}

var _ io.ReaderAt = (*fullFile)(nil)
