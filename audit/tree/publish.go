package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math"
	"slices"
)

// Source is a log that is published as a static C2SP tlog-tiles folder, which any web server can serve:
//
//	checkpoint              signed
//	tile/<L>/<N>[.p/<W>]    hash tiles
//	tile/entries/<N>[.p/<W>]  entry bundles: leaves, each behind its length as two bytes, big-endian
type Source struct {
	Signed     []byte     // signed checkpoint to publish
	Checkpoint Checkpoint // what it says, opened by the caller
	// First is the index of the first leaf that the log still holds. Bundles and tiles of level 0 are published from the
	// next multiple of 256 on, which is the log's minimum index in the sense of tlog-tiles.
	First uint64
	// Leaves are the leaves from an index on, which is never less than First. A leaf may be overwritten by the next.
	Leaves func(from uint64) iter.Seq2[[]byte, error]
	// Hashes has the tiles of the tree of the checkpoint. It is used only where First is not 0.
	Hashes *Prover
}

// Publication says what Publish did.
type Publication struct {
	Minimum uint64 // minimum index: leaves before are proved and not published
	Size    uint64 // leaves in the tree that is published now
	Added   uint64 // leaves that were not published before
}

// checkpointName is the file name of the signed checkpoint in a published folder.
const checkpointName = "checkpoint"

// maxLeaf is the greatest number of bytes that a leaf in an entry bundle can have.
const maxLeaf = math.MaxUint16

// Publish brings a folder up to the source's checkpoint. What an earlier run published is not written again, and must be
// the begin of the same tree. The checkpoint is replaced last, when all it needs is durable; after an error the folder
// serves what it served before. Partial tiles and bundles stay until the full ones are there.
func Publish(files Files, s Source) (Publication, error) {
	p := publisher{files: files, source: s, folders: map[string]bool{}, unsynced: map[string]bool{}}
	p.done.Size = s.Checkpoint.Size
	p.done.Minimum = (s.First + TileWidth - 1) / TileWidth * TileWidth
	if p.done.Minimum > s.Checkpoint.Size {
		return Publication{}, fmt.Errorf("publishing %s: of %d leaves those before %d are gone, which leaves no whole entry bundle",
			s.Checkpoint.Origin, s.Checkpoint.Size, s.First)
	}
	if err := p.run(); err != nil {
		return Publication{}, fmt.Errorf("publishing %s: %w", s.Checkpoint.Origin, err)
	}
	return p.done, nil
}

type publisher struct {
	files    Files
	source   Source
	done     Publication
	old      Checkpoint // what is published already
	tiles    *Tiles
	next     uint64 // index of the next leaf
	bundle   bytes.Buffer
	folders  map[string]bool // made or there
	unsynced map[string]bool // written here; what the tiles write they sync themselves
}

func (p *publisher) run() error {
	var err error
	if p.old, err = p.published(); err != nil {
		return err
	}
	if p.tiles, err = p.begin(); err != nil {
		return err
	}
	if err := p.copyLeaves(); err != nil {
		return err
	}
	if now := p.tiles.Frontier(); now.Root() != p.source.Checkpoint.Root {
		return fmt.Errorf("%d leaves have the root %s, but the checkpoint says %s", now.Size(), now.Root(), p.source.Checkpoint.Root)
	}
	if err := p.finish(); err != nil {
		return err
	}
	if err := p.files.ReplaceFile(checkpointName, p.source.Signed); err != nil {
		return err
	}
	return p.removePartials()
}

// published is the checkpoint in the folder; of size 0 where there is none.
func (p *publisher) published() (Checkpoint, error) {
	signed, err := p.files.ReadFile(checkpointName)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{Root: EmptyRoot}, nil
	}
	if err != nil {
		return Checkpoint{}, err
	}
	end := bytes.Index(signed, []byte("\n\n"))
	old, err := ParseCheckpointBody(signed[:end+1])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%s in the folder: %w", checkpointName, err)
	}
	now := p.source.Checkpoint
	switch {
	case old.Origin != now.Origin:
		return Checkpoint{}, fmt.Errorf("the folder holds the log %s", old.Origin)
	case old.Size > now.Size:
		return Checkpoint{}, fmt.Errorf("the folder holds %d leaves already, more than %d", old.Size, now.Size)
	case old.Size == now.Size && old.Root != now.Root:
		return Checkpoint{}, fmt.Errorf("the folder holds a tree of %d leaves with another root", old.Size)
	}
	return old, nil
}

// begin opens the folder's tiles where the leaves are to be added: after those that are published, or at the minimum index
// where leaves between the two are gone.
func (p *publisher) begin() (*Tiles, error) {
	if p.old.Size >= p.done.Minimum {
		p.done.Added = p.source.Checkpoint.Size - p.old.Size
		published := Prover{Files: p.files, Size: p.old.Size, Root: p.old.Root}
		at, err := published.Frontier(p.old.Size)
		if err != nil {
			return nil, fmt.Errorf("reading the folder: %w", err)
		}
		return OpenTiles(p.files, at, Frontier{})
	}
	p.done.Added = p.source.Checkpoint.Size - p.done.Minimum
	h := p.source.Hashes
	if h == nil || h.Size != p.source.Checkpoint.Size || h.Root != p.source.Checkpoint.Root {
		return nil, fmt.Errorf("leaves before %d are gone, and the tiles of this checkpoint are not at hand", p.done.Minimum)
	}
	at, err := h.Frontier(p.done.Minimum)
	if err != nil {
		return nil, err
	}
	if err := p.copyTiles(h, p.done.Minimum); err != nil {
		return nil, err
	}
	return OpenTiles(p.files, at, Frontier{})
}

// copyTiles copies what lies above level 0 of the leaves that are gone.
func (p *publisher) copyTiles(h *Prover, size uint64) error {
	for level := 1; size>>(tileHeight*level) > 0; level++ {
		last, width := edge(level, size)
		for n := range last.n {
			if err := p.copyTile(h, place{level, n}, TileWidth); err != nil {
				return err
			}
		}
		if width > 0 {
			if err := p.copyTile(h, last, width); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyTile copies a tile unless it is there. A full one is checked against the hash that the tile above has of it; what is
// at the edge is checked when the folder's tiles are opened.
func (p *publisher) copyTile(h *Prover, at place, width int) error {
	if entries, err := readTile(p.files, at, width); err == nil && (width < TileWidth || p.isWhole(h, at, entries)) {
		return nil
	}
	entries, err := h.tile(at)
	if err != nil {
		return err
	}
	if width == TileWidth && !p.isWhole(h, at, entries) {
		return fmt.Errorf("%s: %w", at.path(width), ErrTiles)
	}
	return p.write(at.path(width), encode(entries[:width]))
}

func (p *publisher) isWhole(h *Prover, at place, entries []Hash) bool {
	above, err := h.subtree(tileHeight*(at.level+1), at.n)
	return err == nil && fold(entries) == above
}

// copyLeaves reads the leaves from the bundle on that is not full yet, and writes bundles and full tiles.
func (p *publisher) copyLeaves() error {
	known, width := edge(0, p.tiles.Size())
	p.next = known.n * TileWidth
	edgeHashes := slices.Clone(p.tiles.inMemory(known)[:width])
	if p.next+uint64(width) == p.source.Checkpoint.Size {
		return nil // nothing is new
	}
	for leaf, err := range p.source.Leaves(p.next) {
		if err != nil {
			return err
		}
		if len(leaf) > maxLeaf {
			return fmt.Errorf("leaf %d has %d bytes, more than %d", p.next, len(leaf), maxLeaf)
		}
		h := HashLeaf(leaf)
		if len(edgeHashes) > 0 {
			if h != edgeHashes[0] {
				return fmt.Errorf("leaf %d is not the one that is published", p.next)
			}
			edgeHashes = edgeHashes[1:]
		} else {
			p.tiles.Append([]Hash{h})
		}
		if err := p.add(leaf); err != nil {
			return err
		}
		if p.next == p.source.Checkpoint.Size {
			return nil
		}
	}
	return fmt.Errorf("the log ends after %d leaves, but the checkpoint says %d", p.next, p.source.Checkpoint.Size)
}

// add puts a leaf into the bundle, and writes what is full.
func (p *publisher) add(leaf []byte) error {
	p.bundle.Write(binary.BigEndian.AppendUint16(nil, uint16(len(leaf))))
	p.bundle.Write(leaf)
	p.next++
	if p.next%TileWidth != 0 {
		return nil
	}
	if err := p.write(bundlePath(p.next/TileWidth-1, TileWidth), p.bundle.Bytes()); err != nil {
		return err
	}
	p.bundle.Reset()
	return p.tiles.flushFull()
}

// write writes a file that Sync makes durable later.
func (p *publisher) write(name string, b []byte) error {
	if folder := parent(name); !p.folders[folder] {
		if err := p.files.MkdirAll(folder); err != nil {
			return err
		}
		p.folders[folder] = true
	}
	if err := p.files.WriteFile(name, b); err != nil {
		return err
	}
	p.unsynced[name] = true
	return nil
}

// finish writes what is at the right edge, and makes everything durable.
func (p *publisher) finish() error {
	if width := int(p.next % TileWidth); width > 0 && p.bundle.Len() > 0 {
		if err := p.write(bundlePath(p.next/TileWidth, width), p.bundle.Bytes()); err != nil {
			return err
		}
	}
	if err := p.tiles.Flush(p.source.Checkpoint.Size); err != nil {
		return err
	}
	if _, err := p.tiles.Sync(); err != nil {
		return err
	}
	if len(p.unsynced) == 0 {
		return nil
	}
	return p.files.Sync(slices.Sorted(maps.Keys(p.unsynced)))
}

// removePartials removes partial tiles and bundles of the checkpoint before, and those that were copied to begin with, where
// the full ones are there now.
func (p *publisher) removePartials() error {
	for _, size := range []uint64{p.old.Size, p.done.Minimum} {
		for level := 0; size>>(tileHeight*level) > 0; level++ {
			at, width := edge(level, size)
			if now, _ := edge(level, p.source.Checkpoint.Size); width == 0 || now.n == at.n {
				continue
			}
			if err := p.removeFolder(parent(at.path(width))); err != nil {
				return err
			}
			if level > 0 {
				continue
			}
			if err := p.removeFolder(parent(bundlePath(at.n, width))); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeFolder removes a folder of partial tiles or bundles.
func (p *publisher) removeFolder(name string) error {
	names, err := p.files.ReadDir(name)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, file := range names {
		if err := ignoreMissing(p.files.Remove(name + "/" + file)); err != nil {
			return err
		}
	}
	return ignoreMissing(p.files.Remove(name))
}
