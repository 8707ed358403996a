package boot

import (
	"context"
	"strings"

	"sallyport/audit"
	"sallyport/audit/tree"
	"sallyport/certs/keyring"
)

// checkpoints has the key process sign what the audit logs are.
type checkpoints struct {
	keys   *keyring.Client
	origin string // of the audit directory; each log's is a name below it
}

var _ audit.CheckpointSigner = checkpoints{}

// Position is what was signed last.
func (c checkpoints) Position(ctx context.Context, log string) (tree.Checkpoint, error) {
	p, err := c.keys.CheckpointPosition(ctx, c.origin+"/"+log)
	if err != nil {
		return tree.Checkpoint{}, err
	}
	last := tree.Checkpoint{Origin: p.Origin, Size: p.Size, Root: tree.Hash(p.Root)}
	if p.Previous != "" {
		last.Extensions = strings.Split(p.Previous, "\n")
	}
	return last, nil
}

// Sign returns a signed checkpoint.
func (c checkpoints) Sign(ctx context.Context, _ string, next tree.Checkpoint, oldSize uint64, proof []tree.Hash) ([]byte, error) {
	hashes := make([][32]byte, len(proof))
	for i, h := range proof {
		hashes[i] = h
	}
	return c.keys.SignCheckpoint(ctx, next.Body(), oldSize, hashes)
}
