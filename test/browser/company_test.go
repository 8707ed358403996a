package browser_test

import (
	"context"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/test/harness"
	"sallyport/test/oidcpeer"
)

// company is an installation whose people are at a certified provider, and a browser that can have the test do things.
type company struct {
	*harness.Stand
	*browser
	posts atomic.Int64 // forms that the wiki took
}

// newCompany has an app for everybody, one that it may read (CORS), and one of high sensitivity.
func newCompany(t *testing.T, settings string) *company {
	t.Helper()
	c := &company{}
	app := c.startApp(t)
	c.Stand = harness.New(t, strings.ReplaceAll(`
  - { name: wiki, host: wiki.corp.test, upstreams: ["APP"], authorization: gateway, access: { groups: [staff] } }
  - { name: public, host: public.corp.test, upstreams: ["APP"], access: { groups: [staff] }, cors: { origins: ["WIKI"], methods: [GET, PUT], headers: [Content-Type], credentials: true } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["APP"], sensitivity: high, access: { groups: [staff], acr: [two] } }
`, "APP", app), settings)
	config, err := os.ReadFile(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	c.WriteRaw(t, strings.NewReplacer("WIKI", c.URL("wiki", ""), "identity:\n", "identity:\n  personal_tokens: { enabled: true }\n").Replace(string(config)))
	peer := oidcpeer.For(t, c.Stand)
	gw := c.Start(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the gateway printed:\n%.8000s", gw.Output())
		}
	})
	c.browser = newBrowser(t, &demo{port: fmt.Sprint(c.Port)}, filepath.Join(c.Dir, "keys", "public", "ca.pem"))
	control := httptest.NewServer(c.control(t))
	t.Cleanup(control.Close)
	c.settings["domain"], c.settings["provider"], c.settings["control"] = harness.Domain, peer.Issuer, control.URL
	return c
}

// idle is how long sessions last in the stories of expired ones.
const idle = 5 * time.Second

// control is what stories have the test do.
func (c *company) control(t *testing.T) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		person, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if out, code := c.Sallyport(t, "session", "revoke", "--user", string(person)); code != 0 && !strings.Contains(out, "no session matches") {
			http.Error(w, out, http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST /expire", func(http.ResponseWriter, *http.Request) {
		began := time.Now()
		harness.Eventually(t, time.Minute, "sessions to be idle for too long", func() bool { return time.Since(began) > idle+500*time.Millisecond })
	})
	mux.HandleFunc("POST /posts", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.posts.Load()) })
	mux.HandleFunc("POST /call", func(w http.ResponseWriter, r *http.Request) {
		token, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, c.URL("wiki", "/api/backup"), nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
		res, err := (&http.Client{Transport: c.Transport()}).Do(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		res.Body.Close()
		fmt.Fprint(w, res.StatusCode)
	})
	return mux
}

// startApp runs an app whose pages say their path, with a form and a WebSocket.
func (c *company) startApp(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	page := template.Must(template.New("page").Parse(`<!doctype html><html lang="en"><title>{{.}}</title><main><h1>{{.}}</h1>
<form method="post" action="/form"><label>Text <input name="text"></label><button>Send</button></form></main></html>`))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		page.Execute(w, r.URL.Path)
	})
	mux.HandleFunc("POST /form", func(w http.ResponseWriter, r *http.Request) {
		c.posts.Add(1)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		page.Execute(w, "taken: "+r.PostFormValue("text"))
	})
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"error":"none"}`)
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // origins are the gateway's matter
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, message, err := conn.Read(context.WithoutCancel(r.Context()))
			if err != nil || conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// TestExpiredSessionsInABrowser: what people had open when their session expired is not lost.
func TestExpiredSessionsInABrowser(t *testing.T) {
	needTools(t)
	c := newCompany(t, fmt.Sprintf("session: { idle: %s }", idle))
	t.Run("ten tabs opened at once all arrive", func(t *testing.T) {
		var took struct{ Milliseconds int }
		c.play(t, "expiredTabs", &took)
		t.Logf("all ten were there after %d ms", took.Milliseconds)
	})
	t.Run("a form is sent again", func(t *testing.T) {
		var sent struct{ Posts int }
		c.play(t, "keptForm", &sent)
		if sent.Posts != 1 {
			t.Errorf("the app took the form %d times", sent.Posts)
		}
	})
}

// fetched is what a page's script was told.
type fetched struct {
	Status     int
	Redirected bool
	Type       string
	Error      string
}

// TestCompanyInABrowser plays what people of a company do.
func TestCompanyInABrowser(t *testing.T) {
	needTools(t)
	c := newCompany(t, "")
	for _, story := range []string{"providerSignOut", "revokedSocket"} {
		t.Run(story, func(t *testing.T) {
			var felt struct{ Milliseconds int }
			c.play(t, story, &felt)
			t.Logf("the open WebSocket closed after %d ms", felt.Milliseconds)
		})
	}
	t.Run("fetches are told 401", func(t *testing.T) {
		var told struct{ Before, After []fetched }
		c.play(t, "fetches", &told)
		for n, f := range told.Before {
			if f.Status != http.StatusOK || f.Error != "none" {
				t.Errorf("the control, fetch %d before the end: %+v", n, f)
			}
		}
		for n, f := range told.After {
			if f.Status != http.StatusUnauthorized || f.Redirected || f.Error != "unauthenticated" {
				t.Errorf("fetch %d after the end: %+v", n, f)
			}
		}
	})
	for _, story := range []string{"stepUp", "devices", "tokens", "annoyances"} {
		t.Run(story, func(t *testing.T) { c.play(t, story, nil) })
	}
}
