package policy

import (
	"strings"
	"testing"
)

func TestRemainsKeepsWhatIsUnknown(t *testing.T) {
	e := ownPolicy(t, `import data.sallyport.authz

decision := {"allow": true} if {
	"staff" in input.subject.groups
	input.subject.authn.mfa
	net.cidr_contains("10.0.0.0/8", input.context.client.ip)
}

decision := authz.access if {
	"partners" in input.subject.groups
	input.context.hour < 18
}

decision := {"allow": true} if {
	"chain" in input.subject.groups
	level(input.context.client.zone) == 2
}

level(zone) := 1 if zone == "out" else := 2 if zone == "in"
`)
	parts, err := e.Bundle().Parts()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		groups []any
		want   string // ways, by line
	}{
		{[]any{"staff"}, `input.subject.authn.mfa; net.cidr_contains("10.0.0.0/8", input.context.client.ip)`},
		{[]any{"partners"}, `lt(input.context.hour, 18); data.sallyport.authz.access.allow = true`},
		{[]any{"chain"}, `"in" = input.context.client.zone; not "in" = "out"`},
		{[]any{"nobody"}, ""},
	} {
		r, err := parts.Remains(t.Context(), "wiki", map[string]any{"subject": map[string]any{"groups": c.groups}}, []string{"context", "subject.authn"})
		if err != nil {
			t.Fatal(err)
		}
		var ways []string
		for _, way := range r.Ways {
			var texts []string
			for _, e := range way {
				texts = append(texts, r.Text(e))
			}
			ways = append(ways, strings.Join(texts, "; "))
		}
		if got := strings.Join(ways, "\n"); got != c.want {
			t.Errorf("%v: got %q, want %q", c.groups, got, c.want)
		}
	}
}
