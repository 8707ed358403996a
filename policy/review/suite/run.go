package suite

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sallyport/policy"
	"sallyport/policy/review/regotest"
	"sallyport/policy/review/table"
)

// Options of a run.
type Options struct {
	Coverage bool          // tell which rules were tried; takes a few times as long
	Timeout  time.Duration // of each test in Rego; default 5 s
}

// Results are what came of a suite.
type Results struct {
	Tests    *regotest.Results
	Tables   *table.Results
	Coverage *Coverage // nil: nobody asked
}

// OK reports whether no test and no row failed.
func (r *Results) OK() bool { return r.Tests.OK() && r.Tables.OK() }

// Run runs the suite, until ctx ends. Tests that do not compile are policy.Problems.
func (s *Suite) Run(ctx context.Context, e *policy.Engine, o Options) (*Results, error) {
	var covered *cover.Cover
	var tracers []topdown.QueryTracer
	if o.Coverage {
		covered = cover.New()
		tracers = append(tracers, covered)
	}
	tests, err := regotest.Run(ctx, e, s.Tests, regotest.Options{Coverage: covered, Timeout: o.Timeout})
	if err != nil {
		return nil, err
	}
	rows, err := table.Run(ctx, e, s.Tables, s.Directory, tracers...)
	if err != nil {
		return nil, err
	}
	r := &Results{Tests: tests, Tables: rows}
	if o.Coverage {
		r.Coverage, err = s.coverage(e, rows, covered)
	}
	return r, err
}

// Problems are the failures, each with its place; nil if there are none.
func (r *Results) Problems() (problems policy.Problems) {
	for _, t := range r.Tests.Tests {
		if t.Outcome == regotest.Failed || t.Outcome == regotest.Broken {
			problems = append(problems, policy.Problem{File: t.File, Line: t.Line, Column: 1, Text: t.Name + ": " + t.Why})
		}
	}
	for _, c := range r.Tables.Failed() {
		problems = append(problems, policy.Problem{File: c.File, Line: c.Line, Column: 1, Text: c.String()})
	}
	return problems
}

// percent of all that are; 100 if there are none.
func percent(are, all int) float64 {
	if all == 0 {
		return 100
	}
	return 100 * float64(are) / float64(all)
}

// Summary is the run in one line.
func (r *Results) Summary() string {
	failed := len(r.Problems())
	text := fmt.Sprintf("%d tests in Rego and %d requests of tables: ", len(r.Tests.Tests), len(r.Tables.Cases))
	if failed == 0 {
		text += "all as expected"
	} else {
		text += fmt.Sprintf("%d failed", failed)
	}
	if n := r.Tests.Count(regotest.Skipped); n > 0 {
		text += fmt.Sprintf(", %d skipped", n)
	}
	return strings.TrimSpace(text)
}
