package gateway

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/gateway/route"
	"sallyport/gateway/signin"
	"sallyport/policy"
)

// freshBed is a wiki with limits of its own, and with a policy of its own where rego is not empty.
func freshBed(t *testing.T, limits route.Session, reauthenticate time.Duration, rego string) *bed {
	t.Helper()
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	b.keep()
	b.serveFresh(t, limits, reauthenticate, rego)
	return b
}

func (b *bed) serveFresh(t *testing.T, limits route.Session, reauthenticate time.Duration, rego string) {
	t.Helper()
	app := wiki(t, b.origin, "staff")
	app.Session = limits
	next := snapshot(t, app)
	next.Reauthenticate = reauthenticate
	next.SignIn = signin.New(signin.Options{AuthOrigin: "https://auth.corp.test", Sessions: signInSessions{fake: b.sessions}, Apps: func(host string) (signin.App, bool) {
		return signin.App{Name: "wiki", Host: wikiHost, Origin: "https://" + wikiHost}, host == wikiHost
	}})
	if rego != "" {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "wiki.rego"), []byte(rego), 0o600); err != nil {
			t.Fatal(err)
		}
		bundle, err := policy.Build(policy.Config{Bundle: dir, Memo: true}, []policy.App{app.Policy()}, policy.SessionTerm)
		if err != nil {
			t.Fatal(err)
		}
		if next.Policy, err = policy.Compile(t.Context(), bundle); err != nil {
			t.Fatal(err)
		}
	}
	b.server.Swap(next)
}

// signInSessions is as much of sessions as it takes to start a sign-in.
type signInSessions struct {
	signin.Sessions // nil: nothing else is needed
	fake            *fakeSessions
}

func (s signInSessions) Seal(purpose string, plain []byte) string { return s.fake.Seal(purpose, plain) }

// navigation is a person who opens, or sends, a page.
func navigation(r *http.Request) *http.Request {
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Accept", "text/html")
	return r
}

func sent(t *testing.T, b *bed, r *http.Request) *http.Response {
	t.Helper()
	res, err := b.client(t, "http/1.1").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// aged is ada, as long ago as it says.
func aged(raised, seen, away, proved time.Duration) func(*session.Session) {
	return func(s *session.Session) {
		now := time.Now()
		s.Raised, s.Created, s.Seen, s.Away = now.Add(-raised), now.Add(-raised), now.Add(-seen), away
		who := *s.Identity
		if who.AuthTime = now.Add(-proved); proved < 0 {
			who.AuthTime = time.Time{}
		}
		s.Identity = &who
	}
}

// Whoever's sign-in is not as fresh as the app wants it is sent to sign in, and back to the page; programs are told what is
// missing. REV-05. Without the limit, which is the mutant, all of them pass.
func TestAppWantsAFreshSignIn(t *testing.T) {
	const m, h = time.Minute, time.Hour
	for name, c := range map[string]struct {
		limits route.Session
		global time.Duration
		ada    func(*session.Session)
		passes bool
		maxAge string
	}{
		"idle, just now":                       {route.Session{Idle: 15 * m}, 0, aged(3*h, 10*m, 10*m, 3*h), true, ""},
		"idle, to the minute":                  {route.Session{Idle: 15 * m}, 0, aged(3*h, 0, 15*m+30*time.Second, 3*h), true, ""},
		"idle, away":                           {route.Session{Idle: 15 * m}, 0, aged(3*h, 17*m, 0, 3*h), false, "0"},
		"idle, away before the latest request": {route.Session{Idle: 15 * m}, 0, aged(3*h, 0, 17*m, 3*h), false, "0"},
		"absolute, in time":                    {route.Session{Absolute: 4 * h}, 0, aged(3*h, 0, 0, 3*h), true, ""},
		"absolute, over":                       {route.Session{Absolute: 2 * h}, 0, aged(3*h, 0, 0, time.Minute), false, "0"},
		"reauthenticate, in time":              {route.Session{Reauthenticate: 4 * h}, 0, aged(3*h, 0, 0, 3*h), true, ""},
		"reauthenticate, over":                 {route.Session{Reauthenticate: h}, 0, aged(m, 0, 0, 3*h), false, "3600"},
		"reauthenticate, for all apps":         {route.Session{}, h, aged(m, 0, 0, 3*h), false, "3600"},
		"reauthenticate, the shorter":          {route.Session{Reauthenticate: 2 * h}, h, aged(m, 0, 0, 90*m), false, "3600"},
		"reauthenticate, nobody knows":         {route.Session{Reauthenticate: h}, 0, aged(m, 0, 0, -1), false, "3600"},
		"reauthenticate, a clock behind":       {route.Session{Reauthenticate: m}, 0, aged(0, 0, 0, m+30*time.Second), true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mutant := range []bool{false, true} {
				limits, global := c.limits, c.global
				if mutant {
					limits, global = route.Session{}, 0
				}
				b := freshBed(t, limits, global, "")
				b.sessions.change("ada", c.ada)
				program := sent(t, b, b.request(t, "GET", "/page?q=1", "ada", nil))
				if c.passes || mutant {
					if program.StatusCode != 200 {
						t.Errorf("mutant %v: got %d", mutant, program.StatusCode)
					}
					continue
				}
				challenge := program.Header.Get("WWW-Authenticate")
				if program.StatusCode != 401 || !strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `max_age="`+c.maxAge+`"`) {
					t.Errorf("a program gets %d %s", program.StatusCode, challenge)
				}
				record := b.log.one(t, audit.TypeDecision)
				if record.Effect != audit.Reject || record.Reason != reasonStale || record.Session == "" {
					t.Errorf("on record as %s %s", record.Effect, record.Reason)
				}
				person := sent(t, b, navigation(b.request(t, "GET", "/page?q=1", "ada", nil)))
				to, err := url.Parse(person.Header.Get("Location"))
				if err != nil || person.StatusCode != 302 || to.Host != "auth.corp.test" || to.Query().Get("rd") != "/page?q=1" || to.Query().Get("need") == "" {
					t.Errorf("a person gets %d to %s", person.StatusCode, to)
				}
			}
		})
	}
}

const stepUpRego = `package sallyport.app["wiki"]

decision := {"allow": false, "reasons": [{"code": "step_up", "user": "Use your key."}], "obligations": [{"type": "step_up", "mfa": true, "acr": ["gold", "silver"], "max_age_s": 600}]} if {
	not input.subject.claims.never
}
`

// A policy that wants a stronger sign-in gets it by way of the provider, back to the page that was asked for; what a redirect
// would lose gets a page with one button, and programs RFC 9470's challenge. A session that is all of it already is
// refused, and never sent in a circle: that is the mutant which the last case finds.
func TestStepUpGoesToTheProviderAndBack(t *testing.T) {
	b := freshBed(t, route.Session{}, 0, stepUpRego)
	res := sent(t, b, navigation(b.request(t, "GET", "/pay?to=bob", "ada", nil)))
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil || res.StatusCode != 302 || to.Host != "auth.corp.test" || to.Query().Get("rd") != "/pay?to=bob" || to.Query().Get("need") == "" {
		t.Errorf("a person gets %d to %s", res.StatusCode, to)
	}
	if record := b.log.one(t, audit.TypeDecision); record.Effect != audit.Deny || record.Reason != policy.ReasonStepUp || record.Decision == nil {
		t.Errorf("on record as %s %s", record.Effect, record.Reason)
	}
	res = sent(t, b, b.request(t, "GET", "/pay", "ada", nil))
	want := `Bearer realm="sallyport", error="insufficient_user_authentication", error_description="Use your key.", acr_values="gold silver", max_age="600"`
	if got := res.Header.Get("WWW-Authenticate"); res.StatusCode != 401 || got != want {
		t.Errorf("a program gets %d %s, want %s", res.StatusCode, got, want)
	}
	post := navigation(b.request(t, "POST", "/pay", "ada", strings.NewReader("a=b")))
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	post.Header.Set("Referer", "https://"+wikiHost+"/form?x=1")
	status, body := answerTo(t, b.client(t, "http/1.1"), post)
	if status != 401 || strings.Count(body, "Continue</") != 1 || !strings.Contains(body, "was not passed on") || !strings.Contains(body, stepUpPath) {
		t.Fatalf("a form gets %d %s", status, body)
	}
	button := strings.ReplaceAll(between(body, `href="`+stepUpPath, `"`), "&amp;", "&")
	res = sent(t, b, navigation(b.request(t, "GET", stepUpPath+button, "ada", nil)))
	if to, err := url.Parse(res.Header.Get("Location")); err != nil || res.StatusCode != 302 || to.Query().Get("rd") != "/form?x=1" || to.Query().Get("need") == "" {
		t.Errorf("the button leads to %d %s", res.StatusCode, to)
	}
	b.sessions.change("ada", func(s *session.Session) {
		who := *s.Identity
		who.MFA, who.ACR, who.AuthTime = true, "silver", time.Now().Add(-time.Minute)
		s.Identity = &who
	})
	if res := sent(t, b, navigation(b.request(t, "GET", "/pay", "ada", nil))); res.StatusCode != 403 {
		t.Errorf("who has proved all of it gets %d to %q, which is a loop", res.StatusCode, res.Header.Get("Location"))
	}
}

// A session is judged in every respect: one that lacks any of what is needed does not meet it.
func TestSessionMeetsANeedInAllRespects(t *testing.T) {
	now := time.Now()
	all := authn.Identity{MFA: true, ACR: "gold", AuthTime: now.Add(-time.Minute)}
	need := signin.Need{MFA: true, ACR: []string{"silver", "gold"}, MaxAge: time.Hour}
	for name, c := range map[string]struct {
		spoil func(*authn.Identity, *signin.Need)
		meets bool
	}{
		"all":      {func(*authn.Identity, *signin.Need) {}, true},
		"nothing":  {func(who *authn.Identity, n *signin.Need) { *who, *n = authn.Identity{}, signin.Need{} }, true},
		"mfa":      {func(who *authn.Identity, _ *signin.Need) { who.MFA = false }, false},
		"acr":      {func(who *authn.Identity, _ *signin.Need) { who.ACR = "" }, false},
		"age":      {func(who *authn.Identity, _ *signin.Need) { who.AuthTime = now.Add(-time.Hour) }, false},
		"no time":  {func(who *authn.Identity, _ *signin.Need) { who.AuthTime = time.Time{} }, false},
		"anew now": {func(_ *authn.Identity, n *signin.Need) { n.Fresh = true }, false},
	} {
		who, wanted := all, need
		c.spoil(&who, &wanted)
		x := &exchange{session: &session.Session{Identity: &who}, start: now}
		if got := x.meets(wanted); got != c.meets {
			t.Errorf("%s: got %v, want %v", name, got, c.meets)
		}
	}
}

const termRego = `package sallyport.app["wiki"]

decision := {"allow": true, "obligations": [{"type": "session", "max_age_s": 3600, "idle_s": 600}]}
`

// What a policy obliges a session to holds: for requests, and for what is open.
func TestPolicyShortensTheSession(t *testing.T) {
	for name, c := range map[string]struct {
		ada    func(*session.Session)
		status int
	}{
		"young": {aged(30*time.Minute, 0, 0, 0), 200}, "old": {aged(2*time.Hour, 0, 0, 0), 401}, "idle": {aged(30*time.Minute, 0, 20*time.Minute, 0), 401},
	} {
		b := freshBed(t, route.Session{}, 0, termRego)
		b.sessions.change("ada", c.ada)
		if status, body := b.get(t, "/"); status != c.status {
			t.Errorf("%s: got %d, want %d: %s", name, status, c.status, body)
		}
		if record := b.log.one(t, audit.TypeDecision); c.status == 401 && !strings.Contains(string(record.Detail), "the policy allows it; ") {
			t.Errorf("%s: on record with %s", name, record.Detail)
		}
	}
}

// A stream ends when its session has become too old for the app, as a request would; one of a session that is not goes on.
func TestStreamEndsWhenTheSignInIsTooOld(t *testing.T) {
	for name, c := range map[string]struct {
		limits route.Session
		rego   string
		ends   bool
	}{"by the app": {route.Session{Absolute: time.Hour}, "", true}, "by the policy": {route.Session{}, termRego, true}, "not": {route.Session{}, "", false}} {
		b := newBed(t, events)
		b.keep()
		b.sessions.change("ada", aged(0, 0, 0, 0))
		b.serveFresh(t, c.limits, 0, c.rego)
		stream := b.stream(t, "ada")
		b.sessions.change("ada", aged(2*time.Hour, 0, 0, 0))
		for _, x := range b.server.streams.all() {
			x.redecide()
		}
		if !c.ends {
			if n := len(b.server.streams.all()); n != 1 || b.server.streams.all()[0].ctx.Err() != nil {
				t.Errorf("%s: the stream ended", name)
			}
			continue
		}
		ends(t, stream)
		if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != reasonStale {
			t.Errorf("%s: the outcome says %q", name, got)
		}
	}
}

// A button that is not ours starts nothing.
func TestOnlyOurOwnButtonsAskForMore(t *testing.T) {
	b := freshBed(t, route.Session{}, 0, "")
	for _, query := range []string{"", "?need=", "?need=e30", "?need=" + b.sessions.Seal(stepUpPurpose+"other.corp.test", []byte(`{"mfa":true}`))} {
		if res := sent(t, b, navigation(b.request(t, "GET", stepUpPath+query, "ada", nil))); res.StatusCode != 404 {
			t.Errorf("%s: got %d to %s", query, res.StatusCode, res.Header.Get("Location"))
		}
	}
	ours := b.sessions.Seal(stepUpPurpose+wikiHost, []byte(`{"mfa":true}`))
	res := sent(t, b, navigation(b.request(t, "GET", stepUpPath+"?rd=https://evil.example/&need="+ours, "ada", nil)))
	if to, err := url.Parse(res.Header.Get("Location")); err != nil || res.StatusCode != 302 || to.Query().Get("rd") != "/" {
		t.Errorf("got %d to %s", res.StatusCode, to)
	}
}

// between is what stands after one text and before another.
func between(text, after, before string) string {
	_, rest, _ := strings.Cut(text, after)
	found, _, _ := strings.Cut(rest, before)
	return found
}
