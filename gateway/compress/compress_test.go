package compress

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// head writes a header as lines of fields.
func head(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

// page is an answer that is compressed for asker.
func page(more ...string) http.Header {
	return head(append([]string{"Content-Type: text/html"}, more...)...)
}

func asker(more ...string) Request {
	return Request{http.MethodGet, head(append([]string{"Accept-Encoding: gzip", "Sec-Fetch-Site: same-origin"}, more...)...)}
}

func TestWhatIsCompressed(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		length int64
		header http.Header
		want   bool
	}{
		{"an unknown length", 200, -1, page(), true},
		{"1 KiB", 200, 1 << 10, page(), true},
		{"less than 1 KiB", 200, 1<<10 - 1, page(), false},
		{"203", 203, -1, page(), true},
		{"404", 404, -1, page(), true},
		{"201", 201, -1, page(), false},
		{"204", 204, -1, page(), false},
		{"206 (RFC 9110 §15.3.7: a part of the app's bytes)", 206, -1, page("Content-Range: bytes 0-1/2"), false},
		{"Content-Range beside 200", 200, -1, page("Content-Range: bytes 0-1/2"), false},
		{"302", 302, -1, page(), false},
		{"500", 500, -1, page(), false},
		{"compressed by the app (RFC 9110 §8.4)", 200, -1, page("Content-Encoding: br"), false},
		{"no-transform (RFC 9111 §5.2.2.6)", 200, -1, page("Cache-Control: max-age=5, No-Transform"), false},
		{"no-transform in quotes", 200, -1, page(`Cache-Control: private="a, no-transform"`), true},
		{"a digest (RFC 9530)", 200, -1, page("Repr-Digest: sha-256=:AA==:"), false},
		{"a digest in the trailer", 200, -1, page("Trailer: Server-Timing, content-digest"), false},
		{"another trailer", 200, -1, page("Trailer: Server-Timing"), true},
		{"a signature (RFC 9421)", 200, -1, page("Signature: sig=:AA==:"), false},
		{"a cookie", 200, -1, page("Set-Cookie: a=b"), false},
		{"no type", 200, -1, head(), false},
		{"json", 200, -1, head("Content-Type: application/json; charset=utf-8"), true},
		{"problem+json", 200, -1, head("Content-Type: application/problem+json"), true},
		{"javascript", 200, -1, head("Content-Type: text/javascript"), true},
		{"svg", 200, -1, head("Content-Type: image/svg+xml"), true},
		{"wasm", 200, -1, head("Content-Type: application/wasm"), true},
		{"manifest", 200, -1, head("Content-Type: application/manifest+json"), true},
		{"upper case", 200, -1, head("Content-Type: TEXT/CSS"), true},
		{"png", 200, -1, head("Content-Type: image/png"), false},
		{"woff2", 200, -1, head("Content-Type: font/woff2"), false},
		{"zip", 200, -1, head("Content-Type: application/zip"), false},
		{"unknown", 200, -1, head("Content-Type: application/octet-stream"), false},
		{"no type at all", 200, -1, head("Content-Type: text"), false},
		{"events", 200, -1, head("Content-Type: text/event-stream"), false},
		{"grpc", 200, -1, head("Content-Type: application/grpc+json"), false},
		{"grpc-web", 200, -1, head("Content-Type: application/grpc-web-text"), false},
	} {
		got := Apply(asker(), c.status, c.length, c.header)
		if got != c.want {
			t.Errorf("%s: compressed %v, want %v", c.name, got, c.want)
		}
		if encoded := c.header.Get("Content-Encoding") == "gzip"; encoded != c.want {
			t.Errorf("%s: header %v", c.name, c.header)
		}
		if varies := c.header.Get("Vary") == "Accept-Encoding"; varies != c.want {
			t.Errorf("%s: Vary %q", c.name, c.header["Vary"])
		}
	}
}

func TestRequestsThatGetThePlainAnswer(t *testing.T) {
	for name, r := range map[string]Request{
		"no Accept-Encoding":           {"GET", head("Sec-Fetch-Site: none")},
		"gzip refused":                 {"GET", head("Sec-Fetch-Site: none", "Accept-Encoding: gzip;q=0, *")},
		"no-transform (§5.2.1.6)":      {"GET", head("Sec-Fetch-Site: none", "Accept-Encoding: gzip", "Cache-Control: no-transform")},
		"asked for by another's pages": {"GET", head("Sec-Fetch-Site: cross-site", "Accept-Encoding: gzip")},
	} {
		h := page(`Etag: "x"`, "Content-Length: 5000")
		if Apply(r, 200, 5000, h) {
			t.Errorf("%s: compressed", name)
		}
		// RFC 9110 §12.5.5: another client gets another representation of it.
		want := page(`Etag: "x"`, "Content-Length: 5000", "Vary: Accept-Encoding")
		if diff := cmp.Diff(want, h); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if Apply(Request{"CONNECT", asker().Header}, 200, -1, page()) {
		t.Error("CONNECT: compressed")
	}
}

func TestHeaderOfACompressedAnswer(t *testing.T) {
	h := page("Content-Length: 5000", "Accept-Ranges: bytes", `Etag: "x"`, "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Vary: Cookie")
	want := page("Content-Encoding: gzip", `Etag: W/"x"`, "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Vary: Cookie", "Vary: Accept-Encoding")
	if !Apply(asker(), 200, 5000, h) {
		t.Fatal("not compressed")
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Error(diff)
	}
	h = page("Content-Length: 5000", "Accept-Ranges: bytes", `Etag: "x"`, "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Vary: Cookie")
	if Apply(Request{"HEAD", asker().Header}, 200, 5000, h) {
		t.Error("HEAD has no body to compress")
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("HEAD differs from GET (RFC 9110 §9.3.2): %s", diff)
	}
}

func TestVaryIsSaidOnce(t *testing.T) {
	for _, vary := range []string{"accept-encoding", "Cookie, Accept-Encoding", "*"} {
		h := page("Vary: " + vary)
		Apply(asker(), 200, -1, h)
		if got := h["Vary"]; len(got) != 1 || got[0] != vary {
			t.Errorf("%s became %q", vary, got)
		}
	}
}

// Header maps share slices where a cache keeps them: what is stored must not change.
func TestStoredHeaderIsNotWrittenTo(t *testing.T) {
	stored := make([]string, 1, 4)
	stored[0] = "Cookie"
	Apply(asker(), 200, -1, http.Header{"Content-Type": {"text/html"}, "Vary": stored})
	if stored[:2][1] != "" {
		t.Error("Vary was written behind the stored values")
	}
}

func TestRevalidation(t *testing.T) {
	for _, c := range []struct{ held, tag, want string }{
		{`W/"x"`, `"x"`, `W/"x"`},
		{`"y", W/"x"`, `"x"`, `W/"x"`},
		{`W/"x", "x"`, `"x"`, `"x"`},
		{`"x"`, `"x"`, `"x"`},
		{`W/"a,b"`, `"a,b"`, `W/"a,b"`},
		{`W/"a\"`, `"a\"`, `W/"a\"`},
		{`W/"x"`, `W/"x"`, `W/"x"`},
		{`*`, `"x"`, `"x"`},
		{`W/"x`, `"x"`, `"x"`},
		{`W/"x"`, ``, ``},
	} {
		h := http.Header{}
		if c.tag != "" {
			h.Set("Etag", c.tag)
		}
		if Apply(Request{"GET", head("If-None-Match: " + c.held)}, 304, -1, h) {
			t.Error("a 304 has no body to compress")
		}
		if got := h.Get("Etag"); got != c.want {
			t.Errorf("for %s the app's 304 of %s says %s, want %s", c.held, c.tag, got, c.want)
		}
		if changed := c.tag != c.want; changed != (h.Get("Vary") == "Accept-Encoding") {
			t.Errorf("for %s Vary is %q", c.held, h["Vary"])
		}
	}
}

func TestAcceptEncoding(t *testing.T) {
	for fields, want := range map[string]bool{
		"gzip": true, "GZIP": true, "x-gzip": true, "br, gzip": true, "gzip, deflate, br, zstd": true,
		"*": true, "*;q=0.1": true, "gzip;q=0.001": true, "gzip; q=1.000": true, "gzip ; Q=0.5": true, "*;q=0, gzip": true,
		"identity;q=0.5, gzip;q=0.5": true, "identity;q=0, gzip;q=0.1": true, " , gzip": true,
		"": false, "br": false, "gzip;q=0": false, "gzip;q=0.000": false, "*;q=0": false, "gzip;q=0, *": false, "identity": false,
		"identity, gzip;q=0.5": false, "gzip, gzip;q=0": false, "gzip;q=2": false, "gzip;q=1.001": false, "gzip;q=0.1234": false,
		"gzip;q=-1": false, "gzip;q=": false, "gzip;level=1": false, "gzip;q=0.x": false, "gzip;q=1;q=0": false, "gzipped": false,
	} {
		if got := accepts([]string{fields}); got != want {
			t.Errorf("%q: %v, want %v", fields, got, want)
		}
	}
	if accepts(nil) || !accepts([]string{"br", "gzip"}) || accepts([]string{"gzip", "gzip;q=0"}) {
		t.Error("several fields are one list")
	}
}

// breach is who can make a browser ask, and what the answer says of itself.
var breach = []struct {
	name    string
	request []string
	answer  []string
	want    bool
}{
	{"the app's page, a private answer", []string{"Sec-Fetch-Site: same-origin"}, []string{"Cache-Control: private"}, true},
	{"the address bar", []string{"Sec-Fetch-Site: none"}, nil, true},
	{"a stranger's page", []string{"Sec-Fetch-Site: cross-site"}, nil, false},
	{"a sibling host's page", []string{"Sec-Fetch-Site: same-site"}, nil, false},
	{"an old browser, or none", nil, nil, false},
	{"two claims", []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"}, nil, false},
	{"a list of claims", []string{"Sec-Fetch-Site: same-origin, cross-site"}, nil, false},
	{"a claim in capitals", []string{"Sec-Fetch-Site: Same-Origin"}, nil, false},
	{"a stranger's page, a public answer", []string{"Sec-Fetch-Site: cross-site"}, []string{"Cache-Control: public"}, true},
	{"a stranger's page, s-maxage", []string{"Sec-Fetch-Site: cross-site"}, []string{"Cache-Control: max-age=1, s-maxage=60"}, true},
	{"an old browser, a public answer", nil, []string{"Cache-Control: public, max-age=60"}, true},
	{"public and private at once", nil, []string{"Cache-Control: public, private"}, false},
	{"public and private in two fields", nil, []string{"Cache-Control: public", `Cache-Control: private="x"`}, false},
	{"public and no-store at once", nil, []string{"Cache-Control: public, no-store"}, false},
	{"public in quotes", nil, []string{`Cache-Control: private="public"`}, false},
	{"public as a part of a word", nil, []string{"Cache-Control: nonpublic"}, false},
	{"max-age alone", nil, []string{"Cache-Control: max-age=60"}, false},
	{"a public answer with a cookie", nil, []string{"Cache-Control: public", "Set-Cookie: csrf=secret"}, false},
	{"the app's page, an answer with a cookie", []string{"Sec-Fetch-Site: same-origin"}, []string{"Set-Cookie: csrf=secret"}, false},
}

func TestSecretsAreNotCompressedForStrangers(t *testing.T) {
	for _, c := range breach {
		r := Request{"GET", head(append([]string{"Accept-Encoding: gzip"}, c.request...)...)}
		if got := Apply(r, 200, 5000, page(c.answer...)); got != c.want {
			t.Errorf("%s: compressed %v, want %v", c.name, got, c.want)
		}
	}
}
