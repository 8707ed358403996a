package tree

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

// Frontier is all that is needed of a tree to let it grow and to know its root: the hashes of the complete subtrees it
// consists of, the largest first, one for each bit that is set in its size. The zero value is the empty tree.
type Frontier struct {
	size   uint64
	hashes []Hash
}

// Size is the number of leaves.
func (f *Frontier) Size() uint64 { return f.size }

// Append adds the next leaf.
func (f *Frontier) Append(leaf Hash) { f.append(0, leaf, nil) }

// append adds the next complete subtree, of 2^height leaves, and hands out each subtree that gets complete by it. The size
// must be a multiple of 2^height.
func (f *Frontier) append(height int, hash Hash, completed func(height int, hash Hash)) {
	for i := range bits.TrailingZeros64(^(f.size >> height)) {
		last := len(f.hashes) - 1
		hash = HashChildren(f.hashes[last], hash)
		f.hashes = f.hashes[:last]
		if completed != nil {
			completed(height+i+1, hash)
		}
	}
	f.hashes = append(f.hashes, hash)
	f.size += 1 << height
}

// subtree is the hash of the subtree of 2^height leaves with that number among those of its height, if it is one of the
// frontier's.
func (f *Frontier) subtree(height int, n uint64) (Hash, bool) {
	if f.size>>height&1 == 0 || n != f.size>>height-1 {
		return Hash{}, false
	}
	return f.hashes[bits.OnesCount64(f.size>>height)-1], true
}

// subtrees are the largest complete subtrees that the leaves from first up to but without last consist of, in order: each
// has 2^height leaves and is the n-th of its height.
func subtrees(first, last uint64) iter.Seq2[int, uint64] {
	return func(yield func(height int, n uint64) bool) {
		for first < last {
			height := min(bits.TrailingZeros64(first), bits.Len64(last-first)-1)
			if !yield(height, first>>height) {
				return
			}
			first += 1 << height
		}
	}
}

// Hashes are the hashes of the frontier, the largest subtree first.
func (f *Frontier) Hashes() []Hash { return slices.Clone(f.hashes) }

// NewFrontier is the frontier of a tree of that size with those hashes, the largest subtree first. One that is too large,
// or has another number of hashes, is an error.
func NewFrontier(size uint64, hashes []Hash) (Frontier, error) {
	if size > MaxSize || len(hashes) != bits.OnesCount64(size) {
		return Frontier{}, fmt.Errorf("frontier of %d leaves has %d hashes, not %d", size, len(hashes), bits.OnesCount64(size))
	}
	return Frontier{size, slices.Clone(hashes)}, nil
}

// Root is the root of the tree (RFC 6962 §2.1).
func (f *Frontier) Root() Hash {
	if f.size == 0 {
		return EmptyRoot
	}
	root := f.hashes[len(f.hashes)-1]
	for i := len(f.hashes) - 2; i >= 0; i-- {
		root = HashChildren(f.hashes[i], root)
	}
	return root
}

// Clone is a copy that grows on its own.
func (f *Frontier) Clone() Frontier { return Frontier{f.size, slices.Clone(f.hashes)} }

// Equal reports whether both are the same tree.
func (f *Frontier) Equal(other *Frontier) bool {
	return f.size == other.size && slices.Equal(f.hashes, other.hashes)
}

// AppendBinary appends the hashes. The size is not part of them, and is to be kept beside.
func (f *Frontier) AppendBinary(b []byte) []byte {
	for _, h := range f.hashes {
		b = append(b, h[:]...)
	}
	return b
}

// FrontierLen is the number of bytes that AppendBinary appends for a tree of that size.
func FrontierLen(size uint64) int { return bits.OnesCount64(size) * len(Hash{}) }

// ParseFrontier reads what AppendBinary wrote for a tree of that size.
func ParseFrontier(size uint64, b []byte) (Frontier, error) {
	if len(b) != FrontierLen(size) {
		return Frontier{}, fmt.Errorf("frontier of %d leaves has %d bytes, not %d", size, len(b), FrontierLen(size))
	}
	f := Frontier{size: size}
	for h := range slices.Chunk(b, len(Hash{})) {
		f.hashes = append(f.hashes, Hash(h))
	}
	return f, nil
}
