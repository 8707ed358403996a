package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
)

// memoApps are apps of every kind: access rules, and packages that read the input in every way Rego has.
func memoApps(t testing.TB) *Engine {
	t.Helper()
	apps, modules := company()[:5], map[string]string{"helpers.rego": helperModule}
	for _, name := range sortedNames(ownPolicies) {
		apps = append(apps, App{Name: name, Access: company()[1].Access})
		modules[name+".rego"] = "package sallyport.app[\"" + name + "\"]\n\nimport data.corp.helpers\nimport data.sallyport.authz\n\n" + ownPolicies[name].rules
	}
	return newEngine(t, Config{Memo: true, Deadline: maxDeadline}, apps, modules)
}

const helperModule = `package corp.helpers

research if input.subject.claims.department == "research"

levels[x] := y if {
	some x in ["a", "b"]
	y := input.subject.claims.level
}

verified(email) if input.subject.email == email

by_method[input.action.method] := input.resource.query

from.country[input.context.client.country].here := true
`

// ownPolicies read these fields, resource.id and subject.type apart; none: the app must not be remembered.
var ownPolicies = map[string]struct {
	rules string
	reads []string
}{
	"constant":      {`decision := {"allow": true}`, []string{}},
	"access":        {`decision := authz.access`, accessReads},
	"refines":       {`decision := authz.access if input.subject.device.compliant`, append([]string{"subject.device"}, accessReads...)},
	"helper":        {`decision := {"allow": true} if helpers.research`, []string{"subject.claims"}},
	"partial":       {`decision := {"allow": helpers.levels.a == 3}`, []string{"subject.claims"}},
	"function":      {`decision := {"allow": true} if helpers.verified("ada@corp.example")`, []string{"subject.email"}},
	"head":          {`decision := {"allow": true} if helpers.by_method.GET == "q=1"`, []string{"action.method", "resource.query"}},
	"deep-head":     {`decision := {"allow": true} if helpers.from.country.DE.here`, []string{"context.client.country"}},
	"else":          {"decision := {\"allow\": true} if input.context.hour > 12\n\nelse := {\"allow\": false} if input.context.weekday == \"mon\"\n\nelse := {\"allow\": true} if input.resource.owner == \"it\"", []string{"context.hour", "context.weekday", "resource.owner"}},
	"default":       {"default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if input.resource.sensitivity == \"high\"", []string{"resource.sensitivity"}},
	"comprehension": {`decision := {"allow": count([g | some g in input.subject.groups; g != "staff"]) > 2}`, []string{"subject.groups"}},
	"set":           {`decision := {"allow": "admins" in {g | g := input.subject.groups[_]}}`, []string{"subject.groups"}},
	"object":        {`decision := {"allow": {k: v | some k, v in input.resource.labels} == {"team": "a"}}`, []string{"resource.labels"}},
	"every":         {"decision := {\"allow\": true} if {\n\tevery g in input.subject.groups { g != input.context.request.headers[\"x-a\"] }\n}", []string{"subject.groups", "context.request.headers"}},
	"not":           {`decision := {"allow": true} if not input.context.shield.timeout`, []string{"context.shield"}},
	"template":      {`decision := {"allow": $"{input.subject.authn.acr}-{input.action.name}" == "gold-read"}`, []string{"subject.authn.acr", "action.name"}},
	"dynamic":       {"decision := {\"allow\": true} if {\n\tsome key in [\"acr\", \"provider\"]\n\tinput.subject.authn[key] in [\"gold\", \"corp\"]\n}", []string{"subject.authn.acr", "subject.authn.age_s", "subject.authn.amr", "subject.authn.mfa", "subject.authn.provider", "subject.authn.time"}},
	"nested":        {`decision := {"allow": input.context.request.headers[input.resource.labels.team]}`, []string{"context.request.headers", "resource.labels"}},
	"alias":         {"decision := {\"allow\": true} if {\n\ts := input.subject.session\n\ts.age_s > 60\n}", []string{"subject.session.age_s", "subject.session.id", "subject.session.idle_s"}},
	"unknown-field": {`decision := {"allow": true} if not input.subject.nickname`, []string{}},
	"branch":        {"decision := {\"allow\": true} if {\n\tfalse\n\tinput.resource.host\n}", []string{"resource.host"}},
	"error":         {"decision := {\"allow\": true} if {\n\tcount(input.subject.groups) > 2\n}\n\ndecision := {\"allow\": true} if {\n\t1 / count(input.subject.groups) > 7\n\tfalse\n}", []string{"subject.groups"}},
	"time":          {`decision := {"allow": input.context.time_ns % 2 == 0}`, nil},
	"clock":         {`decision := {"allow": startswith(input.context.time, "2026")}`, nil},
	"request":       {`decision := {"allow": input.context.request.id > "m"}`, nil},
	"whole-context": {`decision := {"allow": count(input.context) > 6}`, nil},
	"whole-input":   {`decision := {"allow": count(input) > 3}`, nil},
	"passed-input":  {"f(x) := x.subject.type == \"user\"\n\ndecision := {\"allow\": f(input)}", nil},
	"indexed-input": {"decision := {\"allow\": true} if {\n\tsome part in [\"subject\", \"action\"]\n\tinput[part].method\n}", nil},
	"walked":        {"decision := {\"allow\": true} if {\n\tsome path\n\twalk(input, [path, \"DE\"])\n}", nil},
	"mocked":        {"decision := d if {\n\td := authz.access with input.subject.groups as [\"admins\"]\n}", nil},
	"mocked-data":   {"decision := d if {\n\td := authz.access with data.sallyport.config.apps as {}\n}", nil},
	"lib":           {`decision := {"allow": data.sallyport.lib.condition.open({"hours": {"by_hour": {}}})}`, nil},
	"own-authz":     {`decision := {"allow": authz.granted.allow}`, nil},
}

// accessReads are the fields that the access rules of memoApps' packages need.
var accessReads = []string{
	"subject.email", "subject.email_verified", "subject.groups", "subject.authn.mfa", "action.method", "resource.path",
	"context.weekday", "context.hour",
}

// alwaysRead is what every app's decision reads, so that no foreign page opens a WebSocket or changes anything, and no token
// is good for more than it was made for.
var alwaysRead = []string{"action.method", "action.name", "context.request.cross_origin", "context.request.cross_site_unsafe", "resource.id",
	"subject.token.apps", "subject.token.methods"}

// TestDependencies compares what the analysis finds with what the policies read.
func TestDependencies(t *testing.T) {
	e := memoApps(t)
	for _, name := range sortedNames(ownPolicies) {
		got, err := e.Dependencies(t.Context(), name)
		if ownPolicies[name].reads == nil {
			if err == nil {
				t.Errorf("%s: reads %v, want it not to be remembered", name, got)
			}
			continue
		}
		want := slices.Compact(slices.Sorted(slices.Values(slices.Concat(alwaysRead, []string{"subject.type"}, ownPolicies[name].reads))))
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v\n got %v\nwant %v", name, err, got, want)
		}
	}
}

// TestAccessDependsOnWhatItsRulesName: no time without hours, no address without networks.
func TestAccessDependsOnWhatItsRulesName(t *testing.T) {
	e := newEngine(t, Config{Memo: true}, append(company()[:5], App{Name: "plain", Access: Access{{Groups: []string{"staff"}}}}, App{Name: "nobody"}, App{Name: "corps", Providers: []string{"corp"}}), nil)
	rules := []string{"subject.type", "subject.email", "subject.email_verified", "subject.groups", "subject.authn.mfa", "action.method", "resource.path"}
	for app, want := range map[string][]string{
		"plain":  {"subject.type", "subject.groups"},
		"nobody": {"subject.type"},
		"corps":  {"subject.type", "subject.authn.provider"},
		"app-00": rules,
		"app-01": append(slices.Clone(rules), "context.weekday", "context.hour"),
		"app-02": append(slices.Clone(rules), "context.client.ip"),
		"app-03": append(slices.Clone(rules), "subject.authn.age_s"),
	} {
		got, err := e.Dependencies(t.Context(), app)
		slices.Sort(got)
		if diff := cmp.Diff(slices.Compact(slices.Sorted(slices.Values(slices.Concat(alwaysRead, want)))), got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", app, err, diff)
		}
	}
	_, err := e.Dependencies(t.Context(), "app-04") // hours to the minute
	if err == nil || err.Error() != "the policy reads input.context.time, which differs in every request" {
		t.Errorf("app-04: got %v", err)
	}
	if _, err := e.Dependencies(t.Context(), "nowhere"); err == nil {
		t.Error("an unknown app has dependencies")
	}
}

// TestAnalysisLeavesThePolicyAsItWas: partial evaluation rewrites terms in place, so it must not meet ours, and the
// order in which apps are analysed must not matter.
func TestAnalysisLeavesThePolicyAsItWas(t *testing.T) {
	text := func(c *ast.Compiler) string {
		var b strings.Builder
		for _, name := range sortedNames(c.Modules) {
			b.WriteString(c.Modules[name].String())
		}
		return b.String()
	}
	e := memoApps(t)
	live, shipped := text(e.compiler), text(e.analyst.shipped)
	backwards := sortedNames(e.plans)
	slices.Reverse(backwards)
	other := memoApps(t)
	for _, app := range backwards {
		_, _ = other.Dependencies(t.Context(), app)
	}
	for _, app := range sortedNames(e.plans) {
		got, err := e.Dependencies(t.Context(), app)
		want, otherErr := other.Dependencies(t.Context(), app)
		if !slices.Equal(got, want) || (err == nil) != (otherErr == nil) {
			t.Errorf("%s: %v (%v) or %v (%v), by order", app, got, err, want, otherErr)
		}
	}
	if text(e.compiler) != live || text(e.analyst.shipped) != shipped {
		t.Error("the policy is not what it was")
	}
}

// TestConcurrentDecisions decides on many apps at once while they are analysed for the first time.
func TestConcurrentDecisions(t *testing.T) {
	e := memoApps(t)
	var wg sync.WaitGroup
	seed := random(t).Uint64()
	for i := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, i))
			for range rounds(500) {
				in := randomInput(r, sortedNames(e.plans)...)
				got := e.Decide(t.Context(), in)
				if want := e.evaluate(t.Context(), in, maxDeadline); string(got.JSON) != string(want.JSON) {
					t.Errorf("got %s, want %s", got.JSON, want.JSON)
				}
			}
		})
	}
	wg.Wait()
}

// POL-11: what is remembered is what a fresh evaluation says, on random inputs that often agree.
func TestPOL11RememberedIsFresh(t *testing.T) {
	e := memoApps(t)
	hits, err := compareMemo(t, e, max(1500, rounds(4000)))
	if err != nil {
		t.Error(err)
	}
	if hits == 0 {
		t.Error("nothing was remembered")
	}
	t.Logf("%d hits", hits)
}

// TestPOL11ComparisonCatchesAFault leaves one field out of an app's projection; the comparison must notice.
func TestPOL11ComparisonCatchesAFault(t *testing.T) {
	e := memoApps(t)
	r := random(t)
	for app, effective := range map[string][]field{
		"app-01":   {fieldEmail, fieldEmailVerified, fieldGroups, fieldAuthnMFA, fieldMethod, fieldPath, fieldWeekday, fieldHour},
		"app-02":   {fieldClientIP},
		"app-03":   {fieldAuthnAge},
		"helper":   {fieldClaims},
		"refines":  {fieldDevice, fieldGroups},
		"else":     {fieldHour, fieldWeekday, fieldOwner},
		"template": {fieldAuthnACR, fieldActionName},
	} {
		for _, left := range effective {
			faulty := leaveOut(t, e, app, left)
			if err := compareChanged(t, faulty, r, app, left, 20_000); err == nil {
				t.Errorf("%s without %s: not noticed", app, fieldPaths[left])
			}
			if err := compareChanged(t, e, r, app, left, rounds(100)); err != nil {
				t.Errorf("without a fault: %v", err)
			}
		}
	}
}

// leaveOut is e with a projection for app that lacks one field.
func leaveOut(t *testing.T, e *Engine, app string, left field) *Engine {
	t.Helper()
	if _, err := e.Dependencies(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	list := e.plans[app].result.Load().fields
	if !slices.Contains(list, left) {
		t.Fatalf("%s does not depend on %s", app, fieldPaths[left])
	}
	faulty := *e
	faulty.memo = newMemo(int(e.memo.every))
	faulty.plans = maps.Clone(e.plans)
	faulty.plans[app] = &plan{own: e.plans[app].own}
	faulty.plans[app].result.Store(&planResult{fields: slices.DeleteFunc(slices.Clone(list), func(f field) bool { return f == left })})
	return &faulty
}

// compareChanged asks about random inputs and then about the same ones with field f changed, and compares the second
// answer with a fresh evaluation.
func compareChanged(t *testing.T, e *Engine, r *rand.Rand, app string, f field, n int) error {
	t.Helper()
	for range n {
		base := randomInput(r, app)
		changed, _ := withField(base, randomInput(r, app), f)
		e.Decide(t.Context(), base)
		got := e.Decide(t.Context(), changed)
		if !got.Memo {
			continue
		}
		if want := e.evaluate(t.Context(), changed, maxDeadline); string(got.JSON) != string(want.JSON) {
			return fmt.Errorf("remembered %s\nevaluated  %s\nfor %s", got.JSON, want.JSON, changed.AppendJSON(nil))
		}
	}
	return nil
}

func compareMemo(t *testing.T, e *Engine, n int) (hits int, err error) {
	r := random(t)
	for range n {
		in := randomInput(r, sortedNames(e.plans)...)
		got := e.Decide(t.Context(), in)
		if !got.Memo {
			continue
		}
		hits++
		if want := e.evaluate(t.Context(), in, maxDeadline); string(got.JSON) != string(want.JSON) || got.Reason != want.Reason {
			return hits, fmt.Errorf("remembered %s\nevaluated  %s\nfor %s", got.JSON, want.JSON, in.AppendJSON(nil))
		}
	}
	return hits, nil
}

// POL-11: a field outside the projection, changed alone, changes no verdict; one inside makes another key.
func TestPOL11EachFieldAlone(t *testing.T) {
	e := memoApps(t)
	r := random(t)
	for _, app := range sortedNames(e.plans) {
		paths, err := e.Dependencies(t.Context(), app)
		if err != nil {
			continue
		}
		for range max(3, rounds(90)/len(e.plans)) {
			base := randomInput(r, app)
			key := base.project(nil, e.plans[app].result.Load().fields)
			want := e.evaluate(t.Context(), base, maxDeadline)
			for f := range fields {
				if f == fieldResourceID {
					continue
				}
				changed, whole := withField(base, randomInput(r, app), f)
				sameKey := string(changed.project(nil, e.plans[app].result.Load().fields)) == string(key)
				sameField := string(changed.appendField(nil, f)) == string(base.appendField(nil, f))
				if inside := slices.Contains(paths, fieldPaths[f]); !whole && sameKey != (!inside || sameField) {
					t.Fatalf("%s: changing %s (inside %v, same %v) gives the same key: %v", app, fieldPaths[f], inside, sameField, sameKey)
				}
				if !sameKey {
					continue
				}
				if got := e.evaluate(t.Context(), changed, maxDeadline); string(got.JSON) != string(want.JSON) {
					t.Fatalf("%s: %s is outside of the projection, yet the verdict went from %s to %s", app, fieldPaths[f], want.JSON, got.JSON)
				}
			}
		}
	}
}

// withField is base with one field of other. A field of a document that only one of them has brings or takes the whole
// document.
func withField(base, other *Input, f field) (changed *Input, whole bool) {
	c := *base
	if c.Subject.Authn != nil {
		c.Subject.Authn = new(*c.Subject.Authn)
	}
	if c.Subject.Session != nil {
		c.Subject.Session = new(*c.Subject.Session)
	}
	if c.Subject.Token != nil {
		c.Subject.Token = new(*c.Subject.Token)
	}
	src, dst := reflect.ValueOf(other).Elem(), reflect.ValueOf(&c).Elem()
	for part := range strings.SplitSeq(fieldPaths[f], ".") {
		if dst.Kind() == reflect.Pointer {
			if src.IsNil() || dst.IsNil() {
				dst.Set(src)
				return &c, true
			}
			src, dst = src.Elem(), dst.Elem()
		}
		i := fieldNamed(dst.Type(), part)
		src, dst = src.Field(i), dst.Field(i)
	}
	dst.Set(src)
	return &c, false
}

// fieldNamed is the index of the struct field with this JSON name.
func fieldNamed(t reflect.Type, name string) int {
	for i := range t.NumField() {
		if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag == name {
			return i
		}
	}
	panic("no field " + name + " in " + t.Name())
}

// TestEveryInputFieldIsProjected holds the list of fields against the types: a new one cannot be forgotten.
func TestEveryInputFieldIsProjected(t *testing.T) {
	var missing []string
	var visit func(typ reflect.Type, path string)
	visit = func(typ reflect.Type, path string) {
		if slices.Contains(fieldPaths[:], path) {
			return
		}
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[Age]() {
			missing = append(missing, path)
			return
		}
		for field := range typ.Fields() {
			if !field.IsExported() {
				continue // no part of the document
			}
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			visit(field.Type, strings.TrimPrefix(path+"."+tag, "."))
		}
	}
	visit(reflect.TypeFor[Input](), "")
	if missing != nil {
		t.Errorf("no projection for %v", missing)
	}
	for f, path := range fieldPaths {
		if path == "" {
			t.Errorf("field %d has no path", f)
		}
	}
}

// TestProjectionsDiffer: two inputs have one projection only if they agree in every field.
func TestProjectionsDiffer(t *testing.T) {
	var all fieldSet
	for f := range all {
		all[f] = true
	}
	r := random(t)
	seen := make(map[string]string)
	for i := range rounds(4000) {
		in := randomInput(r, "wiki", "payroll")
		if i%2 == 0 {
			in = shuffleStrings(r)
		}
		doc := string(in.AppendJSON(nil))
		key := string(in.project(nil, all.list()))
		if other, twice := seen[key]; twice && other != doc {
			t.Fatalf("one projection for\n%s\n%s", other, doc)
		}
		seen[key] = doc
	}
}

// shuffleStrings is an input that could be confused with another if values were not kept apart.
func shuffleStrings(r *rand.Rand) *Input {
	in := &Input{}
	in.Subject.Groups = some(r, "a", "b", "ab", "", "a\x01b")
	in.Subject.Type, in.Subject.ID = pick(r, "", "a", "ab"), pick(r, "", "b", "ab")
	in.Resource.Segments = some(r, "a", "b", "ab", "")
	in.Resource.Labels = map[string]string{pick(r, "a", "a\x00", `a":"b`): pick(r, "b", `b","c":"d`)}
	return in
}

func TestMemoVerdictSaysSo(t *testing.T) {
	apps := []App{{Name: "wiki", Access: Access{{Groups: []string{"staff"}}}}}
	on, off := newEngine(t, Config{Memo: true}, apps, nil), newEngine(t, Config{}, apps, nil)
	in := person("wiki", "staff")
	for i, c := range []struct {
		engine *Engine
		memo   bool
	}{{on, false}, {on, true}, {off, false}, {off, false}, {newEngine(t, Config{Memo: true}, apps, nil), false}} {
		v := c.engine.Decide(t.Context(), in)
		wantVerdict(t, v, ReasonAllow, "allow")
		if v.Memo != c.memo {
			t.Errorf("answer %d: remembered %v, want %v", i, v.Memo, c.memo)
		}
	}
	in.Context.Request.ID, in.Context.TimeNS = "r-2", 1
	if !on.Decide(t.Context(), in).Memo {
		t.Error("another request of the same person was not recognised")
	}
	in.Subject.Groups = []string{"staff", "x"}
	if on.Decide(t.Context(), in).Memo {
		t.Error("other groups were not noticed")
	}
}

func TestDoubtIsNotRemembered(t *testing.T) {
	e := ownPolicy(t, `decision := {"allow": 1 / count(input.subject.groups) == 1}`)
	for range 3 {
		if v := e.Decide(t.Context(), person("wiki")); v.Memo || v.Reason != ReasonError {
			t.Errorf("got %s, memo %v", v.Reason, v.Memo)
		}
	}
}

func TestMemoIsBounded(t *testing.T) {
	m := newMemo(0)
	v := &Verdict{JSON: make([]byte, 1<<10)}
	for i := range maxMemoEntries + 1000 {
		m.put(fmt.Appendf(nil, "key %d", i), v)
	}
	entries, bytes := 0, 0
	for i := range m.shards {
		entries += len(m.shards[i].entries)
		size := 0
		for _, e := range m.shards[i].entries {
			size += e.size()
		}
		if size != m.shards[i].bytes {
			t.Fatalf("shard %d counts %d bytes, holds %d", i, m.shards[i].bytes, size)
		}
		bytes += size
	}
	if entries > maxMemoEntries || bytes > maxMemoBytes || entries < 1000 {
		t.Errorf("%d entries, %d bytes", entries, bytes)
	}
	m.put([]byte("huge"), &Verdict{JSON: make([]byte, maxMemoBytes)})
	if v, _ := m.get([]byte("huge")); v != nil {
		t.Error("an entry larger than its shard was kept")
	}
}

func TestHitsDoNotAllocate(t *testing.T) {
	e := newEngine(t, Config{Memo: true}, company(), nil)
	in := employee("app-05")
	e.Decide(t.Context(), in)
	if n := testing.AllocsPerRun(100, func() { e.Decide(t.Context(), in) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestUnknownAppDependsOnLittle: decisions on an app that the policy does not know agree where its projection does.
func TestUnknownAppDependsOnLittle(t *testing.T) {
	e := memoApps(t)
	p, err := e.Projection(t.Context(), "nowhere")
	if err != nil {
		t.Fatal(err)
	}
	answers := make(map[string]string)
	r := random(t)
	for range rounds(300) {
		in := randomInput(r, "nowhere")
		v := e.Decide(t.Context(), in)
		key := string(p.Append(nil, in))
		if before, asked := answers[key]; asked && before != v.Reason {
			t.Fatalf("%s and %s for %s", before, v.Reason, in.AppendJSON(nil))
		}
		answers[key] = v.Reason
	}
	if len(answers) < 6 {
		t.Errorf("%d different requests", len(answers))
	}
}
