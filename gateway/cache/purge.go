package cache

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

// Purge removes what matches for everyone, and tells how much that was. Answers that are being fetched meanwhile are
// not stored.
func (c *Cache) Purge(p Pattern) (entries int, bytes int64) { return 0, 0 }
