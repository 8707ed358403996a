package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
	"sallyport/policy"
)

// reasonStale is the reason of what was refused because its sign-in was too long ago.
const reasonStale = "reauthentication_required"

// fresh holds a session to its browser, and to how fresh a sign-in the app wants. Programs have no session.
func (x *exchange) fresh() error {
	if err := x.hold(); err != nil {
		return err
	}
	if x.session == nil || x.handle == "" {
		return nil
	}
	return x.staleRefusal(x.snap.freshness(x.app), "")
}

// freshness is how fresh a sign-in must be. Zeros want nothing.
type freshness struct {
	idle           time.Duration // since the last request, and in every pause since the sign-in
	absolute       time.Duration // since the person came back from their provider
	reauthenticate time.Duration // since they proved themselves there
}

func (s *Snapshot) freshness(app *App) freshness {
	of := app.Session
	return freshness{of.Idle, of.Absolute, lesser(of.Reauthenticate, s.Reauthenticate)}
}

// demanded is what a policy wants of a session that it lets through.
func demanded(v *policy.Verdict) freshness {
	absolute, idle := v.SessionTerm()
	return freshness{idle: idle, absolute: absolute}
}

// lesser is the shorter of two limits, of which 0 is none.
func lesser(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// provenSkew is how far a provider's clock may be behind ours: without it somebody who has just proved themselves would be
// sent back at once, again and again.
const provenSkew = time.Minute

// seenSkew is how much longer a pause may look than it was: sessions know when they were used to the minute. Without it
// people would be sent away in the middle of their work.
const seenSkew = time.Minute

// exceeded is the limit that a session has reached, for the record, and what the next sign-in must come to. A pause counts
// until the next sign-in: otherwise loading the page again would undo it.
func (f freshness) exceeded(s *session.Session, now time.Time) (why string, need signin.Need) {
	switch away := max(now.Sub(s.Seen), s.Away); {
	case f.idle > 0 && away >= f.idle+seenSkew:
		return fmt.Sprintf("away for %v, at most %v", away.Round(time.Second), f.idle), signin.Need{Fresh: true}
	case f.absolute > 0 && now.Sub(s.Raised) >= f.absolute:
		return fmt.Sprintf("signed in %v ago, at most %v", now.Sub(s.Raised).Round(time.Second), f.absolute), signin.Need{Fresh: true}
	case f.reauthenticate > 0 && s.Identity.AuthTime.IsZero():
		return fmt.Sprintf("the provider does not say when the person proved themselves, at most %v ago", f.reauthenticate), signin.Need{MaxAge: f.reauthenticate}
	case f.reauthenticate > 0 && now.Sub(s.Identity.AuthTime) >= f.reauthenticate+provenSkew:
		return fmt.Sprintf("proved themselves %v ago, at most %v", now.Sub(s.Identity.AuthTime).Round(time.Second), f.reauthenticate), signin.Need{MaxAge: f.reauthenticate}
	}
	return "", signin.Need{}
}

// staleRefusal sends people to sign in again whose sign-in is not as fresh as it must be. It is a limit, like those on how
// often: what says yes is for the record.
func (x *exchange) staleRefusal(f freshness, allowed string) error {
	why, need := f.exceeded(x.session, x.start)
	if why == "" {
		return nil
	}
	return &Refusal{Status: http.StatusUnauthorized, Effect: audit.Reject, Reason: reasonStale, SignIn: true, Need: need, Detail: allowed + why,
		Public: "You signed in too long ago for " + x.app.DisplayName() + "."}
}

// obligeSession holds an allowed exchange to the session that the policy wants for it.
func (x *exchange) obligeSession() error {
	if x.session == nil || x.handle == "" {
		return nil
	}
	return x.staleRefusal(demanded(x.verdict), "the policy allows it; ")
}

// outlived reports whether a session is no longer as fresh as an open exchange of its wants it.
func (x *exchange) outlived(snap *Snapshot, app *App, s *session.Session, verdict *policy.Verdict, now time.Time) bool {
	if s == nil || x.handle == "" {
		return false
	}
	of, wanted := snap.freshness(app), demanded(verdict)
	both := freshness{lesser(of.idle, wanted.idle), lesser(of.absolute, wanted.absolute), of.reauthenticate}
	why, _ := both.exceeded(s, now)
	return why != ""
}

// stepUpRefusal asks for the sign-in that the policy wants, unless the session is one already: then another would change
// nothing, and the policy's own words are the answer.
func (x *exchange) stepUpRefusal() *Refusal {
	mfa, acr, maxAge := x.verdict.StepUp()
	need := signin.Need{MFA: mfa, ACR: acr, MaxAge: maxAge}
	if !mfa && acr == nil && maxAge == 0 {
		need.Fresh = true
	}
	if x.meets(need) {
		return nil
	}
	refusal := &Refusal{Status: http.StatusUnauthorized, Effect: audit.Deny, Reason: policy.ReasonStepUp, SignIn: true, Need: need,
		Public: x.app.DisplayName() + " asks you to prove again that it is you."}
	if said := x.userReasons(); len(said) > 0 {
		refusal.Public = said[0]
	}
	return refusal
}

// meets reports whether the session is as strong and as fresh as it is needed.
func (x *exchange) meets(need signin.Need) bool {
	who := x.session.Identity
	return !need.Fresh && (!need.MFA || who.MFA) && (len(need.ACR) == 0 || slices.Contains(need.ACR, who.ACR)) &&
		(need.MaxAge == 0 || !who.AuthTime.IsZero() && x.start.Sub(who.AuthTime) < need.MaxAge)
}

// challenge is the WWW-Authenticate field of a 401 or 403 (RFC 9110 §11.6.1, RFC 6750 §3), for a sign-in that falls short with
// what the next one must come to (RFC 9470 §3).
func (r *Refusal) challenge() string {
	const realm = `Bearer realm="sallyport"`
	if !r.asksForMore() {
		if r.Token == "" {
			return realm
		}
		return realm + `, error="` + r.Token + `"`
	}
	text := realm + `, error="insufficient_user_authentication", error_description="` + quotable(r.Public) + `"`
	if acr := strings.Join(r.Need.ACR, " "); acr != "" {
		text += `, acr_values="` + quotable(acr) + `"`
	}
	if r.Need.MaxAge > 0 || r.Need.Fresh {
		text += `, max_age="` + strconv.FormatInt(int64(r.Need.MaxAge/time.Second), 10) + `"`
	}
	return text
}

// asksForMore reports whether the person is known, and must prove more or again.
func (r *Refusal) asksForMore() bool {
	return r.Need.MFA || r.Need.Fresh || r.Need.MaxAge > 0 || len(r.Need.ACR) > 0
}

// quotable leaves of a text what may stand in the attributes of a challenge (RFC 6750 §3).
func quotable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, text)
}

// stepUpPath, on the hosts of apps, starts the sign-in that a page of ours offered.
const stepUpPath = signin.Prefix + "stepup"

const stepUpPurpose = "step-up "

// stepUpURL is where a page's button leads that starts a sign-in and returns to target, of this host. It is sealed, so that
// nobody makes people prove more than is needed.
func (x *exchange) stepUpURL(need signin.Need, target string) string {
	text, err := json.Marshal(need)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return stepUpPath + "?" + url.Values{"need": {x.server.sessions.Seal(stepUpPurpose+x.req.Host, text)}, "rd": {target}}.Encode()
}

// serveStepUp starts it. A link that is not ours leads to the page, which starts what it needs by itself.
func (x *exchange) serveStepUp() error {
	if err := x.onlyGet(); err != nil {
		return err
	}
	values, err := url.ParseQuery(x.req.Query)
	if err != nil {
		return notFound()
	}
	var need signin.Need
	text, err := x.server.sessions.Open(stepUpPurpose+x.req.Host, values.Get("need"))
	if err == nil {
		err = json.Unmarshal(text, &need)
	}
	if err != nil {
		return notFound()
	}
	return x.snap.SignIn.Start(x.w, x.r, x.req.Host, signin.Target(values.Get("rd")), need)
}

// cameFrom is the page of the app that sent a request, where a person can do it again: the app's start page if the browser
// does not say.
func (x *exchange) cameFrom() string {
	from, err := url.Parse(x.req.Header.Get("Referer"))
	if err != nil || from.Scheme != "https" || x.app == nil || "https://"+from.Host != x.app.origin {
		return x.startPage()
	}
	return signin.Target(from.RequestURI())
}

func (x *exchange) startPage() string {
	if x.app == nil {
		return "/"
	}
	return x.app.StartPath()
}

// afterSignIn is the page to open once the person has signed in: this very one, where it can be opened again.
func (x *exchange) afterSignIn() string {
	switch {
	case x.kept != nil:
		return x.kept.page()
	case x.req.Method == http.MethodGet || x.req.Method == http.MethodHead:
		return signin.Target(x.returnTarget())
	}
	return x.cameFrom()
}

// morePage offers the sign-in that is needed to somebody whom a redirect would cost what they sent.
func (x *exchange) morePage(refusal *Refusal) ui.Page {
	page := ui.Message{Tone: ui.Neutral, Label: "Sign-in", Title: "Prove again that it is you", Text: refusal.Public, Reference: x.id,
		FormAction: x.snap.FormOrigins, Actions: []ui.Action{{Label: "Continue", URL: x.stepUpURL(x.needed(refusal), x.afterSignIn())}}}
	if x.kept == nil {
		page.Advice = []string{"What you sent was not passed on to the app. Continue, then send it again."}
	} else {
		page.Advice = []string{"What you sent is still kept. Continue, then send it."}
	}
	return page
}

// needed is what a refusal wants of the next sign-in, at a provider that will do for the app.
func (x *exchange) needed(refusal *Refusal) signin.Need {
	need := refusal.Need
	if x.app != nil && need.Providers == nil {
		need.Providers = x.app.Providers
	}
	return need
}
