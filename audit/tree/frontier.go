package tree

import (
	"fmt"
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
func (f *Frontier) Append(leaf Hash) {
	for range bits.TrailingZeros64(^f.size) {
		last := len(f.hashes) - 1
		leaf = HashChildren(f.hashes[last], leaf)
		f.hashes = f.hashes[:last]
	}
	f.hashes = append(f.hashes, leaf)
	f.size++
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
