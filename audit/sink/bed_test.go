package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/audit/audittest"
)

// machine is an audit directory in memory.
type machine struct{ *audittest.Machine }

func (m machine) OpenFile(name string, flag int) (audit.File, error) {
	f, err := m.Machine.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (m machine) Lock(name string) (io.Closer, error) {
	l, err := m.Machine.Lock(name)
	if errors.Is(err, audittest.ErrHeld) {
		return nil, audit.ErrLocked
	}
	return l, err
}

func newMachine() machine { return machine{audittest.NewDisk(nil).Boot(-1, false)} }

// book is a log in memory, for tests that are not about reading files.
type book struct {
	name string

	mu      sync.Mutex
	first   uint64
	records []*audit.Record // the first one is of seq 0, pruned or not
	grown   chan struct{}   // closed and replaced when there is more
}

func newBook(name string, n int) *book {
	b := &book{name: name, grown: make(chan struct{})}
	b.write(n)
	return b
}

func (b *book) write(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		seq := uint64(len(b.records))
		b.records = append(b.records, &audit.Record{
			V: audit.Version, ID: fmt.Sprintf("%s-%d", b.name, seq), Log: b.name, Seq: seq, Type: audit.TypeDecision, App: "payroll",
			Effect: []audit.Effect{audit.Allow, audit.Deny}[seq%2], Time: time.Unix(1_800_000_000+int64(seq), 0).UTC(),
		})
	}
	close(b.grown)
	b.grown = make(chan struct{})
}

func (b *book) prune(first uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.first = first
}

func (b *book) Name() string { return b.name }

func (b *book) Next() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(len(b.records))
}

func (b *book) First(context.Context) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first, nil
}

// From waits forever where it stands when that was pruned, which is the worst that a reading may do.
func (b *book) From(ctx context.Context, seq uint64) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for {
			b.mu.Lock()
			grown := b.grown
			var r *audit.Record
			if seq >= b.first && seq < uint64(len(b.records)) {
				r = b.records[seq]
			}
			b.mu.Unlock()
			if r == nil {
				select {
				case <-grown:
					continue
				case <-ctx.Done():
					return
				}
			}
			raw, err := json.Marshal(r)
			if !yield(audit.Entry{Record: r, Raw: raw}, err) {
				return
			}
			seq++
		}
	}
}

// shelf keeps what receivers got and what sinks put on record.
type shelf struct {
	mu      sync.Mutex
	got     []item
	notes   map[string][]Note // by code
	failing error             // what recording answers
	changed chan struct{}     // closed and replaced when something came
}

func newShelf() *shelf { return &shelf{notes: map[string][]Note{}, changed: make(chan struct{})} }

func (s *shelf) record(_ context.Context, r *audit.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n Note
	if err := json.Unmarshal(r.Detail, &n); err != nil || s.failing != nil {
		return errors.Join(err, s.failing)
	}
	s.notes[r.Code] = append(s.notes[r.Code], n)
	s.tellLocked()
	return nil
}

func (s *shelf) take(items []item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, items...)
	s.tellLocked()
}

func (s *shelf) tellLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shelf) noted(code string) []Note {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes[code])
}

// seqs are the seqs of a log that arrived, in their order.
func (s *shelf) seqs(log string) (all []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.got {
		if it.log == log {
			all = append(all, it.seq)
		}
	}
	return all
}

// patience is how long a test waits for what must come: only a sink that stands still takes longer, on any machine.
const patience = 5 * time.Minute

// await waits until ok says so, and fails the test when that takes too long.
func (s *shelf) await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%s did not happen within %v", what, patience)
		}
	}
}

// fake is a receiver whose answers a test decides on.
type fake struct {
	shelf  *shelf
	answer func(ctx context.Context, items []item) error // nil accepts
}

func (f *fake) send(ctx context.Context, items []item) error {
	if f.answer != nil {
		if err := f.answer(ctx, items); err != nil {
			return err
		}
	}
	f.shelf.take(items)
	return nil
}

func (f *fake) close() {}

// config is that of a sink to a fake.
func config(name string) Config {
	return Config{Name: name, Type: HTTP, URL: "http://127.0.0.1:1/in", BatchWait: time.Millisecond, BatchRecords: 7}
}

// options are those of a sink to a fake.
func options(fs audit.FileSystem, s *shelf, f *fake, logs ...Log) Options {
	return Options{
		FS: fs, Logs: logs, Record: s.record, Log: slog.New(slog.DiscardHandler), retry: time.Millisecond, stall: 10 * time.Millisecond,
		open: func(Config, string) (receiver, error) { return f, nil },
	}
}

// run starts sinks and returns how to end them.
func run(t testing.TB, o Options, configs ...Config) (*Sinks, func()) {
	t.Helper()
	s, err := New(configs, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	end := func() { cancel(); running.Wait() }
	t.Cleanup(end)
	return s, end
}

// complete says what is wrong with a sequence that must hold every seq from first on, before next, in order but for steps
// back to what was there before.
func complete(got []uint64, first, next uint64) error {
	want := first
	for _, seq := range got {
		if seq > want {
			return fmt.Errorf("seq %d comes where %d should", seq, want)
		}
		want = max(want, seq+1)
	}
	if want < next {
		return fmt.Errorf("seq %d is missing", want)
	}
	return nil
}

// randomness is a source whose seed is printed; SALLYPORT_SEED repeats a failure.
func randomness(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// rounds is how often a test that draws at random does so: SALLYPORT_ROUNDS or a small number.
func rounds(few int) int {
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return few
}
