// Package route finds the app that a request is for: host and path in, app out.
//
// A Table is immutable; a reload builds a new one. Hosts match exactly, paths by whole segments, the longest first.
// The query, headers and methods never take part: what a request is allowed to do is the policy's matter.
package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sallyport/gateway/canon"
)

// Table is the immutable map from host and path to app.
type Table struct {
	hosts   map[string][]*App
	apps    []*App
	relaxed canon.Relaxed
}

// NewTable builds a table. Two apps with one name, or one host and path, are an error.
func NewTable(apps []App) (*Table, error) {
	t := &Table{hosts: make(map[string][]*App), relaxed: make(canon.Relaxed)}
	names := make(map[Name]bool, len(apps))
	for i := range apps {
		app := &apps[i]
		if app.Path == "" {
			app.Path = "/"
		}
		if names[app.Name] {
			return nil, fmt.Errorf("two apps are named %q", app.Name)
		}
		names[app.Name] = true
		for _, other := range t.hosts[app.Host] {
			if other.Path == app.Path {
				return nil, fmt.Errorf("apps %q and %q both claim %s%s", other.Name, app.Name, app.Host, app.Path)
			}
		}
		t.hosts[app.Host] = append(t.hosts[app.Host], app)
		t.apps = append(t.apps, app)
		t.relaxed.Add(app.Host, app.Path, app.Relax)
	}
	for _, sharing := range t.hosts {
		slices.SortFunc(sharing, func(a, b *App) int { return cmp.Compare(len(b.Path), len(a.Path)) })
	}
	return t, nil
}

// Match is the app that owns a canonical path on a host, or nil. A path app at /a/ owns /a/ and all below it, and
// /a itself.
func (t *Table) Match(host, path string) *App {
	for _, app := range t.hosts[host] {
		if strings.HasPrefix(path, app.Path) || path+"/" == app.Path {
			return app
		}
	}
	return nil
}

// HasHost reports whether any app lives on the host.
func (t *Table) HasHost(host string) bool { return len(t.hosts[host]) > 0 }

// Relaxed is what the apps relax of how requests are spelt.
func (t *Table) Relaxed() canon.Relaxed { return t.relaxed }

// Apps are all apps in configuration order.
func (t *Table) Apps() []*App { return t.apps }

// StartPath is the app's first page as policy and app see it.
func (a *App) StartPath() string {
	if rest, ok := strings.CutPrefix(a.Path, a.StripPrefix); ok && rest != "" {
		return rest
	}
	return "/"
}
