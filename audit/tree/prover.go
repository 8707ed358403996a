package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Prover makes proofs about one tree from hash tiles. Tiles are not trusted: a proof is checked against the root before it is
// given out, and tiles that are missing or wrong are [ErrTiles]. One Prover serves one goroutine; it remembers the tiles it
// read.
type Prover struct {
	Files Files
	Size  uint64 // number of leaves in the tree that is proved to
	Root  Hash   // its root, as a signed checkpoint or the log itself states it
	// Base is the frontier at the begin of what the log still holds. It stands in for tiles to the left of it that are lost.
	// Zero where all tiles are there.
	Base Frontier

	memory func(place) []Hash // entries that are not in files yet; nil: all are, of a tree that may have grown since
	tiles  map[place][]Hash
}

// rememberedTiles is how many tiles a Prover keeps: 8 MiB.
const rememberedTiles = 1024

// Inclusion returns the hash of a leaf and the proof that it is part of the tree (RFC 6962 §2.1.1).
func (p *Prover) Inclusion(index uint64) (leaf Hash, proof []Hash, err error) {
	if index >= p.Size || p.Size > MaxSize {
		return Hash{}, nil, fmt.Errorf("no leaf %d in a tree of %d", index, p.Size)
	}
	if leaf, err = p.subtree(0, index); err != nil {
		return Hash{}, nil, err
	}
	record, err := tlog.ProveRecord(int64(p.Size), int64(index), p)
	if err != nil {
		return Hash{}, nil, err
	}
	proof = convert[Hash](record)
	if VerifyInclusion(index, p.Size, leaf, proof, p.Root) != nil {
		return Hash{}, nil, fmt.Errorf("inclusion of leaf %d in %d: %w", index, p.Size, ErrTiles)
	}
	return leaf, proof, nil
}

// Consistency returns the proof that the tree begins with that of another size (RFC 6962 §2.1.2), and the root at that
// size. The proof from size 0 is empty.
func (p *Prover) Consistency(old uint64) (oldRoot Hash, proof []Hash, err error) {
	if old > p.Size || p.Size > MaxSize {
		return Hash{}, nil, fmt.Errorf("no tree of %d leaves in one of %d", old, p.Size)
	}
	if old == 0 {
		return EmptyRoot, nil, nil
	}
	f, err := p.run(0, old)
	if err != nil {
		return Hash{}, nil, err
	}
	tree, err := tlog.ProveTree(int64(p.Size), int64(old), p)
	if err != nil {
		return Hash{}, nil, err
	}
	proof = convert[Hash](tree)
	if VerifyConsistency(old, p.Size, f.Root(), p.Root, proof) != nil {
		return Hash{}, nil, fmt.Errorf("consistency of %d with %d: %w", old, p.Size, ErrTiles)
	}
	return f.Root(), proof, nil
}

// Frontier is the frontier of the tree's first leaves.
func (p *Prover) Frontier(size uint64) (Frontier, error) {
	if _, _, err := p.Consistency(size); err != nil {
		return Frontier{}, err
	}
	return p.run(0, size)
}

// Range returns the proof that the leaves from first up to but without last are those and no others.
func (p *Prover) Range(first, last uint64) (RangeProof, error) {
	if first > last || last > p.Size || p.Size > MaxSize {
		return RangeProof{}, fmt.Errorf("no range %d to %d in a tree of %d leaves", first, last, p.Size)
	}
	left, err := p.run(0, first)
	if err != nil {
		return RangeProof{}, err
	}
	proof := RangeProof{First: first, Last: last, Size: p.Size, Left: left.Hashes()}
	for height, n := range subtrees(last, p.Size) {
		h, err := p.subtree(height, n)
		if err != nil {
			return RangeProof{}, err
		}
		proof.Right = append(proof.Right, h)
	}
	for height, n := range subtrees(first, last) {
		h, err := p.subtree(height, n)
		if err != nil {
			return RangeProof{}, err
		}
		left.append(height, h, nil)
	}
	root, err := proof.Root(left)
	if err != nil || root != p.Root {
		return RangeProof{}, fmt.Errorf("leaves %d to %d in %d: %w", first, last, p.Size, ErrTiles)
	}
	return proof, nil
}

// run puts the leaves of a frontier together from subtrees. Nothing is checked yet.
func (p *Prover) run(first, last uint64) (Frontier, error) {
	var f Frontier
	for height, n := range subtrees(first, last) {
		h, err := p.subtree(height, n)
		if err != nil {
			return Frontier{}, err
		}
		f.append(height, h, nil)
	}
	return f, nil
}

// ReadHashes gives hashes out by their stored index, for package tlog. They are not checked.
func (p *Prover) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		height, n := tlog.SplitStoredHashIndex(index)
		h, err := p.subtree(height, uint64(n))
		if err != nil {
			return nil, err
		}
		hashes[i] = tlog.Hash(h)
	}
	return hashes, nil
}

// subtree is the hash of the n-th subtree of 2^height leaves. It is not checked.
func (p *Prover) subtree(height int, n uint64) (Hash, error) {
	if n >= p.Size>>height {
		return Hash{}, fmt.Errorf("no subtree %d of height %d in a tree of %d leaves", n, height, p.Size)
	}
	if h, ok := p.Base.subtree(height, n); ok {
		return h, nil
	}
	at := place{height / tileHeight, n >> (tileHeight - height%tileHeight)}
	entries, err := p.tile(at)
	if err != nil {
		return Hash{}, err
	}
	h, err := within(entries, &p.Base, height, n)
	if err != nil {
		return Hash{}, fmt.Errorf("%s: %w", at.path(TileWidth), err)
	}
	return h, nil
}

// tile is a tile as wide as this tree has it, or wider.
func (p *Prover) tile(at place) ([]Hash, error) {
	if entries, ok := p.tiles[at]; ok {
		return entries, nil
	}
	width := TileWidth
	if last, w := edge(at.level, p.Size); at == last {
		width = w
	}
	var entries []Hash
	var err error
	if p.memory != nil {
		entries = p.memory(at)
		if len(entries) < width {
			entries, err = readTile(p.Files, at, TileWidth)
		}
	} else {
		entries, err = findTile(p.Files, at, width)
	}
	if err != nil {
		return nil, err
	}
	if len(p.tiles) >= rememberedTiles || p.tiles == nil {
		p.tiles = map[place][]Hash{}
	}
	p.tiles[at] = entries
	return entries, nil
}

// readTile reads one file of a tile.
func readTile(files Files, at place, width int) ([]Hash, error) {
	name := at.path(width)
	b, err := files.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrTiles, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a hash tile: %w", err)
	}
	entries, err := decode(b, width)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return entries, nil
}

// findTile reads a tile from the file with that many entries, or else from one that has more of them: the tree that they
// are the right edge of may have grown.
func findTile(files Files, at place, width int) ([]Hash, error) {
	entries, first := readTile(files, at, width)
	if first == nil || width == TileWidth || !errors.Is(first, fs.ErrNotExist) {
		return entries, first
	}
	for _, w := range wider(files, at, width) {
		if entries, err := readTile(files, at, w); err == nil {
			return entries, nil
		}
	}
	return nil, first
}

// wider are the widths of the files that a tile has, from the full one down to that width.
func wider(files Files, at place, width int) []int {
	widths := []int{TileWidth}
	names, err := files.ReadDir(at.path(TileWidth) + ".p")
	if err != nil {
		return widths // as a rule there is no such folder
	}
	for _, name := range names {
		if w, ok := partialWidth(name); ok && w >= width {
			widths = append(widths, w)
		}
	}
	slices.Sort(widths)
	slices.Reverse(widths)
	return widths
}

// convert changes between the hashes of this package and of tlog.
func convert[To, From ~[32]byte](from []From) []To {
	to := make([]To, len(from))
	for i, h := range from {
		to[i] = To(h)
	}
	return to
}
