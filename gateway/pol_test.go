package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/audit"
	"sallyport/policy"
)

// POL-08: policies that are swapped as fast as they can be, while people ask and a candidate is tried, let nobody in or out
// whom all of them agree on, and every record names one that was in force. Run it under the race detector.
func TestPOL08SwapsUnderLoadDoNotFlap(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	b.sessions.put("gil", "guests")
	b.try(t, "staff", "guests")
	first := b.server.Snapshot()
	policies := []*policy.Engine{first.Policy, snapshot(t, wiki(t, b.origin, "staff", "board")).Policy}
	var asked atomic.Int64
	var people sync.WaitGroup
	for _, handle := range []string{"ada", "gil", "ada", "gil"} {
		people.Go(func() {
			client := b.client(t, "http/1.1")
			for asked.Add(1) <= 400 {
				status, _ := answerTo(t, client, b.request(t, "GET", "/", handle, nil))
				if allowed := status == http.StatusOK; allowed != (handle == "ada") {
					t.Errorf("%s gets %d", handle, status)
				}
			}
		})
	}
	swaps := 0
	for ; asked.Load() <= 400; swaps++ {
		b.server.Swap(first.WithPolicy(policies[swaps%2], first.Zone))
	}
	people.Wait()
	inForce := map[string]int{}
	for _, r := range b.log.of(audit.TypeDecision) {
		inForce[r.Policy.Digest]++
	}
	if len(inForce) != 2 || inForce[policies[0].Digest()]+inForce[policies[1].Digest()] != 400 {
		t.Errorf("after %d swaps the records name %v", swaps, inForce)
	}
}
