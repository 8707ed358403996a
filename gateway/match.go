package gateway

import (
	"net/http"

	"sallyport/audit"
	"sallyport/gateway/canon"
	"sallyport/gateway/route"
	"sallyport/policy"
)

// match finds the app and the path that policy and app both see. A place of a known host that no app claims is
// treated like an app that nobody may open, so that strangers cannot tell which exist.
func (x *exchange) match() error {
	app, path, escaped, ok := x.snap.appFor(x.req)
	if !ok {
		return x.nowhere()
	}
	x.app, x.path, x.escapedPath = app, path, escaped
	if x.destination, ok = x.snap.destinationIn(app, x.req); !ok {
		return x.elsewhere()
	}
	if app.Authorization == route.AuthorizationGateway {
		return x.req.ClaimAuthorization()
	}
	return nil
}

// unauthenticated is what every stranger is told whom no rule admits, whatever they asked for.
func unauthenticated() *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Effect: audit.Deny, Reason: policy.ReasonUnauthenticated, SignIn: true,
		Public: "You are not signed in."}
}

// appFor is the app that a request is for, and the path that the app sees.
func (s *Snapshot) appFor(q *canon.Request) (app *App, path, escaped string, ok bool) {
	found := s.Routes.Match(q.Host, q.Path)
	if found == nil {
		return nil, "", "", false
	}
	path, escaped, ok = q.StripPrefix(found.StripPrefix)
	return s.apps[found.Name], path, escaped, ok
}

// nowhere refuses a place that no app claims.
func (x *exchange) nowhere() error {
	return x.hidden(&Refusal{Status: http.StatusNotFound, Effect: audit.Reject, Reason: "no_route", Public: "There is no app at this address."})
}

// hidden is a refusal that strangers are not to know. No policy was asked, so the record is a reject for everybody; strangers
// get the answer that they get everywhere, also where there are too many of them.
func (x *exchange) hidden(refusal *Refusal) error {
	if err := x.identify(); err != nil {
		return err
	}
	if x.session != nil {
		return refusal
	}
	if err := x.join(); err != nil {
		return err
	}
	if err := x.recordReject(refusal); err != nil {
		return unrecorded(err)
	}
	return unauthenticated()
}
