package cache

// Store keeps entries. All methods may run at once, and entries and slices that were handed in or out are never changed
// afterwards, by either side. A store may forget anything at any time: entries are copies of what apps can say again.
//
// Every implementation runs the suite of package cachetest.
type Store interface {
	// Get returns the entries under a key, the one stored last first. It is on the path of every hit: no lock that all
	// requests share, no allocation.
	Get(Key) []*Entry
	// Put adds an entry before the others of its key. It takes the place of entries that answer the same requests
	// ([Entry.Supersedes]). A store that is full, or finds the entry too large, may drop it or others.
	Put(Key, *Entry)
	// Replace puts an entry in the place of another, or removes it if next is nil. It reports whether old was there;
	// otherwise nothing changes.
	Replace(k Key, old, next *Entry) bool
	// Purge removes what matches and tells how much that was. Entries that are put meanwhile may stay.
	Purge(match func(Key) bool) (entries int, bytes int64)
	// Held is what the store keeps now, by app.
	Held() map[string]Held
	// Close waits for the store's background work and gives up what it keeps.
	Close()
}

// Held is how much of an app is kept.
type Held struct {
	Entries int64
	Bytes   int64 // bodies, headers, keys and bookkeeping
	Evicted int64 // entries that made room for others, since the start
}
