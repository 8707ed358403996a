package tree

import (
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// The frontier of every size has the root that another implementation computes.
func TestFrontierAgreesWithAnotherImplementation(t *testing.T) {
	var f Frontier
	other := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for i := range 600 {
		leaf := fmt.Appendf(nil, "record %d", i)
		f.Append(HashLeaf(leaf))
		if err := other.Append(rfc6962.DefaultHasher.HashLeaf(leaf), nil); err != nil {
			t.Fatal(err)
		}
		want, err := other.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Root(); string(got[:]) != string(want) {
			t.Fatalf("root of %d leaves is %x, want %x", i+1, got, want)
		}
		read, err := ParseFrontier(f.Size(), f.AppendBinary(nil))
		if err != nil || !read.Equal(&f) {
			t.Fatalf("frontier of %d leaves does not survive: %v", i+1, err)
		}
	}
	if (&Frontier{}).Root() != Hash(rfc6962.DefaultHasher.EmptyRoot()) {
		t.Error("the empty tree has another root")
	}
}
