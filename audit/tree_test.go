package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/audit/tree"
)

// run opens a directory, appends records, has them signed, and closes it.
func run(t testing.TB, dir string, keys *keyProcess, decisions int) {
	t.Helper()
	a, err := Open(Config{Dir: dir}, quiet(Options{segmentSize: 8 * smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Attach(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	stop := keeping(t, a, Keeping{Signer: keys})
	for range decisions - 1 {
		if err := a.Decisions().Post(t.Context(), decision("/")); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, a.Decisions(), "/")
	mustAppend(t, a.Control(), "/")
	stop()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkTree checks the published checkpoint, that its root is that of the records, and proofs from the tiles alone.
func checkTree(t testing.TB, dir string, keys *keyProcess, size uint64) {
	t.Helper()
	fs, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	cp := published(t, fs, keys, DecisionLog)
	if cp.Size != size || cp.Root != rootOf(t, fs, DecisionLog, size) {
		t.Fatalf("published is %+v, want %d records", cp, size)
	}
	p := tree.Prover{Files: treeFiles{fs, "decision/tree"}, Size: size, Root: cp.Root}
	for _, index := range []uint64{0, size / 2, size - 1} {
		if _, _, err := p.Inclusion(index); err != nil {
			t.Errorf("proving record %d of %d from tiles: %v", index, size, err)
		}
	}
}

// Tiles may be deleted, in part or altogether, or be changed: they are made anew, and the log goes on.
func TestTilesAreMadeAnew(t *testing.T) {
	for name, harm := range map[string]func(folder string) error{
		"all":          os.RemoveAll,
		"tiles":        func(f string) error { return os.RemoveAll(filepath.Join(f, "tile")) },
		"a full tile":  func(f string) error { return os.Remove(filepath.Join(f, "tile", "0", "002")) },
		"upper tiles":  func(f string) error { return os.RemoveAll(filepath.Join(f, "tile", "1")) },
		"the edge":     func(f string) error { return os.RemoveAll(filepath.Join(f, "tile", "0", "019.p")) },
		"durable":      func(f string) error { return os.Remove(filepath.Join(f, "durable")) },
		"durable lies": func(f string) error { return os.WriteFile(filepath.Join(f, "durable"), []byte("999999\n"), 0o600) },
		"edge lies": func(f string) error {
			names, err := filepath.Glob(filepath.Join(f, "tile", "0", "*.p", "*"))
			if err != nil || len(names) == 0 {
				return errors.Join(err, os.ErrNotExist)
			}
			return os.WriteFile(names[0], make([]byte, 136*32), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for the disk
			dir, keys := t.TempDir(), newKeyProcess()
			run(t, dir, keys, 5000)
			checkTree(t, dir, keys, 5000)
			if err := harm(filepath.Join(dir, "decision", "tree")); err != nil {
				t.Fatal(err)
			}
			run(t, dir, keys, 1000)
			checkTree(t, dir, keys, 6000)
			run(t, dir, keys, 1)
			checkTree(t, dir, keys, 6001)
		})
	}
}

// A full tile that was changed is noticed when a proof needs it, never believed.
func TestChangedTileIsNotBelieved(t *testing.T) {
	dir, keys := t.TempDir(), newKeyProcess()
	run(t, dir, keys, 5000)
	name := filepath.Join(dir, "decision", "tree", "tile", "0", "003")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	proofs, err := OpenTree(dir, DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	defer proofs.Close()
	_, cp := proofs.Checkpoint()
	for _, seq := range []uint64{3*256 + 3, 0, 4999} {
		leaf, proof, err := proofs.Inclusion(t.Context(), seq)
		if err != nil {
			t.Fatalf("proving record %d: %v", seq, err)
		}
		if err := tree.VerifyInclusion(seq, cp.Size, leaf, proof, cp.Root); err != nil {
			t.Error(err)
		}
	}
	if _, proof, err := proofs.Consistency(t.Context(), 3000); err != nil || len(proof) == 0 {
		t.Errorf("consistency with 3000 records: %v", err)
	}
	if proof, err := proofs.Range(t.Context(), 700, 900); err != nil || proof.Size != 5000 {
		t.Errorf("range of 200 records: %v", err)
	}
}

// A record that is announced without a gateway is signed by the next one.
func TestAnnouncedRecordsAreSignedLater(t *testing.T) {
	dir, keys := t.TempDir(), newKeyProcess()
	run(t, dir, keys, 10)
	for range 3 {
		r := &Record{Type: TypeControl, Code: "log_read", Actor: &Actor{Kind: "os", ID: "uid:0"}}
		if _, err := Announce(t.Context(), Config{Dir: dir}, quiet(Options{}), r); err != nil {
			t.Fatal(err)
		}
	}
	if last := keys.position(ControlLog); last.Size != 1 {
		t.Fatalf("signed %d control records without a signer", last.Size)
	}
	run(t, dir, keys, 1)
	if last := keys.position(ControlLog); last.Size != 5 {
		t.Errorf("signed %d control records, want 5", last.Size)
	}
}

// AUD-06: yesterday's directory in today's place is refused at start.
func TestRestoredDirectoryIsRefused(t *testing.T) {
	dir, old, keys := t.TempDir(), t.TempDir(), newKeyProcess()
	run(t, dir, keys, 10)
	if err := os.CopyFS(filepath.Join(old, "copy"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	run(t, dir, keys, 10)
	a, err := Open(Config{Dir: filepath.Join(old, "copy")}, quiet(Options{segmentSize: 8 * smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Attach(context.Background(), keys); !errors.Is(err, ErrRolledBack) || !strings.Contains(err.Error(), "10 records") {
		t.Errorf("attach answers %v", err)
	}
}

// The history keeps the last checkpoint of each run, also of one that was cut off, and a torn end is written over.
func TestHistoryKeepsEachRun(t *testing.T) {
	dir, keys := t.TempDir(), newKeyProcess()
	run(t, dir, keys, 10)
	name := filepath.Join(dir, "decision", "tree", "history")
	cut, err := os.ReadFile(name) // as if the second run had got no further
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, keys, 10)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	torn := append(cut, whole[len(cut):len(cut)+40]...)
	if err := os.WriteFile(name, append(torn, 0, 0, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, keys, 10)
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []uint64
	trust := keys.trust()
	for len(got) > 0 {
		note, size := cutNote(got)
		cp, err := trust.Open(note)
		if size == 0 || err != nil {
			t.Fatalf("history holds %q: %v", got, err)
		}
		sizes = append(sizes, cp.Size)
		got = got[size:]
	}
	if last := len(sizes) - 1; last < 2 || sizes[last] != 30 || !slices.Contains(sizes, 10) || !slices.Contains(sizes, 20) {
		t.Errorf("history has the sizes %v", sizes)
	}
}
