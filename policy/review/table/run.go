package table

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/topdown"

	"sallyport/policy"
	"sallyport/policy/review/directory"
)

// Results are what came of the rows.
type Results struct {
	Cases []Case `json:"cases"`
}

// Failed are the cases that were answered otherwise than expected, or could not be tried.
func (r *Results) Failed() (failed []Case) {
	for _, c := range r.Cases {
		if !c.Pass {
			failed = append(failed, c)
		}
	}
	return failed
}

// OK reports whether all rows hold.
func (r *Results) OK() bool {
	return !slices.ContainsFunc(r.Cases, func(c Case) bool { return !c.Pass })
}

// Case is one request of a row and its answer.
type Case struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Name string `json:"name"`

	Who    string `json:"who,omitempty"`
	MadeUp bool   `json:"made_up,omitempty"` // they are not in the directory
	App    string `json:"app,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	When   string `json:"when,omitempty"` // RFC 3339, in the policy's time zone
	From   string `json:"from,omitempty"` // the address

	Pass    bool     `json:"pass"`
	Want    Answer   `json:"want"`
	WantWhy []string `json:"want_why,omitempty"`
	Got     Answer   `json:"got,omitempty"`
	Why     []string `json:"why,omitempty"`     // codes and rules of its reasons
	Reason  string   `json:"reason,omitempty"`  // in words
	Problem string   `json:"problem,omitempty"` // why the row could not be tried

	With    With            `json:"-"`
	Input   *policy.Input   `json:"-"`
	Verdict *policy.Verdict `json:"-"`
}

// Run tries all rows of the tables on the people of the directory, which may be nil, until ctx ends. Rows that cannot be
// tried fail. Tracers hear of every step of the evaluations.
func Run(ctx context.Context, e *policy.Engine, tables []*Table, d *directory.Directory, tracers ...topdown.QueryTracer) (*Results, error) {
	f, err := factsOf(e.Bundle())
	if err != nil {
		return nil, err
	}
	if d == nil {
		d = new(directory.Directory)
	}
	t := &trial{engine: e, facts: f, directory: d, tracers: tracers}
	results := &Results{Cases: []Case{}}
	for _, table := range tables {
		for i := range table.Cases {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("trying the tables: %w", context.Cause(ctx))
			}
			results.Cases = append(results.Cases, t.try(ctx, &table.Cases[i])...)
		}
	}
	return results, nil
}

// trial is one run.
type trial struct {
	engine    *policy.Engine
	facts     *facts
	directory *directory.Directory
	tracers   []topdown.QueryTracer
}

// mostRequests bounds what one row can ask.
const mostRequests = 100_000

// try asks all that a row asks.
func (t *trial) try(ctx context.Context, r *Row) []Case {
	people, err := r.people(t.directory)
	if err != nil {
		return []Case{r.untried(err)}
	}
	places, err := r.places(t.directory)
	if err != nil {
		return []Case{r.untried(err)}
	}
	if n := len(people) * len(places) * len(r.App) * len(r.Method) * len(r.Path) * len(r.When); n > mostRequests {
		return []Case{r.untried(fmt.Errorf("it makes %d requests; %d are enough for one row", n, mostRequests))}
	}
	var cases []Case
	for a := range r.requests(people, places) {
		in, err := t.facts.input(a, r.With)
		if err != nil {
			cases = append(cases, r.untried(err))
			continue
		}
		cases = append(cases, r.judge(a, in, t.engine.Trace(ctx, in, t.tracers...)))
	}
	return cases
}

// untried is the case of a row that cannot be tried.
func (r *Row) untried(err error) Case {
	return Case{File: r.At.File, Line: r.At.Line, Name: r.Name, Want: r.Expect, Problem: err.Error()}
}

func (r *Row) judge(a asked, in *policy.Input, v *policy.Verdict) Case {
	c := Case{
		File: r.At.File, Line: r.At.Line, Name: r.Name,
		Who: a.who(), MadeUp: a.madeUp(), App: a.app, Method: a.method, Path: a.path, When: in.Context.Time, From: in.Context.Client.IP,
		Want: r.Expect, WantWhy: r.Why, Got: AnswerOf(v), Why: whyOf(v), Reason: inWords(v),
		With: r.With, Input: in, Verdict: v,
	}
	c.Pass = c.Got == c.Want && !slices.ContainsFunc(r.Why, func(why string) bool { return !slices.Contains(c.Why, why) })
	return c
}

// whyOf are the codes and rules that the verdict states.
func whyOf(v *policy.Verdict) []string {
	words := []string{v.Reason}
	for _, r := range v.Decision.Reasons {
		words = append(words, r.Code, r.Rule)
	}
	slices.Sort(words)
	words = slices.Compact(words)
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// inWords is why, for whoever runs the app.
func inWords(v *policy.Verdict) string {
	var sentences []string
	for _, r := range v.Decision.Reasons {
		switch {
		case r.Admin != "":
			sentences = append(sentences, r.Admin)
		case r.User != "":
			sentences = append(sentences, r.User)
		}
	}
	return strings.Join(sentences, "; ")
}

// DecidedBy reports whether the answer names that rule.
func (c *Case) DecidedBy(rule string) bool {
	return c.Verdict != nil && slices.ContainsFunc(c.Verdict.Decision.Reasons, func(r policy.Reason) bool { return r.Rule == rule })
}

// Asked is the request in words.
func (c *Case) Asked() string {
	return fmt.Sprintf("%s %s %s%s, %s from %s", c.Who, c.Method, c.App, c.Path, c.When, c.From)
}

// String says what was asked, what was expected, and what came.
func (c *Case) String() string {
	if c.Problem != "" {
		return strings.TrimPrefix(c.Name+": ", ": ") + c.Problem
	}
	text := fmt.Sprintf("%s: want %s, got %s", c.Asked(), said(c.Want, c.WantWhy), said(c.Got, slices.DeleteFunc(slices.Clone(c.Why), func(w string) bool { return w == string(c.Got) })))
	if c.Name != "" {
		text = c.Name + ": " + text
	}
	if c.Reason != "" {
		text += " (" + c.Reason + ")"
	}
	return text
}

func said(a Answer, why []string) string {
	if len(why) == 0 {
		return string(a)
	}
	return string(a) + " by " + strings.Join(why, ", ")
}
