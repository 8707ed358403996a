package audit

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// tileHeight is how many levels of the tree a tile spans (C2SP tlog-tiles).
const tileHeight = 8

// missingTile is the name of a full tile that the leaves from first up to last must have and that is not there; empty when
// all are. It lists folders of a thousand and opens no file.
func (t treeFiles) missingTile(first, last uint64) (string, error) {
	for level := 0; last>>(tileHeight*level) >= tree.TileWidth; level++ {
		from, to := first>>(tileHeight*(level+1)), last>>(tileHeight*(level+1))
		name, err := t.missingOf(level, from, to)
		if name != "" || err != nil {
			return name, err
		}
	}
	return "", nil
}

func (t treeFiles) missingOf(level int, from, to uint64) (string, error) {
	var folder string
	var names map[string]bool
	for n := from; n < to; n++ {
		name := tilePath(level, n)
		if dir := path.Dir(name); dir != folder {
			list, err := t.ReadDir(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			folder, names = dir, make(map[string]bool, len(list))
			for _, l := range list {
				names[l] = true
			}
		}
		if !names[path.Base(name)] {
			return name, nil
		}
	}
	return "", nil
}

// tilePath is the file of a full tile below the tree's folder.
func tilePath(level int, n uint64) string {
	name := tlog.Tile{H: tileHeight, L: level, N: int64(n), W: tree.TileWidth}.Path()
	return "tile/" + strings.TrimPrefix(name, "tile/8/")
}

// begins is the header of a log's oldest segment; nil when there is none.
func (r *Reader) begins() (*segment.Header, error) {
	numbers, err := listSegments(r.fs, r.log)
	if err != nil || len(numbers) == 0 {
		return nil, err
	}
	return openHeader(r.fs, r.log, numbers[0])
}

// frontierBefore is what the header of a segment states in which the tree of that size ends: a tree of that size or less.
func (r *Reader) frontierBefore(size uint64) (tree.Frontier, error) {
	numbers, err := listSegments(r.fs, r.log)
	if err != nil {
		return tree.Frontier{}, err
	}
	for i := len(numbers) - 1; i >= 0; i-- {
		h, err := openHeader(r.fs, r.log, numbers[i])
		if err != nil {
			return tree.Frontier{}, err
		}
		if h.FirstSeq() <= size {
			return h.Before, nil
		}
	}
	return tree.Frontier{}, ErrNoRecord
}
