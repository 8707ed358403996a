package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestRoutingIsFirstMatch holds what the shipped Rego looks up against the definition: the first rule whose methods and
// paths match decides.
func TestRoutingIsFirstMatch(t *testing.T) {
	r := random(t)
	for range rounds(400) {
		rules := randomRules(r)
		d := routingOf(rules)
		for _, path := range []string{"", "*", "/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/ab/", "/b/a", "//", "/a//b"} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "*", ""} {
				if got, want := d.find(path, method), firstMatch(rules, path, method); got != want {
					t.Fatalf("%s %q: got rule %d, want %d of %s\n%+v", method, path, got, want, describe(rules), d)
				}
			}
		}
	}
}

// find is what the shipped Rego does.
func (d *routingData) find(path, method string) int {
	p := d.Elsewhere
	for i := len(d.Below) - 1; i >= 0; i-- {
		if strings.HasPrefix(path, d.Below[i].Folder) {
			p = d.Below[i].Places
		}
	}
	if exact, ok := d.Exact[path]; ok {
		p = exact
	}
	if place, ok := p[method]; ok {
		return place
	}
	return p[otherMethods]
}

func firstMatch(rules []ruleData, path, method string) int {
	for i, r := range rules {
		byMethod := len(r.Methods) == 0 || r.Methods[method]
		byPath := r.Paths == nil || r.Paths.Exact[path]
		if r.Paths != nil {
			for _, folder := range r.Paths.Below {
				byPath = byPath || strings.HasPrefix(path, folder)
			}
		}
		if byMethod && byPath {
			return i
		}
	}
	return noRule
}

func randomRules(r *rand.Rand) []ruleData {
	rules := make([]ruleData, r.IntN(5))
	for i := range rules {
		rule := Rule{
			Methods: some(r, "GET", "POST"),
			Paths:   some(r, "/", "/a", "/a/", "/a/b", "/a/b/", "/ab/", "/a//b"),
		}
		rules[i] = rule.data(i)
	}
	return rules
}

func describe(rules []ruleData) string {
	var b strings.Builder
	for i, r := range rules {
		fmt.Fprintf(&b, "\n%d: %v %+v", i, maps.Collect(maps.All(r.Methods)), r.Paths)
	}
	return b.String()
}

// TestRoutingLooksAtNoMoreThanItMust: what no rule asks for is not looked at, so that answers can be remembered.
func TestRoutingLooksAtNoMoreThanItMust(t *testing.T) {
	public := Rule{ID: "all", Public: true}
	path, method := Rule{Paths: []string{"/a/"}}, Rule{Methods: []string{"GET"}}
	for want, access := range map[string]Access{
		"nothing": {public}, "path": {path, public}, "method": {method, public}, "both": {path, method},
	} {
		e := newEngine(t, Config{Memo: true}, []App{{Name: "wiki", Access: access}}, nil)
		fields, err := e.Dependencies(t.Context(), "wiki")
		if err != nil {
			t.Fatal(err)
		}
		reads := " " + strings.Join(fields, " ") + " "
		if byPath := strings.Contains(reads, " resource.path "); byPath != (want == "path" || want == "both") {
			t.Errorf("%s: reads%s", want, reads)
		}
		if d, err := e.appData("wiki"); err != nil || d.Routing.By != want { // the method every app looks at, for tokens
			t.Errorf("routing by %s, want %s (%v)", d.Routing.By, want, err)
		}
	}
}
