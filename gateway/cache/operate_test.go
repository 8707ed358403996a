package cache

import (
	"io"
	"strings"
	"testing"
)

func TestPurge(t *testing.T) {
	for _, c := range []struct {
		pattern Pattern
		want    string // what is left
	}{
		{Pattern{URL: "https://a/docs"}, "https://a/docs/1 https://a/docs2 https://b/docs"},
		{Pattern{Prefix: "https://a/docs"}, "https://b/docs"},
		{Pattern{Prefix: "https://a/docs/"}, "https://a/docs https://a/docs2 https://b/docs"},
		{Pattern{App: "wiki"}, ""},
		{Pattern{App: "chat"}, "https://a/docs https://a/docs/1 https://a/docs2 https://b/docs"},
		{Pattern{App: "chat", Prefix: "https://a/"}, "https://a/docs https://a/docs/1 https://a/docs2 https://b/docs"},
		{Pattern{}, "https://a/docs https://a/docs/1 https://a/docs2 https://b/docs"},
	} {
		b := newBed(t, Rule{}, Options{})
		b.says(200, "body", "Cache-Control: max-age=60")
		urls := []string{"https://a/docs", "https://a/docs/1", "https://a/docs2", "https://b/docs"}
		visit := func(url, person string) Result {
			return b.send(&Viewer{App: "wiki", URL: url, Person: person, Rule: b.rule}, "GET").result
		}
		for _, url := range urls {
			visit(url, "ann")
			visit(url, "bob")
		}
		entries, bytes := b.cache.Purge(c.pattern)
		var left []string
		for _, url := range urls {
			ann, bob := visit(url, "ann"), visit(url, "bob")
			if ann != bob {
				t.Errorf("%+v: %s is a %s for ann and a %s for bob", c.pattern, url, ann, bob)
			}
			if ann == Hit {
				left = append(left, url)
			}
		}
		if got := strings.Join(left, " "); got != c.want || entries != 2*(len(urls)-len(left)) || (bytes > 0) != (entries > 0) {
			t.Errorf("%+v removed %d entries, %d bytes, and left %q, want %q", c.pattern, entries, bytes, got, c.want)
		}
	}
}

func TestWhatIsOnItsWayDoesNotOutliveAPurge(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	app := newSlowApp(b)
	going := b.going(t.Context(), "ann")
	b.waiting(1)
	app.heads <- []string{"Cache-Control: max-age=60"}
	b.cache.Purge(Pattern{Prefix: "https://wiki.corp.example/"})
	app.bodies <- io.NopCloser(strings.NewReader("body"))
	if a := <-going; a.body != "body" {
		t.Errorf("%v", a)
	}
	if h := b.cache.Stats().Apps["wiki"]; h.Entries != 0 {
		t.Errorf("held %+v", h.Held)
	}
}

func TestStats(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	b.says(200, "body", "Cache-Control: max-age=60", `Etag: "a"`)
	b.get()
	b.get()
	b.get("Range: bytes=0-1")
	b.get(`If-None-Match: "a"`)
	b.as("ann", "HEAD")
	b.says(304, "")
	b.get("Cache-Control: no-cache")
	b.says(200, "")
	b.as("ann", "POST")
	s := b.cache.Stats().Apps["wiki"]
	if s.Hits != 4 || s.Misses != 1 || s.Revalidated != 1 || s.Bypassed != 1 || s.Stored != 2 || s.Invalidated != 1 || s.BytesServed != 10 || s.Entries != 1 || s.Bytes < 4 {
		t.Errorf("%+v", s)
	}
}

func TestRulesOfPaths(t *testing.T) {
	yes, no := true, false
	rules := Rules{Enabled: true, Paths: []PathRule{
		{Path: "/assets/", Shared: &yes},
		{Path: "/assets/private", Shared: &no, StoreSetCookie: &yes},
		{Path: "/off", Enabled: &no},
	}}
	if err := rules.Check(); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]Rule{
		"/":                   {Enabled: true},
		"/assets":             {Enabled: true},
		"/assets/a.js":        {Enabled: true, Shared: true},
		"/assets/private":     {Enabled: true, StoreSetCookie: true},
		"/assets/private/a":   {Enabled: true, StoreSetCookie: true},
		"/assets/privateer":   {Enabled: true, Shared: true},
		"/off":                {},
		"/offer":              {Enabled: true},
		"/other/assets/a.js":  {Enabled: true},
		"/assets/private/../": {Enabled: true, StoreSetCookie: true},
	} {
		if got := rules.For(path); got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if got := (&Rules{}).For("/"); got != (Rule{}) {
		t.Errorf("nothing said: %+v", got)
	}
	for _, bad := range []string{"", "assets/", "/a//b", "/a?b"} {
		if err := (&Rules{Paths: []PathRule{{Path: bad}}}).Check(); err == nil {
			t.Errorf("path %q was accepted", bad)
		}
	}
	if err := (&Rules{Paths: []PathRule{{Path: "/a"}, {Path: "/a"}}}).Check(); err == nil {
		t.Error("a path was accepted twice")
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config Config
		ok     bool
	}{
		{Config{Memory: 256 << 20, MaxEntry: 8 << 20}, true},
		{Config{}, true},
		{Config{MaxEntry: 8 << 20}, true},
		{Config{Memory: 1 << 20, MaxEntry: 8 << 20}, false},
		{Config{Memory: 8 << 30, MaxEntry: 2 << 30}, false},
	} {
		if err := c.config.Check(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.config, err)
		}
	}
}
