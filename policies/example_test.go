package policies_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/gateway/boot"
	"sallyport/policies"
	"sallyport/policy"
	"sallyport/policy/review/suite"
)

// exampleRego is the Rego of the worked example, which nobody's policy contains.
func exampleRego(t *testing.T) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("example/rego/*.rego")
	if err != nil || len(names) == 0 {
		t.Fatal("the example has no Rego", err)
	}
	files := make(map[string][]byte, len(names))
	for _, name := range names {
		if files[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestExample: tests and tables of the worked example hold, and try each of its rules.
func TestExample(t *testing.T) {
	config, bundle, err := boot.ReviewPolicy("example/sallyport.yaml", "")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.Compile(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	s, err := suite.Find(config.Policy.Bundle, "example")
	if err != nil {
		t.Fatal(err)
	}
	results, err := s.Run(t.Context(), engine, suite.Options{Coverage: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(results.Summary())
	if !results.OK() {
		t.Error(results.Problems())
	}
	for _, rule := range results.Coverage.Missed() {
		t.Errorf("nothing tries %s", rule.String())
	}
	if len(results.Tests.Tests) == 0 || len(results.Tables.Cases) == 0 {
		t.Error("the example has no tests, or no tables")
	}
}

func TestExampleIsNotShipped(t *testing.T) {
	for name := range policies.Modules() {
		if strings.Contains(name, "example") {
			t.Errorf("%s is part of every policy", name)
		}
	}
}
