package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/audit/tree"
)

// succession is the note of a log's change of keys, from one seed to another, signed by the keys of these seeds.
func (w *world) succession(name string, from, to byte, last tree.Checkpoint, by ...byte) string {
	s := tree.Succession{Origin: name, Old: (&keys{seed: from}).vkey(name), New: (&keys{seed: to}).vkey(name), Size: last.Size, Root: last.Root}
	return string((&keys{seed: by[0], retiring: by[1:]}).signNote(name, string(s.Text())))
}

// tell has the control log say that keys changed.
func (w *world) tell(a *audit.Audit, notes ...string) {
	detail, err := json.Marshal(map[string]any{"notes": strings.Join(notes, "\n")})
	if err != nil {
		w.t.Fatal(err)
	}
	record := &audit.Record{Type: audit.TypeControl, Code: audit.CodeCheckpointKeyChanged, Actor: &audit.Actor{Kind: "gateway", ID: "pid:1"}, Detail: detail}
	if _, err := a.Control().Append(context.Background(), record); err != nil {
		w.t.Fatal(err)
	}
}

// changeKeys hands both logs over from the present key to that of another seed.
func (w *world) changeKeys(a *audit.Audit, to byte) {
	w.keys.mu.Lock()
	from := w.keys.seed
	var notes []string
	for _, log := range []string{audit.DecisionLog, audit.ControlLog} {
		last := w.keys.last[log]
		notes = append(notes, w.succession(last.Origin, from, to, last, from, to))
	}
	w.keys.seed, w.keys.retiring = to, []byte{from}
	w.keys.mu.Unlock()
	w.tell(a, notes...)
}

// some lets a run do something for a while.
func (w *world) some(a *audit.Audit) {
	w.decide(a, 30)
	w.control(a, 10)
	time.Sleep(90 * time.Second)
}

// rotated is the directory of a gateway whose checkpoint key changed so many times, each in a run; told is whether the
// control log says so. After each change there is a run with the new key alone.
func rotated(t *testing.T, changes int, told func(w *world, a *audit.Audit, to byte)) map[string][]byte {
	w := newWorld(t, rand.New(rand.NewPCG(3, uint64(changes))))
	bubble(t, func() {
		for i := range changes {
			w.run(func(a *audit.Audit, _ *machine) {
				w.some(a)
				told(w, a, byte(i+2))
				w.some(a)
			})
			w.keys.mu.Lock()
			w.keys.seed, w.keys.retiring = byte(i+2), nil
			w.keys.mu.Unlock()
			w.run(func(a *audit.Audit, _ *machine) { w.some(a) })
		}
	})
	return w.files()
}

func trustOf(t *testing.T, seeds ...byte) *tree.Trust {
	t.Helper()
	var text strings.Builder
	for _, seed := range seeds {
		text.WriteString((&keys{seed: seed}).trustFile())
	}
	trust, err := tree.ParseTrust([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// Whoever trusts the first key of a log follows its successors, whoever trusts the last looks back, and both are told of
// the keys in between.
func TestTrustFollowsAChangeOfKeys(t *testing.T) {
	files := rotated(t, 3, (*world).changeKeys)
	for seed := byte(1); seed <= 4; seed++ {
		report := verifyFiles(t, files, Options{Trust: trustOf(t, seed), Rederive: new(oracle)})
		if report.Result != Pass {
			t.Errorf("trusting key %d alone:\n%s", seed, printed(report))
		}
		text := printed(report)
		for next := byte(2); next <= 4; next++ {
			if told := strings.Contains(text, (&keys{seed: next}).vkey(testOrigin+"/control")); told != (next > seed) {
				t.Errorf("trusting key %d alone: told of key %d: %v", seed, next, told)
			}
		}
	}
	if report := verifyFiles(t, files, Options{Trust: trustOf(t, 1, 2, 3, 4)}); report.Result != Pass {
		t.Errorf("trusting all:\n%s", printed(report))
	}
	if report := verifyFiles(t, files, Options{Trust: trustOf(t, 9)}); report.Result != Untrusted {
		t.Errorf("trusting another key: got %v, want %v", report.Result, Untrusted)
	}
}

// A key is followed only if both keys signed, for this log, in a record that a checkpoint covers. A verifier that leaves
// out the signatures, the origin or the checkpoint is found out.
func TestForgedSuccessionsAreRefused(t *testing.T) {
	last := func(w *world, log string) tree.Checkpoint {
		w.keys.mu.Lock()
		defer w.keys.mu.Unlock()
		return w.keys.last[log]
	}
	switchTo := func(w *world, to byte) {
		w.keys.mu.Lock()
		defer w.keys.mu.Unlock()
		w.keys.seed = to // a stranger's, at once: nothing more is signed by the old one
	}
	forge := func(note func(w *world, name string, c tree.Checkpoint, to byte) string) func(*world, *audit.Audit, byte) {
		return func(w *world, a *audit.Audit, to byte) {
			var notes []string
			for _, log := range []string{audit.DecisionLog, audit.ControlLog} {
				notes = append(notes, note(w, testOrigin+"/"+log, last(w, log), to))
			}
			switchTo(w, to)
			w.tell(a, notes...)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(w *world, a *audit.Audit, to byte)
		mutant skips // a verifier that believes it; none where it is not believed anyway
	}{
		{"not told at all", func(w *world, _ *audit.Audit, to byte) { switchTo(w, to) }, skips{}},
		{"signed by the new key only", forge(func(w *world, name string, c tree.Checkpoint, to byte) string {
			return w.succession(name, 1, to, c, to)
		}), skips{openSuccession: unsigned}},
		{"signed by the old key only", forge(func(w *world, name string, c tree.Checkpoint, to byte) string {
			return w.succession(name, 1, to, c, 1)
		}), skips{openSuccession: unsigned}},
		{"signed by the new key and a third", forge(func(w *world, name string, c tree.Checkpoint, to byte) string {
			return w.succession(name, 1, to, c, to, 7)
		}), skips{openSuccession: unsigned}},
		{"from a key that is nobody's", forge(func(w *world, name string, c tree.Checkpoint, to byte) string {
			return w.succession(name, 7, to, c, 7, to)
		}), skips{}},
		{"of another origin", forge(func(w *world, name string, c tree.Checkpoint, to byte) string {
			return w.succession(strings.Replace(name, "corp", "other", 1), 1, to, c, 1, to)
		}), skips{}},
		{"altered", forge(func(w *world, name string, c tree.Checkpoint, to byte) string {
			return strings.Replace(w.succession(name, 1, to, c, 1, to), "\nsize ", "\nsize 1", 1)
		}), skips{openSuccession: unsigned}},
		{"of a tree that is not the log's", forge(func(w *world, name string, c tree.Checkpoint, to byte) string {
			c.Root[0] ^= 1
			return w.succession(name, 1, to, c, 1, to)
		}), skips{handed: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := rotated(t, 1, tt.change)
			report := verifyFiles(t, files, Options{Trust: trustOf(t, 1)})
			if report.Result == Pass || report.Result == Gaps {
				t.Errorf("got %v:\n%s", report.Result, printed(report))
			}
			if tt.mutant.openSuccession == nil && !tt.mutant.handed {
				return
			}
			if report := verifyFiles(t, files, Options{Trust: trustOf(t, 1), skip: tt.mutant}); report.Result != Pass {
				t.Errorf("a verifier that does not look got %v, so that this test proves nothing:\n%s", report.Result, printed(report))
			}
		})
	}
}

// unsigned is a verifier that reads a note about a change of keys and asks no signature.
func unsigned(signed []byte) (tree.Succession, error) {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	lines := strings.Split(text, "\n")
	s := tree.Succession{Origin: lines[0], Old: lines[2][4:], New: lines[3][4:]}
	return s, nil
}

// A record that no checkpoint covers says nothing: whoever can write the newest segment could else bring a key along.
func TestSuccessionMustBeInTheSignedLog(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(3, 9)))
	bubble(t, func() {
		w.run(func(a *audit.Audit, _ *machine) { w.some(a) })
		w.run(func(a *audit.Audit, _ *machine) {
			w.some(a)
			w.changeKeys(a, 2)
			w.some(a)
		})
	})
	files := w.files()
	// Only the decision log keeps what the new key signed alone; the control log's checkpoints end before the record.
	before := slices.IndexFunc(w.keys.all[audit.ControlLog], func(note []byte) bool { return strings.Count(string(note), "\n— ") == 2 })
	cut := w.keys.all[audit.ControlLog][before-1]
	files["control/tree/checkpoint"] = cut
	files["control/tree/history"] = fmt.Appendf(nil, "%s\n", cut)
	files["decision/tree/checkpoint"] = (&keys{seed: 2}).signNote(testOrigin+"/decision", string(w.keys.last[audit.DecisionLog].Body()))
	report := verifyFiles(t, files, Options{Trust: trustOf(t, 1)})
	if report.Result != Untrusted {
		t.Errorf("got %v, want %v:\n%s", report.Result, Untrusted, printed(report))
	}
	if report := verifyFiles(t, files, Options{Trust: trustOf(t, 1), skip: skips{covered: true}}); report.Result == Untrusted {
		t.Errorf("a verifier that does not look got %v, so that this test proves nothing:\n%s", report.Result, printed(report))
	}
}

// A former key is believed up to the change, and no further.
func TestFormerKeysEndWithTheChange(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(3, 10)))
	bubble(t, func() {
		w.run(func(a *audit.Audit, _ *machine) {
			w.some(a)
			w.changeKeys(a, 2)
			w.some(a)
		})
	})
	files := w.files()
	files["decision/tree/checkpoint"] = (&keys{seed: 1}).signNote(testOrigin+"/decision", string(w.keys.last[audit.DecisionLog].Body()))
	if report := verifyFiles(t, files, Options{Trust: trustOf(t, 2)}); report.Result != Untrusted {
		t.Errorf("a checkpoint of after the change by the key of before: got %v, want %v:\n%s", report.Result, Untrusted, printed(report))
	}
}
