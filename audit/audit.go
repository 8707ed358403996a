// Package audit writes down what the gateway decides, before it takes effect, in logs that only grow.
//
// [Open] takes an audit directory for one process and holds two logs: decisions with their outcomes, and control events
// (sign-ins, reloads, revocations, reads of the log). [Log.Append] returns once a record is durable; when it cannot
// make it so it returns an error, and the caller must not do what it was about to record. A [Reader] reads a log beside
// the gateway, from any process. FORMAT.md describes the files.
//
// Behind each log grows a Merkle tree. [Audit.Attach] compares the logs with what a [CheckpointSigner], the key process, has
// signed of them before; [Audit.Keep] then has the trees' checkpoints signed as they grow, writes heartbeats, and keeps
// the directory's house. So whoever writes the files can append to them and cannot rewrite, shorten or fork them
// unnoticed. A [Tree] proves that to others. No record waits for any of it, but a log that is not signed for too long is not
// served.
//
// The package holds no key, ships and indexes nothing, and never changes what was acknowledged; it removes only what
// retention lets go of, and says so first.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"sallyport/audit/segment"
)

// The names of the logs, which are also their folders.
const (
	DecisionLog = "decision"
	ControlLog  = "control"
)

// Config says where the audit logs are and how they are laid out.
type Config struct {
	// Dir is the audit directory. It is created when absent, readable by its owner and group. Required: without a log
	// nothing is served.
	Dir string `yaml:"dir" config:"path,required"`
	// SegmentSize is the size in bytes of the files that the decision log consists of, preallocated one ahead; the
	// control log uses an eighth of it. So much disk must be free for the gateway to start, and to resume after the
	// disk was full. Between 1 MiB and 1 GiB. Default 64 MiB.
	SegmentSize int64 `yaml:"segment_size" default:"67108864"`
	// Origin names the logs in the world: their signed checkpoints are of ORIGIN/decision and ORIGIN/control. It never
	// changes once something was signed. Letters, digits, '.', '-', '_' and '/'. Default the domain and "/audit".
	Origin string `yaml:"origin"`
	// MaxUnsigned is how long records may wait for a signed checkpoint, while the key process does not answer, before
	// nothing more is served. Between 10 seconds and a day. Default 10 minutes.
	MaxUnsigned time.Duration `yaml:"max_unsigned" default:"10m"`
	// Seal compresses segments, to about a tenth, once they grow no more and a signed checkpoint covers them. They stay
	// readable by everything here and by any zstd tool. It happens one segment at a time, with a quarter of one core.
	// Default true.
	Seal bool `yaml:"seal" default:"true"`
	// Retention says how long the records of each log are kept. Default for ever.
	Retention Retention `yaml:"retention"`
	// LowDisk says when free space on the audit directory's disk is so little that people should know.
	LowDisk LowDisk `yaml:"low_disk"`
}

const (
	minSegmentSize     = 1 << 20
	maxSegmentSize     = 1 << 30
	defaultSegmentSize = 64 << 20
	minMaxUnsigned     = 10 * time.Second
	maxMaxUnsigned     = 24 * time.Hour
	defaultMaxUnsigned = 10 * time.Minute
)

// Check reports values that no log can have.
func (c Config) Check() error {
	if c.Dir == "" {
		return errors.New("dir is missing: without an audit log nothing is served")
	}
	if c.SegmentSize != 0 && (c.SegmentSize < minSegmentSize || c.SegmentSize > maxSegmentSize) {
		return fmt.Errorf("segment_size is %d, not between 1 MiB and 1 GiB", c.SegmentSize)
	}
	if c.MaxUnsigned != 0 && (c.MaxUnsigned < minMaxUnsigned || c.MaxUnsigned > maxMaxUnsigned) {
		return fmt.Errorf("max_unsigned is %v, not between 10 seconds and a day", c.MaxUnsigned)
	}
	if !isOrigin(c.Origin) {
		return fmt.Errorf("origin is %q: it has up to 150 letters, digits, '.', '-' and '_', in parts between slashes", c.Origin)
	}
	if c.Retention.Decision < 0 || c.Retention.Control < 0 {
		return errors.New("retention is negative")
	}
	if err := c.LowDisk.check(); err != nil {
		return err
	}
	return nil
}

// Options are what the surroundings hand in; the zero value serves.
type Options struct {
	FS      FileSystem       // the audit directory; nil is the real one at Config.Dir. Close closes it
	Now     func() time.Time // the wall clock of records, asked from several goroutines; nil is time.Now
	Log     *slog.Logger     // nil is slog.Default
	Replica string           // which gateway of a fleet this is; empty is the host's name

	origin      string        // Config.Origin
	maxUnsigned time.Duration // Config.MaxUnsigned
	slow        time.Duration // how long a commit may take; 0 is slowCommit
	segmentSize int64         // of both logs, in tests smaller than Config allows
	maxQueued   int           // bytes that may wait for a commit; 0 is maxQueued
}

// Audit holds the logs of one directory. Its methods may be called from several goroutines.
type Audit struct {
	fs        FileSystem
	lock      io.Closer
	boot      Boot
	decisions *Log
	control   *Log
	keepers   []*keeper // of the logs that are open
	now       func() time.Time
	policies  policyStore
	states    states
	upkeep    *upkeep
}

// Open takes the audit directory, repairs what a crash left, and starts both logs with a boot number larger than any
// before. Another process that holds the directory is ErrLocked; something wrong before the unacknowledged tail is
// *Damage, and stays as it is for people to look at.
func Open(cfg Config, opts Options) (*Audit, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	opts.fill(cfg)
	fs, err := opts.fileSystem(cfg)
	if err != nil {
		return nil, err
	}
	a, err := hold(fs)
	if err != nil {
		return nil, err
	}
	a.upkeep = newUpkeep(cfg, &opts)
	if err := a.start(opts); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Decisions is the log of decisions and their outcomes.
func (a *Audit) Decisions() *Log { return a.decisions }

// Control is the log of sign-ins, administration, changes of configuration and policy, key use, and reads of the log.
func (a *Audit) Control() *Log { return a.control }

// Boot names this run.
func (a *Audit) Boot() Boot { return a.boot }

// Healthy is nil when both logs can be written and are signed in time, else why nothing may be served. It wraps
// ErrUnavailable, and ErrRolledBack where a log is not the one that was signed.
func (a *Audit) Healthy() error {
	var errs []error
	for _, l := range []*Log{a.decisions, a.control} {
		if l != nil {
			errs = append(errs, l.writable())
		}
	}
	for _, k := range a.keepers {
		errs = append(errs, k.signedInTime())
	}
	return errors.Join(errs...)
}

// OnState has fn called with what Healthy says whenever that changes; stop ends it. Calls come one at a time from the
// logs' own goroutines: fn returns at once and calls neither OnState nor stop.
func (a *Audit) OnState(fn func(err error)) (stop func()) { return a.states.add(fn) }

// Close commits what was posted, gives the directory back, and returns what went wrong on the way. It waits no longer
// for a disk that hangs than a commit may take: then it answers ErrSlow and the directory stays locked until the process
// ends, because a write that is still under way must not meet another writer.
func (a *Audit) Close() error {
	var errs []error
	for _, l := range []*Log{a.decisions, a.control} {
		if l != nil {
			errs = append(errs, l.close())
		}
	}
	err := errors.Join(errs...)
	if errors.Is(err, ErrSlow) || errors.Is(err, ErrClosed) {
		return err
	}
	a.each(context.Background(), (*keeper).conclude)
	for _, k := range a.keepers {
		k.close()
	}
	return errors.Join(err, a.lock.Close(), a.fs.Close())
}

func (o *Options) fill(cfg Config) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Replica == "" {
		o.Replica, _ = os.Hostname() // an unnamed host has unnamed records
	}
	o.origin = cfg.Origin
	if o.maxUnsigned = cfg.MaxUnsigned; o.maxUnsigned == 0 {
		o.maxUnsigned = defaultMaxUnsigned
	}
	if o.slow == 0 {
		o.slow = slowCommit
	}
	if o.maxQueued == 0 {
		o.maxQueued = maxQueued
	}
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = defaultSegmentSize
	}
	if o.segmentSize == 0 {
		o.segmentSize = cfg.SegmentSize / segment.Block * segment.Block
	}
}

func (o *Options) fileSystem(cfg Config) (FileSystem, error) {
	if o.FS != nil {
		return o.FS, nil
	}
	return createDirectory(cfg.Dir)
}

// hold makes this process the directory's only writer, until Close. It closes fs when it cannot.
func hold(fs FileSystem) (*Audit, error) {
	lock, err := fs.Lock(lockName)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking audit directory: %w", err), fs.Close())
	}
	return &Audit{fs: fs, lock: lock, policies: policyStore{fs: fs}}, nil
}

const lockName = "lock"

// start recovers both logs before it changes either.
func (a *Audit) start(opts Options) error {
	decisions, err := openHistory(a.fs, DecisionLog)
	if err != nil {
		return err
	}
	control, err := openHistory(a.fs, ControlLog)
	if err != nil {
		return err
	}
	if err := a.fs.SyncDir("."); err != nil {
		return fmt.Errorf("creating audit directory: %w", err)
	}
	if decisions.last == nil && control.NextSeq() > 0 || control.last == nil && decisions.NextSeq() > 0 {
		return errors.New("one of the two audit logs is missing from a directory that has been written to")
	}
	a.boot = Boot{ID: uuid.NewString(), N: 1 + max(decisions.bootN(), control.bootN())}
	return a.startLogs(opts, decisions, control)
}

// startLogs starts neither log or both.
func (a *Audit) startLogs(opts Options, decisions, control *history) error {
	d, err := newLog(a.logConfig(DecisionLog, opts, opts.segmentSize), decisions)
	if err != nil {
		return err
	}
	c, err := newLog(a.logConfig(ControlLog, opts, controlSize(opts.segmentSize)), control)
	if err != nil {
		return errors.Join(err, d.abort())
	}
	a.decisions, a.control = d, c
	a.now, a.keepers = opts.Now, []*keeper{a.newKeeper(d, opts), a.newKeeper(c, opts)}
	d.unsigned = a.signedInTime
	d.start()
	c.start()
	return nil
}

func (a *Audit) logConfig(name string, opts Options, size int64) logConfig {
	return logConfig{
		name: name, fs: a.fs, boot: a.boot, replica: opts.Replica, segmentSize: size, slow: opts.slow,
		maxQueued: opts.maxQueued, now: opts.Now, log: opts.Log, changed: func() { a.states.changed(a.Healthy) },
	}
}

func openHistory(fs FileSystem, log string) (*history, error) {
	if err := fs.MkdirAll(log); err != nil {
		return nil, fmt.Errorf("creating audit log: %w", err)
	}
	return recoverLog(fs, log)
}

// controlSize is the control log's segment size: it sees a few events a minute, not thousands of decisions a second.
func controlSize(size int64) int64 { return max(size/8/segment.Block*segment.Block, smallestSegment) }

func (h *history) bootN() uint64 {
	if h.last == nil {
		return 0
	}
	return h.last.BootN
}

// states tells listeners about changes of health, in the order in which they happen.
type states struct {
	mu     sync.Mutex
	nextID int
	fns    map[int]func(error)
}

func (s *states) add(fn func(error)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fns == nil {
		s.fns = make(map[int]func(error))
	}
	id := s.nextID
	s.nextID++
	s.fns[id] = fn
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.fns, id)
	}
}

func (s *states) changed(healthy func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := healthy()
	for _, fn := range s.fns {
		fn(err)
	}
}
