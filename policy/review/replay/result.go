package replay

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sallyport/policy/review"
)

// Result is what a replay found.
type Result struct {
	// Differences has one for each person and each kind of request whose answer changed, the gravest first. Requests of
	// strangers have no People; others have one.
	Differences []review.Difference

	// Cut says that there were more differences than are listed; Totals counts all.
	Cut bool

	Parity        Parity
	Totals        Totals
	NotReplayable []NotReplayable // the most frequent reason first

	// How long evaluations took, without what was remembered.
	From, To Latency
}

// Parity compares recorded answers with what the policies that gave them answer now.
type Parity struct {
	Checked   int64       `json:"checked"`   // requests whose recorded answer was compared
	Different int64       `json:"different"` // of these, those that are answered otherwise now
	Unchecked int64       `json:"unchecked"` // requests that another policy than the old one decided, and that is not at hand
	TimedOut  int64       `json:"timed_out"` // requests that were denied because their evaluation took too long: nothing to compare
	Examples  []Disparity `json:"examples,omitempty"`
}

// Holds reports whether every answer that could be compared came out the same. Of nothing, nothing is known.
func (p *Parity) Holds() bool { return p.Different == 0 && p.Checked > 0 }

// Disparity is a recorded answer that did not come out again.
type Disparity struct {
	Record   string    `json:"record"`
	Time     time.Time `json:"time"`
	App      string    `json:"app"`
	Policy   string    `json:"policy"`   // its digest
	Recorded string    `json:"recorded"` // the decision document
	Answered string    `json:"answered"`
}

// Totals count requests, each record as often as its weight, unless they say otherwise.
type Totals struct {
	Records       int64                   `json:"records"` // read
	Requests      int64                   `json:"requests"`
	Replayed      int64                   `json:"replayed"` // under both policies
	NotReplayable int64                   `json:"not_replayable"`
	Refused       int64                   `json:"refused"`        // before a policy was asked
	Distinct      int64                   `json:"distinct"`       // kinds of request that were told apart and decided
	Changed       map[review.Change]int64 `json:"changed"`        // requests by how their answer changed
	ByPolicy      map[string]int64        `json:"by_policy"`      // requests by the digest of the policy that decided them
	First         time.Time               `json:"first,omitzero"` // when the first request was made, and the last
	Last          time.Time               `json:"last,omitzero"`
}

// NotReplayable are requests that could not be decided again, for one reason.
type NotReplayable struct {
	Reason   string   `json:"reason"`
	Requests int64    `json:"requests"`
	Records  []string `json:"records"` // a few
}

// Latency is how long single evaluations took.
type Latency struct {
	Evaluations int64         `json:"evaluations"`
	P50         time.Duration `json:"p50_ns"`
	P95         time.Duration `json:"p95_ns"`
	P99         time.Duration `json:"p99_ns"`
}

// Bounds of a result.
const (
	maxDifferences = 200_000
	maxExamples    = 5  // record ids
	maxDisparities = 20 // answers
)

// result sums up.
func (r *run) result(workers []*worker) *Result {
	out := &Result{Totals: Totals{Changed: make(map[review.Change]int64), ByPolicy: make(map[string]int64)}}
	unusable := make(map[string]*NotReplayable)
	var from, to histogram
	for _, w := range workers {
		out.Parity.add(&w.parity)
		out.Totals.add(&w.totals)
		for _, n := range w.unusable {
			addUnusable(unusable, n.Reason, n.Requests, n.Records...)
		}
		from.add(&w.fromTook)
		to.add(&w.toTook)
	}
	for _, n := range unusable {
		out.NotReplayable = append(out.NotReplayable, *n)
	}
	slices.SortFunc(out.NotReplayable, func(a, b NotReplayable) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Reason, b.Reason))
	})
	out.From, out.To = from.latency(), to.latency()
	out.Differences, out.Cut = r.changes.list()
	return out
}

func (p *Parity) add(other *Parity) {
	p.Checked += other.Checked
	p.Different += other.Different
	p.Unchecked += other.Unchecked
	p.TimedOut += other.TimedOut
	p.Examples = append(p.Examples, other.Examples...)
	slices.SortFunc(p.Examples, func(a, b Disparity) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Record, b.Record))
	})
	p.Examples = p.Examples[:min(len(p.Examples), maxDisparities)]
}

func (t *Totals) add(other *Totals) {
	t.Records += other.Records
	t.Requests += other.Requests
	t.Replayed += other.Replayed
	t.NotReplayable += other.NotReplayable
	t.Refused += other.Refused
	t.Distinct += other.Distinct
	for change, n := range other.Changed {
		t.Changed[change] += n
	}
	for digest, n := range other.ByPolicy {
		t.ByPolicy[digest] += n
	}
	if other.First.IsZero() {
		return
	}
	if t.First.IsZero() || other.First.Before(t.First) {
		t.First = other.First
	}
	if other.Last.After(t.Last) {
		t.Last = other.Last
	}
}

// addUnusable counts requests that cannot be replayed by their reason.
func addUnusable(by map[string]*NotReplayable, reason string, requests int64, records ...string) {
	n := by[reason]
	if n == nil {
		n = &NotReplayable{Reason: reason}
		by[reason] = n
	}
	n.Requests += requests
	n.Records = append(n.Records, records[:min(len(records), maxExamples-len(n.Records))]...)
}
