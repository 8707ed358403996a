package keyring

import (
	"context"
	"encoding/json"
	"fmt"

	"sallyport/certs/internal/wire"
)

// What keyd remembers of its signatures and refusals.
type (
	// SigningLog is a part of it, from keyd's memory.
	SigningLog = wire.SigningLog
	// SigningEntry is a refusal, or a window of counts.
	SigningEntry = wire.SigningEntry
	// SigningWindow counts what was signed and refused in some seconds.
	SigningWindow = wire.SigningWindow
	// SigningRow is what one key did in one operation.
	SigningRow = wire.SigningRow
	// SigningRefusal is one request that was not served.
	SigningRefusal = wire.SigningRefusal
)

// SigningLog asks keyd for what it signed and refused after the entry of that number, 0 for all it remembers. Entries may
// be left for the next call; numbers mean nothing once keyd began anew, which the answer's Boot says.
func (c *Client) SigningLog(ctx context.Context, after uint64) (SigningLog, error) {
	var l SigningLog
	body, err := c.request(ctx, wire.OpSigningLog, wire.AfterBody(after))
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(body, &l); err != nil {
		return l, fmt.Errorf("reading keyd's signing log: %w", err)
	}
	return l, nil
}
