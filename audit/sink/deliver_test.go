package sink

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit"
)

// bubble runs one sink with a fake receiver where time passes at once.
func bubble(t *testing.T, test func(t *testing.T, s *shelf, f *fake, log *book)) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		test(t, s, &fake{shelf: s}, newBook(audit.DecisionLog, 100))
	})
}

func refuse(status int, bad func(item) bool) func(context.Context, []item) error {
	return func(_ context.Context, items []item) error {
		if slices.ContainsFunc(items, bad) {
			return &verdict{status: status, refused: true}
		}
		return nil
	}
}

// One record that the receiver refuses is put on record and given up; all others arrive, in order, and none twice.
func TestRefusedRecordDoesNotBlock(t *testing.T) {
	for _, status := range []int{400, 413, 422} {
		bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
			f.answer = refuse(status, func(it item) bool { return it.seq == 40 || it.seq == 41 })
			sinks, _ := run(t, options(newMachine(), s, f, log), config("siem"))
			synctest.Wait()
			s.await(t, "delivery", func() bool { return len(s.seqs(log.name)) == 98 })
			if got := s.seqs(log.name); slices.Contains(got, 40) || !slices.IsSorted(got) {
				t.Errorf("%d: delivered %v", status, got)
			}
			time.Sleep(time.Second) // until the cursor is there
			want := Note{Sink: "siem", Log: log.name, From: 40, To: 41, Count: 2, IDs: []string{"decision-40", "decision-41"}}
			n := s.noted(CodeDropped)
			if len(n) != 1 || n[0].From != want.From || n[0].To != want.To || n[0].Count != 2 || !slices.Equal(n[0].IDs, want.IDs) || n[0].Why == "" {
				t.Errorf("%d: put on record %+v, want %+v", status, n, want)
			}
			if l := sinks.Lags()[0]; l.Records != 0 || l.Dropped != 2 || l.Delivered != 98 || !l.Failing.IsZero() {
				t.Errorf("%d: %+v", status, l)
			}
		})
	}
}

// A receiver that refuses everything is asked for a while before anything is given up, and nothing is given up that could
// not be put on record.
func TestNothingIsDroppedOffTheRecord(t *testing.T) {
	bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
		f.answer = refuse(400, func(item) bool { return true })
		s.failing = errors.New("the log is unavailable")
		o := options(newMachine(), s, f, log)
		o.retry = firstRetry
		sinks, _ := run(t, o, config("siem"))
		time.Sleep(5 * time.Second)
		if l := sinks.Lags()[0]; l.Dropped != 0 || !strings.Contains(l.Error, "400") {
			t.Errorf("after a few seconds: %+v, want nothing dropped", l)
		}
		time.Sleep(time.Hour)
		if l := sinks.Lags()[0]; l.Dropped != 0 || l.Records != 100 {
			t.Errorf("while nothing can be recorded: %+v, want nothing dropped", l)
		}
		s.mu.Lock()
		s.failing = nil
		s.mu.Unlock()
		time.Sleep(time.Hour)
		if l := sinks.Lags()[0]; l.Dropped != 100 || l.Records != 0 {
			t.Errorf("%+v, want all dropped", l)
		}
		dropped := uint64(0)
		for _, n := range s.noted(CodeDropped) {
			dropped += n.Count
		}
		if dropped != 100 {
			t.Errorf("%d drops on record, want 100", dropped)
		}
	})
}

// A receiver that asks to be left alone is, but not for longer than a quarter of an hour.
func TestRetryAfterIsHeeded(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{0: 0, 90 * time.Second: 90 * time.Second, 1000 * time.Hour: maxRetryAfter} {
		bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
			var tries []time.Time
			f.answer = func(context.Context, []item) error {
				if tries = append(tries, time.Now()); len(tries) == 1 {
					return &verdict{status: 429, after: asked}
				}
				return nil
			}
			run(t, options(newMachine(), s, f, log), config("siem"))
			time.Sleep(time.Hour)
			synctest.Wait()
			if took := tries[1].Sub(tries[0]); took < want || took > want+time.Second {
				t.Errorf("asked for %s, came back after %s", asked, took)
			}
		})
	}
}

// Waits grow up to a minute while the receiver is down, so that it is found within a minute when it is back; meanwhile the
// lag says since when and why.
func TestBackoffGrowsToAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
		var mu sync.Mutex
		var tries []time.Time
		var down atomic.Bool
		down.Store(true)
		f.answer = func(context.Context, []item) error {
			mu.Lock()
			defer mu.Unlock()
			tries = append(tries, time.Now())
			if down.Load() {
				return errDown
			}
			return nil
		}
		o := options(newMachine(), s, f, log)
		o.retry = firstRetry
		began := time.Now()
		sinks, _ := run(t, o, config("siem"))
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		tried := slices.Clone(tries)
		mu.Unlock()
		var longest time.Duration
		for i := range tried[1:] {
			wait := tried[i+1].Sub(tried[i])
			if longest = max(longest, wait); i < 5 && wait > firstRetry<<i {
				t.Errorf("wait %d is %s", i, wait)
			}
		}
		if n := len(tried); n < 60 || n > 140 || longest > maxRetry || longest < maxRetry/2 {
			t.Errorf("%d tries in an hour, at most %s apart", n, longest)
		}
		l := sinks.Lags()[0]
		if l.Records != 100 || l.Error != errDown.Error() || l.Failing.Before(began) || l.Failing.After(began.Add(time.Second)) {
			t.Errorf("%+v", l)
		}
		down.Store(false)
		time.Sleep(maxRetry + time.Second)
		if l := sinks.Lags()[0]; l.Records != 0 || l.Error != "" || l.Logs[0].Next != 100 {
			t.Errorf("%+v after the receiver is back", l)
		}
	})
}

// A receiver that hangs costs a timeout, and neither the log nor more memory than a batch.
func TestHangingReceiverHoldsNothingUp(t *testing.T) {
	bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
		var hangs atomic.Bool
		hangs.Store(true)
		f.answer = func(ctx context.Context, _ []item) error {
			if hangs.Load() {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}
		sinks, _ := run(t, options(newMachine(), s, f, log), config("siem"))
		log.write(5000)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		l := sinks.Lags()[0]
		if l.Records != 5100 || l.Error != errTimeout.Error() {
			t.Errorf("%+v", l)
		}
		if ahead := sinks.runners[0].state.reading(log.name); ahead > 7+queued+1 {
			t.Errorf("%d records were read ahead", ahead)
		}
		hangs.Store(false)
		time.Sleep(10 * time.Minute)
		if err := complete(s.seqs(log.name), 0, 5100); err != nil {
			t.Error(err)
		}
	})
}

// A receiver that is too slow for a batch gets smaller ones, and everything in the end.
func TestSlowReceiverGetsSmallerBatches(t *testing.T) {
	bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
		f.answer = func(ctx context.Context, items []item) error {
			if rest(ctx, time.Duration(len(items))*10*time.Millisecond) {
				return nil
			}
			return context.Cause(ctx)
		}
		c := config("siem")
		c.BatchRecords, c.Timeout = 500, time.Second
		log.write(900)
		run(t, options(newMachine(), s, f, log), c)
		time.Sleep(5 * time.Minute)
		if err := complete(s.seqs(log.name), 0, 1000); err != nil {
			t.Error(err)
		}
		if n := len(s.seqs(log.name)); n != 1000 {
			t.Errorf("%d arrived, want each of 1000 once", n)
		}
	})
}

// Records that were pruned before they could be shipped are put on record, before anything that comes after them.
func TestPrunedRecordsAreOnRecord(t *testing.T) {
	bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
		var down atomic.Bool
		f.answer = func(context.Context, []item) error {
			if down.Load() {
				return errDown
			}
			return nil
		}
		m := newMachine()
		sinks, end := run(t, options(m, s, f, log), config("siem"))
		time.Sleep(time.Minute)
		down.Store(true)
		log.write(1000)
		time.Sleep(time.Minute) // some are read, and wait
		log.prune(900)
		down.Store(false)
		time.Sleep(time.Minute)
		n := s.noted(CodeGap)
		if len(n) != 1 || n[0].Log != log.name || n[0].To != 899 || n[0].Count != 900-n[0].From {
			t.Fatalf("put on record %+v, want a gap up to 899", n)
		}
		var want []uint64
		for seq := range uint64(1100) {
			if seq < n[0].From || seq >= 900 {
				want = append(want, seq)
			}
		}
		if got := s.seqs(log.name); !slices.Equal(got, want) {
			t.Errorf("delivered %v", got)
		}
		if l := sinks.Lags()[0]; l.Missed != n[0].Count || l.Records != 0 {
			t.Errorf("%+v", l)
		}
		end()
		log.write(100)
		log.prune(1150)
		run(t, options(m, s, f, log), config("siem"))
		time.Sleep(time.Minute)
		if n := s.noted(CodeGap); len(n) != 2 || n[1].From != 1100 || n[1].To != 1149 {
			t.Errorf("put on record %+v, want a gap from 1100 to 1149 when it starts again", n)
		}
	})
}

// A filter passes over records; the cursor moves past them all the same, and what is redacted does not leave.
func TestFilterAndLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newShelf(), newMachine()
		decisions, control := newBook(audit.DecisionLog, 50), newBook(audit.ControlLog, 20)
		c := config("siem")
		c.Where, c.Log = `effect == "deny"`, Decision
		sinks, _ := run(t, options(m, s, &fake{shelf: s}, decisions, control), c)
		time.Sleep(time.Minute)
		if got := s.seqs(audit.DecisionLog); len(got) != 25 || got[0] != 1 || got[24] != 49 {
			t.Errorf("delivered %v, want the denied ones", got)
		}
		if l := sinks.Lags()[0]; l.Records != 0 || len(l.Logs) != 1 || len(s.seqs(audit.ControlLog)) != 0 {
			t.Errorf("%+v", l)
		}
		if p, err := (cursorFile{m, "siem"}).load(); err != nil || p[audit.DecisionLog] != 50 {
			t.Errorf("the cursor is at %v, %v", p, err)
		}
		text, err := json.Marshal(sinks.Lags())
		if err != nil || !strings.Contains(string(text), `"lag_records":0`) {
			t.Errorf("%s, %v", text, err)
		}
	})
}

// A sink that begins with the newest ships what comes from then on, also after it was stopped.
func TestStartWithTheNewest(t *testing.T) {
	bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
		m, c := newMachine(), config("siem")
		c.Start = Newest
		_, end := run(t, options(m, s, f, log), c)
		time.Sleep(time.Second)
		end()
		log.write(10)
		run(t, options(m, s, f, log), c)
		time.Sleep(time.Second)
		if got := s.seqs(log.name); len(got) != 10 || got[0] != 100 {
			t.Errorf("delivered %v, want what came after the first start", got)
		}
	})
}

// A reload leaves alone what stays as it was, ends what is gone, starts what is new, and lets what changed go on at its cursor.
func TestReload(t *testing.T) {
	bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
		m := newMachine()
		kept, changed, gone := config("kept"), config("changed"), config("gone")
		sinks, _ := run(t, options(m, s, f, log), kept, changed, gone)
		time.Sleep(time.Second)
		first := sinks.runners[0]
		if n := len(s.seqs(log.name)); n != 300 {
			t.Fatalf("%d delivered, want 100 by each of 3", n)
		}
		bad := config("bad")
		bad.Where = "nonsense =="
		if err := sinks.Apply([]Config{kept, bad}); err == nil || sinks.runners[0] != first || len(sinks.Lags()) != 3 {
			t.Errorf("a wrong configuration: %v, want that all stays as it was", err)
		}
		changed.BatchRecords = 50
		if err := sinks.Apply([]Config{kept, changed, config("new")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if sinks.runners[0] != first {
			t.Error("a sink that stayed as it was began anew")
		}
		if n := len(s.seqs(log.name)); n != 400 {
			t.Errorf("%d delivered, want 100 more by the new one only", n)
		}
		log.write(10)
		time.Sleep(time.Second)
		if n := len(s.seqs(log.name)); n != 430 {
			t.Errorf("%d delivered, want 10 more by each of 3", n)
		}
		var names []string
		for _, l := range sinks.Lags() {
			names = append(names, l.Name)
		}
		if !slices.Equal(names, []string{"kept", "changed", "new"}) {
			t.Errorf("sinks are %v", names)
		}
	})
}

// A disk on which the cursor cannot be written does not keep records from being shipped, and is reported.
func TestCursorThatCannotBeWritten(t *testing.T) {
	bubble(t, func(t *testing.T, s *shelf, f *fake, log *book) {
		m := newMachine()
		o := options(m, s, f, log)
		sinks, _ := run(t, o, config("siem"))
		time.Sleep(time.Second)
		m.SetFault(func(op, _ string) error {
			if op == "sync" {
				return errDown
			}
			return nil
		})
		log.write(50)
		time.Sleep(time.Second)
		if l := sinks.Lags()[0]; l.Records != 0 || l.Failing.IsZero() {
			t.Errorf("%+v, want all delivered and the cursor failing", l)
		}
		m.SetFault(nil)
		log.write(1)
		time.Sleep(time.Second)
		if l := sinks.Lags()[0]; l.Records != 0 || !l.Failing.IsZero() {
			t.Errorf("%+v, want all well", l)
		}
	})
}

// New with no surroundings is a check of a configuration.
func TestNewChecks(t *testing.T) {
	if _, err := New([]Config{config("one"), config("two")}, Options{}); err != nil {
		t.Error(err)
	}
	if _, err := New([]Config{config("one"), config("one")}, Options{Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("two sinks with one cursor were accepted")
	}
}
