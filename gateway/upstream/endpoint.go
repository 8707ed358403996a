package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"sync/atomic"
	"time"
)

// endpoint is one place to send requests to: a configured address, or one of those its name resolves to. It belongs to
// one list of a pool; what is known about it is in state, which outlives lists and pools.
type endpoint struct {
	*state
	url      URL
	ip       netip.Addr // what its name stands for; invalid if it has none
	allow    netip.Prefix
	address  string // as configured
	resolved string // ip and port; empty without one
	weight   float64
	share    float64 // weight ÷ the mean weight of its group
	backup   bool
	legs     *legs

	next atomic.Int64 // round robin: when it is its turn
}

// state is what is known about an endpoint. All fields but the first are safe to use without a lock.
type state struct {
	id   string // of the address: the same after a restart and in every replica
	seed uint64 // of the id, for hashing

	gate     gate
	draining atomic.Bool
	down     atomic.Bool // so say the health checks

	// Requests that wait for the head of their answer.
	waiting atomic.Int64
	heard   atomic.Int64 // when a head arrived, or the first of them began to wait
	latency latency

	breaker breaker
	back    atomic.Int64 // when it came into service, for slow start; 0 = long ago

	requests, failures, retries atomic.Uint64
	last                        atomic.Pointer[failure]
}

// failure is what went wrong last.
type failure struct {
	class string
	at    int64
}

func newState(id string) *state {
	return &state{id: id, seed: hashString(id)}
}

// endpointID is short for an address and what its name stands for. It tells nobody either of them.
func endpointID(address, resolved string) string {
	sum := sha256.Sum256([]byte(address + "\x00" + resolved))
	return hex.EncodeToString(sum[:8])
}

const (
	// stallCount is how many requests must wait for an answer before silence says anything about an endpoint.
	stallCount = 5
	// briefStall passes an endpoint over as long as another one is in service: it costs little to be wrong.
	briefStall = 20 * time.Millisecond
	// longStall takes an endpoint out of service: then backups are asked. Some apps hold their answers back on purpose.
	longStall = 5 * time.Second
	// stallFactor is how many times its latency an endpoint must be silent to be taken out, and how many answers must
	// have become due meanwhile to be passed over.
	stallFactor = 10
)

// began and ended count a request that waits for the head of its answer.
func (s *state) began(now int64) {
	if s.waiting.Load() == 0 {
		s.heard.Store(now)
	}
	s.waiting.Add(1)
}

func (s *state) ended(now int64, answered bool) {
	s.waiting.Add(-1)
	if answered {
		s.heard.Store(now)
	}
}

// silence is how long an endpoint that owes answers has given none.
func (s *state) silence(now int64) int64 {
	if s.waiting.Load() <= 0 {
		return 0
	}
	return max(now-s.heard.Load(), 0)
}

// hesitates holds for an endpoint that several requests wait for and that has given none an answer while, by its latency,
// a good number were due. Without it a hung endpoint that accepts connections would collect requests, with methods that do
// not look at latency, until they time out.
func (s *state) hesitates(now int64) bool {
	waiting := s.waiting.Load()
	if waiting < stallCount {
		return false
	}
	usual := s.latency.value.Load()
	return s.silence(now) > max(int64(briefStall), usual, stallFactor*usual/waiting)
}

// stalled holds when that has lasted for long, and for much longer than it ever used to.
func (s *state) stalled(now int64) bool {
	return s.waiting.Load() >= stallCount && s.silence(now) > max(int64(longStall), stallFactor*s.latency.value.Load())
}

// inService holds for endpoints that a request may be sent to. A request that could not be repeated elsewhere is no
// good probe of an endpoint that was ejected.
func (s *state) inService(now int64, repeatable bool) bool {
	return !s.draining.Load() && !s.down.Load() && s.breaker.admits(now, repeatable) && !s.stalled(now)
}

func (s *state) note(class string, now int64) {
	s.failures.Add(1)
	s.last.Store(&failure{class, now})
}

// ramp is the part of its weight that an endpoint has, a tenth to all, while it starts slowly.
func (s *state) ramp(now int64, slowStart time.Duration) float64 {
	since := s.back.Load()
	if since == 0 || slowStart == 0 {
		return 1
	}
	part := float64(now-since) / float64(slowStart)
	return min(max(part, 0.1), 1)
}
