package matrix

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"sallyport/policy"
	"sallyport/policy/review"
)

// outcome is one way in which answers changed, and where they did.
type outcome struct {
	change   review.Change
	at       point // where it was seen first
	from, to *policy.Verdict
	boxes    []box
}

// noApp is the answer of a policy that does not know the app: no such address is served.
func noApp() *policy.Verdict {
	return &policy.Verdict{Reason: policy.ReasonPolicy, Decision: policy.Decision{Reasons: []policy.Reason{{Code: "no_app"}}}}
}

func (s *survey) answer(in *policy.Input, p *side) *policy.Verdict {
	if !p.has {
		return noApp()
	}
	s.evaluations++
	return p.engine.Trace(s.ctx, in)
}

// changeOf compares two answers. Where there was no app before or is none after, only yes counts.
func (s *survey) changeOf(from, to *policy.Verdict) review.Change {
	change := review.Compare(from, to)
	if change == review.ReasonOnly && s.app.In[0] != s.app.In[1] {
		return review.Unchanged
	}
	return change
}

// compare asks both policies at a point, and notes a difference for all that the point stands for.
func (s *survey) compare(at point, where box, p *pair, c *crowd) {
	from, to := s.answer(s.input(at, s.sides[0]), s.sides[0]), s.answer(s.input(at, s.sides[1]), s.sides[1])
	change := s.changeOf(from, to)
	if change == review.Unchanged {
		return
	}
	key := outcomeKey(change, from, to)
	o := s.outcomes[key]
	if o == nil {
		o = &outcome{change: change, at: slices.Clone(at), from: from, to: to}
		s.outcomes[key] = o
		s.order = append(s.order, key)
	}
	for _, cell := range p.cells {
		b := slices.Clone(where)
		b[whoAxis], b[methodAxis], b[pathAxis] = c.members, cell[methodAxis], cell[pathAxis]
		o.boxes = append(o.boxes, b)
	}
}

// outcomeKey tells outcomes apart by what counts for programs.
func outcomeKey(change review.Change, from, to *policy.Verdict) string {
	type answer struct {
		Reason      string
		Codes       [][2]string
		Obligations []policy.Obligation
	}
	var both [2]answer
	for i, v := range []*policy.Verdict{from, to} {
		both[i] = answer{Reason: v.Reason, Obligations: v.Decision.Obligations}
		for _, r := range v.Decision.Reasons {
			both[i].Codes = append(both[i].Codes, [2]string{r.Code, r.Rule})
		}
	}
	key, err := json.Marshal(both)
	if err != nil {
		panic("BUG: outcome: " + err.Error())
	}
	return string(change) + string(key)
}

// collect turns the outcomes into findings.
func (s *survey) collect() {
	s.describe()
	for _, key := range s.order {
		o := s.outcomes[key]
		o.boxes = merge(o.boxes, len(s.all))
		for _, b := range o.boxes {
			s.findings = append(s.findings, s.finding(o, b))
		}
	}
}

func (s *survey) finding(o *outcome, b box) Finding {
	side := s.sides[1]
	if !side.has {
		side = s.sides[0]
	}
	at := make(point, len(b))
	for i := range b {
		at[i] = b[i].members()[0]
	}
	f := Finding{
		Difference: review.Difference{Change: o.change, Input: s.input(at, side), From: o.from, To: o.to},
		App:        s.app.Name,
		Methods:    s.labels(methodAxis, b[methodAxis]),
		Paths:      s.labels(pathAxis, b[pathAxis]),
		When:       s.when(b),
	}
	for _, i := range b[whoAxis].members() {
		f.People = append(f.People, s.people[i].Person)
		if s.usually(i, b) {
			f.Usual = append(f.Usual, s.people[i].Name)
		}
	}
	return f
}

// labels are the names of an axis's values; nil for all of them.
func (s *survey) labels(axis int, chosen set) []string {
	values := s.all[axis].values
	if chosen.count() == len(values) {
		return nil
	}
	var list []string
	for _, i := range chosen.members() {
		list = append(list, values[i].label)
	}
	return list
}

// describe tells of the axes what a reader of findings needs.
func (s *survey) describe() {
	if s.cfg.People == nil {
		for i := range s.people {
			s.app.People = append(s.app.People, s.people[i].Name)
		}
	}
	for i := range s.all {
		for _, v := range s.all[i].values {
			switch {
			case i == methodAxis:
				s.app.Methods = append(s.app.Methods, v.label)
			case i == pathAxis:
				s.app.Paths = append(s.app.Paths, v.label)
			case s.all[i].name == networkName:
				s.app.Networks = append(s.app.Networks, v.label)
			case s.all[i].name == acrName:
				s.app.ACR = append(s.app.ACR, v.label)
			}
		}
	}
}

// check asks about requests at random and holds the answers against what was found.
func (s *survey) check(r *rand.Rand) {
	if len(s.incomplete) > 0 {
		return
	}
	for range s.cfg.Sample {
		at := make(point, len(s.all))
		for i := range s.all {
			at[i] = r.IntN(len(s.all[i].values))
		}
		var answers [2]*policy.Verdict
		var path string
		seed := r.Uint64()
		for i, p := range s.sides {
			in := s.input(at, p)
			for a := range s.all {
				if vary := s.all[a].values[at[a]].vary; vary != nil {
					vary(in, p.zone, seed)
				}
			}
			answers[i], path = s.answer(in, p), in.Resource.Path
		}
		want := s.changeOf(answers[0], answers[1])
		if got := s.found(at); got != want {
			s.incomplete = append(s.incomplete, fmt.Sprintf("app %s: a request taken at random (%s) is %s and was to be %s: the policies tell apart more than was seen",
				s.app.Name, s.describePoint(at, path), nameOf(want), nameOf(got)))
			return
		}
	}
}

func (s *survey) found(at point) review.Change {
	for _, key := range s.order {
		for _, b := range s.outcomes[key].boxes {
			if b.has(at) {
				return s.outcomes[key].change
			}
		}
	}
	return review.Unchanged
}

func nameOf(c review.Change) string {
	if c == review.Unchanged {
		return "unchanged"
	}
	return string(c)
}

func (s *survey) describePoint(at point, path string) string {
	return fmt.Sprintf("%s %s %s of %s", s.all[whoAxis].values[at[whoAxis]].label, s.all[methodAxis].values[at[methodAxis]].label, path, s.all[pathAxis].values[at[pathAxis]].label)
}
