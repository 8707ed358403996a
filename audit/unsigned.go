package audit

import (
	"context"
	"errors"
	"fmt"
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

// unsigned says whether a log's records are signed in time. It is asked from any goroutine, and told by the keeper's.
// Times are of the monotonic clock, which nobody sets.
type unsigned struct {
	limit   time.Duration
	changed func()
	since   atomic.Pointer[time.Time] // since when there are records that are not signed; nil when there are none
	broken  atomic.Pointer[error]     // the log is not what was signed
	told    bool                      // the keeper's: that it was in time
}

// healthy is nil, or why nothing may be served: it wraps ErrUnavailable.
func (u *unsigned) healthy() error {
	if broken := u.broken.Load(); broken != nil {
		return unavailable(*broken)
	}
	since := u.since.Load()
	if since == nil || time.Since(*since) < u.limit {
		return nil
	}
	return unavailable(fmt.Errorf("its records are not signed since %v ago", time.Since(*since).Round(time.Second)))
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
	if k.unsigned.since.Load() == nil && k.log.Records() > k.covered() {
		k.unsigned.since.Store(&began)
	}
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

// covered is how many records are covered by a checkpoint that is known.
func (k *keeper) covered() uint64 {
	if k.position != nil {
		return k.position.Size
	}
	if latest := k.latest.Load(); latest != nil {
		return latest.Size
	}
	return 0
}

// succeeded ends the trouble there may have been. What the log took in meanwhile waits since the step began at most.
func (k *keeper) succeeded(began time.Time) {
	k.unsigned.broken.Store(nil)
	k.unsigned.since.Store(nil)
	if k.log.Records() > k.covered() {
		k.unsigned.since.Store(&began)
	}
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
	}{k.log.name, t.since.UTC(), t.attempts, k.covered()})
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
	}{k.log.name, err.Error(), k.log.Records(), k.covered()})
}
