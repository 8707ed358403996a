package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/maphash"
	"reflect"
	"sync"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
)

// run is one replay.
type run struct {
	config   Config
	from, to *side
	groups   *groups
	changes  *changes

	mu     sync.Mutex
	judges map[string]*judge // by the digest of the policy that decided
}

func newRun(c Config) (*run, error) {
	from, err := newSide(c.From)
	if err != nil {
		return nil, err
	}
	to, err := newSide(c.To)
	if err != nil {
		return nil, err
	}
	r := &run{config: c, from: from, to: to, groups: newGroups(), changes: newChanges(), judges: make(map[string]*judge)}
	return r, nil
}

// judge finds who decides again what the policy with that digest had decided.
func (r *run) judge(ctx context.Context, digest string) *judge {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.judges[digest]
	if j == nil {
		j = &judge{run: r, own: r.own(ctx, digest), plans: make(map[string]*plan)}
		r.judges[digest] = j
	}
	return j
}

// own is the policy that decided; nil when it is not at hand.
func (r *run) own(ctx context.Context, digest string) *side {
	for _, s := range []*side{r.from, r.to} {
		if s.Digest() == digest {
			return s
		}
	}
	if r.config.Policy == nil {
		return nil
	}
	engine, err := r.config.Policy(ctx, digest)
	if err != nil {
		return nil
	}
	s, err := newSide(engine)
	if err != nil {
		return nil
	}
	return s
}

// worker replays batches, and counts by itself.
type worker struct {
	*run
	judges           map[string]*judge
	key              []byte
	parity           Parity
	totals           Totals
	unusable         map[string]*NotReplayable
	fromTook, toTook histogram
}

func newWorker(r *run) *worker {
	return &worker{
		run: r, judges: make(map[string]*judge), unusable: make(map[string]*NotReplayable),
		totals: Totals{Changed: make(map[review.Change]int64), ByPolicy: make(map[string]int64)},
	}
}

func (w *worker) work(ctx context.Context, batches <-chan Batch) error {
	for batch := range batches {
		for r := range batch {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			w.take(ctx, &r)
		}
	}
	return nil
}

// take replays one record.
func (w *worker) take(ctx context.Context, r *Record) {
	w.count(r)
	if r.Refused {
		w.totals.Refused += r.weight()
		return
	}
	if why := w.replay(ctx, r); why != "" {
		w.totals.NotReplayable += r.weight()
		addUnusable(w.unusable, why, r.weight(), r.ID)
	}
}

func (w *worker) count(r *Record) {
	w.totals.Records++
	w.totals.Requests += r.weight()
	w.totals.ByPolicy[r.Policy] += r.weight()
	if w.totals.First.IsZero() || r.Time.Before(w.totals.First) {
		w.totals.First = r.Time
	}
	if r.Time.After(w.totals.Last) {
		w.totals.Last = r.Time
	}
}

// replay decides one record again. It returns why it cannot, or "".
func (w *worker) replay(ctx context.Context, r *Record) string {
	if r.Unusable != "" {
		return r.Unusable
	}
	j := w.judgeOf(ctx, r.Policy)
	p := j.plan(ctx, r.App)
	if p.lacking != "" {
		return p.lacking
	}
	if r.Changed != nil {
		in, err := policy.ParseChanged(r.Input, r.Changed)
		if err != nil {
			return notReadable
		}
		r.Input, r.Changed = in.AppendJSON(nil), nil
	}
	key, err := p.key(w.key[:0], r.Input)
	if err != nil {
		return notReadable
	}
	w.key = key
	g := w.groups.get(key, r.App, r.Policy)
	g.once.Do(func() { w.decide(ctx, j, p, g, r) })
	if g.unusable != "" {
		return g.unusable
	}
	if g.changed != nil {
		if err := g.changed.add(r); err != nil {
			return notReadable
		}
		w.totals.Changed[g.changed.change] += r.weight()
	}
	w.compare(r, g)
	w.totals.Replayed += r.weight()
	return ""
}

const (
	notReadable = "the recorded input cannot be read by this version"
	otherApp    = "the recorded input is about another app than the record"
)

// judgeOf is judge without the lock that all workers share.
func (w *worker) judgeOf(ctx context.Context, digest string) *judge {
	j := w.judges[digest]
	if j == nil {
		j = w.judge(ctx, digest)
		w.judges[digest] = j
	}
	return j
}

// decide asks all policies about the first request of a group.
func (w *worker) decide(ctx context.Context, j *judge, p *plan, g *group, r *Record) {
	w.totals.Distinct++
	in, err := policy.ParseInput(r.Input)
	switch {
	case err != nil:
		g.unusable = notReadable
		return
	case in.Resource.ID != r.App:
		g.unusable = otherApp
		return
	}
	from, to := w.ask(ctx, w.from, in, &w.fromTook), w.ask(ctx, w.to, in, &w.toTook)
	if j.own != nil {
		own := j.own.Answer(ctx, in)
		g.answer = &answer{own.Allow, own.Reason, own.JSON}
		g.print = w.groups.print(own.Allow, own.Reason, own.JSON)
	}
	if change := review.Compare(from, to); change != review.Unchanged {
		g.changed = w.changes.of(w.coarse(p, r, from, to), change, from, to)
	}
}

// ask decides under one policy, and measures what was not remembered.
func (w *worker) ask(ctx context.Context, s *side, in *policy.Input, h *histogram) *policy.Verdict {
	seen := s.view(in)
	began := time.Now()
	v := s.Answer(ctx, seen)
	if !v.Memo {
		h.observe(time.Since(began))
	}
	return v
}

// coarse is what kinds of difference are told apart by: what the policies read, but for what is another in every request,
// and what they answer.
func (w *worker) coarse(p *plan, r *Record, from, to *policy.Verdict) string {
	key := append(append([]byte(r.App), 0), from.JSON...)
	key = append(append(append(key, 0), to.JSON...), 0)
	key, err := p.recurring.AppendRecorded(key, r.Input)
	if err != nil {
		panic("BUG: an input that was projected before: " + err.Error())
	}
	return string(key)
}

// compare holds the recorded answer against what the policy that gave it answers now.
func (w *worker) compare(r *Record, g *group) {
	switch {
	case g.answer == nil:
		w.parity.Unchecked += r.weight()
		return
	case r.Reason == policy.ReasonTimeout:
		w.parity.TimedOut += r.weight()
		return
	}
	w.parity.Checked += r.weight()
	if w.groups.print(r.Allow, r.Reason, r.Decision) == g.print || g.answer.is(r) {
		return
	}
	w.parity.Different += r.weight()
	if len(w.parity.Examples) < maxDisparities {
		w.parity.Examples = append(w.parity.Examples, Disparity{
			Record: r.ID, Time: r.Time, App: r.App, Policy: r.Policy, Recorded: string(r.Decision), Answered: string(g.answer.decision),
		})
	}
}

// answer is what the policy that had decided answers now.
type answer struct {
	allow    bool
	reason   string
	decision []byte
}

// is reports whether a recorded answer is the same, whatever the order of its members.
func (a *answer) is(r *Record) bool {
	if a.allow != r.Allow || a.reason != r.Reason {
		return false
	}
	x, errX := anyJSON(a.decision)
	y, errY := anyJSON(r.Decision)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func anyJSON(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// groups are the kinds of request that no policy can tell apart.
type groups struct {
	seeds  [2]maphash.Seed
	shards [64]groupShard
}

type groupShard struct {
	mu    sync.Mutex
	known map[[2]uint64]*group
}

// group is one of them. Everything but once is set by its first request, before others go on.
type group struct {
	once     sync.Once
	unusable string
	answer   *answer // of the policy that decided; nil when it is not at hand
	print    uint64  // answer's
	changed  *changed
}

// maxGroups bounds how many are remembered. A policy that reads the time of each request has as many as requests; further
// ones are decided one by one.
const maxGroups = 2 << 20

func newGroups() *groups {
	g := &groups{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	for i := range g.shards {
		g.shards[i].known = make(map[[2]uint64]*group)
	}
	return g
}

// get finds the group of a key, which it is known by two independent hashes of.
func (g *groups) get(key []byte, app, digest string) *group {
	var names [2]uint64
	for i, seed := range g.seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		_, _ = h.WriteString(app)
		_ = h.WriteByte(0)
		_, _ = h.WriteString(digest)
		_ = h.WriteByte(0)
		_, _ = h.Write(key)
		names[i] = h.Sum64()
	}
	s := &g.shards[names[0]%uint64(len(g.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.known[names]
	if found == nil {
		found = new(group)
		if len(s.known) < maxGroups/len(g.shards) {
			s.known[names] = found
		}
	}
	return found
}

// print is a short form of an answer to compare.
func (g *groups) print(allow bool, reason string, decision []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(g.seeds[0])
	if allow {
		_ = h.WriteByte(1)
	}
	_, _ = h.WriteString(reason)
	_ = h.WriteByte(0)
	_, _ = h.Write(decision)
	return h.Sum64()
}
