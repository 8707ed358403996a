package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Codes of control records about checkpoints.
const (
	// CodeCheckpointFailed says that a log's checkpoints cannot be signed or published any more: one a time of trouble.
	CodeCheckpointFailed = "checkpoint_failed"
	// CodeCheckpointResumed says that they can again.
	CodeCheckpointResumed = "checkpoint_resumed"
)

// unsigned says whether a log's records are signed in time. It is asked from any goroutine, also while the keeper's hangs
// in a file or in the signer. Times are of the monotonic clock, which nobody sets.
type unsigned struct {
	log     *Log
	limit   time.Duration
	changed func()
	good    atomic.Pointer[time.Time] // all that was acknowledged by then is signed; or when we began to look
	covered atomic.Uint64             // records that are signed, as far as is known
	broken  atomic.Pointer[error]     // the log is not what was signed

	mu   sync.Mutex
	told bool // that it is not well
}

// healthy is nil, or why nothing may be served: it wraps ErrUnavailable.
func (u *unsigned) healthy() error {
	if broken := u.broken.Load(); broken != nil {
		return unavailable(*broken)
	}
	good := u.good.Load()
	if good == nil || time.Since(*good) < u.limit || u.log.Records() <= u.covered.Load() {
		return nil
	}
	return unavailable(fmt.Errorf("nothing was signed for %v", time.Since(*good).Round(time.Second)))
}

// begin begins to look, unless that was done.
func (u *unsigned) begin() {
	now := time.Now()
	u.good.CompareAndSwap(nil, &now)
}

// signedInTime is nil, or why nothing may be served although the log can be written.
func (k *keeper) signedInTime() error {
	if err := k.unsigned.healthy(); err != nil {
		return fmt.Errorf("%s log: %w", k.log.name, err)
	}
	return nil
}

// signedInTime is that of the first log that has something to say.
func (a *Audit) signedInTime() error {
	for _, k := range a.keepers {
		if err := k.signedInTime(); err != nil {
			return err
		}
	}
	return nil
}

// tell has listeners know when that changes.
func (u *unsigned) tell() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if bad := u.healthy() != nil; bad != u.told {
		u.told = bad
		u.changed()
	}
}

// trouble is why a log's checkpoints fail, and since when.
type trouble struct {
	cause    error
	since    time.Time
	attempts int
}

// step makes a checkpoint, unless the last attempt failed a moment ago.
func (k *keeper) step(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	defer k.unsigned.tell()
	began := time.Now()
	if began.Before(k.retry) {
		return
	}
	err := k.grow(ctx)
	if err == nil {
		err = k.checkpoint(ctx, false)
	}
	switch {
	case err == nil:
		k.succeeded(began)
	case ctx.Err() == nil:
		k.failed(err)
	}
}

// succeeded ends the trouble there may have been. All that was acknowledged when the step began is signed.
func (k *keeper) succeeded(began time.Time) {
	k.unsigned.broken.Store(nil)
	k.unsigned.covered.Store(k.position.Size)
	k.unsigned.good.Store(&began)
	k.retry, k.wait = time.Time{}, 0
	if k.trouble == nil {
		return
	}
	t := k.trouble
	k.trouble = nil
	k.slog.Warn("checkpoints of the audit log are signed again", "log", k.log.name, "cause", t.cause, "attempts", t.attempts)
	k.note(CodeCheckpointResumed, struct {
		Log      string    `json:"log"`
		Since    time.Time `json:"since"`
		Attempts int       `json:"attempts"` // that failed
		Signed   uint64    `json:"signed"`
	}{k.log.name, t.since.UTC(), t.attempts, k.position.Size})
}

func (k *keeper) failed(err error) {
	k.wait = min(max(2*k.wait, firstSigning), lastSigning)
	k.retry = time.Now().Add(k.wait)
	k.unsigned.broken.Store(nil)
	if errors.Is(err, ErrRolledBack) {
		k.unsigned.broken.Store(&err)
	}
	if k.trouble != nil {
		k.trouble.cause = err
		k.trouble.attempts++
		return
	}
	k.trouble = &trouble{cause: err, since: k.now(), attempts: 1}
	k.slog.Error("checkpoints of the audit log fail", "log", k.log.name, "error", err)
	k.note(CodeCheckpointFailed, struct {
		Log    string `json:"log"`
		Cause  string `json:"cause"`
		Size   uint64 `json:"size"`   // of the log
		Signed uint64 `json:"signed"` // as far as is known
	}{k.log.name, err.Error(), k.log.Records(), k.unsigned.covered.Load()})
}
