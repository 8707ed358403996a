package signin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// lastTime is how long a browser remembers at which provider its person signed in.
const lastTime = 180 * 24 * time.Hour

// candidates are the providers that will do for a request, in the order to offer them.
func (h *Handler) candidates(q startRequest) []*oidc.Provider {
	list := h.providers
	if len(q.app.Providers) > 0 {
		list = nil
		for _, name := range q.app.Providers {
			if p := h.provider(name); p != nil {
				list = append(list, p)
			}
		}
	}
	if len(q.need.Providers) == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(p *oidc.Provider) bool { return !slices.Contains(q.need.Providers, p.Name()) })
}

func named(list []*oidc.Provider, name string) *oidc.Provider {
	for _, p := range list {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// choose returns the provider to go to: the one that was chosen, that of the session, the one for the address that was
// given, or the only one. Where there is none, it returns the page on which people choose.
func (h *Handler) choose(r *http.Request, q startRequest, s *session.Session) (*oidc.Provider, error) {
	list := h.candidates(q)
	if len(list) == 0 {
		return nil, h.noProvider(q)
	}
	if p := named(list, q.provider); p != nil {
		return p, nil
	}
	if s != nil {
		if p := named(list, s.Identity.Provider); p != nil {
			return p, nil
		}
		return nil, h.otherProvider(q, s, list)
	}
	if len(list) == 1 {
		return list[0], nil
	}
	if q.email == "" {
		return nil, h.choicePage(r, q, list, "")
	}
	serving := slices.DeleteFunc(slices.Clone(list), func(p *oidc.Provider) bool { return !p.Serves(q.email) })
	switch len(serving) {
	case 0:
		return nil, h.choicePage(r, q, list, "No account of this address is known here. Check it, or choose where you have your account.")
	case 1:
		return serving[0], nil
	}
	return nil, h.choicePage(r, q, serving, "")
}

// choicePage offers providers: that of the last time first.
func (h *Handler) choicePage(r *http.Request, q startRequest, list []*oidc.Provider, wrong string) *Problem {
	list = slices.Clone(list)
	if c, err := r.Cookie(lastCookie); err == nil {
		slices.SortStableFunc(list, func(a, b *oidc.Provider) int { return isNamed(b, c.Value) - isNamed(a, c.Value) })
	}
	p := &Problem{Status: http.StatusOK, Code: CodeChooseProvider, Title: "Sign in", Text: "Choose where you have your account.",
		App: q.app.title(), Choices: h.choices(q, list, "")}
	p.Email = &EmailForm{URL: h.authOrigin + StartPath, Method: http.MethodPost, Hidden: q.fields(), Value: q.email, Error: wrong,
		Origins: h.FormOrigins()}
	return p
}

func isNamed(p *oidc.Provider, name string) int {
	if p.Name() == name {
		return 1
	}
	return 0
}

func (h *Handler) choices(q startRequest, list []*oidc.Provider, before string) []Action {
	var all []Action
	for _, p := range list {
		all = append(all, Action{Label: before + p.Title(), URL: q.url(h.authOrigin, p.Name())})
	}
	return all
}

// otherProvider is what somebody reads whose session is from a provider that will not do.
func (h *Handler) otherProvider(q startRequest, s *session.Session, list []*oidc.Provider) *Problem {
	current := s.Identity.Provider
	if p := h.provider(current); p != nil {
		current = p.Title()
	}
	p := &Problem{Status: http.StatusForbidden, Code: CodeOtherProvider, Title: "Another account is needed", Current: current, App: q.app.title(),
		Text:    "You are signed in with " + current + ". " + q.what() + " is for people with an account elsewhere.",
		Advice:  "Signing in there ends your present session.",
		Choices: h.choices(q, list, "Sign in with ")}
	return p
}

// noProvider: the configuration and what is needed leave none.
func (h *Handler) noProvider(q startRequest) *Problem {
	return &Problem{Status: http.StatusForbidden, Code: CodeNoProvider, Title: "Nobody can sign in to this", App: q.app.title(),
		Text:   "None of the services at which people sign in here will do for " + q.what() + ".",
		Advice: "Tell your administrator.", Action: h.toPortal()}
}

// validEmail accepts what may be an address, bounded. It is a hint and proves nothing.
func validEmail(email string) bool {
	local, domain, found := strings.Cut(email, "@")
	return found && local != "" && domain != "" && len(email) <= 254 && !strings.Contains(domain, "@") &&
		!strings.ContainsFunc(email, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`<>"\`, r) })
}

// remember has the browser offer this provider first the next time.
func (h *Handler) remember(w http.ResponseWriter, provider string) {
	if len(h.providers) > 1 {
		setCookie(w, lastCookie, provider, lastTime)
	}
}

// FormOrigins are where the answer to a form of ours may send a browser: pages with such forms name them in form-action,
// which browsers hold against redirects too.
func (h *Handler) FormOrigins() []string {
	origins := []string{h.authOrigin}
	for _, p := range h.providers {
		for _, origin := range []string{p.Origin(), endSessionOrigin(p)} {
			if origin != "" && !slices.Contains(origins, origin) {
				origins = append(origins, origin)
			}
		}
	}
	return origins
}
