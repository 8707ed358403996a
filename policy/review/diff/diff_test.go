package diff

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/matrix"
	"sallyport/policy/review/replay"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func engine(t *testing.T, apps ...policy.App) *policy.Engine {
	t.Helper()
	b, err := policy.Build(policy.Config{}, apps)
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func company() *directory.Directory {
	return &directory.Directory{People: []directory.Person{
		{ID: "corp|1", Name: "Ada", Type: "user", Groups: []string{"staff"}, MFA: true},
		{ID: "corp|2", Name: "Dora", Type: "user", Groups: []string{"finance", "staff"}},
		{ID: "corp|3", Name: "Lou", Type: "user", Groups: []string{"contractors"}},
	}}
}

// policies are two that differ in folders, methods, a second factor and an app.
func policies(t *testing.T) (from, to *policy.Engine) {
	wiki := policy.App{Name: "wiki", Sensitivity: "low", Labels: map[string]string{"tier": "one"}, Access: policy.Access{
		{Paths: []string{"/handbook/"}, Methods: []string{"GET"}, Groups: []string{"staff", "contractors"}},
		{Groups: []string{"staff"}},
	}}
	payroll := policy.App{Name: "payroll", Sensitivity: "high", Access: policy.Access{{Groups: []string{"finance"}, MFA: true}}}
	from = engine(t, wiki, payroll, policy.App{Name: "old", Access: policy.Access{{Public: true}}})
	wiki.Access = policy.Access{{Paths: []string{"/handbook/"}, Groups: []string{"staff"}}, {Methods: []string{"GET"}, Groups: []string{"staff", "contractors"}}}
	payroll.Access = policy.Access{{Groups: []string{"finance"}}}
	return from, engine(t, wiki, payroll, policy.App{Name: "new", Access: policy.Access{{Groups: []string{"contractors"}}}})
}

func report(t *testing.T) *Report {
	t.Helper()
	from, to := policies(t)
	d := company()
	m, err := matrix.Run(t.Context(), matrix.Config{From: from, To: to, People: d.People, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	r := New(Policy{Name: "a"}, Policy{Name: "b"})
	r.AddMatrix(m, d, "directory.yaml", "UTC")
	return r
}

// TestJSONTellsEveryRequest reads a report as a program would, from its JSON, and holds it against asking both policies
// about everybody as they usually sign in.
func TestJSONTellsEveryRequest(t *testing.T) {
	r := report(t)
	r.Finish()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var read Report
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if !read.Complete {
		t.Fatalf("incomplete: %v", read.Incomplete)
	}
	from, to := policies(t)
	people := company().People
	for _, app := range []string{"wiki", "payroll", "old", "new"} {
		for i := -1; i < len(people); i++ {
			for _, method := range []string{"GET", "HEAD", "POST", "PURGE"} {
				for _, path := range []string{"/", "/handbook", "/handbook/", "/handbook/x", "/handbooks"} {
					want := review.Unchanged
					a, b := ask(t, from, app, people, i, method, path), ask(t, to, app, people, i, method, path)
					if a != b {
						want = map[bool]review.Change{true: review.Gained, false: review.Revoked}[b == policy.ReasonAllow]
					}
					if a == policy.ReasonStepUp && want == review.Gained {
						want = review.StepUpRemoved
					}
					if got := read.told(app, people, i, method, path); got != want {
						t.Errorf("%s %d %s %s: got %q, want %q (%s, %s)", app, i, method, path, got, want, a, b)
					}
				}
			}
		}
	}
}

func ask(t *testing.T, e *policy.Engine, app string, people []directory.Person, i int, method, path string) string {
	if !slices.Contains(e.Apps(), app) {
		return "no"
	}
	in := &policy.Input{
		Subject:  policy.Subject{Type: policy.TypeAnonymous},
		Action:   policy.Action{Name: policy.ActionName(method, ""), Method: method},
		Resource: policy.Resource{Type: policy.TypeApp, ID: app, Path: path, Segments: strings.FieldsFunc(path, func(r rune) bool { return r == '/' })},
	}
	if i >= 0 {
		in.Subject = people[i].Subject(now)
	}
	in.Context.SetTime(now, time.UTC)
	v := e.Trace(t.Context(), in)
	if v.Allow || v.Reason == policy.ReasonStepUp {
		return v.Reason
	}
	return "no"
}

// told is what the report says of somebody's request, made as they usually sign in; every change that gives or takes.
func (r *Report) told(app string, people []directory.Person, i int, method, path string) review.Change {
	who := matrix.Stranger
	if i >= 0 {
		who = people[i].Name
	}
	a := &r.Apps[slices.IndexFunc(r.Apps, func(a App) bool { return a.Name == app })]
	for _, f := range r.Findings {
		if f.App == app && f.Change != review.ReasonOnly && slices.Contains(f.Usual, who) &&
			(f.Methods == nil || slices.Contains(f.Methods, a.Method(method))) && (f.Paths == nil || slices.Contains(f.Paths, a.Path(path))) {
			return f.Change
		}
	}
	return review.Unchanged
}

// TestReplayedRequestsAreCounted: what the matrix tells already is counted there, what it does not is a finding.
func TestReplayedRequestsAreCounted(t *testing.T) {
	r := report(t)
	from, to := policies(t)
	in := &policy.Input{Subject: company().People[2].Subject(now), Action: policy.Action{Name: "read", Method: "GET"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: "wiki", Path: "/home", Segments: []string{"home"}}}
	in.Context.SetTime(now, time.UTC)
	seen := review.Difference{Change: review.Gained, Input: in, From: from.Trace(t.Context(), in), To: to.Trace(t.Context(), in),
		People: []review.Person{{ID: "corp|3"}}, Requests: 7, Last: now, Records: []string{"r-1"}}
	unknown := seen
	unknown.People = []review.Person{{ID: "corp|99"}}
	before := len(r.Findings)
	r.AddReplay(&replay.Result{Differences: []review.Difference{seen, unknown}}, "the log", company())
	r.Finish()
	if len(r.Findings) != before+1 {
		t.Fatalf("got %d findings, want one more than %d", len(r.Findings), before)
	}
	counted := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Source == FromMatrix && f.Requests == 7 && f.LastUse.Equal(now) })
	if counted < 0 || r.Totals[review.Gained].Requests != 14 {
		t.Errorf("got finding %d and totals %+v, want the requests counted", counted, r.Totals)
	}
}

func TestConditions(t *testing.T) {
	r := report(t)
	r.Finish()
	for text, want := range map[string]bool{
		`step_up_removed && resource.sensitivity == "high"`: true,
		`gained && resource.sensitivity == "high"`:          false,
		`revoked && anonymous`:                              true,
		`gained && "Lou" in people && app == "new"`:         true,
		`"finance" in groups && to.allow`:                   true,
		`requests > 0`:                                      false,
	} {
		c, err := Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		met, err := c.Met(r)
		if err != nil || len(met) > 0 != want {
			t.Errorf("%s: got %d findings (%v), want any %v", text, len(met), err, want)
		}
	}
	for _, text := range []string{"gaind", "app", "gained &&"} {
		if _, err := Compile(text); err == nil {
			t.Errorf("%s: compiled", text)
		}
	}
}
