package search_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit"
	"sallyport/audit/search"
	"sallyport/audit/search/searchtest"
)

// Whatever the records, the filter, the order, the page, and however much of the log is copied: a search yields what
// reading the log from end to end does.
func TestSearchIsReadingTheLog(t *testing.T) {
	seed := seeded(t)
	for i := range rounds(t, 12) {
		if err := compare(t, rand.New(rand.NewPCG(seed, uint64(i))), openCopy(t, t.TempDir())); err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, i, err)
		}
	}
}

// compare writes a log, copies a part of it and searches.
func compare(t *testing.T, rnd *rand.Rand, c *search.Copy) error {
	m := newMachine()
	w := startWriting(t, m)
	defer w.Close()
	src := audit.OpenReaderFS(m, audit.DecisionLog)
	for range 1 + rnd.IntN(3) {
		w.write(t, rnd, rnd.IntN(300))
		index(t, c, src, pick(rnd, 0, 0, 1+rnd.IntN(200)))
	}
	w.write(t, rnd, rnd.IntN(40))
	var records []*audit.Record
	for e, err := range src.All(t.Context(), audit.Filter{}) {
		if err != nil {
			return err
		}
		records = append(records, e.Record)
	}
	for range 12 {
		like := &audit.Record{}
		if len(records) > 0 {
			like = pick(rnd, records...)
		}
		q := search.Query{Where: randomFilter(t, rnd, like), Newest: rnd.IntN(2) == 0, Limit: pick(rnd, 0, 1, 7)}
		if rnd.IntN(3) == 0 {
			q.After = new(like.Seq)
		}
		if err := same(t, c, src, q); err != nil {
			return err
		}
	}
	return nil
}

// same searches and reads, and says where they differ.
func same(t *testing.T, c *search.Copy, src *audit.Reader, q search.Query) error {
	text := "everything"
	if q.Where != nil {
		text = q.Where.String()
	}
	want := scan(t, src, q)
	got, err := seqs(c.Query(t.Context(), audit.DecisionLog, src, q))
	if err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("%s (newest %v, limit %d): found %v, %v; want %v", text, q.Newest, q.Limit, got, err, want)
	}
	if q.After != nil || q.Limit > 0 {
		return nil
	}
	n, err := c.Count(t.Context(), audit.DecisionLog, src, q.Where)
	if err != nil || n != uint64(len(want)) {
		return fmt.Errorf("%s: counted %d, %v; want %d", text, n, err, len(want))
	}
	return nil
}

// forgetful is a store that misses rows.
type forgetful struct {
	search.Store
	misses func(search.Row) bool
}

func (f forgetful) Extend(ctx context.Context, log string, was search.State, rows []search.Row, now search.State) error {
	return f.Store.Extend(ctx, log, was, slices.DeleteFunc(rows, f.misses), now)
}

// The same comparison must find a copy that lacks rows, or that has a column wrong.
func TestMissingRowsAreFound(t *testing.T) {
	for name, store := range map[string]func() search.Store{
		"each 50th row": func() search.Store {
			return forgetful{searchtest.NewMemory(), func(r search.Row) bool { return r.Seq%50 == 49 }}
		},
		"rows of one app": func() search.Store {
			return forgetful{searchtest.NewMemory(), func(r search.Row) bool { return r.App == "wiki" }}
		},
		"doubtful rows": func() search.Store {
			return forgetful{searchtest.NewMemory(), func(r search.Row) bool { return r.Code == "reload" }}
		},
		"names of persons": func() search.Store { return nameless{searchtest.NewMemory()} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				if err := compare(t, rand.New(rand.NewPCG(seed, 2)), search.New(store())); err != nil {
					t.Logf("found: %.200v", err)
					return
				}
			}
			t.Error("60 logs were searched and nothing was missed")
		})
	}
}

// nameless is a store that loses the names of people.
type nameless struct{ search.Store }

func (n nameless) Extend(ctx context.Context, log string, was search.State, rows []search.Row, now search.State) error {
	for i := range rows {
		rows[i].Email, rows[i].ActorName = "", ""
	}
	return n.Store.Extend(ctx, log, was, rows, now)
}

// A log that was pruned is searched like one that began later, and rows of what is gone are dropped.
func TestPrunedLogIsSearched(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	m, c := newMachine(), openCopy(t, t.TempDir())
	w := startWriting(t, m)
	src := audit.OpenReaderFS(m, audit.DecisionLog)
	w.write(t, rnd, 2500)
	index(t, c, src, 0)
	if err := m.Remove("decision/0000000001.seg"); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before", "after"} {
		for _, q := range []search.Query{{}, {Newest: true}, {Newest: true, Limit: 5}, {Where: randomFilter(t, rnd, &audit.Record{App: "wiki"})}} {
			if err := same(t, c, src, q); err != nil {
				t.Errorf("%s the rows are dropped: %v", when, err)
			}
		}
		if p := index(t, c, src, 0); p.Rebuilt {
			t.Error("the copy was made anew for a log that was only pruned")
		}
	}
	w.Close()
}

// A copy of another log, or of one that was put back, is of no use, and is begun anew.
func TestCopyOfAnotherLog(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	c := openCopy(t, t.TempDir())
	for i, n := range []int{500, 200, 800} {
		m := newMachine()
		w := startWriting(t, m)
		src := audit.OpenReaderFS(m, audit.DecisionLog)
		w.write(t, rnd, n)
		for _, q := range []search.Query{{}, {Newest: true, Limit: 9}} {
			if err := same(t, c, src, q); err != nil {
				t.Errorf("log %d before it is copied: %v", i, err)
			}
		}
		if p := index(t, c, src, 0); p.Rebuilt != (i > 0) || p.Rows != uint64(n) || p.Next != uint64(n) {
			t.Errorf("log %d: %+v, want %d rows, made anew unless it is the first", i, p, n)
		}
		if err := same(t, c, src, search.Query{Newest: true}); err != nil {
			t.Errorf("log %d: %v", i, err)
		}
		w.Close()
	}
}

// A copy whose file is damaged answers by the log, and is made anew.
func TestBrokenCopyIsMadeAnew(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"overwritten": func(b []byte) []byte {
			for i := 4096; i < len(b); i++ {
				b[i] ^= 0x5a
			}
			return b
		},
		"no database": func([]byte) []byte { return []byte(strings.Repeat("text", 3000)) },
		"empty":       func([]byte) []byte { return nil },
		"cut":         func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(3, 3))
			m, dir := newMachine(), t.TempDir()
			w := startWriting(t, m)
			defer w.Close()
			src := audit.OpenReaderFS(m, audit.DecisionLog)
			w.write(t, rnd, 600)
			c := openCopy(t, dir)
			index(t, c, src, 0)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "copy-*.db"))
			if err != nil || len(files) != 1 {
				t.Fatalf("the folder holds %v, %v", files, err)
			}
			b, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[0], damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			c = openCopy(t, dir)
			q := search.Query{Where: randomFilter(t, rnd, &audit.Record{App: "wiki"}), Newest: true}
			if err := same(t, c, src, q); err != nil {
				t.Errorf("before it is made anew: %v", err)
			}
			if p := index(t, c, src, 0); p.Next != 600 || p.Rows != 600 {
				t.Errorf("%+v, want all rows copied again", p)
			}
			if err := same(t, c, src, q); err != nil {
				t.Error(err)
			}
		})
	}
}

// Two copies on one folder take turns, and a copy that is thrown away by one is taken up by the other.
func TestTwoUseOneCopy(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	m, dir := newMachine(), t.TempDir()
	w := startWriting(t, m)
	defer w.Close()
	src := audit.OpenReaderFS(m, audit.DecisionLog)
	one, other := openCopy(t, dir), openCopy(t, dir)
	done := make(chan error, 2)
	for _, c := range []*search.Copy{one, other} {
		go func() {
			for range 20 {
				if _, err := c.Index(context.Background(), audit.DecisionLog, src, 0); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	w.write(t, rnd, 2000)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	index(t, one, src, 0)
	if _, err := other.Rebuild(t.Context(), audit.DecisionLog, src); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*search.Copy{one, other} {
		if p := index(t, c, src, 0); p.Rows != 0 || p.Next != 2000 {
			t.Errorf("%+v, want nothing left to copy", p)
		}
		if err := same(t, c, src, search.Query{Newest: true, Limit: 100}); err != nil {
			t.Error(err)
		}
	}
}

// lying is a store whose rows point at other records.
type lying struct{ search.Store }

func (l lying) Find(ctx context.Context, log string, c search.Condition, limit int) ([]search.Hit, search.State, error) {
	hits, s, err := l.Store.Find(ctx, log, c, limit)
	for i := range hits {
		if hits[i].Seq%3 == 0 && i > 0 {
			hits[i].Position = hits[0].Position
		}
	}
	return hits, s, err
}

// A row that points at another record is not believed: the log is read instead.
func TestRowsAreNotBelieved(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	m := newMachine()
	w := startWriting(t, m)
	defer w.Close()
	src := audit.OpenReaderFS(m, audit.DecisionLog)
	w.write(t, rnd, 500)
	c := search.New(lying{searchtest.NewMemory()})
	index(t, c, src, 0)
	for _, q := range []search.Query{{}, {Newest: true}, {Newest: true, Limit: 40}, {Where: randomFilter(t, rnd, &audit.Record{App: "payroll"})}} {
		if err := same(t, c, src, q); err != nil {
			t.Error(err)
		}
	}
}

// damaged is a log with a record that cannot be read.
type damaged struct {
	*audit.Reader
	at uint64
}

var errDamaged = errors.New("damaged")

func (d damaged) Lines(ctx context.Context, from uint64) iter.Seq2[audit.Line, error] {
	return func(yield func(audit.Line, error) bool) {
		for l, err := range d.Reader.Lines(ctx, from) {
			if err == nil && l.Seq == d.at {
				yield(audit.Line{}, errDamaged)
				return
			}
			if !yield(l, err) {
				return
			}
		}
	}
}

// What cannot be read of a log is an error of the search, as it is of reading.
func TestDamageIsReported(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 6))
	m := newMachine()
	w := startWriting(t, m)
	defer w.Close()
	w.write(t, rnd, 300)
	src := damaged{audit.OpenReaderFS(m, audit.DecisionLog), 200}
	c := memoryCopy()
	if _, err := c.Index(t.Context(), audit.DecisionLog, src, 0); !errors.Is(err, errDamaged) {
		t.Errorf("copying answers %v, want the damage", err)
	}
	if _, err := seqs(c.Query(t.Context(), audit.DecisionLog, src, search.Query{})); !errors.Is(err, errDamaged) {
		t.Errorf("searching answers %v, want the damage", err)
	}
}

// Keep copies what there is and what comes, rests in between, and ends with its context.
func TestKeepCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(7, 7))
		m := newMachine()
		w := startWriting(t, m)
		src := audit.OpenReaderFS(m, audit.DecisionLog)
		store := searchtest.NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			search.New(store).Keep(ctx, 5*time.Second, slog.New(slog.DiscardHandler), search.Named{Log: audit.DecisionLog, Source: src})
		}()
		for range 3 {
			w.write(t, rnd, 100)
			time.Sleep(6 * time.Second)
			if s, err := store.State(t.Context(), audit.DecisionLog); err != nil || s.Next != w.Decisions().Records() {
				t.Errorf("the copy is at %d, %v; the log at %d", s.Next, err, w.Decisions().Records())
			}
		}
		cancel()
		<-done
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}
