package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/audit"
	"sallyport/gateway/route"
)

// crowd bounds how many requests of strangers are judged at once, so that a flood of them takes its turns behind people
// who are signed in: policy, disk and processors are theirs first. How fast a client takes its answer does not count.
type crowd struct {
	most   int64 // 0: without a bound
	inside atomic.Int64
}

func (c *crowd) enter() bool {
	if c.inside.Add(1) <= c.most || c.most == 0 {
		return true
	}
	c.inside.Add(-1)
	return false
}

// join turns a stranger away when there are too many, before anything is spent: these are counted, not recorded one by one.
// It is the same whether there is an app or none, which strangers are not to know.
func (x *exchange) join() error {
	if x.session != nil {
		return nil
	}
	if !x.server.crowd.enter() {
		x.recorded = counted
		x.server.count(crowded, x.appName(), x.conn.address.Addr())
		return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: crowded, Close: true,
			Public: "Too many people who are not signed in are asking at the moment."}
	}
	x.inCrowd = true
	return nil
}

// awaitBody has a body read while its sender is out of the crowd: how slowly a stranger sends is not to keep others out.
// For that it takes a place among those of its address and of its app, for which there are bounds of their own.
func (x *exchange) awaitBody(read func() error) error {
	if x.session != nil {
		return read()
	}
	address, app := x.client(), x.app.Name
	if !x.server.awaited.enter(address, app) {
		x.recorded = counted
		x.server.count(bodiesAwaited, x.appName(), x.conn.address.Addr())
		return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: bodiesAwaited, Close: true,
			Public: "Too many people who are not signed in are sending something at the moment."}
	}
	defer x.server.awaited.leave(address, app)
	x.part()
	x.awaited = true
	if err := read(); err != nil {
		return err
	}
	return x.join()
}

// Why a stranger's request was not judged.
const (
	crowded       = "strangers_crowded"
	bodiesAwaited = "bodies_awaited"
)

// part makes room for the next stranger: there is a verdict, or none is needed any more.
func (x *exchange) part() {
	if x.inCrowd {
		x.inCrowd = false
		x.server.crowd.inside.Add(-1)
	}
}

// awaited bounds how many bodies of strangers are awaited at once, for an address and for an app: one address does not
// take all of an app's places, and one app's do not run out because of another's.
type awaited struct {
	most int // for an app; 0: without a bound

	mu        sync.Mutex
	addresses map[string]int // as exchange.client has them
	apps      map[route.Name]int
}

func newAwaited(most int) *awaited {
	return &awaited{most: most, addresses: map[string]int{}, apps: map[route.Name]int{}}
}

// longestBody is how long a stranger's body may take at the most to arrive for its inspection.
const longestBody = 15 * time.Minute

// mostOfAddress is how many of an app's places one address may take, over all apps.
func (a *awaited) mostOfAddress() int { return max(1, a.most/8) }

func (a *awaited) enter(address string, app route.Name) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.most > 0 && (a.addresses[address] >= a.mostOfAddress() || a.apps[app] >= a.most) {
		return false
	}
	a.addresses[address]++
	a.apps[app]++
	return true
}

func (a *awaited) leave(address string, app route.Name) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.addresses[address]--; a.addresses[address] == 0 {
		delete(a.addresses, address)
	}
	if a.apps[app]--; a.apps[app] == 0 {
		delete(a.apps, app)
	}
}
