package tree

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrProof says that a proof does not prove what it should.
var ErrProof = errors.New("the proof does not hold")

// VerifyInclusion checks that the tree of that size and root has that leaf at that index (RFC 6962 §2.1.1).
func VerifyInclusion(index, size uint64, leaf Hash, proof []Hash, root Hash) error {
	if index >= size || size > MaxSize {
		return fmt.Errorf("inclusion: %w: no leaf %d in a tree of %d", ErrProof, index, size)
	}
	err := tlog.CheckRecord(convert[tlog.Hash](proof), int64(size), tlog.Hash(root), int64(index), tlog.Hash(leaf))
	if err != nil {
		return fmt.Errorf("inclusion of leaf %d in %d: %w", index, size, ErrProof)
	}
	return nil
}

// VerifyConsistency checks that the tree of that size and root begins with the tree of the old size and root (RFC 6962
// §2.1.2). Every tree begins with the empty one, and the proof of that is empty.
func VerifyConsistency(old, size uint64, oldRoot, root Hash, proof []Hash) error {
	if old > size || size > MaxSize {
		return fmt.Errorf("consistency: %w: no tree of %d leaves in one of %d", ErrProof, old, size)
	}
	if old == 0 {
		if oldRoot != EmptyRoot || len(proof) != 0 || size == 0 && root != EmptyRoot {
			return fmt.Errorf("consistency of nothing with %d: %w", size, ErrProof)
		}
		return nil
	}
	err := tlog.CheckTree(convert[tlog.Hash](proof), int64(size), tlog.Hash(root), int64(old), tlog.Hash(oldRoot))
	if err != nil {
		return fmt.Errorf("consistency of %d with %d: %w", old, size, ErrProof)
	}
	return nil
}

// RangeProof shows that certain leaves are exactly those from First up to but without Last of a tree, none left out and
// none added. It holds what the tree has on both sides of them.
type RangeProof struct {
	First uint64 `json:"first"` // index of the first leaf of the range
	Last  uint64 `json:"last"`  // index after the range; equal to First where it is empty
	Size  uint64 `json:"size"`  // number of leaves in the tree
	Left  []Hash `json:"left"`  // frontier of the tree of First leaves, the largest subtree first
	Right []Hash `json:"right"` // the largest complete subtrees that the leaves from Last on consist of, from left to right
}

// NewRangeProof is a range proof out of its hashes in one row, as [RangeProof.Hashes] gives them.
func NewRangeProof(first, last, size uint64, hashes []Hash) (RangeProof, error) {
	left := bits.OnesCount64(first)
	if first > last || last > size || size > MaxSize || len(hashes) < left {
		return RangeProof{}, fmt.Errorf("range: %w: leaves %d to %d of %d, and %d hashes", ErrProof, first, last, size, len(hashes))
	}
	return RangeProof{first, last, size, slices.Clone(hashes[:left]), slices.Clone(hashes[left:])}, nil
}

// Hashes are all hashes of the proof, those on the left first.
func (p RangeProof) Hashes() []Hash { return slices.Concat(p.Left, p.Right) }

// Start is where checking begins: the frontier that the hash of each leaf of the range is to be appended to, in order.
func (p RangeProof) Start() (Frontier, error) {
	if p.First > p.Last || p.Last > p.Size || p.Size > MaxSize {
		return Frontier{}, fmt.Errorf("range: %w: leaves %d to %d of %d", ErrProof, p.First, p.Last, p.Size)
	}
	f, err := NewFrontier(p.First, p.Left)
	if err != nil {
		return Frontier{}, fmt.Errorf("range %d to %d: %w: %w", p.First, p.Last, ErrProof, err)
	}
	return f, nil
}

// Root is the root of the whole tree, out of the frontier of [RangeProof.Start] with the leaves of the range appended. It
// proves the range if it is the root that was signed.
func (p RangeProof) Root(f Frontier) (Hash, error) {
	if f.Size() != p.Last || p.Last > p.Size || p.Size > MaxSize {
		return Hash{}, fmt.Errorf("range: %w: it ends at %d of %d, and not at %d", ErrProof, p.Last, p.Size, f.Size())
	}
	all, right := f.Clone(), p.Right
	for height := range subtrees(p.Last, p.Size) {
		if len(right) == 0 {
			return Hash{}, fmt.Errorf("range %d to %d: %w: hashes are missing", p.First, p.Last, ErrProof)
		}
		all.append(height, right[0], nil)
		right = right[1:]
	}
	if len(right) != 0 {
		return Hash{}, fmt.Errorf("range %d to %d: %w: it has too many hashes", p.First, p.Last, ErrProof)
	}
	return all.Root(), nil
}

// VerifyRange checks that the tree of that root has exactly these leaves in the range.
func VerifyRange(p RangeProof, root Hash, leaves iter.Seq[Hash]) error {
	f, err := p.Start()
	if err != nil {
		return err
	}
	for leaf := range leaves {
		f.Append(leaf)
	}
	got, err := p.Root(f)
	if err != nil {
		return err
	}
	if got != root {
		return fmt.Errorf("range %d to %d of %d: %w", p.First, p.Last, p.Size, ErrProof)
	}
	return nil
}
