package tree

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// TileWidth is the number of hashes in a full tile, and of leaves in a full entry bundle (C2SP tlog-tiles: height 8).
const TileWidth = 1 << tileHeight

const tileHeight = 8

// ErrTiles says that hash tiles are missing, or contradict the root. They are derived data: opened at a smaller size, down
// to none, and fed with the leaves from there on, they are as new.
var ErrTiles = errors.New("hash tiles do not fit the tree")

// place is where a tile belongs: the n-th tile of its level. Its entries are the hashes of subtrees of 256^level leaves.
type place struct {
	level int
	n     uint64
}

// edge is the place of the tile at the right edge of a tree, and how many entries it has there: 0 where the tree ends with
// a full tile.
func edge(level int, size uint64) (p place, width int) {
	entries := size >> (tileHeight * level)
	return place{level, entries / TileWidth}, int(entries % TileWidth)
}

// path is the file name of the tile with that many entries: `tile/<L>/<N>` or `tile/<L>/<N>.p/<W>` (C2SP tlog-tiles).
func (p place) path(width int) string {
	return "tile/" + strconv.Itoa(p.level) + "/" + numberPath(p.n, width)
}

// bundlePath is the file name of the n-th entry bundle with that many leaves.
func bundlePath(n uint64, width int) string { return "tile/entries/" + numberPath(n, width) }

// numberPath writes a number by threes, as in x001/x234/067, and adds the width of what is not full.
func numberPath(n uint64, width int) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	if width < TileWidth {
		s += ".p/" + strconv.Itoa(width)
	}
	return s
}

// encode is the content of a tile's file.
func encode(entries []Hash) []byte {
	b := make([]byte, 0, len(entries)*len(Hash{}))
	for _, h := range entries {
		b = append(b, h[:]...)
	}
	return b
}

// decode reads the content of the file of a tile with that many entries.
func decode(b []byte, width int) ([]Hash, error) {
	if len(b) != width*len(Hash{}) {
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrTiles, len(b), width*len(Hash{}))
	}
	entries := make([]Hash, width)
	for i := range entries {
		entries[i] = Hash(b[i*len(Hash{}):])
	}
	return entries, nil
}

// fold is the hash of the subtree over 1, 2, 4, … entries.
func fold(entries []Hash) Hash {
	if len(entries) == 1 {
		return entries[0]
	}
	half := len(entries) / 2
	return HashChildren(fold(entries[:half]), fold(entries[half:]))
}

// within is the hash of the n-th subtree of that height, out of the entries of the tile that holds it. What is left of base
// may be known by its frontier only: the entries there are then zero.
func within(entries []Hash, base *Frontier, height int, n uint64) (Hash, error) {
	if h, ok := base.subtree(height, n); ok {
		return h, nil
	}
	inside := height % tileHeight
	first, last := n<<height, (n+1)<<height
	if inside > 0 && first < base.size && base.size < last {
		left, err := within(entries, base, height-1, 2*n)
		if err != nil {
			return Hash{}, err
		}
		right, err := within(entries, base, height-1, 2*n+1)
		return HashChildren(left, right), err
	}
	from := int(n << inside % TileWidth)
	if from+1<<inside > len(entries) {
		return Hash{}, fmt.Errorf("%w: %d entries are too few", ErrTiles, len(entries))
	}
	return fold(entries[from : from+1<<inside]), nil
}

// partialWidth reads the name of a partial tile within its folder.
func partialWidth(name string) (int, bool) {
	w, err := strconv.Atoi(name)
	return w, err == nil && strconv.Itoa(w) == name && 0 < w && w < TileWidth
}

// tileNumber reads a name in a folder of tiles: a folder of a thousand more (x001), a full tile (067), or the folder of its
// partial ones (067.p).
func tileNumber(name string) (n uint64, folder, partial, ok bool) {
	digits, partial := strings.CutSuffix(name, ".p")
	digits, folder = strings.CutPrefix(digits, "x")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, folder, partial, err == nil && len(digits) == 3 && !(folder && partial)
}

// parent is the folder of a file that has one.
func parent(name string) string { return name[:strings.LastIndexByte(name, '/')] }
