package shadow

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
)

// Bounds of what a trial remembers of differences. What finds no room is counted by its change alone.
const (
	maxKinds    = 256  // kinds of differences
	maxPeople   = 4096 // people, over all kinds
	maxExamples = 3    // of each kind
	maxError    = 300  // bytes of an error's text
	maxRule     = 100  // bytes of a rule's name: a package of the operator's may say anything
)

// tally is what one pair of policies has come to. Its active engine is replaced by Run alone; everything else is guarded by
// the trial's mutex.
type tally struct {
	active *policy.Engine
	zone   *time.Location // in which the candidate tells the time; nil: as the policy in force does
	since  time.Time

	compared      uint64
	droppedBefore uint64 // of the trial's count
	changes       map[review.Change]uint64
	serious       time.Time // when somebody's access differed last; zero: never
	kinds         map[kind]*seen
	people        int    // that kinds name
	unnamed       uint64 // differences that found no room
	repeated      uint64 // differences since the last summary that have no record of their own

	activeTook, candidateTook timings
}

// kind is what differences are told apart by.
type kind struct {
	app              string
	change           review.Change
	from, to         string // reasons
	fromRule, toRule string
}

// seen is what is kept of the differences of a kind.
type seen struct {
	requests    uint64
	first, last time.Time
	people      map[string]bool // by id; true: there is a record
	examples    []Example
}

// Example is one recorded decision whose answer would be another.
type Example struct {
	Record string        `json:"record"` // its id in the decision log
	Person review.Person `json:"person"`
}

// Answer is a verdict in short.
type Answer struct {
	Allow  bool   `json:"allow"`
	Reason string `json:"reason"`
	Rule   string `json:"rule,omitzero"`  // the access rule, or the package's own word
	Error  string `json:"error,omitzero"` // with error, timeout and unknown_obligation: what happened
}

func newTally(active, candidate *policy.Engine, now time.Time) *tally {
	return &tally{active: active, zone: otherZone(active, candidate), since: now, changes: map[review.Change]uint64{}, kinds: map[kind]*seen{}}
}

// otherZone is the candidate's zone where it is another one. Both were loaded before they came here.
func otherZone(active, candidate *policy.Engine) *time.Location {
	was, unknown := active.Bundle().Zone()
	zone, err := candidate.Bundle().Zone()
	if unknown != nil || err != nil || was.String() == zone.String() {
		return nil
	}
	return zone
}

// asCandidateSees is the input that the gateway would make of the same request were the candidate in force.
func (t *tally) asCandidateSees(in *policy.Input) *policy.Input {
	if t.zone == nil {
		return in
	}
	seen := *in
	seen.Context.SetTime(time.Unix(0, in.Context.TimeNS), t.zone)
	return &seen
}

// Found is the first difference of its kind that a person met.
type Found struct {
	Candidate string        `json:"candidate"` // digests
	Active    string        `json:"active"`
	Of        string        `json:"of"` // the decision's record
	App       string        `json:"app"`
	Change    review.Change `json:"change"`
	Person    review.Person `json:"person"`
	From      Answer        `json:"from"` // of the policy in force
	To        Answer        `json:"to"`   // of the candidate
}

// add counts one comparison. It returns the difference when it is to be recorded: when nobody's like it is on record yet,
// and may says that there is room for one more.
func (t *tally) add(o Observed, to *policy.Verdict, change review.Change, may bool) *Found {
	t.compared++
	if change == review.Unchanged {
		return nil
	}
	now := time.Now()
	t.changes[change]++
	if change != review.ReasonOnly {
		t.serious = now
	}
	found := &Found{Active: t.active.Digest(), Of: o.Record, App: o.Input.Resource.ID, Change: change,
		Person: personOf(&o.Input.Subject), From: answerOf(o.Verdict), To: answerOf(to)}
	if !t.remember(found, now, may) {
		t.repeated++
		return nil
	}
	return found
}

// remember keeps a difference among those of its kind, and reports whether it is now to be recorded.
func (t *tally) remember(f *Found, now time.Time, may bool) bool {
	k := kind{f.App, f.Change, f.From.Reason, f.To.Reason, f.From.Rule, f.To.Rule}
	s := t.kinds[k]
	if s == nil && len(t.kinds) < maxKinds {
		s = &seen{first: now, people: map[string]bool{}}
		t.kinds[k] = s
	}
	if s == nil {
		t.unnamed++
		return false
	}
	s.requests++
	s.last = now
	recorded, known := s.people[f.Person.ID]
	if !known && t.people == maxPeople {
		t.unnamed++
		return false
	}
	if !known {
		t.people++
		if len(s.examples) < maxExamples {
			s.examples = append(s.examples, Example{f.Of, f.Person})
		}
	}
	s.people[f.Person.ID] = recorded || may
	return !recorded && may
}

// personOf is who asked, as people know them. A stranger has no id.
func personOf(s *policy.Subject) review.Person {
	if s.Type == policy.TypeAnonymous {
		return review.Person{ID: policy.TypeAnonymous}
	}
	return review.Person{ID: s.ID, Name: s.Email}
}

func answerOf(v *policy.Verdict) Answer {
	a := Answer{Allow: v.Allow, Reason: v.Reason}
	if at := slices.IndexFunc(v.Decision.Reasons, func(r policy.Reason) bool { return r.Rule != "" }); at >= 0 {
		a.Rule = cut(v.Decision.Reasons[at].Rule, maxRule)
	}
	if v.Err != nil {
		a.Error = cut(v.Err.Error(), maxError)
	}
	return a
}

func cut(text string, most int) string { return strings.ToValidUTF8(text[:min(len(text), most)], "") }

// gravity orders changes, the gravest first.
func gravity(c review.Change) int { return slices.Index(review.Changes(), c) }

// differences are the kinds seen, the gravest first and then the most frequent.
func (t *tally) differences() []Difference {
	list := make([]Difference, 0, len(t.kinds))
	for k, s := range t.kinds {
		list = append(list, Difference{App: k.app, Change: k.change, From: Answer{Allow: allowed(k.from), Reason: k.from, Rule: k.fromRule},
			To: Answer{Allow: allowed(k.to), Reason: k.to, Rule: k.toRule}, Requests: s.requests, People: len(s.people),
			First: s.first, Last: s.last, Examples: slices.Clone(s.examples)})
	}
	slices.SortFunc(list, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(gravity(a.Change), gravity(b.Change)), cmp.Compare(b.Requests, a.Requests),
			cmp.Compare(a.App, b.App), a.First.Compare(b.First))
	})
	return list
}

func allowed(reason string) bool { return reason == policy.ReasonAllow }
