package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sallyport/audit"
	"sallyport/authn/personal"
	"sallyport/authn/service"
	"sallyport/authn/session"
	"sallyport/authn/token"
	"sallyport/gateway/route"
	"sallyport/policy"
)

// Programs have no session. They show a token that a person made, a token that a configured issuer signed, or the client
// certificate of a service account; whoever shows several is known by the first of these. From here on they are asked,
// limited, recorded and told to apps like people; what a token is good for is for the policy to say.

// PersonalTokens knows the tokens that people make for their programs. What there is against one is a *token.Refused; any
// other error means that nobody can tell, which refuses.
type PersonalTokens interface {
	Bearer(ctx context.Context, secret string) (*token.Bearer, error)
	// Recalls reports whether the token was good a moment ago, without a look into the store.
	Recalls(secret string) bool
}

// identifyBearer finds out who shows a token. To look costs more than to read a handle, so guesses are charged before, and
// what was no guess is given back: nobody makes us verify signatures or ask the store more often than strangers may ask.
func (x *exchange) identifyBearer() error {
	known := x.recalls()
	giveBack := func() {}
	if !known {
		var err error
		if giveBack, err = x.chargeGuess(); err != nil {
			return err
		}
	}
	bearer, err := x.bearerNow(x.snap)
	if err == nil {
		giveBack()
		x.session, x.bearer, x.machine = bearer.Session, bearer, true
		x.conn.identified()
		return nil
	}
	refused, ok := errors.AsType[*token.Refused](err)
	if !ok || refused.Code == token.CodeNoKeys {
		return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: "tokens_unavailable",
			Public: "The gateway cannot tell at the moment whether the token is valid.", Err: err}
	}
	if known { // it was good until now, so it was not charged
		if err := x.stranger(); err != nil {
			return err
		}
	}
	return badToken(refused)
}

// badToken is the answer to a token that is not good (RFC 6750 §3.1). Which of all reasons it is, the record says; who
// guesses learns only that the token was no good.
func badToken(refused *token.Refused) *Refusal {
	refusal := &Refusal{Status: http.StatusUnauthorized, Effect: audit.Reject, Reason: "bad_token", Detail: refused.Code, Token: "invalid_token",
		Public: "The token is not valid."}
	if refused.Code == token.CodeScopes {
		refusal.Status, refusal.Token, refusal.Public = http.StatusForbidden, "insufficient_scope", "The token lacks a scope that is needed here."
	}
	return refusal
}

// takesPasswords reports whether the program may send its token as the password of Basic (RFC 7617): git sends one only
// when it is asked. Browsers are not: they would ask the person.
func (x *exchange) takesPasswords() bool {
	return x.app != nil && x.app.Authorization == route.AuthorizationGateway && x.req.FetchSite() == ""
}

// chargeGuess holds a token that nobody knows yet to the rates of strangers.
func (x *exchange) chargeGuess() (giveBack func(), err error) {
	accounts, rates, address := x.server.accounts, &x.snap.Limits, strangerAccount{strangersAsk, networkOf(x.conn.address.Addr())}
	until, wait := accounts.strangers.Charge(address, rates.Strangers, x.start)
	if wait > 0 {
		return nil, x.tooOften(overLimit{limit: limitStrangers, rate: rates.Strangers, wait: wait}, "")
	}
	giveBack = func() { accounts.strangers.GiveBack(address, rates.Strangers, until, x.server.now()) }
	if wait := accounts.total.Take(rates.StrangersTotal, x.start); wait > 0 {
		giveBack()
		return nil, x.tooOften(overLimit{limit: limitStrangersTotal, rate: rates.StrangersTotal, wait: wait}, "")
	}
	return giveBack, nil
}

func (x *exchange) recalls() bool {
	if personal.Is(x.req.Token) {
		return x.server.personal != nil && x.server.personal.Recalls(x.req.Token)
	}
	return x.snap.Issuers != nil && x.snap.Issuers.Recalls(x.req.Token)
}

// bearerNow is who shows the exchange's token, as far as a snapshot knows.
func (x *exchange) bearerNow(snap *Snapshot) (*token.Bearer, error) {
	if personal.Is(x.req.Token) {
		if x.server.personal == nil {
			return nil, &token.Refused{Code: personal.CodeOff}
		}
		return x.server.personal.Bearer(x.ctx, x.req.Token)
	}
	if snap.Issuers == nil {
		return nil, &token.Refused{Code: token.CodeIssuer}
	}
	return snap.Issuers.Bearer(x.ctx, x.req.Token)
}

// identifyProgram takes a client certificate for its service account where there is no session, or else a stranger.
func (x *exchange) identifyProgram() error {
	account, err := x.programNow(x.snap, x.app, x.start)
	if err != nil {
		return &Refusal{Status: http.StatusForbidden, Effect: audit.Reject, Reason: "bad_certificate", Detail: "service_ambiguous",
			Public: "The client certificate is that of several service accounts, so the gateway cannot tell which one asks.", Err: err}
	}
	if account == nil {
		return x.stranger()
	}
	x.session, x.machine = account, true
	x.conn.identified()
	return nil
}

// programNow is the service account of the certificate that the connection shows, as far as a snapshot knows; nil: none.
func (x *exchange) programNow(snap *Snapshot, app *App, now time.Time) (*session.Session, error) {
	if app == nil || snap.Programs == nil {
		return nil, nil
	}
	shown := x.certificate(snap, app, now)
	if shown == nil || shown.cert == nil {
		return nil, nil
	}
	return snap.Programs.find(shown.cert)
}

// Programs are the service accounts of a configuration.
type Programs struct {
	accounts *service.Accounts
	known    map[string]*session.Session // by name
}

// NewPrograms readies service accounts; nil when there are none.
func NewPrograms(list []service.Account, now time.Time) (*Programs, error) {
	if len(list) == 0 {
		return nil, nil
	}
	accounts, err := service.New(list)
	if err != nil {
		return nil, err
	}
	p := &Programs{accounts, make(map[string]*session.Session, len(list))}
	for name, who := range accounts.All() {
		p.known[name] = session.ForMachine("certificate_"+name, who, now)
	}
	return p, nil
}

func (p *Programs) find(cert *policy.Cert) (*session.Session, error) {
	name, err := p.accounts.Find(service.Shown{Fingerprint: cert.Fingerprint, Subject: cert.Subject, DNSNames: cert.DNSNames, URIs: cert.URIs})
	if name == "" || err != nil {
		return nil, err
	}
	return p.known[name], nil
}

// currentMachine is who sends an open exchange as they are known now, or session.ErrNoSession.
func (x *exchange) currentMachine() (*session.Session, error) {
	snap := x.server.snapshot.Load()
	if x.bearer == nil {
		account, err := x.programNow(snap, snap.apps[x.app.Name], x.server.now())
		if err != nil || account == nil || account.ID != x.session.ID {
			return nil, session.ErrNoSession
		}
		return account, nil
	}
	bearer, err := x.bearerNow(snap)
	if refused, ok := errors.AsType[*token.Refused](err); ok && refused.Code != token.CodeNoKeys {
		return nil, session.ErrNoSession
	}
	if err != nil {
		return nil, err
	}
	return bearer.Session, nil
}

// expired reports whether the token of an open exchange is over.
func (x *exchange) expired(now time.Time) bool {
	return x.bearer != nil && !now.Before(x.bearer.Expires)
}

// TokenEnded ends what is open for a token that was revoked.
func (s *Server) TokenEnded(id string) { s.streams.endSession(id, "", ErrTokenRevoked) }

// machineSubject is a program, as the policy knows it at a time.
func (x *exchange) machineSubject(s *session.Session, shown *shownCert, now time.Time) policy.Subject {
	at := agesOf(s, now)
	known := personOf(s)
	if had := known.subject.Load(); had != nil && had.Authn.AgeS == at.authn && shown.of(had) {
		return *had
	}
	made := at.subject(s)
	made.Session, made.Token = nil, tokenFacts(x.bearer)
	made = shown.add(made).Prepared()
	known.subject.Store(&made)
	return made
}

// tokenFacts is a token as the policy knows it; nil without one.
func tokenFacts(b *token.Bearer) *policy.Token {
	if b == nil {
		return nil
	}
	return &policy.Token{ID: b.ID, Kind: string(b.Kind), Name: b.Name, Apps: b.Apps, Methods: b.Methods, Scopes: b.Scopes,
		Expires: b.Expires.UTC().Format(time.RFC3339)}
}

// beyondToken is the code of the shipped policy's denial.
const beyondToken = "token_scope"

// tokenError is what a program is told of its token when a verdict refuses for the sake of it (RFC 6750 §3.1).
func tokenError(v *policy.Verdict) string {
	for _, reason := range v.Decision.Reasons {
		if reason.Code == beyondToken && reason.Rule == "" {
			return "insufficient_scope"
		}
	}
	return ""
}
