package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

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
	// Checkpoint is the time between two checkpoints of a log that grows by less than 4,096 records meanwhile. The first of
	// a run does not wait. Sixty times that is the time between two that are kept in the history. Default 1 s.
	Checkpoint time.Duration

	unanchored bool // no heartbeats at begin and end, in tests that count records
}

// The defaults of Keeping.
const (
	heartbeatPeriod  = time.Minute
	checkpointPeriod = time.Second
	housePeriod      = 5 * time.Second // between two looks at the directory
)

// Attach compares both logs with what the signer has signed, before anything is served. ErrRolledBack names the log, the
// sizes, and what can be done. Other errors say that the signer could not be asked, or signs for another origin.
func (a *Audit) Attach(ctx context.Context, signer CheckpointSigner) error {
	var errs []error
	for _, k := range a.keepers {
		errs = append(errs, k.begin(ctx, signer))
	}
	if err := errors.Join(errs...); err != nil {
		for _, k := range a.keepers {
			k.forget()
		}
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// forget lets a log be closed without a word from a signer that would not have it.
func (k *keeper) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signer = nil
}

func (k *keeper) begin(ctx context.Context, signer CheckpointSigner) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signer = signer
	k.unsigned.begin()
	err := k.attach(ctx)
	if errors.Is(err, ErrRolledBack) {
		k.unsigned.broken.Store(&err)
	}
	return err
}

// Keep grows the trees behind the logs, has their checkpoints signed, writes heartbeats, and keeps the directory's house,
// until ctx ends; then each log gets a last heartbeat, which holds the other to where it is, and a last checkpoint. That takes
// no longer than the signer may. Records
// that are to be covered by that one, such as the one that says that the gateway stops, are appended before. It attaches
// the signer if that was not done, and goes on while the signer cannot be reached: [Audit.Healthy] says when that has
// taken too long, and when a log turns out not to be the one that was signed.
func (a *Audit) Keep(ctx context.Context, k Keeping) error {
	for _, keeper := range a.keepers {
		keeper.use(k)
	}
	var wg sync.WaitGroup
	for _, keeper := range a.keepers {
		wg.Go(func() { keeper.run(ctx) })
	}
	pulse := &pulse{audit: a, sinks: k.Sinks, began: time.Now(), wall: a.now(), late: k.unanchored}
	wg.Go(func() { pulse.beat(ctx, cmp.Or(k.Heartbeat, heartbeatPeriod)) })
	wg.Go(func() { a.keepHouse(ctx) })
	wg.Go(func() { a.watch(ctx) })
	wg.Wait()
	if !k.unanchored && a.each(ctx, (*keeper).settle) {
		pulse.last(context.WithoutCancel(ctx))
	}
	a.each(ctx, (*keeper).conclude)
	return nil
}

func (k *keeper) use(how Keeping) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unsigned.begin()
	k.period = cmp.Or(how.Checkpoint, checkpointPeriod)
	if how.Signer != nil && k.signer == nil {
		k.signer = how.Signer
	}
}

// run makes checkpoints until ctx ends.
func (k *keeper) run(ctx context.Context) {
	ticker := time.NewTicker(k.period)
	defer ticker.Stop()
	for {
		size := k.log.growth.size() // before the step, which may have missed what comes during it
		k.step(ctx)
		k.log.growth.want(size + k.due())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-k.log.growth.grown:
		}
	}
}

// due is after how many records the next checkpoint does not wait for its time: the first of a run has been awaited.
func (k *keeper) due() uint64 {
	if k.latest.Load() == nil {
		return 1
	}
	return checkpointLeaves
}

// watch tells listeners when a log has not been signed for too long, also while its keeper hangs.
func (a *Audit) watch(ctx context.Context) {
	ticker := time.NewTicker(checkpointPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, k := range a.keepers {
			k.unsigned.tell()
		}
	}
}

// keepHouse does what else there is to do in the directory.
func (a *Audit) keepHouse(ctx context.Context) {
	ticker := time.NewTicker(housePeriod)
	defer ticker.Stop()
	for {
		a.housekeep(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// each does a thing for both logs at once, and reports whether it was done.
func (a *Audit) each(ctx context.Context, do func(*keeper, context.Context) error) bool {
	var wg sync.WaitGroup
	var failed atomic.Bool
	for _, k := range a.keepers {
		wg.Go(func() {
			err := do(k, ctx)
			if err == nil {
				return
			}
			failed.Store(true)
			if !errors.Is(err, errNoSigner) {
				k.slog.Warn("the last records of the audit log are not signed", "log", k.log.name, "error", err)
			}
		})
	}
	wg.Wait()
	return !failed.Load()
}

// Checkpoint is the latest signed checkpoint of a log, as a note and read; nil and the zero value before the first of this
// run. The note is not to be changed.
func (a *Audit) Checkpoint(log string) (signed []byte, cp tree.Checkpoint) {
	for _, k := range a.keepers {
		if latest := k.latest.Load(); k.log.name == log && latest != nil {
			return latest.note, latest.Checkpoint
		}
	}
	return nil, tree.Checkpoint{}
}

// noteCheckpoints writes a control record about checkpoints, without waiting.
func (a *Audit) noteCheckpoints(code string, about any) {
	_ = a.control.Post(context.Background(), &Record{Type: TypeControl, Code: code, Detail: detail(about)})
}
