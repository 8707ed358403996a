package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

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

// durableTiles is how many leaves the tiles are durable for, as far as is known: 0 where nothing is.
func durableTiles(files treeFiles) (uint64, error) {
	b, err := files.ReadFile(durableFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	size, err := strconv.ParseUint(strings.TrimSuffix(string(b), "\n"), 10, 64)
	if err != nil {
		return 0, nil // it is no number: then nothing is known
	}
	return size, nil
}

// base is the frontier at the begin of what the log still holds.
func (r *Reader) base() (tree.Frontier, error) {
	numbers, err := listSegments(r.fs, r.log)
	if err != nil || len(numbers) == 0 {
		return tree.Frontier{}, err
	}
	h, err := openHeader(r.fs, r.log, numbers[0])
	if err != nil {
		return tree.Frontier{}, err
	}
	return h.Before, nil
}

// frontier is the tree of the log's first leaves, out of the segments. ErrNoRecord says that the log begins later.
func (r *Reader) frontier(ctx context.Context, size uint64) (tree.Frontier, error) {
	f, err := r.frontierBefore(size)
	if err != nil || f.Size() == size {
		return f, err
	}
	for line, err := range r.Lines(ctx, f.Size()) {
		if err != nil {
			return tree.Frontier{}, err
		}
		f.Append(tree.HashLeaf(line.Raw))
		if f.Size() == size {
			return f, nil
		}
	}
	return tree.Frontier{}, fmt.Errorf("the %s log ends after %d records, not %d", r.log, f.Size(), size)
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
			return h.Before.Clone(), nil
		}
	}
	return tree.Frontier{}, ErrNoRecord
}
