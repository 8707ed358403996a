package policy

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Bounds of a memo.
const (
	maxMemoEntries = 1 << 16
	maxMemoBytes   = 64 << 20
	maxMemoSamples = 64 // waiting to be checked; more are not taken
	memoShards     = 64
)

// memo remembers verdicts by the projection of their inputs. It belongs to one Engine, hence to one digest: a reload
// starts empty. A full shard forgets entries at random.
type memo struct {
	seed    maphash.Seed
	every   uint64 // of so many hits in a shard one is checked; 0: none
	samples chan memoSample
	off     atomic.Bool // a check found a difference: neither asked nor filled any more
	checks  memoChecks
	shards  [memoShards]memoShard
}

type memoShard struct {
	mu           sync.RWMutex
	entries      map[uint64]memoEntry // by hash of the key; of two keys with one hash, one is remembered
	bytes        int
	hits, misses atomic.Uint64
	_            [64]byte // keeps neighbours' locks off this cache line
}

type memoEntry struct {
	key     string
	verdict *Verdict
}

func newMemo(every int) *memo {
	m := &memo{seed: maphash.MakeSeed(), every: uint64(every), samples: make(chan memoSample, maxMemoSamples)}
	for i := range m.shards {
		m.shards[i].entries = make(map[uint64]memoEntry)
	}
	return m
}

// get returns the verdict remembered for key, or nil, and whether this use of it is one to check. The first use of a
// shard is.
func (m *memo) get(key []byte) (v *Verdict, sampled bool) {
	hash := maphash.Bytes(m.seed, key)
	s := &m.shards[hash%memoShards]
	s.mu.RLock()
	e, ok := s.entries[hash]
	s.mu.RUnlock()
	if !ok || e.key != string(key) {
		s.misses.Add(1)
		return nil, false
	}
	n := s.hits.Add(1)
	return e.verdict, m.every > 0 && (n-1)%m.every == 0
}

// put remembers a verdict.
func (m *memo) put(key []byte, v *Verdict) {
	remembered := *v
	remembered.Memo = true
	e := memoEntry{key: string(key), verdict: &remembered}
	hash := maphash.Bytes(m.seed, key)
	s := &m.shards[hash%memoShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(hash)
	s.entries[hash] = e
	s.bytes += e.size()
	for other := range s.entries { // in random order
		if len(s.entries) <= maxMemoEntries/memoShards && s.bytes <= maxMemoBytes/memoShards {
			return
		}
		s.forgetLocked(other)
	}
}

func (s *memoShard) forgetLocked(hash uint64) {
	if e, ok := s.entries[hash]; ok {
		s.bytes -= e.size()
		delete(s.entries, hash)
	}
}

// size estimates what an entry holds on to: the key, the document, about as much again for its decoded form.
func (e memoEntry) size() int { return len(e.key) + 3*len(e.verdict.JSON) + 256 }
