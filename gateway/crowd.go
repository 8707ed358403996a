package gateway

import (
	"net/http"
	"sync/atomic"

	"sallyport/audit"
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

// crowded is why a stranger's request was not judged.
const crowded = "strangers_crowded"

// part makes room for the next stranger: there is a verdict, or none is needed any more.
func (x *exchange) part() {
	if x.inCrowd {
		x.inCrowd = false
		x.server.crowd.inside.Add(-1)
	}
}
