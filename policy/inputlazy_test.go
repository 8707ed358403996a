package policy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// Policies that read field by field answer as if they were given the whole input at once. Each of the two leaves out every
// other field: one that reads all fields of a document is given the document.
func TestFieldsMadeWhenReadAreThoseOfTheInput(t *testing.T) {
	for odd := range 2 {
		var rules strings.Builder
		for f, path := range fieldPaths {
			if f%2 == odd {
				fmt.Fprintf(&rules, "read[%q] := input.%s\n\n", path, path)
			}
		}
		e := ownPolicy(t, rules.String()+`decision := {"allow": true, "labels": {"read": crypto.sha256(json.marshal(read))}}`)
		if !e.byField {
			t.Fatal("the policy is given the whole input")
		}
		sameWithWholeInput(t, e, "fields")
	}
}

func TestAccessRulesDecideAlikeOnWholeInputs(t *testing.T) {
	e := newEngine(t, Config{}, company(), nil)
	if !e.byField {
		t.Fatal("the shipped policy is given the whole input")
	}
	r := random(t)
	for range rounds(200) {
		if in := randomInput(r, "app-01", "app-02", "app-03", "app-04", "unknown"); !agrees(t, e, in) {
			t.Fatalf("another answer on a whole input: %s", in.AppendJSON(nil))
		}
	}
}

// Rules that take a document as a value, or iterate over it, are given the whole input. Giving them less is the mutant: it
// must not go unnoticed.
func TestDocumentsTakenAsAWholeAreWhole(t *testing.T) {
	for _, takes := range []string{
		`json.marshal(input)`,
		`json.marshal(input.context)`,
		`json.marshal(input.action)`,
		`concat(",", [k | some k, _ in input.resource])`,
		`object.get(input.resource, "path", "none")`,
		`concat(",", {input.action[k] | some k in ["name", "method"]})`,
		`concat(",", [k | some k; input[k]])`,
		`taken(input.resource)`,
		`json.marshal(input.context) with input.context as {"hour": 3}`,
		`input.resource.path with input as {"resource": input.resource}`,
	} {
		e := ownPolicy(t, "taken(r) := json.marshal(r)\n\ndecision := {\"allow\": true, \"labels\": {\"read\": read}} if read := "+takes)
		if e.byField {
			t.Errorf("%s: is given fields only", takes)
		}
		sameWithWholeInput(t, e, takes)
	}
	mutant := *ownPolicy(t, `decision := {"allow": true, "labels": {"read": json.marshal(input.context)}}`)
	mutant.byField = true
	if in := person("wiki", "staff"); agrees(t, &mutant, in) || mutant.evaluate(t.Context(), in, maxDeadline).Allow {
		t.Error("a policy that got hold of a document made field by field was not noticed")
	}
}

func sameWithWholeInput(t *testing.T, e *Engine, what string) {
	t.Helper()
	r := random(t)
	for range rounds(20) {
		if in := randomInput(r, "wiki"); !agrees(t, e, in) {
			t.Fatalf("%s: another answer on a whole input: %s", what, in.AppendJSON(nil))
		}
	}
}

// agrees reports whether an engine answers as it does on a whole input.
func agrees(t *testing.T, e *Engine, in *Input) bool {
	t.Helper()
	whole := *e
	whole.byField = false
	got, want := e.evaluate(t.Context(), in, maxDeadline), whole.evaluate(t.Context(), in, maxDeadline)
	return got.Reason == want.Reason && bytes.Equal(got.JSON, want.JSON) && fmt.Sprint(got.Err) == fmt.Sprint(want.Err)
}
