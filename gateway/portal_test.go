package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/personal"
	"sallyport/authn/session"
	"sallyport/gateway/signin"
)

const authHost = "auth.corp.test"

// owned is what ada and bob have, and what happened to it in order.
type owned struct {
	signin.Sessions // nil: what the portal does not use
	fake            *fakeSessions

	mu       sync.Mutex
	sessions []session.Session
	tokens   []personal.Token
	events   []string
	failing  error
	blind    bool // mutant: says that whatever is asked for belongs to the person who asks
}

func (o *owned) did(event string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, event)
}

func (o *owned) SignedIn(ctx context.Context, handle string) (*session.Session, error) {
	return o.fake.SignedIn(ctx, handle)
}
func (o *owned) Seal(purpose string, plain []byte) string    { return o.fake.Seal(purpose, plain) }
func (o *owned) Open(purpose, sealed string) ([]byte, error) { return o.fake.Open(purpose, sealed) }
func (o *owned) SignOut(_ context.Context, sessionID string) error {
	o.did("end " + sessionID)
	return nil
}
func (o *owned) Leave(_ context.Context, sessionID, h string) error {
	o.did("leave " + sessionID + " " + h)
	return nil
}
func (o *owned) Record(_ context.Context, r *audit.Record) error {
	if o.failing != nil {
		return o.failing
	}
	o.did("record " + r.Code + " " + r.Session + " by " + r.Actor.ID)
	return nil
}

func (o *owned) List(_ context.Context, f session.Filter) ([]session.Session, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []session.Session
	for _, s := range o.sessions {
		if o.blind && f.ID == s.ID {
			s.Identity = &authn.Identity{Kind: authn.User, Provider: "corp", Subject: strings.TrimPrefix(f.Subject, "corp|")}
		}
		if (f.ID == "" || f.ID == s.ID) && f.Subject == s.Identity.ID() {
			found = append(found, s)
		}
	}
	return found, nil
}

func (o *owned) End(_ context.Context, f session.Filter, reason string) ([]session.Session, error) {
	o.did("end " + f.ID + " of " + f.Subject + " as " + reason)
	return nil, nil
}

// ownTokens are the tokens of owned.
type ownTokens struct {
	*owned
	enabled bool
}

func (o ownTokens) Config() personal.Config {
	return personal.Config{Enabled: o.enabled, MaxLifetime: 45 * day, MaxPerPerson: 20}
}

func (o ownTokens) Create(ctx context.Context, owner *authn.Identity, r personal.Request) (string, personal.Token, error) {
	t := personal.Token{ID: "pat_new", Owner: owner.ID(), Name: r.Name, Apps: r.Apps, Methods: r.Methods, Created: time.Now(), Expires: time.Now().Add(r.Lifetime)}
	if err := r.Record(ctx, t); err != nil {
		return "", t, err
	}
	o.did("create " + r.Name + " for " + strings.Join(r.Apps, ",") + " " + strings.Join(r.Methods, ",") + " " + r.Lifetime.String())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens = append(o.tokens, t)
	return "sallyport_pat_thesecret", t, nil
}

func (o ownTokens) List(_ context.Context, f personal.Filter) ([]personal.Token, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []personal.Token
	for _, t := range o.tokens {
		if o.blind && f.ID == t.ID {
			t.Owner = f.Owner
		}
		if (f.ID == "" || f.ID == t.ID) && f.Owner == t.Owner {
			found = append(found, t)
		}
	}
	return found, nil
}

func (o ownTokens) Revoke(_ context.Context, f personal.Filter) ([]personal.Token, error) {
	o.did("revoke " + f.ID + " of " + f.Owner)
	return nil, nil
}

// newPortal is a bed whose sign-in host knows what ada and bob have. Ada proved herself just now.
func newPortal(t *testing.T) (*bed, *owned) {
	t.Helper()
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	o := &owned{fake: b.sessions}
	for _, name := range []string{"ada", "bob"} {
		b.sessions.put(name, "staff")
		mine := *b.sessions.known[name]
		identity := *mine.Identity
		identity.AuthTime = time.Now()
		mine.Identity, mine.Hosts = &identity, []string{wikiHost}
		b.sessions.known[name] = &mine
		other := mine
		other.ID, other.UserAgent, other.Address = "phone of "+name, "Mozilla/5.0 (iPhone; like Mac OS X) AppleWebKit/605 Version/17 Safari/604", "198.51.100.9"
		o.sessions = append(o.sessions, mine, other)
		o.tokens = append(o.tokens, personal.Token{ID: "pat_" + name, Owner: identity.ID(), Name: "backup of " + name, Apps: []string{"wiki"}, Methods: []string{personal.Any},
			Created: time.Now().Add(-day), Expires: time.Now().Add(day)})
	}
	b.server.control, b.server.portal = o, Portal{Sessions: o, Tokens: ownTokens{o, true}}
	snap := *b.server.Snapshot()
	snap.SignIn = signin.New(signin.Options{AuthOrigin: "https://" + authHost, Sessions: o, Record: o, Apps: func(host string) (signin.App, bool) { return signin.App{}, false }})
	b.server.Swap(&snap)
	return b, o
}

// visit asks for a page of the portal as somebody; a form makes it a POST of the portal's own page, changed by edit.
func (b *bed) visit(t *testing.T, handle, path string, form url.Values, edit ...func(http.Header)) (*http.Response, string) {
	t.Helper()
	method, body := "GET", io.Reader(nil)
	if form != nil {
		method, body = "POST", strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+authHost+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	if handle != "" {
		r.AddCookie(&http.Cookie{Name: signin.SessionCookie, Value: handle})
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://"+authHost)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Set("Sec-Fetch-Dest", "document")
	}
	for _, e := range edit {
		e(r.Header)
	}
	client := b.client(t, "http/1.1")
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = authHost
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// unsaid is how browsers ask that send no Fetch Metadata.
func unsaid(h http.Header) {
	for _, name := range []string{"Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"} {
		h.Del(name)
	}
}

func (o *owned) check(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.events, want) {
		t.Errorf("what happened is %q, want %q", o.events, want)
	}
	o.events = nil
}

func TestPeopleSeeTheirOwnSessionsAndTokens(t *testing.T) {
	b, _ := newPortal(t)
	for path, want := range map[string][]string{
		signin.SessionsPath: {"This browser", "Safari on iOS", "198.51.100.9", "wiki", `value="phone of ada"`, "Sign out of all browsers"},
		signin.TokensPath:   {"backup of ada", "in 24 hours", "works", "Make a token", `value="wiki"`},
	} {
		res, page := b.visit(t, "ada", path, nil)
		if res.StatusCode != http.StatusOK || !strings.Contains(res.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("%s: %d, %q", path, res.StatusCode, res.Header.Get("Cache-Control"))
		}
		for _, text := range want {
			if !strings.Contains(page, text) {
				t.Errorf("%s lacks %q:\n%s", path, text, page)
			}
		}
		if strings.Contains(page, "bob") {
			t.Errorf("%s shows what is bob's:\n%s", path, page)
		}
	}
}

// foreign is what ada gets for asking for bob's session and token by their ids, and what happened.
func foreign(t *testing.T, b *bed, o *owned) (codes []int, events []string) {
	t.Helper()
	for path, form := range map[string]url.Values{
		signin.SessionsPath + "?1": {"do": {"session"}, "session": {"phone of bob"}},
		signin.SessionsPath + "?2": {"do": {"app"}, "session": {"phone of bob"}, "host": {wikiHost}},
		signin.TokensPath:          {"do": {"revoke"}, "token": {"pat_bob"}},
	} {
		res, _ := b.visit(t, "ada", path, form)
		codes = append(codes, res.StatusCode)
	}
	return codes, o.events
}

// SES-08: what belongs to somebody else is not there. The mutant takes everything for the asker's, and must be caught.
func TestWhatIsSomebodyElsesIsNotThere(t *testing.T) {
	b, o := newPortal(t)
	codes, events := foreign(t, b, o)
	if !slices.Equal(codes, []int{404, 404, 404}) || len(events) > 0 {
		t.Errorf("asking for bob's is %v and does %q", codes, events)
	}
	for _, form := range []url.Values{{"do": {"session"}}, {"do": {"session"}, "session": {"nonsense"}}} {
		if res, _ := b.visit(t, "ada", signin.SessionsPath, form); res.StatusCode != http.StatusNotFound {
			t.Errorf("%v: %d, want the same 404", form, res.StatusCode)
		}
	}
	o.blind = true
	if codes, events := foreign(t, b, o); slices.Contains(codes, 404) || len(events) < 6 {
		t.Errorf("without the check it is %v and does %q: the test sees nothing", codes, events)
	}
}

// CSRF-01: only our own pages change anything. The mutant lets every page do it.
func TestPortalFormsAreOurOwnPages(t *testing.T) {
	b, o := newPortal(t)
	form := url.Values{"do": {"others"}}
	for name, edit := range map[string]func(http.Header){
		"another site":            func(h http.Header) { h.Set("Sec-Fetch-Site", "cross-site"); h.Set("Origin", "https://evil.example") },
		"an app beside us":        func(h http.Header) { h.Set("Sec-Fetch-Site", "same-site"); h.Set("Origin", "https://"+wikiHost) },
		"another origin, no word": func(h http.Header) { unsaid(h); h.Set("Origin", "https://evil.example") },
		"our host in plain":       func(h http.Header) { unsaid(h); h.Set("Origin", "http://"+authHost) },
		"no origin at all":        func(h http.Header) { unsaid(h); h.Set("Origin", "null") },
	} {
		for _, path := range []string{signin.SessionsPath, signin.TokensPath} {
			if res, _ := b.visit(t, "ada", path, form, edit); res.StatusCode != http.StatusForbidden {
				t.Errorf("%s to %s: %d, want 403", name, path, res.StatusCode)
			}
		}
	}
	o.check(t)
	if res, _ := b.visit(t, "", signin.SessionsPath, form); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stranger's form: %d, want 401", res.StatusCode)
	}
	o.check(t)
	b.server.crossSite.AddInsecureBypassPattern("/")
	b.visit(t, "ada", signin.SessionsPath, form, func(h http.Header) { h.Set("Sec-Fetch-Site", "cross-site") })
	if len(o.events) == 0 {
		t.Error("without the check nothing happens either: the test sees nothing")
	}
}

func TestEndingSessionsIsOnRecordFirst(t *testing.T) {
	b, o := newPortal(t)
	res, _ := b.visit(t, "ada", signin.SessionsPath, url.Values{"do": {"session"}, "session": {"phone of ada"}})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != signin.SessionsPath+"?done=session" {
		t.Errorf("ending a session leads to %d %q", res.StatusCode, res.Header.Get("Location"))
	}
	o.check(t, "record session_ended phone of ada by corp|ada", "end phone of ada of corp|ada as signed_out")

	b.visit(t, "ada", signin.SessionsPath, url.Values{"do": {"app"}, "session": {"session of ada"}, "host": {wikiHost}})
	o.check(t, "record sign_out_app session of ada by corp|ada", "leave session of ada "+wikiHost)

	b.visit(t, "ada", signin.SessionsPath, url.Values{"do": {"others"}})
	o.check(t, "record session_ended phone of ada by corp|ada", "end phone of ada of corp|ada as signed_out")

	res, page := b.visit(t, "ada", signin.SessionsPath, url.Values{"do": {"all"}})
	if !strings.Contains(page, "signed out") || !strings.Contains(res.Header.Get("Set-Cookie"), signin.SessionCookie+"=;") {
		t.Errorf("signing out everywhere leaves the cookie %q and says\n%s", res.Header.Get("Set-Cookie"), page)
	}
	o.check(t, "record session_ended phone of ada by corp|ada", "end phone of ada of corp|ada as signed_out",
		"record sign_out session of ada by corp|ada", "end session of ada")
}

func TestNothingChangesUnrecorded(t *testing.T) {
	b, o := newPortal(t)
	o.failing = errors.New("disk full")
	for path, form := range map[string]url.Values{
		signin.SessionsPath:        {"do": {"session"}, "session": {"phone of ada"}},
		signin.SessionsPath + "?1": {"do": {"others"}},
		signin.SessionsPath + "?2": {"do": {"all"}},
		signin.SessionsPath + "?3": {"do": {"app"}, "session": {"session of ada"}, "host": {wikiHost}},
		signin.TokensPath:          wanted(),
		signin.TokensPath + "?1":   {"do": {"revoke"}, "token": {"pat_ada"}},
	} {
		if res, page := b.visit(t, "ada", path, form); res.StatusCode != http.StatusServiceUnavailable || strings.Contains(page, "thesecret") {
			t.Errorf("%v: %d, want 503", form, res.StatusCode)
		}
	}
	o.check(t)
}

// wanted is a token that may be made.
func wanted() url.Values {
	return url.Values{"do": {"create"}, "name": {" deploy "}, "app": {"wiki"}, "methods": {"read"}, "lifetime": {"30"}}
}

func TestATokenIsShownOnce(t *testing.T) {
	b, o := newPortal(t)
	res, page := b.visit(t, "ada", signin.TokensPath, wanted())
	if res.StatusCode != http.StatusOK || res.Header.Get("Cache-Control") != "no-store" || strings.Count(page, "sallyport_pat_thesecret") != 1 {
		t.Errorf("a new token is shown with %d, %q:\n%s", res.StatusCode, res.Header.Get("Cache-Control"), page)
	}
	o.check(t, "record token_created session of ada by corp|ada", "create deploy for wiki GET,HEAD,OPTIONS 720h0m0s")
	if _, page := b.visit(t, "ada", signin.TokensPath, nil); strings.Contains(page, "thesecret") || !strings.Contains(page, "deploy") {
		t.Errorf("afterwards the page is\n%s", page)
	}
	res, _ = b.visit(t, "ada", signin.TokensPath, url.Values{"do": {"revoke"}, "token": {"pat_new"}})
	if res.Header.Get("Location") != signin.TokensPath+"?done=revoked" {
		t.Errorf("revoking leads to %d %q", res.StatusCode, res.Header.Get("Location"))
	}
	o.check(t, "record token_revoked session of ada by corp|ada", "revoke pat_new of corp|ada")
}

func TestTokensAreForWhatTheirOwnerMayOpen(t *testing.T) {
	b, o := newPortal(t)
	for name, edit := range map[string]func(url.Values){
		"no name":         func(f url.Values) { f.Set("name", " ") },
		"a long name":     func(f url.Values) { f.Set("name", strings.Repeat("ä", 61)) },
		"no app":          func(f url.Values) { f.Del("app") },
		"another app":     func(f url.Values) { f["app"] = []string{"wiki", "payroll"} },
		"every app":       func(f url.Values) { f.Set("app", personal.Any) },
		"no choice":       func(f url.Values) { f.Set("methods", "") },
		"no method":       func(f url.Values) { f.Set("methods", "chosen") },
		"another method":  func(f url.Values) { f.Set("methods", "chosen"); f["method"] = []string{"GET", "CONNECT"} },
		"every method":    func(f url.Values) { f.Set("methods", "chosen"); f.Set("method", personal.Any) },
		"longer than may": func(f url.Values) { f.Set("lifetime", "90") },
		"for ever":        func(f url.Values) { f.Set("lifetime", "0") },
	} {
		form := wanted()
		edit(form)
		if res, page := b.visit(t, "ada", signin.TokensPath, form); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(page, `role="alert"`) {
			t.Errorf("%s: %d, want 422 and a word about it", name, res.StatusCode)
		}
	}
	b.sessions.known["bob"].Identity.Groups = nil
	if res, _ := b.visit(t, "bob", signin.TokensPath, wanted()); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("an app that is closed to bob: %d, want 422", res.StatusCode)
	}
	o.check(t)
	long := wanted()
	long.Set("lifetime", "45")
	if res, _ := b.visit(t, "ada", signin.TokensPath, long); res.StatusCode != http.StatusOK {
		t.Errorf("the longest that may be: %d, want 200", res.StatusCode)
	}
	huge := wanted()
	huge.Set("name", strings.Repeat("x", maxPortalForm))
	if res, _ := b.visit(t, "ada", signin.TokensPath, huge); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a huge form: %d, want 400", res.StatusCode)
	}
}

// A session that somebody left open makes no tokens: not an hour after its person proved themselves.
func TestMakingATokenNeedsALateProof(t *testing.T) {
	b, o := newPortal(t)
	for age, want := range map[time.Duration]int{59 * time.Minute: http.StatusOK, 61 * time.Minute: http.StatusForbidden} {
		b.sessions.known["ada"].Identity.AuthTime = time.Now().Add(-age)
		if res, page := b.visit(t, "ada", signin.TokensPath, wanted()); res.StatusCode != want {
			t.Errorf("%v after the proof: %d, want %d\n%s", age, res.StatusCode, want, page)
		}
		o.events = nil
	}
	b.sessions.known["ada"].Identity.AuthTime = time.Now().Add(-2 * time.Hour)
	if _, page := b.visit(t, "ada", signin.TokensPath, nil); !strings.Contains(page, signin.TokensPath+"?confirm=1") || strings.Contains(page, `name="lifetime"`) {
		t.Errorf("the page does not ask for a proof:\n%s", page)
	}
	res, _ := b.visit(t, "ada", signin.TokensPath+"?confirm=1", nil)
	if to := res.Header.Get("Location"); !strings.HasPrefix(to, "https://"+authHost+signin.StartPath+"?") || !strings.Contains(to, "need=") {
		t.Errorf("confirming leads to %d %q, want the sign-in with its need", res.StatusCode, to)
	}
	if res, _ := b.visit(t, "ada", signin.TokensPath, url.Values{"do": {"revoke"}, "token": {"pat_ada"}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("revoking: %d, want it at any time", res.StatusCode)
	}
	o.check(t, "record token_revoked session of ada by corp|ada", "revoke pat_ada of corp|ada")
}

func TestWithoutPersonalTokensThereIsNoPage(t *testing.T) {
	b, o := newPortal(t)
	b.server.portal.Tokens = ownTokens{o, false}
	if res, _ := b.visit(t, "ada", signin.TokensPath, nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("the page is %d, want 404", res.StatusCode)
	}
	if _, page := b.visit(t, "ada", "/", nil); strings.Contains(page, "Access tokens") || !strings.Contains(page, "Where you are signed in") {
		t.Errorf("the portal leads to it:\n%s", page)
	}
}

func TestStrangersAreSentToSignIn(t *testing.T) {
	b, _ := newPortal(t)
	for _, path := range []string{"/", signin.SessionsPath, signin.TokensPath} {
		res, _ := b.visit(t, "", path, nil)
		to, err := url.Parse(res.Header.Get("Location"))
		if err != nil || res.StatusCode != http.StatusFound || to.Path != signin.StartPath {
			t.Errorf("%s: %d to %q", path, res.StatusCode, to)
		}
		if rd := to.Query().Get("rd"); path != "/" && rd != path {
			t.Errorf("%s: it would come back to %q", path, rd)
		}
	}
}
