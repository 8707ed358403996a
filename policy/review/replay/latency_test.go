package replay

import (
	"slices"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	r := random(t)
	for range rounds(50) {
		var h histogram
		var all []time.Duration
		for range 1 + r.IntN(300) {
			d := time.Duration(r.Int64N(1 << (1 + r.IntN(40))))
			h.observe(d)
			all = append(all, d)
		}
		slices.Sort(all)
		for _, percent := range []int64{50, 95, 99} {
			want := all[(int64(len(all))*percent+99)/100-1]
			if got := h.quantile(percent, int64(len(all))); got < want || got > want+want/8 {
				t.Fatalf("%d%% of %d below %v, want %v or up to an eighth more", percent, len(all), got, want)
			}
		}
	}
	if l := new(histogram).latency(); l != (Latency{}) {
		t.Errorf("nothing took %+v", l)
	}
}
