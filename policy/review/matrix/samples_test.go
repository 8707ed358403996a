package matrix

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/directory"
)

// conditionEdits are changes of one condition of a package that no pattern of paths says.
var conditionEdits = [][2]string{
	{"regex.match(`^/x/[0-9]{3}$`, input.resource.path)", "regex.match(`^/x/[0-9]{4}$`, input.resource.path)"},
	{"regex.match(`^/x/[0-9]{1,3}$`, input.resource.path)", "regex.match(`^/x/[0-9]{1,2}$`, input.resource.path)"},
	{"regex.match(`^/x/\\d+$`, input.resource.path)", "regex.match(`^/x/\\w+$`, input.resource.path)"},
	{"regex.match(`^/x/\\d+$`, input.resource.path)", "regex.match(`^/x/\\d*$`, input.resource.path)"},
	{"regex.match(`^/u/[a-z]+$`, input.resource.path)", "regex.match(`^/u/[a-z0-9]+$`, input.resource.path)"},
	{"regex.match(`^/u/[a-m]+$`, input.resource.path)", "regex.match(`^/u/[a-z]+$`, input.resource.path)"},
	{"regex.match(`^/u/[^/]+$`, input.resource.path)", "regex.match(`^/u/.+$`, input.resource.path)"},
	{"regex.match(`^/u/\\w+$`, input.resource.path)", "regex.match(`^/u/[\\w.-]+$`, input.resource.path)"},
	{"regex.match(`^/(a|b)/x$`, input.resource.path)", "regex.match(`^/(a|c)/x$`, input.resource.path)"},
	{"regex.match(`^/x/(draft-)?report$`, input.resource.path)", "regex.match(`^/x/report$`, input.resource.path)"},
	{"regex.match(`^/api.v1`, input.resource.path)", "regex.match(`^/api\\.v1`, input.resource.path)"},
	{"regex.match(`(?i)^/Admin/`, input.resource.path)", "regex.match(`^/admin/`, input.resource.path)"},
	{"regex.match(`(?i)\\.PDF$`, input.resource.path)", "regex.match(`\\.pdf$`, input.resource.path)"},
	{"regex.match(`^v[0-9]+$`, input.resource.segments[1])", "regex.match(`^v[0-9]$`, input.resource.segments[1])"},
	{"not regex.match(`^/x/[0-9]{3}$`, input.resource.path)", "true"},
	{"regex.match(`^/x/[0-9]{3}$`, input.resource.path)", "false"},
	{"regex.match(`[0-9]{3}`, input.resource.path)", "regex.match(`[0-9]{4}`, input.resource.path)"},
	{"startswith(input.resource.path, \"/x/\"); regex.match(`/[0-9]+$`, input.resource.path)", "startswith(input.resource.path, \"/x/\")"},
	{`lower(input.resource.path) == "/a/b"`, `input.resource.path == "/a/b"`},
	{`lower(input.resource.path) == "/a/b"`, `lower(input.resource.path) == "/a/c"`},
	{`upper(input.resource.path) == "/ABC"`, `upper(input.resource.path) == "/ABD"`},
	{`startswith(lower(input.resource.path), "/admin/")`, `startswith(input.resource.path, "/admin/")`},
	{`endswith(lower(input.resource.path), ".pdf")`, `endswith(input.resource.path, ".pdf")`},
	{`contains(lower(input.resource.path), "secret")`, `contains(input.resource.path, "secret")`},
	{`lower(input.resource.segments[0]) == "admin"`, `input.resource.segments[0] == "admin"`},
	{`glob.match("/x/{a,b}", ["/"], input.resource.path)`, `glob.match("/x/{a,c}", ["/"], input.resource.path)`},
	{`glob.match("/x/?", ["/"], input.resource.path)`, `glob.match("/x/??", ["/"], input.resource.path)`},
	{`glob.match("/x/*", ["/"], input.resource.path)`, `glob.match("/x/**", ["/"], input.resource.path)`},
	{`glob.match("/x/*", ["/"], input.resource.path)`, `glob.match("/x/*", ["."], input.resource.path)`},
	{`glob.match("/x/[a-c]", ["/"], input.resource.path)`, `glob.match("/x/[a-d]", ["/"], input.resource.path)`},
	{`glob.match("*.pdf", null, input.resource.path)`, `glob.match("*.csv", null, input.resource.path)`},
	{`glob.match("**/b", ["/"], input.resource.path)`, `glob.match("**/c", ["/"], input.resource.path)`},
	{`glob.match("v*", [], input.resource.segments[1])`, `glob.match("w*", [], input.resource.segments[1])`},
	{`input.resource.segments[0] == "my docs"`, `input.resource.segments[0] == "my files"`},
	{`input.resource.segments[0] == "the docs of all people"`, `false`},
	{`input.resource.path == "/a b/c d/e f g"`, `false`},
	{`input.resource.segments[1] == "a%2Fb"`, `input.resource.segments[1] == "a/b"`},
	{`to_number(input.resource.segments[1]) < 100`, `to_number(input.resource.segments[1]) < 200`},
	{`input.resource.segments[0] == "x"; to_number(input.resource.segments[1]) >= 100`, `input.resource.segments[0] == "x"; to_number(input.resource.segments[1]) > 100`},
	{`to_number(input.resource.segments[1]) % 2 == 0`, `to_number(input.resource.segments[1]) % 2 == 1`},
	{`count(input.resource.path) < 20`, `count(input.resource.path) < 30`},
	{`startswith(input.resource.path, "/x/"); count(input.resource.path) > 12`, `startswith(input.resource.path, "/x/"); count(input.resource.path) > 13`},
	{`count(input.resource.segments) <= 2`, `count(input.resource.segments) <= 4`},
	{`input.resource.segments[0] < "m"`, `input.resource.segments[0] < "n"`},
	{`lower(input.action.method) == "purge"`, `lower(input.action.method) == "mkcol"`},
	{`lower(input.action.method) == "get"`, `input.action.method == "GET"`},
	{"regex.match(`^(PURGE|BAN)$`, input.action.method)", "regex.match(`^PURGE$`, input.action.method)"},
	{`startswith(input.action.method, "PROP")`, `startswith(input.action.method, "PROPF")`},
	{`helper(input.resource.path)`, `helper(upper(input.resource.path))`},
	{`last(input.resource.segments) == "edit"`, `last(input.resource.segments) == "view"`},
	{`base64.decode(input.resource.segments[0]) == "ab"`, `base64.decode(input.resource.segments[0]) == "ac"`},
}

// Paths and methods that the edits are tried on.
var (
	conditionPaths = []string{
		"/", "/x", "/x/", "/x/1", "/x/12", "/x/123", "/x/999", "/x/1234", "/x/12345", "/x/ab", "/x/a1", "/x/a", "/x/b", "/x/c", "/x/d", "/x/e", "/x/zz", "/x/a/b", "/x/a.b", "/x/q/r",
		"/u/", "/u/ann", "/u/bob", "/u/zoe", "/u/zoe7", "/u/zoe.b", "/u/z-b", "/u/a/b", "/a/x", "/b/x", "/c/x", "/x/draft-report", "/x/report", "/apixv1", "/api.v1/q", "/api-v1",
		"/admin/q", "/ADMIN/q", "/Admin/q", "/aDmIn/q", "/admiN/q", "/q.pdf", "/q.PDF", "/q.Pdf", "/d/q.pdF", "/a/v1", "/a/v12", "/q/v7/r", "/q/v77/r", "/a/w1", "/a/vy", "/q/wy/r",
		"/99/1234/x", "/y999z", "/y1234z", "/a/b", "/A/B", "/a/B", "/a/c", "/A/c", "/abc", "/ABC", "/aBc", "/abd", "/aBD", "/my-secret/q", "/my-Secret/q", "/q/SECRET",
		"/admin", "/ADMIN", "/aDMIN", "/q.csv", "/d/q.csv", "/d.e/q.csv", "/q/b", "/q/c", "/q/r/b", "/q/r/s/c", "/my docs", "/my docs/q", "/my files/q/r", "/the docs of all people/q",
		"/a b/c d/e f g", "/q/a%2Fb", "/q/50", "/q/99", "/q/100", "/q/150", "/q/200", "/x/99", "/x/100", "/x/101", "/x/100/q", "/q/7", "/q/8",
		"/aaaaaaaaaaaaaaaaaaaaaaa", "/x/qqqqqqqqq", "/x/qqqqqqqqqq", "/x/qqqqqqqqqqq", "/a/b/c", "/a/b/c/d", "/a/b/c/d/e", "/lima", "/mike", "/mzzz", "/nora",
		"/q/edit", "/q/r/edit", "/q/view", "/HELP", "/help", "/YWI=", "/YWM=",
	}
	conditionMethods = []string{"GET", "POST", "PURGE", "purge", "Purge", "pURGE", "MKCOL", "mkcol", "BAN", "get", "gEt", "PROPFIND", "PROPPATCH"}
)

const conditionHelpers = "\n\nhelper(p) if p == \"/HELP\"\n\nlast(list) := list[count(list) - 1]"

// TestWhatPatternsDoNotSay holds each edit, on an app of its own, against asking both policies: a request whose answer
// changed is told of, or the result says that it is incomplete and where the package is not understood.
func TestWhatPatternsDoNotSay(t *testing.T) {
	t.Parallel()
	where := regexp.MustCompile(`w\d+\.rego:\d+|spaces|at random`)
	people := []directory.Person{{ID: "corp|ann", Name: "Ann", Type: policy.TypeUser}}
	engines, worlds := conditionEngines(t, conditionEdits)
	r, err := Run(t.Context(), Config{From: engines[0], To: engines[1], People: people, Now: testNow, Sample: 20})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range conditionEdits {
		name := conditionApp(i)
		app := &r.Apps[slices.IndexFunc(r.Apps, func(a App) bool { return a.Name == name })]
		findings := slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return f.App != name })
		incomplete := slices.DeleteFunc(slices.Clone(r.Incomplete), func(line string) bool { return !strings.HasPrefix(line, "app "+name+":") })
		changed := 0
		for _, q := range conditionRequests(name) {
			want := q.expected(q.ask(t, engines[0], worlds[0], people), q.ask(t, engines[1], worlds[1], people))
			if want == review.Unchanged {
				continue
			}
			changed++
			told := slices.ContainsFunc(findings, func(f Finding) bool { return f.Change == want && q.within(&f, app, people, time.UTC) })
			if !told && len(incomplete) == 0 {
				t.Errorf("%s → %s: %s %s is %s: neither told nor said to be missing", e[0], e[1], q.method, q.path, want)
				break
			}
		}
		if changed == 0 {
			t.Errorf("%s → %s: no request tells them apart", e[0], e[1])
		}
		if len(findings) == 0 && !strings.Contains(strings.Join(incomplete, "\n"), "not understood") {
			t.Errorf("%s → %s: no finding, and %q", e[0], e[1], incomplete)
		}
		if text := strings.Join(incomplete, "\n"); text != "" && !where.MatchString(text) {
			t.Errorf("%s → %s: incomplete without a place: %s", e[0], e[1], text)
		}
	}
}

func conditionApp(i int) string { return "w" + strconv.Itoa(i) }

// conditionEngines are policies with an app for each edit, before and after.
func conditionEngines(t *testing.T, edits [][2]string) (engines [2]*policy.Engine, worlds [2]*world) {
	for side := range engines {
		w := &world{own: map[string]string{}, zone: "UTC"}
		for i, e := range edits {
			w.apps = append(w.apps, policy.App{Name: conditionApp(i)})
			w.own[conditionApp(i)] = "default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if {\n\tinput.subject.type == \"user\"\n\t" + e[side] + "\n}" + conditionHelpers
		}
		engines[side], worlds[side] = w.engine(t), w
	}
	return engines, worlds
}

func conditionRequests(app string) (list []request) {
	for _, path := range conditionPaths {
		list = append(list, request{0, app, "GET", path, testNow, "192.0.2.1", "", false, 1})
	}
	for _, method := range conditionMethods {
		list = append(list, request{0, app, method, "/q", testNow, "192.0.2.1", "", false, 1})
	}
	return list
}

// TestPatternsThatSayAll are edits of conditions that patterns say exactly: the result is complete.
func TestPatternsThatSayAll(t *testing.T) {
	t.Parallel()
	for _, e := range [][2]string{
		{"regex.match(`^/a/.*$`, input.resource.path)", "regex.match(`^/b/.*$`, input.resource.path)"},
		{"regex.match(`^/(api|admin)/`, input.resource.path)", "regex.match(`^/(api|other)/`, input.resource.path)"},
		{"regex.match(`\\.pdf$`, input.resource.path)", "regex.match(`\\.csv$`, input.resource.path)"},
		{"regex.match(`^/u/[^/]+$`, input.resource.path)", "regex.match(`^/u/.+$`, input.resource.path)"},
		{`input.resource.segments[0] == "my docs"`, `input.resource.segments[0] == "my files"`},
		{`lower(input.subject.id) == "corp|ann"; input.resource.path == "/a"`, `lower(input.subject.id) == "corp|ann"; input.resource.path == "/b"`},
	} {
		if found, complete := differs(t, e[0], e[1]); !found || !complete {
			t.Errorf("%s → %s: found %v, complete %v", e[0], e[1], found, complete)
		}
	}
}

// TestPeopleAreMadeUpForWhatIsLookedInto changes conditions on people where no directory is given.
func TestPeopleAreMadeUpForWhatIsLookedInto(t *testing.T) {
	t.Parallel()
	for _, e := range [][2]string{
		{`lower(input.subject.email) == "ann@corp.example"`, `input.subject.email == "ann@corp.example"`},
		{`endswith(lower(input.subject.email), "@corp.example")`, `endswith(input.subject.email, "@corp.example")`},
		{`some g in input.subject.groups; lower(g) == "ops"`, `"ops" in input.subject.groups`},
		{"some g in input.subject.groups; regex.match(`^team-[0-9]+$`, g)", "some g in input.subject.groups; regex.match(`^team-[a-z]+$`, g)"},
	} {
		engines, _ := conditionEngines(t, [][2]string{e})
		r, err := Run(t.Context(), Config{From: engines[0], To: engines[1], Now: testNow, Sample: 20})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Findings) == 0 && len(r.Incomplete) == 0 {
			t.Errorf("%s → %s: neither told nor said to be missing", e[0], e[1])
		}
	}
}

// TestTextsAboutExpressions holds that some of the texts match and some do not.
func TestTextsAboutExpressions(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{`^/x/[0-9]{3}$`, `^\d+$`, `^(a|b)c?$`, `^[^/]+$`, `^[[:alpha:]]{2,4}\.pdf$`, `(?i)^abc$`, globExpression("/x/{a,b}/*.[a-c]?")} {
		re, yes, texts := regexp.MustCompile(expr), 0, textsAbout(expr)
		for _, text := range texts {
			if re.MatchString(text) {
				yes++
			}
		}
		if yes < 2 || yes == len(texts) {
			t.Errorf("%s: %d of %d texts match", expr, yes, len(texts))
		}
	}
}

// TestSamplesAreNeeded forgets the samples: nothing else tells these conditions apart.
func TestSamplesAreNeeded(t *testing.T) {
	t.Parallel()
	edits := [][2]string{
		{"regex.match(`^/x/[0-9]{3}$`, input.resource.path)", "regex.match(`^/x/[0-9]{4}$`, input.resource.path)"},
		{`upper(input.resource.path) == "/ABC"`, `upper(input.resource.path) == "/A"`},
		{`to_number(input.resource.segments[1]) < 100`, `to_number(input.resource.segments[1]) < 200`},
		{`count(input.resource.path) < 20`, `count(input.resource.path) < 30`},
	}
	engines, _ := conditionEngines(t, edits)
	cfg := Config{From: engines[0], To: engines[1], People: []directory.Person{{ID: "corp|ann", Name: "Ann", Type: policy.TypeUser}}, Now: testNow, Budget: defaultBudget}
	lost := 0
	for i := range edits {
		s, err := newSurvey(t.Context(), &cfg, conditionApp(i))
		if err != nil {
			t.Fatal(err)
		}
		s.axes()
		n := len(s.samples)
		s.samples, s.paths, s.all[pathAxis].values = nil, s.paths[n:], s.all[pathAxis].values[n:]
		if err := s.ask(); err != nil {
			t.Fatal(err)
		}
		s.collect()
		s.tellSamples()
		if n > 0 && len(s.findings)+len(s.incomplete) == 0 {
			lost++
		}
	}
	if lost < 3 {
		t.Errorf("%d of %d edits are lost without samples", lost, len(edits))
	}
}
