package cache

import (
	"hash/maphash"
	"maps"
	"sync/atomic"
)

// generations is how many slots the generations of an app's URLs share. URLs that share a slot are invalidated together,
// which costs a fetch and nothing else; in return a change reaches all partitions of a URL at once, without an index.
const generations = 1 << 14

// app is what the cache knows of one app.
type app struct {
	seed        maphash.Seed
	generations [generations]atomic.Uint32
	// purges counts what was purged: answers on their way do not outlive a purge.
	purges atomic.Uint64

	hits, misses, stale, revalidated, bypassed atomic.Int64
	stored, invalidated, bytesServed           atomic.Int64
}

// appOf finds or makes the record of an app. Apps are as many as the configuration names.
func (c *Cache) appOf(name string) *app {
	if a := (*c.apps.Load())[name]; a != nil {
		return a
	}
	c.appsMu.Lock()
	defer c.appsMu.Unlock()
	known := *c.apps.Load()
	if a := known[name]; a != nil {
		return a
	}
	made := &app{seed: maphash.MakeSeed()}
	grown := maps.Clone(known)
	grown[name] = made
	c.apps.Store(&grown)
	return made
}

// generation is where the URL's current generation is kept.
func (a *app) generation(url string) *atomic.Uint32 {
	return &a.generations[maphash.String(a.seed, url)%generations]
}

// moment is a state of things that an answer must not outlive: neither a change of its URL nor a purge of its app.
type moment struct {
	generation uint32
	purges     uint64
}

func (a *app) moment(url string) moment {
	return moment{a.generation(url).Load(), a.purges.Load()}
}

// count counts a request by what came of it.
func (a *app) count(r Result) {
	switch r {
	case Hit:
		a.hits.Add(1)
	case Miss:
		a.misses.Add(1)
	case Stale:
		a.stale.Add(1)
	case Revalidated:
		a.revalidated.Add(1)
	case Bypass:
		a.bypassed.Add(1)
	}
}
