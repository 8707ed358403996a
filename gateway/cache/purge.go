package cache

import "strings"

// Pattern says what to purge: one URL, all URLs that begin with a prefix, or a whole app.
type Pattern struct {
	// App names the app. With neither URL nor Prefix all its entries are meant; empty with one of them means any app.
	App string
	// URL is one absolute URL, in the canonical form of [Viewer.URL].
	URL string
	// Prefix is the beginning of absolute URLs, compared byte by byte: https://wiki.corp.example/docs covers /docs,
	// /docs/a and /docs2; end it with a slash to stay within a folder.
	Prefix string
}

func (p Pattern) matches(k Key) bool {
	switch {
	case p == Pattern{}:
		return false
	case p.App != "" && k.App != p.App:
		return false
	case p.URL != "" && k.URL != p.URL:
		return false
	}
	return strings.HasPrefix(k.URL, p.Prefix)
}

// Purge removes what matches for everyone, and tells how much that was. Answers that are on their way meanwhile are given
// to those who wait for them, and not stored. The empty pattern matches nothing.
func (c *Cache) Purge(p Pattern) (entries int, bytes int64) {
	for name, a := range *c.apps.Load() {
		if p.App == "" || p.App == name {
			a.purges.Add(1)
		}
	}
	return c.store.Purge(p.matches)
}
