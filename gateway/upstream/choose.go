package upstream

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// tier is a group of endpoints with a reason to ask them. Each is asked only when the one before it is empty.
type tier int

const (
	ready      tier = iota // primary, in service, with room, and answering
	busy                   // primary, in service: there a request waits for its turn
	spare                  // backup, in service, with room, and answering
	busySpare              // backup, in service
	lastResort             // ejected or silent: an answer is unlikely, but there is no other address; never a drained one or
	// one that the health checks found down
)

func (t tier) group(v *view) []*endpoint {
	switch t {
	case ready, busy:
		return v.primaries
	case spare, busySpare:
		return v.backups
	}
	return v.all
}

func (t tier) holds(e *endpoint, now int64, repeatable bool) bool {
	switch t {
	case ready, spare:
		return e.inService(now, repeatable) && !e.gate.full() && !e.hesitates(now)
	case busy, busySpare:
		return e.inService(now, repeatable)
	}
	return !e.draining.Load() && !e.down.Load()
}

// room is for the candidates of one choice, on the stack: a longer list is allocated.
const room = 32

// pick chooses an endpoint that was not tried yet, or none.
func (x *exchange) pick(last tier) *endpoint {
	if x.hint != nil && x.hint.Prefer != "" {
		if e := x.view.byID[x.hint.Prefer]; e != nil && !x.wasTried(e) && e.inService(x.now, x.repeatable) && !e.hesitates(x.now) {
			return e
		}
	}
	var candidates [room]*endpoint
	for t := ready; t <= last; t++ {
		found := candidates[:0]
		for _, e := range t.group(x.view) {
			if t.holds(e, x.now, x.repeatable) && !x.wasTried(e) {
				found = append(found, e)
			}
		}
		if len(found) > 0 {
			return x.balance(found)
		}
	}
	return nil
}

// balance chooses among candidates, of which there is at least one.
func (x *exchange) balance(candidates []*endpoint) *endpoint {
	if len(candidates) == 1 {
		return candidates[0]
	}
	switch b := &x.pool.cfg.Balance; {
	case b.Method == MethodRoundRobin:
		return x.roundRobin(candidates)
	case b.Method == MethodLeastOutstanding:
		return x.leastOutstanding(candidates)
	case b.Method == MethodHash && x.hint != nil && x.hint.Key != "":
		return rendezvous(candidates, hashString(x.hint.Key))
	}
	return x.powerOfTwo(candidates)
}

// weight is the endpoint's weight as it counts now.
func (x *exchange) weight(e *endpoint) float64 {
	return e.weight * e.ramp(x.now, x.pool.cfg.Balance.SlowStart)
}

// powerOfTwo looks at two endpoints, drawn by weight, and takes the one that is expected to answer sooner. Looking at all
// would send everybody who asks at the same moment to the same one. The second must be clearly better, or the draw
// decides.
func (x *exchange) powerOfTwo(candidates []*endpoint) *endpoint {
	first := x.draw(candidates, nil)
	second := x.draw(candidates, first)
	if x.cost(second) < 0.8*x.cost(first) {
		return second
	}
	return first
}

// draw takes one at random by weight.
func (x *exchange) draw(candidates []*endpoint, except *endpoint) *endpoint {
	total := 0.0
	for _, e := range candidates {
		if e != except {
			total += x.weight(e)
		}
	}
	point := rand.Float64() * total
	var drawn *endpoint
	for _, e := range candidates {
		if e == except {
			continue
		}
		drawn = e
		if point -= x.weight(e); point < 0 {
			break
		}
	}
	return drawn
}

// cost is how long a request would take: the latency expected of the endpoint, for itself and for each of those it is
// busy with. Silence counts as latency as soon as it is longer. Weights count for the load only, in relation to the mean:
// an idle endpoint answers in its latency whatever its weight.
func (x *exchange) cost(e *endpoint) float64 {
	expected := max(e.latency.expected(x.now), e.silence(x.now), int64(latencyNoise))
	return float64(expected) * (1 + float64(e.gate.load())/(e.share*e.ramp(x.now, x.pool.cfg.Balance.SlowStart)))
}

// leastOutstanding takes the endpoint with the least to do for its weight, in turn among equals.
func (x *exchange) leastOutstanding(candidates []*endpoint) *endpoint {
	least, equals := math.Inf(1), candidates[:0]
	for _, e := range candidates {
		load := float64(e.gate.load()) / x.weight(e)
		if load < least {
			least, equals = load, equals[:0]
		}
		if load == least {
			equals = append(equals, e)
		}
	}
	return x.roundRobin(equals)
}

// turnLength is the length of a round in which each endpoint of weight 1 has one turn. Heavier ones have theirs more
// often, evenly spread over the round.
const turnLength = 1 << 20

// roundRobin takes the endpoint whose turn comes first (earliest deadline first, a smooth weighted round robin). One that
// was away does not catch up on the turns it missed.
func (x *exchange) roundRobin(candidates []*endpoint) *endpoint {
	for {
		var chosen *endpoint
		now, earliest, stored := x.pool.turn.Load(), int64(math.MaxInt64), int64(0)
		for _, e := range candidates {
			next := e.next.Load()
			if turn := max(next, now); turn < earliest {
				chosen, earliest, stored = e, turn, next
			}
		}
		if chosen.next.CompareAndSwap(stored, earliest+int64(turnLength/x.weight(chosen))) {
			raise(&x.pool.turn, earliest)
			return chosen
		}
	}
}

func raise(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// rendezvous takes the endpoint that scores highest for the key. Each endpoint's score depends on nothing but key and
// endpoint, so that when one comes or goes no key moves between two others (Thaler and Ravishankar; with weights as in
// Schindelhauer and Schomaker).
func rendezvous(candidates []*endpoint, key uint64) *endpoint {
	var chosen *endpoint
	highest := math.Inf(-1)
	for _, e := range candidates {
		uniform := (float64(mix(key^e.seed)>>11) + 0.5) / (1 << 53)
		if score := e.weight / -math.Log(uniform); score > highest {
			chosen, highest = e, score
		}
	}
	return chosen
}

// hashString is FNV-1a, the same in every process: keys stay where they are after a restart.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix spreads every bit over all others (the finalizer of SplitMix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
