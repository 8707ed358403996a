package upstream

import (
	"sync"
	"time"
)

// Endpoint is the state of one address, for status and metrics.
type Endpoint struct {
	ID          string        `json:"id"`
	Address     string        `json:"address"`           // as configured
	Resolved    string        `json:"resolved,omitzero"` // what its name stands for now
	State       State         `json:"state"`
	InService   bool          `json:"in_service"` // requests are sent there
	Backup      bool          `json:"backup,omitzero"`
	Weight      int           `json:"weight"`
	Outstanding int64         `json:"outstanding"` // requests under way, until the end of their answers
	Pending     int64         `json:"pending"`     // requests that wait for their turn
	Requests    uint64        `json:"requests"`
	Failures    uint64        `json:"failures"`
	Retries     uint64        `json:"retries"` // requests that came here after another try elsewhere
	Latency     time.Duration `json:"latency_ns"`
	LastError   string        `json:"last_error,omitzero"` // one word, such as connect, timeout, reset or status_503
	LastFailure time.Time     `json:"last_failure,omitzero"`
}

// State says in a word whether and why an endpoint gets requests.
type State string

const (
	Healthy   State = "healthy"
	SlowStart State = "slow_start" // healthy, with a part of its weight
	HalfOpen  State = "half_open"  // was ejected; the next request shows whether it is back
	Stalled   State = "stalled"    // does not answer the requests it has
	Ejected   State = "ejected"    // its requests failed
	Unhealthy State = "unhealthy"  // its health checks failed
	Draining  State = "draining"   // gets no new requests, by an operator
	Leaving   State = "leaving"    // no longer configured; its last requests finish
)

// Endpoints reports the addresses in configuration order, then those that are leaving.
func (p *Pool) Endpoints() []Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.nanos()
	var list []Endpoint
	for _, e := range p.view.Load().all {
		list = append(list, p.describe(e, now))
	}
	for _, e := range p.leaving {
		if e.gate.load() > 0 {
			gone := p.describe(e, now)
			gone.State, gone.InService = Leaving, false
			list = append(list, gone)
		}
	}
	return list
}

func (p *Pool) describe(e *endpoint, now int64) Endpoint {
	d := Endpoint{
		ID: e.id, Address: e.address, Resolved: e.resolved, State: p.stateOf(e, now), InService: e.inService(now, true),
		Backup: e.backup, Weight: int(e.weight), Outstanding: e.gate.active.Load(), Pending: e.gate.pending.Load(),
		Requests: e.requests.Load(), Failures: e.failures.Load(), Retries: e.retries.Load(),
		Latency: time.Duration(e.latency.value.Load()),
	}
	if last := e.last.Load(); last != nil {
		d.LastError, d.LastFailure = last.class, p.clock.time(last.at)
	}
	return d
}

func (p *Pool) stateOf(e *endpoint, now int64) State {
	switch {
	case e.draining.Load():
		return Draining
	case e.down.Load():
		return Unhealthy
	case e.breaker.ejected(now):
		return Ejected
	case e.breaker.halfOpen(now):
		return HalfOpen
	case e.stalled(now):
		return Stalled
	case e.ramp(now, p.cfg.Balance.SlowStart) < 1:
		return SlowStart
	}
	return Healthy
}

// Drain takes an address, or one endpoint by its id, out of service: requests under way finish, new ones and those of
// sticky sessions go elsewhere. Off puts it back. It holds until it is taken back, also after a reload that keeps the
// address, and for whatever the name of a drained address comes to stand for. There may be no such address.
func (p *Pool) Drain(what string, on bool) (found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.nanos()
	for _, e := range p.view.Load().all {
		if e.id != what && e.address != what {
			continue
		}
		found = true
		if was := e.draining.Swap(on); was && !on {
			e.back.Store(now)
		}
	}
	if found {
		p.drains.set(what, on)
	}
	return found
}

// drains are what is drained, by address or id, for endpoints yet to come.
type drains struct {
	mu  sync.Mutex
	now map[string]bool
}

func (d *drains) set(what string, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now == nil {
		d.now = map[string]bool{}
	}
	d.now[what] = on
}

func (d *drains) holds(address, id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now[address] || d.now[id]
}
