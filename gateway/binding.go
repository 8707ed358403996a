package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/ui"
)

// A session remembers what the browser was when it began. Whatever the operator binds sessions to must stay so; of the rest
// it is recorded, once, that it changed.

// Custody ends sessions and remembers what was said of them; session.Keeper does and states the errors.
type Custody interface {
	End(ctx context.Context, f session.Filter, reason string) ([]session.Session, error)
	Spend(ctx context.Context, id string, until time.Time) (bool, error)
}

// The kinds of what can change. They are words of records, and bits of what was noted already.
const (
	kindCertificate = "certificate"
	kindUserAgent   = "user_agent"
	kindNetwork     = "network"
	kindCountry     = "country"
)

// departure is one thing that is not as it was when the session began.
type departure struct {
	kind, was, is string
	bound         bool // the operator binds sessions to it
	bit           uint32
}

// bound is what the browser of this exchange is, in the terms in which sessions remember it.
func (x *exchange) bound() session.Bound { return x.facts(x.snap).bound }

// holder is whose certificate was shown: the same for a renewed one. Empty without one that counts.
func (c *shownCert) holder() string {
	if c == nil || c.cert == nil {
		return ""
	}
	return "issuer " + strconv.Quote(c.cert.Issuer) + " subject " + strconv.Quote(c.cert.Subject)
}

// hold compares the browser with what it was when the session began. Where the session is bound to what has changed, it is
// ended and the request refused; else the change is recorded. As a rule nothing has changed, which costs a comparison.
func (x *exchange) hold() error {
	if x.session == nil || x.session.Bound == (session.Bound{}) { // a program's, or from before sessions remembered
		return nil
	}
	now := x.facts(x.snap)
	if now.bound == x.session.Bound {
		return nil
	}
	departures := x.departures(now.bound)
	for _, d := range departures {
		if d.bound {
			return x.breach(d)
		}
	}
	for _, d := range departures {
		if err := x.note(d); err != nil {
			return err
		}
	}
	return nil
}

// departures are what has changed. Where nothing is known, nothing has: a host that asks for no certificates is shown none,
// be it this one or that of the sign-in, and no database knows every address.
func (x *exchange) departures(is session.Bound) []departure {
	was, bind := x.session.Bound, x.snap.Bind
	var list []departure
	if was.Certificate != is.Certificate && x.snap.AsksForCertificate(x.req.Host) && x.snap.AsksForCertificate(x.snap.AuthHost) {
		list = append(list, departure{kindCertificate, was.Certificate, is.Certificate, bind.ClientCertificate, 1})
	}
	if was.UserAgent != is.UserAgent {
		list = append(list, departure{kindUserAgent, was.UserAgent, is.UserAgent, bind.UserAgent, 2})
	}
	if was.Network != is.Network {
		list = append(list, departure{kindNetwork, was.Network, is.Network, bind.Network, 4})
	}
	if was.Country != is.Country && was.Country != "" && is.Country != "" {
		list = append(list, departure{kindCountry, was.Country, is.Country, false, 8})
	}
	return list
}

// breach ends the session, once that is on record: its cookie is in a browser that it was not given to.
func (x *exchange) breach(d departure) error {
	if err := x.recordDeparture("session_ended", session.BindingBroken, d); err != nil {
		return err
	}
	// The client may leave; the session ends all the same.
	if _, err := x.server.custody.End(context.WithoutCancel(x.ctx), session.Filter{ID: x.session.ID}, session.BindingBroken); err != nil {
		return sessionsUnavailable(err)
	}
	text := "Your session was begun " + departed[d.kind] + ", so it was ended for your safety."
	return &Refusal{Status: http.StatusUnauthorized, Effect: audit.Reject, Reason: session.BindingBroken, Detail: d.kind, Public: text,
		Page: ui.Message{Tone: ui.Problem, Label: "Sign-in", Title: "Your session was ended", Text: text, Reference: x.id,
			Advice:  []string{"Sign in again to go on. If this was not you, tell your administrator and quote the reference below."},
			Actions: []ui.Action{{Label: "Sign in again", URL: x.afterSignIn()}}}}
}

// departed says to people what was different.
var departed = map[string]string{
	kindCertificate: "with another client certificate", kindUserAgent: "in another browser", kindNetwork: "in another network",
}

// notedFor is how long it is remembered that a change was recorded: longer than sessions last as a rule.
const notedFor = 7 * 24 * time.Hour

// note records a change, once for each session and kind in all processes on the store.
func (x *exchange) note(d departure) error {
	noted := &personOf(x.session).noted
	if noted.Load()&d.bit != 0 {
		return nil
	}
	first, err := x.server.custody.Spend(x.ctx, "session anomaly "+d.kind+" "+x.session.ID, x.start.Add(notedFor))
	if err != nil {
		return sessionsUnavailable(err)
	}
	if first {
		if err := x.recordDeparture("session_anomaly", d.kind, d); err != nil {
			return err
		}
	}
	noted.Or(d.bit)
	return nil
}

// maxSaid bounds what a record repeats of a client's own words.
const maxSaid = 256

func (x *exchange) recordDeparture(code, reason string, d departure) error {
	said := x.req.UserAgent()
	detail, err := json.Marshal(struct {
		Kind      string `json:"kind"`
		Was       string `json:"was"`
		Is        string `json:"is"`
		Address   string `json:"address"`
		UserAgent string `json:"user_agent"`
	}{d.kind, d.was, d.is, x.conn.ip, said[:min(len(said), maxSaid)]})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	who := x.session.Identity
	record := &audit.Record{Type: audit.TypeControl, Code: code, Reason: reason, RequestID: x.id, Session: x.session.ID, App: x.appName(), Detail: detail,
		Actor: &audit.Actor{Kind: string(who.Kind), ID: who.ID(), Name: who.Email, Address: x.conn.ip}}
	if err := x.server.control.Record(context.WithoutCancel(x.ctx), record); err != nil {
		return unrecorded(err)
	}
	return nil
}
