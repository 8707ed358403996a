package explain

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
)

func engine(t testing.TB, apps []policy.App, modules map[string]string) *policy.Engine {
	t.Helper()
	cfg := policy.Config{Timezone: "Europe/Berlin"}
	if modules != nil {
		cfg.Bundle = t.TempDir()
		for name, text := range modules {
			if err := os.WriteFile(filepath.Join(cfg.Bundle, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, err := policy.Build(cfg, apps)
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// person is a request on a Monday at 09:30 UTC.
func person(app string, groups ...string) *policy.Input {
	in := &policy.Input{
		Subject: policy.Subject{Type: policy.TypeUser, ID: "corp|ada", Email: "ada@corp.example", EmailVerified: true, Groups: groups,
			Authn: &policy.Authn{Provider: "corp", AgeS: policy.AgeOf(2 * time.Hour)}},
		Action:   policy.Action{Name: policy.ActionRead, Method: "GET", Protocol: "HTTP/2.0"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: app, Path: "/run"},
		Context:  policy.Context{Client: policy.Client{IP: "192.0.2.7"}},
	}
	in.Context.SetTime(time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC), time.UTC)
	return in
}

func explained(t *testing.T, e *policy.Engine, in *policy.Input) (*Explanation, string) {
	t.Helper()
	x, err := For(t.Context(), e, in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := x.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	return x, text.String()
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line) {
			t.Errorf("there is no %q in\n%s", line, text)
		}
	}
}

var payroll = policy.App{Name: "payroll", Access: policy.Access{
	{ID: "reports", Paths: []string{"/reports/"}, Groups: []string{"audit"}},
	{ID: "clerks", Groups: []string{"finance", "board"}, MFA: true, MaxAge: time.Hour, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	{ID: "never", Groups: []string{"staff"}},
}}

func TestAccessRulesAreShownConditionByCondition(t *testing.T) {
	x, text := explained(t, engine(t, []policy.App{payroll}, nil), person("payroll", "staff"))
	wantLines(t, text,
		"DENY  GET /run in payroll, asked by ada@corp.example",
		"reports  is for other requests", "NO   the path is /reports/…   (resource.path: /run)",
		"clerks  decides, and does not allow", "NO   in one of the groups board or finance   (subject.groups: staff)",
		"NO   from 10.0.0.0/8   (context.client.ip: 192.0.2.7)", "NO   signed in less than 60 minutes ago   (subject.authn.age_s: 120 minutes)",
		"never  is for this request too, but an earlier rule decides",
		"nearest: clerks would allow it", "- be in one of the groups board, finance", "- sign in with more than one factor", "- sign in again", "- ask from 10.0.0.0/8")
	if x.Answer != Deny || x.Nearest == nil || len(x.Nearest.Changes) != 4 {
		t.Errorf("got %s, nearest %+v", x.Answer, x.Nearest)
	}
}

func TestNearestOfAStepUpIsTheSignInItAsksFor(t *testing.T) {
	in := person("payroll", "finance")
	in.Context.Client.IP = "10.1.1.1"
	x, text := explained(t, engine(t, []policy.App{payroll}, nil), in)
	wantLines(t, text, "STEP_UP", "- sign in with more than one factor", "- sign in again")
	if len(x.Nearest.Changes) != 2 {
		t.Errorf("got %+v", x.Nearest.Changes)
	}
}

const ownPackage1 = `package sallyport.app["wiki"]

import data.sallyport.authz

default decision := {"allow": false}

# METADATA
# title: People of the wiki
# custom:
#   id: wiki-people
decision := authz.access if {
	trusted
	input.context.hour >= 8
	some group in input.subject.groups
	group in editors
	not blocked
}

decision := {"allow": true} if input.subject.email == "root@corp.example"

trusted if input.subject.device.managed

trusted if near(input.context.client.ip)

near(ip) if net.cidr_contains("10.0.0.0/8", ip)

blocked if input.subject.claims.blocked

editors := {"writers", "chiefs"}
`

func TestOwnPackagesAreShownRuleByRule(t *testing.T) {
	e := engine(t, []policy.App{{Name: "wiki", Access: policy.Access{{ID: "staff", Groups: []string{"staff"}}}}}, map[string]string{"wiki.rego": ownPackage1})
	x, text := explained(t, e, person("wiki", "staff"))
	t.Log("\n" + text)
	wantLines(t, text, "DENY", `the app's own package, sallyport.app["wiki"]`,
		"wiki-people  does not hold  wiki.rego:11", "People of the wiki", "NO   trusted   line 12",
		"NO   input.subject.device.managed   (subject.device.managed is absent)",
		"decision := {\"allow\": true}  does not hold", "(subject.email: ada@corp.example)", "nearest: ")
	if x.Nearest == nil {
		t.Fatal("no nearest")
	}
	if got := e.Decide(t.Context(), x.Nearest.Input); !got.Allow {
		t.Errorf("the nearest is not allowed: %s", got.JSON)
	}
}

func TestNearestRepairsOneConditionAfterTheOther(t *testing.T) {
	e := engine(t, []policy.App{{Name: "wiki", Access: policy.Access{{ID: "staff", Groups: []string{"staff"}}}}}, map[string]string{"wiki.rego": ownPackage1})
	in := person("wiki", "staff")
	in.Context.SetTime(time.Date(2026, 11, 23, 3, 30, 0, 0, time.UTC), time.UTC)
	in.Subject.Claims = map[string]any{"blocked": true}
	s, err := About(e, "wiki", Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := s.Reach(t.Context(), in, func(field string) bool { return field != "subject.email" })
	if n == nil {
		t.Fatal("no nearest")
	}
	fields := map[string]bool{}
	for _, c := range n.Changes {
		fields[c.Field] = true
	}
	for _, want := range []string{"context.hour", "subject.groups", "subject.claims.blocked"} {
		if !fields[want] {
			t.Errorf("%s is not among the changes %+v", want, n.Changes)
		}
	}
}

func TestPublicTellsKindsAndNoNames(t *testing.T) {
	e := engine(t, []policy.App{{Name: "wiki", Access: policy.Access{{ID: "staff", Groups: []string{"staff"}}}}}, map[string]string{"wiki.rego": ownPackage1})
	x, _ := explained(t, e, person("wiki", "staff"))
	public := strings.Join(x.Public(), " ")
	if public == "" || strings.ContainsAny(public, "0123456789@/") || strings.Contains(public, "writers") {
		t.Errorf("got %q", public)
	}
}

func TestNearestKnowsPathsMadeOfThePerson(t *testing.T) {
	e := engine(t, []policy.App{{Name: "people"}}, map[string]string{"people.rego": `package sallyport.app.people

decision := {"allow": true} if input.resource.segments == ["people", lower(input.subject.email)]
`})
	x, text := explained(t, e, person("people"))
	wantLines(t, text, "- ask for /people/ada@corp.example")
	if x.Nearest == nil {
		t.Error("no nearest")
	}
}

// What the shipped policy refuses before any rule or package is told as such; another site's request could come from the
// app's own page, and nobody chooses what inspection finds.
func TestGuardsAreTold(t *testing.T) {
	e := engine(t, []policy.App{
		{Name: "wiki", ShieldThreshold: 5, Access: policy.Access{{Groups: []string{"staff"}}}},
		{Name: "own", ShieldThreshold: 5, Access: policy.Access{{Groups: []string{"staff"}}}},
		{Name: "coded", Access: policy.Access{{Groups: []string{"staff"}}}},
	}, map[string]string{
		"own.rego":   "package sallyport.app[\"own\"]\n\ndecision := {\"allow\": true}",
		"coded.rego": "package sallyport.app[\"coded\"]\n\ndecision := {\"allow\": false, \"reasons\": [{\"code\": \"shield\"}]}",
	})
	for _, c := range []struct {
		app, group string
		unsafe     bool
		shield     *policy.Shield
		decides    string
		nearest    []string
	}{
		{"wiki", "staff", true, nil, "the app admits no request of another site's page", []string{"send it from a page of the app itself"}},
		{"own", "staff", true, nil, "the app admits no request of another site's page", []string{"send it from a page of the app itself"}},
		{"wiki", "sales", true, nil, "the app's access rules", []string{"send it from a page of the app itself", "be in the group staff"}},
		{"wiki", "staff", false, &policy.Shield{Score: 5}, "the app refuses what inspection finds hostile", nil},
		{"own", "staff", true, &policy.Shield{Score: 5}, "the app admits no request of another site's page", nil},
		{"own", "staff", false, &policy.Shield{Timeout: true}, "the app refuses what could not be inspected in time", nil},
		{"coded", "staff", false, &policy.Shield{Score: 50}, "the app's own package", nil},
	} {
		in := person(c.app, c.group)
		in.Context.Request.CrossSiteUnsafe, in.Context.Shield = &c.unsafe, c.shield
		x, _ := explained(t, e, in)
		var nearest []string
		if x.Nearest != nil {
			for _, change := range x.Nearest.Changes {
				nearest = append(nearest, change.Text)
			}
		}
		slices.Sort(nearest)
		slices.Sort(c.nearest)
		if !strings.HasPrefix(x.Decides, c.decides) || !slices.Equal(nearest, c.nearest) || x.Answer != Deny {
			t.Errorf("%s for %s: got %s by %q, nearest %q; want deny by %q, nearest %q", c.app, c.group, x.Answer, x.Decides, nearest, c.decides, c.nearest)
		}
	}
}
