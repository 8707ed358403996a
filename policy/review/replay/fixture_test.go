package replay

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sallyport/policy"
)

// monday is a Monday morning, 09:30 UTC.
var monday = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

func rounds(n int) int {
	if r, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil && r > 0 {
		return r
	}
	return n
}

// random is a source whose seed is printed; SALLYPORT_SEED repeats a failure.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// engine compiles apps, with Rego of the operator's unless it is empty.
func engine(t testing.TB, cfg policy.Config, rego string, apps ...policy.App) *policy.Engine {
	t.Helper()
	if rego != "" {
		cfg.Bundle = t.TempDir()
		if err := os.WriteFile(filepath.Join(cfg.Bundle, "own.rego"), []byte(rego), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := policy.Build(cfg, apps)
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// own decides about the app "own" by the path, the label and the person.
const own = `package sallyport.app["own"]

default decision := {"allow": false, "reasons": [{"code": "no"}]}

decision := {"allow": true, "reasons": [{"code": "allow", "rule": input.resource.labels.team}]} if {
	input.subject.type != "anonymous"
	input.resource.sensitivity != "high"
	"%s" in input.subject.groups
	not startswith(input.resource.path, "/admin")
}
`

// randomApps are four apps whose access rules differ from one call to the next.
func randomApps(r *rand.Rand) []policy.App {
	var apps []policy.App
	for _, name := range []string{"wiki", "crm", "own", "old"} {
		app := policy.App{Name: name, Sensitivity: pick(r, "low", "low", "high"), Labels: map[string]string{"team": pick(r, "a", "b")}}
		for i := range 1 + r.IntN(3) {
			app.Access = append(app.Access, randomRule(r, i))
		}
		apps = append(apps, app)
	}
	return apps[:3+r.IntN(2)]
}

func randomRule(r *rand.Rand, place int) policy.Rule {
	rule := policy.Rule{ID: fmt.Sprint("r", place), Groups: []string{pick(r, "staff", "admins", "sales")}}
	switch r.IntN(8) {
	case 0:
		rule.Paths = []string{"/admin/"}
	case 1:
		rule.Methods = []string{"GET"}
	case 2:
		rule.MFA = true
	case 3:
		rule.Hours = &policy.Hours{Days: []string{"mon-fri"}, From: pick(r, "08:00", "09:00"), To: pick(r, "17:00", "18:30")}
	case 4:
		rule.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	case 5:
		rule.Emails = []string{"bob@corp.example"}
	case 6:
		rule.Groups, rule.Public = nil, true
	case 7:
		rule.Domains = []string{"partner.example"}
	}
	return rule
}

func randomEngine(t *testing.T, r *rand.Rand) *policy.Engine {
	t.Helper()
	cfg := policy.Config{Memo: r.IntN(2) == 0, Timezone: pick(r, "UTC", "UTC", "Europe/Berlin", "Asia/Kolkata")}
	apps := randomApps(r)
	return engine(t, cfg, fmt.Sprintf(own, pick(r, "staff", "sales")), apps...)
}

// traffic makes requests as the gateway of a policy sees them, and records its answers.
type traffic struct {
	t      *testing.T
	r      *rand.Rand
	engine *policy.Engine
	side   *side
	n      int
}

func newTraffic(t *testing.T, r *rand.Rand, e *policy.Engine) *traffic {
	t.Helper()
	s, err := newSide(e)
	if err != nil {
		t.Fatal(err)
	}
	return &traffic{t: t, r: r, engine: e, side: s}
}

// record is a decision; some are reevaluations of an earlier one after a few hours.
func (g *traffic) record() Record {
	in := g.input()
	if g.r.IntN(5) > 0 {
		return g.decided(in, in.AppendJSON(nil), nil)
	}
	later := *in
	later.Context.SetTime(time.Unix(0, in.Context.TimeNS).Add(time.Duration(1+g.r.IntN(20))*time.Hour), g.side.zone)
	later.Subject.Groups = []string{pick(g.r, "staff", "guests")}
	patch, err := json.Marshal(map[string]any{
		"subject": map[string]any{"groups": later.Subject.Groups},
		"context": map[string]any{"time_ns": later.Context.TimeNS, "time": later.Context.Time, "weekday": later.Context.Weekday, "hour": later.Context.Hour},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return g.decided(&later, in.AppendJSON(nil), patch)
}

func (g *traffic) decided(in *policy.Input, text, patch []byte) Record {
	g.n++
	v := g.engine.Answer(g.t.Context(), in)
	return Record{
		ID: fmt.Sprintf("%s-%05d", g.engine.Digest()[7:11], g.n), Time: time.Unix(0, in.Context.TimeNS), App: in.Resource.ID, Policy: g.engine.Digest(),
		Input: text, Changed: patch, Allow: v.Allow, Reason: v.Reason, Decision: v.JSON, Weight: pick[int64](g.r, 0, 0, 1, 7),
	}
}

func (g *traffic) input() *policy.Input {
	r := g.r
	name := pick(r, "ada", "bob", "eve")
	method := pick(r, "GET", "POST")
	in := &policy.Input{
		Subject: policy.Subject{
			Type: policy.TypeUser, ID: "corp|" + name, Email: name + pick(r, "@corp.example", "@partner.example"), EmailVerified: true,
			Groups: pick(r, nil, []string{"staff"}, []string{"admins", "staff"}, []string{"sales"}),
			Authn:  &policy.Authn{Provider: "corp", AMR: []string{"pwd"}, MFA: r.IntN(2) == 0},
		},
		Action:   policy.Action{Name: policy.ActionName(method, ""), Method: method, Protocol: "HTTP/2.0"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: pick(r, g.engine.Apps()...), Host: "h.example", Path: pick(r, "/", "/admin/x", "/a")},
		Context:  policy.Context{Client: policy.Client{IP: pick(r, "192.0.2.7", "198.51.100.1")}, Request: policy.Request{ID: strconv.Itoa(g.n)}},
	}
	if r.IntN(5) == 0 {
		in.Subject = policy.Subject{Type: policy.TypeAnonymous}
	}
	in.Context.SetTime(monday.Add(time.Duration(r.IntN(48*60))*time.Minute), g.side.zone)
	return g.side.view(in)
}
