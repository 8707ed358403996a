package ui_test

import (
	"html"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	nethtml "golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"sallyport/gateway/ui"
)

// hostile is one text with everything that INJ-01, INJ-02 and INJ-08 are about.
const hostile = "</style></title><script>alert(1)</script>\" onload='x' %3Cscript%3E \u202egnp.exe\u2066 \r\nSet-Cookie: a=b \x1b[31m \xff \u200b \U000e0041 {{.}}"

// TestClientTextStaysInert puts the hostile text into every string of every page.
func TestClientTextStaysInert(t *testing.T) {
	for name, page := range pages() {
		filled := reflect.New(reflect.TypeOf(page)).Elem()
		filled.Set(reflect.ValueOf(page))
		fill(filled, hostile)
		w := httptest.NewRecorder()
		ui.New(ui.Options{Product: hostile}).Render(w, 200, filled.Interface().(ui.Page))
		checkInert(t, name, w.Body.String())
		if csp := w.Header().Get("Content-Security-Policy"); strings.Contains(csp, "script") || strings.ContainsAny(csp, "\r\n\"") {
			t.Errorf("%s: hostile text reached the policy: %q", name, csp)
		}
	}
}

func checkInert(t *testing.T, name, body string) {
	t.Helper()
	for _, r := range body {
		if r == utf8.RuneError || strings.ContainsRune("\u202e\u2066\u200b\U000e0041\x1b\r", r) {
			t.Errorf("%s: the page holds the raw character %U", name, r)
		}
	}
	root, err := nethtml.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for node := range root.Descendants() {
		if node.Type != nethtml.ElementNode {
			continue
		}
		if node.DataAtom == atom.Script || node.DataAtom == atom.Iframe {
			t.Errorf("%s: hostile text became <%s>", name, node.Data)
		}
		for _, attr := range node.Attr {
			if strings.HasPrefix(attr.Key, "on") || strings.HasPrefix(strings.ToLower(attr.Val), "javascript:") {
				t.Errorf("%s: hostile text became %s=%q", name, attr.Key, attr.Val)
			}
		}
	}
}

func TestScriptLinksAreDefused(t *testing.T) {
	page := ui.Message{Title: "x", Actions: []ui.Action{{Label: "a", URL: "javascript:alert(1)"}, {Label: "b", URL: "JaVaScRiPt:alert(1)", Method: "POST"}, {Label: "c", URL: "data:text/html,x"}}}
	checkInert(t, "message", render(t, page).Body.String())
	tile := ui.Portal{Frame: ui.Frame{Email: "a@b", SignOut: "javascript:alert(1)", Places: []ui.Place{{Label: "x", URL: "javascript:alert(1)"}}}, Apps: []ui.AppTile{{Name: "x", URL: "javascript:alert(1)"}}}
	checkInert(t, "portal", render(t, tile).Body.String())
}

func TestInvisibleCharactersAreShown(t *testing.T) {
	for path, want := range map[string]string{
		"/invoice\u202egnp.exe":           "GET /invoice⟨U+202E⟩gnp.exe",
		"/a\u2066b\u2069":                 "GET /a⟨U+2066⟩b⟨U+2069⟩",
		"/zero\u200bwidth":                "GET /zero⟨U+200B⟩width",
		"/line\u2028two":                  "GET /line⟨U+2028⟩two",
		"/bell\a":                         "GET /bell⟨U+0007⟩",
		"/broken\xff":                     "GET /broken⟨0xFF⟩",
		"/علی\u200cرضا":                   "GET /علی\u200cرضا",
		"/" + strings.Repeat("long/", 99): "GET /" + strings.Repeat("long/", 79) + "…",
	} {
		body := html.UnescapeString(render(t, ui.Denied{App: "wiki", Method: "GET", Path: path}).Body.String())
		if !strings.Contains(body, "<bdi>"+want+"</bdi>") {
			t.Errorf("path %q is not shown as %q", path, want)
		}
	}
}

// fill sets every string below v to text; lists get one element where they had none. A Tone is one of the package's
// constants and never text.
func fill(v reflect.Value, text string) {
	if v.Type() == reflect.TypeFor[ui.Tone]() {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, text)
		}
	case reflect.Slice:
		n := max(1, v.Len())
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), text)
		}
	}
}
