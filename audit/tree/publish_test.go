package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
)

// record is the i-th leaf of the tests' log, the one that leaves hashes.
func record(i uint64) []byte { return fmt.Appendf(nil, "record %d", i) }

// source is a log of that many records, of which those before first are gone.
func source(t testing.TB, tiles *Tiles, size, first uint64) Source {
	t.Helper()
	p := prover(t, tiles, size)
	c := Checkpoint{Origin: origin, Size: size, Root: p.Root}
	return Source{
		Signed: sign(t, c, newSigner(t, origin, 1)), Checkpoint: c, First: first, Hashes: p,
		Leaves: func(from uint64) iter.Seq2[[]byte, error] {
			return func(yield func([]byte, error) bool) {
				if from < first {
					yield(nil, errors.New("that record is gone"))
					return
				}
				buffer := make([]byte, 0, 100)
				for i := from; i < size+10; i++ {
					buffer = append(buffer[:0], record(i)...)
					if !yield(buffer, nil) {
						return
					}
				}
			}
		},
	}
}

// checkPublished reads a folder as a client does, in its own words, and compares all that must be there.
func checkPublished(t testing.TB, files *memoryFiles, all []Hash, minimum uint64) {
	t.Helper()
	c, err := trust(t, newSigner(t, origin, 1).vkey).Open(files.files["checkpoint"])
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for level, span := 0, uint64(1); c.Size/span > 0; level, span = level+1, span*256 {
		entries := c.Size / span
		for n := uint64(0); n*256 < entries; n++ {
			width := min(256, entries-n*256)
			if level == 0 && (n*256+width) <= minimum {
				continue
			}
			var tile []byte
			for i := range width {
				begin := (n*256 + i) * span
				f := frontierOf(all[begin : begin+span])
				root := f.Root()
				tile = append(tile, root[:]...)
			}
			name := clientPath(fmt.Sprint(level), n, width)
			want[name] = true
			if !bytes.Equal(files.files[name], tile) {
				t.Fatalf("%s of %d leaves has %d bytes that differ", name, c.Size, len(files.files[name]))
			}
		}
	}
	for n := minimum / 256; n*256 < c.Size; n++ {
		width := min(256, c.Size-n*256)
		name := clientPath("entries", n, width)
		want[name] = true
		bundle := files.files[name]
		for i := range width {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				t.Fatalf("%s ends at leaf %d", name, i)
			}
			leaf := bundle[2:][:binary.BigEndian.Uint16(bundle)]
			if h := rfc6962.DefaultHasher.HashLeaf(leaf); Hash(h) != all[n*256+i] {
				t.Fatalf("%s has another leaf %d", name, i)
			}
			bundle = bundle[2+len(leaf):]
		}
		if len(bundle) > 0 {
			t.Fatalf("%s is too long", name)
		}
	}
	for name := range files.files {
		if dir, _, ok := strings.Cut(name, ".p/"); ok && want[dir] {
			t.Errorf("%s is left beside the full tile", name)
		}
	}
	for name := range files.files {
		if !bytes.Equal(files.files[name], files.disk[name]) {
			t.Errorf("%s is not durable", name)
		}
	}
}

// clientPath is the path as C2SP tlog-tiles describes it, written anew.
func clientPath(level string, n, width uint64) string {
	digits := fmt.Sprintf("%d", n)
	for len(digits)%3 != 0 {
		digits = "0" + digits
	}
	var groups []string
	for i := 0; i < len(digits); i += 3 {
		groups = append(groups, "x"+digits[i:i+3])
	}
	last := len(groups) - 1
	groups[last] = groups[last][1:]
	s := "tile/" + level + "/" + strings.Join(groups, "/")
	if width < 256 {
		s += fmt.Sprintf(".p/%d", width)
	}
	return s
}

func TestPublishedFolderIsComplete(t *testing.T) {
	all := leaves(70_000)
	tiles := newTiles(t, newMemoryFiles(), all)
	for _, size := range []uint64{0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000} {
		files := newMemoryFiles()
		done, err := Publish(files, source(t, tiles, size, 0))
		if err != nil || done != (Publication{0, size, size}) {
			t.Fatalf("%d leaves: %+v, %v", size, done, err)
		}
		checkPublished(t, files, all, 0)
	}
}

func TestPublishingAgainAddsOnlyWhatIsNew(t *testing.T) {
	r := random(t)
	all := leaves(20_000)
	tiles := newTiles(t, newMemoryFiles(), all)
	for range rounds(t, 3) {
		files := newMemoryFiles()
		size := uint64(0)
		for size < uint64(len(all)) {
			before := size
			size = min(size+r.Uint64N(1<<r.IntN(15)), uint64(len(all)))
			written := 0
			files.fail = func(operation, name string) error {
				if _, ok := files.files[name]; ok && operation == "write" && name != "checkpoint" {
					t.Errorf("from %d to %d: %s is written again", before, size, name)
				}
				if operation == "write" {
					written++
				}
				return nil
			}
			done, err := Publish(files, source(t, tiles, size, 0))
			if err != nil || done.Added != size-before {
				t.Fatalf("from %d to %d: %+v, %v", before, size, done, err)
			}
			if before == size && written > 1 {
				t.Errorf("%d files for nothing new", written)
			}
			checkPublished(t, files, all, 0)
		}
	}
}

// A log whose begin is gone is published from its minimum index on, and a folder that was published before is continued.
func TestPrunedLogIsPublished(t *testing.T) {
	all := leaves(140_000)
	tiles := newTiles(t, newMemoryFiles(), all)
	for _, row := range []struct{ size, first, minimum uint64 }{
		{70_000, 1, 256}, {70_000, 256, 256}, {70_000, 65_700, 65_792}, {140_000, 131_072, 131_072}, {140_000, 139_000, 139_008}, {512, 300, 512},
	} {
		for _, before := range []uint64{0, 400, 66_000} {
			if before > row.size {
				continue
			}
			files := newMemoryFiles()
			if before > 0 {
				if _, err := Publish(files, source(t, tiles, before, 0)); err != nil {
					t.Fatal(err)
				}
			}
			done, err := Publish(files, source(t, tiles, row.size, row.first))
			if err != nil || done.Minimum != row.minimum || done.Size != row.size {
				t.Fatalf("%+v: %+v, %v", row, done, err)
			}
			checkPublished(t, files, all, row.minimum)
		}
	}
	if _, err := Publish(newMemoryFiles(), source(t, tiles, 400, 300)); err == nil {
		t.Error("a log without one whole bundle is published")
	}
}

// A tile above the leaves that are gone cannot be computed any more, so a damaged one must not be copied.
func TestPrunedLogIsNotPublishedWithADamagedTile(t *testing.T) {
	live := newMemoryFiles()
	tiles := newTiles(t, live, leaves(66_000))
	for _, name := range []string{"tile/1/000", "tile/1/001.p/1"} {
		s := source(t, tiles, 66_000, 65_600)
		s.Hashes = &Prover{Files: live, Size: s.Hashes.Size, Root: s.Hashes.Root}
		live.files[name] = slices.Clone(live.files[name])
		if name == "tile/1/001.p/1" {
			live.files[name] = make([]byte, 32)
		} else {
			live.files[name][4000] ^= 1
		}
		files := newMemoryFiles()
		if _, err := Publish(files, s); !errors.Is(err, ErrTiles) || files.files["checkpoint"] != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublishRefusesAnotherTree(t *testing.T) {
	all := leaves(2000)
	tiles := newTiles(t, newMemoryFiles(), all)
	publishedAt := func(size uint64) *memoryFiles {
		files := newMemoryFiles()
		if _, err := Publish(files, source(t, tiles, size, 0)); err != nil {
			t.Fatal(err)
		}
		return files
	}
	for _, row := range []struct {
		name  string
		files *memoryFiles
		alter func(*Source, *memoryFiles)
	}{
		{"rolled back", publishedAt(1500), func(*Source, *memoryFiles) {}},
		{"forked at the same size", publishedAt(1000), func(s *Source, _ *memoryFiles) { s.Checkpoint.Root[0] ^= 1 }},
		{"of another origin", publishedAt(900), func(s *Source, _ *memoryFiles) { s.Checkpoint.Origin = "other" }},
		{"with another root", publishedAt(900), func(s *Source, _ *memoryFiles) { s.Checkpoint.Root[0] ^= 1 }},
		{"with a damaged tile", publishedAt(900), func(_ *Source, m *memoryFiles) { m.files["tile/0/003.p/132"][5] ^= 1 }},
		{"with another leaf at the edge", publishedAt(900), func(s *Source, _ *memoryFiles) { s.Leaves = altered(s.Leaves, 800) }},
		{"with another leaf after it", publishedAt(900), func(s *Source, _ *memoryFiles) { s.Leaves = altered(s.Leaves, 950) }},
		{"with a leaf too large", publishedAt(900), func(s *Source, _ *memoryFiles) { s.Leaves = long }},
		{"that ends early", publishedAt(900), func(s *Source, _ *memoryFiles) { s.Leaves = none }},
		{"with a spoilt checkpoint", publishedAt(900), func(_ *Source, m *memoryFiles) { m.files["checkpoint"] = []byte("hello") }},
	} {
		s := source(t, tiles, 1000, 0)
		row.alter(&s, row.files)
		before := bytes.Clone(row.files.files["checkpoint"])
		if _, err := Publish(row.files, s); err == nil {
			t.Errorf("a log %s is published", row.name)
		}
		if !bytes.Equal(before, row.files.files["checkpoint"]) {
			t.Errorf("a log %s replaced the checkpoint", row.name)
		}
	}
}

type leafSource = func(uint64) iter.Seq2[[]byte, error]

func altered(from leafSource, index uint64) leafSource {
	return func(first uint64) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			i := first
			for leaf, err := range from(first) {
				if i == index {
					leaf = []byte("something else")
				}
				i++
				if !yield(leaf, err) {
					return
				}
			}
		}
	}
}

func long(uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) { yield(make([]byte, 65_536), nil) }
}

func none(uint64) iter.Seq2[[]byte, error] { return func(func([]byte, error) bool) {} }

// Whatever is refused or lost on the way, the folder serves the old checkpoint whole or the new one.
func TestPublishedFolderSurvivesFailuresAndPowerCuts(t *testing.T) {
	r := random(t)
	all := leaves(3000)
	tiles := newTiles(t, newMemoryFiles(), all)
	for range rounds(t, 100) {
		files := newMemoryFiles()
		first := r.Uint64N(1500)
		if _, err := Publish(files, source(t, tiles, first, 0)); err != nil {
			t.Fatal(err)
		}
		second := first + r.Uint64N(1500)
		left := r.IntN(40)
		files.fail = func(string, string) error {
			if left--; left < 0 {
				return errDisk
			}
			return nil
		}
		_, err := Publish(files, source(t, tiles, second, 0))
		files.fail = nil
		after := files.powerCut(r)
		size := servedSize(t, after)
		if size != first && size != second || err == nil && size != second {
			t.Fatalf("after publishing %d and %d (%v) the folder serves %d", first, second, err, size)
		}
		p := &Prover{Files: after, Size: size, Root: prover(t, tiles, size).Root}
		for range 5 {
			if size == 0 {
				break
			}
			if _, _, err := p.Inclusion(r.Uint64N(size)); err != nil {
				t.Fatalf("after publishing %d and %d the folder serves %d: %v", first, second, size, err)
			}
		}
		if _, err := Publish(after, source(t, tiles, second, 0)); err != nil {
			t.Fatalf("publishing %d after %d again: %v", second, size, err)
		}
		checkServed(t, after, all)
	}
}

func servedSize(t testing.TB, files *memoryFiles) uint64 {
	t.Helper()
	c, err := trust(t, newSigner(t, origin, 1).vkey).Open(files.files["checkpoint"])
	if err != nil {
		t.Fatal(err)
	}
	return c.Size
}

// checkServed is checkPublished for a folder that may hold leftovers.
func checkServed(t testing.TB, files *memoryFiles, all []Hash) {
	t.Helper()
	for name := range files.files {
		if dir, _, ok := strings.Cut(name, ".p/"); ok && files.files[dir] != nil {
			delete(files.files, name)
		}
	}
	checkPublished(t, files, all, 0)
}

func openRoot(t testing.TB) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, root.Close()) })
	return root
}

func TestPublishesToARealFolder(t *testing.T) {
	root := openRoot(t)
	all := leaves(1200)
	tiles := newTiles(t, RootFiles(root), all)
	for _, size := range []uint64{1000, 1200} {
		if _, err := Publish(RootFiles(root), source(t, tiles, size, 0)); err != nil {
			t.Fatal(err)
		}
	}
	p := Prover{Files: RootFiles(root), Size: 1200, Root: tiles.frontier.Root()}
	if _, _, err := p.Inclusion(1199); err != nil {
		t.Error(err)
	}
}
