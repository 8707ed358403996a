package tree

import (
	"path"
	"strconv"
)

// lookBack is how many tiles before the edge sweep looks at: half a million leaves, in three listings of a folder.
const lookBack = 2000

// sweep removes what earlier runs left at the right edge and beyond: tiles of leaves that were never acknowledged, and
// partial tiles of old checkpoints. It begins somewhat before the edge of the tree as it was opened: a partial tile that is
// overlooked does no harm.
func (t *Tiles) sweep(published uint64) error {
	names, err := t.files.ReadDir("tile")
	if err != nil {
		return ignoreMissing(err)
	}
	for _, name := range names {
		level, err := strconv.Atoi(name)
		if err != nil || level < 0 || tileHeight*level >= 64 || strconv.Itoa(level) != name {
			continue // entry bundles
		}
		s := sweeping{tiles: t, level: level, published: published, next: t.edgeNumber(level)}
		at, _ := edge(level, t.opened)
		s.from = at.n - min(at.n, lookBack)
		if err := s.folder("tile/"+name, 0); err != nil {
			return err
		}
	}
	return nil
}

// edgeNumber is the number of the first tile of that level that is not full.
func (t *Tiles) edgeNumber(level int) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if level < len(t.edges) {
		return t.edges[level].n
	}
	return 0
}

// sweeping is one walk over the files of a level.
type sweeping struct {
	tiles     *Tiles
	level     int
	published uint64
	from      uint64 // number of the first tile to look at
	next      uint64 // number of the first tile that is not full
}

// folder walks over the tiles whose numbers begin with that prefix.
func (s *sweeping) folder(name string, prefix uint64) error {
	names, err := s.tiles.files.ReadDir(name)
	if err != nil {
		return err
	}
	for _, entry := range names {
		n, folder, partials, ok := tileNumber(entry)
		n += prefix * 1000
		file := path.Join(name, entry)
		switch {
		case !ok:
			err = s.temporary(file)
		case folder:
			if s.reaches(n) {
				err = s.folder(file, n)
			}
		case n < s.from:
		case partials:
			err = s.partials(file, n)
		case n >= s.next:
			err = ignoreMissing(s.tiles.files.Remove(file))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reaches reports whether a folder of numbers with that prefix can hold one from which on we look. Rather too often than
// not, as how many digits follow is not known.
func (s *sweeping) reaches(prefix uint64) bool {
	last := s.from / 1000
	for last > prefix && last >= 1000 {
		last /= 1000
	}
	return prefix >= last
}

// partials removes partial tiles that no tree needs which has to stay whole.
func (s *sweeping) partials(folder string, n uint64) error {
	names, err := s.tiles.files.ReadDir(folder)
	if err != nil {
		return err
	}
	kept := 0
	for _, name := range names {
		width, ok := partialWidth(name)
		if key := (partial{place{s.level, n}, width}); ok && s.tiles.needed(key, s.published) {
			s.tiles.earlier[key] = path.Join(folder, name)
			kept++
			continue
		}
		if err := ignoreMissing(s.tiles.files.Remove(path.Join(folder, name))); err != nil {
			return err
		}
		delete(s.tiles.unsynced, path.Join(folder, name))
		delete(s.tiles.partials, partial{place{s.level, n}, width})
	}
	if kept == 0 {
		delete(s.tiles.folders, folder)
		_ = s.tiles.files.Remove(folder) // it may be gone by then
	}
	return nil
}

// temporary removes a file that never got its name.
func (s *sweeping) temporary(name string) error {
	if path.Ext(name) != temporarySuffix {
		return nil
	}
	return ignoreMissing(s.tiles.files.Remove(name))
}
