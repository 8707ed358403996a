package tree

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// Tiles keep the hashes of a growing tree in files, in the layout of C2SP tlog-tiles with height 8:
//
//	tile/<L>/<N>          full tile: written once
//	tile/<L>/<N>.p/<W>    partial tile at the right edge: written by Flush, removed by Published
//
// They are derived data and never in the way of the log: Append only touches memory, and costs two hashes and 64 bytes a
// leaf; Flush writes whole tiles and may fail and be tried again; nothing is durable before Sync. After a power cut what
// lies beyond the durable size is not read: the log is opened at the frontier of a place before that, and the hashes of the
// leaves from there on are appended again, which writes their tiles again.
//
// Methods may be called from several goroutines.
type Tiles struct {
	files Files
	base  Frontier

	mu       sync.RWMutex
	frontier Frontier
	edges    []edgeTile // by level; those that are not full yet
	pending  []fullTile // full ones that are not in files yet, the oldest first

	writing   sync.Mutex // held while files are written; taken before mu
	folders   map[string]bool
	opened    uint64             // size of the tree when opened
	inherited map[place]bool     // tiles that were at the edge then, until that was written again and synced
	unsynced  map[string]bool    // files written since the last Sync
	partials  map[partial]string // partial tiles that were written, with their names
	earlier   map[partial]string // partial tiles of earlier runs that are still needed
	flushed   uint64             // size of the tree that was last flushed
	durable   uint64             // size of the tree that is whole on the disk
	rewritten bool               // the edge was written again since
	swept     bool               // leftovers of earlier runs are removed
	failed    error              // why nothing can be durable any more
}

type edgeTile struct {
	n       uint64
	entries []Hash // capacity TileWidth; entries are added and never changed, so a slice of them may be shared
}

type fullTile struct {
	at      place
	entries []Hash
}

type partial struct {
	at    place
	width int
}

// OpenTiles continues the tiles of a tree at a size up to which they are durable, 0 where there are none. Whatever the
// files hold beyond is replaced as the tree grows. Where the tiles at its right edge are missing or contradict its frontier
// it answers [ErrTiles]: the caller opens at a smaller size, at last that of base. From then on that smaller size is the
// durable one.
//
// base is the frontier at the begin of what the log still holds, and zero for a log that holds all its leaves. Tiles can be
// made anew from there: entries that belong to earlier leaves are then zero, and proofs about those are [ErrTiles].
func OpenTiles(files Files, at, base Frontier) (*Tiles, error) {
	if at.size > MaxSize || base.size > at.size {
		return nil, fmt.Errorf("opening hash tiles at %d leaves, with a log that begins at %d", at.size, base.size)
	}
	t := &Tiles{
		files: files, base: base.Clone(), frontier: at.Clone(), opened: at.size, flushed: at.size, durable: at.size,
		folders: map[string]bool{}, inherited: map[place]bool{}, unsynced: map[string]bool{},
		partials: map[partial]string{}, earlier: map[partial]string{},
	}
	for level := 0; at.size>>(tileHeight*level) > 0; level++ {
		p, width := edge(level, at.size)
		entries, err := t.edgeEntries(p, width)
		if err != nil {
			return nil, err
		}
		t.edges = append(t.edges, edgeTile{p.n, entries})
		t.inherited[p] = true
	}
	return t, nil
}

// edgeEntries reads the tile at the right edge from any of its files that agrees with the frontier.
func (t *Tiles) edgeEntries(at place, width int) ([]Hash, error) {
	room := make([]Hash, 0, TileWidth)
	if width == 0 {
		return room, nil
	}
	for _, base := range []*Frontier{{}, &t.base} { // rather a tile that is whole than one that base stands in for
		for _, w := range wider(t.files, at, width) {
			entries, err := readTile(t.files, at, w)
			if err == nil && t.agrees(entries[:width], at, base) {
				t.found(at, w, width)
				return append(room, entries[:width]...), nil
			}
			if err != nil && !errors.Is(err, ErrTiles) {
				return nil, err
			}
		}
	}
	unknown := make([]Hash, width)
	if t.agrees(unknown, at, &t.base) {
		return append(room, unknown...), nil
	}
	return nil, fmt.Errorf("%s: %w", at.path(width), ErrTiles)
}

// found takes over a partial tile that need not be written again. Whether it was ever synced is not known.
func (t *Tiles) found(at place, width, wanted int) {
	if width != wanted {
		return
	}
	name := at.path(width)
	t.partials[partial{at, width}] = name
	t.unsynced[name] = true
	t.folders[parent(name)] = true
}

// agrees reports whether the entries of a tile at the right edge are those of the frontier.
func (t *Tiles) agrees(entries []Hash, at place, base *Frontier) bool {
	first := at.n * TileWidth
	for inside, n := range subtrees(first, first+uint64(len(entries))) {
		height := at.level*tileHeight + inside
		want, _ := t.frontier.subtree(height, n)
		if got, err := within(entries, base, height, n); err != nil || got != want {
			return false
		}
	}
	return true
}

// Append adds the hashes of the next leaves. It writes nothing.
func (t *Tiles) Append(leaves []Hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, leaf := range leaves {
		t.add(0, leaf)
		t.frontier.append(0, leaf, t.add)
	}
}

// add puts the hash of a subtree that got complete into its tile, if tiles hold those of that height.
func (t *Tiles) add(height int, h Hash) {
	if height%tileHeight != 0 {
		return
	}
	level := height / tileHeight
	if level == len(t.edges) {
		t.edges = append(t.edges, edgeTile{0, make([]Hash, 0, TileWidth)})
	}
	e := &t.edges[level]
	e.entries = append(e.entries, h)
	if len(e.entries) == TileWidth {
		t.pending = append(t.pending, fullTile{place{level, e.n}, e.entries})
		*e = edgeTile{e.n + 1, make([]Hash, 0, TileWidth)}
	}
}

// Size is the number of leaves that were appended.
func (t *Tiles) Size() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.frontier.size
}

// Frontier is that of the tree with all leaves that were appended.
func (t *Tiles) Frontier() Frontier {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.frontier.Clone()
}

// Prover makes proofs to the tree of that size, which must not be more than was appended.
func (t *Tiles) Prover(size uint64) (*Prover, error) {
	now := t.Frontier()
	p := &Prover{Files: t.files, Size: now.size, Root: now.Root(), Base: t.base.Clone(), memory: t.inMemory}
	if size == now.size {
		return p, nil
	}
	root, _, err := p.Consistency(size)
	if err != nil {
		return nil, err
	}
	p.Size, p.Root = size, root
	return p, nil
}

// inMemory returns the entries of a tile that is not in a file for certain.
func (t *Tiles) inMemory(at place) []Hash {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if at.level < len(t.edges) && t.edges[at.level].n == at.n {
		return t.edges[at.level].entries
	}
	for _, tile := range t.pending {
		if tile.at == at {
			return tile.entries
		}
	}
	return nil
}

// ReadHashes gives hashes out by their stored index, for package tlog (tlog.HashReader). They are not checked.
func (t *Tiles) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	now := t.Frontier()
	p := &Prover{Files: t.files, Size: now.size, Base: t.base.Clone(), memory: t.inMemory}
	return p.ReadHashes(indexes)
}

// ProveInclusion proves that the tree of that size has a leaf at that index. See [Prover.Inclusion].
func (t *Tiles) ProveInclusion(size, index uint64) ([]Hash, error) {
	p, err := t.Prover(size)
	if err != nil {
		return nil, err
	}
	_, proof, err := p.Inclusion(index)
	return proof, err
}

// ProveConsistency proves that the tree of that size begins with that of the old size. See [Prover.Consistency].
func (t *Tiles) ProveConsistency(old, size uint64) ([]Hash, error) {
	p, err := t.Prover(size)
	if err != nil {
		return nil, err
	}
	_, proof, err := p.Consistency(old)
	return proof, err
}
