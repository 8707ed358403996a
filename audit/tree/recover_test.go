package tree

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// life is a log whose leaves outlive everything, and its tiles, which go through a machine's life.
type life struct {
	t       *testing.T
	round   string
	r       *rand.Rand
	all     []Hash
	trees   []Frontier // of the first 0, 1, 2, … leaves
	log     uint64     // leaves that are acknowledged
	signed  uint64     // size of the published checkpoint
	durable uint64     // what Sync said last
	base    uint64
	files   *memoryFiles
	tiles   *Tiles
}

// reopen opens the tiles as the audit log does: at a place up to which they are durable, then at an earlier one, at last at
// the begin. The rest is fed again.
func (l *life) reopen() {
	l.t.Helper()
	base := l.trees[l.base]
	at := max(l.base, l.durable-l.r.Uint64N(min(l.durable, 300)+1))
	tiles, err := OpenTiles(l.files, l.trees[at], base)
	if err != nil {
		l.t.Fatalf("%s: opened at %d of %d durable leaves: %v", l.round, at, l.durable, err)
	}
	l.tiles, l.durable = tiles, at
	tiles.Append(l.all[at:l.log])
	l.signed = 0
}

// step does one of the things that a running log does.
func (l *life) step() error {
	switch l.r.IntN(10) {
	case 0:
		durable, err := l.tiles.Sync()
		if err != nil {
			return err
		}
		l.durable = durable
		return nil
	case 1, 2, 3:
		size := l.tiles.flushed + l.r.Uint64N(l.log-l.tiles.flushed+1)
		if err := l.tiles.Flush(size); err != nil {
			return err
		}
		l.signed = size
		return l.tiles.Published(size)
	case 4: // the next checkpoint is flushed before the last one is known to be published
		if err := l.tiles.Flush(l.tiles.flushed + l.r.Uint64N(l.log-l.tiles.flushed+1)); err != nil || l.signed == 0 {
			return err
		}
		return l.tiles.Published(l.signed)
	default:
		next := min(l.log+l.r.Uint64N(1<<l.r.IntN(11)), uint64(len(l.all)))
		l.tiles.Append(l.all[l.log:next])
		l.log = next
		return nil
	}
}

// check proves leaves to whoever reads the files, and to the log itself.
func (l *life) check() {
	l.t.Helper()
	for _, p := range []*Prover{
		{Files: l.files, Size: l.signed, Root: l.trees[l.signed].Root()},
		prover(l.t, l.tiles, l.tiles.Size()),
	} {
		for range 3 {
			if p.Size == l.base || p.Size < l.base {
				continue
			}
			index := l.base + l.r.Uint64N(p.Size-l.base)
			p.Base = l.trees[l.base]
			if leaf, _, err := p.Inclusion(index); err != nil || leaf != l.all[index] {
				l.t.Fatalf("%s: leaf %d of %d, log %d, durable %d, flushed %d: %v", l.round, index, p.Size, l.log, l.durable, l.tiles.flushed, err)
			}
			old := l.base + l.r.Uint64N(p.Size-l.base+1)
			if oldRoot, _, err := p.Consistency(old); err != nil || oldRoot != l.trees[old].Root() {
				l.t.Fatalf("%s: consistency of %d with %d: %v", l.round, old, p.Size, err)
			}
		}
	}
}

func root(leaves []Hash) Hash {
	f := frontierOf(leaves)
	return f.Root()
}

// Tiles survive power cuts, crashes and refused file operations: what was durable is there, and what was not is made again.
func TestTilesSurvivePowerCutsAndFailures(t *testing.T) {
	seed := seeded(t)
	all := leaves(9000)
	trees := make([]Frontier, 1, len(all)+1)
	for i, leaf := range all {
		next := trees[i].Clone()
		next.Append(leaf)
		trees = append(trees, next)
	}
	for round := range rounds(t, 60) {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		l := &life{t: t, round: fmt.Sprintf("seed %d, round %d", seed, round), r: r, all: all, trees: trees, files: newMemoryFiles(), log: r.Uint64N(3000)}
		if r.IntN(3) == 0 {
			l.base = r.Uint64N(l.log + 1)
			l.durable = l.base
		}
		l.reopen()
		for range 8 {
			l.run()
			switch r.IntN(3) {
			case 0: // the machine lost power
				l.files = l.files.powerCut(r)
				l.reopen()
			case 1: // the program ended
				l.reopen()
			}
		}
		l.settle()
	}
}

// run lets the log work for a while, on files that refuse some of it.
func (l *life) run() {
	l.t.Helper()
	left := 5 + l.r.IntN(60)
	if l.r.IntN(2) == 0 {
		l.files.fail = func(string, string) error {
			if left--; left < 0 && l.r.IntN(3) > 0 {
				return errDisk
			}
			return nil
		}
	}
	for range l.r.IntN(40) {
		if err := l.step(); err != nil && !errors.Is(err, errDisk) {
			l.t.Fatalf("%s: %v", l.round, err)
		}
	}
	l.files.fail = nil
	if l.tiles.failed == nil {
		l.check()
	}
}

// settle ends the life in order, after which exactly the files of the last tree are there.
func (l *life) settle() {
	l.t.Helper()
	l.files.fail = nil
	if l.tiles.failed != nil {
		l.reopen()
	}
	must(l.t, l.tiles.Flush(l.log))
	if _, err := l.tiles.Sync(); err != nil {
		l.t.Fatal(err)
	}
	must(l.t, l.tiles.Published(l.log))
	l.signed = l.log
	l.check()
	want := newMemoryFiles()
	fresh, err := OpenTiles(want, l.trees[l.base], l.trees[l.base])
	must(l.t, err)
	fresh.Append(l.all[l.base:l.log])
	must(l.t, fresh.Flush(l.log))
	for name := range want.files {
		if l.files.files[name] == nil {
			l.t.Fatalf("%s: %s is missing", l.round, name)
		}
	}
	edges := slices.DeleteFunc(slices.Collect(maps.Keys(l.files.files)), func(name string) bool { return want.files[name] != nil })
	if len(edges) > 0 {
		l.t.Fatalf("%s: left over: %q", l.round, edges)
	}
}

// A full tile that is missing, changed or cut is noticed by whoever makes a proof that needs it.
func TestWrongTileGivesNoProof(t *testing.T) {
	all := leaves(70_000)
	for _, spoil := range []func(map[string][]byte, string){
		func(m map[string][]byte, name string) { m[name][8] ^= 1 },
		func(m map[string][]byte, name string) { m[name] = m[name][:len(m[name])-32] },
		func(m map[string][]byte, name string) { delete(m, name) },
		func(m map[string][]byte, name string) { clear(m[name]) },
	} {
		for name, index := range map[string]uint64{"tile/0/005": 5*256 + 1, "tile/1/000": 5*256 + 1, "tile/0/273.p/112": 69_889, "tile/2/000.p/1": 69_888} {
			files := newMemoryFiles()
			tiles := newTiles(t, files, all)
			spoil(files.files, name)
			reader := &Prover{Files: files, Size: 70_000, Root: tiles.frontier.Root()}
			if _, _, err := reader.Inclusion(index); !errors.Is(err, ErrTiles) {
				t.Errorf("%s: leaf %d is proved: %v", name, index, err)
			}
			if _, err := reader.Range(index, index+20); !errors.Is(err, ErrTiles) {
				t.Errorf("%s: a range at %d is proved: %v", name, index, err)
			}
			if strings.Contains(name, ".p") {
				continue // the log itself has that in memory
			}
			if _, err := tiles.ProveInclusion(70_000, index); !errors.Is(err, ErrTiles) {
				t.Errorf("%s: the log proves leaf %d: %v", name, index, err)
			}
		}
	}
}

// Opened where the edge is damaged, the tiles say so; opened at the begin and fed again, they are as new.
func TestDamagedEdgeIsMadeAnew(t *testing.T) {
	all := leaves(1000)
	at := frontierOf(all)
	for _, name := range []string{"tile/0/003.p/232", "tile/1/000.p/3"} {
		files := newMemoryFiles()
		newTiles(t, files, all)
		want := maps.Clone(files.files)
		files.files[name] = slices.Clone(files.files[name])
		files.files[name][0] ^= 1
		if _, err := OpenTiles(files, at, Frontier{}); !errors.Is(err, ErrTiles) {
			t.Fatalf("%s: %v", name, err)
		}
		newTiles(t, files, all)
		if !maps.EqualFunc(want, files.files, slices.Equal) {
			t.Errorf("%s: not made anew", name)
		}
	}
	if _, err := OpenTiles(newMemoryFiles(), at, Frontier{}); !errors.Is(err, ErrTiles) {
		t.Errorf("an empty folder: %v", err)
	}
}

// Tiles of leaves that were never acknowledged, and did not come back, do not outlast those that took their places.
func TestTilesOfLostLeavesAreReplaced(t *testing.T) {
	lost := leaves(2000)
	kept := slices.Concat(lost[:300], leaves(1000)[900:], leaves(500)[400:])
	for n := 300; n <= len(kept); n += 10 {
		files, want := newMemoryFiles(), newMemoryFiles()
		newTiles(t, files, lost)
		tiles, err := OpenTiles(files, frontierOf(kept[:300]), Frontier{})
		must(t, err)
		tiles.Append(kept[300:n])
		must(t, tiles.Flush(uint64(n)))
		must(t, tiles.Published(uint64(n)))
		newTiles(t, want, kept[:n])
		if !maps.EqualFunc(want.files, files.files, slices.Equal) {
			t.Fatalf("%d leaves: %q, want %q", n, slices.Sorted(maps.Keys(files.files)), slices.Sorted(maps.Keys(want.files)))
		}
	}
}

// A partial tile that an earlier run left is not taken for one of this run's, which has the full tile already.
func TestStalePartialTileIsNotRead(t *testing.T) {
	all := leaves(600)
	files := newMemoryFiles()
	must(t, files.MkdirAll("tile/0/001.p"))
	must(t, files.WriteFile("tile/0/001.p/10", make([]byte, 10*32)))
	tiles, err := OpenTiles(files, Frontier{}, Frontier{})
	must(t, err)
	tiles.Append(all)
	must(t, tiles.Flush(266))
	p := &Prover{Files: files, Size: 266, Root: root(all[:266])}
	if _, _, err := p.Inclusion(260); err != nil {
		t.Error(err)
	}
}

// A log that lost its begin and its tiles proves what it still holds.
func TestTilesOfAPrunedLogAreMadeAnew(t *testing.T) {
	r := random(t)
	all := leaves(70_000)
	for range rounds(t, 5) {
		begin := r.Uint64N(uint64(len(all)))
		base := frontierOf(all[:begin])
		files := newMemoryFiles()
		tiles, err := OpenTiles(files, base, base)
		must(t, err)
		tiles.Append(all[begin:])
		must(t, tiles.Flush(tiles.Size()))
		if _, err := tiles.Sync(); err != nil {
			t.Fatal(err)
		}
		again, err := OpenTiles(files, frontierOf(all), base)
		must(t, err)
		reader := &Prover{Files: files, Size: 70_000, Root: root(all), Base: base}
		for _, p := range []*Prover{prover(t, again, 70_000), reader} {
			for range 20 {
				first := begin + r.Uint64N(70_000-begin)
				last := first + r.Uint64N(70_001-first)
				if leaf, _, err := p.Inclusion(first); err != nil || leaf != all[first] {
					t.Fatalf("begin %d: leaf %d: %v", begin, first, err)
				}
				proof, err := p.Range(first, last)
				if err != nil || VerifyRange(proof, p.Root, slices.Values(all[first:last])) != nil {
					t.Fatalf("begin %d: range %d to %d: %v", begin, first, last, err)
				}
				if _, _, err := p.Consistency(first); err != nil {
					t.Fatalf("begin %d: consistency of %d: %v", begin, first, err)
				}
			}
			if _, _, err := p.Inclusion(begin / 2); begin > 2 && !errors.Is(err, ErrTiles) {
				t.Errorf("begin %d: leaf %d, which is gone, is proved: %v", begin, begin/2, err)
			}
		}
	}
}

// Between two checkpoints the files of the older one stay, and after the newer one is published they go.
func TestPartialTilesStayWhileTheyAreNeeded(t *testing.T) {
	all := leaves(2000)
	files := newMemoryFiles()
	tiles, err := OpenTiles(files, Frontier{}, Frontier{})
	must(t, err)
	before := uint64(0)
	for size := uint64(7); size < 2000; size += 7 {
		tiles.Append(all[before:size])
		must(t, tiles.Flush(size))
		must(t, tiles.Published(before))
		for _, readable := range []uint64{before, size} {
			p := &Prover{Files: unlisted{files}, Size: readable, Root: root(all[:readable])}
			if readable > 0 {
				if _, _, err := p.Inclusion(readable - 1); err != nil {
					t.Fatalf("at %d: %v", readable, err)
				}
			}
		}
		must(t, tiles.Published(size))
		partials := 0
		for name := range files.files {
			if strings.Contains(name, ".p/") {
				partials++
			}
		}
		if partials > 2+2 { // two levels of the checkpoint and of the durable tree
			t.Fatalf("%d partial tiles at %d", partials, size)
		}
		before = size
	}
}

// unlisted are files as a web server gives them out: who does not know a name does not find it.
type unlisted struct{ Files }

func (unlisted) ReadDir(string) ([]string, error) { return nil, errDisk }

// A tile that was durable stays so while it is written once more.
func TestDurableTileIsNeverAtStake(t *testing.T) {
	r := random(t)
	all := leaves(600)
	for range 30 {
		files := newMemoryFiles()
		newTiles(t, files, all)
		tiles, err := OpenTiles(files, frontierOf(all[:300]), Frontier{})
		must(t, err)
		tiles.Append(all[300:])
		must(t, tiles.Flush(600))
		if _, err := OpenTiles(files.powerCut(r), frontierOf(all[:300]), Frontier{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A log of 50,000 records a second must not notice its tiles: each is written once.
func TestFullTilesAreWrittenOnce(t *testing.T) {
	all := leaves(100_000)
	files := newMemoryFiles()
	tiles, err := OpenTiles(files, Frontier{}, Frontier{})
	must(t, err)
	const batch, checkpoints = 100, 20
	for i := 0; i < len(all); i += batch {
		tiles.Append(all[i : i+batch])
		if i%(len(all)/checkpoints) == 0 {
			must(t, tiles.Flush(tiles.Size()))
			must(t, tiles.Published(tiles.Size()))
		}
	}
	must(t, tiles.Flush(tiles.Size()))
	if full, most := 100_000/256+1, 100_000/256+1+3*(checkpoints+1); files.writes < full || files.writes > most {
		t.Errorf("%d files written, between %d and %d were expected", files.writes, full, most)
	}
}

// A failed sync leaves nobody believing in what it should have made durable.
func TestFailedSyncIsForGood(t *testing.T) {
	files := newMemoryFiles()
	tiles := newTiles(t, files, leaves(300))
	tiles.Append(leaves(600)[300:])
	must(t, tiles.Flush(600))
	files.fail = func(operation, _ string) error {
		if operation == "sync" {
			return errDisk
		}
		return nil
	}
	for range 2 {
		if durable, err := tiles.Sync(); !errors.Is(err, errDisk) || durable != 300 {
			t.Errorf("durable up to %d, %v", durable, err)
		}
		files.fail = nil
	}
}

func BenchmarkAppendAndFlush(b *testing.B) {
	root := openRoot(b)
	tiles, err := OpenTiles(RootFiles(root), Frontier{}, Frontier{})
	must(b, err)
	second := leaves(50_000)
	for b.Loop() { // one second of a busy log
		for batch := range slices.Chunk(second, 256) {
			tiles.Append(batch)
		}
		old := tiles.flushed
		if _, err := tiles.ProveConsistency(old, tiles.Size()); err != nil {
			b.Fatal(err)
		}
		must(b, tiles.Flush(tiles.Size()))
		must(b, tiles.Published(tiles.Size()))
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/50k-leaves")
}
