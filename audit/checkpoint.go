package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/audit/tree"
)

const (
	// checkpointLeaves is after how many records a checkpoint is due before its time.
	checkpointLeaves = 4096
	// signTimeout is how long the signer may take for one checkpoint. It answers within milliseconds.
	signTimeout = 5 * time.Second
	// Between two attempts after a failure.
	firstSigning = time.Second
	lastSigning  = 5 * time.Second

	checkpointFile = "checkpoint"
	historyFile    = "history"
	// rarely is how many times the period of checkpoints passes between two that are kept in the history, and between two
	// syncs of the tiles: a minute. A start after a crash reads so much of the log again.
	rarely = 60
)

// signedCheckpoint is a checkpoint as it was signed.
type signedCheckpoint struct {
	tree.Checkpoint
	note []byte
}

// signing is the part of a keeper that has to do with its signer.
type signing struct {
	signer    CheckpointSigner
	position  *tree.Checkpoint  // what was signed last; nil when that is not known for certain
	published *signedCheckpoint // what this run has put into the file
	put       time.Time         // when
	kept      time.Time         // when one was added to the history
	history   notes
	retry     time.Time     // not before; after a failure
	wait      time.Duration // the next time
	trouble   *trouble      // since signing began to fail; nil while it works
}

// attach asks the signer where it stands, and compares.
func (k *keeper) attach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	p, err := k.signer.Position(ctx, k.log.name)
	if err != nil {
		return fmt.Errorf("asking what was signed of the %s log: %w", k.log.name, err)
	}
	if err := k.compare(ctx, p); err != nil {
		return err
	}
	k.position = &p
	k.unsigned.covered.Store(p.Size)
	return nil
}

// compare checks that the log begins with what was signed. Only durable records count, so that none can be missing after
// a power cut: what was signed once stays signed.
func (k *keeper) compare(ctx context.Context, p tree.Checkpoint) error {
	if !isEpoch(p.Origin, k.origin) {
		return fmt.Errorf("the signer of the %s log signs for the origin %q, not %q", k.log.name, p.Origin, k.origin)
	}
	size := k.log.growth.await(k.log.Records())
	if p.Size > size {
		return k.rolledBack(p, fmt.Sprintf("it has %d records", size))
	}
	if p.Size == 0 {
		return nil
	}
	f, err := k.reader.frontier(ctx, p.Size)
	if errors.Is(err, ErrNoRecord) {
		return k.rolledBack(p, "it begins later")
	}
	if err != nil {
		return err
	}
	if f.Root() != p.Root {
		return k.rolledBack(p, fmt.Sprintf("it has %d records, and the first %d are not those that were signed", size, p.Size))
	}
	return nil
}

func (k *keeper) rolledBack(p tree.Checkpoint, what string) error {
	return fmt.Errorf("%w: the %s log: %s, but %s was signed with %d, root %s. Put the audit directory back that has them; "+
		"if it is lost for good, `keyd new-epoch` begins a new series of checkpoints that says so",
		ErrRolledBack, k.log.name, what, p.Origin, p.Size, p.Root)
}

// isOrigin accepts what may precede the name of a log in its origin, and nothing at all.
func isOrigin(s string) bool {
	if s == "" {
		return true
	}
	for part := range strings.SplitSeq(s, "/") {
		if strings.Trim(part, ".") == "" || strings.Trim(part, originBytes) != "" {
			return false
		}
	}
	return len(s) <= 150
}

const originBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

// isEpoch reports whether an origin is base or one of its later epochs, base/2 and so on.
func isEpoch(origin, base string) bool {
	if base == "" || origin == base {
		return true
	}
	digits, ok := strings.CutPrefix(origin, base+"/")
	n, err := strconv.ParseUint(digits, 10, 64)
	return ok && err == nil && n > 1 && strconv.FormatUint(n, 10) == digits
}

// checkpoint has the tree as it is signed, unless that was done, and published: always, or if that is due.
func (k *keeper) checkpoint(ctx context.Context, always bool) error {
	if k.signer == nil {
		return errNoSigner
	}
	if k.position == nil {
		if err := k.attach(ctx); err != nil {
			return err
		}
	}
	latest := k.latest.Load()
	if size := k.tiles.Size(); size > 0 && (latest == nil || latest.Size != size || latest.Origin != k.position.Origin) {
		next, err := k.sign(ctx)
		if err != nil {
			k.position = nil // whether it was signed is unknown
			return err
		}
		k.position, latest = &next.Checkpoint, next
		k.latest.Store(next)
	}
	now := time.Now()
	// Half the period is the least time between two checkpoints in the file: each costs the disk two commits of its
	// journal, for which the log waits as well. The latest is in memory.
	if latest == k.published || !always && now.Sub(k.put) < k.period/2 {
		return nil
	}
	if err := k.publish(latest, now); err != nil {
		return fmt.Errorf("publishing a checkpoint of the %s log: %w", k.log.name, err)
	}
	return nil
}

// sign has the tree signed as far as it has grown. All of it is durable: growth takes nothing else.
func (k *keeper) sign(ctx context.Context) (*signedCheckpoint, error) {
	old := k.position
	f := k.tiles.Frontier()
	next := tree.Checkpoint{Origin: old.Origin, Size: f.Size(), Root: f.Root(), Extensions: old.Extensions}
	proof, err := k.prove(old, f.Size())
	if err != nil {
		return nil, err
	}
	// A request that is under way is not given up when the run ends: the last one would be refused because of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signTimeout)
	defer cancel()
	note, err := k.signer.Sign(ctx, k.log.name, next, old.Size, proof)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint of the %s log: %w", k.log.name, err)
	}
	if !bytes.HasPrefix(note, append(next.Body(), "\n— "...)) {
		return nil, fmt.Errorf("signing a checkpoint of the %s log: the answer is not the note asked for", k.log.name)
	}
	return &signedCheckpoint{next, note}, nil
}

// prove proves that the tree has grown from what was signed last.
func (k *keeper) prove(old *tree.Checkpoint, size uint64) ([]tree.Hash, error) {
	if old.Size == 0 || old.Size == size {
		return nil, nil
	}
	p, err := k.tiles.Prover(size)
	if err != nil {
		return nil, k.distrust(err)
	}
	root, proof, err := p.Consistency(old.Size)
	if err != nil {
		return nil, k.distrust(err)
	}
	if root != old.Root {
		return nil, k.rolledBack(*old, "its tree does not continue that")
	}
	return proof, nil
}

// distrust has tiles that do not fit made anew.
func (k *keeper) distrust(err error) error {
	if errors.Is(err, tree.ErrTiles) {
		k.tiles, k.mistrust = nil, true
	}
	return fmt.Errorf("proving that the %s log has only grown: %w", k.log.name, err)
}

// publish puts a signed checkpoint where readers look for it, behind the tiles that it needs.
func (k *keeper) publish(next *signedCheckpoint, now time.Time) error {
	if err := k.tiles.Flush(next.Size); err != nil {
		return err
	}
	if err := k.sync(now, false); err != nil {
		return err
	}
	if !k.history.open {
		if err := k.history.adopt(k.files); err != nil {
			return err
		}
	}
	if err := k.files.ReplaceFile(checkpointFile, next.note); err != nil {
		return err
	}
	k.published, k.put = next, now
	if err := k.tiles.Published(next.Size); err != nil {
		return err
	}
	if k.kept.IsZero() || now.Sub(k.kept) >= rarely*k.period {
		return k.keep(next, now)
	}
	return nil
}

// keep adds a checkpoint to the history, unless it is there.
func (k *keeper) keep(next *signedCheckpoint, now time.Time) error {
	if err := k.history.append(k.files, next.note); err != nil {
		return fmt.Errorf("adding to the history of checkpoints: %w", err)
	}
	k.kept = now
	return nil
}

// errNoSigner says that a run ends whose checkpoints nobody has been asked to sign.
var errNoSigner = errors.New("there is no signer of checkpoints")

// settle has all records signed that there are.
func (k *keeper) settle(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.signer == nil {
		return errNoSigner
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signTimeout)
	defer cancel()
	if err := k.grow(ctx); err != nil {
		return err
	}
	return k.checkpoint(ctx, true)
}

// conclude makes the last checkpoint of a run.
func (k *keeper) conclude(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.signer == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signTimeout)
	defer cancel()
	if err := k.grow(ctx); err != nil {
		return err
	}
	if k.checkpoint(ctx, true) != nil { // once more, with what the signer says now, and with tiles that are opened again
		if err := k.grow(ctx); err != nil {
			return err
		}
		if err := k.checkpoint(ctx, true); err != nil {
			return err
		}
	}
	last := k.latest.Load()
	if last == nil || k.tiles == nil {
		return nil
	}
	return errors.Join(k.keep(last, time.Now()), k.sync(time.Now(), true))
}
