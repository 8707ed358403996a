// Package limit bounds how often, and how much at a time, somebody may ask.
//
// A [Rate] is how often; a [Table] keeps the accounts of many keys at once, a [Bucket] that of one. A [Gate] counts what is
// under way. All of it is memory that is there from the start or goes with what is open: no goroutine, no timer, and
// nothing that grows with the number of strangers.
package limit

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ways is how many accounts share a set, and its lock: what fits into two cache lines.
	ways = 7
	// setBits is the number of sets, as a power of two: 57,344 accounts in 1 MiB.
	setBits = 13
)

// Table keeps accounts by key, in fixed memory. Its methods may be called from any number of goroutines.
//
// An account is a hash of its key, with a seed of our own, and the moment until which it owes. Once that has passed the
// account is as good as new and its place is free. Where a set is full of debtors, a newcomer takes the place of the one
// that owes least, and takes over what that one owes (as in Space-Saving, Metwally, Agrawal and El Abbadi, "Efficient
// Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005). So nobody gets rid of a debt by crowding the table
// with other keys: who was evicted returns to a debt that is no smaller. The price is a newcomer who starts with somebody
// else's debt, the least of seven, which in a flood from tens of thousands of addresses is a request or two.
type Table[K comparable] struct {
	seed    maphash.Seed
	since   time.Time // what accounts count their nanoseconds from
	sets    [1 << setBits]set
	crowded atomic.Uint64
}

type set struct {
	mu   sync.Mutex
	keys [ways]uint64 // 0: never used
	owed [ways]int64  // nanoseconds since the table was made
	_    [8]byte      // so that two sets never share a cache line
}

// NewTable returns a table that was never asked. now is any reading of the clock that [Table.Take] gets; where that has a
// monotonic one, setting the wall clock has no effect.
func NewTable[K comparable](now time.Time) *Table[K] {
	return &Table[K]{seed: maphash.MakeSeed(), since: now}
}

// Take accepts a request of a key, and returns 0, or says how long it would have to wait. What is refused costs nothing.
func (t *Table[K]) Take(key K, rate Rate, now time.Time) (wait time.Duration) {
	_, wait = t.Charge(key, rate, now)
	return wait
}

// Charge is [Table.Take] of which something may be given back. It tells the moment until which the key owes.
func (t *Table[K]) Charge(key K, rate Rate, now time.Time) (until time.Time, wait time.Duration) {
	if rate.Unlimited() {
		return now, 0
	}
	hash, s := t.find(key)
	at := int64(now.Sub(t.since))
	s.mu.Lock()
	way, crowded := s.place(hash, at)
	s.owed[way], wait = rate.take(s.owed[way], at)
	owed := s.owed[way]
	s.mu.Unlock()
	if crowded {
		t.crowded.Add(1)
	}
	return t.since.Add(time.Duration(owed)), wait
}

// GiveBack undoes a Charge that accepted and told a moment, for a request that was refused in another place. What time
// has paid off by now is not given back.
func (t *Table[K]) GiveBack(key K, rate Rate, until, now time.Time) {
	if rate.Unlimited() {
		return
	}
	hash, s := t.find(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if way := slices.Index(s.keys[:], hash); way >= 0 { // or else another key has taken over the debt
		s.owed[way] = rate.giveBack(s.owed[way], int64(until.Sub(t.since)), int64(now.Sub(t.since)))
	}
}

func (t *Table[K]) find(key K) (hash uint64, s *set) {
	hash = max(maphash.Comparable(t.seed, key), 1)
	return hash, &t.sets[hash>>(64-setBits)]
}

// place finds a key's account or makes it one, and reports whether it took over a debt.
func (s *set) place(hash uint64, now int64) (way int, crowded bool) {
	least := 0
	for i, known := range s.keys {
		if known == hash {
			return i, false
		}
		if known == 0 || s.keys[least] != 0 && s.owed[i] < s.owed[least] {
			least = i
		}
	}
	crowded = s.keys[least] != 0 && s.owed[least] > now
	s.keys[least] = hash
	return least, crowded
}

// Crowded is how many newcomers found no free place and took over a debt.
func (t *Table[K]) Crowded() uint64 { return t.crowded.Load() }

// Bucket is one account, of all together. The zero value was never asked; it may be used from any number of goroutines.
type Bucket struct {
	owed atomic.Int64
}

// bucketEpoch is what buckets count their nanoseconds from. It has no monotonic reading: where the wall clock is set back,
// who owes is let off what is more than a burst, as [Rate] has it.
var bucketEpoch = time.Unix(0, 0)

// Take is [Table.Take] for the one account.
func (b *Bucket) Take(rate Rate, now time.Time) (wait time.Duration) {
	if rate.Unlimited() {
		return 0
	}
	at := int64(now.Sub(bucketEpoch))
	for {
		owed := b.owed.Load()
		owes, wait := rate.take(owed, at)
		if wait > 0 || b.owed.CompareAndSwap(owed, owes) {
			return wait
		}
	}
}
