package cache

import (
	"hash/maphash"
	"sync/atomic"
)

// solitary remembers keys whose last answer was no use to those who waited for it, so that the next ones do not wait.
// It is a table of fixed size: a key that is forgotten, or taken for another, costs a wait or a request and nothing else.
type solitary struct {
	seed  maphash.Seed
	slots [4096]atomic.Uint64
}

func (s *solitary) slot(k Key) (*atomic.Uint64, uint64) {
	sum := maphash.Comparable(s.seed, k) | 1
	return &s.slots[(sum>>1)%uint64(len(s.slots))], sum
}

func (s *solitary) has(k Key) bool {
	slot, sum := s.slot(k)
	return slot.Load() == sum
}

// note writes down whether a key's answer was for one alone.
func (s *solitary) note(k Key, alone bool) {
	slot, sum := s.slot(k)
	if alone {
		slot.Store(sum)
	} else {
		slot.CompareAndSwap(sum, 0)
	}
}
