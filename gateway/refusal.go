package gateway

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"sallyport/audit"
	"sallyport/gateway/canon"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
)

// Refusal is every answer that is not the app's. What a person sees is Public; what went wrong is Err.
type Refusal struct {
	Status int
	Effect audit.Effect // Deny when the policy said no, Reject when protocol or a limit did
	Reason string       // fixed code, as recorded
	Public string       // one sentence for the person
	Advice []string
	Detail string // for the record only; capped and escaped by whoever sets it
	Err    error  // for the log only
	Close  bool   // the connection cannot be trusted any further, or its body is left unread
	// SignIn sends a navigation to the sign-in in place of a page.
	SignIn bool
	// Need is what that sign-in must come to, where a session falls short of it.
	Need signin.Need
	// Token is what is wrong with a program's token, in the words of RFC 6750 §3.1, such as invalid_token. Empty: it had none.
	Token string
	// over is the limit that was reached, of a 429.
	over *overLimit
	// Page replaces the general message for people.
	Page ui.Page
}

func (r *Refusal) Error() string {
	if r.Err != nil {
		return r.Reason + ": " + r.Err.Error()
	}
	return r.Reason
}

func (r *Refusal) Unwrap() error { return r.Err }

// refuse is the only place where an error becomes an answer. A refusal that no decision record stands for yet is
// recorded first; when that fails the answer is the fixed 503.
func (x *exchange) refuse(err error) {
	refusal := x.asRefusal(err)
	if x.needsRecord() {
		if failed := x.recordReject(refusal); failed != nil {
			refusal = unrecorded(failed)
		}
	}
	x.refusal = refusal
	if refusal.Err != nil && refusal.Status >= 500 {
		x.server.log.LogAttrs(x.ctx, slog.LevelError, "request failed", slog.String("request_id", x.id),
			slog.String("reason", refusal.Reason), slog.Any("error", refusal.Err))
	}
	x.answer(refusal)
}

// asRefusal gives errors of other packages their answer.
func (x *exchange) asRefusal(err error) *Refusal {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal
	}
	if reject, ok := errors.AsType[*canon.Reject](err); ok {
		return &Refusal{Status: reject.Status, Effect: audit.Reject, Reason: reject.Reason, Detail: reject.Detail,
			Public: "The request was not understood in one way only, so it was not passed on.", Close: reject.Close}
	}
	if problem, ok := errors.AsType[*signin.Problem](err); ok {
		return fromProblem(x, problem)
	}
	return &Refusal{Status: http.StatusInternalServerError, Effect: audit.Reject, Reason: "internal_error",
		Public: "Something went wrong inside the gateway.", Err: err, Close: true}
}

// unrecorded is the fixed answer while the audit log cannot be written: nothing is served that nobody can prove.
func unrecorded(err error) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: "audit_unavailable",
		Public: "The gateway cannot write its audit log, so it serves nothing until it can.",
		Advice: []string{"Try again in a moment."}, Err: err, Close: true}
}

// answer writes the refusal in the form its reader understands.
func (x *exchange) answer(refusal *Refusal) {
	x.part()
	x.hurry()
	header := x.w.Header()
	cookies := header["Set-Cookie"] // the sign-in takes its own back also when it fails
	clear(header)
	if cookies != nil {
		header["Set-Cookie"] = cookies
	}
	header.Set("X-Request-Id", x.id)
	x.setTransportSecurity()
	x.shareRefusal(header)
	if refusal.Close || x.r.ContentLength != 0 && x.r.ProtoMajor == 1 {
		header.Set("Connection", "close")
	}
	switch {
	case refusal.over != nil:
		refusal.over.setHeader(header)
		header.Set("Retry-After", strconv.FormatInt(wholeSeconds(refusal.over.wait), 10))
	case refusal.Status == http.StatusServiceUnavailable:
		header.Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	}
	var navigation, page, framed bool
	if x.req != nil {
		navigation, _ = x.req.Navigation()
		page, framed = x.req.ReadsPages()
	}
	switch {
	case x.req != nil && x.callsGRPC():
		x.grpcRefusal(refusal)
	case refusal.SignIn && navigation && !framed:
		x.startSignIn(refusal)
	case page:
		x.server.pages.Render(x.w, refusal.Status, x.stillKept(x.page(refusal, framed)))
	default:
		x.writeJSON(refusal)
	}
}

// retryAfterSeconds is when a client may ask again after a 503: about the time an audit log or an app needs to come back.
const retryAfterSeconds = 5

// startSignIn redirects to the identity provider, by way of the sign-in host.
func (x *exchange) startSignIn(refusal *Refusal) {
	err := x.snap.SignIn.Start(x.w, x.r, x.req.Host, x.returnTarget(), x.needed(refusal))
	if err == nil {
		return
	}
	failed := x.asRefusal(err)
	x.server.pages.Render(x.w, failed.Status, x.page(failed, false))
}

// returnTarget is where the person wanted to go: path and query of this very request.
func (x *exchange) returnTarget() string {
	if x.req.Query == "" {
		return x.req.EscapedPath
	}
	return x.req.EscapedPath + "?" + x.req.Query
}

// page is the refusal for a person.
func (x *exchange) page(refusal *Refusal, framed bool) ui.Page {
	if refusal.SignIn && framed {
		return ui.Message{Tone: ui.Neutral, Label: "Sign-in", Title: "Sign in to continue", Framed: true,
			Text:    "This part of the page needs you to be signed in, which browsers do not allow inside a frame.",
			Actions: []ui.Action{{Label: "Open in a new tab", URL: x.returnTarget()}}}
	}
	if refusal.SignIn && x.req.Method != http.MethodGet && x.req.Method != http.MethodHead {
		if x.session != nil && (refusal.asksForMore() || refusal.Need.Recheck) {
			return x.morePage(refusal)
		}
		return x.endedPage()
	}
	if refusal.Page != nil {
		return refusal.Page
	}
	page := ui.Message{Tone: ui.Refused, Label: http.StatusText(refusal.Status), Title: "This request was refused",
		Text: refusal.Public, Advice: refusal.Advice, Reference: x.id, Framed: framed}
	if refusal.Status == http.StatusNotFound {
		page.Tone, page.Title = ui.Problem, "Nothing here"
	}
	if x.snap != nil {
		page.Actions = []ui.Action{{Label: "Your apps", URL: x.snap.portalURL()}}
	}
	return page
}

// writeJSON is the refusal for a program.
func (x *exchange) writeJSON(refusal *Refusal) {
	header := x.w.Header()
	if refusal.Status == http.StatusUnauthorized || refusal.Token != "" {
		header.Set("WWW-Authenticate", refusal.challenge())
		if x.takesPasswords() && refusal.Status == http.StatusUnauthorized {
			header.Add("WWW-Authenticate", `Basic realm="sallyport", charset="UTF-8"`)
		}
	}
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	body, err := json.Marshal(struct {
		Error     string   `json:"error"`
		Message   string   `json:"message"`
		Why       []string `json:"why,omitempty"`
		Reference string   `json:"reference"`
	}{refusal.Reason, refusal.Public, x.reasonsFor(refusal), x.id})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	header.Set("Content-Length", strconv.Itoa(len(body)+1))
	x.w.WriteHeader(refusal.Status)
	if x.r.Method != http.MethodHead {
		x.w.Write(append(body, '\n')) // the client may have gone; there is nobody else to tell
	}
}

// fromProblem gives a sign-in problem its page.
func fromProblem(x *exchange, p *signin.Problem) *Refusal {
	return &Refusal{Status: p.Status, Effect: audit.Reject, Reason: p.Code, Public: p.Text, Err: p.Err, Page: x.problemPage(p)}
}
