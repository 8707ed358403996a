package signin_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sallyport/gateway/signin"
)

// The redirect corpora of other gateways, by family. None may lead anywhere but to a path on the same host.
var hostileTargets = map[string][]string{
	"REDIR-01": {"https://evil.example", "//evil.example", "///evil.example", "////evil.example", "https:evil.example", "http:/evil.example",
		"https:///evil.example", "javascript:alert(1)", "data:text/html,x", "//evil.example/%2f..", "/.//evil.example", "/..//evil.example",
		"/%2f/evil.example", "/%2f%2fevil.example", "//%2fevil.example", "HTTPS://evil.example", " https://evil.example", "evil.example", "%2f", "%2f.evil.example", ""},
	"REDIR-02": {`/\evil.example`, `\\evil.example`, `/\/evil.example`, `\/evil.example`, `/\\evil.example`, "/%5cevil.example", "/%5c%5cevil.example",
		"/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "\t//evil.example", "/%09/evil.example", "/%0a/evil.example", "/%00/evil.example",
		"/\u00a0/evil.example", "/\u2028//evil.example", "/\uff0fevil.example", "/\x00/evil.example", "/./\\evil.example"},
	"REDIR-04": {"https://wiki.corp.example@evil.example/", "https://wiki.corp.example:443@evil.example", "//wiki.corp.example@evil.example",
		"//evil.example#wiki.corp.example", "//evil.example?wiki.corp.example", "https://evil.example\\@wiki.corp.example", "@evil.example", ":80/"},
	"REDIR-06": {"https://wiki.corp.example.evil.example/", "//evilwiki.corp.example", "https://wiki.corp.example/page", "https://auth.corp.example:8443/"},
	"own":      {"/.sallyport/return?code=x", "/.sallyport", "/.sallyport/", "/.sallyport/signout", "/%2esallyport/return", "/a/../.sallyport/return", "//.sallyport/return", "/a/./b", "/a/.."},
}

func TestREDIRTargetsStayOnTheHost(t *testing.T) {
	for id, targets := range hostileTargets {
		for _, target := range targets {
			if got := signin.Target(target); got != "/" {
				t.Errorf("%s: Target(%q) = %q, want /", id, target, got)
			}
		}
	}
	for target, want := range map[string]string{
		"/":                          "/",
		"/page":                      "/page",
		"/dir/":                      "/dir/",
		"/page?rd=https://x.example": "/page?rd=https://x.example",
		"/page?":                     "/page",
		"/page#part":                 "/page",
		"/a%20b/%C3%A4":              "/a%20b/%C3%A4",
		"/a:b/c@d":                   "/a:b/c@d",
		"/.well-known/x":             "/.well-known/x",
		"/.sallyportal":              "/.sallyportal",
		"/a//b%2Fc;d/100%25":         "/a//b%2Fc;d/100%25",
	} {
		if got := signin.Target(target); got != want {
			t.Errorf("Target(%q) = %q, want %q", target, got, want)
		}
	}
}

// REDIR-01 to -06 through the whole sign-in, with and without a session, and in the last step again.
func TestREDIRNoStepLeavesTheConfiguredHosts(t *testing.T) {
	b := newBed(t)
	signedIn := b.browser()
	signedIn.open(authOrigin + "/")
	allowed := []string{authOrigin + "/", wikiOrigin + "/", b.idp.Issuer + "/"}
	for id, targets := range hostileTargets {
		for _, target := range targets {
			for _, br := range []*browser{b.browser(), signedIn} {
				back := strings.Repeat("A", 26) + "." + strings.Repeat("a", 43)
				start := authOrigin + "/.sallyport/start?" + url.Values{"app": {"wiki.corp.example"}, "rd": {target}, "back": {back}}.Encode()
				for next := start; next != ""; {
					a := br.step(next)
					if next = a.location; next != "" && !startsWithAny(next, allowed) {
						t.Fatalf("%s %q: redirected to %s", id, target, next)
					}
					if strings.Contains(a.body+a.act, "evil") {
						t.Fatalf("%s %q: repeated in %s", id, target, a.body)
					}
				}
			}
			br := b.browser()
			last := mustURL(t, br.until(wikiOrigin+"/", signin.ReturnPath))
			q := last.Query()
			q.Set("rd", target)
			last.RawQuery = q.Encode()
			if a := br.step(last.String()); a.location != wikiOrigin+"/" {
				t.Fatalf("%s %q: returned to %q", id, target, a.location)
			}
		}
	}
}

func startsWithAny(s string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// REDIR-09: headers that name other hosts change no address.
func TestREDIR09ForwardingHeadersChangeNoAddress(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Original-Url", "Forwarded", "X-Forwarded-For"} {
		br.header[name] = []string{"evil.example"}
	}
	br.open(wikiOrigin+"/page").wantUser(t, "alice-1", wikiOrigin+"/page")
	if strings.Contains(br.pages.String(), "evil") || strings.Contains(b.records.text(), "evil") {
		t.Error("a forwarding header shows in an answer or a record")
	}
}

// Whatever the target, a browser that follows it stays on the host, and reading it again changes nothing.
func FuzzTarget(f *testing.F) {
	for _, targets := range hostileTargets {
		for _, target := range targets {
			f.Add(target)
		}
	}
	f.Add("/page?q=%20&r#x")
	f.Fuzz(func(t *testing.T, rd string) {
		if problem := leadsAstray(signin.Target, rd); problem != "" {
			t.Fatalf("Target(%q) %s", rd, problem)
		}
	})
}

// leadsAstray says what a browser, or reading it again, makes of a target that it should not.
func leadsAstray(target func(string) string, rd string) string {
	got := target(rd)
	switch again := target(got); {
	case again != got:
		return fmt.Sprintf("is %q, and of that %q", got, again)
	case got == "" || got[0] != '/' || len(got) > 1 && (got[1] == '/' || got[1] == '\\'):
		return fmt.Sprintf("is %q: no path", got)
	case strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }):
		return fmt.Sprintf("is %q, which holds what browsers change", got)
	}
	base, err := url.Parse(wikiOrigin + "/some/where")
	if err != nil {
		return err.Error()
	}
	u, err := base.Parse(got)
	if err != nil || u.Scheme != "https" || u.Host != base.Host || u.User != nil {
		return fmt.Sprintf("is %q and leads to %v (%v)", got, u, err)
	}
	if strings.Contains(u.Path+"/", "/./") || strings.Contains(u.Path+"/", "/../") || strings.HasPrefix(u.Path, "//") || strings.HasPrefix(u.Path+"/", signin.Prefix) {
		return fmt.Sprintf("is %q: path %q", got, u.Path)
	}
	return ""
}

// Each of these has been a gateway's way to check where to return to; the corpus finds what is wrong with it.
func TestTargetCorpusFindsNaiveChecks(t *testing.T) {
	orRoot := func(ok func(string) bool) func(string) string {
		return func(rd string) string {
			if ok(rd) {
				return rd
			}
			return "/"
		}
	}
	for name, naive := range map[string]func(string) string{
		"a slash":          orRoot(func(rd string) bool { return strings.HasPrefix(rd, "/") }),
		"a slash, not two": orRoot(func(rd string) bool { return strings.HasPrefix(rd, "/") && !strings.HasPrefix(rd, "//") }),
		"no backslash either": orRoot(func(rd string) bool {
			return strings.HasPrefix(rd, "/") && !strings.HasPrefix(rd, "//") && !strings.Contains(rd, `\`)
		}),
		"no host": orRoot(func(rd string) bool {
			u, err := url.Parse(rd)
			return err == nil && u.Host == "" && u.Scheme == ""
		}),
		"the host's name": orRoot(func(rd string) bool {
			return strings.Contains(rd, "wiki.corp.example") || strings.HasPrefix(rd, "/page")
		}),
		"the path alone": func(rd string) string {
			u, err := url.Parse(rd)
			if err != nil || !strings.HasPrefix(u.Path, "/") {
				return "/"
			}
			return u.Path
		},
	} {
		found := false
		for _, targets := range hostileTargets {
			found = found || slices.ContainsFunc(targets, func(target string) bool { return leadsAstray(naive, target) != "" })
		}
		if !found {
			t.Errorf("%s passes the corpus", name)
		}
	}
}

// spellings are some thousand ways to write an address elsewhere, made of the parts that the corpora of other gateways are
// made of.
func spellings() []string {
	leads := []string{"", "/", "//", "///", "////", "/\\", "\\", "\\\\", "\\/", "/\\/", "\\/\\/", "/%5c", "/%5C%5c", "%5c%5c", "/%2f", "/%2F%2f", "%2f%2f", "/%252f",
		"/\t/", "/\n/", "/\r\n/", "\t//", "/%09/", "/%0d%0a/", "/%00/", "/ /", " //", "/.//", "/..//", "/./\\", "/../\\", "/;//", "/;@", "/%2e%2e//", "/%2e/%2f",
		"/a/..//", "/a/../..//", "/.sallyport/..//", "http:", "https:", "http:/", "https:/", "http://", "https://", "HTTPS://", "https:\\\\", "https:///", "ht\ttps://", "javascript://",
		"javascript:", "data:text/html,", "vbscript:", "blob:https://", "file://", "ftp://", "mailto:", "//https://", "/https://", "@", "/@", "//@", "https://wiki.corp.example@",
		"//wiki.corp.example@", "https://wiki.corp.example:8443@", "https://wiki.corp.example\\@", "//wiki.corp.example%40", "\u3000//", "\u00a0//", "/\u2028/", "\uff0f\uff0f", "/\u200b/", "\x00//", "\x7f//"}
	hosts := []string{"evil.example", "evil.example:443", "EVIL.example.", "wiki.corp.example.evil.example", "evilwiki.corp.example", "[::ffff:192.0.2.1]", "3221225985", "0xc0.0.2.1",
		"evil%2eexample", "evil%E3%80%82example", "evil\u3002example", "evil.example%00.wiki.corp.example", "evil.example\\.wiki.corp.example", "evil.example%23.wiki.corp.example"}
	ends := []string{"", "/", "/%2f..", "/..", "?wiki.corp.example", "#wiki.corp.example", "/..;/x", "\\@wiki.corp.example/"}
	var all []string
	for _, lead := range leads {
		for _, host := range hosts {
			for _, end := range ends {
				all = append(all, lead+host+end)
			}
		}
	}
	return all
}

func TestREDIREverySpellingStaysOnTheHost(t *testing.T) {
	all := spellings()
	if len(all) < 5000 {
		t.Errorf("only %d spellings", len(all))
	}
	for _, rd := range all {
		if problem := leadsAstray(signin.Target, rd); problem != "" {
			t.Errorf("Target(%q) %s", rd, problem)
		}
	}
	caught := 0
	for _, rd := range all {
		u, err := url.Parse(rd)
		naive := func(rd string) string {
			if err == nil && u.Host == "" && u.Scheme == "" && strings.HasPrefix(rd, "/") {
				return rd
			}
			return "/"
		}
		if leadsAstray(naive, rd) != "" {
			caught++
		}
	}
	if caught < 100 {
		t.Errorf("a naive check fails %d spellings only", caught)
	}
}

// elsewhere says why a Location is not one of ours.
func elsewhere(location string, allowed []string) string {
	u, err := url.Parse(location)
	switch {
	case err != nil || strings.ContainsAny(location, "\\\t\r\n ") || u.User != nil:
		return "it can be read in two ways"
	case !slices.Contains(allowed, u.Scheme+"://"+u.Host):
		return "it is on another host"
	case strings.HasPrefix(u.Path, "//"):
		return "its path is a host to browsers"
	}
	return ""
}

// REDIR-01 to -09: every endpoint that takes an address, before and after the sign-in, by each parameter that somebody might
// believe in.
func TestREDIREveryEndpointKeepsToOurHosts(t *testing.T) {
	b := newBed(t)
	signedIn := b.browser()
	signedIn.open(wikiOrigin + "/")
	allowed := []string{authOrigin, wikiOrigin, b.idp.Issuer}
	back := strings.Repeat("A", 26) + "." + strings.Repeat("a", 43)
	random := seeded(t)
	all := spellings()
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, rd := range all[:300*rounds(t)] {
		q := url.Values{"app": {"wiki.corp.example"}, "back": {back}, "state": {rd}, "code": {rd}}
		for _, name := range []string{"rd", "redirect", "return_to", "next", "url", "post_logout_redirect_uri"} {
			q.Set(name, rd)
		}
		portal := url.Values{"rd": {rd}}
		stranger := b.browser()
		for _, address := range []string{
			authOrigin + signin.StartPath + "?" + q.Encode(), authOrigin + signin.StartPath + "?" + portal.Encode(),
			authOrigin + signin.SignedOutPath + "?" + q.Encode(), authOrigin + signin.SignOutPath + "?" + q.Encode(),
			authOrigin + signin.CallbackPath + "corp?" + q.Encode(), wikiOrigin + signin.ReturnPath + "?" + q.Encode(), wikiOrigin + signin.SignOutPath + "?" + q.Encode(),
		} {
			for _, br := range []*browser{stranger, signedIn} {
				a := br.step(address)
				if a.location != "" {
					if problem := elsewhere(a.location, allowed); problem != "" {
						t.Fatalf("%q at %s leads to %q: %s", rd, address, a.location, problem)
					}
				}
				for _, link := range append(a.choices, a.act) {
					link = link[strings.LastIndex(link, " ")+1:]
					if problem := elsewhere(link, append(allowed, "://")); problem != "" && link != "" {
						t.Fatalf("%q at %s links to %q: %s", rd, address, link, problem)
					}
				}
			}
		}
	}
	for _, bad := range []string{"//evil.example", "https://evil.example/", "https://wiki.corp.example:8443@evil.example/", wikiOrigin + "//evil.example", wikiOrigin + "/\\evil.example"} {
		if elsewhere(bad, allowed) == "" {
			t.Errorf("the test does not notice %q", bad)
		}
	}
}
