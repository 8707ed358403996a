package headers

import (
	"maps"
	"net/http"
	"slices"
	"testing"
)

// Of what the app says and what the configuration says, the stricter leaves: in browsers that know frame-ancestors, and in
// those that know X-Frame-Options alone.
func TestTheStricterPromiseCounts(t *testing.T) {
	const self, none = "frame-ancestors 'self'", "frame-ancestors 'none'"
	for _, c := range []struct {
		name       string
		cfg        Security
		said, want http.Header
	}{
		{"nothing said", Security{}, http.Header{}, http.Header{"Content-Security-Policy": {self}, "X-Frame-Options": {"SAMEORIGIN"}}},
		{"deny said the old way", Security{}, http.Header{"X-Frame-Options": {"deny"}}, http.Header{"Content-Security-Policy": {none}, "X-Frame-Options": {"DENY"}}},
		{"less said the old way", Security{Frame: []string{"none"}}, http.Header{"X-Frame-Options": {"SAMEORIGIN"}}, http.Header{"Content-Security-Policy": {none}, "X-Frame-Options": {"DENY"}}},
		{"said both ways", Security{}, http.Header{"X-Frame-Options": {"DENY"}, "Content-Security-Policy": {"Frame-Ancestors https://x.example"}},
			http.Header{"Content-Security-Policy": {"Frame-Ancestors https://x.example", self}, "X-Frame-Options": {"SAMEORIGIN"}}},
		{"another policy", Security{}, http.Header{"Content-Security-Policy": {"default-src 'self'"}}, http.Header{"Content-Security-Policy": {"default-src 'self'", self}, "X-Frame-Options": {"SAMEORIGIN"}}},
		{"others may", Security{Frame: []string{"self", "https://intranet.corp.example"}}, http.Header{},
			http.Header{"Content-Security-Policy": {"frame-ancestors 'self' https://intranet.corp.example"}, "X-Frame-Options": nil}},
		{"others may, the app says not", Security{Frame: []string{"https://intranet.corp.example"}}, http.Header{"X-Frame-Options": {"SAMEORIGIN"}},
			http.Header{"Content-Security-Policy": {self}, "X-Frame-Options": {"SAMEORIGIN"}}},
		{"left to the app", Security{Frame: []string{"any"}}, http.Header{"X-Frame-Options": {"DENY"}}, http.Header{"Content-Security-Policy": nil, "X-Frame-Options": {"DENY"}}},
		{"sniffing", Security{}, http.Header{"X-Content-Type-Options": {"sniff"}}, http.Header{"X-Content-Type-Options": {"nosniff"}}},
		{"sniffing left to the app", Security{NoSniff: new(false)}, http.Header{}, http.Header{"X-Content-Type-Options": nil}},
		{"referrer stricter", Security{}, http.Header{"Referrer-Policy": {"no-referrer"}}, http.Header{"Referrer-Policy": {"no-referrer"}}},
		{"referrer weaker", Security{}, http.Header{"Referrer-Policy": {"unsafe-url"}}, http.Header{"Referrer-Policy": {"strict-origin-when-cross-origin"}}},
		{"referrer, the last counts", Security{}, http.Header{"Referrer-Policy": {"no-referrer, origin"}}, http.Header{"Referrer-Policy": {"strict-origin-when-cross-origin"}}},
		{"referrer configured", Security{Referrer: "same-origin"}, http.Header{"Referrer-Policy": {"strict-origin"}}, http.Header{"Referrer-Policy": {"same-origin"}}},
		{"opener stricter", Security{}, http.Header{"Cross-Origin-Opener-Policy": {`same-origin; report-to="x"`}}, http.Header{"Cross-Origin-Opener-Policy": {`same-origin; report-to="x"`}}},
		{"opener weaker", Security{}, http.Header{"Cross-Origin-Opener-Policy": {"unsafe-none"}}, http.Header{"Cross-Origin-Opener-Policy": {"same-origin-allow-popups"}}},
		{"opener left to the app", Security{Opener: "any"}, http.Header{"Cross-Origin-Opener-Policy": {"unsafe-none"}}, http.Header{"Cross-Origin-Opener-Policy": {"unsafe-none"}}},
		{"resource stricter", Security{}, http.Header{"Cross-Origin-Resource-Policy": {"same-origin"}}, http.Header{"Cross-Origin-Resource-Policy": {"same-origin"}}},
		{"resource weaker", Security{}, http.Header{"Cross-Origin-Resource-Policy": {"cross-origin"}}, http.Header{"Cross-Origin-Resource-Policy": {"same-site"}}},
		{"features", Security{Deny: []string{"camera"}}, http.Header{"Permissions-Policy": {"camera=*, usb=()"}}, http.Header{"Permissions-Policy": {"camera=*, usb=()", "camera=()"}}},
		{"no features", Security{Deny: []string{}}, http.Header{}, http.Header{"Permissions-Policy": nil}},
	} {
		cfg := wikiConfig()
		cfg.Security = c.cfg
		h := c.said.Clone()
		NewApp(cfg).Promise(h, 200)
		for name, want := range c.want {
			if !slices.Equal(h[name], want) {
				t.Errorf("%s: %s is %q, want %q", c.name, name, h[name], want)
			}
		}
	}
}

// What one answer says more, the next one does not hear of.
func TestPromisesAreNotChangedByAnswers(t *testing.T) {
	app := NewApp(wikiConfig())
	first := http.Header{}
	app.Promise(first, 200)
	want := first.Clone()
	for name := range first {
		first.Add(name, "more")
		first.Set(name, "else")
	}
	again := http.Header{}
	if app.Promise(again, 200); !maps.EqualFunc(again, want, slices.Equal) {
		t.Errorf("then said %v, want %v", again, want)
	}
	shared := make([]string, 1, 4) // as an answer from a cache may have
	shared[0] = "default-src 'self'"
	app.Promise(http.Header{"Content-Security-Policy": shared}, 200)
	if got := shared[:2]; got[1] != "" {
		t.Errorf("another answer's values became %q", got)
	}
}

func TestSettingsThatMeanNothingAreRefused(t *testing.T) {
	for _, s := range []Security{{Frame: []string{"any", "self"}}, {Frame: []string{"none", "https://a.example"}}, {Frame: []string{"*"}}, {Frame: []string{"https://a.example/"}},
		{Frame: []string{"https://a.example; script-src *"}}, {Deny: []string{"camera=*"}}, {Deny: []string{""}}} {
		if s.Check() == nil {
			t.Errorf("%+v passes", s)
		}
	}
	for _, c := range []CORS{{Origins: []string{"*"}}, {Origins: []string{"https://a.example"}, Methods: []string{"put"}}, {Origins: []string{"null"}}, {Origins: []string{"https://a.example/"}}, {Origins: []string{"https://A.example"}},
		{Origins: []string{"https://*.example"}}, {Credentials: true}, {Origins: []string{"https://a.example"}, Headers: []string{"*"}}, {MaxAge: -1}} {
		if c.Check() == nil {
			t.Errorf("%+v passes", c)
		}
	}
	for name, claim := range map[string]string{"X-Webauth-User": "nobody", "Authorization": "assertion", "Cookie": "id", "Host": "id", "Connection": "id", "X-Forwarded-For": "id",
		"X-Sallyport-User": "id", "Content-Type": "id", "X_User": "id", "X User": "id", "": "id", "Transfer-Encoding": "id", "X-Original-Url": "id", "Origin": "email",
		"Sec-Fetch-Site": "id", "Sallyport-Authorization": "id", "X-Request-Id": "id", "X-Http-Method-Override": "id"} {
		if CheckIdentityAs(map[string]string{name: claim}) == nil {
			t.Errorf("%s: %s passes", name, claim)
		}
	}
	if err := CheckIdentityAs(map[string]string{"X-User": "id", "x-user": "email"}); err == nil {
		t.Error("one name twice passes")
	}
	if err := CheckIdentityAs(map[string]string{"X-WEBAUTH-USER": "email", "X-Forwarded-Groups": "groups", "Remote-User": "username", "App-Jwt": "assertion"}); err != nil {
		t.Error(err)
	}
	if (&Security{}).Check() != nil || (&CORS{}).Check() != nil {
		t.Error("nothing at all is refused")
	}
}

// answers are as apps send them: small, and as a page of a larger app.
func answer() http.Header {
	return http.Header{"Content-Type": {"text/html; charset=utf-8"}, "Content-Length": {"5120"}, "Date": {"Mon, 23 Nov 2026 13:00:00 GMT"}, "Etag": {`W/"1400-18f"`},
		"Cache-Control": {"private, max-age=0, must-revalidate"}, "Server": {"nginx/1.27"}, "X-Powered-By": {"PHP/8.4"}, "Vary": {"Accept-Encoding"},
		"Set-Cookie": {"sid=0123456789abcdef0123456789abcdef; Path=/; HttpOnly"}, "X-Request-Id": {"0190a7c2-0000-7000-8000-000000000000"}}
}

func BenchmarkFromApp(b *testing.B) {
	app := NewApp(wikiConfig())
	for name, cookies := range map[string][]string{"plain": nil, "cookie": answer()["Set-Cookie"]} {
		b.Run(name, func(b *testing.B) {
			h, kept := http.Header{}, answer()
			delete(kept, "Set-Cookie")
			b.ReportAllocs()
			for b.Loop() {
				clear(h)
				maps.Copy(h, kept)
				if cookies != nil {
					h["Set-Cookie"] = []string{cookies[0]}
				}
				if _, err := app.FromApp(h, 200); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPromise(b *testing.B) {
	app := NewApp(wikiConfig())
	h := http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		clear(h)
		app.Promise(h, 200)
	}
}

func BenchmarkFromClient(b *testing.B) {
	h := http.Header{"Accept": {"text/html"}, "Accept-Encoding": {"gzip, br"}, "Accept-Language": {"de"}, "Cookie": {"a=1"}, "User-Agent": {"Mozilla/5.0"}, "Sec-Fetch-Mode": {"navigate"},
		"Sec-Fetch-Site": {"none"}, "Sec-Fetch-Dest": {"document"}, "Upgrade-Insecure-Requests": {"1"}, "X-Requested-With": {"XMLHttpRequest"}, "Cache-Control": {"max-age=0"}, "Referer": {"https://a/"}}
	b.ReportAllocs()
	for b.Loop() {
		FromClient(h)
	}
}
