package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/audit/segment"
)

// rounds is how often a repeating test repeats: SALLYPORT_ROUNDS, or few enough for every day.
func rounds(t testing.TB, few int) int {
	t.Helper()
	text := os.Getenv("SALLYPORT_ROUNDS")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SALLYPORT_ROUNDS=%q is not a number of rounds", text)
	}
	return n
}

// randomness prints its seed, so that a failure can be repeated with SALLYPORT_SEED.
func randomness(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// A power cut at any moment, again and again on the same disk, loses no acknowledged record, leaves no gap and no
// duplicate, and the next start carries on.
func TestPowerCutsLoseNothingAcknowledged(t *testing.T) {
	rnd := randomness(t)
	var acked int
	for left := rounds(t, 40); left > 0; left -= bootsPerDisk {
		h := newCellar(newDisk(rnd), rnd)
		for range min(left, bootsPerDisk) {
			if err := h.life(); err != nil {
				t.Fatal(err)
			}
		}
		acked += len(h.acked[DecisionLog]) + len(h.acked[ControlLog])
	}
	t.Logf("%d records acknowledged", acked)
	if acked == 0 {
		t.Error("nothing was ever acknowledged: the test shows nothing")
	}
}

// The same rounds must find the loss when the disk, or we, do not sync.
func TestPowerCutsFindMissingSyncs(t *testing.T) {
	for name, lie := range map[string]func(*disk){
		"every sync": func(d *disk) { d.ForgetsSync = func(string) bool { return true } },
		"of a batch": func(d *disk) {
			d.ForgetsSync = func(name string) bool { return strings.HasSuffix(name, segment.Suffix) }
		},
		"of a segment": func(d *disk) {
			d.ForgetsSync = func(name string) bool {
				return strings.HasSuffix(name, temporarySuffix) && !strings.Contains(name, treeFolder)
			}
		},
		"of a folder": func(d *disk) { d.ForgetsSyncDir = true },
	} {
		t.Run(name, func(t *testing.T) {
			rnd := randomness(t)
			for range 500 / bootsPerDisk {
				d := newDisk(rnd)
				lie(d)
				h := newCellar(d, rnd)
				for range bootsPerDisk {
					if err := h.life(); err != nil {
						t.Logf("found: %v", err)
						return
					}
				}
			}
			t.Error("500 power cuts without syncs and nothing was missed")
		})
	}
}

const bootsPerDisk = 10

// A batch whose sync failed may be whole in the page cache and nowhere else. A killed process leaves it there; the next
// start keeps it and builds on it, so it must write it again: the sync alone would not, and a power cut would take it.
func TestKeptBatchIsMadeDurable(t *testing.T) {
	if err := keptBatch(newDisk(randomness(t))); err != nil {
		t.Error(err)
	}
	d := newDisk(randomness(t))
	d.SkipsRewrites = true
	if err := keptBatch(d); err == nil {
		t.Error("the batch was not written again, and it was not missed")
	}
}

func keptBatch(d *disk) error {
	opts := quiet(Options{segmentSize: smallestSegment})
	m := d.boot(-1, false)
	opts.FS = m
	a, err := Open(Config{Dir: "unused"}, opts)
	if err != nil {
		return err
	}
	m.setFault(func(op, name string) error {
		switch op {
		case "create":
			return syscall.EIO
		case "sync":
			d.LoseDirty(name)
			return syscall.EIO
		}
		return nil
	})
	if _, err := a.Decisions().Append(context.Background(), decision("/")); !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("append answers %v", err)
	}
	d.stop()
	_ = a.Close()

	opts.FS = d.boot(-1, true)
	if a, err = Open(Config{Dir: "unused"}, opts); err != nil {
		return err
	}
	d.stop()
	_ = a.Close()

	m = d.boot(-1, false)
	opts.FS = m
	if a, err = Open(Config{Dir: "unused"}, opts); err != nil {
		return err
	}
	defer a.Close()
	n := 0
	for _, err := range (&Reader{fs: m, log: DecisionLog}).All(context.Background(), Filter{}) {
		if err != nil {
			return err
		}
		n++
	}
	if n != 1 {
		return fmt.Errorf("%d records, want the kept one", n)
	}
	return nil
}

// cellar has one disk, and a machine that is switched off again and again.
type cellar struct {
	disk  *disk
	keys  *keyProcess // on another machine, whose power stays on
	rnd   *rand.Rand
	acked map[string]map[uint64]string // log → seq → id: acknowledged, or kept by a start that succeeded
	boot  uint64
}

func newCellar(d *disk, rnd *rand.Rand) *cellar {
	return &cellar{disk: d, keys: newKeyProcess(), rnd: rnd, acked: map[string]map[uint64]string{DecisionLog: {}, ControlLog: {}}}
}

// life is one run of a gateway from start to sudden end. An error is something that must not be.
func (h *cellar) life() error {
	m := h.disk.boot(h.rnd.IntN(800), h.rnd.IntN(3) > 0)
	if h.rnd.IntN(3) == 0 {
		m.setFault(failSometimes(m, rand.New(rand.NewPCG(h.rnd.Uint64(), 1))))
	}
	a, err := Open(Config{Dir: "unused"}, quiet(Options{FS: m, segmentSize: smallestSegment}))
	switch {
	case err == nil:
		err = h.opened(a, m)
	case errors.Is(err, errPower) || errors.Is(err, syscall.EIO):
		err = nil
	}
	h.disk.stop()
	if err != nil {
		return err
	}
	if _, err = h.check(h.disk.boot(-1, false)); err != nil {
		return err
	}
	return h.checkTrees(h.rnd.IntN(4) == 0)
}

// opened works with a gateway that came up until its machine stops.
func (h *cellar) opened(a *Audit, m *machine) error {
	defer a.Close() // fails when the machine is off
	if a.Boot().N <= h.boot {
		return fmt.Errorf("boot number %d after %d", a.Boot().N, h.boot)
	}
	h.boot = a.Boot().N
	kept, err := h.check(m.beside())
	if err != nil {
		return err
	}
	h.acked = kept
	switch err := a.Attach(context.Background(), h.keys); {
	case errors.Is(err, ErrRolledBack):
		return err
	case err != nil: // the machine is off, or a read failed
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var keeping sync.WaitGroup
	defer keeping.Wait()
	keeping.Go(func() {
		_ = a.Keep(ctx, Keeping{Signer: h.keys, Checkpoint: time.Millisecond, Heartbeat: 3 * time.Millisecond})
	})
	defer cancel()
	acks := make(chan Receipt, 1<<16)
	var wg sync.WaitGroup
	for i := range 1 + h.rnd.IntN(8) {
		rnd := rand.New(rand.NewPCG(h.rnd.Uint64(), uint64(i)))
		wg.Go(func() { appendUntilEnd(a, m, rnd, acks) })
	}
	wg.Wait()
	close(acks)
	for r := range acks {
		if other, twice := h.acked[r.Log][r.Seq]; twice {
			return fmt.Errorf("%s seq %d was given to %s and %s", r.Log, r.Seq, other, r.ID)
		}
		h.acked[r.Log][r.Seq] = r.ID
	}
	return nil
}

// appendUntilEnd appends records of all sizes until the machine is off.
func appendUntilEnd(a *Audit, m *machine, rnd *rand.Rand, acks chan<- Receipt) {
	for m.alive() == nil && len(acks) < cap(acks)-16 {
		l := a.Decisions()
		if rnd.IntN(4) == 0 {
			l = a.Control()
		}
		r := decision("/" + strings.Repeat("x", rnd.IntN(1<<rnd.IntN(15))))
		if rnd.IntN(8) == 0 {
			_ = l.Post(context.Background(), r)
			continue
		}
		if receipt, err := l.Append(context.Background(), r); err == nil {
			acks <- receipt
		}
	}
}

// failSometimes lets now and then a sync fail as Linux does: the error is told once, and the data is gone.
func failSometimes(m *machine, rnd *rand.Rand) func(op, name string) error {
	var mu sync.Mutex
	return func(op, name string) error {
		mu.Lock()
		fail := op == "sync" && rnd.IntN(30) == 0
		mu.Unlock()
		if !fail {
			return nil
		}
		m.disk.LoseDirty(name)
		return syscall.EIO
	}
}

// check reads both logs and returns what is in them.
func (h *cellar) check(m *machine) (map[string]map[uint64]string, error) {
	found := map[string]map[uint64]string{}
	for log, acked := range h.acked {
		found[log] = map[uint64]string{}
		r := &Reader{fs: m, log: log}
		for e, err := range r.All(context.Background(), Filter{}) {
			if err != nil {
				return nil, err
			}
			if want := uint64(len(found[log])); e.Record.Seq != want {
				return nil, fmt.Errorf("%s: seq %d where %d should be", log, e.Record.Seq, want)
			}
			found[log][e.Record.Seq] = e.Record.ID
		}
		for seq, id := range acked {
			if found[log][seq] != id {
				return nil, fmt.Errorf("%s: seq %d is %q, acknowledged was %q", log, seq, found[log][seq], id)
			}
		}
	}
	return found, nil
}
