package gateway

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/gateway/headers"
	"sallyport/policy"
)

// person is what follows from who a session's person is, worked out once for each version of the session.
type person struct {
	told *headers.Prepared // what apps are told
	// subject is what the policy is told, at the ages that it had last.
	subject atomic.Pointer[policy.Subject]
	noted   atomic.Uint32 // changes of the browser that are on record
}

func personOf(s *session.Session) *person {
	return session.Derived(s, func(s *session.Session) *person { return &person{told: prepareTold(s)} })
}

// nobody is what apps are told of strangers.
var nobody = headers.Prepare(headers.Identity{})

// told is what apps are told of a session's person; nil is a stranger.
func told(s *session.Session) *headers.Prepared {
	if s == nil {
		return nobody
	}
	return personOf(s).told
}

// prepareTold puts into words what apps are told. The digest covers what only the assertion says, too.
func prepareTold(s *session.Session) *headers.Prepared {
	who := s.Identity
	id := headers.Identity{User: who.ID(), Subject: subjectIn(who), Name: who.Name, Email: who.Email, Groups: who.Groups}
	if !who.EmailVerified {
		id.Email = ""
	}
	return headers.Prepare(id, who.Email, strconv.FormatBool(who.EmailVerified), strconv.FormatBool(who.GroupsIncomplete))
}

// subjectIn is the part of a person's one name that apps are told beside the provider: that of the person whom several
// accounts are joined into, not that of the account they used.
func subjectIn(who *authn.Identity) string {
	_, subject, _ := strings.Cut(who.ID(), "|")
	return subject
}

var anonymous = policy.Subject{Type: policy.TypeAnonymous}.Prepared()

// subjectOf is who asks, as the policy knows them at a time. Ages are whole minutes, so that one subject serves many
// requests. shown is the certificate of their client; nil: it showed none.
func (x *exchange) subjectOf(s *session.Session, shown *shownCert, now time.Time) policy.Subject {
	if s == nil && shown == nil {
		return anonymous
	}
	if s == nil {
		return shown.stranger
	}
	if x.machine {
		return x.machineSubject(s, shown, now)
	}
	at := agesOf(s, now)
	known := personOf(s)
	if had := known.subject.Load(); had != nil && at.of(had) && shown.of(had) {
		return *had
	}
	made := shown.add(at.subject(s)).Prepared()
	known.subject.Store(&made)
	return made
}

// ages are the parts of a subject that pass with time.
type ages struct{ age, idle, authn policy.Age }

func agesOf(s *session.Session, now time.Time) ages {
	at := ages{age: policy.AgeOf(now.Sub(s.Created)), idle: policy.AgeOf(now.Sub(s.Seen))}
	if !s.Identity.AuthTime.IsZero() {
		at.authn = policy.AgeOf(now.Sub(s.Identity.AuthTime))
	}
	return at
}

func (at ages) of(s *policy.Subject) bool {
	return s.Session.AgeS == at.age && s.Session.IdleS == at.idle && s.Authn.AgeS == at.authn
}

func (at ages) subject(s *session.Session) policy.Subject {
	who := s.Identity
	subject := policy.Subject{
		Type: string(who.Kind), ID: who.ID(), Email: who.Email, EmailVerified: who.EmailVerified,
		Groups: who.Groups, GroupsIncomplete: who.GroupsIncomplete, Claims: who.Claims,
		Authn:   &policy.Authn{Provider: who.Provider, ACR: who.ACR, AMR: who.AMR, MFA: who.MFA, AgeS: at.authn},
		Session: &policy.Session{ID: s.ID, AgeS: at.age, IdleS: at.idle},
	}
	if !who.AuthTime.IsZero() {
		subject.Authn.Time = who.AuthTime.UTC().Format(time.RFC3339)
	}
	return subject
}
