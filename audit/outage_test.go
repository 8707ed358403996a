package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit/segment"
)

// openSimulated opens an audit directory on a simulated disk, in a synctest bubble.
func openSimulated(t *testing.T) (*Audit, *machine) {
	t.Helper()
	m := newDisk(nil).boot(-1, false)
	return openTest(t, "unused", Options{FS: m, segmentSize: smallestSegment}), m
}

// records reads a whole log.
func records(t *testing.T, fs FileSystem, log string) []*Record {
	t.Helper()
	var all []*Record
	for e, err := range (&Reader{fs: fs, log: log}).All(context.Background(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Record.Seq != uint64(len(all)) {
			t.Fatalf("seq %d where %d should be", e.Record.Seq, len(all))
		}
		all = append(all, e.Record)
	}
	return all
}

func onlyWith(op string, err error) func(string, string) error {
	return func(asked, _ string) error {
		if asked == op {
			return err
		}
		return nil
	}
}

// AUD-02: a disk that cannot be written refuses everything at once, is asked again but not busily, and when it is
// back, so are we, without a restart.
func TestOutagesRefuseAndHeal(t *testing.T) {
	everything := func(err error) func(string, string) error {
		return func(string, string) error { return err }
	}
	for name, fault := range map[string]func(string, string) error{
		"full disk, write": onlyWith("write", syscall.ENOSPC),
		"full disk, sync":  onlyWith("sync", syscall.ENOSPC),
		"failing sync":     onlyWith("sync", syscall.EIO),
		"failing folder and sync": func(op, _ string) error {
			if op == "syncdir" || op == "sync" {
				return syscall.EIO
			}
			return nil
		},
		"read-only": everything(syscall.EROFS),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { outage(t, fault) })
		})
	}
}

func outage(t *testing.T, fault func(string, string) error) {
	a, m := openSimulated(t)
	var states []error
	a.OnState(func(err error) { states = append(states, err) })
	l := a.Decisions()
	mustAppend(t, l, "/before")

	m.setFault(fault)
	if _, err := l.Append(t.Context(), decision("/during")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("append during the outage: %v, want ErrUnavailable", err)
	}
	if err := a.Healthy(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("health during the outage: %v, want ErrUnavailable", err)
	}
	began, before := time.Now(), m.changes()
	if _, err := l.Append(t.Context(), decision("/during")); !errors.Is(err, ErrUnavailable) || time.Since(began) > 0 {
		t.Errorf("second append: %v after %v, want ErrUnavailable at once", err, time.Since(began))
	}
	if err := l.Post(t.Context(), &Record{Type: TypeOutcome, Outcome: &Outcome{Of: "x", Status: 200}}); err != nil {
		t.Errorf("post during the outage: %v", err)
	}
	time.Sleep(10 * time.Minute)
	if n := m.changes() - before; n < 60 || n > 2000 {
		t.Errorf("%d changes asked for in ten minutes: want a few per probe, and a probe every 5 s", n)
	}

	m.setFault(nil)
	time.Sleep(lastProbe)
	synctest.Wait()
	if err := a.Healthy(); err != nil {
		t.Errorf("health after the outage: %v", err)
	}
	mustAppend(t, l, "/after")
	checkOutageRecords(t, records(t, m, DecisionLog))
	if len(states) != 2 || states[0] == nil || states[1] != nil {
		t.Errorf("states told: %v, want one failure and one recovery", states)
	}
}

func checkOutageRecords(t *testing.T, all []*Record) {
	t.Helper()
	if len(all) != 4 || all[1].Code != CodeResumed || all[2].Type != TypeOutcome {
		t.Fatalf("%d records, want before, resumed, outcome, after", len(all))
	}
	var detail struct{ Refused uint64 }
	if err := json.Unmarshal(all[1].Detail, &detail); err != nil || detail.Refused != 2 {
		t.Errorf("resumed record says %s, want 2 refused", all[1].Detail)
	}
}

func mustAppend(t testing.TB, l *Log, path string) Receipt {
	t.Helper()
	r, err := l.Append(context.Background(), decision(path))
	if err != nil {
		t.Fatalf("appending %.60s: %v", path, err)
	}
	return r
}

// One sync that fails costs nothing but the rest of its segment, and what it left there never comes back: not for a
// reader, and not at the next start.
func TestFailedSyncGoesOnInANewSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk(nil).boot(-1, false)
		opts := quiet(Options{FS: m, segmentSize: smallestSegment})
		a, err := Open(Config{Dir: "unused"}, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close() // a second time, if all goes well
		mustAppend(t, a.Decisions(), "/1")
		var failed atomic.Bool
		m.setFault(func(op, name string) error {
			// The batch is in the file, whole, but nobody vouches for it; nor can the file be cut for now.
			if op == "truncate" || op == "sync" && strings.HasSuffix(name, segment.Suffix) && failed.CompareAndSwap(false, true) {
				return syscall.EIO
			}
			return nil
		})
		mustAppend(t, a.Decisions(), "/2")
		mustAppend(t, a.Decisions(), "/3")
		check := func() {
			if all := records(t, m, DecisionLog); len(all) != 3 {
				t.Errorf("%d records, want 3", len(all))
			}
			if numbers, _ := listSegments(m, DecisionLog); len(numbers) < 2 {
				t.Errorf("segments %v, want a second one", numbers)
			}
		}
		check()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		check()
		openTest(t, "unused", opts)
		check()
	})
}

// Records of an abandoned batch that was answered with an error give their numbers to others.
func TestAbandonedBatchIsNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		mustAppend(t, a.Decisions(), "/1")
		m.setFault(func(op, _ string) error {
			if op == "sync" || op == "truncate" {
				return syscall.EIO
			}
			return nil
		})
		if _, err := a.Decisions().Append(t.Context(), decision("/abandoned")); err == nil {
			t.Fatal("append was acknowledged without a sync")
		}
		m.setFault(onlyWith("truncate", syscall.EIO))
		time.Sleep(lastProbe)
		mustAppend(t, a.Decisions(), "/2")
		for _, r := range records(t, m, DecisionLog) {
			if strings.Contains(string(r.Input), "abandoned") {
				t.Errorf("seq %d is the abandoned record", r.Seq)
			}
		}
	})
}

// hang makes batches of the decision log hang in their sync until release.
func hang(m *machine) (release func()) {
	released := make(chan struct{})
	m.setFault(func(op, name string) error {
		if op == "sync" && strings.HasPrefix(name, DecisionLog) {
			<-released
		}
		return nil
	})
	return func() { m.setFault(nil); close(released) }
}

// A sync that hangs holds its callers for 5 s and others not at all. What becomes durable in the end is followed by a
// note that it had no effect.
func TestHangingSyncHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		l := a.Decisions()
		release := hang(m)
		began := time.Now()
		_, err := l.Append(t.Context(), decision("/late"))
		if took := time.Since(began); !errors.Is(err, ErrSlow) || took != slowCommit {
			t.Errorf("append: %v after %v, want ErrSlow after %v", err, took, slowCommit)
		}
		synctest.Wait()
		began = time.Now()
		_, err = l.Append(t.Context(), decision("/refused"))
		if took := time.Since(began); !errors.Is(err, ErrUnavailable) || took > 0 {
			t.Errorf("next append: %v after %v, want ErrUnavailable at once", err, took)
		}
		time.Sleep(time.Hour)
		release()
		synctest.Wait()
		mustAppend(t, l, "/after")

		all := records(t, m, DecisionLog)
		if len(all) != 4 {
			t.Fatalf("%d records, want late, its outcome, resumed, after", len(all))
		}
		checkNotForwarded(t, all[0], all[1])
		if all[2].Code != CodeResumed {
			t.Errorf("third record is %s %s, want resumed", all[2].Type, all[2].Code)
		}
	})
}

func checkNotForwarded(t *testing.T, r, outcome *Record) {
	t.Helper()
	if outcome.Type != TypeOutcome || outcome.Outcome.Of != r.ID || outcome.Outcome.Error != NotForwarded {
		t.Errorf("record %s is followed by %s %+v, want an outcome not_forwarded of it", r.ID, outcome.Type, outcome.Outcome)
	}
	if outcome.RequestID != r.RequestID || outcome.App != r.App {
		t.Errorf("outcome names request %q of app %q, want %q and %q", outcome.RequestID, outcome.App, r.RequestID, r.App)
	}
}

// A caller whose context ends does not wait, and its record too gets its outcome.
func TestCallerThatLeavesIsNotedAsNotForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		release := hang(m)
		gone := errors.New("the browser went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := a.Decisions().Append(ctx, decision("/left")); !errors.Is(err, gone) {
			t.Errorf("append: %v, want the context's cause", err)
		}
		release()
		synctest.Wait()
		all := records(t, m, DecisionLog)
		if len(all) != 2 {
			t.Fatalf("%d records, want the record and its outcome", len(all))
		}
		checkNotForwarded(t, all[0], all[1])
	})
}

// Close does not wait for ever for a disk that hangs, and then keeps the lock: the write may still happen.
func TestCloseOfAHangingDiskKeepsTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk(nil).boot(-1, false)
		a, err := Open(Config{Dir: "unused"}, quiet(Options{FS: m, segmentSize: smallestSegment}))
		if err != nil {
			t.Fatal(err)
		}
		release := hang(m)
		if err := a.Decisions().Post(t.Context(), decision("/")); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); !errors.Is(err, ErrSlow) {
			t.Errorf("close: %v, want ErrSlow", err)
		}
		if _, err := m.Lock(lockName); !errors.Is(err, ErrLocked) {
			t.Errorf("lock after close: %v, want ErrLocked", err)
		}
		release()
		<-a.Decisions().done
	})
}

// A full disk that lets the current segment live does not disturb; the next segment is prepared when there is room.
func TestNoRoomForTheNextSegmentYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		m.setFault(onlyWith("create", syscall.ENOSPC))
		big := strings.Repeat("x", 40<<10)
		mustAppend(t, a.Decisions(), big)
		mustAppend(t, a.Decisions(), big)
		time.Sleep(time.Minute)
		if err := a.Healthy(); err != nil {
			t.Errorf("health with room left in the segment: %v", err)
		}
		m.setFault(nil)
		time.Sleep(blankRetry)
		for range 5 {
			mustAppend(t, a.Decisions(), big)
		}
		if n := len(records(t, m, DecisionLog)); n != 7 {
			t.Errorf("%d records, want 7", n)
		}
	})
}

// What is posted without end while nothing can be written stays within bounds, and what was lost is counted.
func TestPostsDuringAnOutageAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk(nil).boot(-1, false)
		a := openTest(t, "unused", Options{FS: m, segmentSize: smallestSegment, maxQueued: 2 << 20})
		l := a.Decisions()
		m.setFault(onlyWith("sync", syscall.EIO))
		if _, err := l.Append(t.Context(), decision("/")); err == nil {
			t.Fatal("append was acknowledged without a sync")
		}
		big := decision(strings.Repeat("x", 50<<10))
		posted := 0
		for l.Post(t.Context(), big) == nil {
			posted++
		}
		if posted < 40 || posted > 2<<20/(50<<10) {
			t.Errorf("%d posts of 50 KiB accepted, want about 2 MiB of them", posted)
		}
		m.setFault(nil)
		time.Sleep(lastProbe)
		synctest.Wait()
		all := records(t, m, DecisionLog)
		if len(all) != posted+1 {
			t.Fatalf("%d records, want %d posts and the resumed record", len(all), posted)
		}
		if want := `"lost_outcomes":1}`; !strings.HasSuffix(string(all[0].Detail), want) {
			t.Errorf("resumed record says %s, want %s", all[0].Detail, want)
		}
	})
}

// AUD-10: order is seq, time is data. A clock that steps back is noted.
func TestClockStepsBack(t *testing.T) {
	var clock atomic.Int64
	clock.Store(time.Date(2026, 3, 29, 2, 30, 0, 0, time.UTC).UnixNano())
	m := newDisk(nil).boot(-1, false)
	opts := Options{FS: m, segmentSize: smallestSegment, Now: func() time.Time { return time.Unix(0, clock.Load()) }}
	a := openTest(t, "unused", opts)
	mustAppend(t, a.Decisions(), "/1")
	mustAppend(t, a.Decisions(), "/2") // in the same nanosecond
	clock.Add(-int64(time.Hour))
	mustAppend(t, a.Decisions(), "/3")
	mustAppend(t, a.Decisions(), "/4") // the note is in this batch or before it
	all := records(t, m, DecisionLog)
	ids := map[string]bool{}
	noted := false
	for _, r := range all {
		ids[r.ID] = true
		noted = noted || r.Code == CodeClockStepped
	}
	if len(all) != 5 || len(ids) != 5 {
		t.Fatalf("%d records with %d ids, want 5", len(all), len(ids))
	}
	if !noted {
		t.Error("the step is not in the log")
	}
	if !all[2].Time.Before(all[1].Time) {
		t.Errorf("times %v, %v: want what the clock said", all[1].Time, all[2].Time)
	}
}

// Callers come and go while the disk fails and heals: everybody gets an answer that the log confirms.
func TestAnswersHoldThroughOutages(t *testing.T) {
	rnd := randomness(t)
	m := newDisk(rnd).boot(-1, false)
	a := openTest(t, "unused", Options{FS: m, segmentSize: smallestSegment})
	var flaky atomic.Int64
	m.setFault(func(op, _ string) error {
		if op == "sync" && flaky.Add(1)%7 == 0 {
			return syscall.EIO
		}
		return nil
	})
	var mu sync.Mutex
	acked := map[uint64]string{}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range rounds(t, 20) {
				receipt, err := a.Decisions().Append(context.Background(), decision(fmt.Sprintf("/%d/%d", i, j)))
				if err != nil {
					continue
				}
				mu.Lock()
				acked[receipt.Seq] = receipt.ID
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	all := records(t, m, DecisionLog)
	for seq, id := range acked {
		if all[seq].ID != id {
			t.Errorf("seq %d is %s, acknowledged was %s", seq, all[seq].ID, id)
		}
	}
}
