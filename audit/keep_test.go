package audit

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit/tree"
)

// keeping runs Keep until stop is called, without the heartbeats at begin and end.
func keeping(t testing.TB, a *Audit, k Keeping) (stop func()) {
	t.Helper()
	k.unanchored = true
	return anchored(t, a, k)
}

// anchored is keeping as the gateway does it.
func anchored(t testing.TB, a *Audit, k Keeping) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Keep(ctx, k) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("keeping the audit log: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// AUD-06: however short a run, each log ends it holding the other to where it is, under a signature of its own.
func TestEachRunAnchorsBothLogs(t *testing.T) {
	dir := t.TempDir()
	keys := newKeyProcess()
	for run := range uint64(3) {
		a, err := Open(Config{Dir: dir}, quiet(Options{segmentSize: smallestSegment}))
		if err != nil {
			t.Fatal(err)
		}
		stop := anchored(t, a, Keeping{Signer: keys})
		for _, l := range []*Log{a.decisions, a.control} {
			if _, err := l.Append(t.Context(), decision("/")); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		for _, l := range []*Log{a.decisions, a.control} {
			checkAnchored(t, dir, a, l, 2*run+1)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkAnchored wants the last record of a log to hold the other to at least so many records, and to be signed.
func checkAnchored(t *testing.T, dir string, a *Audit, l *Log, want uint64) {
	t.Helper()
	r, err := OpenReader(dir, l.name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	last, err := r.Get(t.Context(), l.Records()-1)
	if err != nil {
		t.Fatal(err)
	}
	var h Heartbeat
	if err := json.Unmarshal(last.Record.Detail, &h); err != nil || last.Record.Type != TypeHeartbeat {
		t.Fatalf("the %s log ends with %s, %v", l.name, last.Raw, err)
	}
	body, _, _ := strings.Cut(h.Other, "\n\n")
	other, err := tree.ParseCheckpointBody([]byte(body + "\n"))
	if err != nil || other.Size < want || other.Origin == testOrigin+"/"+l.name {
		t.Errorf("the %s log holds the other to %+v, %v, want at least %d records", l.name, other, err, want)
	}
	if _, cp := a.Checkpoint(l.name); cp.Size != l.Records() {
		t.Errorf("of %d records of the %s log %d are signed", l.Records(), l.name, cp.Size)
	}
}

// openClosed is openSimulated for a test that closes by itself.
func openClosed(t *testing.T) (*Audit, *machine) {
	t.Helper()
	m := newDisk(nil).boot(-1, false)
	a, err := Open(Config{Dir: "unused"}, quiet(Options{FS: m, segmentSize: smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	return a, m
}

// rootOf computes a log's root from its records alone.
func rootOf(t testing.TB, fs FileSystem, log string, size uint64) tree.Hash {
	t.Helper()
	var f tree.Frontier
	for e, err := range OpenReaderFS(fs, log).All(context.Background(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Size() < size {
			f.Append(tree.HashLeaf(e.Raw))
		}
	}
	if f.Size() != size {
		t.Fatalf("the %s log has %d records, not %d", log, f.Size(), size)
	}
	return f.Root()
}

// published is the checkpoint in a log's tree folder, its signature checked.
func published(t testing.TB, fs FileSystem, keys *keyProcess, log string) tree.Checkpoint {
	t.Helper()
	b, err := readFile(fs, log+"/tree/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	cp, err := keys.trust().Open(b)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

// Every acknowledged record is covered by a signed checkpoint within two seconds, and the last ones when keeping ends.
func TestCheckpointsCoverAllRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openClosed(t)
		keys := newKeyProcess()
		if err := a.Attach(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		stop := keeping(t, a, Keeping{Signer: keys})
		for range 300 {
			mustAppend(t, a.Decisions(), "/")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		note, cp := a.Checkpoint(DecisionLog)
		if cp.Size != 300 || cp.Root != rootOf(t, m.beside(), DecisionLog, 300) || len(note) == 0 {
			t.Errorf("checkpoint after a second is %+v", cp)
		}
		mustAppend(t, a.Decisions(), "/")
		mustAppend(t, a.Control(), "/")
		stop()
		for log, size := range map[string]uint64{DecisionLog: 301, ControlLog: 1} {
			cp := published(t, m, keys, log)
			if cp.Size != size || cp.Root != rootOf(t, m.beside(), log, size) || cp.Origin != testOrigin+"/"+log {
				t.Errorf("last checkpoint of the %s log is %+v, want %d records", log, cp, size)
			}
			history, err := readFile(m, log+"/tree/history")
			if last, end := lastNoteOf(history); err != nil || end != len(history) || last.Size != size {
				t.Errorf("history of the %s log ends with %+v: %v", log, last, err)
			}
		}
		asked := keys.asked
		if err := a.Close(); err != nil || keys.asked != asked {
			t.Errorf("close: %v, and it asked for %d signatures of what was signed", err, keys.asked-asked)
		}
	})
}

func lastNoteOf(history []byte) (last tree.Checkpoint, end int) {
	at, b := lastNote(history, 0)
	body, _, _ := strings.Cut(string(b), "\n\n")
	last, _ = tree.ParseCheckpointBody([]byte(body + "\n"))
	return last, int(at)
}

// A checkpoint is due after 4,096 records even if a second is long.
func TestCheckpointAfterManyRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := openSimulated(t)
		keys := newKeyProcess()
		keeping(t, a, Keeping{Signer: keys, Checkpoint: time.Hour})
		mustAppend(t, a.Decisions(), "/")
		synctest.Wait()
		if got := keys.position(DecisionLog).Size; got != 1 {
			t.Errorf("signed %d records at once, want the first", got)
		}
		for range 2*checkpointLeaves + 10 {
			if err := a.Decisions().Post(t.Context(), decision("/")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := keys.position(DecisionLog).Size; got < checkpointLeaves {
			t.Errorf("signed %d records of %d", got, a.Decisions().Records())
		}
	})
}

// Close covers what came after Keep had ended.
func TestCloseSignsTheLastRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openClosed(t)
		keys := newKeyProcess()
		stop := keeping(t, a, Keeping{Signer: keys})
		stop()
		mustAppend(t, a.Control(), "/stopped")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if cp := published(t, m, keys, ControlLog); cp.Size != 1 {
			t.Errorf("last checkpoint is of %d records", cp.Size)
		}
	})
}

// AUD-06: a log that is shorter than what was signed, or another, is not served, and the error says what to do.
func TestRolledBackLogIsRefused(t *testing.T) {
	for name, forge := range map[string]func(*keyProcess){
		"shorter": func(k *keyProcess) {
			k.last[DecisionLog] = tree.Checkpoint{Origin: testOrigin + "/decision", Size: 7}
		},
		"another": func(k *keyProcess) {
			k.last[DecisionLog] = tree.Checkpoint{Origin: testOrigin + "/decision", Size: 3, Root: tree.Hash{1}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := openSimulated(t)
				for range 5 {
					mustAppend(t, a.Decisions(), "/")
				}
				keys := newKeyProcess()
				forge(keys)
				err := a.Attach(t.Context(), keys)
				if !errors.Is(err, ErrRolledBack) || !strings.Contains(err.Error(), "new-epoch") || !strings.Contains(err.Error(), "decision log") {
					t.Errorf("attach answers %v", err)
				}
				// Whoever goes on all the same does not serve, until the operator has decided.
				refused := func() {
					if err := a.Healthy(); !errors.Is(err, ErrRolledBack) || !errors.Is(err, ErrUnavailable) {
						t.Errorf("health is %v", err)
					}
				}
				refused()
				keeping(t, a, Keeping{Signer: keys})
				synctest.Wait()
				refused()
				if _, err := a.Decisions().Append(t.Context(), decision("/")); !errors.Is(err, ErrUnavailable) {
					t.Errorf("append answers %v", err)
				}
				keys.epoch(DecisionLog, testOrigin+"/decision/2", "previous "+testOrigin+"/decision 7 "+tree.EmptyRoot.String())
				time.Sleep(lastSigning)
				synctest.Wait()
				if err := a.Healthy(); err != nil {
					t.Errorf("health in a new epoch: %v", err)
				}
				_, cp := a.Checkpoint(DecisionLog)
				if cp.Size != 5 || cp.Origin != testOrigin+"/decision/2" || len(cp.Extensions) != 1 {
					t.Errorf("first checkpoint of the epoch is %+v", cp)
				}
			})
		})
	}
}

// A signer that signs for another log is none of ours.
func TestForeignOriginIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk(nil).boot(-1, false)
		a, err := Open(Config{Dir: "unused", Origin: "other.example/audit"}, quiet(Options{FS: m, segmentSize: smallestSegment}))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := a.Attach(t.Context(), newKeyProcess()); err == nil || !strings.Contains(err.Error(), "other.example/audit/decision") {
			t.Errorf("attach answers %v", err)
		}
	})
}

// While the signer is away records are taken, for ten minutes; then nothing is served; when it is back, all goes on.
func TestUnsignedRecordsStopServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		keys := newKeyProcess()
		if err := a.Attach(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		var states []bool
		a.OnState(func(err error) { states = append(states, err == nil) })
		keeping(t, a, Keeping{Signer: keys, Heartbeat: time.Hour})
		away := errors.New("no answer")
		keys.setFault(func(string, string) error { return away }, nil)
		time.Sleep(time.Hour)
		if err := a.Healthy(); err != nil {
			t.Errorf("a log without new records became unhealthy: %v", err)
		}
		mustAppend(t, a.Decisions(), "/")
		time.Sleep(defaultMaxUnsigned - time.Minute)
		if err := a.Healthy(); err != nil {
			t.Errorf("health after nine minutes: %v", err)
		}
		mustAppend(t, a.Decisions(), "/")
		time.Sleep(2 * time.Minute)
		if err := a.Healthy(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("health after eleven minutes: %v", err)
		}
		if _, err := a.Decisions().Append(t.Context(), decision("/")); !errors.Is(err, ErrUnavailable) {
			t.Errorf("append after eleven minutes: %v", err)
		}
		mustAppend(t, a.Control(), "/of an operator")
		keys.setFault(nil, nil)
		time.Sleep(lastSigning + time.Second)
		if err := a.Healthy(); err != nil {
			t.Errorf("health with the signer back: %v", err)
		}
		mustAppend(t, a.Decisions(), "/")
		if len(states) < 2 || states[0] || !states[len(states)-1] {
			t.Errorf("states told: %v", states)
		}
		codes := map[string]int{}
		for _, r := range records(t, m.beside(), ControlLog) {
			codes[r.Code]++
		}
		if codes[CodeCheckpointFailed] != codes[CodeCheckpointResumed] || codes[CodeCheckpointFailed] == 0 || codes[CodeCheckpointFailed] > 2 {
			t.Errorf("control records: %v", codes)
		}
	})
}

// An answer that is lost on its way, and one that comes for something else, cost nothing.
func TestLostSignatureIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		keys := newKeyProcess()
		keeping(t, a, Keeping{Signer: keys})
		var n atomic.Int32
		keys.setFault(nil, func(string, string) error {
			if n.Add(1)%2 == 1 {
				return errors.New("connection reset")
			}
			return nil
		})
		for range 20 {
			mustAppend(t, a.Decisions(), "/")
			time.Sleep(1500 * time.Millisecond)
		}
		keys.setFault(nil, nil)
		time.Sleep(lastSigning)
		if cp := published(t, m, keys, DecisionLog); cp.Size != 20 {
			t.Errorf("published %d records", cp.Size)
		}
	})
}

// Whatever happens to tiles, checkpoints and the signer, no record waits for it.
func TestTreeNeverDelaysRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		keys := newKeyProcess()
		keeping(t, a, Keeping{Signer: keys, Heartbeat: time.Second})
		hang := make(chan struct{})
		m.setFault(func(_, name string) error {
			if strings.Contains(name, "/tree") {
				<-hang
			}
			return nil
		})
		began := time.Now()
		for range 5000 {
			mustAppend(t, a.Decisions(), "/")
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("5000 records took %v beside a tree that hangs", took)
		}
		keys.setFault(func(string, string) error { <-hang; return nil }, nil)
		time.Sleep(time.Minute)
		mustAppend(t, a.Decisions(), "/")
		if took := time.Since(began); took > time.Minute {
			t.Errorf("a record took %v beside a signer that hangs", took-time.Minute)
		}
		m.setFault(nil)
		keys.setFault(nil, nil)
		time.Sleep(defaultMaxUnsigned)
		if err := a.Healthy(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("health while nothing is signed: %v", err)
		}
		close(hang)
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := a.Healthy(); err != nil {
			t.Errorf("health after all: %v", err)
		}
		if _, cp := a.Checkpoint(DecisionLog); cp.Size < 5001 {
			t.Errorf("signed %d records after all", cp.Size)
		}
	})
}

// Heartbeats name the other log's checkpoint, the clock and the tree, in both logs, each minute.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk(nil).boot(-1, false)
		var step atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(step.Load())) }
		a := openTest(t, "unused", Options{FS: m, segmentSize: smallestSegment, Now: now})
		keys := newKeyProcess()
		keeping(t, a, Keeping{Signer: keys, Sinks: func() any { return []string{"siem"} }})
		mustAppend(t, a.Decisions(), "/")
		mustAppend(t, a.Control(), "/")
		time.Sleep(30 * time.Second)
		step.Store(int64(5 * time.Second))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		for log, other := range map[string]string{DecisionLog: ControlLog, ControlLog: DecisionLog} {
			all := records(t, m.beside(), log)
			r := all[len(all)-1]
			var h Heartbeat
			if err := json.Unmarshal(r.Detail, &h); err != nil || r.Type != TypeHeartbeat {
				t.Fatalf("last record of the %s log is %s %s: %v", log, r.Type, r.Detail, err)
			}
			cp, err := keys.trust().Open([]byte(h.Other))
			if err != nil || cp.Origin != testOrigin+"/"+other || cp.Size == 0 {
				t.Errorf("heartbeat's anchor is %q: %v", h.Other, err)
			}
			if h.Log != log || h.Clock.DriftMS != 5000 || h.Clock.Sync == "" || string(h.Sinks) != `["siem"]` || h.Tree.Signed == 0 || h.Tree.Size < h.Tree.Signed {
				t.Errorf("heartbeat of the %s log: %s", log, r.Detail)
			}
		}
	})
}

// Heartbeats leave a log alone that cannot be written.
func TestHeartbeatsDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, m := openSimulated(t)
		keeping(t, a, Keeping{Signer: newKeyProcess()})
		m.setFault(func(string, string) error { return syscall.ENOSPC })
		_, _ = a.Decisions().Append(t.Context(), decision("/"))
		_, _ = a.Control().Append(t.Context(), decision("/"))
		time.Sleep(24 * time.Hour)
		m.setFault(nil)
		time.Sleep(time.Minute + lastSigning)
		synctest.Wait()
		if err := a.Healthy(); err != nil {
			t.Errorf("health after a day without disk: %v", err)
		}
		for _, log := range []string{DecisionLog, ControlLog} {
			if n := len(records(t, m.beside(), log)); n > 8 {
				t.Errorf("%d records in the %s log", n, log)
			}
		}
	})
}

// AUD-02: a tree that cannot be written costs no record. It is reported once, and heals.
func TestTreeOutageIsReportedOnce(t *testing.T) {
	for name, fails := range map[string]error{"full disk": syscall.ENOSPC, "failing sync": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, m := openSimulated(t)
				keys := newKeyProcess()
				keeping(t, a, Keeping{Signer: keys})
				mustAppend(t, a.Decisions(), "/")
				time.Sleep(2 * time.Second)
				m.setFault(func(op, name string) error {
					if strings.Contains(name, "decision/tree") && (fails == syscall.ENOSPC || op == "sync") {
						return fails
					}
					return nil
				})
				for range 300 {
					mustAppend(t, a.Decisions(), "/")
					time.Sleep(time.Second)
				}
				if err := a.Healthy(); err != nil {
					t.Errorf("health after five minutes: %v", err)
				}
				m.setFault(nil)
				time.Sleep(lastSigning + 2*time.Second)
				synctest.Wait()
				all := records(t, m.beside(), ControlLog)
				codes := map[string]int{}
				for _, r := range all {
					codes[r.Code]++
				}
				if codes[CodeCheckpointFailed] != 1 || codes[CodeCheckpointResumed] != 1 {
					t.Errorf("control records: %v", codes)
				}
				for _, log := range []string{DecisionLog, ControlLog} {
					if err := errors.Join(checkSigned(m.beside(), keys, log), checkTiles(m.beside(), log)); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// AUD-10: a clock that goes back stops neither checkpoints nor the watch over them.
func TestClockBackDoesNotStopCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk(nil).boot(-1, false)
		var step atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(step.Load())) }
		a := openTest(t, "unused", Options{FS: m, segmentSize: smallestSegment, Now: now})
		keys := newKeyProcess()
		keeping(t, a, Keeping{Signer: keys})
		mustAppend(t, a.Decisions(), "/")
		time.Sleep(2 * time.Second)
		step.Store(int64(-24 * time.Hour))
		mustAppend(t, a.Decisions(), "/")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := keys.position(DecisionLog).Size; got != a.Decisions().Records() || got < 3 {
			t.Errorf("signed %d of %d records", got, a.Decisions().Records())
		}
		keys.setFault(func(string, string) error { return syscall.ECONNREFUSED }, nil)
		mustAppend(t, a.Decisions(), "/")
		time.Sleep(defaultMaxUnsigned + 2*time.Second)
		if err := a.Healthy(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("health: %v", err)
		}
		keys.setFault(nil, nil)
		time.Sleep(lastSigning + time.Second)
	})
}

// A second process that finds the directory held touches neither its trees nor the key process.
func TestSecondProcessSignsNothing(t *testing.T) {
	dir, keys := t.TempDir(), newKeyProcess()
	run(t, dir, keys, 10)
	a, err := Open(Config{Dir: dir}, quiet(Options{segmentSize: 8 * smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Attach(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}, quiet(Options{segmentSize: 8 * smallestSegment})); !errors.Is(err, ErrLocked) {
		t.Errorf("second process: %v", err)
	}
	mustAppend(t, a.Decisions(), "/")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	late := a.keepers[0]
	asked := keys.asked
	late.step(t.Context()) // the directory may be another process's by now
	if keys.asked != asked {
		t.Error("a closed audit asked for a signature")
	}
	checkTree(t, dir, keys, 11)
}
