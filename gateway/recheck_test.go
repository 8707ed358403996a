package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/gateway/limit"
)

// scriptedProvider is what a test has the provider say of a session. It is asked by requests and by open streams.
type scriptedProvider struct {
	mu     sync.Mutex
	say    func(*session.Session) (*session.Session, error)
	asked  int
	looked int
}

func (p *scriptedProvider) Current(_ context.Context, s *session.Session) (*session.Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.say(s)
}

func (p *scriptedProvider) Look(s *session.Session) (*session.Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked++
	return p.say(s)
}

func (p *scriptedProvider) does(say func(*session.Session) (*session.Session, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.say = say
}

func agrees(s *session.Session) (*session.Session, error) { return s, nil }

func fails(err error) func(*session.Session) (*session.Session, error) {
	return func(*session.Session) (*session.Session, error) { return nil, err }
}

// inGroups is a provider that has put people into these groups.
func inGroups(groups ...string) func(*session.Session) (*session.Session, error) {
	return func(s *session.Session) (*session.Session, error) {
		now := *s
		id := *s.Identity
		id.Groups = groups
		now.Identity, now.Version = &id, s.Version+1
		return &now, nil
	}
}

func rechecked(t *testing.T, app http.HandlerFunc) (*bed, *scriptedProvider) {
	t.Helper()
	b, p := newBed(t, app), &scriptedProvider{say: agrees}
	b.server.rechecker = p
	return b, p
}

func TestWhatTheProviderSaysDecidesRequests(t *testing.T) {
	served := 0
	b, p := rechecked(t, func(w http.ResponseWriter, _ *http.Request) { served++ })
	for _, c := range []struct {
		name   string
		say    func(*session.Session) (*session.Session, error)
		status int
		effect audit.Effect
		reason string
		body   string
	}{
		{"as before", agrees, http.StatusOK, audit.Allow, "", ""},
		{"other groups", inGroups("guests"), http.StatusForbidden, audit.Deny, "", ""},
		{"ended", fails(session.ErrNoSession), http.StatusUnauthorized, audit.Deny, "", ""},
		{"browser", fails(ErrPassByProvider), http.StatusUnauthorized, audit.Reject, "recheck", `"error":"recheck"`},
		{"nobody can tell", fails(errors.New("timeout")), http.StatusServiceUnavailable, audit.Reject, "recheck_unavailable", `"error":"recheck_unavailable"`},
	} {
		p.does(c.say)
		status, body := b.get(t, "/")
		list := b.log.of(audit.TypeDecision)
		last := list[len(list)-1]
		if status != c.status || last.Effect != c.effect || !strings.Contains(body, c.body) || c.reason != "" && last.Reason != c.reason {
			t.Errorf("%s: got %d %s, recorded as %s %s", c.name, status, body, last.Effect, last.Reason)
		}
		if known := c.name != "ended"; known != (last.Session == "session of ada") {
			t.Errorf("%s: the record is of session %q", c.name, last.Session)
		}
	}
	if served != 1 {
		t.Errorf("the app was asked %d times, want once", served)
	}
}

// A program that keeps asking with such a session is held to its person's rate like any other.
func TestRechecksComeAfterTheLimits(t *testing.T) {
	b, p := rechecked(t, func(http.ResponseWriter, *http.Request) {})
	app := wiki(t, b.origin, "staff")
	app.Limits.Person = limit.Every(2, time.Hour)
	b.server.Swap(snapshot(t, app))
	p.does(fails(ErrPassByProvider))
	for range 5 {
		b.get(t, "/")
	}
	if p.asked != 2 {
		t.Errorf("the provider's word was asked for %d times, want twice", p.asked)
	}
}

// Tokens and certificates of programs have no provider that could be asked.
func TestMachinesAreNotRechecked(t *testing.T) {
	b, p := rechecked(t, func(http.ResponseWriter, *http.Request) {})
	p.does(fails(session.ErrNoSession))
	x := &exchange{server: b.server, session: session.ForMachine("token", &authn.Identity{Kind: authn.Service, Provider: "ci", Subject: "build"}, time.Now())}
	if err := x.recheck(); err != nil || x.session == nil || p.asked > 0 {
		t.Errorf("got %v, session %v, asked %d times", err, x.session, p.asked)
	}
}

// OIDC-23, for what is open: a stream ends when its person's groups are gone, and does not wait for the next time that it
// would have been decided on.
func TestOpenStreamsFollowTheProvider(t *testing.T) {
	for want, say := range map[string]func(*session.Session) (*session.Session, error){
		"session_revoked": fails(session.ErrNoSession), "sessions_unavailable": fails(errors.New("no answer")),
	} {
		b, p := rechecked(t, events)
		b.run(t)
		stream := b.stream(t, "ada")
		p.does(say)
		b.server.SessionRechecked("session of ada")
		ends(t, stream)
		if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != want {
			t.Errorf("the outcome says %q, want %q", got, want)
		}
	}
	for name, say := range map[string]func(*session.Session) (*session.Session, error){"groups": inGroups("guests"), "browser": fails(ErrPassByProvider)} {
		b, p := rechecked(t, events)
		b.run(t)
		stream, began := b.stream(t, "ada"), time.Now()
		p.does(say)
		b.server.SessionRechecked("session of bob")
		b.server.SessionRechecked("session of ada")
		ends(t, stream)
		if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != "reauthorize" {
			t.Errorf("%s: the outcome says %q", name, got)
		}
		if took := time.Since(began); took > defaultReauthorize/2 {
			t.Errorf("%s: the stream lived on for %v", name, took)
		}
	}
}
