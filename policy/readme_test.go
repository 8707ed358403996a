package policy

import (
	"os"
	"strings"
	"testing"
	"time"
)

// The packages that policies/README.md shows decide as it says.
func TestPackagesOfTheReadme(t *testing.T) {
	text, err := os.ReadFile("../policies/README.md")
	if err != nil {
		t.Fatal(err)
	}
	modules, apps := map[string]string{}, []App{}
	for _, block := range strings.Split(string(text), "```rego\n")[1:] {
		rego, _, _ := strings.Cut(block, "```")
		_, rest, _ := strings.Cut(rego, `sallyport.app["`)
		name, _, _ := strings.Cut(rest, `"`)
		modules[name+".rego"] = rego
		apps = append(apps, App{Name: name, Access: Access{{Groups: []string{"staff"}}}})
	}
	b := mustBuild(t, Config{Bundle: writeFolder(t, modules)}, apps, RateLimit, SessionTerm)
	e, err := Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	export := person("crm", "staff")
	export.Resource.Path = "/export/people.csv"
	var classes []string
	for class := range e.Decide(t.Context(), export).RateLimits() {
		classes = append(classes, class)
	}
	if strings.Join(classes, " ") != "exports exports" {
		t.Errorf("an export counts as %q, want two rates of exports", classes)
	}
	wantVerdict(t, e.Decide(t.Context(), person("crm", "staff")), ReasonAllow, "allow")
	wantVerdict(t, e.Decide(t.Context(), person("crm", "sales")), ReasonPolicy, "not_listed")
	hostile := person("shop", "staff")
	hostile.Context.Shield = &Shield{Score: 10}
	wantVerdict(t, e.Decide(t.Context(), hostile), ReasonAllow, "allow")
	hostile.Action = Action{Name: ActionWrite, Method: "POST"}
	wantVerdict(t, e.Decide(t.Context(), hostile), ReasonPolicy, "suspicious")
	hostile.Context.Shield = nil
	wantVerdict(t, e.Decide(t.Context(), hostile), ReasonAllow, "allow")
	wantVerdict(t, e.Decide(t.Context(), person("payroll", "staff")), ReasonPolicy, "device")
	build := person("registry", "staff")
	wantVerdict(t, e.Decide(t.Context(), build), ReasonAllow, "allow")
	build.Action = Action{Name: ActionWrite, Method: "PUT"}
	wantVerdict(t, e.Decide(t.Context(), build), ReasonPolicy, "push")
	build.Subject.Token = &Token{Kind: TokenIssued, Apps: []string{AnyScope}, Methods: []string{AnyScope}, Scopes: []string{"registry:push"}}
	build.Subject.Claims = map[string]any{"ref": "refs/heads/main"}
	wantVerdict(t, e.Decide(t.Context(), build), ReasonAllow, "build")
	paid := person("salaries", "staff")
	wantVerdict(t, e.Decide(t.Context(), paid), ReasonPolicy, "place")
	paid.Context.Client.Country = "NL"
	wantVerdict(t, e.Decide(t.Context(), paid), ReasonAllow, "allow")
	paid.Context.Client = Client{IP: "192.0.2.1", Zone: "office"}
	wantVerdict(t, e.Decide(t.Context(), paid), ReasonAllow, "allow")
	transfer := person("bank", "staff")
	transfer.Resource.Path = "/transfers/new"
	if maxAge, _ := e.Decide(t.Context(), transfer).SessionTerm(); maxAge != 10*time.Minute {
		t.Errorf("a transfer bears a sign-in %v ago, want 10m", maxAge)
	}
	own := person("vault", "staff")
	wantVerdict(t, e.Decide(t.Context(), own), ReasonPolicy, "certificate")
	own.Subject.Cert = &Cert{Issuer: "CN=Corp People,O=Corp", Emails: []string{own.Subject.Email}}
	wantVerdict(t, e.Decide(t.Context(), own), ReasonAllow, "allow")
	own.Subject.Cert = &Cert{Issuer: "CN=Corp People,O=Corp", Emails: []string{"bob@corp.example"}}
	wantVerdict(t, e.Decide(t.Context(), own), ReasonPolicy, "certificate")
	own.Subject = Subject{Type: TypeAnonymous, Cert: own.Subject.Cert}
	wantVerdict(t, e.Decide(t.Context(), own), ReasonUnauthenticated, "unauthenticated")
}
