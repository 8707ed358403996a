package condition

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"sallyport/policy"
)

// decide is what the conditions say of a request.
func decide(app *policy.App, in *policy.Input) (allow, stepUp bool) {
	if in.Action.Name == policy.ActionConnect && in.Context.Request.CrossOrigin {
		return false, false
	}
	for i := range app.Access {
		r := &app.Access[i]
		if !Decides(r, in) {
			continue
		}
		var failed []Kind
		for _, c := range Of(r, "UTC") {
			if !c.Holds(in) {
				failed = append(failed, c.Kind)
			}
		}
		return len(failed) == 0, len(failed) > 0 && !slices.ContainsFunc(failed, func(k Kind) bool { return k != MFA && k != ACR && k != MaxAge })
	}
	return false, false
}

func TestConditionsSayWhatTheShippedRegoSays(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var apps []policy.App
	for i := range rounds(20) {
		apps = append(apps, randomApp(r, fmt.Sprint("app-", i)))
	}
	b, err := policy.Build(policy.Config{}, apps)
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	var mutants [3]int
	for i := range apps {
		read, err := b.App(apps[i].Name)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			in := randomInput(r, read.Name)
			v := e.Decide(context.Background(), in)
			allow, step := decide(read, in)
			if allow != v.Allow || step != (v.Reason == policy.ReasonStepUp) {
				t.Fatalf("conditions say %v (step up %v), the policy %v %s\n%+v\n%s", allow, step, v.Allow, v.Reason, read, in.AppendJSON(nil))
			}
			for m, mutant := range mutated(read) {
				if got, _ := decide(mutant, in); got != v.Allow {
					mutants[m]++
				}
			}
		}
	}
	for m, caught := range mutants {
		if caught == 0 {
			t.Errorf("mutant %d of the rules went unnoticed", m)
		}
	}
}

// mutated are apps whose rules say something else: without the first rule, without methods, without restrictions.
func mutated(app *policy.App) [3]*policy.App {
	var list [3]*policy.App
	for i := range list {
		c := *app
		c.Access = append(policy.Access(nil), app.Access...)
		list[i] = &c
	}
	list[0].Access = list[0].Access[1:]
	for i := range app.Access {
		list[1].Access[i].Methods = nil
		list[2].Access[i].Hours, list[2].Access[i].Networks, list[2].Access[i].MFA = nil, nil, false
	}
	return list
}

func rounds(n int) int {
	if r, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil && r > 0 {
		return r
	}
	return n
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func randomApp(r *rand.Rand, name string) policy.App {
	app := policy.App{Name: name}
	for i := range 1 + r.IntN(4) {
		rule := policy.Rule{
			ID:      fmt.Sprint("r", i),
			Paths:   pick(r, nil, []string{"/"}, []string{"/a/"}, []string{"/a", "/b/c/"}),
			Methods: pick(r, nil, nil, []string{"GET"}, []string{"HEAD", "POST"}),
			Groups:  pick(r, []string{"staff"}, []string{"a", "b"}),
			Emails:  pick(r, nil, []string{"Ada@corp.example"}),
			Domains: pick(r, nil, nil, []string{"Partner.example"}),
			MFA:     r.IntN(4) == 0, ACR: pick(r, nil, nil, []string{"gold"}), MaxAge: pick(r, 0, 0, time.Hour),
		}
		if r.IntN(5) == 0 {
			rule = policy.Rule{ID: rule.ID, Paths: rule.Paths, Methods: rule.Methods, Public: true}
		}
		rule.Hours = pick(r, nil, nil, &policy.Hours{Days: []string{"mon-wed"}}, &policy.Hours{From: "22:30", To: "06:15"}, &policy.Hours{Days: []string{"tue", "fri"}, From: "08:00", To: "18:00"})
		rule.Networks = pick(r, nil, nil, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")})
		app.Access = append(app.Access, rule)
	}
	return app
}

func randomInput(r *rand.Rand, app string) *policy.Input {
	method, upgrade := pick(r, "GET", "HEAD", "POST", "DELETE"), pick(r, "", "", "websocket")
	in := &policy.Input{
		Subject:  policy.Subject{Type: policy.TypeAnonymous},
		Action:   policy.Action{Name: policy.ActionName(method, upgrade), Method: method, Upgrade: upgrade},
		Resource: policy.Resource{Type: policy.TypeApp, ID: app, Path: pick(r, "/", "/a", "/a/x", "/ab", "/b/c", "/b/c/d", "/b")},
		Context:  policy.Context{Client: policy.Client{IP: pick(r, "", "10.1.2.3", "192.0.2.1", "2001:db8::1")}, Request: policy.Request{CrossOrigin: r.IntN(2) == 0}},
	}
	in.Context.SetTime(time.Date(2026, 11, 23, r.IntN(24), pick(r, 0, 14, 15, 29, 30, 59), 0, 0, time.UTC).AddDate(0, 0, r.IntN(7)), time.UTC)
	if r.IntN(5) > 0 {
		in.Subject = policy.Subject{Type: policy.TypeUser, ID: "corp|1", Email: pick(r, "", "ada@Corp.example", "x@partner.example", "x@sub.partner.example"),
			EmailVerified: r.IntN(3) > 0, Groups: pick(r, nil, []string{"staff"}, []string{"b", "staff"}, []string{"c"})}
		if r.IntN(6) > 0 {
			in.Subject.Authn = &policy.Authn{MFA: r.IntN(2) == 0, ACR: pick(r, "", "gold")}
			if r.IntN(3) > 0 {
				in.Subject.Authn.AgeS = policy.AgeOf(pick(r, 0, 59*time.Minute, time.Hour))
			}
		}
	}
	return in
}
