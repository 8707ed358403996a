package table

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/directory"
)

const company = `
people:
  - { name: Ada, email: ada@corp.example, groups: [staff, finance], mfa: true }
  - { name: Ben, email: ben@corp.example, groups: [staff] }
  - { name: Eve, email: eve@corp.example }
  - { name: bot, id: "ci|7", type: service }
places: { office: { ip: 10.0.0.7 } }
`

func apps() []policy.App {
	return []policy.App{
		{Name: "wiki", Access: policy.Access{{Groups: []string{"staff"}}}},
		{Name: "shop", Sensitivity: "low", Access: policy.Access{{ID: "look", Methods: []string{"GET"}, Public: true}}},
		{Name: "payroll", Access: policy.Access{
			{ID: "run", Paths: []string{"/run/"}, Groups: []string{"finance"}, MaxAge: 15 * time.Minute,
				Hours:    &policy.Hours{Days: []string{"mon-fri"}, From: "08:00", To: "18:00"},
				Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
			{ID: "finance", Groups: []string{"finance"}, MFA: true},
		}},
		{Name: "vault", ClientCert: true, Access: policy.Access{{Groups: []string{"staff"}}}},
		{Name: "guarded", ShieldThreshold: 5, CrossSite: true, Access: policy.Access{{Groups: []string{"staff"}}}},
	}
}

func engine(t *testing.T) *policy.Engine {
	t.Helper()
	b, err := policy.Build(policy.Config{Timezone: "Europe/Berlin"}, apps())
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func people(t *testing.T) *directory.Directory {
	t.Helper()
	d, err := directory.Parse([]byte(company))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// run tries rows, one in a line.
func run(t *testing.T, e *policy.Engine, rows string) *Results {
	t.Helper()
	table, err := Parse("t.yaml", []byte("cases:\n"+rows))
	if err != nil {
		t.Fatal(rows, err)
	}
	results, err := Run(t.Context(), e, []*Table{table}, people(t))
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// TestRowsThatHold: what is written here is so, and what is not is told.
func TestRowsThatHold(t *testing.T) {
	e := engine(t)
	for _, c := range []struct {
		row   string
		cases int
	}{
		{"{ who: Ada, app: wiki, expect: allow }", 1},
		{"{ who: ada@corp.example, app: wiki, expect: allow, why: access/1 }", 1},
		{"{ who: directory|Ada, app: wiki, expect: allow, why: [allow, access/1] }", 1},
		{"{ who: group staff, app: wiki, method: [GET, POST], path: [/, \"/a?b=c\"], expect: allow }", 8},
		{"{ who: everybody, except: group staff, app: wiki, expect: deny, why: not_listed }", 2},
		{"{ who: [anonymous, group staff], except: [Ada, Ben], app: wiki, expect: sign_in }", 1},
		{"{ who: [everybody, anonymous, Ada], app: shop, expect: allow, why: look }", 5},
		{"{ who: Ada, app: shop, method: POST, expect: deny, why: no_rule }", 1},
		{"{ who: { groups: [staff] }, app: wiki, expect: allow }", 1},
		{"{ who: { name: nobody }, app: wiki, expect: deny }", 1},
		{"{ who: { groups: [finance], mfa: true }, app: payroll, expect: allow }", 1},
		{"{ who: Ada, app: payroll, expect: allow, why: finance }", 1},
		{"{ who: Ada, app: payroll, with: { mfa: false }, expect: step_up }", 1},
		{"{ who: Ada, app: payroll, path: /run, from: office, expect: allow, why: run }", 1},
		{"{ who: Ada, app: payroll, path: /run/7, from: [10.1.1.1, { ip: 10.1.1.2, zone: lab }], when: [mon 08:00, fri 17:59, 12:00, tue], expect: allow }", 8},
		{"{ who: Ada, app: payroll, path: /run, from: office, when: [mon 07:59, fri 18:00, sat, sun 12:00, 18:00], expect: deny, why: hours }", 5},
		{"{ who: Ada, app: payroll, path: /run, from: office, when: [2026-11-30T07:00:00Z, 2026-11-30 08:00], expect: allow }", 2},
		{"{ who: Ada, app: payroll, path: /run, from: office, when: 2026-07-06T06:30:00Z, expect: allow }", 1}, // summer time
		{"{ who: Ada, app: payroll, path: /run, from: office, when: 2026-11-30T06:30:00Z, expect: deny, why: hours }", 1},
		{"{ who: Ada, app: payroll, path: /run, expect: deny, why: network }", 1},
		{"{ who: Ada, app: payroll, path: /run, from: office, with: { signed_in: 14m }, expect: allow }", 1},
		{"{ who: Ada, app: payroll, path: /run, from: office, with: { signed_in: 15m }, expect: step_up }", 1},
		{"{ who: Ada, app: wiki, with: { upgrade: websocket, cross_origin: true }, expect: deny, why: cross_origin }", 1},
		{"{ who: Ada, app: wiki, method: [POST, PUT], with: { cross_site: true }, expect: deny, why: cross_site }", 2},
		{"{ who: Eve, app: wiki, method: POST, with: { cross_site: true }, expect: deny, why: not_listed }", 1},
		{"{ who: anonymous, app: wiki, method: POST, with: { cross_site: true, shield_score: 9 }, expect: sign_in }", 1},
		{"{ who: Ada, app: wiki, with: { shield_score: 9, shield_timeout: true }, expect: allow }", 1},
		{"{ who: Ada, app: guarded, method: POST, with: { cross_site: true, shield_score: 4 }, expect: allow }", 1},
		{"{ who: Ada, app: guarded, with: { shield_score: 5 }, expect: deny, why: shield }", 1},
		{"{ who: Ada, app: guarded, with: { shield_timeout: true }, expect: deny, why: shield_timeout }", 1},
		{"{ who: Ada, app: vault, expect: deny, why: client_certificate }", 1},
		{"{ who: Ada, app: vault, with: { cert_problem: revoked }, expect: deny, why: client_certificate }", 1},
		{"{ who: Ada, app: vault, with: { cert: { issuer: \"CN=people\" } }, expect: allow }", 1},
		{"{ who: anonymous, app: vault, with: { cert: { issuer: \"CN=people\" } }, expect: sign_in }", 1},
	} {
		results := run(t, e, "  - "+c.row)
		if len(results.Cases) != c.cases {
			t.Errorf("%s: %d cases, want %d", c.row, len(results.Cases), c.cases)
		}
		for _, f := range results.Failed() {
			t.Errorf("%s", f.String())
		}
		for _, otherwise := range []string{"allow", "deny", "step_up", "sign_in"} {
			row, expect, _ := strings.Cut(c.row, "expect: ")
			if strings.HasPrefix(expect, otherwise) {
				continue
			}
			if results := run(t, e, "  - "+row+"expect: "+otherwise+" }"); len(results.Failed()) != c.cases {
				t.Errorf("%s: expecting %s fails in %d of %d cases", c.row, otherwise, len(results.Failed()), c.cases)
			}
		}
	}
}

func TestFailuresSayWhereAndWhy(t *testing.T) {
	e := engine(t)
	results := run(t, e, "  - { name: all may, who: Eve, app: wiki, expect: allow, why: access/1 }\n"+
		"  - { who: Ada, app: wiki, expect: allow, why: not_listed }")
	if len(results.Failed()) != 2 || results.OK() {
		t.Fatalf("%+v", results.Cases)
	}
	want := "all may: Eve GET wiki/, 2026-01-07T12:00:00+01:00 from 203.0.113.1: want allow by access/1, got deny by access/1, not_listed, policy (access/1 admits groups staff)"
	if c := results.Cases[0]; c.String() != want || c.File != "t.yaml" || c.Line != 2 {
		t.Errorf("%s:%d: %s\nwant %s", c.File, c.Line, c.String(), want)
	}
	if c := results.Cases[1]; c.Line != 3 || !strings.HasSuffix(c.String(), "want allow by not_listed, got allow by access/1") {
		t.Errorf("%d: %s", c.Line, c.String())
	}
}

// TestRowsThatCannotBeTriedFail: a typing error must not look like a row that holds.
func TestRowsThatCannotBeTriedFail(t *testing.T) {
	e := engine(t)
	for row, want := range map[string]string{
		"{ who: Adda, app: wiki, expect: deny }":                                          `who: the directory has nobody called "Adda"`,
		"{ who: group staf, app: wiki, expect: deny }":                                    `who: the directory has no group "staf"`,
		"{ who: Eve, except: Adda, app: wiki, expect: deny }":                             `except: the directory has nobody called "Adda"`,
		"{ who: Eve, except: { name: x }, app: wiki, expect: deny }":                      "except: name people of the directory",
		"{ who: Eve, except: Eve, app: wiki, expect: deny }":                              "who: nobody is left to ask",
		"{ who: Eve, app: wikki, expect: deny }":                                          `the policy knows no app "wikki"`,
		"{ who: Eve, app: wiki, from: offfice, expect: deny }":                            `from: "offfice" is no address, and no place of the directory`,
		"{ who: { type: robot, name: x }, app: wiki, expect: deny }":                      `who: type is "robot"; it is user or service`,
		"{ who: Eve, app: wiki, path: /" + strings.Repeat("x", 5000) + ", expect: deny }": "resource.path is longer than 4096 bytes",
	} {
		results := run(t, e, "  - "+row)
		if results.OK() || results.Cases[0].Problem != want || results.Cases[0].Line != 2 {
			t.Errorf("%.80s: %+v\nwant %s", row, results.Cases, want)
		}
	}
	many := make([]string, 20)
	for i := range many {
		many[i] = "/"
	}
	list := "[" + strings.Join(many, ", ") + "]"
	methods := strings.ReplaceAll(list, "/", "GET")
	whens := strings.ReplaceAll(list, "/", "mon")
	results := run(t, e, "  - { who: Eve, app: wiki, path: "+list+", method: "+methods+", when: "+whens+", from: "+strings.ReplaceAll(list, "/", "10.0.0.1")+", expect: deny }")
	if results.OK() || !strings.Contains(results.Cases[0].Problem, "160000 requests") {
		t.Errorf("%+v", results.Cases[0])
	}
}

func TestMistakesInTablesHavePlaces(t *testing.T) {
	for row, want := range map[string]string{
		"{ who: Eve, app: wiki }":                                       "t.yaml:2:5: cases[0]: expect is missing: allow, deny, step_up or sign_in",
		"{ app: wiki, expect: deny }":                                   "t.yaml:2:5: cases[0]: who is missing",
		"{ who: Eve, expect: deny }":                                    "t.yaml:2:5: cases[0]: app is missing",
		"{ who: Eve, app: wiki, expect: denied }":                       `t.yaml:2:36: cases[0].expect: "denied" is not allow, deny, step_up or sign_in`,
		"{ who: Eve, app: wiki, expecd: deny }":                         `t.yaml:2:28: cases[0].expecd: unknown key; did you mean "expect"?`,
		"{ who: Eve, app: wiki, path: a, expect: deny }":                `t.yaml:2:5: cases[0]: path "a": a path begins with /`,
		"{ who: Eve, app: wiki, when: noon, expect: deny }":             `t.yaml:2:34: cases[0].when[0]: ` + errWhen.Error(),
		"{ who: Eve, app: wiki, when: mon 25:00, expect: deny }":        `t.yaml:2:34: cases[0].when[0]: ` + errWhen.Error(),
		"{ who: Eve, app: wiki, with: { signed_in: 5 }, expect: deny }": `t.yaml:2:47: cases[0].with.signed_in: want a span of time with its unit, such as 15m`,
		"{ who: { groups: [a], mfaa: true }, app: wiki, expect: deny }": `t.yaml:2:27: cases[0].who[0].mfaa: unknown key; did you mean "mfa"?`,
	} {
		_, err := Parse("t.yaml", []byte("cases:\n  - "+row))
		if _, problems := errors.AsType[policy.Problems](err); !problems || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", row, err, want)
		}
	}
}

func TestDefaultsFillRows(t *testing.T) {
	table, err := Parse("t.yaml", []byte(`
defaults: { who: group staff, except: Ben, app: payroll, path: /run, from: office, with: { mfa: false, signed_in: 1h } }
cases:
  - expect: step_up
  - { with: { signed_in: 1m }, expect: allow }
  - { path: /, with: { mfa: true }, expect: allow, why: finance }
  - { who: Ben, expect: deny }
`))
	if err != nil {
		t.Fatal(err)
	}
	results, err := Run(t.Context(), engine(t), []*Table{table}, people(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(results.Cases) != 4 {
		t.Errorf("%d cases", len(results.Cases))
	}
	for _, f := range results.Failed() {
		t.Error(f.String())
	}
}

// TestNoRowExpectsAnError: a policy that fails denies, and yet no row that expects a denial holds.
func TestNoRowExpectsAnError(t *testing.T) {
	for reason, want := range map[string]Answer{
		policy.ReasonAllow: Allow, policy.ReasonPolicy: Deny, policy.ReasonUndefined: Deny, policy.ReasonStepUp: StepUp,
		policy.ReasonUnauthenticated: SignIn, policy.ReasonError: NoAnswer, policy.ReasonTimeout: NoAnswer, policy.ReasonUnknownObligation: NoAnswer,
	} {
		if got := AnswerOf(&policy.Verdict{Reason: reason}); got != want {
			t.Errorf("%s is %s, want %s", reason, got, want)
		}
	}
	if err := new(Answer).UnmarshalText([]byte(NoAnswer)); err == nil {
		t.Error("a row may expect an error")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	table, err := Parse("t.yaml", []byte("cases: [{ who: Eve, app: wiki, expect: deny }]"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("it takes too long")
	cancel(late)
	if _, err := Run(ctx, engine(t), []*Table{table}, nil); !errors.Is(err, late) {
		t.Errorf("%v", err)
	}
}

// TestEveryMistakeIsFound: for each access rule, a change that lets somebody else in or keeps somebody out makes a row
// fail. Rows that hold under a changed policy would be worth nothing.
func TestEveryMistakeIsFound(t *testing.T) {
	table, err := Parse("t.yaml", []byte(`
cases:
  - { who: group staff, app: wiki, expect: allow }
  - { who: everybody, except: group staff, app: wiki, expect: deny }
  - { who: [everybody, anonymous], app: shop, expect: allow }
  - { who: everybody, app: shop, method: POST, expect: deny }
  - { who: Ada, app: payroll, expect: allow }
  - { who: Ada, app: payroll, with: { mfa: false }, expect: step_up }
  - { who: everybody, except: Ada, app: payroll, path: [/, /run], from: office, expect: deny }
  - { who: Ada, app: payroll, path: /run, from: office, expect: allow }
  - { who: Ada, app: payroll, path: /run, from: office, when: sat, expect: deny }
  - { who: Ada, app: payroll, path: /run, expect: deny }
  - { who: Ada, app: payroll, path: /run, from: office, with: { signed_in: 1h }, expect: step_up }
`))
	if err != nil {
		t.Fatal(err)
	}
	mutants := map[string]func(a []policy.App){
		"nothing":             nil,
		"wiki for finance":    func(a []policy.App) { a[0].Access[0].Groups = []string{"finance"} },
		"wiki for everybody":  func(a []policy.App) { a[0].Access[0] = policy.Rule{Public: true} },
		"wiki for nobody":     func(a []policy.App) { a[0].Access = nil },
		"shop for all":        func(a []policy.App) { a[1].Access[0].Methods = nil },
		"payroll without mfa": func(a []policy.App) { a[2].Access[1].MFA = false },
		"payroll for staff":   func(a []policy.App) { a[2].Access[1].Groups = []string{"staff"} },
		"run at all hours":    func(a []policy.App) { a[2].Access[0].Hours = nil },
		"run from anywhere":   func(a []policy.App) { a[2].Access[0].Networks = nil },
		"run without end":     func(a []policy.App) { a[2].Access[0].MaxAge = 0 },
		"run like the rest":   func(a []policy.App) { a[2].Access = slices.Delete(a[2].Access, 0, 1) },
	}
	for name, mutate := range mutants {
		a := apps()
		if mutate != nil {
			mutate(a)
		}
		b, err := policy.Build(policy.Config{}, a)
		if err != nil {
			t.Fatal(name, err)
		}
		e, err := policy.Compile(t.Context(), b)
		if err != nil {
			t.Fatal(name, err)
		}
		results, err := Run(t.Context(), e, []*Table{table}, people(t))
		if err != nil {
			t.Fatal(name, err)
		}
		if results.OK() != (mutate == nil) {
			t.Errorf("%s: all rows hold is %v; %v", name, results.OK(), results.Failed())
		}
	}
}
