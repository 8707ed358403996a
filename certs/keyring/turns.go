package keyring

import (
	"context"
	"sync"

	"sallyport/certs/internal/wire"
)

// Strangers cause handshakes, as many as they like, and a signature with RSA takes keyd a hundred times as long as others.
// keyd works on 32 requests of a connection at once and reads no further, so these bounds keep places in it for other keys
// and, whatever happens at the door, for the assertions without which nothing is forwarded. What waits here instead of there
// costs keyd nothing when its time is up.
const (
	// turnsPerKey is how many requests for one key keyd has at a time: enough to keep it busy, few enough that another
	// key's wait behind them is short (eight signatures of RSA-4096 take two cores 25 ms).
	turnsPerKey = 8
	// turnsForHandshakes is the same for all TLS keys together.
	turnsForHandshakes = 24
)

// turns decides whose request is sent next: first come, first served, per key.
type turns struct {
	handshakes chan struct{}

	mu    sync.Mutex
	byKey map[wire.KeyID]chan struct{}
}

func newTurns() *turns {
	return &turns{handshakes: make(chan struct{}, turnsForHandshakes), byKey: map[wire.KeyID]chan struct{}{}}
}

// wait returns when the request may be sent. over must be called when its answer is there or no longer wanted.
func (t *turns) wait(ctx context.Context, op wire.Op, body []byte) (over func(), err error) {
	var id wire.KeyID // of none, for requests that sign nothing
	isHandshake := op == wire.OpSignTLS13Server || op == wire.OpSignTLS12Server || op == wire.OpSignTLS13Client
	if namesKey(op) {
		id, _, err = wire.SplitSignBody(body)
		if err != nil {
			return nil, err
		}
	}
	key := t.key(id)
	if err := enter(ctx, key); err != nil {
		return nil, err
	}
	if !isHandshake {
		return func() { <-key }, nil
	}
	if err := enter(ctx, t.handshakes); err != nil {
		<-key
		return nil, err
	}
	return func() { <-t.handshakes; <-key }, nil
}

// namesKey tells whether requests of op begin with the id of a key.
func namesKey(op wire.Op) bool {
	switch op {
	case wire.OpList, wire.OpStatus, wire.OpSigningLog, wire.OpMakeCSR, wire.OpRotate:
		return false
	}
	return true
}

func (t *turns) key(id wire.KeyID) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[id] == nil {
		t.byKey[id] = make(chan struct{}, turnsPerKey)
	}
	return t.byKey[id]
}

func enter(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
