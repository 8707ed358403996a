package provider

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"net/url"
	"time"
)

// People stay signed in here, in the browser in which they proved who they are: the next sign-in is a click, and a step-up
// asks for what is missing only.

const (
	sessionLife = 12 * time.Hour
	// maxSessions bounds sessions and refresh tokens; the demo forgets all of them rather than grow.
	maxSessions = 1000
)

// secondFactor is everybody's code. It is printed on the page that asks for it.
const secondFactor = "246810"

type sessionKey struct{}

// sessionOf is the sid of the browser that a request comes from.
func sessionOf(ctx context.Context) string {
	sid, _ := ctx.Value(sessionKey{}).(string)
	return sid
}

// withSession lets the library's handlers, which know requests and no cookies, ask for the browser's session.
func (s *store) withSession(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(s.cookie()); err == nil {
			r = r.WithContext(context.WithValue(r.Context(), sessionKey{}, c.Value))
		}
		next.ServeHTTP(w, r)
	})
}

// cookie is a name of this provider's own: cookies do not tell ports apart (RFC 6265 §8.5).
func (s *store) cookie() string {
	u, err := url.Parse(s.opts.Issuer)
	if err != nil {
		return "idp"
	}
	return "idp-" + u.Port()
}

func (s *store) setCookie(w http.ResponseWriter, sid string) {
	http.SetCookie(w, &http.Cookie{Name: s.cookie(), Value: sid, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// signedIn is what the browser's session has proved; without one nothing.
func (s *store) signedIn(ctx context.Context) proof {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.livingLocked(sessionOf(ctx))
}

func (s *store) livingLocked(sid string) proof {
	p := s.sessions[sid]
	if sid == "" || s.disabled[p.person] || time.Since(p.proved) > sessionLife {
		return proof{}
	}
	return p
}

// password notes that the person of a sign-in gave the right password, and returns the sid of their session.
func (s *store) password(ctx context.Context, id, username, password string) (sid string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.waitingLocked(id)
	if err != nil {
		return "", err
	}
	p, ok := s.people[username]
	if !ok || subtle.ConstantTimeCompare([]byte(p.Password), []byte(password)) != 1 {
		return "", errWrongPassword
	}
	if s.disabled[username] {
		return "", errDisabled
	}
	now := proof{person: username, proved: time.Now(), factors: 1, session: rand.Text()}
	if before := s.livingLocked(sessionOf(ctx)); before.person == username {
		now.session = before.session
	}
	s.rememberLocked(r, now)
	return now.session, nil
}

// goOn takes the browser's session for a sign-in that it is good enough for.
func (s *store) goOn(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.waitingLocked(id)
	if err != nil {
		return err
	}
	known := s.livingLocked(sessionOf(ctx))
	if !r.admits(known) {
		return errUnknownRequest
	}
	s.rememberLocked(r, known)
	return nil
}

// second notes that the person of a sign-in gave the right code.
func (s *store) second(id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.waitingLocked(id)
	switch {
	case err != nil:
		return err
	case r.person == "":
		return errUnknownRequest
	case subtle.ConstantTimeCompare([]byte(code), []byte(secondFactor)) != 1:
		return errWrongCode
	}
	now := r.proof
	now.factors, now.proved = 2, time.Now()
	s.rememberLocked(r, now)
	return nil
}

func (s *store) waitingLocked(id string) (*request, error) {
	r, ok := s.requests[id]
	if !ok || time.Since(r.started) > requestLife {
		return nil, errUnknownRequest
	}
	return r, nil
}

func (s *store) rememberLocked(r *request, p proof) {
	if len(s.sessions) >= maxSessions {
		clear(s.sessions)
	}
	s.sessions[p.session] = p
	proved := *r
	proved.proof = p
	s.requests[r.id] = &proved
}

// disable blocks an account or lets it in again: what the gateway finds out when it next asks about the person.
func (s *store) disable(username string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.people[username]; ok {
		s.disabled[username] = !s.disabled[username]
	}
}

func (s *store) isDisabled(username string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disabled[username]
}
