package signin

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sallyport/authn/oidc"
)

// The state of a sign-out at a provider: the Unix time, a dot and the provider's name, sealed.
const (
	signedOutPurpose = "signed out"
	signedOutTime    = 10 * time.Minute
)

// SignedOutURL is where a provider sends browsers after a sign-out: what is registered with it as
// post_logout_redirect_uri.
func SignedOutURL(authOrigin string) string { return authOrigin + SignedOutPath }

// BackChannelURL is what is registered with a provider as backchannel_logout_uri.
func BackChannelURL(authOrigin, provider string) string {
	return authOrigin + BackChannelPath + provider
}

// signOutAtProvider sends a browser, which has no session any more, to its provider (RP-Initiated Logout 1.0 §2). A
// provider that takes nobody there is a page that says so.
func (h *Handler) signOutAtProvider(w http.ResponseWriter, r *http.Request, e ended) error {
	p := h.provider(e.provider)
	if p == nil && len(h.providers) == 1 {
		p = h.providers[0]
	}
	if p == nil {
		return h.signedOut(App{}, true)
	}
	state := h.sessions.Seal(signedOutPurpose, []byte(strconv.FormatInt(h.now().Unix(), 10)+"."+p.Name()))
	to, ok := p.EndSessionURL(e.idToken, state, SignedOutURL(h.authOrigin))
	if !ok {
		return h.providerStays(p)
	}
	return redirect(w, r, to)
}

func (h *Handler) providerStays(p *oidc.Provider) *Problem {
	return &Problem{Status: http.StatusOK, Code: CodeProviderStays, Title: "You are signed out here",
		Text:   "Your session has ended in all apps. " + p.Title() + " offers no way to be signed out there from here, so it may still know you in this browser.",
		Advice: "On a shared device sign out at " + p.Title() + " as well.",
		Action: &Action{Label: "Sign in again", URL: h.authOrigin + "/"}}
}

// serveSignedOut is where a provider sends browsers after a sign-out. It changes nothing, whoever sends people there.
func (h *Handler) serveSignedOut(w http.ResponseWriter, r *http.Request) error {
	if err := allowOnly(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	s, _, err := h.signedIn(r)
	if err != nil {
		return err
	}
	if s != nil {
		return &Problem{Status: http.StatusOK, Code: CodeStillSignedIn, Title: "You are signed in here",
			Text:   "This page is shown after signing out, but there is a session in this browser.",
			Action: &Action{Label: "Sign out", URL: SignOutPath, Method: http.MethodPost}}
	}
	values, err := singleValues(r.URL.RawQuery, maxQuery, "state")
	if err != nil {
		return h.requestInvalid(err)
	}
	p := h.signedOutAt(values.Get("state"))
	if p == nil {
		return h.signedOut(App{}, true)
	}
	return &Problem{Status: http.StatusOK, Code: CodeProviderSignedOut, Title: "You are signed out everywhere",
		Text:   "Your session has ended in all apps, and at " + p.Title() + ".",
		Action: &Action{Label: "Sign in again", URL: h.authOrigin + "/"}}
}

// signedOutAt reads the state; nil when it is not ours or is old.
func (h *Handler) signedOutAt(state string) *oidc.Provider {
	plain, err := h.sessions.Open(signedOutPurpose, state)
	if err != nil {
		return nil
	}
	if age := h.now().Sub(stampOf(string(plain))); age < 0 || age > signedOutTime {
		return nil
	}
	_, name, _ := strings.Cut(string(plain), ".")
	return h.provider(name)
}

// EndsAt reports whether people can be signed out at a provider from here.
func (h *Handler) EndsAt(provider string) bool {
	p := h.provider(provider)
	return p != nil && endSessionOrigin(p) != ""
}

// ProviderTitle is what people call a provider; its name when it is gone from the configuration.
func (h *Handler) ProviderTitle(name string) string {
	if p := h.provider(name); p != nil {
		return p.Title()
	}
	return name
}

// endSessionOrigin is where a sign-out at the provider leads; empty where it offers none.
func endSessionOrigin(p *oidc.Provider) string {
	to, ok := p.EndSessionURL("", "", "")
	u, err := url.Parse(to)
	if !ok || err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
