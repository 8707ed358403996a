package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/audit/tree"
)

const (
	// chunkLeaves is how many leaves are read from segments at a time, while the tree catches up: 2 MiB of hashes.
	chunkLeaves = 1 << 16
	// durableFile says, in decimal, up to how many leaves the tiles are durable.
	durableFile = "durable"
)

// keeper keeps the tree of one log: its hash tiles and its signed checkpoints. Nothing that the log does waits for it.
type keeper struct {
	log      *Log
	files    treeFiles
	reader   *Reader
	origin   string // of the first epoch; empty when it is not configured
	slog     *slog.Logger
	now      func() time.Time
	note     func(code string, detail any) // writes a control record, without waiting
	latest   atomic.Pointer[signedCheckpoint]
	unsigned unsigned

	period time.Duration // between two checkpoints; set before they begin

	mu       sync.Mutex // held for a step, also while the signer is asked
	closed   bool
	tiles    *tree.Tiles // nil until they are open
	mistrust bool        // of the tiles in files: they are made anew
	leaves   []tree.Hash // reused
	synced   time.Time   // when tiles were made durable
	signing
}

func (a *Audit) newKeeper(l *Log, opts Options) *keeper {
	k := &keeper{
		log: l, files: treeFiles{a.fs, l.name + "/" + treeFolder}, reader: OpenReaderFS(a.fs, l.name),
		period: checkpointPeriod, slog: opts.Log, now: opts.Now, note: a.noteCheckpoints,
	}
	if opts.origin != "" {
		k.origin = opts.origin + "/" + l.name
	}
	k.unsigned.log = l
	k.unsigned.limit, k.unsigned.changed = opts.maxUnsigned, func() { a.states.changed(a.Healthy) }
	return k
}

// close ends the keeper: the directory is about to be another process's.
func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
}

// grow brings the tiles up to what is acknowledged. It writes none but when it has to catch up.
func (k *keeper) grow(ctx context.Context) error {
	k.log.growth.await(k.log.Records())
	if k.tiles == nil {
		if err := k.open(ctx); err != nil {
			return fmt.Errorf("opening the tree of the %s log: %w", k.log.name, err)
		}
	}
	for {
		leaves, size, ok := k.log.growth.take(k.tiles.Size(), k.leaves)
		k.leaves = leaves
		if ok {
			k.tiles.Append(leaves)
			return nil
		}
		if err := k.reader.grow(ctx, k.tiles, size, k.syncNow); err != nil {
			return fmt.Errorf("reading the tree of the %s log: %w", k.log.name, err)
		}
	}
}

// open goes on with the tiles that are durable, or begins anew.
func (k *keeper) open(ctx context.Context) error {
	base, err := k.reader.base()
	if err != nil {
		return err
	}
	if err := k.makeFolder(); err != nil {
		return err
	}
	at, err := k.resume(ctx, base)
	if err != nil {
		return err
	}
	if k.tiles, err = k.openTiles(at, base); errors.Is(err, tree.ErrTiles) {
		k.slog.Warn("hash tiles do not fit the audit log and are made anew", "log", k.log.name, "error", err)
		k.tiles, err = k.openTiles(base, base)
	}
	k.mistrust, k.synced = false, time.Now()
	return err
}

// openTiles goes on at that size. From here on files beyond it are written again, so that they are not durable any more.
func (k *keeper) openTiles(at, base tree.Frontier) (*tree.Tiles, error) {
	tiles, err := tree.OpenTiles(k.files, at, base)
	if err != nil {
		return nil, err
	}
	if err := k.setDurable(at.Size()); err != nil {
		return nil, err
	}
	return tiles, nil
}

func (k *keeper) makeFolder() error {
	if err := k.files.MkdirAll("."); err != nil {
		return err
	}
	return k.files.fs.SyncDir(k.log.name)
}

// resume is the tree up to which tiles are there and durable. What lies beyond may be anything after a power cut.
func (k *keeper) resume(ctx context.Context, base tree.Frontier) (tree.Frontier, error) {
	size, err := k.durable()
	if err != nil {
		return tree.Frontier{}, err
	}
	if k.mistrust || size < base.Size() || size > k.log.growth.size() {
		return base, nil
	}
	missing, err := k.files.missingTile(base.Size(), size)
	if err != nil {
		return tree.Frontier{}, err
	}
	if missing != "" {
		k.slog.Warn("hash tiles are missing and are made anew", "log", k.log.name, "file", missing)
		return base, nil
	}
	return k.reader.frontier(ctx, size)
}

// sync makes tiles durable that were flushed, now and then.
func (k *keeper) sync(now time.Time, always bool) error {
	if !always && now.Sub(k.synced) < rarely*k.period {
		return nil
	}
	k.synced = now
	durable, err := k.tiles.Sync()
	if err != nil {
		k.tiles = nil // to be opened again, at the size that was durable before
		return err
	}
	return k.setDurable(durable)
}

func (k *keeper) syncNow() error { return k.sync(time.Now(), false) }

// durable is how many leaves the tiles are durable for; it may be asked from any goroutine.
func (k *keeper) durable() (uint64, error) { return durableTiles(k.files) }

func (k *keeper) setDurable(size uint64) error {
	return k.files.ReplaceFile(durableFile, fmt.Appendf(nil, "%d\n", size))
}
