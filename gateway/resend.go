package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
)

// A form that was sent just after its session expired is kept, once for each session, and offered for sending again after
// the same person signed in. This is the keeping; resending.go offers and sends. Every other body is left unread.

// Forms holds forms for an hour, sealed; session.Keeper does and states the errors.
type Forms interface {
	Past(ctx context.Context, host, handle string) (session.Past, error)
	KeepForm(ctx context.Context, sessionID string, form []byte) (id string, err error)
	Form(ctx context.Context, id string) ([]byte, error)
	TakeForm(ctx context.Context, id string) ([]byte, error)
}

const (
	// maxForm is the largest form that is kept.
	maxForm = 64 << 10
	// maxFormHead bounds what is kept beside it.
	maxFormHead = 16 << 10
	// formArrives is how long a form may take to arrive: there is nobody whose it is yet.
	formArrives = 15 * time.Second
)

// keptForm is a form with all that it takes to send it as it was.
type keptForm struct {
	id    string
	taken bool
	head  keptHead
	body  []byte
}

type keptHead struct {
	Session string    `json:"session"` // that had expired
	Subject string    `json:"subject"` // whose it was
	Host    string    `json:"host"`
	App     string    `json:"app"`  // its name
	Name    string    `json:"name"` // what people call it
	Path    string    `json:"path"` // canonical and escaped
	Query   string    `json:"query,omitzero"`
	Type    string    `json:"type"`
	Origin  string    `json:"origin,omitzero"`
	Referer string    `json:"referer,omitzero"`
	At      time.Time `json:"at"`
}

// keepForm keeps what a form sent, if it is one of those that are kept, and returns it. Nil with no error: it is none, and
// nothing of it was read. The refusal is on record by now.
func (x *exchange) keepForm() (*keptForm, error) {
	if x.server.forms == nil || !x.sendsForm() {
		return nil, nil
	}
	handle, _ := x.req.Handle()
	past, err := x.server.forms.Past(x.ctx, x.req.Host, handle)
	if err != nil { // no such session, or nobody can tell
		return nil, nil
	}
	k := &keptForm{head: keptHead{Session: past.SessionID, Subject: past.Subject, Host: x.req.Host, App: string(x.app.Name), Name: x.app.DisplayName(),
		Path: x.req.EscapedPath, Query: x.req.Query, Type: x.req.ContentType(), Origin: x.req.Origin(), Referer: x.req.Header.Get("Referer"), At: x.start}}
	if k.body, err = x.readForm(); err != nil {
		return nil, nil // too large after all, or it broke off
	}
	text, ok := k.text()
	if !ok {
		return nil, nil
	}
	if k.id, err = x.server.forms.KeepForm(x.ctx, past.SessionID, text); err != nil {
		return nil, err
	}
	if err := x.recordForm("form_kept", k); err != nil { // what is not on record is not kept
		_, _ = x.server.forms.TakeForm(context.WithoutCancel(x.ctx), k.id) // nobody knows its id, and it is gone in an hour
		return nil, err
	}
	return k, nil
}

// sendsForm reports whether the request is a form that a page of the app sent, small enough, by a browser without a session
// that says it had one.
func (x *exchange) sendsForm() bool {
	page, framed := x.req.ReadsPages()
	_, one := x.req.Handle()
	return x.app != nil && x.session == nil && x.kept == nil && x.req.Method == http.MethodPost && page && !framed && one &&
		x.body == nil && x.bodyIn == nil && x.req.ContentLength <= maxForm && x.isSameOrigin() && isForm(x.req.ContentType()) &&
		x.req.Header["Content-Encoding"] == nil && x.req.Header["Authorization"] == nil
}

// isSameOrigin wants a browser's word for it that a page of this very host asks.
func (x *exchange) isSameOrigin() bool {
	own := []string{x.snap.Origin(x.req.Host)}
	site, origin := x.req.Header["Sec-Fetch-Site"], x.req.Header["Origin"]
	if site == nil {
		return slices.Equal(origin, own)
	}
	return slices.Equal(site, sameOriginFetch) && (origin == nil || slices.Equal(origin, own) || slices.Equal(origin, nullOrigin))
}

// isForm holds for what a form can send (HTML §4.10.21.5).
func isForm(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/x-www-form-urlencoded" || kind == "multipart/form-data" || kind == "text/plain")
}

// readForm reads what the browser sends, among so many bodies of strangers at a time as there may be.
func (x *exchange) readForm() ([]byte, error) {
	address, app := x.client(), x.app.Name
	if !x.server.awaited.enter(address, app) {
		return nil, errors.New("too many bodies are awaited")
	}
	defer x.server.awaited.leave(address, app)
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(formArrives)) // every connection of ours can
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, maxForm))
	x.read.Add(int64(len(body)))
	x.conn.guard.Delivered(len(body))
	return body, err
}

// text is the form as it is stored: its head as one line of JSON, and its body.
func (k *keptForm) text() ([]byte, bool) {
	head, err := json.Marshal(k.head)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return slices.Concat(head, []byte{'\n'}, k.body), len(head) < maxFormHead
}

// readKept is the reverse of text.
func readKept(id string, text []byte) (*keptForm, error) {
	head, body, found := bytes.Cut(text, []byte{'\n'})
	k := &keptForm{id: id, body: body}
	if err := json.Unmarshal(head, &k.head); err != nil || !found {
		return nil, errors.Join(err, errors.New("a kept form that cannot be read"))
	}
	return k, nil
}

// page is where the form is offered, on its own host.
func (k *keptForm) page() string {
	return signin.ResendPath + "?" + url.Values{"form": {k.id}}.Encode()
}

// until is when it is forgotten.
func (k *keptForm) until() string { return k.head.At.Add(time.Hour).UTC().Format("15:04 UTC") }

// what is the form to people: no values.
func (k *keptForm) what() string {
	path := k.head.Path
	if len(path) > maxSaid {
		path = path[:maxSaid] + "…"
	}
	return fmt.Sprintf("POST %s, %d bytes", path, len(k.body))
}

// recordForm says what became of a form, without what is in it.
func (x *exchange) recordForm(code string, k *keptForm) error {
	detail, err := json.Marshal(struct {
		Method string `json:"method"`
		Path   string `json:"path"`
		Bytes  int    `json:"bytes"`
		KeptOf string `json:"kept_of"` // the session that had expired
	}{http.MethodPost, k.head.Path, len(k.body), k.head.Session})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	record := &audit.Record{Type: audit.TypeControl, Code: code, RequestID: x.id, Session: x.sessionID(), App: k.head.App, Detail: detail,
		Actor: &audit.Actor{Kind: "user", ID: k.head.Subject, Address: x.conn.ip}}
	if err := x.server.control.Record(context.WithoutCancel(x.ctx), record); err != nil {
		return unrecorded(err)
	}
	return nil
}

// endedPage answers what somebody sent whose session had ended.
func (x *exchange) endedPage() ui.Page {
	page := ui.Message{Tone: ui.Problem, Label: "Sign-in", Title: "You are not signed in any more", Reference: x.id,
		Text:    "Your session had ended, so what you sent was not passed on to the app.",
		Advice:  []string{"Sign in, go back to the form and send it again."},
		Actions: []ui.Action{{Label: "Sign in", URL: x.afterSignIn()}}}
	if x.kept != nil { // that was about to be sent again
		page.Advice = []string{"It is still kept, until " + x.kept.until() + "."}
		page.Actions[0].Label = "Sign in and send it again"
		return page
	}
	kept, err := x.keepForm()
	switch {
	case errors.Is(err, session.ErrConflict):
		page.Text = "Your session had ended, so what you sent was not passed on to the app. It was not kept either: one form was kept already."
	case err != nil:
		page.Text = "Your session had ended, so what you sent was not passed on to the app. It could not be kept either."
	case kept != nil:
		page.Text = "Your session had ended, so what you sent was not passed on to the app. It is kept for an hour, for you alone."
		page.Advice = []string{"Sign in as the same person. You are then asked whether to send it."}
		page.Actions = []ui.Action{{Label: "Sign in and send it again", URL: kept.page()}}
	}
	return page
}
