package audit

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit/segment"
)

func TestSpaceReadsAsItPrints(t *testing.T) {
	for text, want := range map[string]Space{
		"0": {}, "10%": {percent: 10}, "2.5%": {percent: 2.5}, "20GiB": {bytes: 20 << 30}, "1TB": {bytes: 1e12}, "512": {bytes: 512}, "5 MB": {bytes: 5e6},
	} {
		var s, again Space
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is %+v, %v", text, s, err)
		}
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("%q prints as %q and reads back as %+v, %v", text, s, again, err)
		}
	}
	for _, bad := range []string{"", "%", "-1", "-1%", "100%", "NaN%", "1.5GiB", "99999999999TiB", "much"} {
		if err := new(Space).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	config := Config{Dir: "x", LowDisk: LowDisk{Warn: Space{percent: 5}, Critical: Space{percent: 6}}}
	if config.Check() == nil {
		t.Error("a critical threshold above the warning was accepted")
	}
}

func TestDirectoryKnowsItsSpace(t *testing.T) {
	d, err := OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if free, size, known := diskSpace(d); !known || size == 0 || free > size {
		t.Errorf("free %d of %d, known %v", free, size, known)
	}
}

// Low space is said once for each threshold, and again only when there was clearly more meanwhile.
func TestLowDiskIsSaidOnce(t *testing.T) {
	m := newFullDisk(newDisk(nil).boot(-1, false))
	lowDisk := LowDisk{Warn: Space{bytes: 100 << 20}, Critical: Space{bytes: 50 << 20}}
	a, err := Open(Config{Dir: "unused", LowDisk: lowDisk}, quiet(Options{FS: m, segmentSize: smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	for _, free := range []int64{200, 101, 99, 98, 101, 109, 99, 49, 40, 52, 45, 56, 90, 111, 99, 200} {
		m.leave(free << 20)
		a.housekeep(t.Context())
	}
	if s := a.Storage(); s.Free>>20 != 199 && s.Free>>20 != 200 || s.Level != "ok" {
		t.Errorf("storage says %+v", s)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, r := range records(t, m, ControlLog) {
		var d DiskDetail
		if r.Code == CodeDiskLow || r.Code == CodeDiskOK {
			if err := json.Unmarshal(r.Detail, &d); err != nil {
				t.Fatal(err)
			}
			said = append(said, d.Level)
		}
	}
	if got := strings.Join(said, " "); got != "warn critical warn ok warn ok" {
		t.Errorf("records say %s", got)
	}
}

// When the disk is full, the control log, whose segment is full as well, records just that in its reserve, and goes on there.
// The decision log refuses. When there is space again, all goes on, and there is a new reserve.
func TestFullDiskIsRecordedInTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFullDisk(newDisk(nil).boot(-1, false))
		a := openTest(t, "unused", Options{FS: m, segmentSize: smallestSegment})
		a.housekeep(t.Context())
		m.leave(1000)
		fill(t, a.Decisions(), 40<<10)
		fillTo(t, a.Control(), m, 40<<10)
		a.housekeep(t.Context())
		if err := a.control.Healthy(); err != nil {
			t.Fatalf("control log with a reserve: %v", err)
		}
		mustAppend(t, a.Control(), "/in the reserve")
		if err := a.Healthy(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("health with a full disk: %v", err)
		}
		if _, err := openReserve(m, ControlLog); err == nil {
			t.Error("the reserve is there and was used")
		}
		m.leave(1 << 30)
		time.Sleep(2 * lastProbe)
		a.housekeep(t.Context())
		if err := a.Healthy(); err != nil {
			t.Errorf("health with space again: %v", err)
		}
		mustAppend(t, a.Decisions(), "/after")
		if _, err := openReserve(m, ControlLog); err != nil {
			t.Errorf("reserve after: %v", err)
		}
		full := map[string]int{}
		for _, r := range records(t, m, ControlLog) {
			var d FullDetail
			if r.Code != CodeDiskFull {
				continue
			}
			if err := json.Unmarshal(r.Detail, &d); err != nil || d.Since.IsZero() {
				t.Errorf("record says %s", r.Detail)
			}
			full[d.Log]++
		}
		if full[DecisionLog] != 1 || full[ControlLog] != 1 {
			t.Errorf("records of a full disk: %v", full)
		}
	})
}

// fill appends until the log has no space for more.
func fill(t *testing.T, l *Log, size int) {
	t.Helper()
	for range 20 {
		if _, err := l.Append(t.Context(), decision(strings.Repeat("x", size))); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the disk is not full")
}

// fillTo appends to the control log until it is in its reserve.
func fillTo(t *testing.T, l *Log, fs FileSystem, size int) {
	t.Helper()
	for range 20 {
		mustAppend(t, l, strings.Repeat("x", size))
		if _, err := openReserve(fs, ControlLog); err != nil {
			return
		}
	}
	t.Fatal("the reserve is not used")
}

// The reserve takes more than the record it is for: as many as it has room for.
func TestReserveTakesWhatFits(t *testing.T) {
	m := newFullDisk(newDisk(nil).boot(-1, false))
	a := openTest(t, "unused", Options{FS: m, segmentSize: minSegmentSize})
	a.housekeep(t.Context())
	m.leave(1000)
	fillTo(t, a.Control(), m, 40<<10) // whose last record is the second in the reserve
	before := len(records(t, m, ControlLog))
	for range 3 {
		mustAppend(t, a.Control(), strings.Repeat("y", 20<<10))
	}
	if n := len(records(t, m, ControlLog)) - before; n != 3 {
		t.Errorf("%d more records in the reserve, want 3", n)
	}
}

// A power cut at every change while the disk is full and the reserve comes into use: what was acknowledged is there, and
// the next start, with space, makes a new reserve.
func TestReserveSurvivesEveryCrash(t *testing.T) {
	rnd := randomness(t)
	for ops, finished := 0, false; !finished; ops++ {
		var err error
		if finished, err = crashInReserve(newDisk(rnd), ops); err != nil {
			t.Fatalf("stopped at change %d: %v", ops, err)
		}
		if finished && ops < 10 {
			t.Errorf("only %d changes: the reserve was not used", ops)
		}
	}
}

// The same must find a reserve that was not made durable with what is in it.
func TestReserveCrashesFindMissingSyncs(t *testing.T) {
	rnd := randomness(t)
	for range 60 {
		for ops := range 25 {
			d := newDisk(rnd)
			d.ForgetsSync = func(name string) bool { return strings.HasSuffix(name, reserveBase) }
			if _, err := crashInReserve(d, ops); err != nil {
				t.Logf("found: %v", err)
				return
			}
		}
	}
	t.Error("the header and first record of the reserve were not synced, and it was not missed")
}

// crashInReserve stops the machine at a change after the disk was full.
func crashInReserve(d *disk, ops int) (finished bool, err error) {
	opts := quiet(Options{segmentSize: smallestSegment})
	opts.FS = d.boot(-1, false)
	a, err := Open(Config{Dir: "unused"}, opts)
	if err != nil {
		return false, err
	}
	ctx := context.Background()
	a.housekeep(ctx)
	for range 3 {
		if _, err := a.Control().Append(ctx, decision(strings.Repeat("x", 36<<10))); err != nil {
			return false, err
		}
	}
	if err := a.Close(); err != nil {
		return false, err
	}
	m := d.boot(-1, true)
	full := newFullDisk(m)
	opts.FS = full
	if a, err = Open(Config{Dir: "unused"}, opts); err != nil {
		return false, err
	}
	var acked []Receipt
	full.leave(1000)
	left := ops
	m.setFault(func(string, string) error {
		if left--; left < 0 {
			d.stop()
		}
		return nil
	})
	for i := range 5 {
		r, err := a.Control().Append(ctx, decision(strings.Repeat("y", 36<<10+i)))
		if err != nil {
			break
		}
		acked = append(acked, r)
	}
	finished = m.alive() == nil
	d.stop()
	_ = a.Close()
	if finished && len(acked) < 5 {
		return true, errors.New("the reserve did not take what it has room for")
	}
	opts.FS = d.boot(-1, false)
	if a, err = Open(Config{Dir: "unused"}, opts); err != nil {
		return finished, err
	}
	defer a.Close()
	a.housekeep(ctx)
	for _, r := range acked {
		e, err := OpenReaderFS(a.fs, ControlLog).Get(ctx, r.Seq)
		if err != nil {
			return finished, err
		}
		if e.Record.ID != r.ID {
			return finished, errors.New("another record has the seq of one that was acknowledged")
		}
	}
	if _, err := openReserve(a.fs, ControlLog); err != nil {
		return finished, err
	}
	return finished, nil
}

// A reserve that is not blank is no reserve.
func TestReserveThatIsNotBlankIsMadeAnew(t *testing.T) {
	a, m := openSimulated(t)
	a.housekeep(t.Context())
	f, err := m.OpenFile(reserveName(ControlLog), 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, segment.Block+5); err != nil {
		t.Fatal(err)
	}
	if _, err := openReserve(m, ControlLog); err == nil {
		t.Error("a reserve with something in it was taken")
	}
	a.housekeep(t.Context())
	if _, err := openReserve(m, ControlLog); err != nil {
		t.Errorf("after housekeeping: %v", err)
	}
}
