package personal

import (
	"context"
	"time"
)

// Store keeps personal tokens. [Keeper] is its one user. All methods may be called at once from many goroutines and
// processes; each takes effect as a whole or not at all, and what Put and Revoke acknowledged is durable. Errors other
// than those that are named mean that the store is not working. Times are kept to the nanosecond.
type Store interface {
	// PutToken stores a new token. ErrTooMany when its owner has most that are active at its creation, ErrNameTaken when one
	// of those has its name.
	PutToken(ctx context.Context, hash Hash, t Token, most int) error

	// Token returns the token with a hash, whatever its state, or ErrNoToken.
	Token(ctx context.Context, hash Hash) (Token, error)

	// Tokens returns up to limit tokens that match, newest first, beginning after one that an earlier call returned; the zero
	// Token is before all.
	Tokens(ctx context.Context, f Filter, after Token, limit int) ([]Token, error)

	// RevokeTokens ends those that match and were not revoked before, and returns them.
	RevokeTokens(ctx context.Context, f Filter, at time.Time) ([]Token, error)

	// TouchTokens moves the times of last use forward, by id. It need not be durable.
	TouchTokens(ctx context.Context, used map[string]time.Time) error

	// RevokedTokens are the ids of tokens that were revoked at or after a time. It sees everything committed before the call.
	RevokedTokens(ctx context.Context, since time.Time) ([]string, error)

	// SweepTokens forgets tokens that expired or were revoked before a time.
	SweepTokens(ctx context.Context, before time.Time) error
}

// Filter selects tokens; the fields that are set must all hold. The zero Filter lists everything and revokes nothing.
type Filter struct {
	ID    string // the token with this public name
	Owner string // tokens of this person: provider|subject
	All   bool   // every token: must be said to revoke without any other field
}

func (f Filter) empty() bool { return f == Filter{} }
