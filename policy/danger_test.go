package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// dangerous are apps that are defended in every combination, with rules and with a package that allows everybody.
func dangerous(t testing.TB, memo bool) (e *Engine, names []string) {
	t.Helper()
	var apps []App
	modules := map[string]string{}
	for _, name := range []string{"", "shield", "open", "shield-open"} {
		app := App{ShieldThreshold: map[bool]int{true: 5}[name == "shield" || name == "shield-open"], CrossSite: name == "open" || name == "shield-open"}
		rules, packed := app, app
		rules.Name, rules.Access = "rules-"+name+"x", company()[5].Access
		packed.Name, packed.Access = "own-"+name+"x", Access{{Groups: []string{"staff"}}}
		apps = append(apps, rules, packed)
		names = append(names, rules.Name, packed.Name)
		modules[packed.Name+".rego"] = "package sallyport.app[\"" + packed.Name + "\"]\n\ndecision := {\"allow\": true}"
	}
	return newEngine(t, Config{Memo: memo, Deadline: maxDeadline}, apps, modules), names
}

// calm is a request without what the shipped policy refuses it for.
func calm(in *Input) *Input {
	c := *in
	c.Context.Shield, c.Context.Request.CrossSiteUnsafe = nil, new(false)
	return &c
}

// danger is the code of the denial that a request earns, were it else allowed.
func danger(in *Input, app *App) string {
	unsafe, found := in.Context.Request.CrossSiteUnsafe, in.Context.Shield
	switch {
	case unsafe != nil && *unsafe && !app.CrossSite:
		return "cross_site"
	case found == nil || app.ShieldThreshold == 0:
		return ""
	case found.Score >= app.ShieldThreshold:
		return "shield"
	case found.Timeout:
		return "shield_timeout"
	}
	return ""
}

// A dangerous request is answered as its calm twin where that is refused, and is refused itself where that is allowed:
// no finding lets anybody in, none is left without an answer, and no package lifts a denial. The memo agrees.
func TestDangerOnlyTakesAway(t *testing.T) {
	e, names := dangerous(t, false)
	remembering, _ := dangerous(t, true)
	r := random(t)
	counts := map[string]int{}
	for range rounds(2_000) {
		in := endangered(r, names)
		app, err := e.Bundle().App(in.Resource.ID)
		if err != nil {
			t.Fatal(err)
		}
		before, got := e.Decide(t.Context(), calm(in)), e.Decide(t.Context(), in)
		want := danger(in, app)
		switch {
		case got.Reason == ReasonUndefined || got.Reason == ReasonError:
			t.Fatalf("no clear answer: %v %s", got.Err, in.AppendJSON(nil))
		case !before.Allow || want == "":
			if string(got.JSON) != string(before.JSON) {
				t.Fatalf("got %s, and without findings %s: %s", got.JSON, before.JSON, in.AppendJSON(nil))
			}
		case got.Allow || got.Decision.Reasons[0].Code != want:
			t.Fatalf("got %s, want %s: %s", got.JSON, want, in.AppendJSON(nil))
		default:
			counts[want]++
		}
		if again := remembering.Decide(t.Context(), in); string(again.JSON) != string(got.JSON) || again.Reason != got.Reason {
			t.Fatalf("remembered %s, evaluated %s: %s", again.JSON, got.JSON, in.AppendJSON(nil))
		}
	}
	t.Log(counts)
	for _, code := range []string{"cross_site", "shield", "shield_timeout"} {
		if counts[code] == 0 {
			t.Errorf("nothing was refused for %s", code)
		}
	}
}

func endangered(r *rand.Rand, names []string) *Input {
	in := randomInput(r, names...)
	in.Context.Shield = pick(r, nil, &Shield{Score: r.IntN(10), Body: "whole", Timeout: r.IntN(3) == 0, Rules: []int64{942100}})
	if in.Action.Name == ActionConnect {
		in.Context.Request.CrossOrigin = false
	}
	return in
}

// Findings count where an app blocks, and nowhere else: requests with other findings share an answer there.
func TestAnswersDependOnDangersThatAnAppKnows(t *testing.T) {
	e, names := dangerous(t, true)
	for _, name := range names {
		got, err := e.Dependencies(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		app, err := e.Bundle().App(name)
		if err != nil {
			t.Fatal(err)
		}
		if has := slices.Contains(got, "context.shield"); has != (app.ShieldThreshold > 0) {
			t.Errorf("%s depends on findings: %v", name, has)
		}
		if has := slices.Contains(got, "context.request.cross_site_unsafe"); has == app.CrossSite {
			t.Errorf("%s depends on pages of other sites: %v", name, has)
		}
	}
}

func TestDefencesArePartOfTheDigest(t *testing.T) {
	digests := map[string]bool{}
	for _, app := range []App{{}, {ShieldThreshold: 5}, {ShieldThreshold: 6}, {CrossSite: true}} {
		app.Name, app.Access = "wiki", wikiApp[0].Access
		b := mustBuild(t, Config{}, []App{app})
		digests[b.Digest] = true
		if got, err := b.App("wiki"); err != nil || got.ShieldThreshold != app.ShieldThreshold || got.CrossSite != app.CrossSite {
			t.Errorf("got %+v, want %+v (%v)", got, app, err)
		}
	}
	if len(digests) != 4 {
		t.Errorf("got %d digests of 4 policies", len(digests))
	}
	if err := (&App{Name: "wiki", ShieldThreshold: -1}).Check(); err == nil {
		t.Error("a threshold below every score passed")
	}
}
