package http1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// Stage is how far a request came that got no answer.
type Stage uint8

const (
	// Unsent: nothing of the request left. Any request may go to another address.
	Unsent Stage = iota
	// Stale: the request left on a connection that had been used before, which was closed before a byte of an answer came.
	// Most likely the app closed it for being unused and never saw the request; an idempotent one may be sent again.
	Stale
	// Unanswered: the request left, as a whole or in part, and no byte of an answer came.
	Unanswered
	// Broken: an answer came that is no HTTP/1.1, exceeds the limits or ends early.
	Broken
)

func (s Stage) String() string {
	switch s {
	case Unsent:
		return "sending nothing"
	case Stale:
		return "sending on a kept connection"
	case Unanswered:
		return "waiting for the answer"
	}
	return "reading the answer"
}

// Error says that a request got no answer, how far it came, and why. It is a net.Error; errors.Is finds the error of the
// context that ended, and its cause.
type Error struct {
	Stage Stage
	Err   error
}

func (e *Error) Error() string   { return e.Stage.String() + ": " + e.Err.Error() }
func (e *Error) Unwrap() error   { return e.Err }
func (e *Error) Temporary() bool { return false }

// Timeout reports whether time ran out: the Transport's or the context's.
func (e *Error) Timeout() bool {
	if errors.Is(e.Err, os.ErrDeadlineExceeded) || errors.Is(e.Err, context.DeadlineExceeded) {
		return true
	}
	timed, ok := errors.AsType[net.Error](e.Err)
	return ok && timed.Timeout()
}

// reached is the stage of an error of this package.
func reached(err error) Stage {
	if e, ok := err.(*Error); ok {
		return e.Stage
	}
	return Broken
}

// ended is the error of a context that is over, and why it is, if somebody said so.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
