package bench

import (
	"slices"
	"testing"
	"time"
)

// scenario is what all subjects of a table are asked for.
type scenario struct {
	path   string
	size   int // of the answer's body
	rounds int
	length time.Duration // of one round of one subject
	rate   int           // requests a second; 0 = as fast as the answers come
}

// lane is one subject on its connections.
type lane struct {
	*subject
	conns []*client
	runs  []run
}

// run is one round of one lane.
type run struct {
	elapsed, cpu time.Duration
	latencies    []time.Duration // sorted
	allocated    allocations
}

func perSecond(r run) float64 { return float64(len(r.latencies)) / r.elapsed.Seconds() }
func cpuMicros(r run) float64 { return float64(r.cpu.Microseconds()) / float64(len(r.latencies)) }
func objects(r run) float64   { return float64(r.allocated.Objects) / float64(len(r.latencies)) }
func allocKiB(r run) float64 {
	return float64(r.allocated.Bytes) / float64(len(r.latencies)) / 1024
}
func p50(r run) float64 { return r.quantile(.5) }
func p99(r run) float64 { return r.quantile(.99) }

// quantile of the latencies, in milliseconds.
func (r run) quantile(q float64) float64 {
	return r.latencies[int(q*float64(len(r.latencies)-1))].Seconds() * 1e3
}

func (l *lane) median(of func(run) float64) float64 {
	values := make([]float64, 0, len(l.runs))
	for _, r := range l.runs {
		values = append(values, of(r))
	}
	return median(values)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// compare measures the subjects in turns, prints their table and returns the median ratio of the second to the first.
// Ratios are of throughput, or of the 99th percentile where the rate is fixed.
func (bed *bed) compare(b *testing.B, title string, s scenario, subjects ...*subject) float64 {
	lanes := make([]*lane, 0, len(subjects))
	for _, x := range subjects {
		l := x.lane(b, s)
		l.measure(b, scenario{length: time.Second, rate: s.rate}) // caches, heaps
		l.runs = nil
		lanes = append(lanes, l)
	}
	for range s.rounds {
		for _, l := range lanes {
			l.measure(b, s)
		}
	}
	report(title, s, lanes)
	ratio := median(ratios(lanes[1], lanes[0], s))
	b.ReportMetric(ratio, "ratio")
	b.ReportMetric(0, "ns/op")
	return ratio
}

// ratios of one lane to another, round by round.
func ratios(l, yardstick *lane, s scenario) []float64 {
	of := perSecond
	if s.rate > 0 {
		of = p99
	}
	list := make([]float64, 0, len(l.runs))
	for i := range l.runs {
		list = append(list, of(l.runs[i])/of(yardstick.runs[i]))
	}
	return list
}

// measure runs one round.
func (l *lane) measure(b *testing.B, s scenario) {
	before, cpu, start := l.allocations(b), l.cpu(b), time.Now()
	latencies := drive(b, l, s, start)
	r := run{elapsed: time.Since(start), cpu: l.cpu(b) - cpu, latencies: latencies}
	after := l.allocations(b)
	r.allocated = allocations{after.Objects - before.Objects, after.Bytes - before.Bytes}
	if b.Failed() || len(r.latencies) == 0 {
		b.FailNow()
	}
	slices.Sort(r.latencies)
	l.runs = append(l.runs, r)
}
