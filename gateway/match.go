package gateway

import (
	"net/http"

	"sallyport/audit"
	"sallyport/gateway/route"
)

// match finds the app and the path that policy and app both see. A place of a known host that no app claims is
// treated like an app that nobody may open, so that strangers cannot tell which exist.
func (x *exchange) match() error {
	found := x.snap.Routes.Match(x.req.Host, x.req.Path)
	if found == nil {
		return x.nowhere()
	}
	path, escaped, ok := x.req.StripPrefix(found.StripPrefix)
	if !ok {
		return x.nowhere()
	}
	x.app, x.path, x.escapedPath = x.snap.apps[found.Name], path, escaped
	if found.Authorization == route.AuthorizationGateway {
		if err := x.req.ClaimAuthorization(); err != nil {
			return err
		}
	}
	if x.req.ContentLength > int64(found.MaxBody) {
		return &Refusal{Status: http.StatusRequestEntityTooLarge, Effect: audit.Reject, Reason: "body_too_large",
			Public: "The request is larger than this app accepts.", Close: true}
	}
	return nil
}

func (x *exchange) nowhere() error {
	if err := x.identify(); err != nil {
		return err
	}
	if x.session == nil {
		return &Refusal{Status: http.StatusUnauthorized, Effect: audit.Deny, Reason: "unauthenticated", SignIn: true, Public: "You are not signed in."}
	}
	return &Refusal{Status: http.StatusNotFound, Effect: audit.Reject, Reason: "no_route", Public: "There is no app at this address."}
}
