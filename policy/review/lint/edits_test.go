package lint

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"sallyport/policy"
)

// clean is a policy with which nothing is wrong, written as people write them: with helpers, imports, lists and
// functions.
const clean = `# METADATA
# scope: package
# title: Payroll
# description: Finance works, auditors read, pipelines export.
# custom:
#   owner: finance
package sallyport.app["payroll"]

import data.sallyport.authz
import input.subject as who

folders := ["/reports/", "/exports/"]

auditors := {"finance", "contractors"}

decision := yes("export") if export

decision := refused if {
	not export
	risky
}

decision := authz.access if {
	not export
	not risky
}

export if {
	who.type == "service"
	"spiffe://corp.example/export" in who.cert.uris
	input.action.method in {"GET", "POST"}
	some folder in folders
	startswith(input.resource.path, folder)
}

# Whoever does not read, and is no auditor of ours, needs a sign-in that is fresh.
risky if {
	input.action.name != "read"
	stale
}

risky if {
	not auditor
	outside
}

auditor if {
	some group in who.groups
	auditors[group]
}

stale if not fresh

fresh if who.authn.age_s < 3600

outside if not net.cidr_contains("10.0.0.0/8", input.context.client.ip)

yes(rule) := {"allow": true, "reasons": [{"code": "allow", "rule": rule}]}

refused := {"allow": false, "reasons": [{"code": "risky", "rule": "fresh", "user": "Sign in again to change something."}]}
`

func TestCleanPolicyIsLeftAlone(t *testing.T) {
	for _, f := range Check(t.Context(), subject(t, clean, exampleApps)).Findings {
		t.Errorf("got %+v", f)
	}
}

// An edit of the clean policy is found where it was made.
func TestEditsAreFound(t *testing.T) {
	for _, edit := range []struct{ rule, from, to string }{
		{"syntax", `decision := refused if {`, `decision := refused if {{`},
		{"compile", `not export` + "\n\tnot risky", "not export\n\tnot riskier"},
		{"type", `who.authn.age_s < 3600`, `who.authn.age > 3600`},
		{"type", `who.authn.age_s < 3600`, `who.authn.age_s < "3600"`},
		{"denied-builtin", `who.authn.age_s < 3600`, `time.now_ns() > 3600`},
		{"decision-shape", `"code": "risky"`, `"codes": "risky"`},
		{"decision-shape", "decision := authz.access if {\n\tnot export\n\tnot risky\n}", "decision.allow := true if export\n\ndecision.obligation := []"},
		{"decision-shape", `{"allow": false, "reasons"`, `{"allow": 0, "reasons"`},
		{"strict", "\tsome folder in folders\n", "\tsome folder in folders\n\tunused := folder\n"},
		{"allow-without-subject", "\twho.type == \"service\"\n\t\"spiffe://corp.example/export\" in who.cert.uris\n", ""},
		{"unknown-obligation", `"allow": true, "reasons"`, `"allow": true, "obligations": [{"type": "watermark"}], "reasons"`},
		{"no-default", "decision := authz.access if {\n\tnot export\n\tnot risky\n}", "decision := authz.access if {\n\tnot export\n\tnot risky\n\tinput.context.hour > 7\n}"},
		{"loose-prefix", `"/exports/"`, `"/exports"`},
		{"path-form", `"/exports/"`, `"exports/"`},
		{"path-form", `"/exports/"`, `"/exports/*/"`},
		{"method-name", `"POST"`, `"POTS"`},
		{"literal-user", `who.type == "service"`, `who.id == "corp|1234"`},
		{"unverified-email", `who.type == "service"`, `endswith(who.email, "@corp.example")`},
		{"unverified-email", `who.type == "service"`, `object.get(who, "email", "") in {x | some x in auditors}`},
		{"strangers-refused", "decision := authz.access if {\n\tnot export\n\tnot risky\n}", "decision := refused if {\n\tnot export\n\tnot risky\n}"},
		{"conflicting-decisions", "decision := authz.access if {\n\tnot export\n\tnot risky\n}", "decision := {\"allow\": true} if \"staff\" in who.groups\n\ndecision := {\"allow\": false} if input.context.hour > 20"},
		{"default-allow", "decision := yes", "default risky_allowed := false\n\ndefault allowed := true\n\ndecision := yes"},
		{"unanchored-regex", `who.type == "service"`, "regex.match(`exporter`, who.id)"},
		{"loose-domain", `who.type == "service"`, "who.email_verified\n\tendswith(who.email, \".corp.example\")"},
		{"header-trust", `who.type == "service"`, `input.context.request.user_agent == "export"`},
		{"query-trust", `who.type == "service"`, `contains(input.resource.query, "export")`},
		{"any-network", `10.0.0.0/8`, `0.0.0.0/0`},
		{"time-text", `who.authn.age_s < 3600`, `who.authn.time < "2026"`},
		{"impossible-value", `"service"`, `"services"`},
		{"unreachable-rule", "who.type == \"service\"", "who.type == \"service\"\n\twho.type == \"user\""},
		{"unknown-group", `who.type == "service"`, `"finanec" in who.groups`},
		{"unknown-app", `who.type == "service"`, "input.resource.id == \"pay\"\n\twho.type == \"service\""},
		{"shadowing", `some folder in folders`, "some folders in [\"/a/\"]\n\tsome folder in folders"},
		{"print", `who.type == "service"`, "print(who)\n\twho.type == \"service\""},
		{"unindexed-iteration", `who.type == "service"`, "some a in auditors\n\ta == who.claims.team"},
		{"no-reason", `, "user": "Sign in again to change something."`, ``},
		{"negated-unknown", "stale if not fresh\n\nfresh if who.authn.age_s < 3600", "stale if who.authn.age_s >= 3600"},
		{"groups-incomplete", "not export\n\tnot risky", "not export\n\tnot risky\n\tnot \"contractors\" in who.groups"},
	} {
		t.Run(edit.rule, func(t *testing.T) {
			if !strings.Contains(clean, edit.from) {
				t.Fatalf("%q does not occur", edit.from)
			}
			changed := strings.Replace(clean, edit.from, edit.to, 1)
			for _, f := range Check(t.Context(), subject(t, changed, exampleApps)).Findings {
				if f.Rule == edit.rule && f.Line > 0 && f.Column > 0 && !strings.HasPrefix(f.Text, brokenRule) {
					return
				}
			}
			t.Errorf("not found: %q in place of %q", edit.to, edit.from)
		})
	}
}

// A comment with a reason answers a finding in its line or the next; without one, or for another rule, it does not.
func TestCommentsAnswer(t *testing.T) {
	for comment, left := range map[string]int{
		"# sallyport:ignore literal-user: the emergency account": 0,
		"# sallyport:ignore literal-user":                        1,
		"# sallyport:ignore literal-user:":                       1,
		"# sallyport:ignore print: the emergency account":        1,
	} {
		rego := strings.Replace(clean, `who.type == "service"`, comment+"\n\twho.id == \"corp|1234\"", 1)
		got := 0
		r := Check(t.Context(), subject(t, rego, exampleApps))
		for _, f := range r.Findings {
			if f.Rule == "literal-user" {
				got++
			}
		}
		if got != left || r.Ignored != 1-left {
			t.Errorf("%q: %d findings left, %d ignored; want %d left", comment, got, r.Ignored, left)
		}
	}
}

// One module's faults do not hide those of another.
func TestAllFaultsAtOnce(t *testing.T) {
	s := subject(t, `package corp.a

x := y`, exampleApps)
	for name, rego := range map[string]string{
		"b": "package corp.b\n\nx if input.subject.nick == \"a\"", "c": "package corp.c\n\nx if {", "d": "package corp.d\n\nx := time.now_ns()",
	} {
		s.Sources = append(s.Sources, policy.Source{Name: "operator/" + name + ".rego", Content: []byte(rego)})
	}
	found := map[string]bool{}
	for _, f := range Check(t.Context(), s).Worst(Error) {
		found[f.File+" "+f.Rule] = true
	}
	for _, want := range []string{"operator/policy.rego compile", "operator/b.rego type", "operator/c.rego syntax", "operator/d.rego denied-builtin"} {
		if !found[want] {
			t.Errorf("no %s in %v", want, found)
		}
	}
}

// A function of a constant, a rule compared with a rule, a name that stands for itself.
func TestNamesThatLeadNowhere(t *testing.T) {
	for _, rego := range []string{
		"x if x := lower(x)", "x if { y := y; y == input.resource.path }", "x := x", "x := [x]", "x contains x", "f(a) := a\n\nx if f(f) == f",
		"x if input.resource.path in x", "x if [][input.resource.path]", "x if {}[input.subject.email]", "x if object.get(input, x, x) == x",
		"a := b\n\nb := a\n\nx if input.subject.email in a", "x if regex.match(input.a, x)", "x if { some x in x; x == x }",
	} {
		for _, head := range []string{"package corp.a", "package sallyport.app.wiki\n\ndecision := {\"allow\": x}"} {
			for _, f := range Check(t.Context(), subject(t, head+"\n\n"+rego, exampleApps)).Findings {
				if strings.HasPrefix(f.Text, brokenRule) {
					t.Errorf("%s: %s\n%s", f.Rule, f.Text, rego)
				}
			}
		}
	}
}

// Whatever people write, the check ends and does not fail. Text is cut up by lines and words.
func TestBrokenTextIsSurvived(t *testing.T) {
	random := rand.New(rand.NewPCG(seeded(t), 0))
	texts := []string{clean}
	for _, r := range Rules() {
		for _, e := range append(r.Bad, r.Good...) {
			if e.Language == "rego" {
				texts = append(texts, e.Text)
			}
		}
	}
	for range rounds(t) {
		rego := garble(random, texts[random.IntN(len(texts))])
		for _, f := range Check(t.Context(), subject(t, rego, exampleApps)).Findings {
			if strings.HasPrefix(f.Text, brokenRule) {
				t.Errorf("%s: %s\n%s", f.Rule, f.Text, rego)
			}
		}
	}
}

func garble(random *rand.Rand, text string) string {
	words := strings.SplitAfter(text, " ")
	if random.IntN(2) == 0 {
		words = strings.SplitAfter(text, "\n")
	}
	for range 1 + random.IntN(3) {
		i, j := random.IntN(len(words)), random.IntN(len(words))
		switch random.IntN(3) {
		case 0:
			words[i] = ""
		case 1:
			words[i] = words[j]
		default:
			words[i], words[j] = words[j], words[i]
		}
	}
	return strings.Join(words, "")
}

// seeded is a seed that is printed, so that a failure can be repeated with SALLYPORT_SEED.
func seeded(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return seed
}

func rounds(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS"))
	if err != nil {
		return 20
	}
	return n
}

// BenchmarkCheck checks 200 rules: 50 apps with four access rules each, half of them with a package of their own.
func BenchmarkCheck(b *testing.B) {
	s := Subject{}
	sources, err := policy.ReadSources(policy.Config{})
	if err != nil {
		b.Fatal(err)
	}
	s.Sources = sources
	for i := range 50 {
		name := fmt.Sprintf("app-%d", i)
		var access policy.Access
		for j := range 4 {
			access = append(access, policy.Rule{ID: fmt.Sprintf("rule-%d", j), Paths: []string{fmt.Sprintf("/%d/", j)}, Groups: []string{"staff"}})
		}
		s.Apps = append(s.Apps, policy.App{Name: name, Owner: "it", Access: access})
		if i%2 == 0 {
			s.Sources = append(s.Sources, policy.Source{Name: "operator/" + name + ".rego", Content: []byte(strings.Replace(clean, "payroll", name, 1))})
		}
	}
	for b.Loop() {
		Check(b.Context(), s)
	}
}
