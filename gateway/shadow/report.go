package shadow

import (
	"slices"
	"time"

	"sallyport/policy/review"
)

// Report is how far a trial has come.
type Report struct {
	Candidate string    `json:"candidate"`         // digest
	Revision  string    `json:"revision,omitzero"` // of the candidate
	Active    string    `json:"active"`            // digest of the policy in force
	Started   time.Time `json:"started"`
	Since     time.Time `json:"since"` // what is counted below; later than Started when the policy in force has changed

	Compared uint64 `json:"compared"` // decisions
	Dropped  uint64 `json:"dropped"`  // decisions that there was no time for
	// Clean says that decisions were compared and nobody's access differed. Another reason for the same answer is no matter.
	Clean bool `json:"clean"`
	// CleanSince is when somebody's access differed last, or Since.
	CleanSince time.Time `json:"clean_since"`

	Changes     map[review.Change]uint64 `json:"changes"`     // decisions by change
	Differences []Difference             `json:"differences"` // by kind
	Unnamed     uint64                   `json:"unnamed"`     // differences beyond what is kept of kinds and people
	Latency     Latency                  `json:"latency"`
}

// Difference sums up differences of one kind.
type Difference struct {
	App      string        `json:"app"`
	Change   review.Change `json:"change"`
	From     Answer        `json:"from"` // of the policy in force
	To       Answer        `json:"to"`   // of the candidate
	Requests uint64        `json:"requests"`
	People   int           `json:"people"`
	First    time.Time     `json:"first"`
	Last     time.Time     `json:"last"`
	Examples []Example     `json:"examples,omitempty"` // of as many people; records have none
}

// Summary is what a record says of a trial.
type Summary struct {
	Candidate   string                   `json:"candidate"`
	Active      string                   `json:"active"`
	Since       time.Time                `json:"since"`
	Compared    uint64                   `json:"compared"`
	Dropped     uint64                   `json:"dropped"`
	Clean       bool                     `json:"clean"`
	Changes     map[review.Change]uint64 `json:"changes"`
	Differences []Difference             `json:"differences,omitempty"` // the first ones
}

// maxSummed bounds the kinds in a record, so that it fits whatever rules are called.
const maxSummed = 20

// Report tells how far the trial is.
func (t *Trial) Report() Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	y := t.tally
	r := Report{
		Candidate: t.cfg.Candidate.Digest(), Revision: t.cfg.Candidate.Revision(), Active: y.active.Digest(), Started: t.started,
		Since: y.since, Compared: y.compared, Dropped: t.dropped.Load() - y.droppedBefore,
		Clean: y.compared > 0 && y.serious.IsZero(), CleanSince: y.since,
		Changes: map[review.Change]uint64{}, Differences: y.differences(), Unnamed: y.unnamed,
		Latency: Latency{Active: y.activeTook.percentiles(), Candidate: y.candidateTook.percentiles()},
	}
	if !y.serious.IsZero() {
		r.CleanSince = y.serious
	}
	for _, change := range review.Changes() {
		r.Changes[change] = y.changes[change]
	}
	return r
}

// Summary is the report as records have it.
func (r *Report) Summary() Summary {
	s := Summary{Candidate: r.Candidate, Active: r.Active, Since: r.Since, Compared: r.Compared, Dropped: r.Dropped, Clean: r.Clean,
		Changes: r.Changes, Differences: slices.Clone(r.Differences[:min(len(r.Differences), maxSummed)])}
	for i := range s.Differences {
		s.Differences[i].Examples = nil
	}
	return s
}

func (t *Trial) summary() Summary {
	r := t.Report()
	return r.Summary()
}

// Latency is how long evaluations take under either policy, measured on the same inputs with nothing remembered.
type Latency struct {
	Active    Percentiles `json:"active"`
	Candidate Percentiles `json:"candidate"`
}

// Percentiles sum up measured times, in nanoseconds; all are 0 without any.
type Percentiles struct {
	P50 time.Duration `json:"p50_ns"`
	P95 time.Duration `json:"p95_ns"`
	P99 time.Duration `json:"p99_ns"`
}

// maxTimings bounds what percentiles are made of: the newest.
const maxTimings = 1024

// timings are the newest measured times, in no order.
type timings struct {
	list []time.Duration
	next int
}

func (t *timings) add(took time.Duration) {
	if len(t.list) < maxTimings {
		t.list = append(t.list, took)
		return
	}
	t.list[t.next] = took
	t.next = (t.next + 1) % maxTimings
}

func (t *timings) percentiles() Percentiles {
	if len(t.list) == 0 {
		return Percentiles{}
	}
	sorted := slices.Sorted(slices.Values(t.list))
	at := func(percent int) time.Duration { return sorted[(len(sorted)-1)*percent/100] }
	return Percentiles{at(50), at(95), at(99)}
}
