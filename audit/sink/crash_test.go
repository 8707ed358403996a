package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit"
	"sallyport/audit/audittest"
)

var errDown = errors.New("the receiver is down")

// life is one run of a sink on a disk that stops after so many changes, with a receiver that goes away now and then. It
// returns when the machine stopped, or when everything is delivered and the cursor says so.
func life(disk *audittest.Disk, ops int, cut bool, rnd *rand.Rand, s *shelf, logs []Log, r func(*fake) receiver) error {
	m := machine{disk.Boot(ops, cut)}
	f := &fake{shelf: s, answer: func(context.Context, []item) error {
		if err := m.Alive(); err != nil {
			return err // a dead process sends nothing
		}
		if rnd.IntN(5) == 0 {
			return errDown
		}
		return nil
	}}
	o := options(m, s, f, logs...)
	o.open = func(Config, string) (receiver, error) { return r(f), nil }
	sinks, err := New([]Config{config("siem")}, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); sinks.Run(ctx) }()
	late := time.Now().Add(time.Minute)
	for m.Alive() == nil && !shipped(m, logs) {
		if time.Now().After(late) {
			return errors.New("nothing moves for a minute")
		}
		rest(ctx, time.Millisecond)
	}
	disk.Stop()
	cancel()
	<-done
	return nil
}

// shipped reports whether the durable cursor is at the end of all logs.
func shipped(m machine, logs []Log) bool {
	at, err := cursorFile{m, "siem"}.load()
	for _, log := range logs {
		if next, ok := at[log.Name()]; err != nil || !ok || next < log.Next() {
			return false
		}
	}
	return true
}

func faithful(f *fake) receiver { return f }

// hasty is a receiver that says yes before it has anything: what a sink is that moves its cursor too early.
type hasty struct {
	*fake
	held []item
}

func (h *hasty) send(ctx context.Context, items []item) error {
	if h.held != nil {
		_ = h.fake.send(ctx, h.held)
	}
	h.held = slices.Clone(items)
	return nil
}

// crashes runs a sink again and again on one disk until everything is delivered, each time stopped elsewhere, and returns
// what must not be.
func crashes(rnd *rand.Rand, ops func() int, r func(*fake) receiver) error {
	disk := audittest.NewDisk(rnd)
	s := newShelf()
	logs := []Log{newBook(audit.DecisionLog, 60), newBook(audit.ControlLog, 20)}
	for range 30 {
		if err := life(disk, ops(), rnd.IntN(3) > 0, rnd, s, logs, r); err != nil {
			return err
		}
	}
	if err := life(disk, -1, false, rnd, s, logs, r); err != nil {
		return err
	}
	for _, log := range logs {
		if err := complete(s.seqs(log.Name()), 0, log.Next()); err != nil {
			return fmt.Errorf("%s: %w", log.Name(), err)
		}
	}
	if n := len(s.noted(CodeRestarted)); n > 0 {
		return fmt.Errorf("the cursor could not be used %d times", n)
	}
	return nil
}

// A sink that is stopped at each of its first changes of the disk once, and then anywhere, by kills and power cuts, with a
// receiver that is away now and then, delivers every record, in order.
func TestCrashesLoseNothing(t *testing.T) {
	rnd := randomness(t)
	synctest.Test(t, func(t *testing.T) {
		at := 0
		each := func() int { at++; return at }
		if err := crashes(rnd, each, faithful); err != nil {
			t.Errorf("at each change: %v", err)
		}
		for i := range rounds(60) {
			if err := crashes(rnd, func() int { return rnd.IntN(40) }, faithful); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
	})
}

// The same crashes must find a sink whose cursor moves before the receiver has the records.
func TestCursorBeforeAcknowledgementIsFound(t *testing.T) {
	rnd := randomness(t)
	synctest.Test(t, func(t *testing.T) {
		for range 40 {
			if err := crashes(rnd, func() int { return rnd.IntN(40) }, func(f *fake) receiver { return &hasty{fake: f} }); err != nil {
				t.Logf("found: %v", err)
				return
			}
		}
		t.Error("40 series of crashes and nothing was missed")
	})
}

// A place that was saved is there after a power cut, and a torn one never is.
func TestSavedCursorSurvivesPowerCuts(t *testing.T) {
	rnd := randomness(t)
	for range 200 {
		if err := savedPlace(rnd, nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, lie := range map[string]func(*audittest.Disk){
		"without a sync of the file":   func(d *audittest.Disk) { d.ForgetsSync = func(string) bool { return true } },
		"without a sync of the folder": func(d *audittest.Disk) { d.ForgetsSyncDir = true },
	} {
		found := false
		for range 200 {
			found = found || savedPlace(rnd, lie) != nil
		}
		if !found {
			t.Errorf("200 power cuts %s and nothing was missed", name)
		}
	}
}

func savedPlace(rnd *rand.Rand, lie func(*audittest.Disk)) error {
	d := audittest.NewDisk(rnd)
	if lie != nil {
		lie(d)
	}
	c := cursorFile{machine{d.Boot(1+rnd.IntN(60), true)}, "siem"}
	var saved, tried uint64
	for tried = 1; ; tried++ {
		if err := c.save(place{audit.DecisionLog: tried}); err != nil {
			break
		}
		saved = tried
	}
	d.Stop()
	c.fs = machine{d.Boot(-1, false)}
	p, err := c.load()
	if err != nil {
		return err
	}
	if got := p[audit.DecisionLog]; got < saved || got > tried {
		return fmt.Errorf("the cursor is at %d after a power cut, saved was %d", got, saved)
	}
	return nil
}

// A cursor that is not what was written, in whatever way, is not taken for a place: the sink begins anew and says so.
func TestDamagedCursorIsNotBelieved(t *testing.T) {
	good := string(place{audit.DecisionLog: 1234, audit.ControlLog: 7}.text())
	if p, err := parsePlace(good); err != nil || p[audit.DecisionLog] != 1234 || p[audit.ControlLog] != 7 {
		t.Fatalf("a place comes back as %v, %v", p, err)
	}
	for i := range good {
		for _, other := range []string{good[:i], good[:i] + good[i+1:], good[:i] + string(good[i]^1) + good[i+1:], good[:i] + "0" + good[i:]} {
			if p, err := parsePlace(other); other != good && err == nil {
				t.Errorf("%q is taken for %v", other, p)
			}
		}
	}
	m, s := newMachine(), newShelf()
	f, err := m.OpenFile("sinks/siem.cursor", 0o102) // O_RDWR|O_CREATE
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("decision 40\n"), 0); err != nil {
		t.Fatal(err)
	}
	log := newBook(audit.DecisionLog, 50)
	run(t, options(m, s, &fake{shelf: s}, log), config("siem"))
	s.await(t, "delivery from the beginning", func() bool { return complete(s.seqs(log.name), 0, 50) == nil })
	if n := s.noted(CodeRestarted); len(n) != 1 {
		t.Errorf("put on record: %+v, want that the sink restarted", n)
	}
}

// A cursor beyond the end of the log, as after the log was put back, does not make the sink pass over what is new.
func TestCursorBeyondTheLogBeginsAnew(t *testing.T) {
	m, s := newMachine(), newShelf()
	if err := (cursorFile{m, "siem"}).save(place{audit.DecisionLog: 1000}); err != nil {
		t.Fatal(err)
	}
	log := newBook(audit.DecisionLog, 50)
	run(t, options(m, s, &fake{shelf: s}, log), config("siem"))
	s.await(t, "delivery from the beginning", func() bool { return complete(s.seqs(log.name), 0, 50) == nil })
	if n := s.noted(CodeRestarted); len(n) != 1 {
		t.Errorf("put on record: %+v, want that the sink restarted", n)
	}
}
