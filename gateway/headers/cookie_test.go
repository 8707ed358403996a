package headers

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestAppsCannotReplaceTheSession(t *testing.T) { // RESP-04, COOK-18
	h := http.Header{"Set-Cookie": {
		"app=1; Path=/; Secure; HttpOnly; SameSite=Strict",
		"__Host-sallyport=evil; Path=/; Secure",
		"__HOST-Sallyport=evil; Domain=example.test",
		"__Host-sallyport-flow-x=evil",
		"=__Host-sallyport=evil",
		`"__Host-sallyport"=evil`,
	}}
	blocked := clean(t, h, 200)
	if want := []string{"app=1; Path=/; Secure; HttpOnly; SameSite=Strict"}; !slices.Equal(h["Set-Cookie"], want) {
		t.Errorf("left are %q", h["Set-Cookie"])
	}
	want := []string{"__Host-sallyport", "__HOST-Sallyport", "__Host-sallyport-flow-x", "__Host-sallyport", `"__Host-sallyport"`}
	if !slices.Equal(blocked, want) {
		t.Errorf("blocked are %q, want %q", blocked, want)
	}
	many := http.Header{"Set-Cookie": slices.Repeat([]string{"__Host-sallyport" + strings.Repeat("x", 1000)}, 100)}
	if blocked := clean(t, many, 200); len(blocked) != maxBlocked || len(blocked[0]) != maxBlockedName || many["Set-Cookie"] != nil {
		t.Errorf("blocked are %d names, left %d", len(blocked), len(many["Set-Cookie"]))
	}
}

// COOK-15 for the apps' cookies: Secure, HttpOnly and SameSite are there, and Domain goes no further than it may.
func TestCookiesOfAppsAreHardened(t *testing.T) {
	const all = "; Secure; HttpOnly; SameSite=Lax"
	for _, c := range []struct {
		name       string
		cfg        Cookies
		sent, want string // want empty: dropped
	}{
		{"bare", Cookies{}, "a=1", "a=1" + all},
		{"semicolon at the end", Cookies{}, "a=1; Path=/; ", "a=1; Path=/" + all},
		{"complete", Cookies{}, "a=1; SECURE; httponly; samesite=lax", "a=1; SECURE; httponly; samesite=lax"},
		{"stricter", Cookies{}, "a=1; SameSite=Strict", "a=1; SameSite=Strict; Secure; HttpOnly"},
		{"weaker", Cookies{}, "a=1; SameSite=None; Secure; Partitioned", "a=1; Secure; Partitioned; HttpOnly; SameSite=Lax"},
		{"the last counts", Cookies{}, "a=1; SameSite=Strict; SameSite=None", "a=1" + all},
		{"nonsense", Cookies{}, "a=1; SameSite=Sometimes", "a=1" + all},
		{"left to the app", Cookies{SameSite: "none"}, "a=1; SameSite=None", "a=1; SameSite=None; Secure; HttpOnly"},
		{"left to an app that is silent", Cookies{SameSite: "none"}, "a=1", "a=1; Secure; HttpOnly"},
		{"strict", Cookies{SameSite: "strict"}, "a=1; SameSite=Lax", "a=1; Secure; HttpOnly; SameSite=Strict"},
		{"declared", Cookies{Script: []string{"ui", "theme-*"}}, "ui=1", "ui=1; Secure; SameSite=Lax"},
		{"declared by its beginning", Cookies{Script: []string{"ui", "theme-*"}}, "theme-dark=1", "theme-dark=1; Secure; SameSite=Lax"},
		{"not declared", Cookies{Script: []string{"ui"}}, "uid=1", "uid=1" + all},
		{"csrf by convention", Cookies{}, "XSRF-TOKEN=1", "XSRF-TOKEN=1; Secure; SameSite=Lax"},
		{"Syncthing's csrf token", Cookies{}, "CSRF-Token-AB12C=1", "CSRF-Token-AB12C=1; Secure; SameSite=Lax"},
		{"an app's own HttpOnly", Cookies{}, "_csrf=1; HttpOnly", "_csrf=1; HttpOnly; Secure; SameSite=Lax"},
		{"domain of all apps", Cookies{}, "a=1; Domain=corp.example; Path=/", "a=1; Path=/" + all},
		{"domain kept", Cookies{Domain: "keep"}, "a=1; Domain=.corp.example", "a=1; Domain=.corp.example" + all},
		{"own domain kept", Cookies{Domain: "keep"}, "a=1; domain=WIKI.corp.example", "a=1; domain=WIKI.corp.example" + all},
		{"another's domain", Cookies{Domain: "keep"}, "a=1; Domain=git.corp.example", "a=1" + all},
		{"an internal domain", Cookies{Domain: "keep"}, "a=1; Domain=wiki.internal", "a=1" + all},
		{"a top domain", Cookies{Domain: "keep"}, "a=1; Domain=example", "a=1" + all},
		{"a part of a label", Cookies{Domain: "keep"}, "a=1; Domain=orp.example", "a=1" + all},
		{"the last domain counts", Cookies{Domain: "keep"}, "a=1; Domain=corp.example; Domain=evil.example", "a=1" + all},
		{"no name", Cookies{}, "=1", ""},
		{"no value", Cookies{}, "a", ""},
		{"nothing", Cookies{}, "; Path=/", ""},
		{"too long", Cookies{}, "a=" + strings.Repeat("x", maxCookieLine), ""},
	} {
		cfg := wikiConfig()
		cfg.Cookies = c.cfg
		h := http.Header{"Set-Cookie": {c.sent}}
		blocked, err := NewApp(cfg).FromApp(h, 200)
		if got := h.Get("Set-Cookie"); got != c.want || err != nil || (blocked != nil) != (c.want == "") {
			t.Errorf("%s: %.60q became %q, want %q; blocked %q, %v", c.name, c.sent, got, c.want, blocked, err)
		}
	}
}

var hostileCookies = []string{"a=1", "a=1; SameSite=None", "a=1;samesite = none ; SameSite=NONE", "a=1; Domain=corp.example", "a=1;\tdomain=corp.example",
	"__Host-sallyport=x", "=__Host-sallyport=x", "a=1; Path=/; x=__HOST-SALLYPORT", " a = 1", "a=1; Secure=; HttpOnly=no", "a=1; SecureX; HttpOnlyX", ";", "a=\"1; Secure\"; Path=/",
	"a=1; Domain=", "a=1; Domain=evil.example; Domain=corp.example"}

// FuzzCookie: whatever an app sets, a browser keeps it from other hosts, other sites, scripts and plain connections, and
// hardening again changes nothing.
func FuzzCookie(f *testing.F) {
	for _, line := range hostileCookies {
		f.Add(line)
	}
	rules := (&Cookies{}).rules("https://wiki.corp.example:8443")
	f.Fuzz(func(t *testing.T, line string) {
		if problem := softCookie(rules.hardened, line); problem != "" {
			t.Errorf("%q %s", line, problem)
		}
	})
}

func softCookie(harden func(string) (string, bool), line string) string {
	if !isText([]string{line}) {
		return ""
	}
	out, ok := harden(line)
	if !ok {
		return ""
	}
	if MentionsCookie(out) {
		return "collides: " + out
	}
	name, found := browsersCookie(out)
	switch {
	case name == "":
		return "has no name: " + out
	case !found["secure"] || !found["httponly"] && !strings.Contains(strings.ToLower(name), "csrf") && !strings.Contains(strings.ToLower(name), "xsrf"):
		return "is soft: " + out
	case !found["samesite=lax"] && !found["samesite=strict"]:
		return "goes across sites: " + out
	case found["domain"]:
		return "goes to other hosts: " + out
	}
	if again, ok := harden(out); again != out && len(out) <= maxCookieLine || !ok && len(out) <= maxCookieLine {
		return "changes again: " + out + " to " + again
	}
	return ""
}

// browsersCookie reads a cookie as RFC 6265bis §5.6 and §5.7 have it, apart from the product.
func browsersCookie(line string) (name string, found map[string]bool) {
	found = map[string]bool{}
	parts := strings.Split(line, ";")
	name, _, _ = strings.Cut(parts[0], "=")
	sameSite := ""
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		key, value = strings.ToLower(strings.Trim(key, " \t")), strings.ToLower(strings.Trim(value, " \t"))
		if key == "samesite" {
			sameSite = value
			continue
		}
		if key == "domain" && value == "" {
			continue
		}
		found[key] = true
	}
	found["samesite="+sameSite] = true
	return strings.Trim(name, " \t"), found
}

func TestCookieCorpusFindsNaiveHardening(t *testing.T) {
	for name, naive := range map[string]func(string) (string, bool){
		"only appending": func(s string) (string, bool) { return s + "; Secure; HttpOnly; SameSite=Lax", !MentionsCookie(s) },
		"words anywhere": func(s string) (string, bool) { return addUnlessThere(s), !MentionsCookie(s) },
		"names only":     func(s string) (string, bool) { return s, !strings.HasPrefix(s, CookiePrefix) },
		"one way to write": func(s string) (string, bool) {
			return strings.ReplaceAll(addUnlessThere(s), "; Domain=corp.example", ""), !MentionsCookie(s)
		},
	} {
		if !slices.ContainsFunc(hostileCookies, func(line string) bool { return softCookie(naive, line) != "" }) {
			t.Errorf("%s passes the corpus", name)
		}
	}
}

func addUnlessThere(s string) string {
	for _, attribute := range []string{"Secure", "HttpOnly", "SameSite=Lax"} {
		if !strings.Contains(s, attribute) {
			s += "; " + attribute
		}
	}
	return s
}
