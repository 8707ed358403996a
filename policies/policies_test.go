package policies_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/tester"

	"sallyport/policies"
)

// leastCoverage is the share of lines, in percent, that the Rego tests reach.
const leastCoverage = 100

func TestRego(t *testing.T) {
	modules := parse(t, maps.Collect(policies.Modules()))
	all := maps.Clone(modules)
	maps.Copy(all, parse(t, maps.Collect(policies.Tests())))
	coverage := cover.New()
	results, err := tester.NewRunner().
		SetModules(all).
		RaiseBuiltinErrors(true).
		SetCoverageQueryTracer(coverage).
		CapturePrintOutput(true).
		RunTests(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for r := range results {
		n++
		if !r.Pass() {
			t.Errorf("%v %s", r, r.Output)
		}
	}
	report := coverage.Report(modules)
	t.Logf("%d Rego tests cover %.1f %% of the shipped policy", n, report.Coverage)
	if n == 0 || report.Coverage < leastCoverage {
		for _, name := range slices.Sorted(maps.Keys(report.Files)) {
			t.Logf("%s: not covered: %v", name, report.Files[name].NotCovered)
		}
		t.Errorf("coverage %.1f %%, want %d %%", report.Coverage, leastCoverage)
	}
}

func TestRegoIsFormatted(t *testing.T) {
	files := maps.Collect(policies.Modules())
	maps.Copy(files, maps.Collect(policies.Tests()))
	maps.Copy(files, exampleRego(t))
	for name, content := range files {
		formatted, err := format.SourceWithOpts(name, content, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(formatted, content) {
			t.Errorf("%s is not formatted as opa fmt would; it would read\n%s", name, formatted)
		}
	}
}

// TestRegoIsStrict compiles the shipped modules as opa check --strict does.
func TestRegoIsStrict(t *testing.T) {
	c := ast.NewCompiler().WithStrict(true)
	c.Compile(parse(t, maps.Collect(policies.Modules())))
	if c.Failed() {
		t.Error(c.Errors)
	}
}

func parse(t *testing.T, files map[string][]byte) map[string]*ast.Module {
	t.Helper()
	modules := make(map[string]*ast.Module, len(files))
	for name, content := range files {
		m, err := ast.ParseModuleWithOpts(name, string(content), ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
		if err != nil {
			t.Fatal(err)
		}
		modules[name] = m
	}
	return modules
}
