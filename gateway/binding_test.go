package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/certs/clienttest"
	"sallyport/gateway/place"
)

// keep is what a bed's server keeps besides: control records, what was spent, and forms. It notes the order of all.
type keep struct {
	sessions *fakeSessions

	mu      sync.Mutex
	done    []string // what was done: record <code> <reason>, end <id>, keep, take
	records []audit.Record
	spent   map[string]bool
	past    map[string]session.Past // by handle
	forms   map[string][]byte
	once    map[string]bool // sessions whose one form was kept
	failing error           // of records
	down    error           // of the store
	lavish  bool            // a worse store: what is taken stays
}

func (b *bed) keep() *keep {
	k := &keep{sessions: b.sessions, spent: map[string]bool{}, past: map[string]session.Past{}, forms: map[string][]byte{}, once: map[string]bool{}}
	b.server.control, b.server.custody, b.server.forms = k, k, k
	return k
}

func (k *keep) note(what string) { k.done = append(k.done, what) }

func (k *keep) Record(_ context.Context, r *audit.Record) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failing != nil {
		return k.failing
	}
	k.note(strings.TrimSpace("record " + r.Code + " " + r.Reason))
	k.records = append(k.records, *r)
	return nil
}

func (k *keep) End(_ context.Context, f session.Filter, reason string) ([]session.Session, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down != nil {
		return nil, k.down
	}
	k.note("end " + f.ID + " " + reason)
	k.sessions.mu.Lock()
	defer k.sessions.mu.Unlock()
	for handle, s := range k.sessions.known {
		if s.ID == f.ID {
			delete(k.sessions.known, handle)
		}
	}
	return nil, nil
}

func (k *keep) Spend(_ context.Context, id string, _ time.Time) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := !k.spent[id]
	k.spent[id] = true
	return first, k.down
}

func (k *keep) Past(_ context.Context, host, handle string) (session.Past, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	past, known := k.past[handle]
	if !known || host != wikiHost {
		return session.Past{}, session.ErrNoSession
	}
	return past, k.down
}

func (k *keep) KeepForm(_ context.Context, id string, form []byte) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down != nil {
		return "", k.down
	}
	if k.once[id] {
		return "", session.ErrConflict
	}
	k.note("keep")
	k.once[id] = true
	name := "FORM" + strconv.Itoa(len(k.once))
	k.forms[name] = slices.Clone(form)
	return name, nil
}

func (k *keep) Form(_ context.Context, id string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if form, held := k.forms[id]; held {
		return form, k.down
	}
	return nil, session.ErrNoForm
}

func (k *keep) TakeForm(ctx context.Context, id string) ([]byte, error) {
	form, err := k.Form(ctx, id)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && !k.lavish {
		delete(k.forms, id)
	}
	if err == nil {
		k.note("take")
	}
	return form, err
}

func (k *keep) did() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.done)
}

func (k *keep) codes(code string) (list []audit.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.records {
		if r.Code == code {
			list = append(list, r)
		}
	}
	return list
}

// change gives the person behind a handle another session.
func (f *fakeSessions) change(handle string, with func(*session.Session)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	later := *f.known[handle]
	with(&later)
	f.known[handle] = &later
}

const (
	firefox      = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
	newerFirefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	chrome       = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)

func TestBrowsersAreToldApartWithoutTheirVersions(t *testing.T) {
	for said, want := range map[string]string{
		firefox: "Firefox on Linux", newerFirefox: "Firefox on Linux", chrome: "Chrome on Windows", chrome + " Edg/126.0.0.0": "Edge on Windows", chrome + " OPR/111.0": "Opera on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15":                      "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/126.0 Mobile/15E148 Safari/604.1":     "Chrome on iOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/127.0 Mobile/15E148 Safari/605.1.15":  "Firefox on iOS",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36":                      "Chrome on Android",
		"Mozilla/5.0 (Linux; Android 14; SM-S901B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36": "Samsung Internet on Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36":                             "Chrome on ChromeOS",
		"curl/8.5.0": "curl on other", "git/2.43.0": "git on other", "": "other on other", "\x00\xff": "other on other", strings.Repeat("x", 1000) + firefox: "other on other",
	} {
		if got := agentOf(said).String(); got != want {
			t.Errorf("%.80q: got %q, want %q", said, got, want)
		}
	}
}

// bindingBed is a wiki for ada, whose session began in Firefox on Linux, at home.
func bindingBed(t testing.TB, bind session.Bind, began session.Bound) (*bed, *keep) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	next := snapshot(t, wiki(t, b.origin, "staff"))
	next.Bind = bind
	places, err := place.New(place.Networks{"lab": {netip.MustParsePrefix("127.0.0.0/16")}}, place.GeoIP{Database: "place/testdata/countries.mmdb"})
	if err != nil {
		t.Fatal(err)
	}
	next.Places = places
	b.server.Swap(next)
	b.sessions.change("ada", func(s *session.Session) { s.Bound = began })
	return b, b.keep()
}

// as asks in a browser.
func (b *bed) as(t testing.TB, handle, userAgent string) *http.Request {
	r := b.request(t, "GET", "/page", handle, nil)
	r.Header.Set("User-Agent", userAgent)
	return r
}

var athome = session.Bound{UserAgent: "Firefox on Linux", Network: "lab", Country: "NL"}

// A cookie that is used where the session did not begin is refused and the session ended, which is on record before. With
// the binding left out, which is the mutant, each of these requests is served.
func TestStolenCookieEndsTheSession(t *testing.T) {
	elsewhere, abroad := athome, athome
	elsewhere.Network, abroad.Country = "192.0.2.0/24", "US"
	for name, c := range map[string]struct {
		bind      session.Bind
		began     session.Bound
		userAgent string
		kind      string // empty: nothing is wrong
	}{
		"another browser":                    {session.Bind{UserAgent: true}, athome, chrome, "user_agent"},
		"another network":                    {session.Bind{Network: true}, elsewhere, firefox, "network"},
		"a program":                          {session.Bind{UserAgent: true, Network: true}, athome, "curl/8.5.0", "user_agent"},
		"no browser at all":                  {session.Bind{UserAgent: true}, athome, "", "user_agent"},
		"a newer version":                    {session.Bind{UserAgent: true, Network: true}, athome, newerFirefox, ""},
		"another browser, bound to networks": {session.Bind{Network: true}, athome, chrome, ""},
		"another country, which binds none":  {session.Bind{UserAgent: true, Network: true}, abroad, firefox, ""},
		"from before sessions remembered":    {session.Bind{UserAgent: true, Network: true}, session.Bound{}, chrome, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mutant := range []bool{false, true} {
				bind := c.bind
				if mutant {
					bind = session.Bind{}
				}
				b, k := bindingBed(t, bind, c.began)
				status, body := answerTo(t, b.client(t, "http/1.1"), b.as(t, "ada", c.userAgent))
				if c.kind == "" || mutant {
					if status != 200 || len(k.codes("session_ended")) > 0 {
						t.Errorf("mutant %v: got %d, %v", mutant, status, k.did())
					}
					continue
				}
				want := []string{"record session_ended session_binding", "end session of ada session_binding"}
				if status != 401 || !strings.Contains(body, `"error":"session_binding"`) || !slices.Equal(k.did(), want) {
					t.Fatalf("got %d %s, did %q, want %q", status, body, k.did(), want)
				}
				if record := b.log.one(t, audit.TypeDecision); record.Effect != audit.Reject || record.Reason != "session_binding" || record.Session != "session of ada" {
					t.Errorf("the request is on record as %s %s", record.Effect, record.Reason)
				}
				var detail map[string]string
				if err := json.Unmarshal(k.codes("session_ended")[0].Detail, &detail); err != nil || detail["kind"] != c.kind || detail["was"] == detail["is"] {
					t.Errorf("the record says %v, %v", detail, err)
				}
				if status, _ := answerTo(t, b.client(t, "http/1.1"), b.as(t, "ada", firefox)); status != 401 {
					t.Errorf("the session's own browser gets %d after it", status)
				}
			}
		})
	}
}

// Nothing is done that cannot be recorded, and nobody is let in meanwhile.
func TestNobodyIsLetInWhileABreachCannotBeRecorded(t *testing.T) {
	for name, spoil := range map[string]func(*keep){"records": func(k *keep) { k.failing = errDisk }, "store": func(k *keep) { k.down = session.ErrUnavailable }} {
		b, k := bindingBed(t, session.Bind{UserAgent: true}, athome)
		spoil(k)
		if status, _ := answerTo(t, b.client(t, "http/1.1"), b.as(t, "ada", chrome)); status != 503 || slices.ContainsFunc(k.did(), func(d string) bool { return strings.HasPrefix(d, "end") }) {
			t.Errorf("%s: got %d, did %q", name, status, k.did())
		}
	}
}

// Without a binding each kind of change is on record once for a session, whoever looks and however often; people notice nothing.
func TestAnomaliesAreRecordedOnce(t *testing.T) {
	b, k := bindingBed(t, session.Bind{}, session.Bound{UserAgent: "Firefox on Linux", Network: "192.0.2.0/24", Country: "DE", Certificate: "issuer \"x\" subject \"y\""})
	for range 3 {
		for _, browser := range []string{firefox, chrome, "curl/8"} {
			if status, _ := answerTo(t, b.client(t, "http/1.1"), b.as(t, "ada", browser)); status != 200 {
				t.Fatalf("got %d", status)
			}
		}
	}
	var kinds []string
	for _, record := range k.codes("session_anomaly") {
		kinds = append(kinds, record.Reason)
		if record.Session != "session of ada" || record.Actor == nil || record.Actor.ID != "corp|ada" {
			t.Errorf("the record is of %s by %v", record.Session, record.Actor)
		}
	}
	slices.Sort(kinds)
	// The host asks for no certificate, so that there being none says nothing.
	if want := []string{"country", "network", "user_agent"}; !slices.Equal(kinds, want) {
		t.Errorf("recorded %q, want %q", kinds, want)
	}
}

// A session that is bound to a certificate ends where another one, or none, is shown, and lives on with a renewed one.
func TestSessionStaysWithItsCertificate(t *testing.T) {
	c := newCertBed(t)
	k := c.keep()
	next := snapshot(t, c.apps(t)...)
	next.ClientAuthorities, next.Bind = c.server.Snapshot().ClientAuthorities, session.Bind{ClientCertificate: true}
	c.server.Swap(next)
	if !next.AsksForCertificate(wikiHost) || !next.AsksForCertificate("auth.corp.test") || next.AsksForCertificate("other.corp.test") {
		t.Error("not every host of ours asks for certificates")
	}
	began := session.Bound{UserAgent: "Firefox on Linux", Network: "127.0.0.0/24", Certificate: `issuer "CN=people,O=Corp" subject "CN=ada,O=Corp"`}
	for _, x := range []struct {
		name   string
		client *http.Client
		status int
	}{
		{"her own", c.showing(t, "h2", c.people.Issue(t, "ada")), 200},
		{"a newer one of hers", c.showing(t, "h2", c.people.Issue(t, "ada")), 200},
		{"somebody else's", c.showing(t, "h2", c.people.Issue(t, "eve")), 401},
		{"a stranger authority's", c.showing(t, "h2", clienttest.NewAuthority(t, "people").Issue(t, "ada")), 401},
		{"none", c.showing(t, "h2"), 401},
	} {
		c.sessions.put("ada", "staff")
		r := c.request(t, "GET", "/docs/page", "ada", nil)
		r.Header.Set("User-Agent", firefox)
		c.sessions.change("ada", func(s *session.Session) { s.Bound = began })
		if status, body := answerTo(t, x.client, r); status != x.status {
			t.Errorf("%s: got %d, want %d: %s", x.name, status, x.status, body)
		}
	}
	if n := len(k.codes("session_ended")); n != 3 {
		t.Errorf("%d ends are on record, want 3", n)
	}
}

// Where the sign-in asked for no certificate, showing one to an app is no change; where it asked, it is.
func TestCertificateThatNobodyAskedForIsNoAnomaly(t *testing.T) {
	for asked, want := range map[bool]int{false: 0, true: 1} {
		c := newCertBed(t)
		k := c.keep()
		next := snapshot(t, c.apps(t)...)
		next.ClientAuthorities, next.SignInCertificate = c.server.Snapshot().ClientAuthorities, asked
		c.server.Swap(next)
		c.sessions.put("ada", "staff")
		c.sessions.change("ada", func(s *session.Session) {
			s.Bound = session.Bound{UserAgent: "Firefox on Linux", Network: "127.0.0.0/24"}
		})
		r := c.request(t, "GET", "/docs/page", "ada", nil)
		r.Header.Set("User-Agent", firefox)
		if status, body := answerTo(t, c.showing(t, "h2", c.people.Issue(t, "ada")), r); status != 200 {
			t.Fatalf("got %d: %s", status, body)
		}
		if got := len(k.codes("session_anomaly")); got != want {
			t.Errorf("the sign-in asked for a certificate: %v; %d anomalies, want %d", asked, got, want)
		}
	}
}

// A reload that binds sessions to certificates holds for connections that are open.
func TestBindingReachesOpenConnections(t *testing.T) {
	b, _ := bindingBed(t, session.Bind{}, session.Bound{UserAgent: "Firefox on Linux", Network: athome.Network, Certificate: "issuer \"x\" subject \"y\""})
	client := b.client(t, "http/1.1")
	if status, _ := answerTo(t, client, b.as(t, "ada", firefox)); status != 200 {
		t.Fatalf("got %d", status)
	}
	next := snapshot(t, wiki(t, b.origin, "staff"))
	next.Bind, next.Places = session.Bind{ClientCertificate: true}, b.server.Snapshot().Places
	b.server.Swap(next)
	if status, _ := answerTo(t, client, b.as(t, "ada", firefox)); status != 401 {
		t.Errorf("got %d, want 401", status)
	}
}

// What is the same as ever costs a hot request nothing to speak of.
func TestSameBrowserCostsNoAllocation(t *testing.T) {
	b, _ := bindingBed(t, session.Bind{UserAgent: true, Network: true}, athome)
	n := -1.
	probe := &exchangeProbe{}
	probe.run = func(x *exchange) {
		n = testing.AllocsPerRun(100, func() {
			if err := x.hold(); err != nil {
				t.Error(err)
			}
		})
	}
	probe.once(t, b, b.as(t, "ada", firefox))
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// exchangeProbe looks at an exchange that was identified.
type exchangeProbe struct{ run func(*exchange) }

func (p *exchangeProbe) once(t testing.TB, b *bed, r *http.Request) {
	t.Helper()
	inner := b.front.Config.Handler
	b.front.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := b.server.begin(w, r)
		defer x.finish()
		for _, stage := range []func() error{x.admit, x.match, x.identify} {
			if err := stage(); err != nil {
				t.Error(err)
				return
			}
		}
		p.run(x)
	})
	defer func() { b.front.Config.Handler = inner }()
	answerTo(t, b.client(t, "http/1.1"), r)
}

// BenchmarkSameBrowser is what each request of a session pays for its binding.
func BenchmarkSameBrowser(b *testing.B) {
	bed, _ := bindingBed(b, session.Bind{UserAgent: true, Network: true}, athome)
	probe := &exchangeProbe{run: func(x *exchange) {
		for b.Loop() {
			if x.hold() != nil {
				b.Fatal("a breach")
			}
		}
	}}
	probe.once(b, bed, bed.as(b, "ada", firefox))
}
