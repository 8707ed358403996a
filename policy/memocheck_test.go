package policy

import (
	"context"
	"testing"
	"time"
)

// checking is e while CheckMemo runs. Its differences arrive, and the channel closes when the checks end.
func checking(t *testing.T, e *Engine) <-chan *MemoDifference {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	differences := make(chan *MemoDifference, 1)
	go func() {
		defer close(differences)
		e.CheckMemo(ctx, func(d *MemoDifference) { differences <- d })
	}()
	t.Cleanup(func() {
		stop()
		for range differences {
		}
	})
	return differences
}

// checkingEvery is an engine for one app, of whose remembered answers one in n is checked.
func checkingEvery(t *testing.T, n int) *Engine {
	return newEngine(t, Config{Memo: true, MemoCheck: n}, []App{{Name: "wiki", Access: Access{{Groups: []string{"staff"}}}}}, nil)
}

// POL-11: an answer that was remembered for the wrong request is noticed by the gateway itself, which then remembers no
// more.
func TestPOL11CheckNoticesAFault(t *testing.T) {
	e := leaveOut(t, checkingEvery(t, 1), "wiki", fieldGroups)
	differences := checking(t, e)
	wantVerdict(t, e.Decide(t.Context(), person("wiki", "staff")), ReasonAllow, "")
	wantVerdict(t, e.Decide(t.Context(), person("wiki", "staff")), ReasonAllow, "")
	wrong := person("wiki", "sales")
	form := string(wrong.AppendJSON(nil))
	if v := e.Decide(t.Context(), wrong); !v.Allow || !v.Memo {
		t.Fatalf("the fault is not there: %s", v.JSON)
	}
	wrong.Subject.Groups[0] = "staff" // what becomes of the input afterwards must not matter
	d := <-differences
	if d == nil || d.App != "wiki" || !d.Remembered.Allow || d.Evaluated.Allow || string(d.Input) != form {
		t.Fatalf("got %+v", d)
	}
	for range 3 {
		if v := e.Decide(t.Context(), person("wiki", "sales")); v.Allow || v.Memo {
			t.Fatalf("after the difference: %s, remembered %v", v.JSON, v.Memo)
		}
	}
	if _, more := <-differences; more {
		t.Error("a second difference")
	}
	if s := e.MemoStats(); s.On || s.Different != 1 || s.Entries != 0 {
		t.Errorf("got %+v", s)
	}
}

// TestCheckFindsNothing: answers of every kind of app are checked and found right.
func TestCheckFindsNothing(t *testing.T) {
	e := memoApps(t)
	e.memo.every = 1
	differences := checking(t, e)
	r := random(t)
	for n := uint64(0); n < uint64(rounds(200)); n = e.MemoStats().Checked {
		select {
		case d := <-differences:
			t.Fatalf("remembered %s\nevaluated  %s\nfor %s", d.Remembered.JSON, d.Evaluated.JSON, d.Input)
		default:
			e.Decide(t.Context(), randomInput(r, sortedNames(e.plans)...))
		}
	}
	if s := e.MemoStats(); !s.On || s.Different != 0 {
		t.Errorf("got %+v", s)
	}
}

// TestChecksNeverHoldUpADecision: with nobody checking, samples beyond the room for them are let go.
func TestChecksNeverHoldUpADecision(t *testing.T) {
	const more = 10
	e := checkingEvery(t, 1)
	for range 1 + maxMemoSamples + more {
		e.Decide(t.Context(), person("wiki", "staff"))
	}
	if s := e.MemoStats(); s.Misses != 1 || s.Hits != maxMemoSamples+more || s.Skipped != more || s.Entries != 1 || s.Bytes == 0 {
		t.Errorf("got %+v", s)
	}
}

func TestCheckSamples(t *testing.T) {
	for every, want := range map[int]int{0: 0, 1: 21, 10: 3, 1000: 1} {
		e := checkingEvery(t, every)
		for range 22 {
			e.Decide(t.Context(), person("wiki", "staff"))
		}
		if got := len(e.memo.samples); got != want {
			t.Errorf("one in %d: got %d of 21, want %d", every, got, want)
		}
	}
}

// TestNothingToCheck: without a memo or a sample there is nothing to wait for.
func TestNothingToCheck(t *testing.T) {
	for _, e := range []*Engine{checkingEvery(t, 0), newEngine(t, Config{MemoCheck: 1}, company(), nil)} {
		if _, more := <-checking(t, e); more {
			t.Error("a difference")
		}
	}
	if s := newEngine(t, Config{}, company(), nil).MemoStats(); s != (MemoStats{}) {
		t.Errorf("got %+v", s)
	}
}

// TestCheckWithoutTimeSaysNothing: a check that is cut short proves no difference.
func TestCheckWithoutTimeSaysNothing(t *testing.T) {
	e := checkingEvery(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := person("wiki", "staff")
	in.Context.SetTime(monday, time.UTC)
	if d := e.check(ctx, memoSample{"wiki", in.AppendJSON(nil), e.Decide(t.Context(), in)}); d != nil {
		t.Errorf("got %+v", d)
	}
	if s := e.MemoStats(); s.Skipped != 1 {
		t.Errorf("got %+v", s)
	}
}
