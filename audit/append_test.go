package audit

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
)

// openTest opens an audit directory with small segments and closes it with the test.
func openTest(t testing.TB, dir string, opts Options) *Audit {
	t.Helper()
	a, err := Open(Config{Dir: dir}, quiet(opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return a
}

// quiet fills in what most tests want: segments of a megabyte, no log lines, a fixed name.
func quiet(opts Options) Options {
	if opts.segmentSize == 0 {
		opts.segmentSize = minSegmentSize
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	opts.Replica = "test"
	return opts
}

func decision(path string) *Record {
	input, err := json.Marshal(map[string]any{"resource": map[string]any{"path": path}})
	if err != nil {
		panic(err)
	}
	return &Record{Type: TypeDecision, RequestID: "req-1", App: "wiki", Effect: Allow, Reason: "policy", Input: input}
}

// AUD-11: parallel requests get a gapless sequence, each its own number.
func TestParallelAppendsLeaveNoGap(t *testing.T) {
	const n = 2000
	a := openTest(t, t.TempDir(), Options{})
	seqs := make([]uint64, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			receipt, err := a.Decisions().Append(context.Background(), decision("/a"))
			if err != nil {
				t.Error(err)
			}
			seqs[i] = receipt.Seq
		})
	}
	wg.Wait()
	seen := make([]bool, n)
	for _, seq := range seqs {
		if seq >= n || seen[seq] {
			t.Fatalf("seq %d: out of range or given twice", seq)
		}
		seen[seq] = true
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]Config{
		"no dir":    {},
		"too small": {Dir: "x", SegmentSize: 1},
		"too large": {Dir: "x", SegmentSize: 1 << 40},
	} {
		if c.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := Open(c, Options{}); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if err := (Config{Dir: "x"}).Check(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}
