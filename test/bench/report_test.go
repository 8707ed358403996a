package bench

import (
	"fmt"
	"slices"
	"strings"
)

// report prints one line per subject.
func report(title string, s scenario, lanes []*lane) {
	asked := "as fast as the answers come"
	compared := "requests/s"
	if s.rate > 0 {
		asked = fmt.Sprintf("%d requests/s, waiting counted from when a request was due", s.rate)
		compared = "p99"
	}
	fmt.Printf("\n%s: %d connections, %s; medians of %d alternating rounds of %s; ratio of %s, lowest – median – highest\n",
		title, connections, asked, s.rounds, s.length, compared)
	fmt.Printf("  %-22s %10s  %-18s %8s %8s %8s %8s %8s %8s\n", "", "requests/s", "ratio", "CPU µs", "objects", "KiB", "p50 ms", "p99 ms", "p99.9 ms")
	for _, l := range lanes {
		fmt.Printf("  %-22s %10.0f  %-18s %8.0f %8s %8s %8.2f %8.2f %8.2f\n", l.name, l.median(perSecond), spread(ratios(l, lanes[0], s)),
			l.median(cpuMicros), l.ifCounted(objects), l.ifCounted(allocKiB), l.median(p50), l.median(p99),
			l.median(func(r run) float64 { return r.quantile(.999) }))
	}
	fmt.Println()
}

// spread is lowest, median and highest.
func spread(values []float64) string {
	middle := median(values)
	return strings.Join([]string{fmt.Sprintf("%.2f", values[0]), fmt.Sprintf("%.2f", middle), fmt.Sprintf("%.2f", slices.Max(values))}, " – ")
}

// ifCounted is a number of allocations per request, which only our own processes tell.
func (l *lane) ifCounted(of func(run) float64) string {
	if l.child == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", l.median(of))
}
