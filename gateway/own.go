package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/gateway/signin"
)

// jwksPath is where apps find the key they verify X-Sallyport-Assertion with. Every other path below signin.Prefix that
// is not the sign-in's is a 404 and never forwarded.
const jwksPath = signin.Prefix + "jwks.json"

// clientJWKSPath is where identity providers find the keys that the gateway proves itself with (private_key_jwt): the
// client's jwks_uri.
const clientJWKSPath = signin.Prefix + "client.jwks.json"

// own is the handler for the gateway's own endpoints, or nil when the request is for an app.
func (x *exchange) own() func(*exchange) error {
	isAuth := x.req.Host == x.snap.AuthHost
	if !isAuth && !strings.HasPrefix(x.req.Path+"/", signin.Prefix) {
		return nil
	}
	x.isOwn = true
	x.hurry()
	x.hurryBody()
	if err := x.server.decisions.Healthy(); err != nil {
		return func(*exchange) error { return unrecorded(err) }
	}
	if err := x.limitOwn(isAuth); err != nil {
		return func(*exchange) error { return err }
	}
	if isAuth && !x.forPrograms() {
		if err := x.demandCertificate(); err != nil {
			return func(*exchange) error { return err }
		}
	}
	switch {
	case isAuth && x.req.Path == "/":
		return (*exchange).serveApps
	case isAuth && x.req.Path == signin.SessionsPath && x.server.portal.Sessions != nil:
		return (*exchange).serveSessions
	case isAuth && x.req.Path == signin.TokensPath && x.server.portal.makesTokens():
		return (*exchange).serveTokens
	case isAuth && x.req.Path == jwksPath:
		return func(x *exchange) error { return x.serveJWKS(x.server.assertions.JWKS()) }
	case isAuth && x.req.Path == clientJWKSPath:
		return func(x *exchange) error { return x.serveJWKS(x.server.clientKeys()) }
	case isAuth:
		return func(x *exchange) error { return x.signIn().ServeAuth(x.w, x.r) }
	case x.req.Path == signin.ReturnPath:
		return func(x *exchange) error { return x.signIn().ServeReturn(x.w, x.r, x.req.Host) }
	case x.req.Path == signin.ResendPath:
		return (*exchange).serveResend
	case x.req.Path == stepUpPath:
		return (*exchange).serveStepUp
	case x.req.Path == signin.SignOutPath:
		return func(x *exchange) error { return x.snap.SignIn.SignOut(x.w, x.r, x.req.Host) }
	}
	return func(*exchange) error { return notFound() }
}

// forPrograms reports whether a path of the sign-in host is for apps and identity providers, who show no certificate.
func (x *exchange) forPrograms() bool {
	return x.req.Path == jwksPath || x.req.Path == clientJWKSPath || strings.HasPrefix(x.req.Path, signin.BackChannelPath)
}

func notFound() *Refusal {
	return &Refusal{Status: http.StatusNotFound, Effect: audit.Reject, Reason: "not_found", Public: "There is nothing at this address."}
}

func (x *exchange) onlyGet() error {
	if x.req.Method == http.MethodGet || x.req.Method == http.MethodHead {
		return nil
	}
	x.w.Header().Set("Allow", "GET, HEAD")
	return &Refusal{Status: http.StatusMethodNotAllowed, Effect: audit.Reject, Reason: "method_not_allowed", Public: "This address can only be read."}
}

// serveJWKS publishes public keys (RFC 7517).
func (x *exchange) serveJWKS(document []byte) error {
	if err := x.onlyGet(); err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", x.server.keysLife()/time.Second))
	h.Set("X-Content-Type-Options", "nosniff")
	x.w.Write(document) // the client may have gone; there is nobody else to tell
	return nil
}

// setTransportSecurity keeps browsers on https (RFC 6797 §7.1), whatever the answer will be.
func (x *exchange) setTransportSecurity() {
	if x.snap.TransportSecurity > 0 {
		x.w.Header().Set("Strict-Transport-Security", x.snap.hsts)
	}
}
