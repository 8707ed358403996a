package cache

// Stats are counts since the start, and what is held now.
type Stats struct {
	Apps map[string]AppStats
}

// AppStats are the counts of one app. The first five count requests by their [Result].
type AppStats struct {
	Hits, Misses, Stale, Revalidated, Bypassed int64

	Stored      int64 // answers that were stored or confirmed
	Invalidated int64 // URLs whose entries a change made useless
	BytesServed int64 // bytes of bodies that came out of the cache
	Held
}

// Stats reads the counts of all apps that had requests.
func (c *Cache) Stats() Stats {
	held := c.store.Held()
	s := Stats{Apps: map[string]AppStats{}}
	for name, a := range *c.apps.Load() {
		s.Apps[name] = AppStats{
			Hits: a.hits.Load(), Misses: a.misses.Load(), Stale: a.stale.Load(),
			Revalidated: a.revalidated.Load(), Bypassed: a.bypassed.Load(),
			Stored: a.stored.Load(), Invalidated: a.invalidated.Load(), BytesServed: a.bytesServed.Load(),
			Held: held[name],
		}
	}
	return s
}
