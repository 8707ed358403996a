package policy

import (
	"context"
	"slices"
	"testing"
)

// TestConstantsBelongToWhatTheyAreComparedWith follows texts to the places under input that they may be compared with, and
// to no others.
func TestConstantsBelongToWhatTheyAreComparedWith(t *testing.T) {
	t.Parallel()
	const path, method = "resource.path", "action.method"
	for _, c := range []struct {
		name, rules string
		path, not   []string // texts that count for the path, and that do not
	}{
		{"equation", `decision := {"allow": true, "reasons": [{"code": "c", "rule": "r"}]} if {
			input.resource.path == "/a"
			input.action.method == "GET"
		}`, []string{"/a"}, []string{"GET", "allow", "code", "c", "r"}},
		{"variable", `decision := {"allow": true} if {
			p := input.resource.path
			q := lower(p)
			q == "/a"
			input.subject.type == "user"
		}`, []string{"/a"}, []string{"user"}},
		{"helper rule", `paths := {"/a", "/b"}
			here := input.resource.path
			decision := {"allow": true} if { here in paths; input.subject.type == "user" }`, []string{"/a", "/b"}, []string{"user"}},
		{"function", `below(p, folder) if startswith(p, folder)
			verb(m) if m == "PURGE"
			decision := {"allow": true} if { below(input.resource.path, "/a/"); verb(input.action.method) }`, []string{"/a/"}, []string{"PURGE"}},
		{"function with a value", `kind(p) := "low" if startswith(p, "/a")
			else := "high"
			decision := {"allow": true} if { kind(input.resource.path) == "low"; input.subject.type == "user" }`, []string{"/a"}, []string{"user"}},
		{"object", `table := {"/a": {"GET": true}, "/b": {}}
			decision := {"allow": true} if { table[input.resource.path][input.action.method]; input.subject.type == "user" }`, []string{"/a", "/b", "GET"}, []string{"user"}},
		{"name of a rule", `checks.here if true
			checks["there"] if input.subject.type == "user"
			decision := {"allow": true} if checks[input.resource.path]`, []string{"here", "there"}, []string{"user"}},
		{"partial set", `open contains "/a"
			open contains p if { some n in ["b", "c"]; p := concat("/", ["", n]) }
			decision := {"allow": true} if { input.resource.path in open; input.subject.type == "user" }`, []string{"/a", "b", "c"}, []string{"user"}},
		{"comprehension", `decision := {"allow": true} if {
			some p in {q | some n in ["a", "b"]; q := sprintf("/%s/x", [n])}
			startswith(input.resource.path, p)
			input.subject.type == "user"
		}`, []string{"a", "b", "/%s/x"}, []string{"user"}},
		{"every", `decision := {"allow": true} if {
			every p in ["/a", "/b"] { not startswith(input.resource.path, p) }
			input.subject.type == "user"
		}`, []string{"/a", "/b"}, []string{"user"}},
		{"split", `decision := {"allow": true} if {
			[_, first, _] = split(input.resource.path, "/")
			first in {"a", "b"}
			input.subject.type == "user"
		}`, []string{"a", "b"}, []string{"user"}},
		{"by way of another place", `decision := {"allow": true} if {
			input.resource.query == input.resource.path
			input.resource.query == "/a"
			input.subject.type == "user"
		}`, []string{"/a"}, []string{"user"}},
		{"object.get", `decision := {"allow": true} if {
			object.get(input.resource, "path", "/b") == "/a"
			object.get(input, ["subject", "type"], "") == "user"
		}`, []string{"/a", "/b"}, []string{"user"}},
		{"else", `decision := {"allow": true} if input.resource.path == "/a"
			else := {"allow": true} if { input.resource.path == "/b"; input.subject.type == "user" }`, []string{"/a", "/b"}, []string{"user"}},
		{"text in a template", `decision := {"allow": true} if {
			some n in ["a", "b"]
			input.resource.path == $"/{n}"
			input.subject.type == "user"
		}`, []string{"a", "b"}, nil},
		{"whole parent", `decision := {"allow": true} if {
			r := input.resource
			r.path == "/a"
			input.subject.type == "user"
		}`, []string{"/a"}, []string{"user"}},
		{"data", `decision := {"allow": true} if {
			input.resource.path in data.sallyport.config.apps[input.resource.id].labels
			input.subject.type == "user"
		}`, nil, []string{"user"}},
		{"mocks", `decision := {"allow": true} if { inner with input.resource.path as "/a" }
			inner if input.subject.type == "user"`, []string{"/a", "user"}, nil},
	} {
		got := constantsOf(t, c.rules)
		for _, text := range c.path {
			if !slices.Contains(got.At(path).Strings, text) {
				t.Errorf("%s: %q does not count for the path: %q", c.name, text, got.At(path).Strings)
			}
			if !slices.ContainsFunc(got.Apart(path), func(one *Constants) bool { return slices.Contains(one.Strings, text) }) {
				t.Errorf("%s: %q is nowhere apart", c.name, text)
			}
		}
		for _, text := range c.not {
			if slices.Contains(got.At(path).Strings, text) {
				t.Errorf("%s: %q counts for the path: %q", c.name, text, got.At(path).Strings)
			}
		}
	}
	if got := constantsOf(t, `decision := {"allow": true} if object.get(input.subject, ["cert", "issuer"], "") == "x"`); !slices.Equal(got.Reads, []string{"subject.cert.issuer"}) {
		t.Errorf("object.get reads %q", got.Reads)
	}
	if got := constantsOf(t, `decision := {"allow": true} if { startswith(input.resource.path, "/a"); lower(input.action.method) == "get" }`); !slices.Equal(got.At(method).Calls, []string{"equal", "lower"}) &&
		!slices.Equal(got.At(method).Calls, []string{"eq", "lower"}) {
		t.Errorf("functions that look at the method: %q", got.At(method).Calls)
	}
}

func constantsOf(t *testing.T, rules string) *Constants {
	t.Helper()
	e := ownPolicy(t, rules)
	c, err := e.Constants(context.Background(), "wiki")
	if err != nil {
		t.Fatal(err)
	}
	return c
}
