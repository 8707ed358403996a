package tree

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// rounds is how often a test with random input repeats: SALLYPORT_ROUNDS, or so often.
func rounds(t testing.TB, normal int) int {
	t.Helper()
	s := os.Getenv("SALLYPORT_ROUNDS")
	if s == "" {
		return normal
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("SALLYPORT_ROUNDS: %v", err)
	}
	return n
}

// seeded is a seed that is printed, so that a failure can be repeated with SALLYPORT_SEED.
func seeded(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return seed
}

// random is a source of random numbers that a failure names.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seeded(t), 0))
}

// leaves are the hashes of that many leaves.
func leaves(n int) []Hash {
	hashes := make([]Hash, n)
	for i := range hashes {
		hashes[i] = HashLeaf(fmt.Appendf(nil, "record %d", i))
	}
	return hashes
}

func frontierOf(leaves []Hash) Frontier {
	var f Frontier
	for _, leaf := range leaves {
		f.Append(leaf)
	}
	return f
}

// newTiles are tiles of those leaves, all of them written and synced.
func newTiles(t testing.TB, files Files, leaves []Hash) *Tiles {
	t.Helper()
	tiles, err := OpenTiles(files, Frontier{}, Frontier{})
	if err != nil {
		t.Fatal(err)
	}
	tiles.Append(leaves)
	must(t, tiles.Flush(tiles.Size()))
	synced(t, tiles)
	must(t, tiles.Published(tiles.Size()))
	return tiles
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func synced(t testing.TB, tiles *Tiles) {
	t.Helper()
	if durable, err := tiles.Sync(); err != nil || durable != tiles.flushed {
		t.Fatalf("synced up to %d of %d: %v", durable, tiles.flushed, err)
	}
}

func slicesOf(hashes []Hash) [][]byte {
	var all [][]byte
	for _, h := range hashes {
		all = append(all, h[:])
	}
	return all
}

// Proofs of random trees convince transparency-dev/merkle, and its own check of ours fails where ours does.
func TestProofsAgreeWithAnotherImplementation(t *testing.T) {
	r := random(t)
	all := leaves(70_000)
	files := newMemoryFiles()
	tiles := newTiles(t, files, all)
	for range rounds(t, 150) {
		size := 1 + r.Uint64N(uint64(len(all)))
		if r.IntN(2) == 0 {
			size = 1 + r.Uint64N(600)
		}
		f := frontierOf(all[:size])
		root := f.Root()
		for _, p := range []*Prover{prover(t, tiles, size), {Files: files, Size: size, Root: root}} {
			index := r.Uint64N(size)
			leaf, inclusion, err := p.Inclusion(index)
			if err != nil || leaf != all[index] {
				t.Fatalf("inclusion of %d in %d: %v, leaf %v", index, size, err, leaf)
			}
			must(t, proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], slicesOf(inclusion), root[:]))
			old := r.Uint64N(size + 1)
			oldRoot, consistency, err := p.Consistency(old)
			if err != nil {
				t.Fatalf("consistency of %d with %d: %v", old, size, err)
			}
			must(t, proof.VerifyConsistency(rfc6962.DefaultHasher, old, size, slicesOf(consistency), oldRoot[:], root[:]))
			compareJudgement(t, r, index, size, leaf, inclusion, root)
			compareConsistency(t, r, old, size, oldRoot, consistency, root)
		}
	}
}

// compareJudgement changes something and asks both implementations.
func compareJudgement(t *testing.T, r *rand.Rand, index, size uint64, leaf Hash, hashes []Hash, root Hash) {
	t.Helper()
	changed, index, size := change(r, hashes, index, size)
	ours := VerifyInclusion(index, size, leaf, changed, root)
	theirs := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], slicesOf(changed), root[:])
	if (ours == nil) != (theirs == nil) {
		t.Errorf("inclusion of %d in %d: ours %v, theirs %v", index, size, ours, theirs)
	}
}

func compareConsistency(t *testing.T, r *rand.Rand, old, size uint64, oldRoot Hash, hashes []Hash, root Hash) {
	t.Helper()
	changed, old, size := change(r, hashes, old, size)
	ours := VerifyConsistency(old, size, oldRoot, root, changed)
	theirs := proof.VerifyConsistency(rfc6962.DefaultHasher, old, size, slicesOf(changed), oldRoot[:], root[:])
	if old == 0 && oldRoot != EmptyRoot {
		theirs = ErrProof // the library does not look at the root of nothing
	}
	if (ours == nil) != (theirs == nil) {
		t.Errorf("consistency of %d with %d: ours %v, theirs %v", old, size, ours, theirs)
	}
}

func change(r *rand.Rand, hashes []Hash, a, b uint64) ([]Hash, uint64, uint64) {
	changed := slices.Clone(hashes)
	switch n := r.IntN(5); {
	case n == 0 && len(changed) > 0:
		changed[r.IntN(len(changed))][r.IntN(32)] ^= 1 << r.IntN(8)
	case n == 1 && len(changed) > 0:
		changed = changed[:len(changed)-1]
	case n == 2:
		changed = append(changed, Hash{})
	case n == 3:
		a ^= 1 << r.IntN(4)
	case n == 4:
		b++
	}
	return changed, a, b
}

func prover(t testing.TB, tiles *Tiles, size uint64) *Prover {
	t.Helper()
	p, err := tiles.Prover(size)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The subtrees on the left and the right of a range are those of compact ranges.
func TestRangeProofsHold(t *testing.T) {
	r := random(t)
	all := leaves(3000)
	tiles := newTiles(t, newMemoryFiles(), all)
	factory := &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	for range rounds(t, 200) {
		size := 1 + r.Uint64N(uint64(len(all)))
		first := r.Uint64N(size + 1)
		last := first + r.Uint64N(size-first+1)
		p := prover(t, tiles, size)
		proof, err := p.Range(first, last)
		if err != nil {
			t.Fatalf("range %d to %d of %d: %v", first, last, size, err)
		}
		must(t, VerifyRange(proof, p.Root, slices.Values(all[first:last])))
		right := factory.NewEmptyRange(last)
		for _, leaf := range all[last:size] {
			must(t, right.Append(leaf[:], nil))
		}
		if got, want := fmt.Sprint(slicesOf(proof.Right)), fmt.Sprint(right.Hashes()); got != want {
			t.Fatalf("right of %d in %d: %s, want %s", last, size, got, want)
		}
		again, err := NewRangeProof(first, last, size, proof.Hashes())
		if err != nil || VerifyRange(again, p.Root, slices.Values(all[first:last])) != nil {
			t.Fatalf("range %d to %d of %d does not survive a row of hashes: %v", first, last, size, err)
		}
		breakRange(t, r, proof, p.Root, all)
	}
}

// breakRange changes a proof or its leaves in one way, and it must not hold any more.
func breakRange(t *testing.T, r *rand.Rand, p RangeProof, root Hash, all []Hash) {
	t.Helper()
	inside := slices.Clone(all[p.First:p.Last])
	p.Left, p.Right = slices.Clone(p.Left), slices.Clone(p.Right)
	switch n := r.IntN(8); {
	case n == 0 && len(inside) > 0:
		inside = inside[1:]
	case n == 1 && len(inside) > 0:
		inside = inside[:len(inside)-1]
	case n == 2 && len(inside) > 1:
		inside[0], inside[1] = inside[1], inside[0]
	case n == 3 && len(p.Left) > 0:
		p.Left[r.IntN(len(p.Left))][3] ^= 8
	case n == 4 && len(p.Right) > 0:
		p.Right[r.IntN(len(p.Right))][3] ^= 8
	case n == 5:
		p.Right = append(p.Right, Hash{})
	case n == 6 && p.First > 0 && p.First < p.Last:
		p.First--
	default:
		inside = append(inside, Hash{})
	}
	if err := VerifyRange(p, root, slices.Values(inside)); err == nil {
		t.Fatalf("a changed range of %d to %d in %d holds", p.First, p.Last, p.Size)
	}
}
