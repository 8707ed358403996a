package verify

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit"
)

// life is a few random runs of a gateway.
func (w *world) life() {
	if w.rnd.IntN(3) == 0 {
		w.cfg.Retention = audit.Retention{Decision: time.Duration(w.rnd.IntN(3)) * 10 * time.Minute, Control: time.Duration(w.rnd.IntN(3)) * 10 * time.Minute}
	}
	w.cfg.Seal = w.rnd.IntN(2) == 0
	for range 1 + w.rnd.IntN(4) {
		w.run(func(a *audit.Audit, m *machine) {
			for range w.rnd.IntN(6) {
				w.something(a, m)
			}
			if w.rnd.IntN(2) == 0 {
				time.Sleep(5 * time.Second)
			} else if w.rnd.IntN(2) == 0 {
				w.crash(a)
			}
		})
		time.Sleep(time.Duration(w.rnd.IntN(300)) * time.Second)
		switch w.rnd.IntN(6) {
		case 0:
			w.announce("log_read")
		case 1:
			w.failStart()
		}
	}
}

func (w *world) something(a *audit.Audit, m *machine) {
	switch w.rnd.IntN(10) {
	case 0, 1, 2:
		w.decide(a, 1+w.rnd.IntN(40))
	case 3:
		w.decide(a, 200+w.rnd.IntN(300))
	case 4, 5:
		w.control(a, 1+w.rnd.IntN(10))
	case 6, 7:
		time.Sleep(time.Duration(w.rnd.IntN(1500)) * time.Second)
	case 8:
		if w.rnd.IntN(2) == 0 {
			w.outage(a, m)
		}
	case 9:
		by := time.Duration(w.rnd.IntN(7200)-3600) * time.Second
		w.step.Add(int64(by))
		if by != 0 {
			w.steps++
		}
		w.decide(a, 1)
	}
	w.keys.mu.Lock()
	if w.keys.down = w.rnd.IntN(12) == 0; w.keys.down {
		w.unsigned++
	}
	w.keys.mu.Unlock()
}

// crash stops the machine in the middle of something.
func (w *world) crash(a *audit.Audit) {
	w.crashes++
	go w.decide(a, 10)
	time.Sleep(time.Duration(w.rnd.IntN(50)) * time.Microsecond)
	w.disk.Stop()
}

// Random honest logs, with restarts, crashes, clock steps, outages, sealed and pruned segments, never raise an alarm, and
// their gaps are those that there were.
func TestHonestLogsRaiseNoAlarm(t *testing.T) {
	rnd := randomness(t)
	results, classes := map[Result]int{}, map[Class]int{}
	for range rounds(t, 25) {
		seed := rnd.Uint64()
		w, files := honest(t, seed)
		report := verifyFiles(t, files, Options{Trust: w.keys.trust(t), Workers: 2, Rederive: new(oracle)})
		results[report.Result]++
		if report.Result != Pass && report.Result != Gaps {
			t.Fatalf("honest log of seed %d (%d runs, %d crashes, %d outages, %d clock steps):\n%s", seed, w.runs, w.crashes, w.outages, w.steps, printed(report))
		}
		for _, f := range report.Findings {
			classes[f.Class]++
			if !w.expects(f) {
				t.Errorf("seed %d (%d runs, %d crashes, %d outages, %d clock steps): unexpected %s\n%s", seed, w.runs, w.crashes, w.outages, w.steps, f.Text, printed(report))
			}
		}
	}
	t.Logf("results %v, findings %v", results, classes)
}

// expects reports whether a finding about an honest log says what happened to it.
func (w *world) expects(f Finding) bool {
	switch f.Class {
	case ClassOutage:
		return w.outages > 0
	case ClassClock:
		return w.steps > 0
	case ClassPruned:
		return w.cfg.Retention != audit.Retention{}
	case ClassSilence:
		return w.steps > 0 || w.outages > 0
	case ClassTile:
		return w.crashes+w.unsigned > 0
	case ClassTail:
		return true
	}
	return false
}

// honest is the directory of a random honest log.
func honest(t testing.TB, seed uint64) (w *world, files map[string][]byte) {
	w = newWorld(t, rand.New(rand.NewPCG(seed, seed)))
	bubble(t, func() {
		w.run(func(a *audit.Audit, _ *machine) { // without a checkpoint there is nothing to verify by
			w.decide(a, 3)
			w.control(a, 1)
			time.Sleep(2 * time.Second)
		})
		w.life()
	})
	return w, w.files()
}

func bubble(t testing.TB, f func()) {
	synctest.Test(t.(*testing.T), func(*testing.T) { f() })
}

// A log that was closed in good order and nothing happened to passes without a gap.
func TestQuietLogPasses(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 2)))
	bubble(t, func() {
		for range 3 {
			w.run(func(a *audit.Audit, _ *machine) {
				for range 4 {
					w.decide(a, 150)
					w.control(a, 3)
					time.Sleep(70 * time.Second)
				}
			})
		}
	})
	files := w.files()
	report := verifyFiles(t, files, Options{Trust: w.keys.trust(t, w.keys.all["decision"][0], w.keys.all["control"][1]), Rederive: new(oracle)})
	if report.Result != Pass || len(report.Findings) != 0 {
		t.Fatal(printed(report))
	}
	d, c := report.Logs[0], report.Logs[1]
	if d.Receipts != 1 || c.Receipts != 1 || d.Anchors == 0 || c.Anchors == 0 || d.Checkpoints < 3 || d.Tiles == 0 || d.Boots != 3 || report.Policies != 1 {
		t.Errorf("less was checked than there is:\n%s", printed(report))
	}
	if d.Signed != d.Size || d.Size < 1800 || report.Rederived < 1800 {
		t.Errorf("less is signed or decided again than there is:\n%s", printed(report))
	}
	text, err := json.Marshal(report)
	var again Report
	if err != nil || json.Unmarshal(text, &struct {
		Result *string `json:"result"`
	}{new(string)}) != nil {
		t.Errorf("report as JSON: %s, %v", text, err)
	}
	_ = again
}

// A run that wrote no heartbeats for two and a half periods has a gap.
func TestSilenceIsStated(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(3, 4)))
	bubble(t, func() {
		m := &machine{w.disk.Boot(-1, false), w.names}
		a, err := audit.Open(w.cfg, audit.Options{FS: m, Now: w.now})
		if err != nil {
			t.Fatal(err)
		}
		w.record(a, "started")
		w.decide(a, 1)
		time.Sleep(151 * time.Second)
		w.decide(a, 1)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := a.Keep(ctx, audit.Keeping{Signer: w.keys}); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	})
	report := verifyFiles(t, w.files(), Options{Trust: w.keys.trust(t)})
	if report.Result != Gaps || !slices.ContainsFunc(report.Gaps, func(g Gap) bool { return g.Class == ClassSilence && g.Log == "decision" }) {
		t.Error(printed(report))
	}
}

// A command that reads the log where no gateway runs leaves a record that nobody signs yet. That is no gap.
func TestAnnouncedReadingIsNoGap(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(5, 6)))
	announce := func(code string) {
		m := &machine{w.disk.Boot(-1, false), w.names}
		_, err := audit.Announce(context.Background(), w.cfg, audit.Options{FS: m, Now: w.now}, &audit.Record{Type: audit.TypeControl, Code: code})
		if err != nil {
			t.Fatal(err)
		}
	}
	bubble(t, func() {
		w.run(func(a *audit.Audit, _ *machine) { w.decide(a, 3); w.control(a, 2); time.Sleep(2 * time.Second) })
		announce("log_read")
		announce("log_read")
	})
	if report := verifyFiles(t, w.files(), Options{Trust: w.keys.trust(t)}); report.Result != Pass || len(report.Findings) != 1 {
		t.Error(printed(report))
	}
	bubble(t, func() { announce("something_else") })
	if report := verifyFiles(t, w.files(), Options{Trust: w.keys.trust(t)}); report.Result != Gaps {
		t.Error(printed(report))
	}
}
