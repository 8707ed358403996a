package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"sallyport/test/harness"
)

// TestOrdinaryAppsInABrowser has Chromium use apps that know nothing of the gateway, with the settings that apps have who
// say nothing: what ordinary pages do has to go on working, and what is refused has to be told in a way that makes sense.
func TestOrdinaryAppsInABrowser(t *testing.T) {
	needTools(t)
	shop, media := startPlainApp(t), startPlainApp(t)
	stand := harness.New(t, fmt.Sprintf(`
  - { name: shop, title: Shop, host: wiki.corp.test, upstreams: [%[1]q], access: { groups: [staff] } }
  - name: media
    host: payroll.corp.test
    upstreams: [%[2]q]
    access: { groups: [staff] }
    cors: { origins: ["SHOP"], methods: [GET, PUT], headers: [Content-Type], credentials: true }
  - name: fonts
    host: public.corp.test
    upstreams: [%[2]q]
    access: { public: true }
    cors: { origins: ["SHOP"] }
`, shop, media), "")
	config, err := os.ReadFile(stand.Config)
	if err != nil {
		t.Fatal(err)
	}
	stand.WriteRaw(t, strings.ReplaceAll(string(config), "SHOP", stand.URL("wiki", "")))
	stand.Start(t)
	stand.Provider.SetPerson(map[string]any{"groups": []string{"staff"}})

	browser := newBrowser(t, &demo{port: fmt.Sprint(stand.Port)}, filepath.Join(stand.Dir, "keys", "public", "ca.pem"))
	browser.settings["domain"] = harness.Domain
	var found map[string]string
	browser.play(t, "ordinary", &found)
	for name, want := range ordinary {
		if got := found[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		delete(found, name)
	}
	if len(found) > 0 {
		t.Errorf("nobody said what to expect of %q", found)
	}
}

// ordinary is what comes of what pages do.
var ordinary = map[string]string{
	"fetch POST":                    `200 POST {"n":1} convention`,
	"fetch PUT":                     `200 PUT {"n":1} convention`,
	"fetch PATCH":                   `200 PATCH {"n":1} convention`,
	"fetch DELETE":                  `200 DELETE {"n":1} convention`,
	"cookies that scripts see":      "CSRF-Token-AB12C=named XSRF-TOKEN=convention",
	"cookies that the app sees":     "XSRF-TOKEN=convention; CSRF-Token-AB12C=named; theme=dark; sid=secret",
	"upload":                        "Bericht – 100% (2).pdf 300000",
	"download":                      "Bericht – 100%.txt",
	"form":                          "/form",
	"back and forward":              "/",
	"localStorage":                  "kept",
	"sendBeacon":                    "true",
	"WebSocket":                     "ahoy",
	"server-sent events":            "three",
	"frame of its own origin":       "/frame",
	"blob in a frame":               "a blob",
	"blob worker":                   "works",
	"pop-up of own origin":          "has its opener",
	"service worker":                "by the worker",
	"POST through a service worker": "200 true",
	"page through a service worker": "navigate empty same-origin",
	"page through a service worker without a session": "navigate empty cross-site", // it comes from the provider
	"reload through a service worker":                 "200",
	"worker is gone":                                  "true",

	// Apps of the same domain may show each other's pictures, but they are other sites where something changes.
	"image of a sibling":                      "7 wide",
	"script of a sibling":                     "true",
	"frame of a sibling":                      "frame-ancestors 'self'",
	"pop-up of sibling origin":                "has none",
	"form from a sibling":                     "403 This request was refused",
	"sibling's form through a service worker": "This request was refused",
	"fetch of a sibling with credentials":     "200 true",
	"fetch of a sibling without credentials":  "401 true", // a stranger's, which an origin that the app admits may know
	"PUT to a sibling with credentials":       "200 true",
	"DELETE to a sibling, not listed":         "failed: TypeError: Failed to fetch",
	"fetch of a public sibling":               "200 true",
	"font of a public sibling":                "200 true",

	"fetch after the session's end": "401 unauthenticated",
	"form after the session's end":  "You are not signed in any more",
}

// startPlainApp runs an app such as many are: pages with scripts, cookies that scripts read, uploads, downloads, streams.
func startPlainApp(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	page := func(path, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			for _, cookie := range []string{"XSRF-TOKEN=convention; Path=/", "CSRF-Token-AB12C=named; Path=/", "theme=dark; Path=/", "sid=secret; Path=/; HttpOnly"} {
				w.Header().Add("Set-Cookie", cookie)
			}
			fmt.Fprintf(w, "<!doctype html><title>%s</title><h1>%s</h1>%s", path, path, body)
		})
	}
	page("/{$}", `<iframe id=frame src=/frame></iframe><form method=post action=/form><input name=text value=hello><button>Send</button></form>
		<a id=next href=/frame>next</a><a id=report href=/download>report</a>`)
	page("/frame", "in a frame")
	page("/popup", "opened")
	page("/form", "taken")
	mux.HandleFunc("/asked", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><h1>%s %s %s</h1>", r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest"), r.Header.Get("Sec-Fetch-Site"))
	})
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"method": r.Method, "body": string(body), "cookies": r.Header.Get("Cookie"), "token": r.Header.Get("X-Xsrf-Token")})
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		file, head, err := r.FormFile("file")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		n, _ := io.Copy(io.Discard, file)
		fmt.Fprintf(w, "%s %d", head.Filename, n)
	})
	mux.HandleFunc("/download", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Disposition", `attachment; filename="Bericht – 100%.txt"; filename*=UTF-8''Bericht%20%E2%80%93%20100%25.txt`)
		io.WriteString(w, "a report")
	})
	mux.HandleFunc("/worker.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, `self.addEventListener("install", () => self.skipWaiting()); self.addEventListener("activate", (e) => e.waitUntil(clients.claim()));
			self.addEventListener("fetch", (e) => { const u = new URL(e.request.url); if (u.pathname === "/made-up") e.respondWith(new Response("by the worker")); else e.respondWith(fetch(e.request)); });`)
	})
	mux.HandleFunc("/pic.svg", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>`)
	})
	mux.HandleFunc("/lib.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, `window.fromSibling = true;`)
	})
	mux.HandleFunc("/font.woff2", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "font/woff2")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		io.WriteString(w, "no font, but it arrives")
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		kind, message, err := conn.Read(context.WithoutCancel(r.Context()))
		if err == nil && conn.Write(context.WithoutCancel(r.Context()), kind, message) == nil {
			conn.Close(websocket.StatusNormalClosure, "")
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", n)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}
