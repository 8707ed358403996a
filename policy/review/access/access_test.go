package access

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
)

func rounds(n int) int {
	if r, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil && r > 0 {
		return r
	}
	return n
}

func random(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func compile(t *testing.T, apps []policy.App, modules map[string]string) *policy.Engine {
	t.Helper()
	cfg := policy.Config{}
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

func randomRules(r *rand.Rand) policy.Access {
	var rules policy.Access
	for range 1 + r.IntN(4) {
		rule := policy.Rule{Paths: pick(r, nil, []string{"/a/"}, []string{"/a", "/b/"}), Methods: pick(r, nil, nil, []string{"GET"}, []string{"POST", "PUT"})}
		switch r.IntN(8) {
		case 0:
			rule.Public = true
		case 1:
			if rule.Paths == nil && rule.Methods == nil {
				rule.Paths = []string{"/shut/"}
			}
			rules = append(rules, rule)
			continue
		case 2:
			rule.Domains = []string{"partner.example"}
		case 3:
			rule.Emails = []string{"p1@corp.example", "P2@corp.example"}
		default:
			rule.Groups = pick(r, []string{"g0"}, []string{"g1", "g2"}, []string{"g3"})
		}
		if !rule.Public {
			rule.MFA, rule.ACR, rule.MaxAge = r.IntN(3) == 0, pick(r, nil, nil, []string{"gold"}), pick(r, 0, 0, time.Hour)
		}
		rule.Hours = pick(r, nil, nil, &policy.Hours{Days: []string{"mon-fri"}, From: "08:00", To: "18:00"}, &policy.Hours{Days: []string{"sun"}})
		rule.Networks = pick(r, nil, nil, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
		rules = append(rules, rule)
	}
	return rules
}

// randomPackage is a package as operators write them: named conditions, lists, and the access rules.
func randomPackage(r *rand.Rand, app string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "package sallyport.app[%q]\n\nimport data.sallyport.authz\n\nadmins := {\"p0@corp.example\", \"p3@corp.example\"}\n\nours if net.cidr_contains(\"10.0.0.0/8\", input.context.client.ip)\n\nblocked if \"g3\" in input.subject.groups\n\n", app)
	conditions := []string{
		`"g0" in input.subject.groups`, "some g in input.subject.groups\n\tg in {\"g1\", \"g2\"}", "input.subject.authn.mfa", "input.context.hour >= 8\n\tinput.context.hour < 18",
		"ours", "not blocked", "lower(input.subject.email) in admins", `input.action.method == "POST"`, `startswith(input.resource.path, "/a/")`,
		"input.subject.device.managed", `input.context.weekday != "sun"`, `endswith(input.subject.email, "@partner.example")`, `input.subject.authn.acr == "gold"`,
	}
	for range 1 + r.IntN(3) {
		chosen := map[string]bool{}
		for range 1 + r.IntN(3) {
			chosen[pick(r, conditions...)] = true
		}
		fmt.Fprintf(&b, "decision := %s if {\n\t%s\n}\n\n", `{"allow": true}`, strings.Join(slices.Sorted(maps.Keys(chosen)), "\n\t"))
	}
	if r.IntN(2) == 0 {
		b.WriteString("default decision := {\"allow\": false}\n")
	}
	return b.String()
}

func randomPeople(r *rand.Rand) []Person {
	people := []Person{{Name: "nobody", Subject: policy.Subject{Type: policy.TypeAnonymous}}}
	for i := range 8 {
		s := policy.Subject{Type: policy.TypeUser, ID: fmt.Sprint("corp|", i), Email: fmt.Sprintf("p%d@%s", i, pick(r, "corp.example", "corp.example", "partner.example")),
			EmailVerified: r.IntN(4) > 0, Authn: &policy.Authn{Provider: "corp"}}
		for g := range 4 {
			if r.IntN(3) == 0 {
				s.Groups = append(s.Groups, fmt.Sprint("g", g))
			}
		}
		people = append(people, Person{Name: s.ID, Subject: s})
	}
	return people
}

// bruteForce are those whom the policy allows under any circumstances.
func bruteForce(e *policy.Engine, app *policy.App, q Question, people []Person) []string {
	var names []string
	for i := range people {
		for in := range requestsOf(app, q, &people[i].Subject) {
			if e.Decide(context.Background(), in).Allow {
				names = append(names, people[i].Name)
				break
			}
		}
	}
	return names
}

// requestsOf are the requests somebody could make: every combination of what the generated policies ask about.
func requestsOf(app *policy.App, q Question, s *policy.Subject) func(yield func(*policy.Input) bool) {
	methods, paths := []string{"GET", "POST", "PUT", "DELETE"}, []string{"/", "/a", "/a/x", "/b", "/b/x", "/shut/x", "/c"}
	if q.Method != "" {
		methods = []string{q.Method}
	}
	if q.Path != "" {
		paths = []string{q.Path}
	}
	return func(yield func(*policy.Input) bool) {
		for _, at := range []time.Time{time.Date(2026, 1, 4, 3, 0, 0, 0, time.UTC), time.Date(2026, 1, 4, 12, 0, 0, 0, time.UTC), time.Date(2026, 1, 7, 12, 0, 0, 0, time.UTC), time.Date(2026, 1, 7, 3, 0, 0, 0, time.UTC)} {
			for _, strong := range []bool{true, false} {
				for _, ip := range []string{"10.1.1.1", "192.0.2.1"} {
					for _, method := range methods {
						for _, path := range paths {
							in := &policy.Input{Subject: *s, Action: policy.Action{Name: policy.ActionName(method, ""), Method: method},
								Resource: policy.Resource{Type: policy.TypeApp, ID: app.Name, Path: path}, Context: policy.Context{Client: policy.Client{IP: ip}}}
							in.Context.SetTime(at, time.UTC)
							if s.Authn != nil && strong {
								in.Subject.Authn = &policy.Authn{Provider: "corp", MFA: true, ACR: "gold", AgeS: policy.AgeOf(0)}
								in.Subject.Device = &policy.Device{Managed: new(true)}
							}
							if !yield(in) {
								return
							}
						}
					}
				}
			}
		}
	}
}

func askedOf(t *testing.T, e *policy.Engine, q Question, people []Person) []string {
	t.Helper()
	p, err := Of(e, policy.Context{}, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.WhoCan(t.Context(), q, people)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, g := range answer.People {
		names[g.Name] = true
	}
	if len(names)+len(answer.Nobody) != len(people) {
		t.Fatalf("%d of %d people are told of", len(names)+len(answer.Nobody), len(people))
	}
	return slices.Sorted(maps.Keys(names))
}

func TestWhoCanNamesExactlyThoseWhomThePolicyAllows(t *testing.T) {
	r := random(t)
	var apps []policy.App
	modules := map[string]string{}
	for i := range rounds(12) {
		app := policy.App{Name: fmt.Sprint("app-", i), Access: randomRules(r)}
		if i%2 == 1 {
			modules[app.Name+".rego"] = randomPackage(r, app.Name)
		}
		apps = append(apps, app)
	}
	e := compile(t, apps, modules)
	weaker := compile(t, mutated(apps), nil)
	caught := 0
	for i := range apps {
		people := randomPeople(r)
		q := Question{App: apps[i].Name, Method: pick(r, "", "", "GET", "POST"), Path: pick(r, "", "", "/a/x", "/c")}
		want, got := bruteForce(e, &apps[i], q, people), askedOf(t, e, q, people)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v\n%+v\n%s", q, got, want, apps[i].Access, modules[apps[i].Name+".rego"])
		}
		if !slices.Equal(askedOf(t, weaker, q, people), want) {
			caught++
		}
	}
	if caught == 0 {
		t.Error("a policy without its first rules and packages gives the same answers")
	}
}

// mutated are apps without their first rules.
func mutated(apps []policy.App) []policy.App {
	list := slices.Clone(apps)
	for i := range list {
		list[i].Access = list[i].Access[1:]
	}
	return list
}

func TestConditionsStay(t *testing.T) {
	e := compile(t, []policy.App{
		{Name: "payroll", Access: policy.Access{{ID: "reports", Paths: []string{"/reports/"}, Methods: []string{"GET"}, Groups: []string{"audit"}},
			{ID: "clerks", Groups: []string{"finance"}, MFA: true, Hours: &policy.Hours{Days: []string{"mon-fri"}, From: "08:00", To: "18:00"}}}},
		{Name: "wiki", Access: policy.Access{{ID: "staff", Groups: []string{"staff"}}}},
	}, map[string]string{"wiki.rego": "package sallyport.app.wiki\n\nimport data.sallyport.authz\n\ndecision := authz.access if input.context.hour >= 8\n\ndecision := {\"allow\": true} if {\n\t\"root\" in input.subject.groups\n\tinput.subject.authn.mfa\n}\n"})
	p, err := Of(e, policy.Context{}, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	fay := Person{Name: "fay", Subject: policy.Subject{Type: policy.TypeUser, ID: "corp|fay", Groups: []string{"audit", "finance", "staff"}, Authn: &policy.Authn{}}}
	grants, err := p.WhatCan(t.Context(), fay)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range grants {
		got = append(got, fmt.Sprintf("%s %s %s %q", g.App, g.Rule, g.Requests, g.Conditions))
	}
	want := []string{
		`payroll reports GET /reports/ []`,
		`payroll clerks any method any path, unless an earlier rule decides: GET /reports/ ["at mon-fri 08:00-18:00 (UTC)" "signed in with more than one factor"]`,
		`wiki staff GET / ["ask at 8 o'clock (UTC)"]`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
	answer, err := p.WhoCan(t.Context(), Question{App: "wiki"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ways []string
	for _, w := range answer.Ways {
		ways = append(ways, strings.Join(w.Conditions, " and "))
	}
	slices.Sort(ways)
	wantWays := []string{"", "in the group root and signed in with more than one factor", "input.context.hour >= 8 and " + byAccessRule}
	if !slices.Equal(ways, wantWays) {
		t.Errorf("got %q", ways)
	}
}
