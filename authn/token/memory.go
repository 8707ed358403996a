package token

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Bounds of a Memory.
const (
	memoryShards = 64
	maxShard     = 256 // entries of one shard: 16,384 in all
)

// Memory remembers what came of credentials by their hash, for a bounded number of them: a full shard forgets one at
// random. The credentials themselves it does not hold. The zero Memory is ready.
type Memory[V any] struct {
	shards [memoryShards]memoryShard[V]
}

type memoryShard[V any] struct {
	mu      sync.RWMutex
	entries map[[sha256.Size]byte]V
	_       [64]byte // keeps neighbours' locks off this cache line
}

func (m *Memory[V]) shard(hash [sha256.Size]byte) *memoryShard[V] {
	return &m.shards[binary.LittleEndian.Uint64(hash[:8])%memoryShards]
}

// Get returns what is remembered of a credential.
func (m *Memory[V]) Get(hash [sha256.Size]byte) (V, bool) {
	s := m.shard(hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.entries[hash]
	return v, ok
}

// Put remembers v.
func (m *Memory[V]) Put(hash [sha256.Size]byte, v V) {
	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = make(map[[sha256.Size]byte]V)
	}
	if _, had := s.entries[hash]; !had && len(s.entries) >= maxShard {
		for other := range s.entries { // in random order
			delete(s.entries, other)
			break
		}
	}
	s.entries[hash] = v
}

// Delete forgets a credential.
func (m *Memory[V]) Delete(hash [sha256.Size]byte) {
	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, hash)
}

// DeleteFunc forgets what del says yes to.
func (m *Memory[V]) DeleteFunc(del func(V) bool) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for hash, v := range s.entries {
			if del(v) {
				delete(s.entries, hash)
			}
		}
		s.mu.Unlock()
	}
}
