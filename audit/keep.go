package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/audit/tree"
)

// CheckpointSigner signs what the logs are: the key process, which remembers what it signed last and signs nothing that
// does not grow from it. log is DecisionLog or ControlLog. The methods may be called from several goroutines; an error
// means that nothing is known of what became of the request, and the next attempt begins with Position again.
type CheckpointSigner interface {
	// Position is the last checkpoint that was signed for a log: its origin is the one in use, its size 0 when nothing
	// was signed under that yet. Its extension lines are those that checkpoints under this origin have to carry: in a
	// successor epoch the line `previous <old origin> <old size> <old root>`.
	Position(ctx context.Context, log string) (last tree.Checkpoint, err error)
	// Sign returns the signed note of next, which is larger than oldSize, the size signed last. proof is the
	// consistency proof between the two (RFC 6962 §2.1.2), empty when oldSize is 0. What was signed last may be signed
	// again.
	Sign(ctx context.Context, log string, next tree.Checkpoint, oldSize uint64, proof []tree.Hash) (signed []byte, err error)
}

// ErrRolledBack says that a log is not what its signer has signed: it is shorter, or holds something else. The signer's
// word counts. Nothing may be served before people have looked at it.
var ErrRolledBack = errors.New("the audit log is not the one that was signed")

// Keeping is what Keep needs beside the logs. The zero value of each duration is the default.
type Keeping struct {
	// Signer signs the checkpoints. Without one nothing is signed, and the logs become unhealthy like without an answer.
	Signer CheckpointSigner
	// Sinks tells how the sinks are doing, for heartbeats: a value that encoding/json can write. May be nil.
	Sinks func() any
	// Heartbeat is the time between two heartbeats of a log. Default 60 s.
	Heartbeat time.Duration
	// Checkpoint is the time between two checkpoints of a log that grows. Default 1 s.
	Checkpoint time.Duration
}

// The defaults of Keeping.
const (
	heartbeatPeriod  = time.Minute
	checkpointPeriod = time.Second
)

// Attach compares both logs with what the signer has signed, once, before anything is served. ErrRolledBack names the
// log, the sizes, and what can be done. Other errors say that the signer could not be asked.
func (a *Audit) Attach(ctx context.Context, signer CheckpointSigner) error {
	var errs []error
	for _, l := range []*Log{a.decisions, a.control} {
		if _, err := signer.Position(ctx, l.name); err != nil {
			errs = append(errs, fmt.Errorf("asking what was signed of the %s log: %w", l.name, err))
		}
	}
	return errors.Join(errs...)
}

// Keep grows the trees behind the logs, has their checkpoints signed, writes heartbeats, and keeps the directory's
// house, until ctx ends; then it has a last checkpoint signed of each log. Records that are to be covered by that one,
// such as the one that says that the gateway stops, are appended before. It attaches the signer if that was not done.
func (a *Audit) Keep(ctx context.Context, k Keeping) error {
	if k.Heartbeat == 0 {
		k.Heartbeat = heartbeatPeriod
	}
	if k.Checkpoint == 0 {
		k.Checkpoint = checkpointPeriod
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return nil
	})
	return g.Wait()
}

// Checkpoint is the latest signed checkpoint of a log, as a note and read; nil and the zero value before the first.
func (a *Audit) Checkpoint(log string) (signed []byte, cp tree.Checkpoint) {
	return nil, tree.Checkpoint{}
}
