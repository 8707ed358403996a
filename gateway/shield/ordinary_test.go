//go:build !race

// Hundreds of inspections, which the race detector makes ten times as long; those at once have tests of their own.

package shield

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// recordedApp is an app whose requests are in testdata/ordinary, as its own pages and clients sent them.
type recordedApp struct {
	name    string
	what    string
	count   int         // of its requests
	flagged int         // of them reach the default threshold
	eighth  int         // of every eighth do
	args    int         // so many are inspected; 0: the default
	exclude []Exclusion // with which none does
}

// inText are the rules that look for attacks in a value. Fields that hold what people write hold what attacks are made of
// where people write about SQL, shells, HTML or code, as half of the recorded texts do.
var inText = []string{"930000-944999"}

// recorded are the apps: what was done with them, and the exclusions that each needs.
var recorded = []recordedApp{
	{name: "adminer", count: 102, flagged: 26, eighth: 1, what: "database administration: statements, forms, searches", exclude: []Exclusion{
		{Rules: inText, Arguments: []string{"query", "sql", "fields[text]", "where[0][val]"}}}},
	{name: "dokuwiki", count: 324, flagged: 30, eighth: 1, what: "wiki: forms with texts, drafts, searches, uploads", exclude: []Exclusion{
		{Rules: inText, Paths: []string{"/doku.php", "/lib/exe/ajax.php"}, Arguments: []string{"wikitext", "prefix", "suffix", "summary", "q"}}}},
	{name: "git", count: 142, flagged: 49, eighth: 6, what: "git over HTTP and gitweb: clone, push, searches", exclude: []Exclusion{
		{Rules: []string{"930130"}, Paths: []string{"/git/"}}, // ".git/" in the path
		{Rules: inText, Arguments: []string{"s"}}}},
	{name: "mediawiki", count: 344, flagged: 75, eighth: 11, what: "wiki: multipart forms with texts, its API, searches, uploads", exclude: []Exclusion{
		{Rules: inText, Paths: []string{"/index.php", "/index.php/"}, Arguments: []string{"wpTextbox1", "wpSummary", "wpUploadDescription", "search"}},
		{Rules: inText, Paths: []string{"/api.php"}, Arguments: []string{"text", "appendtext", "summary", "search"}},
		{Rules: []string{"930120"}, Paths: []string{"/load.php"}, Arguments: []string{"modules"}}, // a module of that name
		{Rules: []string{"920120"}, Paths: []string{"/index.php/Special:Upload"}}}},               // a file name with an apostrophe
	{name: "node-red", count: 140, flagged: 10, eighth: 3, what: "flow editor: JSON with code, templates and texts", args: 4000, exclude: []Exclusion{
		{Rules: inText, Paths: []string{"/flows"}, Arguments: []string{"json.flows.func", "json.flows.info", "json.flows.payload", "json.flows.template"}},
		{Rules: inText, Paths: []string{"/library/"}, Arguments: []string{"json.text"}}}},
	{name: "prometheus", count: 89, flagged: 6, eighth: 1, what: "metrics: queries in parameters and forms", exclude: []Exclusion{
		{Rules: []string{"942100"}, Paths: []string{"/api/"}, Arguments: []string{"query"}}}},
	{name: "radicale", count: 103, flagged: 67, eighth: 8, what: "calendars and contacts: CalDAV and CardDAV by vdirsyncer, its own pages", exclude: []Exclusion{
		{Rules: append([]string{"921120"}, inText...), Arguments: []string{"body"}}}}, // "LOCATION:" looks like a header
	{name: "syncthing", count: 140, flagged: 8, eighth: 1, what: "file synchronization: a JSON API", exclude: []Exclusion{
		{Rules: inText, Paths: []string{"/rest/"}, Arguments: []string{"json.ignore", "json.folders.path", "json.folders.versioning.params.command"}}}},
	{name: "tiddlywiki", count: 144, flagged: 30, eighth: 4, what: "notes: JSON with texts", exclude: []Exclusion{
		{Rules: inText, Paths: []string{"/recipes/"}, Arguments: []string{"json.text"}}}},
	{name: "wordpress", count: 342, flagged: 84, eighth: 11, what: "blog: block editor over JSON, forms, comments, searches, uploads", exclude: []Exclusion{
		{Rules: inText, Arguments: []string{"json.content", "json.title", "content", "comment", "s"}},
		{Rules: []string{"920450"}, Paths: []string{"/index.php"}},                // X-HTTP-Method-Override
		{Rules: []string{"920120"}, Paths: []string{"/wp-admin/media-new.php"}}}}, // a file name with an apostrophe
}

// Of what real apps and their clients send, so much reaches the default threshold, and with the exclusions of each app
// nothing does, while an attack in another place still is. Every eighth request of each app is inspected, and all are where
// SALLYPORT_ROUNDS is 100 or more.
func TestRealAppsAreFlaggedSeldomAndCanBeExcluded(t *testing.T) {
	all, flagged := 0, 0
	plain := compiled(t, recordedApp{}.rules(1)) // which the others share most of
	for _, app := range recorded {
		t.Run(app.name, func(t *testing.T) {
			list := recordings(t, app.name)
			if len(list) != app.count {
				t.Errorf("%d requests are recorded, want %d", len(list), app.count)
			}
			most := app.flagged
			if rounds(1) < 100 {
				list, most = everyEighth(list), app.eighth
			}
			i := plain
			if app.args > 0 {
				i = compiled(t, app.rules(1))
			}
			found := inspectAll(i, list)
			t.Logf("%s: %s", app.what, found)
			all, flagged = all+len(list), flagged+len(found.flagged)
			if len(found.flagged) > most {
				t.Errorf("%d of %d requests reach the threshold, want %d", len(found.flagged), len(list), most)
			}
			rules := app.rules(1)
			rules.Exclude = app.exclude
			excluding := compiled(t, rules)
			if left := inspectAll(excluding, found.flagged); len(left.flagged) > 0 {
				t.Errorf("with its exclusions: %s, such as %s %s", left, left.flagged[0].Method, left.flagged[0].Target)
			}
			for _, pattern := range append(rules.patterns(), "/") {
				if found := excluding.Inspect(ordinary("GET", pattern+"?other=1%27%20OR%20%271%27=%271%27%20--%20", "", "")); found.Score < 5 {
					t.Errorf("with its exclusions an attack on %s scores %d", pattern, found.Score)
				}
			}
		})
	}
	t.Logf("%d of %d requests of %d apps reach the default threshold at paranoia 1", flagged, all, len(recorded))
}

func everyEighth(list []*Request) (some []*Request) {
	for n := 0; n < len(list); n += 8 {
		some = append(some, list[n])
	}
	return some
}

// rounds is a count that SALLYPORT_ROUNDS multiplies.
func rounds(n int) int {
	if times, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil {
		return n * times
	}
	return n
}

// What real apps send costs so much, and so much of it is flagged, at the two lowest paranoias.
func BenchmarkRecorded(b *testing.B) {
	for paranoia := 1; paranoia <= 2; paranoia++ {
		for _, app := range recorded {
			b.Run(fmt.Sprintf("paranoia=%d/%s", paranoia, app.name), func(b *testing.B) {
				i, list := compiled(b, app.rules(paranoia)), recordings(b, app.name)
				var found tally
				for b.Loop() {
					found = inspectAll(i, list)
				}
				b.ReportMetric(float64(len(found.flagged)), "flagged")
				b.ReportMetric(float64(len(list)), "requests")
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(list)), "µs/request")
			})
		}
	}
}

// rules are the defaults, but for what the app sends more of.
func (app recordedApp) rules(paranoia int) Rules {
	return Rules{Mode: Block, Threshold: 5, Paranoia: paranoia, Body: 32 << 10, Arguments: cmp.Or(app.args, 500), Depth: 32, Parts: 64}
}

// recording is one request, a line of testdata/ordinary.
type recording struct {
	Method, Protocol, Host, Target string
	Header                         map[string][]string
	Text                           string // the body, where it is UTF-8
	Base64                         []byte // or else
	Length                         int64  // of the body, where not all of it was recorded
}

// recordings are the requests of an app.
func recordings(t testing.TB, app string) (list []*Request) {
	f, err := os.Open(filepath.Join("testdata/ordinary", app+".jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(in)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		var r recording
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", app, err)
		}
		list = append(list, r.request())
	}
	if lines.Err() != nil {
		t.Fatalf("%s: %v", app, lines.Err())
	}
	return list
}

// request is what the gateway would have inspected.
func (r recording) request() *Request {
	q := ordinary(r.Method, r.Target, "", "")
	q.Protocol, q.Host, q.Header, q.Body = r.Protocol, r.Host, http.Header{}, append(r.Base64, r.Text...)
	for name, values := range r.Header {
		q.Header[http.CanonicalHeaderKey(name)] = values
	}
	q.Length = max(r.Length, int64(len(q.Body)))
	return q
}

// upTo is the request as an inspector is shown it that looks at so many bytes of bodies.
func (q Request) upTo(limit int) *Request {
	q.Body = q.Body[:min(len(q.Body), limit)]
	q.Whole = int64(len(q.Body)) == q.Length
	return &q
}

// tally is what is found in many requests.
type tally struct {
	all     int
	flagged []*Request    // that reach the default threshold
	rules   map[int64]int // by which they do
}

// inspectAll inspects requests, as many at a time as there are processors.
func inspectAll(i *Inspector, list []*Request) tally {
	sum := tally{all: len(list), rules: map[int64]int{}}
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := make(chan *Request)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for q := range next {
				if found := i.Inspect(q.upTo(i.Cap())); found.Score >= 5 {
					mu.Lock()
					sum.flagged = append(sum.flagged, q)
					for _, id := range found.Rules {
						sum.rules[id]++
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, q := range list {
		next <- q
	}
	close(next)
	workers.Wait()
	return sum
}

func (s tally) String() string {
	text := fmt.Sprintf("%d of %d requests flagged", len(s.flagged), s.all)
	var ids []int64
	for id := range s.rules {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b int64) int { return cmp.Or(s.rules[b]-s.rules[a], int(a-b)) })
	var rules []string
	for _, id := range ids {
		rules = append(rules, fmt.Sprintf("%d×%d", id, s.rules[id]))
	}
	return text + " " + strings.Join(rules, " ")
}
