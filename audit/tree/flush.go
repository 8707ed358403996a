package tree

import (
	"fmt"
	"slices"
)

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
