package matrix

import (
	"cmp"
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
	"sallyport/policy/review"
	"sallyport/policy/review/directory"
)

// The words that policies, directories and requests of these tests are made of.
var (
	testGroups   = []string{"staff", "finance", "admins", "audit", "ops"}
	testEmails   = []string{"ada@corp.example", "Bob@corp.example", "eve@partner.example", "mal@evilcorp.example"}
	testDomains  = []string{"corp.example", "partner.example", "Partner.example"}
	testPaths    = []string{"/", "/a", "/a/", "/a/b", "/a/b/", "/admin/", "/api/v1/", "/api/"}
	testMethods  = []string{"GET", "HEAD", "POST", "DELETE", "PURGE"}
	testNetworks = []string{"10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"}
	testACRs     = []string{"gold", "silver"}

	probePaths = []string{"/", "/a", "/a/", "/ab", "/a/b", "/a/b/", "/a/bc", "/a/b/c", "/a/b/c/d", "/a/c", "/admin", "/admin/", "/admin/x", "/adminx",
		"/api", "/api/", "/api/v1", "/api/v1/", "/api/v1/users", "/api/v2", "/apix", "/zzz", "/reports/q1.pdf", "/a/b/x.pdf", "/public",
		"/people/ada@corp.example", "/people/bob@corp.example", "/people/ada/x", "/home/eve/y/z", "/home/eve@partner.example", "/people/nobody"}
	probeMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "PROPFIND", "FOO"}
	probeIPs     = []string{"10.0.0.1", "10.1.2.3", "10.255.255.255", "11.0.0.0", "192.0.2.0", "192.0.2.255", "192.0.3.0", "203.0.113.9", "2001:db8::7", "2001:db9::1"}
	probeACRs    = []string{"", "gold", "silver", "bronze"}
	probeAges    = []int{0, 1, 4, 5, 6, 14, 15, 16, 59, 60, 61, 600}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// some are a few of a list; none with one chance in three.
func some[T comparable](r *rand.Rand, list []T) []T {
	var chosen []T
	for range r.IntN(3) {
		if v := pick(r, list); !slices.Contains(chosen, v) {
			chosen = append(chosen, v)
		}
	}
	return chosen
}

func randomRule(r *rand.Rand) policy.Rule {
	var rule policy.Rule
	if r.IntN(2) == 0 {
		rule.Paths, rule.Methods = some(r, testPaths), some(r, testMethods)
	}
	switch r.IntN(8) {
	case 0:
		rule.Public = true
	case 1:
		rule.Emails = []string{pick(r, testEmails)}
	case 2:
		rule.Domains = []string{pick(r, testDomains)}
	case 3:
		if len(rule.Paths)+len(rule.Methods) > 0 {
			return rule // closed for everybody
		}
		rule.Groups = []string{pick(r, testGroups)}
	default:
		rule.Groups = append(some(r, testGroups), "staff")
		rule.Groups = slices.Compact(slices.Sorted(slices.Values(rule.Groups)))
	}
	randomConditions(r, &rule)
	return rule
}

func randomConditions(r *rand.Rand, rule *policy.Rule) {
	if r.IntN(4) == 0 {
		rule.Networks = []netip.Prefix{netip.MustParsePrefix(pick(r, testNetworks))}
	}
	if r.IntN(4) == 0 {
		rule.Hours = pick(r, []*policy.Hours{
			{Days: []string{"mon-fri"}, From: "08:00", To: "18:00"}, {Days: []string{"sat"}}, {From: "22:00", To: "06:00"},
			{Days: []string{"mon", "wed"}, From: "08:30", To: "17:45"}, {From: "09:00", To: "24:00"},
		})
	}
	if rule.Public {
		return
	}
	rule.MFA = r.IntN(4) == 0
	if r.IntN(4) == 0 {
		rule.ACR = []string{pick(r, testACRs)}
	}
	if r.IntN(5) == 0 {
		rule.MaxAge = pick(r, []time.Duration{5 * time.Minute, 15 * time.Minute, time.Hour})
	}
}

// tweaked is a rule with one thing changed.
func tweaked(r *rand.Rand, rule policy.Rule) policy.Rule {
	other := randomRule(r)
	switch kind := r.IntN(7); {
	case kind == 0:
		rule.Paths = other.Paths
	case kind == 1:
		rule.Methods = other.Methods
	case rule.Public || len(rule.Groups)+len(rule.Emails)+len(rule.Domains) == 0:
		return other
	case kind == 2:
		rule.MFA = !rule.MFA
	case kind == 3:
		rule.ACR = pick(r, [][]string{nil, {"gold"}, {"silver"}, {"gold", "silver"}})
	case kind == 4:
		rule.MaxAge = pick(r, []time.Duration{0, 5 * time.Minute, 15 * time.Minute, time.Hour})
	case kind == 5:
		rule.Hours, rule.Networks = other.Hours, other.Networks
	default:
		rule.Groups = append(some(r, testGroups), "ops")
	}
	return rule
}

type ownRule struct {
	rules string
	words []string
}

// ownRules are decisions of app packages, with a word to fill in.
var ownRules = []ownRule{
	{"decision := authz.access if input.context.hour >= %s", []string{"8", "9", "17"}},
	{"decision := authz.access if not input.context.weekday in {%s}", []string{`"sat", "sun"`, `"sun"`}},
	{"default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if %s in input.subject.groups", []string{`"staff"`, `"ops"`, `"admins"`}},
	{"decision := {\"allow\": true} if {\n\tstartswith(input.resource.path, %s)\n\tinput.subject.type == \"user\"\n}", []string{`"/a"`, `"/api/"`, `"/admin"`}},
	{"decision := {\"allow\": true} if {\n\tendswith(input.resource.path, %s)\n\t\"audit\" in input.subject.groups\n}", []string{`".pdf"`, `"/b"`}},
	{"decision := {\"allow\": input.action.name == %s} if input.subject.type == \"user\"", []string{`"read"`, `"write"`, `"delete"`}},
	{"decision := {\"allow\": true} if input.subject.claims.team == %s", []string{`"red"`, `"blue"`}},
	{"decision := {\"allow\": true} if {\n\tendswith(input.subject.email, %s)\n\tinput.subject.email_verified\n}", []string{`"@corp.example"`, `"@partner.example"`}},
	{"decision := {\"allow\": true, \"reasons\": [{\"code\": \"labelled\"}]} if input.resource.labels.tier == %s", []string{`"one"`, `"two"`}},
	{"decision := {\"allow\": true} if input.resource.sensitivity != %s", []string{`"high"`, `"low"`}},
	{"decision := {\"allow\": true} if net.cidr_contains(%s, input.context.client.ip)", []string{`"10.0.0.0/8"`, `"10.1.0.0/16"`}},
	{"decision := {\"allow\": true} if input.subject.authn.mfa\n\nelse := {\"allow\": false, \"obligations\": [{\"type\": \"step_up\", \"mfa\": true}]} if %s in input.subject.groups", []string{`"staff"`, `"finance"`}},
	{"decision := {\"allow\": true} if count(input.subject.groups) > %s", []string{"0", "1", "2"}},
	{"decision := {\"allow\": true} if {\n\tinput.resource.segments[0] == %s\n\tsome g in input.subject.groups\n\tg in {\"ops\", \"audit\"}\n}", []string{`"admin"`, `"api"`, `"a"`}},
	{"decision := {\"allow\": true} if {\n\tinput.subject.authn.age_s < %s\n\tdata.corp.methods[input.action.method]\n}", []string{"300", "900"}},
	{"decision := {\"allow\": true} if input.resource.segments == [%s, lower(input.subject.email)]", []string{`"people"`, `"home"`}},
	{"decision := {\"allow\": true} if startswith(input.resource.path, concat(\"/\", [\"\", %s, split(input.subject.email, \"@\")[0], \"\"]))", []string{`"people"`, `"home"`}},
	{"decision := {\"allow\": true} if regex.match(%s, input.resource.path)", []string{"`^/a/.*$`", "`^/(api|admin)/`", "`\\.pdf$`"}},
}

type world struct {
	apps []policy.App
	own  map[string]string // Rego by app
	zone string
}

func (w *world) copied() *world {
	c := &world{apps: slices.Clone(w.apps), own: map[string]string{}, zone: w.zone}
	for i := range c.apps {
		c.apps[i].Access = slices.Clone(c.apps[i].Access)
	}
	maps.Copy(c.own, w.own)
	return c
}

func randomApp(r *rand.Rand, name string) policy.App {
	a := policy.App{Name: name, Owner: "it", Sensitivity: pick(r, []string{"low", "high"}), Labels: map[string]string{"tier": pick(r, []string{"one", "two"})}}
	for range r.IntN(5) {
		a.Access = append(a.Access, randomRule(r))
	}
	return a
}

func randomOwn(r *rand.Rand) string {
	t := pick(r, ownRules)
	return fmt.Sprintf(t.rules, pick(r, t.words))
}

func randomWorld(r *rand.Rand) *world {
	w := &world{own: map[string]string{}, zone: "UTC"}
	for i := range 3 {
		a := randomApp(r, "app-"+strconv.Itoa(i))
		w.apps = append(w.apps, a)
		switch r.IntN(6) {
		case 0:
			w.own[a.Name] = randomOwn(r)
		case 1:
			t := pick(r, slices.DeleteFunc(slices.Clone(ownRules), func(o ownRule) bool {
				return !strings.Contains(o.rules, "input.resource.labels") && !strings.Contains(o.rules, "sensitivity")
			}))
			w.own[a.Name] = fmt.Sprintf(t.rules, pick(r, t.words))
		}
	}
	return w
}

// edited is the world after one to three changes.
func (w *world) edited(r *rand.Rand) *world {
	c := w.copied()
	for range 1 + r.IntN(3) {
		c.edit(r)
	}
	return c
}

func (w *world) edit(r *rand.Rand) {
	if len(w.apps) == 0 {
		w.apps = append(w.apps, randomApp(r, "app-9"))
		return
	}
	i := r.IntN(len(w.apps))
	a := &w.apps[i]
	n := len(a.Access)
	if own := w.own[a.Name]; r.IntN(3) == 0 && (strings.Contains(own, "labels") || strings.Contains(own, "sensitivity")) {
		a.Sensitivity = map[string]string{"low": "high", "high": "low"}[a.Sensitivity]
		a.Labels = map[string]string{"tier": map[string]string{"one": "two", "two": "one"}[a.Labels["tier"]]}
		return
	}
	switch kind := r.IntN(18); {
	case kind >= 12 && n > 0:
		at := r.IntN(n)
		a.Access[at] = tweaked(r, a.Access[at])
	case kind == 0:
		w.apps = append(w.apps, randomApp(r, "new-"+strconv.Itoa(r.IntN(1000))))
	case kind == 1:
		delete(w.own, a.Name)
		w.apps = slices.Delete(w.apps, i, i+1)
	case kind == 2:
		delete(w.own, a.Name)
		a.Name = "renamed-" + strconv.Itoa(r.IntN(1000))
	case kind == 3:
		a.Sensitivity = pick(r, []string{"low", "high"})
		a.Labels = map[string]string{"tier": pick(r, []string{"one", "two"})}
	case kind == 4:
		w.own[a.Name] = randomOwn(r)
	case kind == 5 && len(w.own) > 0:
		delete(w.own, a.Name)
	case kind == 6 && r.IntN(3) == 0:
		w.zone = pick(r, []string{"UTC", "Europe/Berlin", "Asia/Kathmandu"})
	case kind == 7 && n > 1:
		r.Shuffle(n, func(i, j int) { a.Access[i], a.Access[j] = a.Access[j], a.Access[i] })
	case kind == 8 && n > 0:
		a.Access = slices.Delete(a.Access, r.IntN(n), n)
	case kind <= 10 && n > 0:
		a.Access[r.IntN(n)] = randomRule(r)
	default:
		a.Access = slices.Insert(a.Access, r.IntN(n+1), randomRule(r))
	}
}

func (w *world) engine(t testing.TB) *policy.Engine {
	t.Helper()
	cfg := policy.Config{Timezone: w.zone}
	if len(w.own) > 0 {
		cfg.Bundle = t.TempDir()
		files := map[string]string{"corp.rego": "package corp\n\nmethods := {\"GET\": true, \"PURGE\": true}\n"}
		for app, rules := range w.own {
			files[app+".rego"] = "package sallyport.app[\"" + app + "\"]\n\nimport data.sallyport.authz\n\n" + rules + "\n"
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(cfg.Bundle, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, err := policy.Build(cfg, w.apps)
	if err != nil {
		t.Fatalf("%v: %+v", err, w)
	}
	e, err := policy.Compile(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func randomPeople(r *rand.Rand) []directory.Person {
	var list []directory.Person
	for i := range 2 + r.IntN(7) {
		p := directory.Person{ID: "corp|" + strconv.Itoa(i), Name: "person-" + strconv.Itoa(i), Type: pick(r, []string{"user", "user", "user", "service"}), Groups: append(some(r, testGroups), some(r, []string{"other", "guests"})...),
			MFA: r.IntN(2) == 0, ACR: pick(r, probeACRs), Claims: map[string]any{"team": pick(r, []string{"red", "blue", "green"})}}
		if r.IntN(4) > 0 {
			p.Email = pick(r, append(slices.Clone(testEmails), "someone@corp.example", "x@sub.corp.example", "y@other.example"))
			p.EmailVerified = new(r.IntN(5) > 0)
		}
		slices.Sort(p.Groups)
		p.Groups = slices.Compact(p.Groups)
		list = append(list, p)
	}
	return list
}

// request is one concrete request of somebody.
type request struct {
	person       int // in the directory; -1 for a stranger
	app          string
	method, path string
	at           time.Time
	ip, acr      string
	mfa          bool
	age          int // minutes
}

var testNow = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func randomRequest(r *rand.Rand, apps []string, people int) request {
	monday := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	at := monday.Add(time.Duration(r.IntN(7*24*60)) * time.Minute)
	if r.IntN(2) == 0 { // near the hour
		at = at.Truncate(time.Hour).Add(pick(r, []time.Duration{0, -time.Minute, time.Second, 30 * time.Minute, 45 * time.Minute, 15 * time.Minute}))
		if at.Before(monday) {
			at = monday
		}
	}
	return request{r.IntN(people+1) - 1, pick(r, apps), pick(r, probeMethods), pick(r, probePaths), at, pick(r, probeIPs), pick(r, probeACRs), r.IntN(2) == 0, pick(r, probeAges)}
}

// ask is the answer of a policy, put together independently of the matrix.
func (q *request) ask(t testing.TB, e *policy.Engine, w *world, people []directory.Person) *policy.Verdict {
	i := slices.IndexFunc(w.apps, func(a policy.App) bool { return a.Name == q.app })
	if i < 0 {
		return noApp()
	}
	zone, err := time.LoadLocation(w.zone)
	if err != nil {
		t.Fatal(err)
	}
	a := w.apps[i]
	in := &policy.Input{
		Subject: policy.Subject{Type: policy.TypeAnonymous},
		Action:  policy.Action{Name: policy.ActionName(q.method, ""), Method: q.method, Protocol: "HTTP/1.1"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: q.app, Labels: a.Labels, Owner: a.Owner, Sensitivity: a.Sensitivity, Host: "h.example",
			Path: q.path, Segments: strings.FieldsFunc(q.path, func(r rune) bool { return r == '/' })},
		Context: policy.Context{Client: policy.Client{IP: q.ip}},
	}
	if q.person >= 0 {
		in.Subject = people[q.person].Subject(q.at)
		in.Subject.Authn.MFA, in.Subject.Authn.ACR, in.Subject.Authn.AgeS = q.mfa, q.acr, policy.AgeOf(time.Duration(q.age)*time.Minute)
	}
	in.Context.SetTime(q.at, zone)
	return e.Trace(t.Context(), in)
}

// expected is the change of the request as asking tells it.
func (q *request) expected(from, to *policy.Verdict) review.Change {
	c := review.Compare(from, to)
	absent := func(v *policy.Verdict) bool {
		return len(v.Decision.Reasons) == 1 && v.Decision.Reasons[0].Code == "no_app"
	}
	if c == review.ReasonOnly && (absent(from) || absent(to)) {
		return review.Unchanged
	}
	return c
}

// within reports whether a finding says that it holds for the request, read as its documentation reads.
func (q *request) within(f *Finding, a *App, people []directory.Person, zone *time.Location) bool {
	name := Stranger
	if q.person >= 0 {
		name = people[q.person].Name
	}
	if f.App != q.app || !slices.ContainsFunc(f.People, func(p review.Person) bool { return p.Name == name }) {
		return false
	}
	method := q.method
	if !slices.Contains(a.Methods, method) {
		method = "*"
	}
	if f.Methods != nil && !slices.Contains(f.Methods, method) {
		return false
	}
	class := a.Paths[slices.IndexFunc(a.Paths, func(g string) bool { return Matches(g, q.path) })]
	if f.Paths != nil && !slices.Contains(f.Paths, class) {
		return false
	}
	return q.when(&f.When, a, zone)
}

func (q *request) when(w *When, a *App, zone *time.Location) bool {
	local := q.at.In(zone)
	day, minute := strings.ToLower(local.Format("Mon")), local.Format("15:04")
	if w.Hours != nil && !slices.ContainsFunc(w.Hours, func(h Hours) bool {
		return slices.Contains(h.Days, day) && h.From <= minute && minute < h.To
	}) {
		return false
	}
	if w.Networks != nil && !slices.Contains(w.Networks, q.network(a)) {
		return false
	}
	if q.person < 0 {
		return w.MFA == nil && w.ACR == nil && w.Age == nil
	}
	acr := q.acr
	if !slices.Contains(a.ACR, acr) {
		acr = "*"
	}
	age := int64(q.age) * 60
	return (w.MFA == nil || *w.MFA == q.mfa) && (w.ACR == nil || slices.Contains(w.ACR, acr)) &&
		(w.Age == nil || slices.ContainsFunc(w.Age, func(s Ages) bool { return s.From <= age && (s.To == 0 || age < s.To) }))
}

// network is the longest prefix of the app's that contains the address.
func (q *request) network(a *App) string {
	ip, longest, label := netip.MustParseAddr(q.ip), -1, "*"
	for _, text := range a.Networks {
		if p, err := netip.ParsePrefix(text); err == nil && p.Contains(ip) && p.Bits() > longest {
			longest, label = p.Bits(), text
		}
	}
	return label
}

// tally counts what a report says against what asking says.
type tally struct{ asked, changed, claimed, missed, wrong int }

func (t *tally) add(o tally) {
	t.asked, t.changed, t.claimed = t.asked+o.asked, t.changed+o.changed, t.claimed+o.claimed
	t.missed, t.wrong = t.missed+o.missed, t.wrong+o.wrong
}

// edit is one generated change with the directory and what asking about requests at random said.
type edit struct {
	from, to *world
	engines  [2]*policy.Engine
	people   []directory.Person
	requests []request
	changes  []review.Change
}

func randomEdit(t testing.TB, r *rand.Rand, requests int) *edit {
	e := &edit{from: randomWorld(r), people: randomPeople(r)}
	e.to = e.from.edited(r)
	e.engines = [2]*policy.Engine{e.from.engine(t), e.to.engine(t)}
	apps := slices.Concat(e.engines[0].Apps(), e.engines[1].Apps())
	for range requests {
		q := randomRequest(r, apps, len(e.people))
		e.requests = append(e.requests, q)
		e.changes = append(e.changes, q.expected(q.ask(t, e.engines[0], e.from, e.people), q.ask(t, e.engines[1], e.to, e.people)))
	}
	return e
}

func (e *edit) tally(t testing.TB, r *Result, show bool) (n tally) {
	for i, want := range e.changes {
		q := &e.requests[i]
		app := &r.Apps[slices.IndexFunc(r.Apps, func(a App) bool { return a.Name == q.app })]
		zone := e.zone(t, q.app)
		got := review.Unchanged
		found := 0
		for j := range r.Findings {
			if !app.Same && q.within(&r.Findings[j], app, e.people, zone) {
				got = r.Findings[j].Change
				found++
			}
		}
		n.asked++
		switch {
		case want != review.Unchanged && got != want:
			n.missed++
		case want == review.Unchanged && got != want, found > 1:
			n.wrong++
		}
		if want != review.Unchanged {
			n.changed++
		}
		if got != review.Unchanged {
			n.claimed++
		}
		if show && (got != want || found > 1) {
			t.Errorf("%+v: want %q, got %q in %d findings\nfrom %+v %q\nto   %+v %q", q, want, got, found, e.from.apps, e.from.own, e.to.apps, e.to.own)
			show = false
		}
	}
	return n
}

// zone is that of the hours in findings about an app.
func (e *edit) zone(t testing.TB, app string) *time.Location {
	w := e.from
	if !slices.ContainsFunc(w.apps, func(a policy.App) bool { return a.Name == app }) {
		w = e.to
	}
	zone, err := time.LoadLocation(w.zone)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func rounds(t testing.TB, standard int) (int, uint64) {
	n := standard
	if text := os.Getenv("SALLYPORT_ROUNDS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rounds, seed %d", n, seed)
	return cmp.Or(n, standard), seed
}

// TestEveryDifferenceIsFound holds the findings on generated edits against asking both policies about requests taken at
// random.
func TestEveryDifferenceIsFound(t *testing.T) {
	t.Parallel()
	n, seed := rounds(t, 20)
	var all tally
	for round := range n {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		e := randomEdit(t, r, 400)
		result, err := Run(t.Context(), Config{From: e.engines[0], To: e.engines[1], People: e.people, Now: testNow, Sample: 100})
		if err != nil {
			t.Fatal(err)
		}
		if len(result.Incomplete) > 0 {
			t.Errorf("round %d: incomplete: %v\n%q\n%q", round, result.Incomplete, e.from.own, e.to.own)
		}
		got := e.tally(t, result, true)
		all.add(got)
		if t.Failed() {
			t.Fatalf("round %d: %+v", round, got)
		}
	}
	t.Logf("%+v", all)
	if all.changed == 0 {
		t.Error("no edit changed anything")
	}
}
