package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/audit/segment"
)

// written is an audit directory of one run with decisions /0 … /n-1, each in a batch of its own, and where those start.
type written struct {
	dir     string
	segment string  // the decision log's file
	frames  []int64 // offsets
	end     int64
}

func writeLog(t testing.TB, n int) *written {
	t.Helper()
	w := &written{dir: t.TempDir()}
	w.segment = filepath.Join(w.dir, segment.Name(DecisionLog, 1))
	a, err := Open(Config{Dir: w.dir}, quiet(Options{segmentSize: smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		w.frames = append(w.frames, a.decisions.seg.end)
		// Longer than a few sectors, so that there is something to tear.
		mustAppend(t, a.Decisions(), fmt.Sprintf("/%d/%s", i, strings.Repeat("x", 3000)))
	}
	w.end = a.decisions.seg.end
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *written) edit(t testing.TB, do func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(w.segment)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.segment, do(b), fileMode); err != nil {
		t.Fatal(err)
	}
}

// reopen starts a gateway on the directory and returns what the decision log holds, before anything is added.
func (w *written) reopen(t *testing.T) ([]*Record, error) {
	t.Helper()
	a, err := Open(Config{Dir: w.dir}, quiet(Options{segmentSize: smallestSegment}))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	return records(t, a.fs, DecisionLog), nil
}

// AUD-04: whatever a crash leaves of the last batch is dropped whole and noted, and the log goes on.
func TestTornTailIsDroppedAndNoted(t *testing.T) {
	const n = 4
	zero := func(b []byte, from, to int64) []byte { clear(b[from:to]); return b }
	for name, tear := range map[string]func(b []byte, at, end int64) []byte{
		"half a record":        func(b []byte, at, end int64) []byte { return b[:at+1000] },
		"cut in the header":    func(b []byte, at, end int64) []byte { return b[:at+10] },
		"zeroed tail":          func(b []byte, at, end int64) []byte { return zero(b, at+sector, end) },
		"zeroed head":          func(b []byte, at, end int64) []byte { return zero(b, at, at+sector) },
		"zeroed sector within": func(b []byte, at, end int64) []byte { return zero(b, at+2*sector, at+3*sector) },
		"only the last sector": func(b []byte, at, end int64) []byte { return zero(b, at, at+6*sector) },
		"bad checksum":         func(b []byte, at, end int64) []byte { b[at+4] ^= 1; return b },
		"bad byte":             func(b []byte, at, end int64) []byte { b[at+2000] ^= 1; return b },
		"cut between batches":  func(b []byte, at, end int64) []byte { return b[:at] },
		"bad length":           func(b []byte, at, end int64) []byte { b[at+23] = 0xff; return b },
	} {
		t.Run(name, func(t *testing.T) {
			w := writeLog(t, n)
			w.edit(t, func(b []byte) []byte { return tear(b, w.frames[n-1], w.end) })
			for boot := range 3 {
				all, err := w.reopen(t)
				if err != nil {
					t.Fatalf("start %d: %v", boot, err)
				}
				if len(all) != n || all[n-1].Type != TypeRecovered || all[n-1].Code != CodeTornTail {
					t.Fatalf("start %d: %d records, want %d and a recovered record", boot, len(all), n-1)
				}
				checkDropped(t, all[n-1], w.frames[n-1])
			}
		})
	}
}

func checkDropped(t *testing.T, r *Record, offset int64) {
	t.Helper()
	var d struct {
		File    string
		Offset  int64
		Dropped int64 `json:"dropped_bytes"`
		Missing int64 `json:"missing_bytes"`
	}
	if err := json.Unmarshal(r.Detail, &d); err != nil {
		t.Fatal(err)
	}
	if d.File != segment.Name(DecisionLog, 1) || d.Offset != offset || d.Dropped+d.Missing <= 0 {
		t.Errorf("recovered record says %+v, want offset %d", d, offset)
	}
}

// Every way in which the sectors of one batch may have been written or not is a tail or a whole batch; never damage,
// and never a part of the batch.
func TestAnySubsetOfSectorsRecovers(t *testing.T) {
	w := writeLog(t, 2)
	whole, err := os.ReadFile(w.segment)
	if err != nil {
		t.Fatal(err)
	}
	sectors := int((w.end - w.frames[1]) / sector)
	for subset := range 1 << sectors {
		b := slices.Clone(whole)
		for i := range sectors {
			if at := w.frames[1] + int64(i)*sector; subset>>i&1 == 0 {
				clear(b[at : at+sector])
			}
		}
		h, err := segment.ParseHeader(b[:segment.Block])
		if err != nil {
			t.Fatal(err)
		}
		x, err := segment.MeasureLast(bytes.NewReader(b), int64(len(b)), h)
		if err != nil {
			t.Fatalf("subset %b: %v", subset, err)
		}
		complete := bytes.Equal(b, whole)
		if wantSeq := uint64(1); !complete && (x.NextSeq() != wantSeq || x.End != w.frames[1]) || complete && x.NextSeq() != 2 {
			t.Fatalf("subset %b: ends at %d, next seq %d", subset, x.End, x.NextSeq())
		}
	}
}

// AUD-05: any bit that changes before the last batch stops the start, with the place; readers stop there too.
func TestDamageBeforeTheTailStopsTheStart(t *testing.T) {
	rnd := randomness(t)
	for range rounds(t, 60) {
		w := writeLog(t, 5)
		at := rnd.Int64N(w.frames[4])
		checkDamage(t, w, at, func() {
			w.edit(t, func(b []byte) []byte { b[at] ^= 1 << rnd.IntN(8); return b })
		})
	}
}

// The same in a segment that has a successor, where not even the last batch may change.
func TestDamageInASealedSegmentStopsTheStart(t *testing.T) {
	rnd := randomness(t)
	for range rounds(t, 20) {
		w := writeLog(t, 3)
		if _, err := w.reopen(t); err != nil {
			t.Fatal(err)
		}
		at := rnd.Int64N(w.end)
		checkDamage(t, w, at, func() {
			w.edit(t, func(b []byte) []byte { b[at] ^= 1 << rnd.IntN(8); return b })
		})
	}
}

func checkDamage(t *testing.T, w *written, at int64, do func()) {
	t.Helper()
	do()
	_, err := w.reopen(t)
	if at >= 7 && at < 8 { // the version: not damage but another format
		if err == nil {
			t.Error("start with a changed version succeeded")
		}
		return
	}
	d, ok := errors.AsType[*Damage](err)
	if !ok {
		t.Fatalf("start after a change at %d: %v, want *Damage", at, err)
	}
	want := at / segment.Block * segment.Block
	if d.File != segment.Name(DecisionLog, 1) || d.Offset != want {
		t.Errorf("change at %d: reported in %s at %d, want %d", at, d.File, d.Offset, want)
	}
	if err := readAll(t, w.dir); !errors.As(err, &d) {
		t.Errorf("reading after a change at %d: %v, want *Damage", at, err)
	}
}

func readAll(t *testing.T, dir string) error {
	t.Helper()
	r, err := OpenReader(dir, DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, err := range r.All(context.Background(), Filter{}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// Batches that are whole but in the wrong place are damage as well.
func TestMovedBatchesStopTheStart(t *testing.T) {
	for name, change := range map[string]func(w *written, b []byte) []byte{
		"removed": func(w *written, b []byte) []byte {
			return append(slices.Clone(b[:w.frames[1]]), b[w.frames[2]:]...)
		},
		"swapped": func(w *written, b []byte) []byte {
			first := slices.Clone(b[w.frames[1]:w.frames[2]])
			copy(b[w.frames[1]:], b[w.frames[2]:w.frames[3]])
			copy(b[w.frames[2]:], first)
			return b
		},
		"repeated": func(w *written, b []byte) []byte {
			copy(b[w.end:], b[w.frames[4]:w.end])
			return b
		},
		"from another segment": func(w *written, b []byte) []byte {
			f := segment.SealFrame(append(segment.BeginFrame(nil), "{}\n"...), [16]byte{1}, 1, 1)
			copy(b[w.frames[1]:w.frames[2]], make([]byte, segment.Block))
			copy(b[w.frames[1]:], f)
			return b
		},
		"remains behind the tail": func(w *written, b []byte) []byte {
			b[w.end+segment.MaxFrame] = 1
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := writeLog(t, 5)
			if name == "remains behind the tail" {
				w.edit(t, func(b []byte) []byte { return append(b, make([]byte, 2*segment.MaxFrame)...) })
			}
			w.edit(t, func(b []byte) []byte { return change(w, b) })
			_, err := w.reopen(t)
			if _, ok := errors.AsType[*Damage](err); !ok {
				t.Errorf("start: %v, want *Damage", err)
			}
		})
	}
}

// A log that does not fit together stops the start and says which file.
func TestBrokenChainStopsTheStart(t *testing.T) {
	second := segment.Name(DecisionLog, 2)
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string)
		want string
	}{
		"missing segment": {func(t *testing.T, dir string) { remove(t, dir, second) }, second},
		"duplicated segment": {func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, second))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, segment.Name(DecisionLog, 4)), b, fileMode)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, segment.Name(DecisionLog, 4)},
		"segment of the other log": {func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, segment.Name(ControlLog, 2)), filepath.Join(dir, second)); err != nil {
				t.Fatal(err)
			}
		}, second},
		"first segments removed, first seq left": {func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, second), filepath.Join(dir, segment.Name(DecisionLog, 1))); err != nil {
				t.Fatal(err)
			}
			remove(t, dir, segment.Name(DecisionLog, 3))
		}, segment.Name(DecisionLog, 1)},
		"cut short": {func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, segment.Name(DecisionLog, 1)), 2*segment.Block); err != nil {
				t.Fatal(err)
			}
		}, segment.Name(DecisionLog, 1)},
		"whole log missing": {func(t *testing.T, dir string) {
			for n := range uint64(3) {
				remove(t, dir, segment.Name(DecisionLog, n+1))
			}
		}, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			w := writeLog(t, 3)
			for range 2 { // segments 2 and 3
				a := openOnce(t, w.dir)
				mustAppend(t, a.Decisions(), "/more")
				mustAppend(t, a.Control(), "/control")
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
			}
			c.do(t, w.dir)
			_, err := w.reopen(t)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("start: %v, want an error that names %s", err, c.want)
			}
		})
	}
}

func openOnce(t *testing.T, dir string) *Audit {
	t.Helper()
	a, err := Open(Config{Dir: dir}, quiet(Options{segmentSize: smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// A later format is refused by name, not taken for damage.
func TestNewerFormatIsRefused(t *testing.T) {
	w := writeLog(t, 1)
	w.edit(t, func(b []byte) []byte { b[7] = segment.Version + 1; return b })
	if _, err := w.reopen(t); err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("start: %v, want an error that names version 3", err)
	}
}

// A frame that a torn tail hid must not come to light when the log has gone on, wherever the pieces lie.
func TestNothingBehindTheTailComesBack(t *testing.T) {
	const n = 3
	w := writeLog(t, n)
	whole, err := os.ReadFile(w.segment)
	if err != nil {
		t.Fatal(err)
	}
	w.edit(t, func(b []byte) []byte { clear(b[w.frames[2] : w.frames[2]+sector]); return b })
	if _, err := w.reopen(t); err != nil {
		t.Fatal(err)
	}
	// The missing sector turns up after all, with everything else that the file ever held.
	if err := os.WriteFile(w.segment, whole, fileMode); err != nil {
		t.Fatal(err)
	}
	all, err := w.reopen(t)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != n || all[n-1].Type != TypeRecovered {
		t.Errorf("%d records, the last a %s: want the recovered record in place of the dropped one", len(all), all[len(all)-1].Type)
	}
}

// Boots are numbered upwards and seq goes on over them, as it does over segments.
func TestSeqAndBootGoOn(t *testing.T) {
	dir := t.TempDir()
	var last Boot
	for boot := range uint64(5) {
		a := openOnce(t, dir)
		if a.Boot().N != last.N+1 || a.Boot().ID == last.ID {
			t.Errorf("boot %v after %v", a.Boot(), last)
		}
		last = a.Boot()
		for i := range uint64(4) {
			r := mustAppend(t, a.Decisions(), strings.Repeat("x", rand.N(40<<10)))
			if want := boot*4 + i; r.Seq != want || r.Log != DecisionLog || r.ID == "" {
				t.Errorf("receipt %+v, want seq %d", r, want)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d, err := openDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	all := records(t, d, DecisionLog)
	if len(all) != 20 || all[19].Boot != last {
		t.Errorf("%d records, the last of boot %v; want 20 and %v", len(all), all[len(all)-1].Boot, last)
	}
}

// What a segment did not use is given back once it has a successor.
func TestUnusedSpaceIsGivenBack(t *testing.T) {
	w := writeLog(t, 1)
	if _, err := w.reopen(t); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(w.segment)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != w.end {
		t.Errorf("sealed segment has %d bytes, want %d", info.Size(), w.end)
	}
	left, err := filepath.Glob(filepath.Join(w.dir, "*", "*"+temporarySuffix))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}
