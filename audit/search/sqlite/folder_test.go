package sqlite

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/audit"
	"sallyport/audit/search"
	"sallyport/audit/search/searchtest"
)

// fill copies rows into a store, in several transactions.
func fill(t testing.TB, s search.Store, rows []search.Row) error {
	t.Helper()
	was, err := s.State(t.Context(), audit.DecisionLog)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(rows, 100) {
		now := was
		now.Epoch, now.Next = "epoch", chunk[len(chunk)-1].Seq+1
		if err := s.Extend(t.Context(), audit.DecisionLog, was, chunk, now); err != nil {
			return err
		}
		was = now
	}
	return nil
}

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// Whoever only reads makes nothing and changes nothing, and gets an error where there is nothing to read.
func TestReadingMakesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, at := range []string{dir, filepath.Join(dir, "missing")} {
		if s, err := OpenReading(t.Context(), at); err == nil {
			s.Close()
			t.Errorf("%s: a copy where there is none", at)
		}
	}
	if n := names(t, dir); len(n) > 0 {
		t.Errorf("the folder holds %v", n)
	}
	rows := searchtest.Rows(rand.New(rand.NewPCG(1, 1)), 0, 50)
	if err := fill(t, open(t, dir), rows); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	s, err := OpenReading(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if hits, _, err := s.Find(t.Context(), audit.DecisionLog, search.Condition{}, 100); err != nil || len(hits) != 50 {
		t.Errorf("%d hits, %v; want 50", len(hits), err)
	}
	state, err := s.State(t.Context(), audit.DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"extend": s.Extend(t.Context(), audit.DecisionLog, state, nil, state), "forget": s.Forget(t.Context(), audit.DecisionLog, 5),
		"reset": s.Reset(t.Context(), audit.DecisionLog), "discard": s.Discard(t.Context()),
	} {
		if !errors.Is(err, errReadOnly) {
			t.Errorf("%s answers %v", what, err)
		}
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("the folder holds %v, before %v", after, before)
	}
}

// Whatever makes the copy, it belongs to whoever the folder above belongs to: root's `audit reindex` does not lock the
// gateway out.
func TestFilesBelongToTheFoldersOwner(t *testing.T) {
	above := t.TempDir()
	owner := os.Getuid()
	if owner == 0 {
		owner = 12345
		if err := os.Chown(above, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(above, "search")
	s := open(t, dir)
	if err := fill(t, s, searchtest.Rows(rand.New(rand.NewPCG(1, 1)), 0, 50)); err != nil {
		t.Fatal(err)
	}
	found := names(t, dir)
	for _, name := range append(found, ".") {
		var info unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, name), &info); err != nil || int(info.Uid) != owner {
			t.Errorf("%s belongs to %d, %v; want %d", name, info.Uid, err, owner)
		}
		if name != "." && info.Mode&0o007 != 0 {
			t.Errorf("%s has mode %o: others may use it", name, info.Mode)
		}
	}
	if !slices.ContainsFunc(found, func(name string) bool { return strings.HasSuffix(name, "-wal") }) {
		t.Errorf("the folder holds %v: the test saw no WAL", found)
	}
}

// A copy that one process discards is taken up by another that still has the old file open, which loses nothing of the
// new one when it lets go.
func TestDiscardedUnderAnother(t *testing.T) {
	dir := t.TempDir()
	one, other := open(t, dir), open(t, dir)
	rows := searchtest.Rows(rand.New(rand.NewPCG(2, 2)), 0, 300)
	if err := fill(t, one, rows); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := other.Discard(t.Context()); err != nil {
			t.Fatal(err)
		}
		if state, err := one.State(t.Context(), audit.DecisionLog); err != nil || state != (search.State{}) {
			t.Errorf("state %+v, %v; want none", state, err)
		}
		if err := fill(t, one, rows); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Store{one, other} {
			if hits, _, err := s.Find(t.Context(), audit.DecisionLog, search.Condition{}, 1000); err != nil || len(hits) != 300 {
				t.Errorf("%d hits, %v; want 300", len(hits), err)
			}
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "copy-*.db")); len(files) != 1 {
		t.Errorf("files are left: %v", files)
	}
}

// childFolder tells a copy of this test program to extend the store in that folder until it is killed.
const childFolder = "SALLYPORT_TEST_SEARCH_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// Another process that is killed while it writes leaves a state that is that of its rows, and this one goes on.
func TestKilledProcessLeavesWholeTransactions(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for round := range 4 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childFolder+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1+round)); err != nil { // it says one byte for each transaction
			t.Fatal(err)
		}
		child.Process.Kill()
		child.Wait()
		state, err := s.State(t.Context(), audit.DecisionLog)
		if err != nil {
			t.Fatal(err)
		}
		hits, _, err := s.Find(t.Context(), audit.DecisionLog, search.Condition{}, 1_000_000)
		if err != nil || uint64(len(hits)) != state.Next || state.Next == 0 {
			t.Errorf("%d rows, %v; the state says %d", len(hits), err, state.Next)
		}
		if n, _, err := s.Count(t.Context(), audit.DecisionLog, search.Condition{}); err != nil || n != state.Next {
			t.Errorf("counted %d, %v; the state says %d", n, err, state.Next)
		}
	}
}

func child(dir string) int {
	ctx := context.Background()
	s, err := Open(ctx, dir)
	if err != nil {
		return 1
	}
	for {
		state, err := s.State(ctx, audit.DecisionLog)
		if err != nil {
			return 1
		}
		now := state
		rows := searchtest.Rows(rand.New(rand.NewPCG(3, 3)), state.Next, 100)
		now.Epoch, now.Next = "epoch", state.Next+100
		if err := s.Extend(ctx, audit.DecisionLog, state, rows, now); err != nil {
			return 1
		}
		os.Stdout.WriteString(".")
	}
}
