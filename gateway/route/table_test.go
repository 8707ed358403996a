package route

import (
	"strings"
	"testing"

	"sallyport/gateway/upstream"
)

func at(t *testing.T, address string) upstream.Address {
	t.Helper()
	a := upstream.Address{Weight: 1}
	if err := a.URL.UnmarshalText([]byte(address)); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLongestPathWinsAtSegmentBorders(t *testing.T) {
	table, err := NewTable([]App{
		{Name: "wiki", Host: "intranet.corp.example"},
		{Name: "files", Host: "intranet.corp.example", Path: "/files/"},
		{Name: "drafts", Host: "intranet.corp.example", Path: "/files/drafts/"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Name{
		"/": "wiki", "/filesystem": "wiki", "/files": "files", "/files/": "files", "/files/a": "files",
		"/files/drafts": "drafts", "/files/drafts/x": "drafts", "/files/draftsman": "files",
	} {
		if got := table.Match("intranet.corp.example", path); got == nil || got.Name != want {
			t.Errorf("Match(%q) = %v, want %s", path, got, want)
		}
	}
	if got := table.Match("other.corp.example", "/"); got != nil {
		t.Errorf("unknown host matched %s; there is no default route", got.Name)
	}
}

func TestTwoAppsCannotShareANameOrAPlace(t *testing.T) {
	_, err := NewTable([]App{{Name: "a", Host: "x.example"}, {Name: "a", Host: "y.example"}})
	if err == nil || !strings.Contains(err.Error(), `two apps are named "a"`) {
		t.Errorf("same name: got %v", err)
	}
	_, err = NewTable([]App{{Name: "a", Host: "x.example"}, {Name: "b", Host: "x.example", Path: "/"}})
	if err == nil || !strings.Contains(err.Error(), "both claim") {
		t.Errorf("same place: got %v", err)
	}
}

func TestStartPathIsWhatTheAppSees(t *testing.T) {
	for _, c := range []struct{ path, strip, want string }{
		{"/", "", "/"}, {"/wiki/", "", "/wiki/"}, {"/wiki/", "/wiki", "/"}, {"/a/b/", "/a", "/b/"},
	} {
		if got := (&App{Path: c.path, StripPrefix: c.strip}).StartPath(); got != c.want {
			t.Errorf("path %s without %q starts at %s, want %s", c.path, c.strip, got, c.want)
		}
	}
}

func TestAppSettingsAreChecked(t *testing.T) {
	good := App{Name: "wiki", Host: "wiki.corp.example", Upstreams: []upstream.Address{at(t, "http://10.0.0.5")}}
	if err := good.Check(); err != nil {
		t.Fatalf("a good app: %v", err)
	}
	for want, change := range map[string]func(*App){
		"name":              func(a *App) { a.Name = "Wiki!" },
		"host":              func(a *App) { a.Host = "wiki.corp.example:443" },
		"path":              func(a *App) { a.Path = "/a/../b/" },
		"strip_prefix":      func(a *App) { a.StripPrefix = "/app/" },
		"websocket_origins": func(a *App) { a.WebSocketOrigins = []string{"https://x/"} },
		"upstreams":         func(a *App) { a.Upstreams = nil },
	} {
		bad := good
		change(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %s, got %v", want, err)
		}
	}
}

func TestStreamsAreDeclaredAtSegmentBorders(t *testing.T) {
	streams := Streams{Paths: []string{"/live/", "/feed"}}
	for path, want := range map[string]bool{"/live": true, "/live/": true, "/live/a": true, "/lively": false, "/feed": true, "/feed/a": false, "/": false} {
		if got := streams.Declared(path); got != want {
			t.Errorf("%s declared: got %v, want %v", path, got, want)
		}
	}
	bad := Streams{Paths: []string{"live/", "/a/../b"}, Idle: -1}
	err := bad.Check()
	if err == nil || !strings.Contains(err.Error(), "live/") || !strings.Contains(err.Error(), "/a/../b") || !strings.Contains(err.Error(), "negative") {
		t.Errorf("got %v", err)
	}
}
