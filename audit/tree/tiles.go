package tree

import (
	"errors"
	"fmt"
	"slices"
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

// Flush writes what a checkpoint of that size needs: full tiles, and the partial ones at the right edge. It is to be called
// before the checkpoint is published. After an error it can be called again; no hash is lost meanwhile.
func (t *Tiles) Flush(size uint64) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	return t.flush(size)
}

func (t *Tiles) flush(size uint64) error {
	full, partials, err := t.toWrite(size)
	if err != nil {
		return err
	}
	if err := t.writeAll(full); err != nil {
		return err
	}
	for _, tile := range partials {
		if err := t.writePartial(tile); err != nil {
			return fmt.Errorf("writing a hash tile: %w", err)
		}
	}
	if err := t.removeStale(size); err != nil {
		return fmt.Errorf("removing an old hash tile: %w", err)
	}
	t.flushed, t.rewritten = size, true
	return nil
}

// removeStale removes partial tiles of that size that an earlier run left, where the tile is full by now and so the partial
// one was not written again: a reader would take it for ours. The full one is durable where the durable size needs it.
func (t *Tiles) removeStale(size uint64) error {
	if t.swept {
		return nil
	}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		at, width := edge(level, size)
		if _, ours := t.partials[partial{at, width}]; ours || width == 0 || t.edgeNumber(level) == at.n {
			continue
		}
		if err := ignoreMissing(t.files.Remove(at.path(width))); err != nil {
			return err
		}
	}
	return nil
}

// flushFull writes full tiles only.
func (t *Tiles) flushFull() error {
	t.writing.Lock()
	defer t.writing.Unlock()
	full, _, err := t.toWrite(t.flushed)
	if err != nil {
		return err
	}
	return t.writeAll(full)
}

func (t *Tiles) writeAll(full []fullTile) error {
	for _, tile := range full {
		if err := t.writeFull(tile); err != nil {
			return fmt.Errorf("writing a hash tile: %w", err)
		}
		t.mu.Lock()
		t.pending = t.pending[1:]
		t.mu.Unlock()
	}
	return nil
}

// toWrite lists the tiles that a checkpoint of that size needs and that are not in files for certain.
func (t *Tiles) toWrite(size uint64) (full, partials []fullTile, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if size > t.frontier.size || size < t.flushed {
		return nil, nil, fmt.Errorf("hash tiles of %d leaves: %d were appended and %d written", size, t.frontier.size, t.flushed)
	}
	for level, e := range t.edges {
		if at, width := edge(level, size); at.n == e.n && width > 0 {
			partials = append(partials, fullTile{at, e.entries[:width]})
		}
	}
	return slices.Clone(t.pending), partials, nil
}

func (t *Tiles) writeFull(tile fullTile) error {
	name := tile.at.path(TileWidth)
	if err := t.mkdir(parent(name)); err != nil {
		return err
	}
	return t.write(tile.at, name, tile.entries)
}

// write writes a file of a tile. Until the first Sync after a Flush the durable size may rest upon the file that it replaces.
func (t *Tiles) write(at place, name string, entries []Hash) error {
	write := t.files.WriteFile
	if t.inherited[at] {
		write = t.files.ReplaceFile
	}
	if err := write(name, encode(entries)); err != nil {
		return err
	}
	t.unsynced[name] = true
	return nil
}

func (t *Tiles) writePartial(tile fullTile) error {
	key := partial{tile.at, len(tile.entries)}
	if _, ok := t.partials[key]; ok {
		return nil
	}
	name := tile.at.path(len(tile.entries))
	if err := t.mkdir(parent(name)); err != nil {
		return err
	}
	if err := t.write(tile.at, name, tile.entries); err != nil {
		return err
	}
	t.partials[key] = name
	return nil
}

func (t *Tiles) mkdir(folder string) error {
	if t.folders[folder] {
		return nil
	}
	if err := t.files.MkdirAll(folder); err != nil {
		return err
	}
	t.folders[folder] = true
	return nil
}

// Sync makes durable what was flushed, and returns the number of leaves up to which that now holds. After an error it never
// succeeds again, as nobody knows what a failed sync left of which file: the tiles are to be opened again, at the size that
// was durable before.
func (t *Tiles) Sync() (durable uint64, err error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	err = t.sync()
	return t.durable, err
}

func (t *Tiles) sync() error {
	if t.failed != nil {
		return t.failed
	}
	names := make([]string, 0, len(t.unsynced))
	for name := range t.unsynced {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) > 0 {
		if err := t.files.Sync(names); err != nil {
			t.failed = fmt.Errorf("syncing hash tiles: %w", err)
			return t.failed
		}
	}
	clear(t.unsynced)
	if t.rewritten {
		clear(t.inherited)
	}
	t.durable = t.flushed
	return nil
}

// Published says that the checkpoint of that size, which was flushed, is what readers find now. Partial tiles that neither
// it needs, nor the durable tree, nor one that was flushed since, are removed.
func (t *Tiles) Published(size uint64) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.rewritten && !t.swept {
		if err := t.sync(); err != nil { // what opening rested upon may be among the leftovers
			return err
		}
		if err := t.sweep(size); err != nil {
			return fmt.Errorf("removing old hash tiles: %w", err)
		}
		t.swept = true
	}
	for _, tiles := range []map[partial]string{t.earlier, t.partials} {
		for key, name := range tiles {
			if t.needed(key, size) {
				continue
			}
			if err := t.removePartial(key.at, name); err != nil {
				return fmt.Errorf("removing an old hash tile: %w", err)
			}
			delete(tiles, key)
		}
	}
	return nil
}

// needed reports whether a partial tile is part of a tree that has to stay whole.
func (t *Tiles) needed(p partial, published uint64) bool {
	for _, size := range []uint64{published, t.durable, t.flushed} {
		if at, width := edge(p.at.level, size); p == (partial{at, width}) {
			return true
		}
	}
	return false
}

func (t *Tiles) removePartial(at place, name string) error {
	if err := ignoreMissing(t.files.Remove(name)); err != nil {
		return err
	}
	delete(t.unsynced, name)
	for other := range t.partials {
		if other.at == at && t.partials[other] != name {
			return nil
		}
	}
	folder := parent(name)
	delete(t.folders, folder)
	_ = t.files.Remove(folder) // what else is in it is not ours, and does no harm
	return nil
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
