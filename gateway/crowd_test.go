package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/gateway/route"
	"sallyport/gateway/shield"
	"sallyport/policy"
)

// SIDE-02: a crowd of strangers changes nothing about what they learn: they are turned away the same whether there is
// an app or none, or a part of it that is not theirs to name.
func TestCrowdTellsNothingOfWhatThereIs(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	app := wiki(t, b.origin, "staff")
	app.Path, app.CORS.Origins = "/wiki/", []string{"https://pages.example"}
	b.server.Swap(snapshot(t, app))
	ask := func(t *testing.T, method, path string, fields map[string]string) int {
		r := b.request(t, method, path, "", nil)
		for name, value := range fields {
			r.Header.Set(name, value)
		}
		status, _ := answerTo(t, b.client(t, "http/1.1"), r)
		return status
	}
	places := []struct {
		name, method, path string
		fields             map[string]string
	}{
		{"an app", "GET", "/wiki/", nil},
		{"no app", "GET", "/nothing", nil},
		{"a destination elsewhere", "COPY", "/wiki/a", map[string]string{"Destination": "/nothing"}},
		{"a preflight of nobody's", "OPTIONS", "/wiki/", map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}},
	}
	b.server.crowd.most = 2
	b.server.crowd.inside.Store(2)
	for _, place := range places {
		if status := ask(t, place.method, place.path, place.fields); status != http.StatusServiceUnavailable {
			t.Errorf("%s, in a crowd: status %d, want 503", place.name, status)
		}
	}
	if n := len(b.log.of(audit.TypeDecision)); n != 0 || b.window.of(crowded, "wiki") != 3 || b.window.of(crowded, "") != 1 {
		t.Errorf("%d recorded, %d and %d counted", n, b.window.of(crowded, "wiki"), b.window.of(crowded, ""))
	}
	b.server.crowd.inside.Store(1)
	for range 3 { // each leaves its place
		for _, place := range places {
			if status := ask(t, place.method, place.path, place.fields); status != http.StatusUnauthorized {
				t.Errorf("%s, with a place free: status %d, want 401", place.name, status)
			}
		}
	}
	eventually(t, "the places to be free", func() bool { return b.server.crowd.inside.Load() == 1 })
	r := b.request(t, "GET", "/nothing", "ada", nil)
	b.server.crowd.inside.Store(2)
	if status, _ := answerTo(t, b.client(t, "http/1.1"), r); status != http.StatusNotFound {
		t.Errorf("somebody who is signed in, in a crowd: status %d, want 404", status)
	}
}

// DOS-12: strangers whose bodies are awaited take no place of others: one address sends so many at once, and everybody else
// who is no one yet is judged all the while, though there is a place for one only.
func TestAwaitedBodiesKeepNobodyOut(t *testing.T) {
	if wrong := slowBodies(t, func(*Server) {}); wrong != "" {
		t.Error(wrong)
	}
	if wrong := slowBodies(t, func(s *Server) { s.awaited.most = 0 }); wrong == "" {
		t.Error("bodies without a bound are not found")
	}
}

// form is a request as a browser sends a form.
func form(t *testing.T, b *bed, method, who string, body io.Reader) *http.Request {
	r := b.request(t, method, "/page", who, body)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// slowBodies tells what is wrong while one address sends bodies that do not end.
func slowBodies(t *testing.T, worsen func(*Server)) string {
	b := guarded(t, shield.Block, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }, func(app *route.App) { app.Access = policy.Access{{Public: true}} })
	b.server.crowd.most, b.server.awaited.most = 1, 16 // two of an address
	worsen(b.server)
	waiting := func() int {
		b.server.awaited.mu.Lock()
		defer b.server.awaited.mu.Unlock()
		return b.server.awaited.apps["wiki"]
	}
	client := b.client(t, "http/1.1")
	status := func(method, who, body string) int {
		got, _ := answerTo(t, client, form(t, b, method, who, strings.NewReader(body)))
		return got
	}
	for n := range 2 {
		slow := b.dial(t)
		io.WriteString(slow, "POST /page HTTP/1.1\r\nHost: "+wikiHost+"\r\nContent-Length: 1000\r\n\r\n.")
		eventually(t, "the body to be awaited", func() bool { return waiting() == n+1 })
		defer slow.Close()
		defer io.WriteString(slow, strings.Repeat(".", 999))
	}
	for range 3 {
		if got := status("GET", "", ""); got != http.StatusOK {
			return fmt.Sprintf("a stranger who sends nothing: got %d", got)
		}
		if got := status("POST", "", "a=b"); got != http.StatusServiceUnavailable || b.window.of(bodiesAwaited, "wiki") == 0 {
			return fmt.Sprintf("a third body of the address: got %d, counted %d", got, b.window.of(bodiesAwaited, "wiki"))
		}
		if got := status("POST", "ada", "a=b"); got != http.StatusOK {
			return fmt.Sprintf("somebody who is signed in: got %d", got)
		}
	}
	return ""
}

// A body that has arrived is judged like any other request, in its turn, and its place is free again.
func TestAwaitedBodiesComeBack(t *testing.T) {
	b := guarded(t, shield.Block, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }, func(app *route.App) { app.Access = policy.Access{{Public: true}} })
	b.server.crowd.most, b.server.awaited.most = 1, 1
	for range 5 {
		if got, _ := answerTo(t, b.client(t, "h2"), form(t, b, "POST", "", strings.NewReader("a=b"))); got != http.StatusOK {
			t.Errorf("got %d", got)
		}
		eventually(t, "its places to be free", func() bool { return b.server.crowd.inside.Load() == 0 })
	}
	body, rest := io.Pipe()
	answered := make(chan int, 1)
	go func() {
		got, _ := answerTo(t, b.client(t, "h2"), form(t, b, "POST", "", body))
		answered <- got
	}()
	io.WriteString(rest, "a=")
	eventually(t, "it to be awaited out of the crowd", func() bool {
		b.server.awaited.mu.Lock()
		defer b.server.awaited.mu.Unlock()
		return b.server.awaited.apps["wiki"] == 1 && b.server.crowd.inside.Load() == 0
	})
	b.server.crowd.inside.Store(1)
	rest.Close()
	if got := <-answered; got != http.StatusServiceUnavailable || b.window.of(crowded, "wiki") != 1 {
		t.Errorf("a body that arrives in a crowd: got %d, counted %d", got, b.window.of(crowded, "wiki"))
	}
	b.server.crowd.inside.Store(0)
	eventually(t, "nothing to be left", func() bool {
		b.server.awaited.mu.Lock()
		defer b.server.awaited.mu.Unlock()
		return len(b.server.awaited.addresses) == 0 && len(b.server.awaited.apps) == 0 && b.server.spool.Stats().Bodies == 0
	})
}

// One app's places do not run out because of another's.
func TestAwaitedBodiesOfEachApp(t *testing.T) {
	a := newAwaited(16)
	for n := range 16 {
		if !a.enter(fmt.Sprint(n), "wiki") {
			t.Fatalf("no place for the body %d", n)
		}
	}
	if a.enter("another", "wiki") || !a.enter("another", "shop") {
		t.Error("the places are not each app's own")
	}
}
