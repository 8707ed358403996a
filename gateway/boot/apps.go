package boot

import (
	"context"
	"errors"
	"fmt"

	"sallyport/gateway/admin"
	"sallyport/gateway/cache"
	"sallyport/gateway/route"
	"sallyport/gateway/upstream"
)

// Purge drops stored answers.
func (o operated) Purge(_ context.Context, what admin.Purge) (admin.Purged, error) {
	if what.App != "" && o.server.Snapshot().Pool(route.Name(what.App)) == nil {
		return admin.Purged{}, fmt.Errorf("%w app %q", admin.ErrUnknown, what.App)
	}
	if o.cache == nil {
		return admin.Purged{}, errors.New("there is no cache: cache.memory is 0")
	}
	entries, bytes := o.cache.Purge(cache.Pattern{App: what.App, URL: what.URL, Prefix: what.Prefix})
	return admin.Purged{Entries: entries, Bytes: bytes}, nil
}

// cacheStatus sums up what is stored for all apps.
func (o operated) cacheStatus() admin.CacheStatus {
	if o.cache == nil {
		return admin.CacheStatus{}
	}
	sum := admin.CacheStatus{Enabled: true}
	for _, app := range o.cache.Stats().Apps {
		sum.Entries += app.Entries
		sum.Bytes += app.Bytes
		sum.Hits += app.Hits + app.Stale + app.Revalidated
		sum.Misses += app.Misses
	}
	return sum
}

// Upstreams lists every address of every app.
func (o operated) Upstreams() []admin.Upstream {
	var list []admin.Upstream
	snapshot := o.server.Snapshot()
	for _, app := range snapshot.Routes.Apps() {
		for _, e := range snapshot.Pool(app.Name).Endpoints() {
			list = append(list, upstreamFrom(app.Name, e))
		}
	}
	return list
}

func upstreamFrom(app route.Name, e upstream.Endpoint) admin.Upstream {
	u := admin.Upstream{App: string(app), ID: e.ID, URL: e.Address, Resolved: e.Resolved, Serving: e.InService, State: string(e.State), Backup: e.Backup, Weight: e.Weight,
		Open: e.Outstanding, Waiting: e.Pending, Requests: e.Requests, Failures: e.Failures, Retries: e.Retries, Latency: e.Latency.Seconds(),
		Error: e.LastError, Failed: e.LastFailure}
	return u
}

// Drain takes an address out of service or puts it back.
func (o operated) Drain(_ context.Context, what admin.Drain) error {
	pool := o.server.Snapshot().Pool(route.Name(what.App))
	if pool == nil {
		return fmt.Errorf("%w app %q", admin.ErrUnknown, what.App)
	}
	if !pool.Drain(what.Address, !what.Undo) {
		return fmt.Errorf("%w address %q of app %s", admin.ErrUnknown, what.Address, what.App)
	}
	return nil
}
