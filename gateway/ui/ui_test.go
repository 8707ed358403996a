package ui_test

import (
	"flag"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/gateway/ui"
)

var (
	update  = flag.Bool("update", false, "rewrite the golden pages in testdata")
	preview = flag.String("preview", "", "also write every page, complete with its stylesheet, into this folder to look at")
)

// pages holds one page of each kind with what it shows on a working day, and the shapes that differ.
func pages() map[string]ui.Page {
	return map[string]ui.Page{
		"portal": ui.Portal{
			Frame: frame("/"),
			Apps: []ui.AppTile{
				{Name: "wiki", URL: "https://wiki.corp.example/", Host: "wiki.corp.example", Description: "Handbook, runbooks and meeting notes."},
				{Name: "payroll", URL: "https://payroll.corp.example/", Host: "payroll.corp.example"},
				{Name: "inspect", URL: "https://inspect.corp.example/", Host: "inspect.corp.example", Description: "What an app receives."},
				{Name: "grafana", URL: "https://grafana.corp.example/", Host: "grafana.corp.example"},
			},
		},
		"portal-empty": ui.Portal{Frame: ui.Frame{Email: "new@corp.example", SignOut: "/.sallyport/signout"}},
		"devices": ui.Devices{Frame: frame("/.sallyport/sessions"), Notice: "That session has ended.", Action: "/.sallyport/sessions", Provider: "Corp",
			Sessions: []ui.Device{
				{ID: "s1", Here: true, Name: "Firefox on Linux", Address: "192.0.2.7", Place: "network office, country DE", Provider: "Corp",
					Since: ui.MomentOf(now.Add(-3*time.Hour), now), Seen: ui.MomentOf(now, now), Apps: []ui.DeviceApp{{Name: "payroll", Host: "payroll.corp.example"}, {Name: "wiki", Host: "wiki.corp.example"}}},
				{ID: "s2", Name: "Safari on iPhone", Address: "2001:db8::17", Provider: "Corp", Since: ui.MomentOf(now.Add(-50*time.Hour), now), Seen: ui.MomentOf(now.Add(-5*time.Minute), now)},
				{ID: "s3", Name: "Chrome on Windows", Address: "198.51.100.20", Place: "country FR", Provider: "Partners", Since: ui.MomentOf(now.Add(-25*time.Hour), now), Seen: ui.MomentOf(now.Add(-time.Hour), now),
					Apps: []ui.DeviceApp{{Name: "grafana", Host: "grafana.corp.example"}, {Name: "wiki", Host: "wiki.corp.example"}}},
			}},
		"devices-one": ui.Devices{Frame: frame("/.sallyport/sessions"), Action: "/.sallyport/sessions", Sessions: []ui.Device{{ID: "s1", Here: true, Name: "An unknown browser", Since: ui.MomentOf(now, now), Seen: ui.MomentOf(now, now)}}},
		"tokens": ui.Tokens{Frame: frame("/.sallyport/tokens"), Action: "/.sallyport/tokens", Form: tokenForm(), List: []ui.Token{
			{ID: "t1", Name: "nightly backup", Apps: []string{"wiki", "payroll"}, Methods: "read only", Created: ui.MomentOf(now.Add(-80*24*time.Hour), now), Used: ui.MomentOf(now.Add(-9*time.Hour), now), Expires: ui.MomentOf(now.Add(10*24*time.Hour), now), State: "works", Live: true},
			{ID: "t2", Name: "git", Apps: []string{"wiki"}, Methods: "all", Created: ui.MomentOf(now.Add(-time.Hour), now), Expires: ui.MomentOf(now.Add(30*24*time.Hour), now), State: "works", Live: true},
			{ID: "t3", Name: "old job", Apps: []string{"grafana"}, Methods: "GET, POST", Created: ui.MomentOf(now.Add(-100*24*time.Hour), now), Expires: ui.MomentOf(now.Add(-24*time.Hour), now), State: "expired"},
		}},
		"tokens-made": ui.Tokens{Frame: frame("/.sallyport/tokens"), Action: "/.sallyport/tokens", Confirm: "/.sallyport/tokens?confirm=1",
			Made: ui.NewToken{Name: "git", Secret: "sallyport_pat_abcdefghijklmnopqrstuvwxyz234567", URL: "https://wiki.corp.example/"},
			List: []ui.Token{{ID: "t2", Name: "git", Apps: []string{"wiki"}, Methods: "all", Created: ui.MomentOf(now, now), Expires: ui.MomentOf(now.Add(30*24*time.Hour), now), State: "works", Live: true}}},
		"tokens-wrong": ui.Tokens{Frame: frame("/.sallyport/tokens"), Action: "/.sallyport/tokens", Notice: "The token is revoked.", Form: wrongForm()},
		"choose": ui.Choose{App: "Wiki", Email: ui.EmailForm{URL: "/.sallyport/start", Hidden: []ui.Field{{Name: "app", Value: "wiki.corp.example"}, {Name: "rd", Value: "/page?a=b"}}},
			Providers: []ui.Action{{Label: "Corp", URL: "/.sallyport/start?provider=corp"}, {Label: "Partners", URL: "/.sallyport/start?provider=partners"}}, FormAction: []string{"https://login.corp.example"}},
		"choose-unknown": ui.Choose{Email: ui.EmailForm{URL: "/.sallyport/start", Value: "ines@elsewhere.example", Problem: "Nobody here answers for addresses of elsewhere.example."},
			Providers: []ui.Action{{Label: "Corp", URL: "/.sallyport/start?provider=corp"}}},
		"choose-by-name": ui.Choose{Providers: []ui.Action{{Label: "Corp", URL: "/.sallyport/start?provider=corp"}, {Label: "Partners", URL: "/.sallyport/start?provider=partners"}}},
		"denied": ui.Denied{
			App: "payroll", Owner: "finance-it@corp.example", Method: "GET", Path: "/employees/17", Person: "ines@corp.example",
			Reasons:   []string{"This app is open to the groups finance and audit. You are in: staff."},
			Reference: "019a1f9e-2c4b-7d51-9a55-0c5f3f6f8a10",
			Portal:    "https://auth.corp.example/", SignOut: "/.sallyport/signout",
		},
		"denied-once": ui.Denied{App: "Shop", Open: true, Method: "POST", Path: "/form", Person: "ines@corp.example",
			Reasons: []string{"A page of another site sent this request to shop. Open shop yourself and do it there."}, Reference: "019a1f9e-2c4b-7d51-9a55-0c5f3f6f8a13",
			Portal: "https://auth.corp.example/", SignOut: "/.sallyport/signout"},
		"denied-bare":       ui.Denied{App: "wiki", Reference: "019a1f9e-2c4b-7d51-9a55-0c5f3f6f8a11"},
		"denied-reasons":    ui.Denied{App: "payroll", Method: "POST", Path: "/run", Person: "kim@corp.example", Reasons: []string{"Payroll opens on weekdays from 08:00 to 18:00.", "A second factor is needed."}, Advice: []string{"Come back during opening hours."}, Reference: "019a1f9e-2c4b-7d51-9a55-0c5f3f6f8a12", Portal: "https://auth.corp.example/"},
		"sign-in-problem":   ui.Message{Tone: ui.Problem, Label: "Sign-in", Title: "We could not sign you in", Text: "The identity provider could not be reached.", Advice: []string{"Try again in a moment."}, Reference: "019a1f9e-2c4b-7d51-9a55-0c5f3f6f8a13", Actions: []ui.Action{{Label: "Try again", URL: "https://wiki.corp.example/"}}, FormAction: []string{"https://login.corp.example"}},
		"sign-out-question": ui.Message{Title: "Sign out?", Text: "You are still signed in.", Actions: []ui.Action{{Label: "Sign out", URL: "/.sallyport/signout", Method: "POST"}}},
		"signed-out":        ui.SignedOut{SignIn: "https://auth.corp.example/"},
		"signed-out-app":    ui.SignedOut{App: "wiki", SignIn: "https://wiki.corp.example/", Portal: "https://auth.corp.example/"},
		"unavailable":       ui.Unavailable{App: "wiki", Reference: "019a1f9e-2c4b-7d51-9a55-0c5f3f6f8a14", Retry: "https://wiki.corp.example/page", Portal: "https://auth.corp.example/"},
		"message":           ui.Message{Label: "Unknown address", Title: "There is nothing here", Text: "No app answers at this address.", Advice: []string{"Check the address for a typing mistake."}, Reference: "019a1f9e-2c4b-7d51-9a55-0c5f3f6f8a15", Actions: []ui.Action{{Label: "Your apps", URL: "https://auth.corp.example/"}}},
		"framed":            ui.Message{Label: "Sign-in", Title: "Sign in to see this", Text: "This part of the page belongs to wiki, where you are not signed in.", Actions: []ui.Action{{Label: "Sign in", URL: "https://wiki.corp.example/"}}, Framed: true},
	}
}

var now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func frame(here string) ui.Frame {
	f := ui.Frame{Person: "Ines Okafor", Email: "ines@corp.example", SignOut: "/.sallyport/signout",
		Places: []ui.Place{{Label: "Your apps", URL: "/"}, {Label: "Where you are signed in", URL: "/.sallyport/sessions"}, {Label: "Access tokens", URL: "/.sallyport/tokens"}}}
	for i := range f.Places {
		f.Places[i].Here = f.Places[i].URL == here
	}
	return f
}

func tokenForm() ui.TokenForm {
	return ui.TokenForm{Methods: "read", Apps: []ui.Option{{Value: "payroll", Label: "Payroll"}, {Value: "wiki", Label: "Wiki"}},
		Chosen:    []ui.Option{{Value: "GET", Label: "GET"}, {Value: "POST", Label: "POST"}, {Value: "DELETE", Label: "DELETE"}},
		Lifetimes: []ui.Option{{Value: "7", Label: "7 days"}, {Value: "30", Label: "30 days", Chosen: true}, {Value: "90", Label: "90 days"}}}
}

func wrongForm() ui.TokenForm {
	f := tokenForm()
	f.Problem, f.Name, f.Methods, f.Apps[1].Chosen, f.Chosen[1].Chosen = "Choose at least one method.", "deploy", "chosen", true, true
	return f
}

var (
	stylesheet = regexp.MustCompile(`(?s)<style>.*</style>`)
	icon       = regexp.MustCompile(`href="data:[^"]*"`)
)

func TestPagesReadAsTheGoldenFilesSay(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(pages())) {
		t.Run(name, func(t *testing.T) {
			body := render(t, pages()[name]).Body.String()
			if *preview != "" {
				write(t, filepath.Join(*preview, name+".html"), body)
			}
			got := stylesheet.ReplaceAllString(body, "<style>…</style>")
			got = icon.ReplaceAllString(got, `href="data:…"`)
			golden := filepath.Join("testdata", name+".html")
			if *update {
				write(t, golden, got)
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v (run with -update to write it)", err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("page differs from %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestHeadersMakeAPageInert(t *testing.T) {
	for name, page := range pages() {
		w := render(t, page)
		h := w.Header()
		for key, want := range map[string]string{
			"Content-Type":               "text/html; charset=utf-8",
			"Content-Length":             strconv.Itoa(w.Body.Len()),
			"X-Content-Type-Options":     "nosniff",
			"Cache-Control":              "no-store",
			"Referrer-Policy":            "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := h.Get(key); got != want {
				t.Errorf("%s: %s = %q, want %q", name, key, got, want)
			}
		}
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "style-src 'sha256-", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q lacks %q", name, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
			t.Errorf("%s: policy %q allows scripts or unsafe sources", name, policy)
		}
		if got, want := strings.Contains(policy, "frame-ancestors 'none'"), name != "framed"; got != want {
			t.Errorf("%s: refuses to be framed = %t, want %t", name, got, want)
		}
	}
}

func TestNoPageNeedsScriptsStyleAttributesOrForeignFiles(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)<script|<iframe|<object|<img|\son[a-z]+=|\sstyle=|@import|url\(`)
	for name, page := range pages() {
		if found := forbidden.FindString(render(t, page).Body.String()); found != "" {
			t.Errorf("%s holds %q", name, found)
		}
	}
}

func TestFormActionTakesOriginsOnly(t *testing.T) {
	page := ui.SignedOut{}
	if policy := render(t, page).Header().Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self';") {
		t.Errorf("policy = %q, want forms to this host only", policy)
	}
	hostile := ui.Message{FormAction: []string{"https://login.corp.example:8443/authorize?x=1", "javascript:alert(1)", "https://x; script-src *", "*", ""}}
	policy := render(t, hostile).Header().Get("Content-Security-Policy")
	if want := "form-action 'self' https://login.corp.example:8443;"; !strings.Contains(policy, want) {
		t.Errorf("policy = %q, want %q in it", policy, want)
	}
}

func TestHeadHasTheHeadersAndNoBody(t *testing.T) {
	pages := ui.New(ui.Options{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pages.Render(w, http.StatusForbidden, ui.Denied{App: "wiki", Reference: "r1"})
	}))
	defer server.Close()
	get, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer get.Body.Close()
	head, err := http.Head(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer head.Body.Close()
	if head.StatusCode != http.StatusForbidden || head.ContentLength != get.ContentLength || head.ContentLength <= 0 {
		t.Errorf("HEAD = %d with length %d, want %d with GET's length %d", head.StatusCode, head.ContentLength, http.StatusForbidden, get.ContentLength)
	}
}

func TestProductNamesThePages(t *testing.T) {
	w := httptest.NewRecorder()
	ui.New(ui.Options{Product: "Corp <Gate>"}).Render(w, http.StatusOK, ui.SignedOut{})
	if want := "· Corp &lt;Gate&gt;</title>"; !strings.Contains(w.Body.String(), want) {
		t.Errorf("page lacks %q", want)
	}
}

func render(t *testing.T, page ui.Page) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	ui.New(ui.Options{}).Render(w, http.StatusOK, page)
	return w
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What a page tells of may have happened while it was made.
func TestMomentsOfThePagesOwnMaking(t *testing.T) {
	start := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	for since, want := range map[time.Duration]string{
		300 * time.Millisecond: "just now", 0: "just now", -90 * time.Second: "1 minute ago", 30 * 24 * time.Hour: "in 30 days",
	} {
		if got := ui.MomentOf(start.Add(since), start).Words; got != want {
			t.Errorf("%v after the start of the request: %q, want %q", since, got, want)
		}
	}
}
