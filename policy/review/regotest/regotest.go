// Package regotest runs tests that are written in Rego, rules named test_…, beside the policy they test: with its data,
// and with the functions that policies may call and no others.
package regotest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sallyport/policy"
)

// Outcome is how a test ended.
type Outcome string

// The outcomes. A rule named todo_test_… is skipped.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Broken  Outcome = "error" // it could not be evaluated, or took too long
	Skipped Outcome = "skipped"
)

// Options of a run.
type Options struct {
	Coverage *cover.Cover  // hears what of the policy the tests reach; nil: nobody
	Timeout  time.Duration // of each test; default 5 s
}

// Test is one test that was run.
type Test struct {
	Package string        `json:"package"`
	Name    string        `json:"name"`
	File    string        `json:"file"`
	Line    int           `json:"line"`
	Outcome Outcome       `json:"outcome"`
	Why     string        `json:"why,omitempty"`     // what went wrong
	Printed string        `json:"printed,omitempty"` // by print()
	Took    time.Duration `json:"took_ns"`
}

// Results are all tests, by file and line.
type Results struct {
	Tests []Test `json:"tests"`
}

// Count is how many tests ended so.
func (r *Results) Count(o Outcome) (n int) {
	for i := range r.Tests {
		if r.Tests[i].Outcome == o {
			n++
		}
	}
	return n
}

// OK reports whether no test failed.
func (r *Results) OK() bool { return r.Count(Failed)+r.Count(Broken) == 0 }

// Run runs the tests in files, whose names are as people know them, until ctx ends. Tests that do not compile are
// policy.Problems.
func Run(ctx context.Context, e *policy.Engine, files []policy.Source, o Options) (*Results, error) {
	results := &Results{Tests: []Test{}}
	if len(files) == 0 {
		return results, nil
	}
	tests, err := e.Bundle().WithTests(files)
	if err != nil {
		return nil, err
	}
	store, txn := e.Store()
	runner := tester.NewRunner().
		SetCompiler(tests.Compiler).
		SetModules(tests.Modules).
		SetStore(store).
		AddCustomBuiltins(functions(tests.Builtins)).
		RaiseBuiltinErrors(true).
		CapturePrintOutput(true).
		SetCoverageRuns(nil)
	if o.Coverage != nil {
		runner.SetCoverageQueryTracer(o.Coverage)
	}
	if o.Timeout > 0 {
		runner.SetTimeout(o.Timeout)
	}
	ended, err := runner.RunTests(ctx, txn)
	if err != nil {
		return nil, tests.Explain(err)
	}
	for r := range ended {
		results.Tests = append(results.Tests, testOf(r))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("running the tests: %w", context.Cause(ctx))
	}
	slices.SortFunc(results.Tests, func(a, b Test) int {
		if a.File != b.File {
			return strings.Compare(a.File, b.File)
		}
		return a.Line - b.Line
	})
	return results, nil
}

// functions gives the runner those that OPA does not have.
func functions(builtins map[string]*topdown.Builtin) []*tester.Builtin {
	var list []*tester.Builtin
	for _, name := range slices.Sorted(maps.Keys(builtins)) {
		b := builtins[name]
		call := func(ctx rego.BuiltinContext, args []*ast.Term) (answer *ast.Term, err error) {
			err = b.Func(ctx, args, func(t *ast.Term) error {
				answer = t
				return nil
			})
			return answer, err
		}
		function := rego.FunctionDyn(&rego.Function{Name: name, Decl: b.Decl.Decl}, call)
		list = append(list, &tester.Builtin{Decl: b.Decl, Func: function})
	}
	return list
}

func testOf(r *tester.Result) Test {
	t := Test{Package: r.Package, Name: r.Name, Printed: string(r.Output), Took: r.Duration, Outcome: Passed}
	if r.Location != nil {
		t.File, t.Line = r.Location.File, r.Location.Row
	}
	switch {
	case r.Error != nil:
		t.Outcome, t.Why = Broken, r.Error.Error()
	case r.Skip:
		t.Outcome = Skipped
	case r.Fail:
		t.Outcome, t.Why = Failed, failedCases(r.SubResults)
	}
	return t
}

// failedCases names the failed ones of a test of several cases.
func failedCases(cases tester.SubResultMap) string {
	var names []string
	for path, c := range cases.Iter {
		if c.Fail && len(c.SubResults) == 0 {
			names = append(names, strings.Join(path, "/"))
		}
	}
	if names == nil {
		return "it is not true"
	}
	return "not true: " + strings.Join(names, ", ")
}
