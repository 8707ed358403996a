package headers

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// CookiePrefix begins the name of every cookie of the gateway: the session, and with a hyphen after it the ones of a
// sign-in under way. Apps can neither read nor write a cookie whose name begins like this, in any case.
const CookiePrefix = "__Host-sallyport"

// App is what FromApp has to know of the app that answered.
type App struct {
	Origin    string   // public, such as https://wiki.corp.example:8443
	Upstreams []string // its upstreams' origins, such as http://10.0.0.5:8080: scheme, host and port, no path
}

// FromApp makes an answer's header fit to leave: it removes the fields of the table, the fields that Connection names
// and cookies that would replace the gateway's own, and turns the app's internal address in Location,
// Content-Location and Refresh into the public one. With status 101 the upgrade itself stays, since it is
// the answer's meaning. h is changed in place.
//
// blocked are the names of cookies that were removed, as the app spelt them, at most 64 bytes each and at most 8 of
// them; whoever records the exchange says so there.
func FromApp(h http.Header, status int, app App) (blocked []string) {
	upgrade := h["Upgrade"]
	for _, name := range namedByConnection(h) {
		delete(h, name)
	}
	for name := range h {
		if !isOrdinary(name) || fromApp.class(name) != passes {
			delete(h, name)
		}
	}
	if status == http.StatusSwitchingProtocols && len(upgrade) == 1 {
		SetUpgrade(h, upgrade[0])
	}
	blocked = dropOwnCookies(h)
	keepSignedIn(h)
	app.rewriteAddresses(h)
	return blocked
}

// maxBlocked bounds how much an app can make us write down about one answer.
const (
	maxBlocked     = 8
	maxBlockedName = 64
)

// dropOwnCookies removes every Set-Cookie that mentions our cookie prefix. The whole line counts, not its name: a
// nameless "=__Host-sallyport=x" comes back from browsers as "__Host-sallyport=x".
func dropOwnCookies(h http.Header) (blocked []string) {
	lines := h["Set-Cookie"]
	if !slices.ContainsFunc(lines, MentionsCookie) {
		return nil
	}
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		if !MentionsCookie(line) {
			kept = append(kept, line)
			continue
		}
		if len(blocked) < maxBlocked {
			name, _, _ := strings.Cut(strings.TrimLeft(line, " \t="), "=")
			blocked = append(blocked, name[:min(len(name), maxBlockedName)])
		}
	}
	delete(h, "Set-Cookie")
	if len(kept) > 0 {
		h["Set-Cookie"] = kept
	}
	return blocked
}

// MentionsCookie reports whether [CookiePrefix] occurs anywhere in s, in any case.
func MentionsCookie(s string) bool {
	for {
		i := strings.Index(s, "__")
		if i < 0 || len(s)-i < len(CookiePrefix) {
			return false
		}
		if strings.EqualFold(s[i:i+len(CookiePrefix)], CookiePrefix) {
			return true
		}
		s = s[i+1:]
	}
}

// keepSignedIn takes "cookies" and "*" out of Clear-Site-Data: browsers clear cookies for the whole registrable
// domain, so one app would sign people out of all the others (https://www.w3.org/TR/clear-site-data/ §3.1).
func keepSignedIn(h http.Header) {
	lines := h["Clear-Site-Data"]
	if lines == nil {
		return
	}
	var kept []string
	for _, line := range lines {
		for kind := range strings.SplitSeq(line, ",") {
			switch kind = strings.TrimSpace(kind); strings.ToLower(kind) {
			case `"cookies"`:
			case `"*"`:
				kept = append(kept, `"cache"`, `"storage"`)
			default:
				kept = append(kept, kind)
			}
		}
	}
	delete(h, "Clear-Site-Data")
	if len(kept) > 0 {
		h["Clear-Site-Data"] = []string{strings.Join(kept, ", ")}
	}
}

// rewriteAddresses replaces the app's own internal address, and its public one under the wrong scheme, by its origin.
// Addresses of anything else pass untouched; the gateway follows none of them.
func (app App) rewriteAddresses(h http.Header) {
	for _, name := range []string{"Location", "Content-Location"} {
		for i, value := range h[name] {
			h[name][i] = app.public(value)
		}
	}
	for i, value := range h["Refresh"] {
		// "5; url=http://10.0.0.5/": the HTML standard's syntax, browsers accept more; what is not understood passes.
		delay, target, found := strings.Cut(value, "=")
		if found && strings.HasSuffix(strings.ToLower(strings.TrimSpace(delay)), "url") {
			h["Refresh"][i] = delay + "=" + app.public(strings.Trim(strings.TrimSpace(target), `"'`))
		}
	}
}

// public is address as the app's users may know it.
func (app App) public(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return address
	}
	scheme := strings.ToLower(u.Scheme)
	inner := false
	for _, upstream := range app.Upstreams {
		if origin, err := url.Parse(upstream); err == nil {
			inner = inner || sameAuthority(u, origin) && (scheme == "" || scheme == origin.Scheme)
		}
	}
	if origin, err := url.Parse(app.Origin); err == nil && !inner {
		inner = scheme == "http" && sameAuthority(u, origin)
	}
	if !inner {
		return address
	}
	_, rest, _ := strings.Cut(address, "//")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return app.Origin + rest[i:]
	}
	return app.Origin + "/"
}

// sameAuthority compares host and port; a missing port is the one of the scheme a is read under.
func sameAuthority(a, origin *url.URL) bool {
	return strings.EqualFold(a.Hostname(), origin.Hostname()) && port(a, origin.Scheme) == port(origin, origin.Scheme)
}

func port(u *url.URL, scheme string) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case scheme == "https":
		return "443"
	}
	return "80"
}
