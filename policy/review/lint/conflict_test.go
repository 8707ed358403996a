package lint

import (
	"fmt"
	"slices"
	"testing"
)

// Two decisions conflict when one request meets the conditions of both, and not when their conditions merely look
// unrelated.
func TestConflicts(t *testing.T) {
	const stranger = `input.subject.type == "anonymous"`
	for _, test := range []struct {
		one, other string
		conflict   bool
	}{
		{stranger, `"staff" in input.subject.groups`, false},
		{stranger, `"staff" in input.subject.groups; input.resource.segments[0] == "admin"`, false},
		{stranger, `"staff" in input.subject.groups; net.cidr_contains("10.0.0.0/8", input.context.client.ip)`, false},
		{stranger, `input.subject.email_verified; endswith(input.subject.email, "@corp.example")`, false},
		{stranger, `input.subject.authn.mfa`, false},
		{stranger, `input.subject.authn.age_s < 3600; input.action.name == "read"`, false},
		{stranger, `input.subject.claims.department == "finance"`, false},
		{stranger, `input.subject.device.compliant`, false},
		{stranger, `some g in input.subject.groups; g in {"staff", "finance"}`, false},
		{stranger, `who := input.subject; "staff" in who.groups`, false},
		{stranger, `input.subject.id == "ci|deployer"`, false},
		{stranger, `input.subject.type != "anonymous"; input.action.name == "read"`, false},
		{stranger, `startswith(input.resource.path, "/old/")`, true},
		{stranger, stranger + `; input.action.method == "POST"`, true},
		{`"staff" in input.subject.groups`, `"finance" in input.subject.groups`, true},
		{`"staff" in input.subject.groups`, `"finance" in input.subject.groups; not "staff" in input.subject.groups`, false},
		{`"staff" in input.subject.groups`, `some g in input.subject.groups; g == "finance"`, false},
		{`"staff" in input.subject.groups; input.action.name == "read"`, `"staff" in input.subject.groups; input.action.name == "write"`, false},
		{`"staff" in input.subject.groups; input.context.hour > 20`, `"staff" in input.subject.groups; input.resource.path == "/old/"`, true},
		{`m := input.action.method; m in {"GET"}; input.context.hour > 20`, `m := input.action.method; m in {"POST"}; input.resource.path == "/"`, false},
		{`input.action.name == "read"`, `input.action.method == "POST"`, false},
		{`input.context.hour > 20`, `input.context.time_ns < 1`, false},
		{`input.context.hour > 20`, `input.context.weekday == "sun"`, true},
		{`input.context.hour > 20`, `input.resource.id == "wiki"`, false},
		{`input.context.hour > 20`, `input.resource.labels.team == "x"`, false},
		{`input.resource.path == "/a"`, `input.resource.segments[0] == "b"`, false},
	} {
		rego := fmt.Sprintf("package sallyport.app[\"payroll\"]\n\ndefault decision := {\"allow\": false}\n\n"+
			"decision := {\"allow\": false, \"reasons\": []} if { %s }\n\ndecision := {\"allow\": true} if { %s }\n", test.one, test.other)
		found := Check(t.Context(), subject(t, rego, exampleApps)).Findings
		if slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == "conflicting-decisions" }) != test.conflict {
			t.Errorf("%s\n%s\nconflict: want %t, got %v", test.one, test.other, test.conflict, found)
		}
		if i := slices.IndexFunc(found, func(f Finding) bool { return f.Rule == "syntax" || f.Rule == "compile" }); i >= 0 {
			t.Errorf("%s\n%s\n%v", test.one, test.other, found[i])
		}
	}
}
