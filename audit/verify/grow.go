package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/bits"

	"sallyport/audit/tree"
)

// groupHeight is the height of the subtrees that workers hash, and of tiles (C2SP tlog-tiles): 256 leaves.
const (
	groupHeight = 8
	groupLen    = 1 << groupHeight
)

// growing is a tree that grows by leaves and by whole groups of them. It is [tree.Frontier] with that one more.
type growing struct {
	size   uint64
	hashes []tree.Hash // of the complete subtrees, the largest first
	made   func(level int, h tree.Hash)
}

// restart begins with another tree.
func (g *growing) restart(f *tree.Frontier) {
	g.size, g.hashes = f.Size(), g.hashes[:0]
	b := f.AppendBinary(nil)
	for ; len(b) > 0; b = b[len(tree.Hash{}):] {
		g.hashes = append(g.hashes, tree.Hash(b[:len(tree.Hash{})]))
	}
}

// leaf adds a leaf, group a subtree of groupLen leaves; the size must be a multiple of groupLen then.
func (g *growing) leaf(h tree.Hash)  { g.add(0, h) }
func (g *growing) group(h tree.Hash) { g.add(groupHeight, h) }

func (g *growing) add(level int, h tree.Hash) {
	g.note(level, h)
	g.size += 1 << level
	for range bits.TrailingZeros64(g.size >> level) {
		last := len(g.hashes) - 1
		h = children(g.hashes[last], h)
		g.hashes = g.hashes[:last]
		level++
		g.note(level, h)
	}
	g.hashes = append(g.hashes, h)
}

// note tells about the roots of groups, groups of groups and so on: what tiles hold.
func (g *growing) note(level int, h tree.Hash) {
	if g.made != nil && level%groupHeight == 0 {
		g.made(level/groupHeight, h)
	}
}

func (g *growing) root() tree.Hash {
	if g.size == 0 {
		return tree.EmptyRoot
	}
	last := len(g.hashes) - 1
	root := g.hashes[last]
	for i := last - 1; i >= 0; i-- {
		root = children(g.hashes[i], root)
	}
	return root
}

func (g *growing) frontier() tree.Frontier {
	var b []byte
	for _, h := range g.hashes {
		b = append(b, h[:]...)
	}
	f, err := tree.ParseFrontier(g.size, b)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return f
}

func (g *growing) is(f *tree.Frontier) bool {
	if f.Size() != g.size {
		return false
	}
	var b []byte
	for _, h := range g.hashes {
		b = append(b, h[:]...)
	}
	return bytes.Equal(b, f.AppendBinary(nil))
}

// String names the tree in findings.
func (g *growing) String() string { return fmt.Sprintf("%d records with root %s", g.size, g.root()) }

// children is [tree.HashChildren] without an allocation.
func children(left, right tree.Hash) tree.Hash {
	var b [1 + 2*len(left)]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+len(left):], right[:])
	return sha256.Sum256(b[:])
}

// rootOf is the root of the complete tree over a power of two of hashes, which it overwrites.
func rootOf(hashes []tree.Hash) tree.Hash {
	for n := len(hashes); n > 1; n /= 2 {
		for i := range n / 2 {
			hashes[i] = children(hashes[2*i], hashes[2*i+1])
		}
	}
	return hashes[0]
}
