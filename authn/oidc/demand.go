package oidc

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"sallyport/authn"
)

// Demand is what a sign-in must come to, beyond what the provider's configuration asks of everybody. It is sent to the
// provider, and Finish fails with [AssuranceUnmet] or [AuthTooOld] if the answer falls short. The zero Demand asks for
// nothing.
type Demand struct {
	MFA    bool     `json:"mfa,omitzero"`     // more than one factor, by the provider's configured meaning
	ACR    []string `json:"acr,omitempty"`    // one of these classes (acr_values)
	MaxAge int64    `json:"max_age,omitzero"` // seconds since the person proved themselves, at most
	Fresh  bool     `json:"fresh,omitzero"`   // the person must prove themselves now, whatever the provider remembers
	Silent bool     `json:"silent,omitzero"`  // the provider must not ask anything (prompt=none)
	Login  string   `json:"login,omitzero"`   // login_hint: who is about to sign in
}

// maxHint bounds a login_hint: it is an e-mail address.
const maxHint = 254

// needsPerson are the errors of a provider that must not ask and would have to (OpenID Connect Core §3.1.2.6).
var needsPerson = map[string]bool{
	"login_required": true, "interaction_required": true, "consent_required": true, "account_selection_required": true,
}

// demands are the parameters that ask the provider for d (OpenID Connect Core §3.1.2.1).
func (p *Provider) demands(d Demand) []oauth2.AuthCodeOption {
	var options []oauth2.AuthCodeOption
	set := func(name, value string) { options = append(options, oauth2.SetAuthURLParam(name, value)) }
	if age, limited := p.maxAge(d); limited {
		set("max_age", strconv.FormatInt(int64(age/time.Second), 10)) // also makes auth_time required in the ID token
	}
	if classes := p.classes(d); len(classes) > 0 {
		set("acr_values", strings.Join(classes, " "))
	}
	switch {
	case d.Fresh:
		set("prompt", "login")
	case d.Silent:
		set("prompt", "none")
	}
	if d.Login != "" && len(d.Login) <= maxHint {
		set("login_hint", d.Login)
	}
	return options
}

// maxAge is how long ago people may have proved themselves, the configuration's and the demand's limits together.
func (p *Provider) maxAge(d Demand) (age time.Duration, limited bool) {
	switch asked := time.Duration(d.MaxAge) * time.Second; {
	case d.Fresh:
		return 0, true
	case asked > 0 && p.cfg.MaxAge > 0:
		return min(asked, p.cfg.MaxAge), true
	case asked > 0:
		return asked, true
	case p.cfg.MaxAge > 0:
		return max(p.cfg.MaxAge, time.Second), true
	}
	return 0, false
}

// classes are the authentication context classes to ask for: those that will do, or else those that stand for more than one
// factor.
func (p *Provider) classes(d Demand) []string {
	switch {
	case len(d.ACR) > 0:
		return d.ACR
	case d.MFA && len(p.cfg.MFA.Request) > 0:
		return p.cfg.MFA.Request
	case d.MFA:
		return p.cfg.MFA.ACR
	}
	return nil
}

// checkAge enforces max_age (OpenID Connect Core §3.1.3.7 (13)) and, where the person was to prove themselves anew, that
// they did so after the sign-in began. The provider must say when people authenticated if it is asked.
func (p *Provider) checkAge(f *Flow, said *statement) *Failure {
	age, limited := p.maxAge(f.Demand)
	earliest := p.now().Add(-age)
	if f.Demand.Fresh {
		earliest = f.Started.Truncate(time.Second)
	}
	if limited && said.authTime.Before(earliest.Add(-p.cfg.Skew)) {
		return fail(AuthTooOld, "auth_time is absent or too long ago")
	}
	return nil
}

// metBy holds what was demanded against what the provider says was done: acr_values is a wish to the provider (§5.5.1.1),
// and a requirement to us.
func (d Demand) metBy(id *authn.Identity) *Failure {
	switch {
	case len(d.ACR) > 0 && (id.ACR == "" || !slices.Contains(d.ACR, id.ACR)):
		return fail(AssuranceUnmet, "acr is none of those demanded")
	case d.MFA && !id.MFA:
		return fail(AssuranceUnmet, "one factor was used, or the provider does not say")
	}
	return nil
}
