package recheck

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"time"

	"sallyport/authn"
	"sallyport/authn/session"
)

// standing is how a session stands with its provider.
type standing int

const (
	fresh     standing = iota // the provider spoke of the person recently
	due                       // it should be asked soon
	overdue                   // it must have been asked
	atBrowser                 // it must have been asked, and only the browser can
)

// clockSlack is how far in the future a provider may have spoken, by the clock of another gateway.
const clockSlack = time.Minute

// view is what one request sees of a session: it decides by one reading of clock, limits and providers.
type view struct {
	now      time.Time
	provider Provider // nil: none of that name is configured
	another  bool     // the configuration takes the account for another person's than at the sign-in
	age      time.Duration
	limit    time.Duration // 0: none
	soon     time.Duration // the age from which it is due
	grace    time.Duration
	asks     bool // there is a refresh token
	outage   *line
}

func (r *Rechecker) view(s *session.Session) view {
	limits, now := r.limits(), r.now()
	v := view{now: now, provider: r.provider(s.Identity.Provider), age: now.Sub(checked(s)), limit: limits.RecheckInBrowser,
		grace: limits.Grace, asks: s.Refreshable}
	v.another = v.provider != nil && anotherPerson(v.provider, s.Identity)
	if v.asks {
		v.limit = limits.Recheck
	}
	if v.limit == 0 {
		return v
	}
	if v.age < -clockSlack {
		v.age = v.limit // nobody knows how old it is
	}
	if v.soon = v.limit / 10 * 8; v.age >= v.soon { // only then is it worth working out
		v.soon += r.jitter(s, v.limit/10)
		v.outage = r.lines.of(s.Identity.Provider)
	}
	return v
}

// anotherPerson reports whether links were made or taken away since somebody signed in, so that they are not who they were.
func anotherPerson(p Provider, who *authn.Identity) bool {
	person := p.LinkedTo(who.Subject)
	return person != who.Person && cmp.Or(person, who.Provider+"|"+who.Subject) != who.ID()
}

// Knows reports whether somebody who signed in once is still who they were: their provider is configured, and the account
// is linked as it was.
func (r *Rechecker) Knows(who *authn.Identity) bool {
	p := r.provider(who.Provider)
	return p != nil && !anotherPerson(p, who)
}

// checked is when the provider last spoke of the person; of sessions older than this package, at sign-in.
func checked(s *session.Session) time.Time {
	if s.Checked.IsZero() {
		return s.Created
	}
	return s.Checked
}

// jitter spreads over up to most what would otherwise happen at once, in all processes and for all who signed in at nine.
func (r *Rechecker) jitter(s *session.Session, most time.Duration) time.Duration {
	var h maphash.Hash
	h.SetSeed(r.seed)
	h.WriteString(s.ID)
	maphash.WriteComparable(&h, s.Version)
	return time.Duration(h.Sum64() % uint64(most+1))
}

func (v *view) standing() standing {
	switch {
	case v.provider == nil || v.another:
		return overdue
	case v.limit == 0 || v.age < v.soon:
		return fresh
	case v.age < v.limit && v.asks:
		return due
	case v.age < v.limit:
		return fresh
	case !v.asks:
		return atBrowser
	}
	return overdue
}

// believed reports whether the session counts while its provider cannot be reached.
func (v *view) believed() bool {
	return v.provider != nil && !v.another && v.age < v.limit+v.grace
}

// byBrowser is the answer where the browser must pass by the provider: not while that would lead nowhere.
func (v *view) byBrowser(s *session.Session) (*session.Session, error) {
	if v.believed() && (v.provider.Ready() != nil || v.outage.paused(v.now)) {
		return s, nil
	}
	return nil, ErrBrowser
}

// meanwhile is the answer while a recheck that is overdue cannot be had.
func (v *view) meanwhile(s *session.Session, known knowledge) (*session.Session, error) {
	switch {
	case known == spent:
		return v.byBrowser(s)
	case known == condemned:
		return nil, fmt.Errorf("%w: the session is to end and cannot be ended", ErrUnavailable)
	case v.believed():
		return s, nil
	case known == unread:
		return nil, ErrBrowser // the provider can be reached, and may say there what it does not say to us
	}
	return nil, fmt.Errorf("%w: last heard of %v ago", ErrUnavailable, v.age.Round(time.Second))
}
