// Package cache is a shared cache (RFC 9111) behind an authentication layer.
//
// It is an http.RoundTripper between the gateway and an app. What it stores is partitioned by who may see it: an entry is
// shared between people only where the operator vouches for it and the app says so, otherwise it belongs to one person
// as the app was told about them. The rules are in storable.go, on one screen.
//
// The package decides nothing about access. Its caller has authenticated, decided and recorded a request before it gets
// here, hit or miss, and says who is asking by a [Viewer] in the request's context. What goes on after a request was
// answered, the refresh of a stale entry, carries that request's identity and stores for it alone, or for all where
// everyone may see the answer.
package cache

import (
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options are a cache's limits.
type Options struct {
	// MaxEntry is the largest body that is stored. Default 8 MiB.
	MaxEntry int64
	// Filling is how many bytes of answers that are just arriving may be held in all. An answer that finds it used up
	// passes through unstored. Default 64 MiB.
	Filling int64
	// Refreshes bounds how many stale entries are refreshed in the background at once. Default 64.
	Refreshes int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

func (o Options) orDefaults() Options {
	if o.MaxEntry == 0 {
		o.MaxEntry = 8 << 20
	}
	if o.Filling == 0 {
		o.Filling = 64 << 20
	}
	if o.Refreshes == 0 {
		o.Refreshes = 64
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Cache stores answers of apps and gives them to those who may see them.
type Cache struct {
	store Store
	opts  Options
	// shares is sharing.allowed. Tests take one condition away to see that they would notice.
	shares func(sharing) bool

	apps   atomic.Pointer[map[string]*app] // copied on write; apps are as many as the configuration names
	appsMu sync.Mutex

	work sync.WaitGroup // flights under way

	filling    atomic.Int64 // bytes of answers that are arriving
	refreshing atomic.Int64 // flights that nobody waits for
	solitary   solitary

	flightsMu sync.Mutex
	flights   map[flightKey]*flight // those that can be joined
	live      map[*flight]struct{}  // all
	closed    bool
}

// New builds a cache over a store, which it closes with itself.
func New(store Store, opts Options) *Cache {
	c := &Cache{store: store, opts: opts.orDefaults(), shares: sharing.allowed, flights: map[flightKey]*flight{}, live: map[*flight]struct{}{}}
	c.solitary.seed = maphash.MakeSeed()
	c.apps.Store(&map[string]*app{})
	return c
}

// For returns the cache in front of an app.
func (c *Cache) For(next http.RoundTripper) http.RoundTripper { return &transport{c, next} }

// Close ends fetches and refreshes under way, waits for them, and closes the store. Requests that come later are still
// answered, by the app.
func (c *Cache) Close() {
	c.flightsMu.Lock()
	c.closed = true
	for f := range c.live {
		f.cancel(errShutdown)
	}
	c.flightsMu.Unlock()
	c.work.Wait()
	c.store.Close()
}

// transport is the cache in front of one app.
type transport struct {
	cache *Cache
	next  http.RoundTripper
}
