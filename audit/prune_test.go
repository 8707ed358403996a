package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// pruneDetails returns the details of the control records of a code.
func pruneDetails(t *testing.T, fs FileSystem, code string) []PruneDetail {
	t.Helper()
	var all []PruneDetail
	for e, err := range OpenReaderFS(fs, ControlLog).All(t.Context(), Filter{Code: code}) {
		if err != nil {
			t.Fatal(err)
		}
		var d PruneDetail
		if err := json.Unmarshal(e.Record.Detail, &d); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// What is old goes, whole segments at a time; what announces it says where both logs begin now, with the root of the tree
// before; and what is left reads as before.
func TestRetentionRemovesWhatIsOld(t *testing.T) {
	for _, seal := range []bool{false, true} {
		e := newEstate(t, newDisk(nil), 14, 8)
		e.config.Seal = seal
		m := e.disk.boot(-1, false)
		root := frontierOf(t, m, DecisionLog, e.young)
		if err := e.keepHouse(m, houseKeeping); err != nil {
			t.Fatal(err)
		}
		if err := e.check(m); err != nil {
			t.Fatal(err)
		}
		pruning, pruned := pruneDetails(t, m, CodePruning), pruneDetails(t, m, CodePruned)
		if len(pruning) != 1 || len(pruned) != 1 || fmt.Sprint(pruning) != fmt.Sprint(pruned) {
			t.Fatalf("announced %+v, done %+v", pruning, pruned)
		}
		d := pruning[0]
		first, err := openHeader(m, DecisionLog, d.LastSegment+1)
		if err != nil {
			t.Fatal(err)
		}
		if d.Log != DecisionLog || d.FirstSegment != 1 || d.FirstSeq != 0 || d.NextSeq != e.young || d.Reason != "retention" {
			t.Errorf("announced %+v, young is %d", d, e.young)
		}
		control := LogBegin{ControlLog, 1, 0, emptyRoot(t)}
		if want := []LogBegin{{DecisionLog, first.Number, e.young, root}, control}; !slices.Equal(d.Begins, want) {
			t.Errorf("begins are %+v, want %+v", d.Begins, want)
		}
		if b, err := OpenReaderFS(m, DecisionLog).Bounds(); err != nil || b.First != e.young || b.Header.Number != first.Number {
			t.Errorf("bounds are %+v, %v", b, err)
		}
	}
}

// frontierOf is the root of the tree of a log's first records.
func frontierOf(t *testing.T, fs FileSystem, log string, size uint64) string {
	t.Helper()
	numbers, err := listSegments(fs, log)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		if h, err := openHeader(fs, log, n); err == nil && h.FirstSeq() == size {
			return h.Before.Root().String()
		}
	}
	t.Fatalf("no segment begins at %d", size)
	return ""
}

func emptyRoot(t *testing.T) string {
	t.Helper()
	return new(segment.Header).Before.Root().String()
}

// Without a signature nothing goes: not of the records, and not of the announcement.
func TestNothingUnsignedIsPruned(t *testing.T) {
	e := newEstate(t, newDisk(nil), 14, 8)
	for _, c := range []struct {
		what      string
		decisions uint64
		announced int
	}{{"nothing", 0, 0}, {"two decisions", 2, 0}, {"the first segment", 3, 1}} {
		m := e.disk.boot(-1, false)
		a, err := e.open(m)
		if err != nil {
			t.Fatal(err)
		}
		a.upkeep.asSigned = func(log string) uint64 { return map[string]uint64{DecisionLog: c.decisions}[log] }
		for range 3 {
			a.housekeep(t.Context())
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := OpenReaderFS(m, DecisionLog).Bounds()
		if n := len(pruneDetails(t, m, CodePruning)); err != nil || b.First != 0 || n != c.announced {
			t.Errorf("%s signed: log begins at %d, announced %d times, want %d: %v", c.what, b.First, n, c.announced, err)
		}
	}
}

// The control log may be pruned like the other one. Its announcements go with it, and the newest speaks for both logs.
func TestPrunedControlLogStillSpeaksForBoth(t *testing.T) {
	e := newEstate(t, newDisk(nil), 14, 8)
	if err := e.keepHouse(e.disk.boot(-1, false), houseKeeping); err != nil {
		t.Fatal(err)
	}
	e.now = e.now.Add(dayOld)
	for range 3 { // each run begins a segment
		if err := e.keepHouse(e.disk.boot(-1, false), houseKeeping); err != nil {
			t.Fatal(err)
		}
	}
	e.now, e.config.Retention = e.now.Add(2*time.Hour), Retention{Control: time.Hour}
	m := e.disk.boot(-1, false)
	if err := e.keepHouse(m, houseKeeping); err != nil {
		t.Fatal(err)
	}
	if err := e.check(m); err != nil {
		t.Error(err)
	}
	left := pruneDetails(t, m, CodePruning)
	if b, err := OpenReaderFS(m, ControlLog).Bounds(); err != nil || b.First == 0 || len(left) != 1 || left[0].Log != ControlLog {
		t.Errorf("control log begins at %d and has the announcements %+v: %v", b.First, left, err)
	}
}

// A removal that a crash cut off goes on after the next start, announced again for what is left.
func TestInterruptedPruningGoesOn(t *testing.T) {
	e := newEstate(t, newDisk(nil), 14, 8)
	m := e.disk.boot(-1, false)
	a, err := e.open(m)
	if err != nil {
		t.Fatal(err)
	}
	a.housekeep(t.Context())
	d := *a.upkeep.pending[DecisionLog]
	ctx, cancel := context.WithCancelCause(t.Context())
	removed := 0
	m.setFault(func(op, name string) error {
		if op == "remove" && strings.HasPrefix(name, DecisionLog) {
			if removed++; removed == 2 {
				cancel(errPower)
			}
		}
		return nil
	})
	if err := a.removeSegments(ctx, &d.detail); !errors.Is(err, errPower) {
		t.Fatal(err)
	}
	m.setFault(nil)
	if err := errors.Join(e.sign(a), a.Close()); err != nil {
		t.Fatal(err)
	}
	if err := e.check(m); err != nil {
		t.Error(err)
	}
	if err := e.keepHouse(m, houseKeeping); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.check(m), e.settled(m)); err != nil {
		t.Error(err)
	}
	all := pruneDetails(t, m, CodePruning)
	if len(all) != 2 || all[1].FirstSegment <= all[0].FirstSegment || all[1].LastSegment != all[0].LastSegment {
		t.Errorf("announced %+v", all)
	}
}

// A clock that was wrong for a while, so that records seem old, costs none of them: what is before them is newer and stays.
func TestWrongClockPrunesNothing(t *testing.T) {
	e := newEstate(t, newDisk(nil), 0, 8)
	right := e.now
	e.now = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	m := e.disk.boot(-1, false)
	for range 2 {
		a, err := e.open(m)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, a.Decisions(), "/old?")
		if err := errors.Join(e.sign(a), a.Close()); err != nil {
			t.Fatal(err)
		}
	}
	e.now = right
	if err := e.keepHouse(m, houseKeeping); err != nil {
		t.Fatal(err)
	}
	if b, err := OpenReaderFS(m, DecisionLog).Bounds(); err != nil || b.First != 0 {
		t.Errorf("log begins at %d, %v", b.First, err)
	}
}

// A reader goes on while segments are sealed and pruned under it: no record twice, none out of order, and what it passes
// over was pruned.
func TestReadersSurviveHousekeeping(t *testing.T) {
	rnd := randomness(t)
	for range rounds(t, 5) {
		e := newEstate(t, newDisk(rnd), 14, 8)
		m := e.disk.boot(-1, false)
		a, err := e.open(m)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		end := a.Decisions().Records() + 4
		var seqs []uint64
		for entry, err := range OpenReaderFS(m, DecisionLog).Follow(ctx, Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, entry.Record.Seq)
			if rnd.IntN(2) == 0 {
				a.housekeep(ctx)
				if err := e.sign(a); err != nil {
					t.Fatal(err)
				}
			}
			if a.Decisions().Records() < end {
				mustAppend(t, a.Decisions(), strings.Repeat("n", 40<<10))
			}
			if entry.Record.Seq == end-1 {
				cancel()
			}
		}
		for i, seq := range seqs {
			if i > 0 && seq != seqs[i-1]+1 && (seq != e.young || seqs[i-1] > e.young) {
				t.Errorf("seq %d after %d, and %d is the first that is not pruned", seq, seqs[i-1], e.young)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Single records, by seq and by place, from a log that begins late; and none that is not there.
func TestRecordsOfAPrunedLog(t *testing.T) {
	e := newEstate(t, newDisk(nil), 14, 8)
	m := e.disk.boot(-1, false)
	old, err := OpenReaderFS(m, DecisionLog).Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.keepHouse(m, houseKeeping); err != nil {
		t.Fatal(err)
	}
	r := OpenReaderFS(m, DecisionLog)
	b, err := r.Bounds()
	if err != nil || b.First != e.young || b.Next <= b.First {
		t.Fatalf("bounds %+v, %v", b, err)
	}
	for seq := range b.Next + 2 {
		entry, err := r.Get(t.Context(), seq)
		if seq < b.First || seq >= b.Next {
			if !errors.Is(err, ErrNoRecord) {
				t.Errorf("seq %d, which is not there: %v", seq, err)
			}
			continue
		}
		if err != nil || string(entry.Raw) != e.lines[DecisionLog][seq] {
			t.Errorf("seq %d: %v", seq, err)
			continue
		}
		again, err := r.At(t.Context(), entry.Position)
		if err != nil || again.Record.Seq != seq {
			t.Errorf("at %+v: %v", entry.Position, err)
		}
	}
	last, err := r.Get(t.Context(), b.Next-1)
	if err != nil {
		t.Fatal(err)
	}
	beyond, between := last.Position, last.Position
	beyond.Line++
	between.Offset++
	for _, p := range []Position{old.Position, beyond, between, {Segment: 99, Offset: segment.Block}, {}} {
		if _, err := r.At(t.Context(), p); !errors.Is(err, ErrNoRecord) {
			t.Errorf("at %+v, where none is: %v", p, err)
		}
	}
	n := 0
	for line, err := range r.Lines(t.Context(), 0) {
		if err != nil || line.Seq != b.First+uint64(n) {
			t.Errorf("line %d is seq %d, %v", n, line.Seq, err)
		}
		n++
	}
	if n != int(b.Next-b.First) {
		t.Errorf("%d lines", n)
	}
}

// Reading from any seq on gives the same, however the log is cut into batches and segments.
func TestReadingFromAnySeq(t *testing.T) {
	rnd := randomness(t)
	m := newDisk(nil).boot(-1, false)
	a := openTest(t, "unused", Options{FS: m, segmentSize: 3 << 20})
	for range 150 {
		for range rnd.IntN(30) {
			_ = a.Decisions().Post(t.Context(), decision(strings.Repeat("p", rnd.IntN(3000))))
		}
		mustAppend(t, a.Decisions(), strings.Repeat("a", rand.N(9000)))
	}
	all := records(t, m, DecisionLog)
	r := OpenReaderFS(m, DecisionLog)
	for range 60 {
		from := rnd.Uint64N(uint64(len(all)))
		to := from + 1 + rnd.Uint64N(30)
		next := from
		for e, err := range r.All(t.Context(), Filter{FromSeq: from, ToSeq: to}) {
			if err != nil || e.Record.Seq != next || e.Record.ID != all[next].ID {
				t.Fatalf("from %d: %v, want seq %d", from, err, next)
			}
			next++
		}
		if next != min(to, uint64(len(all))) {
			t.Errorf("from %d to %d ends at %d of %d", from, to, next, len(all))
		}
		if e, err := r.Get(t.Context(), from); err != nil || e.Record.ID != all[from].ID {
			t.Errorf("seq %d: %v", from, err)
		}
	}
}

// All together: a gateway that keeps its logs signs, seals and prunes them; the next one starts on what is left, and proofs
// of the records that are left still lead to the signed root.
func TestKeptLogsAreSealedAndPruned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk(nil).boot(-1, false)
		keys := newKeyProcess()
		config := Config{Dir: "unused", Seal: true, Retention: Retention{Decision: time.Hour, Control: time.Hour}}
		for range 3 {
			a, err := Open(config, quiet(Options{FS: m, segmentSize: smallestSegment}))
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Attach(t.Context(), keys); err != nil {
				t.Fatal(err)
			}
			stop := keeping(t, a, Keeping{Signer: keys, Heartbeat: 10 * time.Minute, Checkpoint: time.Minute})
			for range 8 {
				mustAppend(t, a.Decisions(), strings.Repeat("x", 40<<10))
			}
			time.Sleep(90 * time.Minute)
			synctest.Wait()
			s := a.Storage()
			stop()
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if s.Sealed == 0 || s.Pruned == 0 {
				t.Errorf("storage says %+v", s)
			}
		}
		r := OpenReaderFS(m, DecisionLog)
		b, err := r.Bounds()
		if err != nil || b.First == 0 || b.First >= b.Next {
			t.Fatalf("bounds %+v, %v", b, err)
		}
		opened, err := r.Tree()
		if err != nil {
			t.Fatal(err)
		}
		_, cp := opened.Checkpoint()
		for seq := b.First; seq < b.Next; seq++ {
			e, err := r.Get(t.Context(), seq)
			if err != nil {
				t.Fatal(err)
			}
			leaf, proof, err := opened.Inclusion(t.Context(), seq)
			if err == nil {
				err = tree.VerifyInclusion(seq, cp.Size, leaf, proof, cp.Root)
			}
			if err != nil || leaf != tree.HashLeaf(e.Raw) {
				t.Errorf("proof of seq %d: %v", seq, err)
			}
		}
	})
}
