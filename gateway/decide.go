package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"sallyport/audit"
	"sallyport/policy"
)

// decide asks the one judge. What the policy sees is the very text that is recorded. A client that leaves does not
// interrupt it: the verdict must be the one that anybody recomputes from the record.
func (x *exchange) decide() error {
	in := x.inputFor(x.app, x.path)
	in.Context.Shield = x.findings
	var err error
	if x.input, x.verdict, err = x.snap.judge(context.Background(), in, x.destination); err != nil {
		if tooLarge, ok := errors.AsType[*policy.TooLargeError](err); ok {
			return &Refusal{Status: http.StatusRequestURITooLong, Effect: audit.Reject, Reason: "input_too_large", Detail: tooLarge.Error(),
				Public: "The address of this request is too long to be recorded."}
		}
		return err
	}
	// Only now, so that a limit tells strangers nothing about what is behind it.
	if x.verdict.Allow && x.req.ContentLength > int64(x.app.MaxBody) {
		return &Refusal{Status: http.StatusRequestEntityTooLarge, Effect: audit.Reject, Reason: "body_too_large",
			Public: "The request is larger than this app accepts.", Close: true}
	}
	return nil
}

// inputFor is everything the policy may know about this request, asked of an app and a path of it.
func (x *exchange) inputFor(app *App, path string) *policy.Input {
	q := x.req
	in := &policy.Input{
		Subject: x.subjectOf(x.session, x.certificate(x.snap, app, x.start), x.start),
		Action: policy.Action{Name: policy.ActionName(q.Method, q.Upgrade), Method: q.Method, Protocol: q.Protocol,
			Upgrade: q.Upgrade},
		Resource: x.resource(app, path),
		Context: policy.Context{
			Client:  x.facts(x.snap).client,
			TLS:     x.conn.tls(x.r.TLS),
			Request: x.requestFacts(app),
		},
	}
	in.Context.SetTime(x.start, x.snap.Zone)
	return in
}

func (x *exchange) resource(app *App, path string) policy.Resource {
	return policy.Resource{Type: policy.TypeApp, ID: string(app.Name), Labels: app.Labels, Sensitivity: app.Sensitivity, Owner: app.Owner,
		Host: x.req.Host, Path: path, Segments: segments(path), Query: app.secrets.RedactQuery(x.req.Query)}
}

func (x *exchange) requestFacts(app *App) policy.Request {
	q := x.req
	unsafe := x.crossSiteUnsafe(app)
	facts := policy.Request{ID: x.id, ContentType: q.ContentType(), UserAgent: q.UserAgent(),
		Origin: q.Origin(), FetchSite: q.FetchSite(), CrossOrigin: !app.admitsOrigin(q.Header["Origin"]),
		CrossSiteUnsafe: &unsafe, Headers: app.secrets.Headers(q.Header, x.snap.PolicyHeaders)}
	if q.ContentLength >= 0 {
		facts.ContentLength = &q.ContentLength
	}
	return facts
}

// segments are the pieces of a canonical path between its slashes.
func segments(path string) []string {
	trimmed := strings.Trim(path, "/")
	if trimmed == "" {
		return nil
	}
	return strings.Split(trimmed, "/")
}
