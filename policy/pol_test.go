package policy

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// POL-01: an app package without a default, no rule of which matches.
func TestPOL01UndefinedDenies(t *testing.T) {
	e := ownPolicy(t, `decision := {"allow": true} if "nobody" in input.subject.groups`)
	wantVerdict(t, e.Decide(t.Context(), person("wiki", "staff")), ReasonUndefined, ReasonUndefined)
	wantVerdict(t, e.Decide(t.Context(), person("unknown-app", "staff")), ReasonUndefined, "")
	wantVerdict(t, e.Decide(t.Context(), stranger("wiki")), ReasonUnauthenticated, "")
}

// POL-02: only boolean true allows.
func TestPOL02OnlyBooleanTrueAllows(t *testing.T) {
	for decision, reason := range map[string]string{
		`{"allow": true}`:                       ReasonAllow,
		`{"allow": false}`:                      ReasonPolicy,
		`{"allow": "true"}`:                     ReasonError,
		`{"allow": 1}`:                          ReasonError,
		`{"allow": {}}`:                         ReasonError,
		`{"allow": {true}}`:                     ReasonError,
		`{"allow": [true]}`:                     ReasonError,
		`{"allow": null}`:                       ReasonError,
		`{"reasons": []}`:                       ReasonUndefined,
		`{}`:                                    ReasonUndefined,
		`true`:                                  ReasonError,
		`"allow"`:                               ReasonError,
		`{"allow"}`:                             ReasonError,
		`[{"allow": true}]`:                     ReasonError,
		`null`:                                  ReasonError,
		`{"allow": true, "alow": true}`:         ReasonError,
		`{"allow": true, "reasons": "because"}`: ReasonError,
		`{"allow": true, "reasons": [{"code": 1}]}`:     ReasonError,
		`{"allow": true, "reasons": [{"text": "x"}]}`:   ReasonError,
		`{"allow": true, "labels": {"a": 1}}`:           ReasonError,
		`{"allow": true, "obligations": [1]}`:           ReasonError,
		`{"allow": true, "obligations": [{"mfa": 1}]}`:  ReasonError,
		`{"allow": true, "obligations": {"step_up"}}`:   ReasonError,
		`{"allow": true, "reasons": {{"code": "set"}}}`: ReasonAllow,
		`{"allow": true, "labels": {"a": "1"}}`:         ReasonAllow,
	} {
		t.Run(decision, func(t *testing.T) {
			v := ownPolicy(t, "decision := "+decision).Decide(t.Context(), person("wiki", "staff"))
			wantVerdict(t, v, reason, "")
			if (v.Err != nil) != (reason == ReasonError || reason == ReasonUndefined) {
				t.Errorf("error %v with reason %s", v.Err, reason)
			}
		})
	}
	// Two values for one name.
	e := ownPolicy(t, "decision contains {\"allow\": true}\ndecision contains {\"allow\": false}")
	wantVerdict(t, e.Decide(t.Context(), person("wiki", "staff")), ReasonError, "")
	e = ownPolicy(t, "decision.allow contains true")
	wantVerdict(t, e.Decide(t.Context(), person("wiki", "staff")), ReasonError, "")
}

// POL-03: an error in evaluation denies and says where.
func TestPOL03ErrorDeniesWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct{ rules, want string }{
		"division by zero": {`decision := {"allow": 1 / count(input.subject.grants) > 0}`, "operator/wiki.rego:3: eval_builtin_error: div: divide by zero"},
		"negated error":    {"bad if 1 / count(input.subject.grants)\n\ndecision := {\"allow\": true} if not bad", "operator/wiki.rego:3"},
		"conflict": {"decision := {\"allow\": true} if input.action.method == \"GET\"\n\ndecision := {\"allow\": false} if input.action.protocol == \"HTTP/2.0\"",
			"operator/wiki.rego:5: eval_conflict_error: rule"},
		"function conflict": {"f(x) := 1 if x == \"GET\"\n\nf(x) := 2 if x != \"PUT\"\n\ndecision := {\"allow\": f(input.action.method) == 1}", "operator/wiki.rego:5: eval_conflict_error: function"},
		"bad number":        {`decision := {"allow": to_number(input.resource.path) == 1}`, "to_number"},
		"machine's zone":    {`decision := {"allow": time.weekday([input.context.time_ns, "Local"]) == "Monday"}`, "Local"},
		"zone abbreviation": {`decision := {"allow": time.parse_ns("RFC1123", input.resource.path) > 0}`, "abbreviations"},
		"huge number":       {`decision := {"allow": count([y | some x in ["1e999999999"]; y := to_number(x) % 7]) == 1}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := ownPolicy(t, c.rules).Decide(t.Context(), person("wiki", "staff"))
			wantVerdict(t, v, ReasonError, ReasonError)
			if !strings.Contains(v.Err.Error(), c.want) || !strings.Contains(string(v.JSON), `"admin"`) {
				t.Errorf("got %v, want %q", v.Err, c.want)
			}
		})
	}
}

// POL-04: what runs too long is stopped, and other requests do not notice.
func TestPOL04TooLongDenies(t *testing.T) {
	for name, rules := range map[string]string{
		"comprehension": `decision := {"allow": count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == 0]) == 0}`,
		"range":         `decision := {"allow": count(numbers.range(1, 4000000000)) > 0}`,
		"every":         "decision := {\"allow\": true} if {\n\tevery a in numbers.range(1, 100000) { count([1 | some b in numbers.range(1, 100000); b == a]) == 1 }\n}",
		"functions":     "f(a, b) := a + b\n\ndecision := {\"allow\": count({x | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); x := f(a, b)}) > 0}",
		"concat": `decision := {"allow": true} if {
	s := concat("", ["0123456789abcdef" | some _ in numbers.range(1, 100000000)])
	contains(s, input.subject.id)
}`,
	} {
		t.Run(name, func(t *testing.T) {
			e := ownPolicy(t, rules)
			began := time.Now()
			v := e.Decide(t.Context(), person("wiki", "staff"))
			wantVerdict(t, v, ReasonTimeout, ReasonTimeout)
			if took := time.Since(began); took > 30*time.Second { // 100 ms on a quiet machine, and hours if nothing stopped it
				t.Errorf("stopped after %v only", took)
			}
		})
	}
}

// POL-04: a match cannot be stopped, so it must not be begun.
func TestPOL04LongMatchesAreRefused(t *testing.T) {
	text := `s := concat("", ["0123456789abcdef" | some _ in numbers.range(1, 20000)])`
	for name, expression := range map[string]string{
		"match":   `regex.match("(a{0,500}b){0,1}.*(x+x+)+y", s)`,
		"huge":    `regex.match(concat("|", [sprintf("%d(.{900})$", [n]) | some n in numbers.range(1, 100)]), s)`,
		"replace": `regex.replace(s, "(a{0,500}b){0,1}.*(x+x+)+y", "z") == s`,
		"find":    `count(regex.find_n("(a{0,500}b){0,1}.*(x+x+)+y", s, -1)) == 0`,
		"split":   `count(regex.split("(a{0,500}b){0,1}.*(x+x+)+y", s)) == 1`,
		"glob":    `glob.match("*a*b*c*d*e*", [], s)`,
	} {
		t.Run(name, func(t *testing.T) {
			e := ownPolicy(t, "decision := {\"allow\": true} if {\n\t"+text+"\n\t"+expression+"\n}")
			e.deadline = maxDeadline
			began := time.Now()
			v := e.Decide(t.Context(), person("wiki", "staff"))
			wantVerdict(t, v, ReasonError, "")
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	e := ownPolicy(t, `decision := {"allow": regex.match("^/[a-z]+/", input.resource.path)}`)
	wantVerdict(t, e.Decide(t.Context(), person("wiki", "staff")), ReasonAllow, "")
}

func TestPOL04OthersAreAnsweredMeanwhile(t *testing.T) {
	e := newEngine(t, Config{Deadline: time.Second}, []App{{Name: "slow"}, {Name: "wiki", Access: Access{{Groups: []string{"staff"}}}}},
		map[string]string{"slow.rego": `package sallyport.app["slow"]

decision := {"allow": count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == 0]) == 0}`})
	var wg sync.WaitGroup
	wg.Go(func() { wantTimeout(t, e.Decide(t.Context(), person("slow"))) })
	for range 100 {
		wantVerdict(t, e.Decide(t.Context(), person("wiki", "staff")), ReasonAllow, "")
	}
	wg.Wait()
}

func wantTimeout(t *testing.T, v *Verdict) {
	if v.Reason != ReasonTimeout || v.Allow {
		t.Errorf("got %s, want a timeout", v.JSON)
	}
}

func TestCancelledContextDenies(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := ownPolicy(t, `decision := {"allow": count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == 0]) == 0}`)
	wantVerdict(t, e.Decide(ctx, person("wiki", "staff")), ReasonError, ReasonError)
}

// TestPanicDenies: a defect in a built-in function costs one request its answer, not the gateway its life.
func TestPanicDenies(t *testing.T) {
	e := ownPolicy(t, `decision := {"allow": true} if regex.match("a", input.resource.path)`)
	e.builtins = map[string]*topdown.Builtin{guardPrefix + "regex.match": {
		Decl: e.builtins[guardPrefix+"regex.match"].Decl,
		Func: func(topdown.BuiltinContext, []*ast.Term, func(*ast.Term) error) error { panic("boom") },
	}}
	v := e.Decide(t.Context(), person("wiki", "staff"))
	wantVerdict(t, v, ReasonError, ReasonError)
	if !strings.Contains(v.Err.Error(), "boom") {
		t.Errorf("got %v", v.Err)
	}
}

// POL-05: what holds no decision does not become active.
func TestPOL05BundlesWithoutADecisionAreRefused(t *testing.T) {
	apps := []App{{Name: "wiki"}}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"empty folder":            {map[string]string{}, "holds no *.rego file"},
		"tests only":              {map[string]string{"wiki_test.rego": "package x"}, "holds no *.rego file"},
		"empty file":              {map[string]string{"wiki.rego": ""}, "wiki.rego: empty module"},
		"comment only":            {map[string]string{"wiki.rego": "# nothing\n"}, "wiki.rego: empty module"},
		"no decision":             {map[string]string{"wiki.rego": `package sallyport.app["wiki"]` + "\n\nallow := true"}, "wiki.rego:1:1: no rule named decision"},
		"below the package":       {map[string]string{"wiki.rego": `package sallyport.app["wiki"].x` + "\n\ndecision := true"}, "no rule named decision"},
		"function":                {map[string]string{"wiki.rego": `package sallyport.app["wiki"]` + "\n\ndecision(x) := x"}, "no rule named decision"},
		"app that does not exist": {map[string]string{"wiki.rego": `package sallyport.app["wikki"]` + "\n\ndecision := {}"}, `an app "wikki", which does not exist`},
		"shipped package":         {map[string]string{"a.rego": "package sallyport.authz\n\ndecision := {\"allow\": true}"}, "a.rego:1:1: package sallyport.authz is not yours"},
		"shipped data":            {map[string]string{"a.rego": "package sallyport.config\n\napps := {}"}, "not yours"},
		"root":                    {map[string]string{"a.rego": "package sallyport\n\nauthz := {}"}, "not yours"},
		"all apps":                {map[string]string{"a.rego": "package sallyport.app\n\nwiki.decision := {\"allow\": true}"}, "not yours"},
		"our data":                {map[string]string{"wiki.rego": "package x\n\ny := 1", "data.json": `{"sallyport": {"config": 1}}`}, "data.sallyport is not yours to define"},
		"our data by folder":      {map[string]string{"wiki.rego": "package x\n\ny := 1", "sallyport/config/data.json": `{"apps": {}}`}, "data.sallyport is not yours to define"},
		"data over a rule":        {map[string]string{"wiki.rego": "package x\n\ny := 1", "data.json": `{"x": {"y": 2}}`}, "conflicting"},
		"syntax":                  {map[string]string{"sub/wiki.rego": "package x\n\ny := {"}, "sub/wiki.rego:3:6: "},
		"old syntax":              {map[string]string{"wiki.rego": "package x\n\np { true }"}, "wiki.rego:3:1: `if` keyword is required"},
		"unsafe variable":         {map[string]string{"wiki.rego": "package x\n\np := y"}, "wiki.rego:3:6: var y is unsafe"},
		"unknown function":        {map[string]string{"wiki.rego": "package x\n\np := http.send({})"}, "wiki.rego:3:6: "},
		"recursion": {map[string]string{"wiki.rego": `package sallyport.app["wiki"]` + "\n\nimport data.sallyport.authz\n\ndecision := authz.decision"},
			"wiki.rego:5:13: data.sallyport.authz.decision asks this app's package"},
		"recursion by a helper": {map[string]string{"wiki.rego": `package sallyport.app["wiki"]` + "\n\ndecision := data.h.d", "h.rego": "package h\n\nd := data.sallyport.authz.decision.allow"},
			"h.rego:3:6: data.sallyport.authz.decision asks"},
		"recursion in disguise": {map[string]string{"wiki.rego": `package sallyport.app["wiki"]` + "\n\ndecision := data.sallyport.authz[x] if x := \"decision\""},
			"builds on data.sallyport.authz.access"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Build(Config{Bundle: writeFolder(t, c.files)}, apps)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
	if _, err := Build(Config{Bundle: filepath.Join(t.TempDir(), "missing")}, apps); err == nil {
		t.Error("a missing bundle was accepted")
	}
	without := contents{capabilities: allowed, modules: []module{{"operator/x.rego", []byte("package x")}}, data: []byte("{}")}
	if _, err := without.compile(); err == nil || !strings.Contains(err.Error(), "no data.sallyport.authz.decision") {
		t.Errorf("a policy without the entry point: %v", err)
	}
}

// POL-06: an archive counts only when it is complete. (A folder somebody is writing to: package bundle.)
func TestPOL06TruncatedArchiveIsRefused(t *testing.T) {
	tarball := tarOf(t, map[string]string{"a.rego": "package a\n\nx := 1", "wiki.rego": `package sallyport.app["wiki"]` + "\n\ndecision := {\"allow\": true}"})
	whole := filepath.Join(t.TempDir(), "policy.tar")
	for name, data := range map[string][]byte{"whole": tarball, "gzip": gzipOf(t, tarball)} {
		if err := os.WriteFile(whole, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Build(Config{Bundle: whole}, []App{{Name: "wiki"}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for n := 0; n < len(data)-1; n += 13 {
			if err := os.WriteFile(whole, data[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Build(Config{Bundle: whole}, []App{{Name: "wiki"}}); err == nil {
				t.Fatalf("%s: %d of %d bytes accepted", name, n, len(data))
			}
		}
	}
}

// POL-06, POL-08: requests see the old policy or the new one, whole, and say which.
func TestPOL08SwappedEnginesNeverMix(t *testing.T) {
	build := func(group string) *Engine {
		return newEngine(t, Config{Memo: true}, []App{
			{Name: "wiki", Access: Access{{Groups: []string{group}}}},
			{Name: "same", Access: Access{{Groups: []string{"staff"}}}},
		}, nil)
	}
	engines := []*Engine{build("staff"), build("sales")}
	wants := map[string]bool{engines[0].Digest(): true, engines[1].Digest(): false}
	var active sync.Map
	active.Store("", engines[0])
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				x, _ := active.Load("")
				e := x.(*Engine)
				if v := e.Decide(t.Context(), person("wiki", "staff")); v.Allow != wants[e.Digest()] {
					t.Errorf("%s: got %s", e.Digest(), v.JSON)
					return
				}
				if v := e.Decide(t.Context(), person("same", "staff")); !v.Allow {
					t.Errorf("a rule that did not change: %s", v.JSON)
					return
				}
			}
		})
	}
	for i := range rounds(200) {
		active.Store("", engines[i%2])
		wantVerdict(t, engines[i%2].Decide(t.Context(), person("same", "staff")), ReasonAllow, "")
	}
	close(done)
	wg.Wait()
}

// POL-10: nothing a client or a provider sends becomes a key of the input or of the decision.
func TestPOL10InputCannotBeForged(t *testing.T) {
	in := person("wiki", "staff\x00admins", `admins","x`, "input", `"],"groups":["admins"`)
	in.Subject.Claims = map[string]any{"allow": true, "roles": []any{"a\x00b"}, "subject": map[string]any{"groups": []any{"admins"}}, `x":1,"y`: 1}
	in.Resource.Path = `/"},"subject":{"groups":["admins"]}`
	in.Context.Request.Headers = map[string]string{"input": "x", "allow": "true", `a":"b`: "c"}
	parsed, err := ParseInput(in.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.Subject.Groups) != 4 || parsed.Resource.Path != in.Resource.Path || len(parsed.Context.Request.Headers) != 3 {
		t.Errorf("read back as %s", parsed.AppendJSON(nil))
	}
	e := newEngine(t, Config{}, []App{{Name: "wiki", Access: Access{{Groups: []string{"admins"}}}}}, nil)
	wantVerdict(t, e.Decide(t.Context(), in), ReasonPolicy, "not_listed")
	wantVerdict(t, e.Recompute(t.Context(), in.AppendJSON(nil)), ReasonPolicy, "not_listed")
	own := ownPolicy(t, "decision := {\"allow\": true} if input.allow\n\ndecision := {\"allow\": true} if input.claims.allow\n\ndecision := {\"allow\": true} if \"admins\" in input.subject.groups")
	wantVerdict(t, own.Decide(t.Context(), in), ReasonUndefined, "")
}

// POL-14: allowed by group, denied because nothing is known of the device.
func TestPOL14MissingPostureDenies(t *testing.T) {
	rules := `decision := data.sallyport.authz.access if input.subject.device.compliant`
	e := ownPolicy(t, rules)
	in := person("wiki", "staff")
	wantVerdict(t, e.Decide(t.Context(), in), ReasonUndefined, "")
	in.Subject.Device = &Device{ID: "d-1"}
	wantVerdict(t, e.Decide(t.Context(), in), ReasonUndefined, "")
	in.Subject.Device.Compliant = new(false)
	wantVerdict(t, e.Decide(t.Context(), in), ReasonUndefined, "")
	in.Subject.Device.Compliant = new(true)
	wantVerdict(t, e.Decide(t.Context(), in), ReasonAllow, "")
	in.Subject.Groups = nil
	wantVerdict(t, e.Decide(t.Context(), in), ReasonPolicy, "not_listed")
	// The trap in other spellings: absent is not false, and not "".
	e = ownPolicy(t, `decision := {"allow": input.context.client.country != "XX"}`)
	wantVerdict(t, e.Decide(t.Context(), in), ReasonUndefined, "")
	e = ownPolicy(t, `decision := {"allow": true} if input.subject.device`)
	in.Subject.Device = nil
	wantVerdict(t, e.Decide(t.Context(), in), ReasonUndefined, "")
}

// POL-16: decisions recomputed from their records, under the archive their digest names, come out the same.
func TestPOL16RecordsRecompute(t *testing.T) {
	live := newEngine(t, Config{Memo: true, Timezone: "Europe/Berlin", Deadline: maxDeadline}, append(company(), App{Name: "own"}), map[string]string{"own.rego": ownExample})
	archived, err := OpenArchive(live.bundle.Archive())
	if err != nil {
		t.Fatal(err)
	}
	replay, err := Compile(t.Context(), archived)
	if err != nil {
		t.Fatal(err)
	}
	if replay.Digest() != live.Digest() || replay.Revision() != live.Revision() {
		t.Fatalf("digest %s revision %s became %s %s", live.Digest(), live.Revision(), replay.Digest(), replay.Revision())
	}
	r := random(t)
	reasons := make(map[string]int)
	for range rounds(10_000) {
		in := randomInput(r, "app-00", "app-01", "app-02", "app-03", "app-04", "own", "nowhere")
		decided := live.Decide(t.Context(), in)
		again := replay.Recompute(t.Context(), in.AppendJSON(nil))
		if string(decided.JSON) != string(again.JSON) || decided.Reason != again.Reason {
			t.Fatalf("decided  %s\nrecomputed %s\nfor %s", decided.JSON, again.JSON, in.AppendJSON(nil))
		}
		reasons[decided.Reason]++
	}
	t.Log(reasons)
	if v := replay.Recompute(t.Context(), []byte(`{}`)); v.Allow || v.Reason != ReasonError {
		t.Errorf("a record that cannot be read: %s", v.JSON)
	}
}

// ownExample is an operator's package that reads much of the input.
const ownExample = `package sallyport.app["own"]

import data.sallyport.authz

decision := object.union(authz.access, {"allow": true}) if {
	input.subject.claims.department == "research"
	input.context.request.headers.accept
} else := {"allow": false, "reasons": reasons} if {
	input.subject.type != "anonymous"
}

reasons contains {"code": "shield", "user": $"Score {input.context.shield.score}."} if input.context.shield.score > 1

reasons contains {"code": "late"} if input.context.hour > 18
`
