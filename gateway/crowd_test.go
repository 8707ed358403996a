package gateway

import (
	"net/http"
	"testing"

	"sallyport/audit"
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
