package verify

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/audit/segment"
)

// apart is a log of the scene and the other one, both without anchors.
func apart(t testing.TB, s *scene, log string) (f, other *forgery) {
	f = takeApart(t, s.now, log)
	other = takeApart(t, s.now, map[string]string{"decision": "control", "control": "decision"}[log])
	f.forget()
	other.forget()
	return f, other
}

// sign has both logs signed as they are by now, with the right keys.
func (s *scene) sign(t testing.TB, logs ...*forgery) map[string][]byte {
	files := s.now
	for _, f := range logs {
		files = f.resign(f.rebuild(t, files), s.w.keys)
	}
	return files
}

func (f *forgery) lastRun() uint64 { return f.segs[len(f.segs)-1].BootN }

// signedFork has a run of another history in one log: each log is signed, and they were never together.
func signedFork(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f, other := apart(t, s, s.someLog(rnd))
	n, id := 1+rnd.Uint64N(f.lastRun()), uuid.New()
	for _, x := range f.segs {
		if x.BootN != n {
			continue
		}
		for _, frame := range x.frames {
			for i := range frame {
				frame[i] = bytes.Replace(frame[i], []byte(x.Boot.String()), []byte(id.String()), 1)
			}
		}
		x.Boot = id
	}
	return tampering{what: fmt.Sprintf("run %d of the %s log is of another history", n, f.log), files: s.sign(t, f, other), trust: s.plain, want: tampered}
}

// missingRun leaves runs out of one log, and has what is left signed.
func missingRun(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	f, other := apart(t, s, s.someLog(rnd))
	last := f.lastRun()
	n := 1 + rnd.Uint64N(last)
	to := n
	if n > 1 && rnd.IntN(2) == 0 {
		to = last
	}
	f.segs = slices.DeleteFunc(f.segs, func(x *forgedSegment) bool { return x.BootN >= n && x.BootN <= to })
	f.segs[0].Before, f.segs[0].PrevEnd = takeApart(t, s.now, f.log).segs[0].Before, 0
	for i, x := range f.segs {
		x.Number = uint64(i + 1)
	}
	f.number()
	c := tampering{what: fmt.Sprintf("runs %d to %d of the %s log left out", n, to, f.log), files: s.sign(t, f, other), trust: s.plain, want: tampered}
	if f.log == audit.DecisionLog && to == last {
		c.want = []Result{Gaps} // a copy may leave out the end that holds no records
	}
	return c
}

// emptiedLog has a log's first header only, or that of both.
func emptiedLog(t testing.TB, rnd *rand.Rand, s *scene) tampering {
	logs, c := []string{s.someLog(rnd)}, tampering{trust: s.plain, want: tampered}
	if rnd.IntN(3) == 0 {
		logs, c.want = []string{audit.DecisionLog, audit.ControlLog}, []Result{Incomplete}
	}
	c.what, c.files = fmt.Sprintf("%v emptied", logs), maps.Clone(s.now)
	for _, log := range logs {
		h := takeApart(t, s.now, log).segs[0].Header
		maps.DeleteFunc(c.files, func(name string, _ []byte) bool { return strings.HasPrefix(name, log+"/") })
		c.files[segment.Name(log, 1)] = h.Encode()
	}
	return c
}

// A control log without records beside decisions is tampered with, without any heartbeat that says so; where nothing is
// signed there is nothing to go by, however little there is.
func TestEmptiedLogsDoNotPass(t *testing.T) {
	s := newScene(t)
	control, decision := apart(t, s, audit.ControlLog)
	signed := s.sign(t, control, decision)
	without := func(logs ...string) map[string][]byte {
		files := maps.Clone(signed)
		for _, log := range logs {
			maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasPrefix(name, log+"/") })
			h := map[string]*forgery{"control": control, "decision": decision}[log].segs[0].Header
			files[segment.Name(log, 1)] = h.Encode()
		}
		return files
	}
	gone := with(with(signed, "decision/x.tmp", []byte{}), "decision/tail", nil)
	maps.DeleteFunc(gone, func(name string, _ []byte) bool {
		return strings.HasPrefix(name, "decision/") && !strings.HasSuffix(name, ".tmp")
	})
	for _, row := range []struct {
		what  string
		files map[string][]byte
		want  Result
	}{
		{"as it was", signed, Gaps},
		{"control emptied", without("control"), Tampered},
		{"decision emptied", without("decision"), Gaps},
		{"both emptied", without("decision", "control"), Incomplete},
		{"no file in decision", gone, Tampered},
		{"no files", map[string][]byte{"decision/x.tmp": {}, "control/x.tmp": {}}, Incomplete},
	} {
		if report := verifyFiles(t, row.files, Options{Trust: s.plain}); report.Result != row.want {
			t.Errorf("%s: want %v, got\n%s", row.what, row.want, printed(report))
		}
	}
}

// announce records that somebody reads the log while no gateway runs.
func (w *world) announce(code string) {
	m := &machine{w.disk.Boot(-1, false), w.names}
	if _, err := audit.Announce(context.Background(), w.cfg, audit.Options{FS: m, Now: w.now}, &audit.Record{Type: audit.TypeControl, Code: code}); err != nil {
		w.t.Fatal(err)
	}
	w.disk.Stop()
}

// failStart starts a gateway on a disk that fails after some writes: in the first log, between the logs, or in the second.
func (w *world) failStart() {
	m := &machine{w.disk.Boot(-1, w.rnd.IntN(2) == 0), w.names}
	left := w.rnd.IntN(25)
	m.SetFault(func(op, _ string) error {
		if op == "read" || op == "size" {
			return nil
		}
		if left--; left < 0 {
			return syscall.EIO
		}
		return nil
	})
	w.crashes++
	if a, err := audit.Open(w.cfg, audit.Options{FS: m, Now: w.now, Replica: "gw1"}); err == nil {
		w.disk.Stop()
		_ = a.Close()
		return
	}
	w.disk.Stop()
}

// Starts that fail anywhere, runs that end before they served, and announcements leave logs that do not have the same runs.
// They raise no alarm.
func TestRunsThatDidNotServeRaiseNoAlarm(t *testing.T) {
	rnd := randomness(t)
	for range rounds(t, 8) {
		seed := rnd.Uint64()
		w := newWorld(t, rand.New(rand.NewPCG(seed, seed)))
		bubble(t, func() {
			serve := func(a *audit.Audit, _ *machine) { w.decide(a, 1+w.rnd.IntN(3)); time.Sleep(2 * time.Second) }
			w.run(serve)
			for range 4 {
				for range w.rnd.IntN(3) {
					w.failStart()
				}
				switch w.rnd.IntN(4) {
				case 0:
					w.announce("log_read")
				case 1:
					w.run(func(a *audit.Audit, _ *machine) { w.crash(a) })
				case 2:
					w.run(func(a *audit.Audit, _ *machine) {})
				case 3:
					w.run(serve)
				}
			}
			w.run(serve)
		})
		report := verifyFiles(t, w.files(), Options{Trust: w.keys.trust(t)})
		if report.Result != Pass && report.Result != Gaps {
			t.Fatalf("seed %d:\n%s", seed, printed(report))
		}
	}
}
