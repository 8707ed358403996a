package test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/audit"
	"sallyport/policy"
	"sallyport/test/harness"
)

// pair is two gateways, each with its own keys and log, on one file of sessions and at one provider.
type pair struct {
	first, second *harness.Stand
	browser       *http.Client // of somebody who signed in at the first
}

func newPair(t *testing.T, settings string) *pair {
	t.Helper()
	p := &pair{first: harness.New(t, harness.Apps, settings), second: harness.New(t, harness.Apps, settings)}
	edit(t, p.second, "state: { sqlite: "+p.second.Dir, "state: { sqlite: "+p.first.Dir)
	edit(t, p.second, "issuer: "+p.second.Provider.Issuer, "issuer: "+p.first.Provider.Issuer)
	startLoud(t, p.first)
	startLoud(t, p.second)
	p.browser = p.first.Browser()
	if status, body := p.first.SignIn(t, p.browser, "wiki", "ada", "staff"); status != http.StatusOK {
		t.Fatalf("signing in got %d: %.1000s", status, body)
	}
	for _, s := range p.each() {
		if got := p.status(t, s); got != http.StatusOK {
			t.Fatalf("the session got %d at %s", got, s.Address())
		}
	}
	return p
}

func (p *pair) each() []*harness.Stand { return []*harness.Stand{p.first, p.second} }

// at is the person's browser, connected to one of the two: cookies know no ports.
func (p *pair) at(s *harness.Stand) *http.Client {
	return &http.Client{Transport: s.Transport(), Jar: p.browser.Jar, CheckRedirect: stay, Timeout: time.Minute}
}

func (p *pair) status(t *testing.T, s *harness.Stand) int {
	t.Helper()
	status, _ := harness.Get(t, p.at(s), s.URL("wiki", "/"))
	return status
}

// REV-01, WS-04: what ends a session at one gateway ends it at the other within five seconds, with what is open there.
func TestTwoGatewaysForgetASession(t *testing.T) {
	t.Parallel()
	p := newPair(t, "")
	conn, _, err := websocket.Dial(t.Context(), p.second.URL("wiki", "/echo"), &websocket.DialOptions{HTTPClient: p.at(p.second)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	if got := echo(t, conn, "hello"); got != "hello" {
		t.Fatalf("the socket said %q", got)
	}
	revoked := revoke(t, p.first, "ada")
	if got := p.status(t, p.first); got != http.StatusUnauthorized {
		t.Errorf("the gateway that was told: %d, want 401 at once", got)
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("the socket at the other ended with %v", err)
	}
	harness.Eventually(t, time.Minute, "the other gateway to refuse", func() bool { return p.status(t, p.second) == http.StatusUnauthorized })
	if took := time.Since(revoked); took > endedWithin {
		t.Errorf("it took %s", took)
	}
}

// OIDC-22 across processes: both gateways have requests when the session is due, and the provider, which ends it all when
// a refresh token comes twice, hears of one refresh each time.
func TestTwoGatewaysRefreshOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t, "session: { recheck: 2s }")
	idp := p.first.Provider
	for round := 1; round <= 3; round++ {
		began, before := time.Now(), idp.Calls("refresh")
		harness.Eventually(t, time.Minute, "the session to be due", func() bool { return time.Since(began) > 2200*time.Millisecond })
		var tabs sync.WaitGroup
		for i := range 20 {
			s := p.each()[i%2]
			tabs.Go(func() {
				res, err := p.at(s).Get(s.URL("wiki", fmt.Sprintf("/tab/%d", i)))
				if err != nil {
					t.Error(err)
					return
				}
				if drain(res); res.StatusCode != http.StatusOK {
					t.Errorf("round %d: a tab got %d", round, res.StatusCode)
				}
			})
		}
		tabs.Wait()
		if n := idp.Calls("refresh") - before; n != 1 {
			t.Errorf("round %d: %d refreshes, want 1", round, n)
		}
	}
}

// REV-05: a session that is used all the time ends at its absolute limit, and so does what it has open.
func TestSessionsEndAtTheAbsoluteLimit(t *testing.T) {
	t.Parallel()
	s := harness.New(t, harness.Apps, "session: { absolute: 4s, idle: 3s }")
	startLoud(t, s)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	signedIn := time.Now()
	conn := dialEcho(t, s, browser)
	client := &http.Client{Transport: s.Transport(), Jar: browser.Jar, CheckRedirect: stay}
	used := 0
	harness.Eventually(t, time.Minute, "the session to end", func() bool {
		status, _ := harness.Get(t, client, s.URL("wiki", "/"))
		used++
		return status == http.StatusUnauthorized
	})
	if lived := time.Since(signedIn); lived < 3*time.Second || lived > endedWithin || used < 10 {
		t.Errorf("it lived %s, for %d requests", lived, used)
	}
	mustEnd(t, conn)
	waitForOutcome(t, s, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "expired" })
}

// REV-02: an operator ends a person's sessions while five of their requests are on their way: these are cut or come to
// their end, each is on record, and no later one is served. One device can be ended alone.
func TestRevocationCutsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	s := harness.New(t, harness.Apps, "")
	startLoud(t, s)
	browser, elsewhere := s.Browser(), s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	s.SignIn(t, elsewhere, "wiki", "ada", "staff")
	cookie := s.Cookie(t, browser, "wiki")
	client := &http.Client{Transport: s.Transport(), CheckRedirect: stay}
	var inFlight []io.ReadCloser
	for range 5 {
		res, err := client.Do(request(t, http.MethodGet, s.URL("wiki", "/events"), cookie, nil))
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("opening a stream: %v %v", res, err)
		}
		inFlight = append(inFlight, res.Body)
	}
	var id string
	for _, r := range readLog(t, s, audit.ControlLog, audit.Filter{}) {
		if r.Code == "sign_in" && id == "" {
			id = r.Session
		}
	}
	if out, code := s.Sallyport(t, "session", "revoke", id); code != 0 {
		t.Fatalf("session revoke exits with %d: %s", code, out)
	}
	revoked := time.Now()
	if res, _ := send(t, client, http.MethodGet, s.URL("wiki", "/"), cookie, nil); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a new request got %d", res.StatusCode)
	}
	for _, body := range inFlight {
		io.Copy(io.Discard, body)
		body.Close()
	}
	if took := time.Since(revoked); took > endedWithin {
		t.Errorf("what was open lived %s", took)
	}
	harness.Eventually(t, time.Minute, "five outcomes", func() bool {
		return count(records(t, s), func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "session_revoked" }) == 5
	})
	if res, _ := send(t, client, http.MethodGet, s.URL("wiki", "/"), s.Cookie(t, elsewhere, "wiki"), nil); res.StatusCode != http.StatusOK {
		t.Errorf("the other device got %d", res.StatusCode)
	}
}

// WS-02: a WebSocket to what somebody may not have is a 403 before anything reaches the app.
func TestStreamForbiddenPathsOpenNoWebSockets(t *testing.T) {
	t.Parallel()
	s := harness.New(t, harness.Apps, "")
	startLoud(t, s)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	s.SignIn(t, browser, "payroll", "ada", "staff")
	s.Origin.Forget()
	for label, want := range map[string]int{"payroll": http.StatusForbidden, "wiki": http.StatusSwitchingProtocols} {
		conn, res, err := websocket.Dial(t.Context(), s.URL(label, "/echo"), &websocket.DialOptions{HTTPClient: &http.Client{Transport: s.Transport(), Jar: browser.Jar}})
		if err == nil {
			conn.CloseNow()
		}
		if res == nil || res.StatusCode != want {
			t.Errorf("%s: %v %v, want %d", label, res, err, want)
		}
	}
	for _, seen := range s.Origin.Seen() {
		if strings.HasPrefix(seen.Host, "payroll") {
			t.Error("the app was asked")
		}
	}
}

// OIDC-20: a token that says that there are more groups than it holds leaves them unknown. What is for a group is refused
// and what excludes one too, the address in the token is not asked, and the endpoint of the configuration resolves them.
func TestUnknownGroupsRefuse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		settings string
		want     int
	}{"unknown": {"", http.StatusForbidden}, "resolved": {"      groups_endpoint: ISSUER/groups\n", http.StatusOK}} {
		t.Run(name, func(t *testing.T) {
			s := harness.New(t, harness.Apps, "")
			const secret = `      client_secret: "a secret of the test"` + "\n"
			edit(t, s, secret, secret+strings.ReplaceAll(tt.settings, "ISSUER", s.Provider.Issuer))
			startLoud(t, s)
			s.Provider.Overage([]string{"staff", "many", "others"})
			browser := s.Browser()
			if status, body := harness.Get(t, browser, s.URL("wiki", "/")); status != tt.want {
				t.Errorf("got %d, want %d: %.500s", status, tt.want, body)
			}
			if n := s.Provider.Calls("trap"); n != 0 {
				t.Errorf("the address in the token was asked %d times", n)
			}
			var last *policy.Input
			for _, in := range inputs(t, s) {
				if in.Subject.ID != "" {
					last = in
				}
			}
			if last == nil || last.Subject.GroupsIncomplete != (tt.want != http.StatusOK) {
				t.Errorf("the policy was asked about %+v", last)
			}
		})
	}
}

// The command line ends sessions by whom, by where and by how long ago, and by provider; what it does not name stays.
func TestOperatorsEndSessionsByWhatTheyKnow(t *testing.T) {
	t.Parallel()
	s := harness.New(t, harness.Apps, signInOften)
	startLoud(t, s)
	people := map[string]*http.Client{}
	for _, name := range []string{"ada", "ben", "eve"} {
		people[name] = s.Browser()
		label := "wiki"
		if name == "eve" {
			label = "payroll"
		}
		s.SignIn(t, people[name], label, name, "staff", "finance")
	}
	alive := func() (names []string) {
		for _, name := range []string{"ada", "ben", "eve"} {
			label := "wiki"
			if name == "eve" {
				label = "payroll"
			}
			status, _ := harness.Get(t, &http.Client{Transport: s.Transport(), Jar: people[name].Jar, CheckRedirect: stay}, s.URL(label, "/"))
			if status == http.StatusOK {
				names = append(names, name)
			}
		}
		return names
	}
	for _, step := range []struct {
		args []string
		left string
	}{
		{[]string{"--older-than", "1h"}, "ada ben eve"},
		{[]string{"--provider", "another"}, "ada ben eve"},
		{[]string{"--app", "payroll"}, "ada ben"},
		{[]string{"--user", "ben@corp.test"}, "ada"},
		{[]string{"--provider", "corp"}, ""},
	} {
		before := len(alive())
		list, code := s.Sallyport(t, append([]string{"session", "list"}, step.args...)...)
		if code != 0 && !strings.Contains(list, "no session matches") {
			t.Errorf("session list %q exits with %d: %s", step.args, code, list)
		}
		out, code := s.Sallyport(t, append([]string{"session", "revoke"}, step.args...)...)
		if some := len(strings.Fields(step.left)) < before; some != (code == 0) {
			t.Errorf("session revoke %q exits with %d: %s", step.args, code, out)
		}
		harness.Eventually(t, time.Minute, fmt.Sprintf("%q to be left after %q", step.left, step.args), func() bool { return strings.Join(alive(), " ") == step.left })
	}
	if out, code := s.Sallyport(t, "session", "revoke"); code == 0 {
		t.Errorf("revoking nothing in particular: %s", out)
	}
}
