package headers

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// placesConfig is the wiki among other apps.
func placesConfig() AppConfig {
	cfg := wikiConfig()
	cfg.InternalHosts = []string{"wiki-int", "10.0.0.6"}
	cfg.Others = []Address{
		{Origin: "https://git.corp.example", Path: "/", Upstreams: []string{"http://git.internal:3000"}},
		{Origin: "https://tools.corp.example", Path: "/grafana/", Upstreams: []string{"http://tools.internal"}},
		{Origin: "https://tools.corp.example", Path: "/ci/", Prefix: "/ci", Upstreams: []string{"http://ci.internal:8000"}},
		{Origin: "https://unix.corp.example", Path: "/", Upstreams: []string{"unix:/run/app.sock"}},
	}
	return cfg
}

// removed is what an address becomes that people may not know.
const removed = "(removed)"

var hostileAddresses = map[string]string{
	// the app's own
	"http://10.0.0.5:8080/login?x=1#y": "https://wiki.corp.example:8443/login?x=1#y",
	"http://10.0.0.5:8080":             "https://wiki.corp.example:8443/",
	"http://10.0.0.5:8080?x":           "https://wiki.corp.example:8443/?x",
	"//10.0.0.5:8080/a":                "https://wiki.corp.example:8443/a",
	"https://WIKI.internal/a":          "https://wiki.corp.example:8443/a",
	"https://wiki.internal:443/a":      "https://wiki.corp.example:8443/a",
	"https://wiki.internal./a":         "https://wiki.corp.example:8443/a",
	"http://x@10.0.0.5:8080/":          "https://wiki.corp.example:8443/",
	"http://wiki.corp.example:8443/a":  "https://wiki.corp.example:8443/a",
	"http://wiki.corp.example/a":       "https://wiki.corp.example:8443/a",
	"http://wiki-int/a":                "https://wiki.corp.example:8443/a",
	"https://Wiki-Int:9999/a":          "https://wiki.corp.example:8443/a",
	"http://10.0.0.6":                  "https://wiki.corp.example:8443/",
	// as browsers read them
	`http:\\10.0.0.5:8080\a`:     `https://wiki.corp.example:8443/a`,
	"http:///10.0.0.5:8080/a":    "https://wiki.corp.example:8443/a",
	"http:10.0.0.5:8080/a":       "https://wiki.corp.example:8443/a",
	"ht\ttp://10.0.\t0.5:8080/a": "https://wiki.corp.example:8443/a",
	" http://10.0.0.5:8080/a":    "https://wiki.corp.example:8443/a",
	`/\10.0.0.5:8080/a`:          "https://wiki.corp.example:8443/a",
	"HTTP://10.0.0.5:8080/%zz":   "https://wiki.corp.example:8443/%zz",
	// in other spellings
	"https://10.0.0.5:8080/i":           "https://wiki.corp.example:8443/i", // as an app says that believes our X-Forwarded-Proto
	"ws://10.0.0.5:8080/i":              "https://wiki.corp.example:8443/i",
	"WSS://10.0.0.5:8080/i":             "https://wiki.corp.example:8443/i",
	"http://10.0.0.5:08080/i":           "https://wiki.corp.example:8443/i",
	"http://10.0.0.5.:8080/i":           "https://wiki.corp.example:8443/i",
	"http://10.5:8080/i":                "https://wiki.corp.example:8443/i",
	"http://10.0.5:8080/i":              "https://wiki.corp.example:8443/i",
	"http://0xa.5:8080/i":               "https://wiki.corp.example:8443/i",
	"http://0XA.0x0.0.0x05:8080/i":      "https://wiki.corp.example:8443/i",
	"http://167772165:8080/i":           "https://wiki.corp.example:8443/i",
	"http://0x0a000005:8080/i":          "https://wiki.corp.example:8443/i",
	"http://012.0.0.05:8080/i":          "https://wiki.corp.example:8443/i",
	"http://[::ffff:10.0.0.5]:8080/i":   "https://wiki.corp.example:8443/i",
	"http://[::FFFF:a00:5]:8080/i":      "https://wiki.corp.example:8443/i",
	"http://10.0.0.%35:8080/i":          "https://wiki.corp.example:8443/i",
	"http://１０.0.0.５:8080/i":            "https://wiki.corp.example:8443/i",
	"http://10。0｡0．5:8080/i":            "https://wiki.corp.example:8443/i",
	"http://%EF%BC%91%EF%BC%90.5:8080/": "https://wiki.corp.example:8443/",
	"http://%77iki-int/x":               "https://wiki.corp.example:8443/x",
	"http://wiki-int%2e/x":              "https://wiki.corp.example:8443/x",
	"http://0xa.6/x":                    "https://wiki.corp.example:8443/x",
	"http://wiki.internal/a":            "https://wiki.corp.example:8443/a",
	"https://git.internal:03000/x":      "https://git.corp.example/x",
	// other apps'
	"http://git.internal:3000/x":        "https://git.corp.example/x",
	"http://tools.internal/grafana/d/1": "https://tools.corp.example/grafana/d/1",
	"http://tools.internal/grafana?x":   "https://tools.corp.example/grafana?x",
	"http://tools.internal/other":       removed,
	"http://ci.internal:8000/job":       "https://tools.corp.example/ci/job",
	// nobody's
	"https://wiki.corp.example:8443/a":      "https://wiki.corp.example:8443/a",
	"http://10.0.0.5/a":                     "http://10.0.0.5/a",
	"http://10.0.0.50:8080/a":               "http://10.0.0.50:8080/a",
	"http://10.0.0.5.6:8080/a":              "http://10.0.0.5.6:8080/a",
	"http://256.0.0.5:8080/a":               "http://256.0.0.5:8080/a",
	"http://4462739461:8080/a":              "http://4462739461:8080/a", // over 32 bits
	"http://09.0.0.5:8080/a":                "http://09.0.0.5:8080/a",
	"http://[::10.0.0.5]:8080/a":            "http://[::10.0.0.5]:8080/a",
	"http://10.0.0.5:8080@evil.example/":    "http://10.0.0.5:8080@evil.example/",
	"http://10.0.0.5:8080.evil.example/":    "http://10.0.0.5:8080.evil.example/",
	"http://169.254.169.254/latest":         "http://169.254.169.254/latest", // SSRF-01: passed on, never followed
	"https://evil.example/?http://10.0.0.5": "https://evil.example/?http://10.0.0.5",
	"/relative":                             "/relative",
	"relative":                              "relative",
	"":                                      "",
	"http://[bad":                           "http://[bad",
	"mailto:a@10.0.0.5":                     "mailto:a@10.0.0.5",
}

func TestInternalAddressesBecomePublic(t *testing.T) {
	app := NewApp(placesConfig())
	for location, want := range hostileAddresses {
		h := http.Header{"Location": {location}, "Content-Location": {location}, "Link": {"<" + location + `>; rel="next"`}, "Refresh": {"5; url=" + location}}
		if _, err := app.FromApp(h, 302); err != nil {
			t.Fatal(err)
		}
		if want == removed {
			if len(h) != 0 {
				t.Errorf("%q became %v", location, h)
			}
			continue
		}
		if h.Get("Location") != want || h.Get("Content-Location") != want || h.Get("Link") != "<"+want+`>; rel="next"` {
			t.Errorf("%q became %q, %q, %q; want %q", location, h.Get("Location"), h.Get("Content-Location"), h.Get("Link"), want)
		}
		if got := h.Get("Refresh"); got != "5; url="+want {
			t.Errorf("%q became refresh %q", location, got)
		}
	}
}

func TestLinksAndRefreshesOfEveryForm(t *testing.T) {
	const in, out = "http://10.0.0.5:8080/x", "https://wiki.corp.example:8443/x"
	for _, c := range []struct{ name, sent, want string }{
		{"Refresh", "5", "5"},
		{"Refresh", "0;URL='" + in + "'", "0; url=" + out},
		{"Refresh", `0, url = "` + in + `"; more`, "0; url=" + out},
		{"Refresh", "3 " + in, "3; url=" + out},
		{"Refresh", "3; https://evil.example/", "3; https://evil.example/"},
		{"Link", "<" + in + `>; rel=next; title="<b>", <https://cdn.example/>; rel=preload`, "<" + out + `>; rel=next; title="<b>", <https://cdn.example/>; rel=preload`},
		{"Link", `</x>; anchor="` + in + `"`, `</x>; anchor="` + out + `"`},
		{"Link", "<" + in, "<" + out}, // no Link at all
		{"Link", `</x>; title="\"", <` + in + `>; rel=preload`, `</x>; title="\"", <` + out + `>; rel=preload`},
		{"Link", `</x>; title="\\", <` + in + `>; rel=preload`, `</x>; title="\\", <` + out + `>; rel=preload`},
		{"Link", `</x>; title="a \"b\" c"; rel=next`, `</x>; title="a \"b\" c"; rel=next`},
		{"Link", `</x>; anchor=` + in, `</x>; anchor=` + out},
		{"Link", `</x>; anchor = ` + in + `;rel=next`, `</x>; anchor =` + out + `;rel=next`},
		{"Link", `</x>; anchor="http:\/\/10.0.0.5:8080/x"`, `</x>; anchor="` + out + `"`},
		{"Link", `</x>; anchor= "` + in + `"; rel="a=b", <` + in + `>`, `</x>; anchor= "` + out + `"; rel="a=b", <` + out + `>`},
		{"Link", `</x?a=b>; rel=preload; as=font`, `</x?a=b>; rel=preload; as=font`},
	} {
		h := http.Header{c.name: {c.sent}}
		clean(t, h, 200)
		if h.Get(c.name) != c.want {
			t.Errorf("%s %q became %q, want %q", c.name, c.sent, h.Get(c.name), c.want)
		}
	}
}

// FuzzAddress: what leaves leads nowhere inside, and is what it is also when it comes by again.
func FuzzAddress(f *testing.F) {
	for address := range hostileAddresses {
		f.Add(address)
	}
	app := NewApp(placesConfig())
	f.Fuzz(func(t *testing.T, address string) {
		if problem := leaksInside(app.places.public, address); problem != "" {
			t.Error(problem)
		}
	})
}

// leaksInside holds what a rewriting makes of an address against what a browser on the app's page makes of the result.
func leaksInside(rewrite func(string) (string, bool), address string) string {
	if strings.ContainsFunc(address, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "" // never gets here: ErrSplit
	}
	public, ok := rewrite(address)
	if !ok {
		return ""
	}
	if host := browsersHost(public); slices.Contains([]string{"10.0.0.5:8080", "wiki-int", "10.0.0.6", "git.internal:3000", "ci.internal:8000"}, host) {
		return strings.Join([]string{address, "became", public, "which leads to", host}, " ")
	}
	if again, ok := rewrite(public); !ok || again != public {
		return strings.Join([]string{address, "became", public, "and then", again}, " ")
	}
	return ""
}

// browsersHost is the host with port that a browser asks (https://url.spec.whatwg.org/#url-parsing), written apart from the
// product: letter by letter, as the standard has it.
func browsersHost(address string) string {
	var b strings.Builder
	for _, c := range strings.Trim(address, " \t") {
		if c == '\\' {
			c = '/'
		}
		if c != '\t' {
			b.WriteRune(c)
		}
	}
	s := b.String()
	lower := strings.ToLower(s)
	switch {
	case strings.HasPrefix(lower, "http:"):
		s = strings.TrimLeft(s[len("http:"):], "/")
	case strings.HasPrefix(s, "//"):
		s = strings.TrimLeft(s, "/")
	default:
		return ""
	}
	if end := strings.IndexAny(s, "/?#"); end >= 0 {
		s = s[:end]
	}
	return strings.TrimSuffix(strings.ToLower(s[strings.LastIndex(s, "@")+1:]), ".")
}

// Each of these takes an address for harmless that is not: the corpus says so.
func TestAddressCorpusFindsNaiveRewriting(t *testing.T) {
	for name, naive := range map[string]func(string) (string, bool){
		"nothing": func(s string) (string, bool) { return s, true },
		"a prefix": func(s string) (string, bool) {
			if rest, is := strings.CutPrefix(s, "http://10.0.0.5:8080"); is {
				return "https://wiki.corp.example:8443" + rest, true
			}
			return s, true
		},
		"one pass of replacing": func(s string) (string, bool) {
			for _, inside := range []string{"10.0.0.5:8080", "wiki-int", "10.0.0.6", "git.internal:3000", "ci.internal:8000"} {
				s = strings.Replace(s, "http://"+inside, "https://wiki.corp.example:8443", 1)
			}
			return s, true
		},
	} {
		found := false
		for address := range hostileAddresses {
			found = found || leaksInside(naive, address) != ""
		}
		if !found {
			t.Errorf("%s passes the corpus", name)
		}
	}
}
