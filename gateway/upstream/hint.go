package upstream

import "context"

// Hint says how to choose an address for one request, and afterwards what was chosen. It is written before RoundTrip
// returns and by nobody later.
type Hint struct {
	Key    string // what requests that belong together have in common, for method "hash"; empty: none
	Prefer string // id of the address of a sticky session, taken when in service; empty: none

	Chosen   string // id of the address that was asked last
	Address  string // that address as configured
	Attempts int    // how often the request was sent or tried to be sent
	Sent     bool   // an address may have got something of it
}

type hintKey struct{}

// WithHint carries the hint to RoundTrip. A request without one is balanced all the same.
func WithHint(ctx context.Context, h *Hint) context.Context {
	return context.WithValue(ctx, hintKey{}, h)
}

func hintOf(ctx context.Context) *Hint {
	h, _ := ctx.Value(hintKey{}).(*Hint)
	return h
}
