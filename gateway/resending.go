package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
)

// What a page of the offer asks for.
const (
	doSend    = "send"
	doDiscard = "discard"
)

// serveResend offers a kept form to the person whose it is, and sends or discards it when they say so.
func (x *exchange) serveResend() error {
	values, err := url.ParseQuery(x.req.Query)
	if err != nil || x.server.forms == nil {
		return notFound()
	}
	id := values.Get("form")
	if found, err := x.enterResend(id); !found || err != nil {
		return err
	}
	k, err := x.formOf(id)
	if err != nil {
		return err
	}
	if x.req.Method == http.MethodGet || x.req.Method == http.MethodHead {
		x.offer(k)
		return nil
	}
	if err := x.mayResend(); err != nil {
		return err
	}
	switch values.Get("do") {
	case doSend:
		return x.resend(k)
	case doDiscard:
		return x.discard(k)
	}
	return notFound()
}

// enterResend finds out who asks; a stranger who reads is sent to sign in, and what they send is refused.
func (x *exchange) enterResend(id string) (found bool, err error) {
	if handle, ok := x.req.Handle(); ok {
		s, err := x.server.sessions.Lookup(x.ctx, x.req.Host, handle)
		if err != nil && !errors.Is(err, session.ErrNoSession) {
			return false, sessionsUnavailable(err)
		}
		x.session, x.handle = s, handle
	}
	if x.session != nil {
		x.conn.identified()
		return true, x.hold()
	}
	here := (&keptForm{id: id}).page()
	if x.req.Method == http.MethodGet || x.req.Method == http.MethodHead {
		return false, x.snap.SignIn.Start(x.w, x.r, x.req.Host, here, signin.Need{})
	}
	return false, x.resendRefusal(http.StatusUnauthorized, "no_session", "You are not signed in any more", "Nothing was sent. What is kept stays kept for now.",
		ui.Action{Label: "Sign in", URL: here})
}

// formOf is a kept form of the person who asks.
func (x *exchange) formOf(id string) (*keptForm, error) {
	text, err := x.server.forms.Form(x.ctx, id)
	if errors.Is(err, session.ErrNoForm) {
		return nil, x.nothingKept()
	}
	if err != nil {
		return nil, sessionsUnavailable(err)
	}
	k, err := readKept(id, text)
	switch {
	case err != nil:
		return nil, sessionsUnavailable(err)
	case k.head.Host != x.req.Host:
		return nil, x.nothingKept()
	case k.head.Subject != x.session.Identity.ID():
		return nil, x.resendRefusal(http.StatusForbidden, "form_of_another", "This is not yours to send",
			"It was sent by another person than the one who is signed in now.", ui.Action{Label: "Your apps", URL: x.snap.portalURL()})
	}
	return k, nil
}

func (x *exchange) nothingKept() *Refusal {
	return x.resendRefusal(http.StatusNotFound, "form_unknown", "Nothing is kept any more",
		"It was sent or discarded before, or an hour has passed.", ui.Action{Label: "Continue", URL: "/"})
}

func (x *exchange) resendRefusal(status int, reason, title, text string, help ui.Action) *Refusal {
	return &Refusal{Status: status, Effect: audit.Reject, Reason: reason, Public: text,
		Page: ui.Message{Tone: ui.Problem, Label: "Kept form", Title: title, Text: text, Reference: x.id, Actions: []ui.Action{help}}}
}

// offer shows what would be sent, and no value of it.
func (x *exchange) offer(k *keptForm) {
	x.server.pages.Render(x.w, http.StatusOK, ui.Message{Tone: ui.Neutral, Label: "Kept form", Title: "Send it to " + k.head.Name + "?",
		Text: "You sent this when your session had ended. It has not been passed on to the app: " + k.what() + ". " +
			"It is kept until " + k.until() + " and sent once only.",
		FormAction: x.snap.FormOrigins,
		Actions: []ui.Action{{Label: "Send", URL: k.page() + "&do=" + doSend, Method: http.MethodPost},
			{Label: "Discard", URL: k.page() + "&do=" + doDiscard, Method: http.MethodPost}}})
}

// mayResend wants a button of our own page: a form of the person's is not for other sites to send.
func (x *exchange) mayResend() error {
	if x.req.Method != http.MethodPost {
		x.w.Header().Set("Allow", "GET, HEAD, POST")
		return &Refusal{Status: http.StatusMethodNotAllowed, Effect: audit.Reject, Reason: "method_not_allowed", Public: "This address does not take that kind of request."}
	}
	if !x.isSameOrigin() {
		return &Refusal{Status: http.StatusForbidden, Effect: audit.Reject, Reason: "cross_origin", Public: "Another site asked to send what only you can send."}
	}
	return nil
}

func (x *exchange) discard(k *keptForm) error {
	if _, err := x.server.forms.TakeForm(x.ctx, k.id); err != nil && !errors.Is(err, session.ErrNoForm) {
		return sessionsUnavailable(err)
	}
	x.server.pages.Render(x.w, http.StatusOK, ui.Message{Tone: ui.Done, Label: "Kept form", Title: "It is discarded",
		Text: "What you had sent was deleted, and not passed on to " + k.head.Name + ".", Actions: []ui.Action{{Label: "Continue", URL: "/"}}})
	return nil
}

// resend takes the place of the request by the kept one, and begins anew with it: it is made unambiguous, matched, judged
// and recorded as every other. It is not one for our own endpoints (sendsForm), so it comes here no second time.
func (x *exchange) resend(k *keptForm) error {
	r, err := k.request(x.r)
	if err != nil {
		return sessionsUnavailable(err)
	}
	x.kept, x.isOwn, x.session, x.handle = k, false, nil, ""
	x.r = r
	controller := http.NewResponseController(x.w) // the limits of our own pages are not the app's
	_ = controller.SetReadDeadline(time.Time{})
	_ = controller.SetWriteDeadline(time.Time{})
	return x.serve()
}

// request is the form as its browser would send it now, by the connection and with the cookies of another request.
func (k *keptForm) request(by *http.Request) (*http.Request, error) {
	target := k.head.Path
	if k.head.Query != "" {
		target += "?" + k.head.Query
	}
	to, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	r := by.Clone(by.Context())
	r.Method, r.URL, r.RequestURI = http.MethodPost, to, target
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(k.body)), int64(len(k.body)), nil
	for name, value := range map[string]string{"Content-Type": k.head.Type, "Origin": k.head.Origin, "Referer": k.head.Referer} {
		if delete(r.Header, name); value != "" {
			r.Header[name] = []string{value}
		}
	}
	delete(r.Header, "Content-Length")
	return r, nil
}

// sendKept takes the form that is about to be sent, once it is decided and on record that it may: of any number of tries
// one gets it. From here on it is gone, whatever becomes of it.
func (x *exchange) sendKept() error {
	if x.kept == nil {
		return nil
	}
	if x.ctx.Err() != nil {
		return x.interrupted()
	}
	if x.session == nil || x.session.Identity.ID() != x.kept.head.Subject { // it ended since the form was asked for
		return unauthenticated()
	}
	_, err := x.server.forms.TakeForm(context.WithoutCancel(x.ctx), x.kept.id)
	if errors.Is(err, session.ErrNoForm) {
		x.kept.taken = true
		return x.resendRefusal(http.StatusConflict, "form_spent", "It was sent already",
			"What you had sent was passed on to the app before, perhaps from another tab. It is sent once only.", ui.Action{Label: "Continue", URL: "/"})
	}
	if err != nil {
		return sessionsUnavailable(err)
	}
	x.kept.taken = true
	return x.recordForm("form_resent", x.kept)
}

// stillKept tells people who were refused what they sent again that it is not lost.
func (x *exchange) stillKept(page ui.Page) ui.Page {
	if x.kept == nil || x.kept.taken {
		return page
	}
	more := "What you sent is not lost: it is kept until " + x.kept.until() + ", and going back one page offers it again."
	switch p := page.(type) {
	case ui.Denied:
		owner := p.Owner
		if owner == "" {
			owner = "the owner of " + p.App
		}
		p.Advice = append(p.Advice[:len(p.Advice):len(p.Advice)], "If you need access, ask "+owner+" and quote the reference below.", more)
		return p
	case ui.Message:
		p.Advice = append(p.Advice[:len(p.Advice):len(p.Advice)], more)
		return p
	}
	return page
}
