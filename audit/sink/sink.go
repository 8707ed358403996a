// Package sink ships audit records to other systems while the gateway runs: to a syslog receiver over TLS, or to an HTTP
// endpoint in batches.
//
// Each sink reads the log files on its own, like any other reader: nothing that a receiver does or fails to do reaches a
// request. It keeps a durable cursor for each log, which moves only once the receiver has what lies before it. So every
// record is delivered at least once and in the order of its log, across crashes of either side; after a crash some are
// delivered again, and a receiver that counts must look at their id.
//
// A record is given up in two cases only, and each leaves a control record: the receiver refuses it by itself (sink_dropped),
// or it was pruned before it could be shipped (sink_gap).
//
// HTTP answers, so delivered means accepted. Syslog does not: RFC 5425 has no acknowledgement. There a batch counts as
// delivered once the receiver's kernel has confirmed all of its bytes and the connection is still open after that. What
// a receiver had not yet taken out of its buffer when it died is lost; who cannot have that uses HTTP.
package sink

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"sallyport/audit"
)

// The codes of the control records that a sink writes; their detail is a [Note].
const (
	// CodeGap says that records were pruned before the sink had shipped them.
	CodeGap = "sink_gap"
	// CodeDropped says that the receiver refused records, each by itself, and that they were given up.
	CodeDropped = "sink_dropped"
	// CodeRestarted says that the cursor could not be used and that the sink begins anew with the oldest record there is.
	CodeRestarted = "sink_restarted"
)

// Note is the detail of a sink's control records.
type Note struct {
	Sink  string   `json:"sink"`
	Log   string   `json:"log,omitzero"`
	From  uint64   `json:"from"`           // first seq that it is about
	To    uint64   `json:"to"`             // last one
	Count uint64   `json:"count"`          // how many records it is about
	IDs   []string `json:"ids,omitzero"`   // of dropped records, at most 100
	Why   string   `json:"why,omitzero"`   // what the receiver said, or what is wrong with the cursor
	Bytes int      `json:"bytes,omitzero"` // of the largest dropped record as it was sent
}

// Log is one log as the sinks read it. Its methods may be called at once by all of them.
type Log interface {
	// Name is audit.DecisionLog or audit.ControlLog.
	Name() string
	// Next is the seq that the log's next record will have: everything before it is there to be shipped.
	Next() uint64
	// First is the oldest seq that can still be read, or Next when there is none.
	First(ctx context.Context) (uint64, error)
	// From yields the records from seq on, then new ones within a second of their acknowledgement, until ctx ends. When
	// records at seq were pruned it begins with the first that is there, or ends with an error.
	From(ctx context.Context, seq uint64) iter.Seq2[audit.Entry, error]
}

// Options are what the surroundings hand in.
type Options struct {
	// FS is the audit directory, in whose folder "sinks" the cursors are.
	FS audit.FileSystem
	// Logs are the logs there are to ship.
	Logs []Log
	// Record makes a control record durable before it returns nil. A sink does not go on before it did.
	Record func(ctx context.Context, r *audit.Record) error
	// Version is the product version that formats state, and Key makes redacted values comparable, as in export.Options.
	Version string
	Key     []byte
	// Log is told when a sink begins and ceases to fail; nil is slog.Default.
	Log *slog.Logger

	retry time.Duration // first wait after a failure; 0 is firstRetry
	stall time.Duration // how often a reading is asked whether it was overtaken by pruning; 0 is stallCheck
	open  func(c Config, ca string) (receiver, error)
}

// Sinks is all the sinks of a gateway. Its methods may be called from several goroutines.
type Sinks struct {
	opts Options

	mu      sync.Mutex
	running context.Context // of Run, nil before it; the parent of every runner's life
	ended   bool
	runners []*runner // in the order of the configuration
}

// New prepares the sinks of a configuration. It opens files that the configuration names, and no connection.
func New(configs []Config, o Options) (*Sinks, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.retry == 0 {
		o.retry = firstRetry
	}
	if o.stall == 0 {
		o.stall = stallCheck
	}
	if o.open == nil {
		o.open = openReceiver
	}
	s := &Sinks{opts: o}
	runners, err := s.prepare(configs)
	if err != nil {
		return nil, err
	}
	s.runners = runners
	return s, nil
}

func (s *Sinks) prepare(configs []Config) ([]*runner, error) {
	var runners []*runner
	for _, c := range configs {
		r, err := newRunner(c, s.opts)
		if err != nil {
			return nil, fmt.Errorf("audit sink %q: %w", c.Name, err)
		}
		runners = append(runners, r)
	}
	return runners, CheckAll(configs)
}

// Run ships until ctx ends, and returns when all sinks have come to rest.
func (s *Sinks) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running != nil {
		s.mu.Unlock()
		return errors.New("audit sinks run already")
	}
	s.running = ctx
	for _, r := range s.runners {
		r.start(ctx)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, r := range s.runners {
		r.end()
	}
	return nil
}

// Apply puts another configuration into effect, as a whole or, with an error, not at all. A sink that stays as it was goes
// on undisturbed, also when its connection has just been lost; one whose configuration, token or authorities changed
// begins anew at its cursor. The cursor of a sink that is gone stays, for the case that it comes back.
func (s *Sinks) Apply(configs []Config) error {
	fresh, err := s.prepare(configs)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := map[string]*runner{}
	for _, r := range s.runners {
		before[r.cfg.Name] = r
	}
	for i, r := range fresh {
		if old := before[r.cfg.Name]; old != nil && old.same(r) {
			fresh[i] = old
			delete(before, r.cfg.Name)
		}
	}
	for _, old := range before { // each cursor has one owner at any time
		old.end()
	}
	for _, r := range fresh {
		if s.running != nil && !s.ended {
			r.start(s.running)
		}
	}
	s.runners = fresh
	return nil
}

// Lags says how far each sink is, in the order of the configuration. It waits for nothing.
func (s *Sinks) Lags() []Lag {
	s.mu.Lock()
	runners := s.runners
	s.mu.Unlock()
	lags := make([]Lag, 0, len(runners))
	for _, r := range runners {
		lags = append(lags, r.lag())
	}
	return lags
}
