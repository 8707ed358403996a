package limit

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rounds is a count that SALLYPORT_ROUNDS multiplies.
func rounds(n int) int {
	if times, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil {
		return n * times
	}
	return n
}

func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

var start = time.Unix(1_700_000_000, 0)

func TestTableKeepsAccountsApart(t *testing.T) {
	table := NewTable[string](start)
	rate := Rate{2, time.Second, 2}
	for range 2 {
		if table.Take("ada", rate, start) != 0 {
			t.Fatal("refused within the burst")
		}
	}
	if wait := table.Take("ada", rate, start); wait != 500*time.Millisecond {
		t.Errorf("the wait is %v, want half a second", wait)
	}
	if table.Take("bob", rate, start) != 0 {
		t.Error("another key was refused")
	}
	if table.Take("ada", rate, start.Add(500*time.Millisecond)) != 0 {
		t.Error("refused after the wait")
	}
	if table.Take("ada", Rate{}, start) != 0 {
		t.Error("off refused")
	}
}

// Another rate for the same key, as after a reload, neither forgives what is owed nor makes it last.
func TestTableKeepsAccountsUnderAnotherRate(t *testing.T) {
	table := NewTable[string](start)
	for range 3 {
		table.Take("ada", Rate{1, time.Hour, 3}, start)
	}
	slower := Rate{1, 2 * time.Hour, 1}
	if table.Take("ada", slower, start); table.Take("ada", slower, start) != 2*time.Hour { // one is let through, and then owes a burst
		t.Error("a slower rate forgave what was owed")
	}
	faster := Rate{10, time.Second, 2}
	for i := range 3 { // here, too
		if wait := table.Take("ada", faster, start); (wait > 0) != (i > 0) || wait > 100*time.Millisecond {
			t.Errorf("a faster rate makes the key wait for %v", wait)
		}
	}
}

// Where another rate holds, or the clock is set back, nobody who asks a bucket waits until an old debt is paid.
func TestBucketIsNotLockedByOldDebts(t *testing.T) {
	var bucket Bucket
	for range 3 {
		bucket.Take(Rate{1, time.Hour, 3}, start)
	}
	if bucket.Take(Rate{1, time.Hour, 3}, start.Add(-48*time.Hour)) != 0 || bucket.Take(Rate{10, time.Second, 1}, start.Add(-48*time.Hour)) != 0 {
		t.Error("an old debt locks the bucket")
	}
	if wait := bucket.Take(Rate{10, time.Second, 1}, start.Add(-48*time.Hour)); wait != 100*time.Millisecond {
		t.Errorf("the next one waits for %v, want an interval", wait)
	}
}

// What is given back is there for others, and off gives nothing back.
func TestTableGivesBack(t *testing.T) {
	table, rate := NewTable[string](start), Rate{1, time.Hour, 1}
	until, wait := table.Charge("ada", rate, start)
	if wait != 0 || !until.Equal(start.Add(time.Hour)) || table.Take("ada", rate, start) == 0 {
		t.Fatalf("charged until %v, wait %v", until, wait)
	}
	table.GiveBack("ada", Rate{}, until, start)
	table.GiveBack("bob", rate, until, start)
	if table.Take("ada", rate, start) == 0 {
		t.Error("another's was given back")
	}
	table.GiveBack("ada", rate, until, start.Add(time.Minute))
	if table.Take("ada", rate, start.Add(time.Minute)) != 0 {
		t.Error("what was given back is not there")
	}
}

// Whoever crowds the table with other keys is never let off what the first one owes.
func TestCrowdingTheTableForgivesNothing(t *testing.T) {
	if accepted, crowded := crowd(t, (*set).place); accepted != 0 || crowded == 0 {
		t.Errorf("%d requests were accepted of a key that owed everything; %d newcomers were crowded", accepted, crowded)
	}
	if accepted, _ := crowd(t, placeAfresh); accepted == 0 {
		t.Error("the mutant in which newcomers begin afresh was not noticed")
	}
}

// placeAfresh is place as it must not be: newcomers take over no debt.
func placeAfresh(s *set, hash uint64, now int64) (int, bool) {
	way, crowded := s.place(hash, now)
	if crowded {
		s.owed[way] = 0
	}
	return way, crowded
}

// crowd lets one key use up its burst, floods its set with others that each do the same, and asks for the first again.
func crowd(t *testing.T, place func(*set, uint64, int64) (int, bool)) (accepted, crowded int) {
	rng, rate, now := random(t), Rate{1, time.Hour, 5}, int64(time.Hour)
	var s set
	take := func(hash uint64) time.Duration {
		way, took := place(&s, hash, now)
		if took {
			crowded++
		}
		var wait time.Duration
		s.owed[way], wait = rate.take(s.owed[way], now)
		return wait
	}
	for range 5 {
		take(1)
	}
	for range rounds(200) {
		for range 1 + rng.IntN(40) {
			other := 2 + rng.Uint64N(30)
			for range 1 + rng.IntN(6) {
				take(other)
			}
		}
		now += rng.Int64N(int64(time.Second)) // far too little to pay anything off
		if take(1) == 0 {
			accepted++
		}
	}
	return accepted, crowded
}

// An account whose debt is paid is as good as a free place.
func TestPaidAccountsMakeRoom(t *testing.T) {
	table, rate := NewTable[int](start), Rate{1, time.Second, 1}
	for round := range 3 {
		now := start.Add(time.Duration(round) * time.Minute)
		for key := range 1 << setBits {
			table.Take(key+round<<20, rate, now)
		}
	}
	// A seventh of the places are taken at a time; a set of seven is rarely full.
	if n := table.Crowded(); n > 50 {
		t.Errorf("%d newcomers found no room", n)
	}
}

// Many goroutines never get more than a burst together, from a table or a bucket, nor past a gate.
func TestLimitsHoldForManyAtOnce(t *testing.T) {
	table, bucket, gate := NewTable[string](start), new(Bucket), NewGate[string]()
	rate := Rate{1, time.Hour, 100}
	var fromTable, fromBucket, under, most atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				if table.Take("ada", rate, start) == 0 {
					fromTable.Add(1)
				}
				if bucket.Take(rate, start) == 0 {
					fromBucket.Add(1)
				}
				if gate.Enter("ada", 3) {
					most.Store(max(most.Load(), under.Add(1)))
					under.Add(-1)
					gate.Leave("ada")
				}
			}
		})
	}
	group.Wait()
	if fromTable.Load() != 100 || fromBucket.Load() != 100 {
		t.Errorf("%d came from the table and %d from the bucket, want 100 each", fromTable.Load(), fromBucket.Load())
	}
	if most.Load() > 3 {
		t.Errorf("%d were past the gate at once", most.Load())
	}
	for i := range gate.shards {
		if n := len(gate.shards[i].under); n != 0 {
			t.Errorf("the gate remembers %d keys with nothing under way", n)
		}
	}
}

func TestGateCountsByKey(t *testing.T) {
	gate := NewGate[string]()
	if !gate.Enter("ada", 1) || gate.Enter("ada", 1) || !gate.Enter("bob", 1) {
		t.Fatal("one each was wanted")
	}
	gate.Leave("ada")
	if !gate.Enter("ada", 1) {
		t.Error("no room after the first one left")
	}
}

type benchKey struct {
	kind byte
	at   [16]byte
}

type benchNames struct{ person, app, class string }

// The aim is 150 ns and no allocation.
func BenchmarkTake(b *testing.B) {
	rate, now := Rate{1_000_000, time.Second, 1_000_000}, time.Now()
	b.Run("address", func(b *testing.B) {
		table, key := NewTable[benchKey](now), benchKey{kind: 1, at: [16]byte{127, 0, 0, 1}}
		b.ReportAllocs()
		for b.Loop() {
			table.Take(key, rate, now)
		}
	})
	b.Run("names", func(b *testing.B) {
		table, key := NewTable[benchNames](now), benchNames{"corp|0123456789abcdef", "wiki", "person"}
		b.ReportAllocs()
		for b.Loop() {
			table.Take(key, rate, now)
		}
	})
	b.Run("many", func(b *testing.B) {
		table, n := NewTable[int](now), 0
		b.ReportAllocs()
		for b.Loop() {
			n++
			table.Take(n&0xffff, rate, now)
		}
	})
	b.Run("bucket", func(b *testing.B) {
		var bucket Bucket
		b.ReportAllocs()
		for b.Loop() {
			bucket.Take(rate, now)
		}
	})
	b.Run("gate", func(b *testing.B) {
		gate, key := NewGate[benchNames](), benchNames{"corp|0123456789abcdef", "wiki", ""}
		b.ReportAllocs()
		for b.Loop() {
			gate.Enter(key, 10)
			gate.Leave(key)
		}
	})
}

func ExampleRate() {
	var r Rate
	if err := r.UnmarshalText([]byte("600/m burst 100")); err != nil {
		panic(err)
	}
	fmt.Println(r, r.Burst(), r.Refill())
	// Output: 600/m burst 100 100 10s
}
