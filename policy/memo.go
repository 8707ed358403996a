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
	memoShards     = 64
)

// memo remembers verdicts by the projection of their inputs. It belongs to one Engine, hence to one digest: a reload
// starts empty. A full shard forgets entries at random.
type memo struct {
	seed   maphash.Seed
	shards [memoShards]memoShard
}

type memoShard struct {
	mu      sync.RWMutex
	entries map[uint64]memoEntry // by hash of the key; of two keys with one hash, one is remembered
	bytes   int
	_       [64]byte // keeps neighbours' locks off this cache line
}

type memoEntry struct {
	key     string
	verdict *Verdict
}

func newMemo() *memo {
	m := &memo{seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].entries = make(map[uint64]memoEntry)
	}
	return m
}

// get returns the verdict remembered for key, or nil.
func (m *memo) get(key []byte) *Verdict {
	hash := maphash.Bytes(m.seed, key)
	s := &m.shards[hash%memoShards]
	s.mu.RLock()
	e, ok := s.entries[hash]
	s.mu.RUnlock()
	if !ok || e.key != string(key) {
		return nil
	}
	return e.verdict
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
	for other := range s.entries {
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

// plan is what is known of one app's dependencies. An early decision on the app finds it out.
type plan struct {
	own    bool
	result atomic.Pointer[planResult]
}

type planResult struct {
	fields []field
	err    error // why they cannot be told
	forget error // why answers that depend on them are not remembered
}
