package audit

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// upkeep is what keeping the directory's house takes: sealing, retention, the reserve, an eye on free space.
type upkeep struct {
	seal      bool
	retention Retention
	lowDisk   LowDisk
	now       func() time.Time
	log       *slog.Logger
	storage   storage

	mu       sync.Mutex // held through a pass, of which there is one at a time; the rest belongs to it
	level    diskLevel
	full     bool                                                  // the decision log found no space, and that was recorded
	pending  map[string]*pruning                                   // by log: what is announced and not removed yet
	resting  map[string]time.Time                                  // what failed to be done, and is not tried again before
	sayings  map[string]string                                     // the last complaint by topic, so that each is said once
	asSigned func(log string) uint64                               // in tests: what counts as signed
	slower   func(ctx context.Context, worked time.Duration) error // in tests: how sealing pauses
}

// upkeepRetry is how long something rests that could not be done, a segment that could not be sealed for example.
const upkeepRetry = 10 * time.Minute

func newUpkeep(cfg Config, opts *Options) *upkeep {
	return &upkeep{
		seal: cfg.Seal, retention: cfg.Retention, lowDisk: cfg.LowDisk, now: opts.Now, log: opts.Log,
		pending: map[string]*pruning{}, resting: map[string]time.Time{}, sayings: map[string]string{}, slower: pause,
	}
}

// Storage is what housekeeping has done in this run, and what it last saw, for metrics.
type Storage struct {
	Free, Size uint64 // bytes of the directory's file system; 0 when not known
	Level      string // "ok", "warn" or "critical"
	Sealed     uint64 // segments
	SealedFrom uint64 // their bytes before
	SealedTo   uint64 // and after
	Pruned     uint64 // segments
}

// storage is Storage in the making.
type storage struct {
	free, size, sealed, from, to, pruned atomic.Uint64
	level                                atomic.Int32
}

// Storage returns what housekeeping did and saw so far.
func (a *Audit) Storage() Storage {
	s := &a.upkeep.storage
	return Storage{
		Free: s.free.Load(), Size: s.size.Load(), Level: diskLevel(s.level.Load()).String(),
		Sealed: s.sealed.Load(), SealedFrom: s.from.Load(), SealedTo: s.to.Load(), Pruned: s.pruned.Load(),
	}
}

// housekeep does what there is to do: it prunes what retention lets go, seals what grows no more, keeps the reserve and
// looks at free space. It may take long, gives way to the logs, and returns when ctx ends. What fails is logged and tried
// again by a later call; nothing of it keeps records from being written.
func (a *Audit) housekeep(ctx context.Context) {
	h := a.upkeep
	h.mu.Lock()
	defer h.mu.Unlock()
	for ctx.Err() == nil {
		a.watchDisk()
		a.watchFull()
		h.said("reserve", a.keepReserve())
		more := false
		for _, l := range []*Log{a.decisions, a.control} {
			h.said("retention of the "+l.name+" log", a.prune(ctx, l))
			sealed, err := a.sealNext(ctx, l)
			h.said("sealing of the "+l.name+" log", err)
			more = more || sealed
		}
		if !more {
			return
		}
	}
}

// said logs a complaint, once until it changes.
func (h *upkeep) said(topic string, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		if err == nil {
			delete(h.sayings, topic)
		}
		return
	}
	if text := err.Error(); h.sayings[topic] != text {
		h.sayings[topic] = text
		h.log.Warn("keeping the audit directory failed", "what", topic, "error", err)
	}
}

// covered is up to which seq a log is covered by a signed checkpoint.
func (a *Audit) covered(log string) uint64 {
	if a.upkeep.asSigned != nil {
		return a.upkeep.asSigned(log)
	}
	_, cp := a.Checkpoint(log)
	return cp.Size
}

// rests reports whether something failed lately; rest lets it rest from now on.
func (h *upkeep) rests(what string) bool { return h.now().Before(h.resting[what]) }
func (h *upkeep) rest(what string)       { h.resting[what] = h.now().Add(upkeepRetry) }
