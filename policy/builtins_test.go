package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// TestEveryBuiltinIsDecidedOn fails when an OPA upgrade brings a function nobody has thought about.
func TestEveryBuiltinIsDecidedOn(t *testing.T) {
	listed := make(map[string]string)
	note := func(name, where string) {
		if other := listed[name]; other != "" {
			t.Errorf("%s is listed twice: %s, %s", name, other, where)
		}
		listed[name] = where
	}
	for _, name := range allowed {
		note(name, "allowed")
	}
	for why, names := range denied {
		for _, name := range names {
			note(name, why)
		}
	}
	for _, b := range ast.Builtins {
		if listed[b.Name] == "" {
			t.Errorf("%s is neither allowed nor denied", b.Name)
		}
		if b.Nondeterministic && listed[b.Name] == "allowed" {
			t.Errorf("%s is allowed although OPA calls it not deterministic", b.Name)
		}
		delete(listed, b.Name)
	}
	for name := range listed {
		t.Errorf("%s is listed but unknown to OPA", name)
	}
}

func TestDeniedBuiltinsDoNotCompile(t *testing.T) {
	for why, names := range denied {
		for _, name := range names {
			args := make([]string, ast.BuiltinMap[name].Decl.Arity())
			for i := range args {
				args[i] = "input.x"
			}
			folder := writeFolder(t, map[string]string{"wiki.rego": "package sallyport.app[\"wiki\"]\n\ndecision := {\"allow\": true} if " + name + "(" + strings.Join(args, ", ") + ")"})
			_, err := Build(Config{Bundle: folder}, []App{{Name: "wiki"}})
			if err == nil || !strings.Contains(err.Error(), "wiki.rego:3:32: undefined function "+name+": it "+why) {
				t.Errorf("%s, which %s: got %v", name, why, err)
			}
		}
	}
}

func TestAllowedBuiltinsExist(t *testing.T) {
	caps, err := capabilities(allowed)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range caps.Builtins {
		if b.Nondeterministic {
			t.Errorf("%s is not deterministic", b.Name)
		}
	}
	if caps.AllowNet == nil || len(caps.AllowNet) > 0 {
		t.Error("hosts can be reached")
	}
	if _, err := capabilities([]string{"http.send"}); err == nil {
		t.Error("an archive could grant itself http.send")
	}
	for name := range guards {
		if topdown.GetBuiltin(name) == nil || !slices.Contains(allowed, name) {
			t.Errorf("the guard for %s guards nothing", name)
		}
	}
}

func TestGuardedBuiltinsWork(t *testing.T) {
	for expression, reason := range map[string]string{
		`time.weekday(input.context.time_ns) == "Monday"`:                    ReasonAllow,
		`time.weekday([input.context.time_ns, "Europe/Berlin"]) == "Monday"`: ReasonAllow,
		`time.weekday([input.context.time_ns, "local"]) == "Monday"`:         ReasonError,
		`time.weekday([input.context.time_ns, "Mars/Olympus"]) == "Monday"`:  ReasonError,
		`time.clock([input.context.time_ns, "Asia/Kolkata"]) == [15, 0, 0]`:  ReasonAllow,
		`time.clock([input.context.time_ns, input.resource.owner])[0] > 0`:   ReasonError,
		`time.date([input.context.time_ns, "Local"])[0] == 2026`:             ReasonError,
		`time.diff([input.context.time_ns, "Local"], 0)[0] > 0`:              ReasonError,
		`time.diff(0, [input.context.time_ns, "Local"])[0] > 0`:              ReasonError,
		`time.format([input.context.time_ns, "Local", "2006"]) == "2026"`:    ReasonError,
		`time.format([input.context.time_ns, "UTC", "2006"]) == "2026"`:      ReasonAllow,
		`time.parse_ns("2006-01-02 MST", "2026-01-01 CET") > 0`:              ReasonError,
		`time.parse_ns("2006-01-02", "2026-01-01") > 0`:                      ReasonAllow,
		`time.add_date(input.context.time_ns, 0, 0, 1) > 0`:                  ReasonAllow,
		`regex.replace("abc", "b", "x") == "axc"`:                            ReasonAllow,
		`glob.match("/a/*", ["/"], input.resource.path)`:                     ReasonAllow,
		`[x | some x in ["a", "b"]; regex.match("^a", x)] == ["a"]`:          ReasonAllow,
		`{"allow": regex.match("^/a/", input.resource.path)}.allow`:          ReasonAllow,
		`count(print_free) == 1`:                                             ReasonAllow,
	} {
		in := person("wiki")
		in.Resource.Owner = "Local"
		wantVerdict(t, withRegexes(t, "decision := {\"allow\": true} if "+expression).Decide(t.Context(), in), reason, "")
	}
}

// withRegexes has a package whose name looks like a built-in function's.
func withRegexes(t *testing.T, rules string) *Engine {
	t.Helper()
	return newEngine(t, Config{}, []App{{Name: "wiki"}}, map[string]string{
		"regexes.rego": "package regexes.regex\n\nmatch := \"mine\"",
		"wiki.rego":    "package sallyport.app[\"wiki\"]\n\nimport data.regexes.regex as mine\n\nprint_free contains x if {\n\tx := mine.match\n\tprint(x)\n}\n\n" + rules,
	})
}
