package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"sallyport/audit/segment"
)

// readings is what a reader says of a log in all its ways.
func readings(t *testing.T, fs FileSystem, log string, rnd *rand.Rand) []string {
	t.Helper()
	var said []string
	say := func(e Entry, err error) {
		if err != nil {
			said = append(said, "error: "+err.Error())
			return
		}
		said = append(said, fmt.Sprint(e.Record.Seq, e.Position, string(e.Raw)))
	}
	r := OpenReaderFS(fs, log)
	b, err := r.Bounds()
	if err != nil {
		t.Fatal(err)
	}
	said = append(said, fmt.Sprint(b.First, b.Next))
	for e, err := range r.All(t.Context(), Filter{}) {
		say(e, err)
	}
	for line, err := range r.Lines(t.Context(), b.First+(b.Next-b.First)/2) {
		said = append(said, fmt.Sprint(line.Seq, line.Position, string(line.Raw), err))
	}
	from, to := rnd.Uint64N(b.Next+1), rnd.Uint64N(b.Next+1)
	for e, err := range r.All(t.Context(), Filter{FromSeq: from, ToSeq: to, Where: func(r *Record) bool { return r.Seq%3 > 0 }}) {
		say(e, err)
	}
	for e, err := range r.All(t.Context(), Filter{Last: 1 + rnd.IntN(9)}) {
		say(e, err)
	}
	for range 5 {
		e, err := r.Get(t.Context(), rnd.Uint64N(b.Next+2))
		say(e, err)
		if err == nil {
			say(r.At(t.Context(), e.Position))
		}
	}
	return said
}

// Sealing changes nothing of what a reader says: random logs, read in every way before and after.
func TestSealedLogsReadAsBefore(t *testing.T) {
	rnd := randomness(t)
	for range rounds(t, 4) {
		e := newEstate(t, newDisk(rnd), rnd.IntN(16), rnd.IntN(8))
		e.config.Retention = Retention{}
		m := e.disk.boot(-1, false)
		again := rnd.Uint64()
		before := map[string][]string{}
		for _, log := range []string{DecisionLog, ControlLog} {
			before[log] = readings(t, m, log, rand.New(rand.NewPCG(again, 0)))
		}
		if err := e.keepHouse(m, houseKeeping); err != nil {
			t.Fatal(err)
		}
		sealed := 0
		for _, log := range []string{DecisionLog, ControlLog} {
			if after := readings(t, m, log, rand.New(rand.NewPCG(again, 0))); !slices.Equal(after, before[log]) {
				t.Errorf("%s reads otherwise than before", log)
			}
			list, err := listForms(m, log)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range list {
				if f.sealed && !f.raw {
					sealed++
				}
			}
		}
		if sealed < 2 {
			t.Fatalf("%d segments were sealed: the test shows nothing", sealed)
		}
	}
}

// openSealedDir is a gateway on a real directory with several segments, of which signed records count as signed.
func openToSeal(t *testing.T, records int) (*Audit, string) {
	t.Helper()
	dir := t.TempDir()
	a, err := Open(Config{Dir: dir, Seal: true}, quiet(Options{segmentSize: smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	a.upkeep.asSigned = func(string) uint64 { return 1 << 40 }
	a.upkeep.slower = func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }
	for i := range records {
		mustAppend(t, a.Decisions(), fmt.Sprint(i, strings.Repeat("x", 40<<10)))
	}
	return a, dir
}

// A sealed segment is what any zstd makes of it: exactly the segment up to its end.
func TestSealedFileIsTheSegment(t *testing.T) {
	a, dir := openToSeal(t, 7)
	name := filepath.Join(dir, segment.Name(DecisionLog, 1))
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	next, err := openHeader(a.fs, DecisionLog, 2)
	if err != nil {
		t.Fatal(err)
	}
	a.housekeep(t.Context())
	b, err := os.ReadFile(filepath.Join(dir, segment.SealedName(DecisionLog, 1)))
	if err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	if got, err := dec.DecodeAll(b, nil); err != nil || string(got) != string(raw[:next.PrevEnd]) {
		t.Errorf("sealed file holds %d bytes, the segment had %d: %v", len(got), next.PrevEnd, err)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the raw segment is still there: %v", err)
	}
	if s := a.Storage(); s.Sealed != 2 || s.SealedTo != uint64(len(b))*2 && s.SealedTo == 0 || s.SealedFrom < uint64(next.PrevEnd) {
		t.Errorf("storage says %+v", s)
	}
}

// Only what a signed checkpoint covers is sealed, and never the newest segment.
func TestOnlySignedSegmentsAreSealed(t *testing.T) {
	a, _ := openToSeal(t, 10) // of three a segment
	for signed, want := range map[uint64]int{0: 0, 2: 0, 3: 1, 5: 1, 6: 2, 1 << 40: 3} {
		a.upkeep.asSigned = func(string) uint64 { return signed }
		list, err := listForms(a.fs, DecisionLog)
		if err != nil {
			t.Fatal(err)
		}
		before := countSealed(list)
		a.housekeep(t.Context())
		if list, err = listForms(a.fs, DecisionLog); err != nil {
			t.Fatal(err)
		}
		if n := countSealed(list); n != max(before, want) || list[len(list)-1].sealed {
			t.Errorf("%d segments are sealed with %d records signed, want %d", n, signed, max(before, want))
		}
	}
}

func countSealed(list []forms) (n int) {
	for _, f := range list {
		if f.sealed {
			n++
		}
	}
	return n
}

// A segment that is damaged is not sealed: it stays for people to look at.
func TestDamagedSegmentIsNotSealed(t *testing.T) {
	a, dir := openToSeal(t, 7)
	flip(t, filepath.Join(dir, segment.Name(DecisionLog, 1)), segment.Block+100)
	a.housekeep(t.Context())
	a.housekeep(t.Context())
	list, err := listForms(a.fs, DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	if list[0].sealed || !list[0].raw || !list[1].sealed {
		t.Errorf("segments are %+v, want the first raw and the second sealed", list)
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// A bit that turned in a sealed segment is found by whoever reads it, with file and place, and by the next start.
func TestDamagedSealedSegmentIsFound(t *testing.T) {
	for _, at := range []int64{10, 300, -5, -60} {
		a, dir := openToSeal(t, 7)
		a.housekeep(t.Context())
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		name := segment.SealedName(DecisionLog, 1)
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		flip(t, filepath.Join(dir, name), (at+info.Size())%info.Size())
		var found error
		for _, err := range openReader(t, dir).Lines(t.Context(), 0) {
			found = err
		}
		if damage, ok := errors.AsType[*Damage](found); !ok || damage.File != name {
			t.Errorf("reading with byte %d turned: %v", at, found)
		}
		if _, err := Open(Config{Dir: dir}, quiet(Options{segmentSize: smallestSegment})); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("starting with byte %d turned: %v", at, err)
		}
	}
}

// The newest segment has no successor, and is never sealed. Somebody took the ones after it away.
func TestSealedSegmentWithoutSuccessorIsDamage(t *testing.T) {
	a, dir := openToSeal(t, 7)
	a.housekeep(t.Context())
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, segment.Name(DecisionLog, 3))); err != nil {
		t.Fatal(err)
	}
	var found error
	for _, err := range openReader(t, dir).Lines(t.Context(), 0) {
		found = err
	}
	if _, ok := errors.AsType[*Damage](found); !ok {
		t.Errorf("reading: %v", found)
	}
	_, err := Open(Config{Dir: dir}, quiet(Options{segmentSize: smallestSegment}))
	if _, ok := errors.AsType[*Damage](err); !ok {
		t.Errorf("starting: %v", err)
	}
}

// Where both forms are there, the raw one is read. The sealed one stays when it holds what the next segment says it must,
// and is made again when not; only then the raw one goes.
func TestBothFormsOfASegment(t *testing.T) {
	a, dir := openToSeal(t, 7)
	rawName, sealedName := filepath.Join(dir, segment.Name(DecisionLog, 1)), filepath.Join(dir, segment.SealedName(DecisionLog, 1))
	raw, err := os.ReadFile(rawName)
	if err != nil {
		t.Fatal(err)
	}
	a.housekeep(t.Context())
	whole, err := os.ReadFile(sealedName)
	if err != nil {
		t.Fatal(err)
	}
	for what, sealed := range map[string][]byte{
		"whole": whole, "cut short": whole[:len(whole)/2], "empty": nil, "another file": []byte("other"),
	} {
		if err := errors.Join(os.WriteFile(rawName, raw, 0o600), os.WriteFile(sealedName, sealed, 0o600)); err != nil {
			t.Fatal(err)
		}
		if n := len(records(t, a.fs, DecisionLog)); n != 7 {
			t.Errorf("%s: %d records with both forms there", what, n)
		}
		a.upkeep.resting = map[string]time.Time{}
		a.housekeep(t.Context())
		got, err := os.ReadFile(sealedName)
		if err != nil || string(got) != string(whole) {
			t.Errorf("%s: sealed form was not made again: %v", what, err)
		}
		if _, err := os.Stat(rawName); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: raw form is still there", what)
		}
	}
}

// A start and a stop in the middle of sealing leave the raw segment and nothing else, and what sealing needs is left to the
// logs when it is scarce.
func TestSealingGivesWay(t *testing.T) {
	a, dir := openToSeal(t, 7)
	ctx, cancel := context.WithCancel(t.Context())
	a.upkeep.slower = func(ctx context.Context, _ time.Duration) error {
		cancel()
		return context.Cause(ctx)
	}
	a.housekeep(ctx)
	names, err := filepath.Glob(filepath.Join(dir, "decision", "*.zst*"))
	if err != nil || len(names) > 0 {
		t.Errorf("stopped in the middle, sealing left %v, %v", names, err)
	}
	m := newFullDisk(newDisk(nil).boot(-1, false))
	b, err := Open(Config{Dir: "unused", Seal: true}, quiet(Options{FS: m, segmentSize: smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.upkeep.asSigned = func(string) uint64 { return 1 << 40 }
	for range 7 {
		mustAppend(t, b.Decisions(), strings.Repeat("x", 40<<10))
	}
	m.leave(smallestSegment)
	b.housekeep(t.Context())
	if s := b.Storage(); s.Sealed > 0 {
		t.Errorf("%d segments were sealed on a disk without room", s.Sealed)
	}
	m.leave(1 << 30)
	b.housekeep(t.Context())
	if s := b.Storage(); s.Sealed == 0 {
		t.Error("no segment was sealed on a disk with room")
	}
}

// A disk that fails while a segment is sealed costs nothing, and it is tried again later.
func TestSealingThatFailsIsTriedAgain(t *testing.T) {
	m := newDisk(nil).boot(-1, false)
	var clock testClock
	a, err := Open(Config{Dir: "unused", Seal: true}, quiet(Options{FS: m, segmentSize: smallestSegment, Now: clock.now}))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.upkeep.asSigned = func(string) uint64 { return 1 << 40 }
	for range 4 {
		mustAppend(t, a.Decisions(), strings.Repeat("x", 40<<10))
	}
	for _, failing := range []string{"create", "write", "sync", "rename"} {
		m.setFault(func(op, name string) error {
			if op == failing && strings.Contains(name, segment.SealedSuffix) {
				return syscall.EIO
			}
			return nil
		})
		a.housekeep(t.Context())
		if list, err := listForms(m, DecisionLog); err != nil || list[0].sealed || !list[0].raw {
			t.Errorf("%s fails: segments are %+v, %v", failing, list, err)
		}
		m.setFault(nil)
		a.housekeep(t.Context())
		if s := a.Storage(); s.Sealed > 0 {
			t.Errorf("%s failed a moment ago and sealing was tried again", failing)
		}
		clock.add(upkeepRetry)
	}
	a.housekeep(t.Context())
	if s := a.Storage(); s.Sealed != 1 {
		t.Errorf("%d segments were sealed in the end, want 1", s.Sealed)
	}
}

// While the folder cannot be synced the sealed form may lose its name in a power cut, so the raw one stays, also when the
// sealed one was found by a later look.
func TestRawSegmentStaysUntilTheFolderIsSynced(t *testing.T) {
	m := newDisk(nil).boot(-1, false)
	var clock testClock
	a, err := Open(Config{Dir: "unused", Seal: true}, quiet(Options{FS: m, segmentSize: smallestSegment, Now: clock.now}))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.upkeep.asSigned = func(string) uint64 { return 1 << 40 }
	for range 4 {
		mustAppend(t, a.Decisions(), strings.Repeat("x", 40<<10))
	}
	m.setFault(func(op, name string) error {
		if op == "syncdir" {
			return syscall.EIO
		}
		return nil
	})
	for range 3 {
		a.housekeep(t.Context())
		clock.add(upkeepRetry)
		if list, err := listForms(m, DecisionLog); err != nil || !list[0].raw || !list[0].sealed {
			t.Fatalf("segments are %+v, %v", list, err)
		}
	}
	m.setFault(nil)
	a.housekeep(t.Context())
	if list, err := listForms(m, DecisionLog); err != nil || list[0].raw || !list[0].sealed {
		t.Errorf("in the end segments are %+v, %v", list, err)
	}
}

// testClock stands still until it is moved, by anyone.
type testClock struct{ passed atomic.Int64 }

func (c *testClock) now() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(c.passed.Load()))
}

func (c *testClock) add(d time.Duration) { c.passed.Add(int64(d)) }
