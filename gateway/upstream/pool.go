// Package upstream carries one decided request to one of an app's addresses.
//
// A Pool is an http.RoundTripper over the addresses of one app. It chooses among the endpoints that are in service, leaves
// those alone that fail, hang or are found down, and sends a request again where that is safe. It follows no redirect,
// decompresses nothing, uses no proxy of the environment and never falls back to the address of another app.
//
// An endpoint is out of service when it is drained, when health checks found it down, when its requests failed (ejected)
// or when it has been silent for long while several requests wait for it. When nothing is in service, backups are asked,
// and then the ejected and the silent ones: there is nothing to lose. Only when all are drained or down there is no
// endpoint, and that is said at once.
//
// New makes a pool without starting anything; Start begins health checks and name resolution, Close ends them. After a
// reload a new pool takes over from the one before it what is known about the addresses that stay, and their connections;
// requests of the old pool finish as if nothing had happened.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Pool needs to know of an app. The sections are as decoded, with their defaults; Defaults has those.
type Config struct {
	Addresses []Address
	Balance   Balance
	Health    Health
	Ejection  Ejection
	Limits    Limits
	Retry     Retry
	Timeouts  Timeouts
	TLS       TLS
	Protocol  Protocol
	// HostUpstream sends each address's own name as Host in place of the request's.
	HostUpstream bool
	// Lean carries plain requests over HTTP/1.1 by our own leg (package http1) in place of http.Transport.
	Lean bool
	// ClientCertificate answers an app that asks for TLS.ClientCertificate; nil has none.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// ClientDigest tells certificates apart that were in the same file one after the other.
	ClientDigest string
	// Nameserver is the host:port of the DNS server to ask; empty means the system's.
	Nameserver string
	// Own is where the gateway itself listens, to which no address leads; nil is nowhere.
	Own *Own
	// Log hears about endpoints that leave and return; nil means nobody does.
	Log *slog.Logger
	Now func() time.Time
}

// Defaults is the configuration of an app that says nothing but its addresses.
func Defaults(addresses ...Address) Config {
	return Config{
		Addresses: addresses,
		Balance:   Balance{Method: MethodPeakEWMA, Hash: HashUser},
		Health:    Health{Interval: 5 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3},
		Ejection:  Ejection{Failures: 5, Rate: 0.5, Time: 5 * time.Second, MaxTime: 30 * time.Second, MaxShare: 0.5},
		Limits:    Limits{MaxPending: 128, PendingTimeout: 5 * time.Second},
		Retry:     Retry{Attempts: 2, Budget: 0.2, Status: []int{500, 502, 503, 504}},
		Timeouts:  Timeouts{Connect: 5 * time.Second, Response: 60 * time.Second, Idle: 90 * time.Second},
		Protocol:  ProtocolAuto,
	}
}

// Pool is the set of addresses of one app.
type Pool struct {
	cfg      Config
	settings *settings
	clock    clock
	log      *slog.Logger
	drains   *drains

	view      atomic.Pointer[view]
	turn      atomic.Int64 // round robin
	traffic   window       // requests, and those that were repeated
	ejections ejections

	started atomic.Bool
	mu      sync.Mutex // guards what follows, and changes of the view
	targets []*target
	leaving []*endpoint // no longer configured or resolved, with requests under way
	closed  bool
	stop    context.CancelFunc
	running sync.WaitGroup
	changed chan struct{} // the view is another one
}

// target is a configured address and what is known of its name.
type target struct {
	Address
	name string // to be resolved; empty if there is none
	ips  []netip.Addr
}

// New builds a pool. An unreadable CA file is an error: verification is never weakened.
//
// previous is the pool it follows after a change of configuration, or nil; it is left as it is. Addresses that stay keep
// their state, drained or ejected included, and where the settings of connections are the same also those.
func New(cfg Config, previous *Pool) (*Pool, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("an app needs at least one upstream address")
	}
	shared, err := newSettings(&cfg)
	if err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, settings: shared, clock: newClock(cfg.Now), log: cfg.Log, drains: new(drains), changed: make(chan struct{}, 1)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	for _, a := range cfg.Addresses {
		if err := checkProtocol(cfg.Protocol, &a.URL); err != nil {
			return nil, err
		}
		p.targets = append(p.targets, &target{Address: a, name: a.URL.name()})
	}
	if previous == nil {
		p.build(nil, nil)
		p.apply()
	} else {
		p.succeed(previous)
	}
	return p, nil
}

// succeed takes over what previous knows.
func (p *Pool) succeed(previous *Pool) {
	p.clock, p.drains = previous.clock, previous.drains
	previous.mu.Lock()
	defer previous.mu.Unlock()
	for _, t := range p.targets {
		if i := slices.IndexFunc(previous.targets, func(old *target) bool { return old.name == t.name }); i >= 0 {
			t.ips = previous.targets[i].ips
		}
	}
	p.build(previous.view.Load(), previous.leaving)
}

// build makes the list of endpoints from the targets. Endpoints of the old list that stay keep their state; those that go
// finish what they have to do.
func (p *Pool) build(old *view, leaving []*endpoint) {
	known := map[string]*endpoint{}
	if old != nil {
		for _, e := range old.all {
			known[e.id] = e
		}
	}
	var all []*endpoint
	now, ids := p.clock.nanos(), map[string]bool{}
	for _, t := range p.targets {
		for _, ip := range t.places() {
			e := p.endpoint(t, ip, known)
			if ids[e.id] {
				continue // written twice
			}
			ids[e.id] = true
			if old != nil && known[e.id] == nil {
				e.back.Store(now)
			}
			e.legs.hold()
			all = append(all, e)
		}
	}
	if old != nil {
		leaving = append(slices.Clone(leaving), old.all...)
	}
	p.leaving = slices.DeleteFunc(leaving, func(e *endpoint) bool { return ids[e.id] || e.gate.load() == 0 })
	p.view.Store(newView(all))
}

// places are the addresses a target stands for; the zero address stands for a name that is not resolved yet, or for none.
func (t *target) places() []netip.Addr {
	if len(t.ips) == 0 {
		return []netip.Addr{{}}
	}
	return t.ips
}

func (p *Pool) endpoint(t *target, ip netip.Addr, known map[string]*endpoint) *endpoint {
	e := &endpoint{url: t.URL, ip: ip, allow: t.Allow, address: t.URL.String(), weight: float64(max(t.Weight, 1)), backup: t.Backup}
	if ip.IsValid() {
		_, e.resolved = t.URL.dialled(ip)
	}
	id := endpointID(e.address, e.resolved)
	if old := known[id]; old != nil {
		e.state = old.state
		if old.legs.digest == p.settings.digestFor(t.Allow) {
			e.legs = old.legs
		}
	} else {
		e.state = newState(id)
		e.draining.Store(p.drains.holds(e.address, id))
	}
	if e.legs == nil {
		e.legs = newLegs(&t.URL, ip, t.Allow, p.settings)
	}
	return e
}

// apply puts what the configuration says of the endpoints' states in force.
func (p *Pool) apply() {
	for _, e := range p.view.Load().all {
		e.gate.setLimit(p.cfg.Limits.MaxConnections)
		if p.cfg.Health.kind() == "" {
			e.down.Store(false)
		}
	}
}

// Start puts the pool in force: its limits hold, its health checks and the resolution of its names run until Close. The
// first request does it too. The pool before it is to be closed then.
func (p *Pool) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started.Swap(true) || p.closed {
		return
	}
	p.apply()
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	if p.cfg.Health.kind() != "" {
		p.running.Go(func() { p.checkHealth(ctx) })
	}
	for _, t := range p.targets {
		if t.name != "" {
			p.running.Go(func() { p.follow(ctx, t) })
		}
	}
}

// Close ends what Start began and waits for it. Connections that no successor uses are closed when their requests are
// done; requests can still be sent.
func (p *Pool) Close() {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	if p.stop != nil {
		p.stop()
	}
	p.mu.Unlock()
	p.running.Wait()
	if again {
		return
	}
	for _, e := range p.view.Load().all {
		e.legs.release()
	}
}

// CloseIdle closes kept connections; those in use finish first.
func (p *Pool) CloseIdle() {
	for _, e := range p.view.Load().all {
		e.legs.closeIdle()
	}
}

// resolved takes the addresses of a name over.
func (p *Pool) resolved(t *target, ips []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || slices.Equal(t.ips, ips) {
		return
	}
	t.ips = ips
	old := p.view.Load()
	p.build(old, p.leaving)
	for _, e := range old.all {
		e.legs.release()
	}
	p.apply()
	p.log.Info("upstream name resolved", "upstream", t.URL.String(), "addresses", ips)
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// ejected and returned are told of endpoints that leave and come back.
func (p *Pool) ejected(e *endpoint, class string) {
	p.log.Warn("upstream ejected", "upstream", e.address, "resolved", e.resolved, "reason", class)
}

func (p *Pool) returned(e *endpoint, now int64) {
	e.back.Store(now)
	p.log.Info("upstream back in service", "upstream", e.address, "resolved", e.resolved)
}
