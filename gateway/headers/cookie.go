package headers

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// Cookies says how the cookies that an app sets are hardened. All become Secure.
type Cookies struct {
	// Script are the names of cookies that the app's own scripts read, which therefore do not become HttpOnly; one that ends
	// in * stands for all that begin so. Those that carry CSRF tokens to scripts, with csrf or xsrf in their names in any case,
	// need no mention. Default: none.
	Script []string `yaml:"script" config:"single"`
	// SameSite is what cookies are at least: "lax" and "strict" keep them from other sites' pages, "none" leaves that to the
	// app. Default "lax".
	SameSite string `yaml:"same_site" default:"lax" enum:"lax,strict,none"`
	// Domain is who gets the cookies: "host" is the app's own host alone, whatever Domain the app names; "keep" also other
	// apps, where the app names a domain that its host is in. Default "host".
	Domain string `yaml:"domain" default:"host" enum:"host,keep"`
}

// cookieRules are Cookies for one host.
type cookieRules struct {
	host       string // without port
	script     []string
	sameSite   int // of sameSites
	keepDomain bool
}

// sameSites are the values of SameSite, the strictest last (RFC 6265bis §5.6.7).
var sameSites = []string{"none", "lax", "strict"}

// sameSiteTexts are what is added for them.
var sameSiteTexts = []string{"", "; SameSite=Lax", "; SameSite=Strict"}

func (c *Cookies) rules(origin string) cookieRules {
	at, _ := parsePlace(origin)
	sameSite := slices.Index(sameSites, cmp.Or(c.SameSite, "lax"))
	return cookieRules{host: at.host, script: c.Script, sameSite: sameSite, keepDomain: c.Domain == "keep"}
}

const (
	// maxBlocked bounds how much an app can make us write down about one answer.
	maxBlocked     = 8
	maxBlockedName = 64
	// maxCookieLine is what a cookie may take, attributes included. Browsers drop those whose name and value take more than
	// 4096 bytes (RFC 6265bis §5.6).
	maxCookieLine = 8 << 10
)

// harden makes cookies fit to leave. Those that collide with the gateway's own, have no name or are too long are dropped.
func (c *cookieRules) harden(h http.Header) (blocked []string) {
	lines := h["Set-Cookie"]
	if lines == nil {
		return nil
	}
	kept := lines[:0]
	for _, line := range lines {
		if hardened, ok := c.hardened(line); ok {
			kept = append(kept, hardened)
			continue
		}
		if len(blocked) < maxBlocked {
			name, _, _ := strings.Cut(strings.TrimLeft(line, " \t="), "=")
			blocked = append(blocked, name[:min(len(name), maxBlockedName)])
		}
	}
	if h["Set-Cookie"] = kept; len(kept) == 0 {
		delete(h, "Set-Cookie")
	}
	return blocked
}

// hardened is one Set-Cookie line as it may leave. The whole line counts for collisions, not its name: a nameless
// "=__Host-sallyport=x" comes back from browsers as "__Host-sallyport=x".
func (c *cookieRules) hardened(line string) (string, bool) {
	pair, rest, _ := strings.Cut(line, ";")
	name, _, named := strings.Cut(pair, "=")
	if name = strings.Trim(name, " \t"); name == "" || !named || len(line) > maxCookieLine || MentionsCookie(line) {
		return "", false
	}
	found := c.attributes(rest)
	out := strings.TrimRight(line, "; \t")
	if found.domain || found.sameSite && found.same < c.sameSite {
		out = pair + c.without(rest, found)
	}
	secure, httpOnly, sameSite := "; Secure", "; HttpOnly", ""
	if found.secure {
		secure = ""
	}
	if found.httpOnly || c.isForScripts(name) {
		httpOnly = ""
	}
	if !found.sameSite || found.same < c.sameSite {
		sameSite = sameSiteTexts[c.sameSite]
	}
	return out + secure + httpOnly + sameSite, true
}

// attributes is what a cookie's attributes say. Of several of a name, the last one counts (RFC 6265bis §5.7).
type attributes struct {
	secure, httpOnly, sameSite bool
	same                       int  // of sameSites
	domain                     bool // there is one, and it has to go
}

func (c *cookieRules) attributes(rest string) (found attributes) {
	for attribute := range strings.SplitSeq(rest, ";") {
		switch name, value := splitAttribute(attribute); {
		case strings.EqualFold(name, "Secure"):
			found.secure = true
		case strings.EqualFold(name, "HttpOnly"):
			found.httpOnly = true
		case strings.EqualFold(name, "SameSite"):
			found.sameSite, found.same = true, slices.Index(sameSites, strings.ToLower(value))
		case strings.EqualFold(name, "Domain"):
			found.domain = !c.keepDomain || !c.isIn(value)
		}
	}
	return found
}

func splitAttribute(attribute string) (name, value string) {
	name, value, _ = strings.Cut(attribute, "=")
	return strings.Trim(name, " \t"), strings.Trim(value, " \t")
}

// isIn reports whether browsers would take a cookie of our host for a domain: the host is it or is below it (RFC 6265 §5.1.3).
func (c *cookieRules) isIn(domain string) bool {
	domain = strings.ToLower(strings.TrimPrefix(domain, "."))
	return domain == c.host || strings.Contains(domain, ".") && strings.HasSuffix(c.host, "."+domain)
}

// without is the attributes except those that have to go.
func (c *cookieRules) without(rest string, found attributes) string {
	var out strings.Builder
	for attribute := range strings.SplitSeq(rest, ";") {
		name, _ := splitAttribute(attribute)
		if found.domain && strings.EqualFold(name, "Domain") || found.sameSite && found.same < c.sameSite && strings.EqualFold(name, "SameSite") {
			continue
		}
		out.WriteByte(';')
		out.WriteString(attribute)
	}
	return out.String()
}

// isForScripts holds for what is declared, and for CSRF tokens, which scripts send back as a header: XSRF-TOKEN of Angular and
// Laravel, csrftoken of Django, _xsrf of Tornado, CSRF-Token-AB12C of Syncthing, csrf_access_token of Flask. A script that
// reads one can do no more than it could without.
func (c *cookieRules) isForScripts(name string) bool {
	for _, listed := range c.script {
		if start, is := strings.CutSuffix(listed, "*"); name == listed || is && strings.HasPrefix(name, start) {
			return true
		}
	}
	name = strings.ToLower(name)
	return strings.Contains(name, "csrf") || strings.Contains(name, "xsrf")
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
