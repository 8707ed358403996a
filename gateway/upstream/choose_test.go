package upstream

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// paper is a pool whose endpoints are never dialled.
func paper(t interface{ Fatal(...any) }, method Method, now func() time.Time, weights ...int) *Pool {
	cfg := Defaults()
	cfg.Balance.Method, cfg.Now = method, now
	for i, w := range weights {
		cfg.Addresses = append(cfg.Addresses, Address{URL: URL{url.URL{Scheme: "http", Host: "10.0.0." + strconv.Itoa(i+1)}}, Weight: w})
	}
	p, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// chosen is the endpoint for a request of the given key.
func (p *Pool) chosen(hint Hint) *endpoint {
	x := exchange{pool: p, view: p.view.Load(), ctx: context.Background(), hint: &hint, now: p.clock.nanos(), repeatable: true}
	return x.choose(lastResort)
}

func (p *Pool) at(i int) *endpoint { return p.view.Load().all[i] }

// picks counts how often each endpoint is chosen.
func picks(p *Pool, n int) []int {
	counts := make([]int, len(p.view.Load().all))
	for range n {
		counts[slices.Index(p.view.Load().all, p.chosen(Hint{}))]++
	}
	return counts
}

func TestRoundRobinIsExactAndSmooth(t *testing.T) {
	p := paper(t, MethodRoundRobin, nil, 5, 1, 1)
	var order strings.Builder
	for range 21 {
		order.WriteString(strconv.Itoa(slices.Index(p.view.Load().all, p.chosen(Hint{}))))
	}
	for round := range 3 {
		part := order.String()[7*round : 7*round+7]
		if strings.Count(part, "0") != 5 || strings.Count(part, "1") != 1 || strings.Contains(part, "0000") {
			t.Errorf("round %d is %s of %s: want 5, 1, 1, with the heavy one never four times in a row", round, part, order.String())
		}
	}
}

func TestRoundRobinIsExactUnderConcurrency(t *testing.T) {
	p := paper(t, MethodRoundRobin, nil, 3, 2, 1)
	var counts [3]int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got := picks(p, 600)
			mu.Lock()
			defer mu.Unlock()
			for i, n := range got {
				counts[i] += n
			}
		})
	}
	all.Wait()
	for i, want := range []int{2400, 1600, 800} {
		if diff := counts[i] - want; diff < -16 || diff > 16 {
			t.Errorf("got %v, want 2400, 1600, 800 give or take the 8 that choose at the same time", counts)
		}
	}
}

func TestRoundRobinSharesWhatAnAbsentEndpointWouldGet(t *testing.T) {
	p := paper(t, MethodRoundRobin, nil, 1, 1, 1)
	p.at(1).down.Store(true)
	if got := picks(p, 300); got[0] != 150 || got[1] != 0 || got[2] != 150 {
		t.Errorf("got %v, want 150, 0, 150", got)
	}
	p.at(1).down.Store(false)
	if got := picks(p, 300); got[1] > 101 || got[1] < 99 {
		t.Errorf("after its return got %v, want 100 each: nothing to catch up", got)
	}
}

func TestPeakEWMASpreadsByWeight(t *testing.T) {
	p := paper(t, MethodPeakEWMA, nil, 3, 1)
	got := picks(p, 4000)
	if share := float64(got[0]) / 4000; share < 0.7 || share > 0.8 {
		t.Errorf("got %v, want 3 of 4 at the first", got)
	}
	p.at(0).gate.active.Store(30)
	p.at(1).gate.active.Store(20)
	if got := picks(p, 100); got[0] != 100 {
		t.Errorf("with 30 of weight 3 and 20 of weight 1 under way got %v, want all at the first", got)
	}
}

func TestPeakEWMALeavesASlowEndpointAndComesBack(t *testing.T) {
	clock := &fakeTime{}
	p := paper(t, MethodPeakEWMA, clock.now, 1, 1)
	for range 10 {
		p.at(0).latency.observe(int64(2*time.Millisecond), p.clock.nanos())
		p.at(1).latency.observe(int64(3*time.Millisecond), p.clock.nanos())
	}
	if got := picks(p, 1000); got[0] < 400 || got[1] < 400 {
		t.Errorf("with 2 and 3 ms got %v: that is noise", got)
	}
	p.at(1).latency.observe(int64(500*time.Millisecond), p.clock.nanos())
	if got := picks(p, 100); got[1] != 0 {
		t.Errorf("after one answer in 500 ms got %v, want all at the fast one", got)
	}
	clock.advance(6 * latencyMemory)
	if got := picks(p, 1000); got[1] < 400 {
		t.Errorf("long afterwards got %v, want both", got)
	}
}

// A request that is pending longer than the average counts as latency now.
func TestPeakEWMACountsSilence(t *testing.T) {
	clock := &fakeTime{}
	p := paper(t, MethodPeakEWMA, clock.now, 1, 1)
	p.at(0).began(p.clock.nanos())
	clock.advance(300 * time.Millisecond)
	if got := picks(p, 100); got[0] != 0 {
		t.Errorf("with one that is silent for 300 ms got %v, want none there", got)
	}
	p.at(0).ended(p.clock.nanos(), true)
	if got := picks(p, 1000); got[0] < 400 {
		t.Errorf("after its answer got %v, want both", got)
	}
}

func TestLeastOutstandingCountsByWeight(t *testing.T) {
	p := paper(t, MethodLeastOutstanding, nil, 1, 2)
	for range 30 {
		p.chosen(Hint{}).gate.active.Add(1)
	}
	if a, b := p.at(0).gate.active.Load(), p.at(1).gate.active.Load(); a != 10 || b != 20 {
		t.Errorf("got %d and %d under way, want 10 and 20", a, b)
	}
}

func TestSilentEndpointIsLeftByEveryMethod(t *testing.T) {
	for _, method := range []Method{MethodPeakEWMA, MethodRoundRobin, MethodLeastOutstanding, MethodHash} {
		clock := &fakeTime{}
		p := paper(t, method, clock.now, 1, 1)
		for range stallCount {
			p.at(0).began(p.clock.nanos())
		}
		clock.advance(2 * briefStall)
		for i := range 50 {
			if p.chosen(Hint{Key: strconv.Itoa(i)}) == p.at(0) {
				t.Errorf("%s chooses an endpoint that %d requests wait for in vain", method, stallCount)
				break
			}
		}
	}
}

// When an endpoint goes, only its keys move; when one comes, keys move only to it.
func TestHashMovesAsLittleAsPossible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 10), 2, 12).Draw(t, "weights")
		keys := rapid.SliceOfNDistinct(rapid.StringN(1, 40, -1), 50, 200, rapid.ID[string]).Draw(t, "keys")
		p := paper(t, MethodHash, nil, weights...)
		before := map[string]*endpoint{}
		for _, key := range keys {
			before[key] = p.chosen(Hint{Key: key})
		}
		gone := p.at(rapid.IntRange(0, len(weights)-1).Draw(t, "gone"))
		gone.draining.Store(true)
		for _, key := range keys {
			if now := p.chosen(Hint{Key: key}); now == gone || before[key] != gone && now != before[key] {
				t.Fatalf("key %q moved from %s to %s when %s went", key, before[key].address, now.address, gone.address)
			}
		}
		gone.draining.Store(false)
		for _, key := range keys {
			if now := p.chosen(Hint{Key: key}); now != before[key] {
				t.Fatalf("key %q is at %s after all are back, was at %s", key, now.address, before[key].address)
			}
		}
	})
}

func TestHashSpreadsByWeight(t *testing.T) {
	p := paper(t, MethodHash, nil, 1, 2, 1)
	var counts [3]float64
	for i := range 8000 {
		counts[slices.Index(p.view.Load().all, p.chosen(Hint{Key: fmt.Sprintf("user-%d", i)}))]++
	}
	for i, want := range []float64{2000, 4000, 2000} {
		if math.Abs(counts[i]-want) > 200 {
			t.Errorf("got %v of 8000 keys, want about 2000, 4000, 2000", counts)
		}
	}
}

func TestStickySessionStaysAndMovesOn(t *testing.T) {
	p := paper(t, MethodPeakEWMA, nil, 1, 1, 1)
	id := p.at(2).id
	for range 50 {
		if got := p.chosen(Hint{Prefer: id}); got.id != id {
			t.Fatalf("sent to %s", got.address)
		}
	}
	if !p.Drain(id, true) {
		t.Fatal("there is no such endpoint")
	}
	for range 50 {
		if got := p.chosen(Hint{Prefer: id}); got.id == id {
			t.Fatal("sent to a drained endpoint")
		}
	}
	if got := p.chosen(Hint{Prefer: "made up"}); got == nil {
		t.Error("an unknown endpoint is no reason for an error")
	}
}

func TestSlowStartRampsUp(t *testing.T) {
	clock := &fakeTime{}
	p := paper(t, MethodRoundRobin, clock.now, 1, 1)
	p.cfg.Balance.SlowStart = time.Minute
	p.at(1).back.Store(p.clock.nanos())
	for _, step := range []struct {
		after time.Duration
		want  int // of 1100
	}{{0, 100}, {30 * time.Second, 366}, {time.Minute, 550}} {
		clock.offset.Store(int64(step.after))
		if got := picks(p, 1100)[1]; got < step.want-15 || got > step.want+15 {
			t.Errorf("after %v got %d of 1100, want about %d", step.after, got, step.want)
		}
		if step.after < time.Minute && p.Endpoints()[1].State != SlowStart {
			t.Errorf("after %v the state is %s", step.after, p.Endpoints()[1].State)
		}
	}
}

func TestBackupsAreAskedOnlyWhenNoPrimaryIsInService(t *testing.T) {
	cfg := Defaults()
	for i := range 3 {
		cfg.Addresses = append(cfg.Addresses, Address{URL: URL{url.URL{Scheme: "http", Host: "10.0.0." + strconv.Itoa(i+1)}}, Weight: 1, Backup: i == 2})
	}
	p, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := picks(p, 100); got[2] != 0 {
		t.Errorf("got %v, want no backup", got)
	}
	p.at(0).down.Store(true)
	p.at(1).breaker.until.Store(math.MaxInt64)
	if got := picks(p, 100); got[2] != 100 {
		t.Errorf("without primaries got %v, want the backup", got)
	}
	p.at(2).draining.Store(true)
	if got := picks(p, 100); got[1] != 100 {
		t.Errorf("without backup got %v, want the ejected one: there is nothing to lose", got)
	}
	p.at(1).down.Store(true)
	if got := p.chosen(Hint{}); got != nil {
		t.Errorf("with all down or drained got %s", got.address)
	}
}

func TestEndpointIDsAreStableAndTellNothing(t *testing.T) {
	a, b := paper(t, MethodHash, nil, 1, 1), paper(t, MethodHash, nil, 1, 1)
	if a.at(0).id != b.at(0).id || a.at(0).id == a.at(1).id || strings.Contains(a.at(0).id, "10") && len(a.at(0).id) != 16 {
		t.Errorf("ids are %s, %s and %s", a.at(0).id, b.at(0).id, a.at(1).id)
	}
}

func TestAddressesAreReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		"http://10.0.0.5:8080": "http://10.0.0.5:8080", "https://App.Example/": "https://app.example", "unix:/run/app.sock": "unix:/run/app.sock",
	} {
		var u URL
		if err := u.UnmarshalText([]byte(text)); err != nil || u.String() != want {
			t.Errorf("%s: got %s, %v; want %s", text, u.String(), err, want)
		}
	}
	for _, text := range []string{"ftp://x", "file:///etc/passwd", "http://", "http://u@h", "http://h/p", "http://h?q",
		"unix:run/app.sock", "unix://host/app.sock", "unix:/run/../etc/x", "unix:/a?b", "x"} {
		var u URL
		if err := u.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}
