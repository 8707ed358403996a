package test

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport/audit"
)

// TestCacheAgreesWithItsModel lets random people ask, change, and be denied under random policies and directives, and
// holds each answer against what the model allows: never somebody else's page, never a page past what its app allowed,
// never an answer without a decision.
func TestCacheAgreesWithItsModel(t *testing.T) {
	app := newLibrary(t)
	h := openHouse(t, app.URL, "cache: { memory: 64MiB, max_entry: 8MiB }")
	setFlag(t, "rapid.checks", strconv.Itoa(rounds(t, 25)))
	setFlag(t, "rapid.steps", "60")
	readStories(t, t, h, app)
	if t.Logf("%d answers came from the app, %d were reused", app.fetched, app.reused); app.reused == 0 {
		t.Error("the stories say nothing about the cache")
	}
}

// The same stories must find caches that make one mistake. They stand behind the gateway, whose own is off.
func TestCacheModelFindsMistakes(t *testing.T) {
	setFlag(t, "rapid.checks", "200")
	setFlag(t, "rapid.steps", "60")
	setFlag(t, "rapid.shrinktime", "0s")
	setFlag(t, "rapid.nofailfile", "true")
	says := func(names ...string) func(*http.Request) string {
		return func(r *http.Request) (all string) {
			for _, name := range names {
				all += name + ": " + r.Header.Get(name) + "; "
			}
			return all
		}
	}
	everything := says("X-Sallyport-Email", "X-Sallyport-Groups", "Accept-Language", "Cookie", "Authorization")
	for mistake, c := range map[string]*careless{
		"shares with everybody":    {key: says("Accept-Language", "Cookie"), heeds: true, forgets: true, complaint: "it was made for "},
		"overlooks groups":         {key: says("X-Sallyport-Email", "Accept-Language", "Cookie"), heeds: true, forgets: true, complaint: "it was made for ada"},
		"overlooks the language":   {key: says("X-Sallyport-Email", "X-Sallyport-Groups", "Cookie"), heeds: true, forgets: true, complaint: "it is another variant"},
		"forgets that time passes": {key: everything, forgets: true, complaint: "s old"},
		"keeps what was changed":   {key: everything, heeds: true, complaint: "it was changed"},
	} {
		t.Run(mistake, func(t *testing.T) {
			app := newLibrary(t)
			c.library = app
			proxy := httptest.NewServer(c)
			t.Cleanup(proxy.Close)
			h := openHouse(t, proxy.URL, "cache: { memory: 0 }")
			found := &finder{T: t}
			readStories(t, found, h, app)
			if !strings.Contains(found.said, c.complaint) {
				t.Errorf("the model did not notice, or something else: %.1000s", found.said)
			}
		})
	}
}

// readStories plays random stories; tb hears of what is wrong with them.
func readStories(t *testing.T, tb rapid.TB, h *house, app *library) {
	for _, r := range readers {
		h.enterAs(t, r.name, r.person, r.groups...)
	}
	rapid.Check(tb, func(rt *rapid.T) {
		w := &reading{t: t, h: h, app: app, changed: map[string]int{}, asked: map[string]int{}}
		w.folder = rapid.SampledFrom([]string{"/", "/", "/", "/own/", "/free/", "/cookies/"}).Draw(rt, "corner") + "m" + strings.ToLower(rand.Text())[:10] + "/"
		w.setPolicy(true)
		for _, name := range titles {
			w.publish(rt, w.folder+name)
		}
		rt.Repeat(map[string]func(*rapid.T){"": func(*rapid.T) {}, "step": w.step})
		w.checkRecords(rt)
	})
}

// setFlag sets a flag of rapid for one test.
func setFlag(t *testing.T, name, value string) {
	t.Helper()
	before := flag.Lookup(name).Value.String()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flag.Set(name, before) })
}

// finder is a test that is meant to fail.
type finder struct {
	*testing.T
	failed bool
	said   string
}

func (f *finder) Errorf(format string, args ...any) {
	f.failed = true
	f.said += fmt.Sprintf(format, args...)
}
func (f *finder) Error(args ...any)                 { f.Errorf("%s", fmt.Sprint(args...)) }
func (f *finder) Fatalf(format string, args ...any) { f.Errorf(format, args...) }
func (f *finder) Fatal(args ...any)                 { f.Errorf("%s", fmt.Sprint(args...)) }
func (f *finder) Fail()                             { f.failed = true }
func (f *finder) FailNow()                          { f.failed = true }
func (f *finder) Failed() bool                      { return f.failed }

// careless is a cache with a mistake, in front of the library.
type careless struct {
	library   *library
	key       func(*http.Request) string // beside the path
	heeds     bool                       // how long an answer may be kept
	forgets   bool                       // what was changed
	complaint string                     // of the model

	mu   sync.Mutex
	kept map[string]*httptest.ResponseRecorder
	gone map[string]time.Time
}

func (c *careless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil {
		c.kept, c.gone = map[string]*httptest.ResponseRecorder{}, map[string]time.Time{}
	}
	if r.Method != http.MethodGet {
		c.library.ServeHTTP(w, r)
		if c.forgets {
			for key := range c.kept {
				if strings.HasPrefix(key, r.URL.Path+" ") {
					delete(c.kept, key)
				}
			}
		}
		return
	}
	key := r.URL.Path + " " + c.key(r)
	entry := c.kept[key]
	if entry == nil || c.heeds && time.Now().After(c.gone[key]) {
		r.Header.Del("If-None-Match")
		entry = httptest.NewRecorder()
		c.library.ServeHTTP(entry, r)
		c.keep(key, entry)
	}
	maps.Copy(w.Header(), entry.Header())
	w.WriteHeader(entry.Code)
	w.Write(entry.Body.Bytes())
}

// keep keeps an answer that may be, for as long as it may.
func (c *careless) keep(key string, entry *httptest.ResponseRecorder) {
	p := publication{control: entry.Header().Get("Cache-Control")}
	age, _ := strconv.Atoi(entry.Header().Get("Age"))
	seconds := p.lifetime() - age
	if entry.Code != http.StatusOK || p.any("no-store", "private", "no-cache") || entry.Header().Get("Vary") == "*" || entry.Header().Get("Set-Cookie") != "" || c.heeds && seconds <= 0 {
		return
	}
	c.kept[key], c.gone[key] = entry, time.Now().Add(time.Duration(seconds)*time.Second)
}

// reader is one of those who read: the same person in two sets of groups is two readers.
type reader struct {
	name, person string
	groups       []string
}

var readers = []reader{
	{"ada", "ada", []string{"finance", "staff"}}, {"ada who left finance", "ada", []string{"staff"}},
	{"bob", "bob", []string{"staff"}}, {"eve", "eve", []string{"finance"}},
}

// told is what an app is told about a reader.
func (r reader) told() string { return r.person + "@corp.test of " + strings.Join(r.groups, ",") }

func (r reader) mayRead(staff bool) bool {
	if staff {
		return slices.Contains(r.groups, "staff")
	}
	return slices.Contains(r.groups, "finance")
}

// publication is what the library says about a page.
type publication struct {
	age           int
	control, vary string
	etag          string
	setCookie     bool
	fails         bool
}

// has reports whether Cache-Control has a directive, and its number.
func (p publication) has(directive string) (seconds int, found bool) {
	for d := range strings.SplitSeq(p.control, ", ") {
		name, value, _ := strings.Cut(d, "=")
		if name == directive {
			seconds, _ = strconv.Atoi(value)
			return seconds, true
		}
	}
	return 0, false
}

// lifetime is how many seconds an answer is fresh.
func (p publication) lifetime() int {
	if n, found := p.has("s-maxage"); found {
		return n
	}
	n, _ := p.has("max-age")
	return n
}

func (p publication) any(directives ...string) bool {
	return slices.ContainsFunc(directives, func(d string) bool { _, found := p.has(d); return found })
}

// library is an app that numbers its answers and remembers what it said in each.
type library struct {
	*httptest.Server

	mu       sync.Mutex
	pages    map[string]publication
	answered []copied

	fetched, reused int // what readers got
}

// copied is one answer of the library.
type copied struct {
	publication
	path, told       string
	language, cookie string // of the request
	credentials      bool
	at               time.Time
	confirms         int // a 304: the answer it confirms; else -1
	failed           bool
}

func newLibrary(t *testing.T) *library {
	l := &library{pages: map[string]publication{}}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

func (l *library) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, p := len(l.answered), l.pages[r.URL.Path]
	answer := copied{publication: p, path: r.URL.Path, at: time.Now(), confirms: -1, failed: p.fails,
		told: r.Header.Get("X-Sallyport-Email") + " of " + r.Header.Get("X-Sallyport-Groups"), language: r.Header.Get("Accept-Language"),
		cookie: r.Header.Get("Cookie"), credentials: r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != ""}
	tag := `"` + p.etag + strconv.Itoa(n) + `"`
	if known, found := l.known(r, p); found {
		answer.confirms, tag = known, `"`+p.etag+strconv.Itoa(known)+`"`
	}
	l.answered = append(l.answered, answer)
	h := w.Header()
	if p.control != "" {
		h.Set("Cache-Control", p.control)
	}
	if p.age > 0 {
		h.Set("Age", strconv.Itoa(p.age))
	}
	if p.vary != "" {
		h.Set("Vary", p.vary)
	}
	if p.etag != "" {
		h.Set("Etag", tag)
	}
	if p.setCookie {
		h.Set("Set-Cookie", "reader="+strconv.Itoa(n))
	}
	switch {
	case p.fails:
		w.WriteHeader(http.StatusServiceUnavailable)
	case answer.confirms >= 0:
		w.WriteHeader(http.StatusNotModified)
	default:
		h.Set("X-Page", strconv.Itoa(n))
		fmt.Fprintf(w, "page %d for %s", n, answer.told)
	}
}

// known finds the answer that a request has already, by its entity tag: one that was made for the same reader.
func (l *library) known(r *http.Request, p publication) (int, bool) {
	told := r.Header.Get("X-Sallyport-Email") + " of " + r.Header.Get("X-Sallyport-Groups")
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		number, isOurs := strings.CutPrefix(strings.Trim(strings.TrimSpace(tag), `"`), p.etag)
		n, err := strconv.Atoi(number)
		if p.etag != "" && isOurs && err == nil && n < len(l.answered) && l.answered[n].path == r.URL.Path && l.answered[n].told == told &&
			r.Method == http.MethodGet && !p.fails && l.answered[n].language == r.Header.Get("Accept-Language") {
			return n, true
		}
	}
	return 0, false
}

func (l *library) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answered)
}

// answers are those from a number on.
func (l *library) answers(from int) []copied {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.answered[from:])
}

// reading is one random story.
type reading struct {
	t      *testing.T
	h      *house
	app    *library
	folder string // of this story's pages
	staff  bool   // the policy lets staff in, else finance

	changed map[string]int // by path: older answers than this are gone
	asked   map[string]int // requests by reader's person, path and effect
}

// titles are a story's pages: few, so that they are asked for again.
var titles = []string{"a", "b"}

func (w *reading) path(rt *rapid.T) string {
	return w.folder + rapid.SampledFrom(titles).Draw(rt, "page")
}

// step is mostly a visit; what is rare, or slow, is drawn less often. Rapid likes the ends of a range, which are visits.
func (w *reading) step(rt *rapid.T) {
	switch n := rapid.IntRange(0, 1000).Draw(rt, "step"); {
	case 400 <= n && n < 480:
		w.publish(rt, w.path(rt))
	case 480 <= n && n < 540:
		w.change(rt)
	case 540 <= n && n < 550 && !w.h.uncached:
		w.purge(rt)
	case 550 <= n && n < 565:
		w.setPolicy(!w.staff)
	case 565 <= n && n < 567:
		time.Sleep(2600 * time.Millisecond) // what lives for a second is over then, whatever the clocks
	default:
		w.visit(rt)
	}
}

// sayings are what Cache-Control may say; what gives life is there more often.
var sayings = []string{"public", "public", "max-age=60", "max-age=60", "max-age=100", "max-age=100", "max-age=1", "max-age=0", "s-maxage=60", "s-maxage=2",
	"private", "no-store", "no-cache", "must-revalidate", "proxy-revalidate", "stale-while-revalidate=20", "stale-if-error=20", `private="X-Page"`, "immutable"}

// publish changes what the library says about a page.
func (w *reading) publish(rt *rapid.T, path string) {
	directives := rapid.SliceOfNDistinct(rapid.SampledFrom(sayings), 1, 4, func(d string) string { name, _, _ := strings.Cut(d, "="); return name }).Draw(rt, "directives")
	p := publication{
		control:   strings.Join(directives, ", "),
		age:       rapid.SampledFrom([]int{0, 0, 0, 1, 50, 59, 70, 90, 130}).Draw(rt, "age"),
		vary:      rapid.SampledFrom([]string{"", "", "", "", "", "Accept-Language", "X-Sallyport-User", "accept-language, x-sallyport-groups", "*", "Cookie"}).Draw(rt, "vary"),
		etag:      rapid.SampledFrom([]string{"", "t"}).Draw(rt, "etag"),
		setCookie: rapid.IntRange(0, 19).Draw(rt, "cookie") == 10,
		fails:     rapid.IntRange(0, 19).Draw(rt, "fails") == 10,
	}
	w.app.mu.Lock()
	defer w.app.mu.Unlock()
	w.app.pages[path] = p
}

const aCookie = "Cookie: theme=dark"

// visit lets somebody ask for a page and judges the answer.
func (w *reading) visit(rt *rapid.T) {
	path, who := w.path(rt), rapid.SampledFrom(readers).Draw(rt, "reader")
	var lines []string
	for _, line := range []string{aCookie, "Authorization: Basic YTpi", "Range: bytes=0-3", "Cache-Control: max-stale=5", "Cache-Control: only-if-cached",
		`If-None-Match: "other"`} {
		if rapid.IntRange(0, 19).Draw(rt, line) == 10 {
			lines = append(lines, line)
		}
	}
	language := rapid.SampledFrom([]string{"de", "en"}).Draw(rt, "language")
	lines = append(lines, "Accept-Language: "+language)
	from, began := w.app.count(), time.Now()
	got := w.h.get(w.t, who.name, "wiki", path, lines...)
	if w.count(rt, who, path, got) {
		w.judge(rt, visitor{who, path, language, lines, from, began}, got)
	}
}

// count notes a request and reports whether the reader was let in, as the policy says.
func (w *reading) count(rt *rapid.T, who reader, path string, got page) bool {
	effect := audit.Allow
	if got.status == http.StatusForbidden {
		effect = audit.Deny
	}
	w.asked[fmt.Sprint(who.person, " ", path, " ", effect)]++
	if may := who.mayRead(w.staff); may != (effect == audit.Allow) {
		rt.Fatalf("%s got %s, and may read: %v", who.name, got, may)
	}
	return effect == audit.Allow
}

// visitor is a request under judgement.
type visitor struct {
	reader
	path, language string
	lines          []string
	from           int // answers of the library from here on came while the request ran, or after
	began          time.Time
}

func (v visitor) asks(line string) bool { return slices.Contains(v.lines, line) }

// judge holds an answer against the model.
func (w *reading) judge(rt *rapid.T, v visitor, got page) {
	number := got.header.Get("X-Page")
	if number == "" { // a failure, a 304, or a page whose number is private
		if got.status == http.StatusOK && strings.Contains(got.body, "page ") {
			number = strings.Fields(got.body)[1]
		} else {
			return
		}
	}
	n, err := strconv.Atoi(number)
	all := w.app.answers(0)
	if err != nil || n >= len(all) {
		rt.Fatalf("%s got %s", v.name, got)
	}
	if n >= v.from {
		w.app.fetched++
		if c := all[n]; c.path != v.path || !strings.HasPrefix(v.path, "/free/") && c.told != v.told() {
			rt.Fatalf("%s at %s got the answer for %s at %s", v.name, v.path, c.told, c.path)
		}
		return
	}
	w.app.reused++
	if complaint := w.complaint(v, all, n); complaint != "" {
		rt.Fatalf("%s at %s with %q got stored page %d (%+v): %s: %s", v.name, v.path, v.lines, n, all[n], complaint, got)
	}
}

// clocks is how far the seconds of HTTP dates and the time of an exchange may be apart.
const clocks = 1500 * time.Millisecond

// complaint says why answer n must not have been reused.
func (w *reading) complaint(v visitor, all []copied, n int) string {
	c := all[n]
	isIn := func(corner string) bool { return strings.HasPrefix(v.path, corner) }
	shared := !isIn("/own/") && c.any("public", "s-maxage") && !c.credentials && !c.variesBy("x-sallyport")
	// What a 304 says of the answer that it confirms takes the place of what was said before (RFC 9111 §3.2); it is for the
	// request that it answers, whatever it says to others.
	last, justNow := c, false
	for i := n + 1; i < len(all); i++ {
		if all[i].confirms == n {
			last, justNow = all[i], i >= v.from
		}
	}
	switch {
	case c.path != v.path:
		return "it is another page"
	case c.any("no-store") || strings.Contains(", "+c.control+",", ", private,"):
		return "it was not to be stored"
	case !justNow && !last.isFor(v):
		return "it is another variant"
	case c.setCookie && !isIn("/cookies/"):
		return "it sets a cookie"
	case !isIn("/free/") && !shared && c.told != v.told():
		return "it was made for " + c.told
	case n < w.changed[v.path]:
		return "it was changed or dropped since"
	}
	return c.staleness(v, all, n)
}

// isFor reports whether an answer is of the variant that somebody asks for.
func (c copied) isFor(v visitor) bool {
	switch {
	case c.vary == "*", c.variesBy("accept-language") && c.language != v.language:
		return false
	}
	return !c.variesBy("cookie") || (c.cookie != "") == v.asks(aCookie) || strings.HasPrefix(v.path, "/free/")
}

func (p publication) variesBy(name string) bool {
	return strings.Contains(strings.ToLower(p.vary), name)
}

// staleness says why answer n was too old, unless the library confirmed it.
func (c copied) staleness(v visitor, all []copied, n int) string {
	for i := len(all) - 1; i > n; i-- {
		if all[i].confirms == n {
			if i >= v.from {
				return "" // just now
			}
			confirmed := all[i]
			confirmed.told, confirmed.credentials = c.told, c.credentials
			c = confirmed
			break
		}
	}
	age := time.Duration(c.age)*time.Second + v.began.Sub(c.at) - clocks
	allowed := time.Duration(c.lifetime()) * time.Second
	if c.any("no-cache") {
		return "it was to be validated each time"
	}
	if age <= allowed {
		return ""
	}
	if c.any("must-revalidate", "proxy-revalidate", "s-maxage") {
		return fmt.Sprintf("it was to be validated when stale, and is %s old", age)
	}
	var more int
	if n, found := c.has("stale-while-revalidate"); found {
		more = max(more, n)
	}
	if n, found := c.has("stale-if-error"); found && slices.ContainsFunc(all[v.from:], func(c copied) bool { return c.failed }) {
		more = max(more, n)
	}
	if v.asks("Cache-Control: max-stale=5") {
		more = max(more, 5)
	}
	if age > allowed+time.Duration(more)*time.Second {
		return fmt.Sprintf("it is %s old, %s and %d s were allowed", age, allowed, more)
	}
	return ""
}

// change lets somebody change a page: what was stored of it is gone, for all.
func (w *reading) change(rt *rapid.T) {
	path, who := w.path(rt), rapid.SampledFrom(readers).Draw(rt, "reader")
	method := rapid.SampledFrom([]string{http.MethodPost, http.MethodPut, http.MethodDelete}).Draw(rt, "method")
	got := w.h.ask(w.t, method, who.name, "wiki", path)
	if w.count(rt, who, path, got) && got.status < 400 {
		w.changed[path] = w.app.count()
	}
}

// purge is the operator's.
func (w *reading) purge(rt *rapid.T) {
	path := w.path(rt)
	before := w.app.count()
	args := rapid.SampledFrom([][]string{{"--url", w.h.URL("wiki", path)}, {"--prefix", w.h.URL("wiki", w.folder)}}).Draw(rt, "args")
	if out, code := w.h.Sallyport(w.t, append([]string{"cache", "purge"}, args...)...); code > 1 {
		rt.Fatalf("purge %q: exit %d: %s", args, code, out)
	}
	w.changed[path] = before
	if args[0] == "--prefix" {
		for _, title := range titles {
			w.changed[w.folder+title] = before
		}
	}
}

// setPolicy lets staff in, or else finance.
func (w *reading) setPolicy(staff bool) {
	if w.h.staff == staff {
		w.staff = staff
		return
	}
	apps := w.h.apps
	if !staff {
		apps = strings.Replace(apps, "groups: [staff]", "groups: [finance]", 1)
	}
	w.h.Write(w.t, apps)
	if out, code := w.h.Sallyport(w.t, "reload"); code != 0 {
		w.t.Fatalf("reload: exit %d: %s", code, out)
	}
	w.staff, w.h.staff = staff, staff
}

// checkRecords counts decision records of this story: one for each request, hit or not.
func (w *reading) checkRecords(rt *rapid.T) {
	recorded := map[string]int{}
	for _, r := range records(w.t, w.h.Stand) {
		if r.Type != audit.TypeDecision || !strings.Contains(string(r.Input), w.folder) {
			continue
		}
		var input struct {
			Subject  struct{ Email string }
			Resource struct{ Path string }
		}
		if err := json.Unmarshal(r.Input, &input); err != nil {
			rt.Fatal(err)
		}
		person, _, _ := strings.Cut(input.Subject.Email, "@")
		recorded[fmt.Sprint(person, " ", input.Resource.Path, " ", r.Effect)]++
	}
	for what, n := range w.asked {
		if recorded[what] != n {
			rt.Fatalf("%d decisions are recorded of %q, which was asked %d times", recorded[what], what, n)
		}
	}
}
