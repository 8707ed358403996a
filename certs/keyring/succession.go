package keyring

import (
	"context"

	"sallyport/certs/internal/wire"
)

// Successions are the notes (C2SP signed-note) by which the keys that sign under an origin, as configured, handed over to
// each other, the oldest first: each is signed by a key and by the one that follows it. Empty if there was no change.
func (c *Client) Successions(ctx context.Context, k Key, base string) ([]string, error) {
	id, err := wire.ID(k.Public)
	if err != nil {
		return nil, err
	}
	body, err := c.request(ctx, wire.OpSignSuccession, wire.SignBody(id, []byte(base)))
	if err != nil {
		return nil, err
	}
	return wire.SplitNotes(string(body)), nil
}
