package matrix

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// fault is something that the comparison could get wrong.
type fault struct {
	name string
	wrap func(s *survey) // before anything is asked
	done func(s *survey) // after all is found
}

func blind(axisName string) func(*survey) {
	return func(s *survey) {
		for i := range s.all {
			if s.all[i].name == axisName {
				s.all[i].class = func(int, view) string { return "" }
			}
		}
	}
}

// without drops values from the axes of methods and paths.
func without(drop func(label string) bool) func(*survey) {
	return func(s *survey) {
		s.methods = slices.DeleteFunc(s.methods, func(m method) bool { return drop(m.label) })
		s.paths = slices.DeleteFunc(s.paths, func(p pattern) bool { return drop(p.glob) })
		for _, a := range []int{methodAxis, pathAxis} {
			s.all[a].values = slices.DeleteFunc(s.all[a].values, func(v value) bool { return drop(v.label) })
		}
	}
}

var faults = []fault{
	{name: "hours are not told apart", wrap: blind(timeName)},
	{name: "addresses are not told apart", wrap: blind(networkName)},
	{name: "a second factor is not told apart", wrap: blind(mfaName)},
	{name: "assurances are not told apart", wrap: blind(acrName)},
	{name: "ages are not told apart", wrap: blind(ageName)},
	{name: "paths below a folder are forgotten", wrap: without(func(l string) bool { return strings.HasSuffix(l, "/*") && l != "/*" })},
	{name: "HEAD is taken for any other method", wrap: without(func(l string) bool { return l == "HEAD" })},
	{name: "everybody is in the first person's groups", wrap: func(s *survey) {
		for i := range s.people[1:] {
			s.people[1+i].subject.Groups = s.people[1].subject.Groups
		}
	}},
	{name: "the last rule that matches is taken for the deciding one", wrap: func(s *survey) { slices.Reverse(s.sides[1].rules) }},
	{name: "labels are those of the old policy", wrap: func(s *survey) {
		if s.app.In[0] {
			s.sides[1].facts = s.sides[0].facts
		}
	}},
	{name: "circumstances are lost from findings", done: func(s *survey) {
		for i := range s.findings {
			s.findings[i].When = When{}
		}
	}},
	{name: "strangers are forgotten", done: func(s *survey) {
		for i := range s.findings {
			f := &s.findings[i]
			f.People = slices.Clone(f.People)
			if f.People[0].Name == Stranger {
				f.People = f.People[1:]
			}
		}
	}},
}

// runWith is Run with a fault in it, and without the sample that would notice.
func runWith(ctx context.Context, t *testing.T, cfg Config, f *fault) *Result {
	t.Helper()
	cfg.Budget = defaultBudget
	names := slices.Concat(cfg.From.Apps(), cfg.To.Apps())
	slices.Sort(names)
	r := new(Result)
	for _, name := range slices.Compact(names) {
		s, err := newSurvey(ctx, &cfg, name)
		if err != nil {
			t.Fatal(err)
		}
		if !s.app.Same {
			s.axes()
			if f.wrap != nil {
				f.wrap(s)
			}
			if err := s.ask(); err != nil {
				t.Fatal(err)
			}
			s.collect()
			if f.done != nil {
				f.done(s)
			}
		}
		r.Apps = append(r.Apps, s.app)
		r.Findings = append(r.Findings, s.findings...)
	}
	return r
}

// TestFaultsAreCaught seeds faults into the comparison: holding it against requests at random must catch each.
func TestFaultsAreCaught(t *testing.T) {
	t.Parallel()
	const seed, most = 7, 60
	left := slices.Clone(faults)
	left = append(left, fault{name: "an app with changed rules is taken for unchanged"})
	for round := 0; round < most && len(left) > 0; round++ {
		e := randomEdit(t, rand.New(rand.NewPCG(seed, uint64(round))), 400)
		cfg := Config{From: e.engines[0], To: e.engines[1], People: e.people, Now: testNow}
		left = slices.DeleteFunc(left, func(f fault) bool {
			r := runWith(t.Context(), t, cfg, &f)
			if f.wrap == nil && f.done == nil {
				for i := range r.Apps {
					r.Apps[i].Same = true
				}
			}
			n := e.tally(t, r, false)
			return n.missed > 0 || n.wrong > n.claimed/50
		})
	}
	for _, f := range left {
		t.Errorf("not caught: %s", f.name)
	}
}

// TestTheSampleNotices: what the enumeration overlooks makes the result incomplete rather than wrong.
func TestTheSampleNotices(t *testing.T) {
	const seed, most = 11, 40
	for round := range most {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		e := randomEdit(t, r, 0)
		for _, name := range e.engines[1].Apps() {
			s, err := newSurvey(t.Context(), &Config{From: e.engines[0], To: e.engines[1], People: e.people, Now: testNow, Budget: defaultBudget, Sample: 500}, name)
			if err != nil {
				t.Fatal(err)
			}
			if s.app.Same {
				continue
			}
			s.axes()
			blind(timeName)(s)
			if err := s.ask(); err != nil {
				t.Fatal(err)
			}
			s.collect()
			if s.check(r); len(s.incomplete) > 0 {
				return
			}
		}
	}
	t.Error("a comparison that cannot tell the time was called complete")
}
