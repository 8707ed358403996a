// Package shadow tries a candidate policy on live traffic. Requests are judged by the policy in force; what was decided and
// recorded is offered to a Trial, which asks the candidate the same question off the request path and keeps count of where
// the answers differ. Nobody is let in or turned away by it.
//
// A trial takes a small share of the machine. What it cannot keep up with is dropped and counted, never waited for.
package shadow

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
)

// The codes of control records that a trial writes.
const (
	CodeDifference = "shadow_difference" // the first of its kind; detail: Found
	CodeSummary    = "shadow_summary"    // repeats within a minute, or another policy in force; detail: Summary
)

const (
	// queueLength bounds the decisions that wait: a tenth of a second of 20,000 requests/s, and 32 MB should every input be
	// as large as inputs can be.
	queueLength = 2048
	// pollEvery is how often waiting decisions are looked at. A sender never wakes the trial: that would cost the request
	// several microseconds.
	pollEvery = 20 * time.Millisecond
	// batch is how many decisions are compared between two looks at the budget, each a system call.
	batch = 8
	// summaryEvery is how often repeated differences are summed up on the record.
	summaryEvery = time.Minute
	// recordsPerSummary bounds the differences that are recorded one by one in that time; others follow when they repeat.
	recordsPerSummary = 100
)

// Observed is a decision of the policy in force.
type Observed struct {
	Input   *policy.Input // not changed any more
	Verdict *policy.Verdict
	Policy  *policy.Engine // whose verdict it is
	Record  string         // the id of its record
}

// Config says what is tried, and who hears of it. All fields are required.
type Config struct {
	Candidate *policy.Engine
	// Active is the policy in force now. It may change at any time: comparing starts over then.
	Active func() *policy.Engine
	// Record writes a control record. An error is Record's to report: the trial goes on.
	Record func(ctx context.Context, code string, detail any) error
	Log    *slog.Logger
}

// Trial compares a candidate with the policy in force, from New until Run ends.
type Trial struct {
	cfg     Config
	started time.Time
	queue   chan Observed
	dropped atomic.Uint64 // found no room in the queue

	// Owned by Run.
	budget    budget
	recording int // differences that may still be recorded until the next summary

	mu    sync.Mutex
	tally *tally
}

// New is a trial that begins now. Nothing is compared before Run.
func New(cfg Config) *Trial {
	now := time.Now()
	return &Trial{cfg: cfg, started: now, queue: make(chan Observed, queueLength),
		budget: newBudget(now, runtime.GOMAXPROCS(0)), recording: recordsPerSummary, tally: newTally(cfg.Active(), cfg.Candidate, now)}
}

// Offer hands over a decision. It never waits.
func (t *Trial) Offer(o Observed) {
	select {
	case t.queue <- o:
	default:
		t.dropped.Add(1)
	}
}

// Run compares until ctx ends, and then what still waits, as far as the budget goes.
func (t *Trial) Run(ctx context.Context) {
	runtime.LockOSThread() // whose processor time is the budget's
	defer runtime.UnlockOSThread()
	work := context.WithoutCancel(ctx) // an evaluation that is cut short would be a difference
	poll, summary := time.NewTicker(pollEvery), time.NewTicker(summaryEvery)
	defer poll.Stop()
	defer summary.Stop()
	for {
		select {
		case <-poll.C:
			t.drain(work)
		case <-summary.C:
			t.summarise(work)
		case <-ctx.Done():
			t.drain(work)
			t.dropped.Add(uint64(len(t.queue)))
			return
		}
	}
}

// drain compares what waits, as far as the budget goes.
func (t *Trial) drain(ctx context.Context) {
	t.follow(ctx)
	t.budget.begin(time.Now())
	for t.budget.left() && len(t.queue) > 0 {
		for range min(len(t.queue), batch) {
			t.compare(ctx, <-t.queue)
		}
	}
}

// follow starts a new tally when another policy has come into force.
func (t *Trial) follow(ctx context.Context) {
	active := t.cfg.Active()
	if active.Digest() == t.tally.active.Digest() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.tally.active = active // the same policy, compiled again
		return
	}
	t.cfg.Record(ctx, CodeSummary, t.summary())
	t.cfg.Log.Info("the candidate policy is now compared with another policy in force: counting starts over",
		"candidate", t.cfg.Candidate.Digest(), "active", active.Digest(), "before", t.tally.active.Digest())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally = newTally(active, t.cfg.Candidate, time.Now())
	t.tally.droppedBefore = t.dropped.Load()
}

// compare asks the candidate what the policy in force was asked.
func (t *Trial) compare(ctx context.Context, o Observed) {
	if o.Policy.Digest() != t.tally.active.Digest() {
		return // decided just before, or after, another policy came into force
	}
	verdict := t.cfg.Candidate.Decide(ctx, t.tally.asCandidateSees(o.Input))
	change := review.Compare(o.Verdict, verdict)
	t.mu.Lock()
	found := t.tally.add(o, verdict, change, t.recording > 0)
	timed := t.tally.compared <= timedFirst || t.tally.compared%timedEvery == 0
	t.mu.Unlock()
	if found != nil {
		t.recording--
		found.Candidate = t.cfg.Candidate.Digest()
		t.cfg.Record(ctx, CodeDifference, found)
	}
	if timed {
		t.time(ctx, o.Input)
	}
}

const (
	timedFirst = 32  // decisions that are timed all, so that figures are there soon
	timedEvery = 128 // of those after
)

// time measures an evaluation under either policy, nothing remembered, one after the other on the same machine.
func (t *Trial) time(ctx context.Context, in *policy.Input) {
	began := time.Now()
	t.tally.active.Trace(ctx, in)
	between := time.Now()
	t.cfg.Candidate.Trace(ctx, t.tally.asCandidateSees(in))
	ended := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally.activeTook.add(between.Sub(began))
	t.tally.candidateTook.add(ended.Sub(between))
}

// summarise records differences that have repeated since it last did, if any have.
func (t *Trial) summarise(ctx context.Context) {
	t.recording = recordsPerSummary
	t.mu.Lock()
	repeated := t.tally.repeated
	t.mu.Unlock()
	if repeated == 0 {
		return
	}
	t.cfg.Record(ctx, CodeSummary, t.summary())
	t.mu.Lock()
	t.tally.repeated = 0
	t.mu.Unlock()
}
