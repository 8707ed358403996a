package limit

import (
	"hash/maphash"
	"sync"
)

const gateShards = 64

// Gate counts what is under way, by key. It holds nothing for keys with nothing under way. Its methods may be called from
// any number of goroutines.
type Gate[K comparable] struct {
	seed   maphash.Seed
	shards [gateShards]gateShard[K]
}

type gateShard[K comparable] struct {
	mu    sync.Mutex
	under map[K]int
}

// NewGate returns a gate with nothing under way.
func NewGate[K comparable]() *Gate[K] {
	g := &Gate[K]{seed: maphash.MakeSeed()}
	for i := range g.shards {
		g.shards[i].under = make(map[K]int)
	}
	return g
}

func (g *Gate[K]) shard(key K) *gateShard[K] {
	return &g.shards[maphash.Comparable(g.seed, key)%gateShards]
}

// Enter counts one more of a key, unless most are under way already. Leave must follow when it returns true.
func (g *Gate[K]) Enter(key K, most int) bool {
	s := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under[key] >= most {
		return false
	}
	s.under[key]++
	return true
}

// Leave ends what Enter began.
func (g *Gate[K]) Leave(key K) {
	s := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := s.under[key]; {
	case n == 0:
		panic("BUG: a gate is left that nobody entered")
	case n == 1:
		delete(s.under, key)
	default:
		s.under[key] = n - 1
	}
}
