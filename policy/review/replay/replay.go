// Package replay decides recorded requests again, under the policy there is and under one that may replace it.
//
// First the old answers are compared with the recorded ones: a replay that does not reproduce what happened says nothing of
// what would happen (Parity). Then requests are projected onto what either policy can read, and of all that neither can
// tell apart one is decided under both. What differs is a review.Difference for each person, with how many requests, the
// last of them and a few record ids.
//
// A replayed request is the recorded one, except for what the gateway takes from its configuration: the app's labels,
// sensitivity and owner, and the time of day, are those of the policy that is asked. What else a new configuration would
// put into an input, such as names of networks, is as it was.
//
// Where the records come from is the caller's business: this package reads no log.
package replay

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/policy"
)

// Record is one recorded decision. Its bytes need to last only until the next one is asked for.
type Record struct {
	ID      string    // names it to people
	Time    time.Time // when it was made
	App     string
	Policy  string // the digest of the policy that decided
	Input   []byte // policy.Input's JSON; of a decision that was taken again, the first one's
	Changed []byte // the JSON Merge Patch on Input of a decision that was taken again; else nil

	// What was answered: verdict's reason and whether it allowed, and the decision document.
	Allow    bool
	Reason   string
	Decision []byte

	Weight   int64  // how many requests it stands for; 0 for one
	Refused  bool   // before a policy was asked: there is nothing to decide again
	Unusable string // why it cannot be decided again, in words that many records share; empty: it can
}

func (r *Record) weight() int64 { return max(1, r.Weight) }

// Batch is a few thousand records, read by one worker.
type Batch = iter.Seq[Record]

// Source yields batches, in any order; an error ends the replay. Several batches are read at once, and while the next ones are
// made.
type Source = iter.Seq2[Batch, error]

// Config says what is replayed.
type Config struct {
	From, To *policy.Engine
	Source   Source

	// Policy opens the policy with that digest, for the parity of what another policy than From decided. An error, or no
	// function: such records are replayed, and their recorded answers are not compared with anything.
	Policy func(ctx context.Context, digest string) (*policy.Engine, error)

	// Lacks tells why a source's requests for an app cannot be decided by policies that read these input fields, or "";
	// nil: the source holds whole inputs.
	Lacks func(app string, reads []string) string

	Workers int // 0: one for each processor
}

// batchesAhead is how many batches wait for a worker.
const batchesAhead = 2

// Run replays. The error says that the source failed or ctx ended; there is no result then.
func Run(ctx context.Context, c Config) (*Result, error) {
	if c.From == nil || c.To == nil || c.Source == nil {
		return nil, errors.New("a replay needs two policies and a source")
	}
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	r, err := newRun(c)
	if err != nil {
		return nil, err
	}
	return r.all(ctx)
}

// all replays what the source has.
func (r *run) all(ctx context.Context) (*Result, error) {
	c := &r.config
	batches := make(chan Batch, batchesAhead)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(batches)
		for batch, err := range c.Source {
			if err != nil {
				return err
			}
			select {
			case batches <- batch:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	workers := make([]*worker, c.Workers)
	for i := range workers {
		workers[i] = newWorker(r)
		group.Go(func() error { return workers[i].work(ctx, batches) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return r.result(workers), nil
}

// Of is a source of records that are at hand.
func Of(records ...Record) Source {
	return func(yield func(Batch, error) bool) {
		yield(func(yield func(Record) bool) {
			for _, r := range records {
				if !yield(r) {
					return
				}
			}
		}, nil)
	}
}
