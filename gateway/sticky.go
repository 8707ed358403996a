package gateway

import (
	"net/http"

	"sallyport/gateway/headers"
)

// Stickiness is a sealed cookie of the app's host that names the address a person's requests go to. Apps never see it,
// and only the gateway can make one: nobody chooses the address they are sent to.

// stickyPrefix begins the cookie's name; the app's name follows, because apps can share a host.
const stickyPrefix = headers.CookiePrefix + "-at-"

// stuckTo is the id of the address that the client's cookie names, or empty.
func (x *exchange) stuckTo() string {
	if !x.app.Balance.Sticky {
		return ""
	}
	for _, cookie := range x.r.CookiesNamed(x.app.stickyName()) {
		if id, err := x.server.sessions.Open(x.app.stickyName(), cookie.Value); err == nil {
			return string(id)
		}
	}
	return ""
}

// stick adds the cookie to an answer when the address was another than the one it names.
func (x *exchange) stick(header http.Header) {
	hint := x.hint.Load()
	if !x.app.Balance.Sticky || hint == nil || hint.Chosen == "" || hint.Chosen == hint.Prefer {
		return
	}
	cookie := &http.Cookie{Name: x.app.stickyName(), Value: x.server.sessions.Seal(x.app.stickyName(), []byte(hint.Chosen)),
		Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	header["Set-Cookie"] = append(header["Set-Cookie"][:len(header["Set-Cookie"]):len(header["Set-Cookie"])], cookie.String())
}

func (a *App) stickyName() string { return stickyPrefix + string(a.Name) }
