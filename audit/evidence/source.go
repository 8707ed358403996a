package evidence

import (
	"context"
	"iter"
	"time"

	"sallyport/audit/tree"
)

// Source is where a bundle's contents come from: an audit directory. Its methods are called one after another. log is
// audit.DecisionLog or audit.ControlLog.
type Source interface {
	// Checkpoint is the newest signed checkpoint of a log, as a note and read. The bundle holds no record beyond it.
	Checkpoint(log string) (signed []byte, c tree.Checkpoint, err error)
	// Oldest is the index of the oldest record that is still there.
	Oldest(log string) (uint64, error)
	// Near are indexes [first, end) outside of which, down to Oldest and up to size, no record has a time in [from, to);
	// a zero time is open. Answering with all there are is right, and only slower: all in between are read once more.
	Near(ctx context.Context, log string, from, to time.Time, size uint64) (first, end uint64, err error)
	// Records yields the bytes of the records [first, end), each as stored, without a line break, until the next
	// iteration. An error ends it; fewer records than that are one.
	Records(ctx context.Context, log string, first, end uint64) iter.Seq2[[]byte, error]
	// RangeProof leads from the leaves [first, end) to the root of the tree of size leaves (tree.Prover.Range).
	RangeProof(log string, first, end, size uint64) (tree.RangeProof, error)
	// Policy is the archive with that digest. One that was never kept is fs.ErrNotExist.
	Policy(digest string) ([]byte, error)
}
