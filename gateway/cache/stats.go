package cache

// Stats are counts since the start, and what is held now.
type Stats struct {
	Apps map[string]AppStats
}

// AppStats are the counts of one app. Hits, Misses, Stale, Revalidated and Bypassed count requests by their [Result].
type AppStats struct {
	Hits, Misses, Stale, Revalidated, Bypassed int64

	Stored      int64 // answers that were stored
	Invalidated int64 // URLs whose entries a change made useless
	BytesServed int64 // bytes of bodies that came out of the cache
	Held
}

// Stats reads the counts of all apps.
func (c *Cache) Stats() Stats { return Stats{} }
