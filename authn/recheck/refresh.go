package recheck

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// task is the work of one flight.
type task struct {
	*Rechecker
	outcome outcome
	changed bool
	waited  bool   // for another process
	sent    string // the refresh token that was used
	kept    int64  // the version of the session in which the new token of an answer is that could not be read
}

// condemnation is the end of a session that could not be brought about yet.
type condemnation struct {
	reason string
	err    error
}

func (c *condemnation) Error() string { return "ending a session: " + c.err.Error() }
func (c *condemnation) Unwrap() error { return c.err }

// recheck returns the session as it is once its provider has spoken of the person, by our asking or by another's.
func (t *task) recheck(s *session.Session) (*session.Session, error) {
	ctx, cancel := context.WithTimeout(t.life, flightTime)
	defer cancel()
	p := t.provider(s.Identity.Provider)
	if p == nil {
		return nil, t.end(s, ProviderRemoved)
	}
	if anotherPerson(p, s.Identity) {
		return nil, t.end(s, AccountLinked)
	}
	var since time.Time
	for tries := 0; ; tries++ {
		now, err := t.sessions.Current(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		if v := t.view(now); now.Version != s.Version && v.standing() == fresh {
			return now, nil
		}
		if !now.Refreshable {
			return nil, ErrBrowser
		}
		found, err := t.turn(ctx, p, now)
		if !errors.Is(err, errNotMine) {
			return found, err
		}
		if t.waited = true; since.IsZero() {
			since = time.Now()
		}
		if !rest(ctx, tries) {
			return nil, t.overslept(since)
		}
	}
}

// errNotMine: another process has claimed the session's refresh token, or has just replaced it.
var errNotMine = errors.New("another process refreshes this session")

// slowest is longer than a refresh takes from its claim to the store, but for a store that fails.
const slowest = 22 * time.Second

// overslept is what it means that another process holds a token and does not replace it: after as long as a refresh takes,
// it died meanwhile, or never learned what became of the token.
func (t *task) overslept(since time.Time) error {
	if t.life.Err() != nil || time.Since(since) < slowest {
		return errNotMine
	}
	return fmt.Errorf("%w: its refresh token is in nobody's hands", ErrBrowser)
}

// turn claims the refresh token and uses it. What it read before the claim may be old: it reads again after it.
func (t *task) turn(ctx context.Context, p Provider, now *session.Session) (*session.Session, error) {
	line := t.lines.of(now.Identity.Provider)
	select {
	case line.slots <- struct{}{}:
		defer func() { <-line.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a turn at the provider: %w", ctx.Err())
	}
	secrets, version, err := t.sessions.Secrets(ctx, now.ID)
	if err != nil {
		return nil, err
	}
	if version != now.Version {
		return nil, errNotMine
	}
	if iss := issuerOf(secrets.IDToken); iss != "" && iss != p.Issuer() {
		return nil, t.end(now, ProviderRemoved) // what one issuer handed out is no other's to see
	}
	mine, release, err := t.claim(ctx, now, secrets.RefreshToken)
	if err != nil {
		return nil, err
	}
	if !mine {
		return nil, errNotMine
	}
	again, err := t.sessions.Current(ctx, now.ID)
	if err == nil && again.Version != version && !t.rules.noClaim {
		err = errNotMine
	}
	if err != nil {
		release()
		return nil, err
	}
	return t.ask(ctx, p, now, secrets.RefreshToken, release)
}

// claim makes this process the one that uses a token, until what it is exchanged for is stored: in the worst case for as
// long as the session may live, and a day longer, since limits can be raised meanwhile.
func (t *task) claim(ctx context.Context, s *session.Session, token string) (bool, func(), error) {
	if t.rules.noClaim {
		return true, func() {}, nil
	}
	return t.sessions.Claim(ctx, claimName(s.ID, token), t.limits().Absolute+24*time.Hour)
}

// claimName names one refresh token of one session. The id's length goes first, so that no other pair has the same name.
func claimName(id, token string) string {
	h := sha256.New()
	binary.Write(h, binary.BigEndian, uint64(len(id)))
	h.Write([]byte(id))
	h.Write([]byte(token))
	return "refresh " + hex.EncodeToString(h.Sum(nil))
}

// ask uses the token. From here on nothing but the provider's and the store's own time limits stands between the answer
// and its being stored.
func (t *task) ask(ctx context.Context, p Provider, s *session.Session, token string, release func()) (*session.Session, error) {
	at := t.now()
	t.sent = token
	result, err := p.Refresh(ctx, s.Identity, token)
	if err == nil && (result == nil || result.Identity == nil) {
		err = errors.New("BUG: a refresh without an identity")
	}
	if err != nil {
		return nil, t.refused(s, result, err, release)
	}
	t.outcome = answered
	switch was, is := s.Identity, result.Identity; {
	case is.Provider != was.Provider || is.Subject != was.Subject:
		return nil, t.end(s, SubjectMismatch)
	case is.ID() != was.ID():
		return nil, t.end(s, AccountLinked)
	case result.Unsaid:
		return t.mute(s, release)
	}
	return t.accept(s, token, result, at, release)
}

// mute forgets the refresh token of a provider that answers, but not about the person: their groups would never be read
// again. The session is from then on one without a refresh token, whose browser passes by the provider.
func (t *task) mute(s *session.Session, release func()) (*session.Session, error) {
	stored, _, err := t.keep(s, session.Secrets{}, release)
	if err != nil {
		return nil, err
	}
	if v := t.view(stored); v.standing() != fresh {
		return nil, ErrBrowser
	}
	return stored, nil
}

// accept stores what the provider said. A change of the person is recorded before it takes effect, and the new token is
// stored before even that.
func (t *task) accept(s *session.Session, token string, result *oidc.Result, at time.Time, release func()) (*session.Session, error) {
	renewal := session.Renewal{Identity: result.Identity, ProviderSession: result.Session, At: at,
		Secrets: session.Secrets{RefreshToken: cmp.Or(result.RefreshToken, token), IDToken: result.IDToken}}
	change := difference(s.Identity, result.Identity)
	if change.empty() {
		stored, _, err := t.store(s, renewal, release)
		return stored, err
	}
	if t.changed = true; !t.rules.lateStore {
		kept, theirs, err := t.keep(s, renewal.Secrets, release)
		if err != nil || theirs {
			return kept, err
		}
		s = kept
	}
	ctx, cancel := t.afterwards(settleTime)
	defer cancel()
	if err := t.renewed(ctx, s, change); err != nil {
		return nil, fmt.Errorf("recording what changed: %w", err)
	}
	stored, _, err := t.store(s, renewal, release)
	return stored, err
}

// keep stores a new refresh token and nothing else.
func (t *task) keep(s *session.Session, secrets session.Secrets, release func()) (kept *session.Session, theirs bool, err error) {
	return t.store(s, session.Renewal{Identity: s.Identity, Secrets: secrets, At: checked(s)}, release)
}

// store makes a renewal durable, however often that must be tried, and gives the claim back. When it does not succeed the
// claim stays: the token that is stored must not be sent again. Theirs says that the person signed in again meanwhile: what
// they brought is newer and stays.
func (t *task) store(s *session.Session, renewal session.Renewal, release func()) (stored *session.Session, theirs bool, err error) {
	ctx, cancel := t.afterwards(storeTime)
	defer cancel()
	for tries := 0; ; tries++ {
		stored, err = t.sessions.Renew(ctx, s.ID, s.Version, renewal)
		if errors.Is(err, session.ErrConflict) {
			var other, used bool
			stored, other, used, err = t.conflict(ctx, s, renewal)
			if theirs = theirs || other; used { // they brought no other token: the new one goes with what they proved
				s, renewal = stored, session.Renewal{Identity: stored.Identity, Secrets: renewal.Secrets, At: checked(stored)}
				continue
			}
		}
		if err == nil || errors.Is(err, session.ErrNoSession) {
			release()
			return stored, theirs, err
		}
		if !rest(ctx, tries) {
			t.log.ErrorContext(ctx, "a new refresh token could not be stored: the person must pass by the provider", "session", s.ID, "error", err)
			return nil, false, fmt.Errorf("%w: storing a refresh token: %w", ErrBrowser, err)
		}
	}
}

// conflict tells our own renewal, which the store had called failed, from another's; and whether that one left the token that
// we have used.
func (t *task) conflict(ctx context.Context, s *session.Session, renewal session.Renewal) (now *session.Session, theirs, used bool, err error) {
	secrets, version, err := t.sessions.Secrets(ctx, s.ID)
	if err != nil {
		return nil, false, false, err
	}
	if now, err = t.sessions.Current(ctx, s.ID); err != nil {
		return nil, false, false, err
	}
	ours := version == s.Version+1 && now.Version == version && secrets.RefreshToken == renewal.Secrets.RefreshToken &&
		now.Checked.Equal(renewal.At)
	used = now.Version == version && secrets.RefreshToken == t.sent && renewal.Secrets.RefreshToken != t.sent
	return now, !ours, used && !ours, nil
}

// afterwards is the time for what must be done with an answer, even while the gateway stops.
func (t *task) afterwards(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.life), d)
}

// refused sorts out why a refresh failed. Where the old token cannot have been used up, the claim is given back.
func (t *task) refused(s *session.Session, result *oidc.Result, err error, release func()) error {
	failure, ok := errors.AsType[*oidc.Failure](err)
	if !ok {
		failure = &oidc.Failure{Code: oidc.ProviderInvalidAnswer, Err: err}
	}
	t.outcome = outcomeOf(failure)
	if result != nil && failure.Code == oidc.ProviderInvalidAnswer {
		t.outcome = answered // with tokens: what it says of one person keeps nobody else waiting
	}
	switch {
	case failure.Code == oidc.RefreshRejected:
		return t.rejected(s)
	case failure.Code == oidc.SubjectMismatch:
		return t.end(s, SubjectMismatch)
	case result != nil && result.RefreshToken != "":
		kept, theirs, unkept := t.keep(s, session.Secrets{RefreshToken: result.RefreshToken}, release)
		if unkept != nil || theirs {
			return cmp.Or(unkept, err)
		}
		t.kept = kept.Version
		return err
	case failure.Code == oidc.LoginRequired, needsPerson[failure.Reported]:
		return fmt.Errorf("%w: %w", ErrBrowser, err)
	case failure.Unsent || t.rules.sendAgain:
		release()
		return err
	}
	return fmt.Errorf("%w: what became of its refresh token is unknown: %w", ErrBrowser, err)
}

// rejected ends a session whose token was refused, unless the person signed in again while it was under way: then the refusal
// is about a token that is not theirs any more.
func (t *task) rejected(s *session.Session) error {
	ctx, cancel := t.afterwards(settleTime)
	defer cancel()
	now, err := t.sessions.Current(ctx, s.ID)
	switch {
	case errors.Is(err, session.ErrNoSession):
		return err
	case err == nil && now.Version != s.Version:
		return errNotMine
	}
	return t.end(s, AccountDisabled)
}

// needsPerson are the answers that ask for the person (OpenID Connect Core §3.1.2.6), which providers give to refreshes as
// well when their own rules changed.
var needsPerson = map[string]bool{"interaction_required": true, "login_required": true, "consent_required": true, "account_selection_required": true}

// outcomeOf is what a failure says of the provider, as opposed to one session's answer.
func outcomeOf(f *oidc.Failure) outcome {
	switch f.Code {
	case oidc.ProviderUnreachable, oidc.ProviderInvalidAnswer, oidc.ClientRejected, oidc.KeyUnavailable,
		oidc.DiscoveryMismatch, oidc.DiscoveryInvalid:
		if needsPerson[f.Reported] {
			return answered
		}
		return unreachable
	}
	return answered
}

// end ends a session everywhere, once that is on record.
func (t *task) end(s *session.Session, reason string) error {
	ctx, cancel := t.afterwards(settleTime)
	defer cancel()
	if err := t.ending(ctx, s, reason); err != nil {
		t.log.ErrorContext(ctx, "a session that must end could not be ended", "session", s.ID, "reason", reason, "error", err)
		return &condemnation{reason, err}
	}
	return session.ErrNoSession
}

func (t *task) ending(ctx context.Context, s *session.Session, reason string) error {
	if err := t.ended(ctx, s, reason); err != nil {
		return fmt.Errorf("recording it: %w", err)
	}
	as := session.Revoked
	if reason == AccountDisabled {
		as = session.AccountDisabled
		if err := t.sessions.Disable(ctx, s.Identity.ID()); err != nil {
			return err
		}
	}
	_, err := t.sessions.End(ctx, session.Filter{ID: s.ID}, as)
	return err
}

// issuerOf reads the issuer of an ID token that was verified when it came and has been sealed since.
func issuerOf(idToken string) string {
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Issuer
}
