// Package bench measures the gateway beside proxies that do nothing of what the gateway does: a bare
// httputil.ReverseProxy, and nginx, HAProxy and Caddy where they are installed (test/bench/setup installs them).
//
// All end TLS 1.3 with HTTP/1.1 keep-alive before the same app, each in a process of its own; the gateway has besides a
// session of a person in 40 groups, policy and durable audit on. The subjects of a table take turns, round by round, so
// that what the machine does meanwhile happens to all of them, and a ratio compares two neighbours in time. The numbers
// of one line are medians of its rounds.
//
// Run it with "make bench", or a part of it with
//
//	go test -run '^$' -benchtime 1x -bench Small ./test/bench
//
// SALLYPORT_PROFILE=DIR writes the gateway's CPU profiles into a folder. BenchmarkSoak asks for SALLYPORT_SOAK (default
// 20s) and prints the gateway's memory; "make soak" gives it ten minutes. BenchmarkFlood sets thousands of strangers on it.
package bench

import (
	"os"
	"testing"
	"time"

	"sallyport/test/harness"
)

const (
	connections = 64
	groups      = 40 // of the person who asks
	// rate of the tables with a fixed one, in requests a second.
	rate = 2000
	// hitTarget is how many times faster a hit has to be than a request that goes to the app.
	hitTarget = 2.2
)

func TestMain(m *testing.M) {
	if play := roles[os.Getenv(roleVariable)]; play != nil {
		play(os.Args[1:])
		return
	}
	code := m.Run()
	harness.RemoveBinaries()
	os.Exit(code)
}

// Answers of 1 KiB: what a proxy costs per request.
func BenchmarkSmall(b *testing.B) {
	bed := newBed(b, plainApp)
	bed.compare(b, "1 KiB", scenario{path: "/1k", size: 1 << 10, rounds: 7, length: 2 * time.Second}, bed.everybody(b)...)
}

// Answers of 64 KiB: what it costs per byte.
func BenchmarkLarge(b *testing.B) {
	bed := newBed(b, plainApp)
	bed.compare(b, "64 KiB", scenario{path: "/64k", size: 64 << 10, rounds: 5, length: 2 * time.Second}, bed.everybody(b)...)
}

// Answers of 1 KiB from an app behind TLS 1.3.
func BenchmarkUpstreamTLS(b *testing.B) {
	bed := newBed(b, tlsApp)
	bed.compare(b, "1 KiB, TLS to the app", scenario{path: "/1k", size: 1 << 10, rounds: 5, length: 2 * time.Second}, bed.everybody(b)...)
}

// Latency at a rate that nobody is short of breath at.
func BenchmarkSteadyRate(b *testing.B) {
	bed := newBed(b, plainApp)
	bed.compare(b, "1 KiB at a fixed rate", scenario{path: "/1k", size: 1 << 10, rounds: 5, length: 3 * time.Second, rate: rate}, bed.everybody(b)...)
}

// Answers out of the gateway's cache, beside the gateway's own answers out of the app and a server that has them at hand.
func BenchmarkCacheHits(b *testing.B) {
	bed := newBed(b, cachedApp)
	proxied, hits := bed.gateway(b)
	hits.name = "sallyport, hits"
	ratio := bed.compare(b, "1 KiB, cached", scenario{path: "/cacheable", size: 1 << 10, rounds: 7, length: 2 * time.Second}, proxied, hits, bed.floor(b))
	if asked := bed.app.asked("payroll"); asked > 1 {
		b.Errorf("the app was asked %d times for what the cache holds", asked)
	}
	if ratio < hitTarget {
		b.Logf("hits are %.2f times as fast as proxied requests: the target is %.1f", ratio, hitTarget)
	}
}
