package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	shortSoak = 20 * time.Second
	// fullSoak is the length from which on the gateway's memory is judged: a shorter run is still filling its caches.
	fullSoak = 10 * time.Minute
	// soakTenths are the parts of a soak that its table has a line for.
	soakTenths = 10
	// growth is how much more memory the last two tenths may take than the third and fourth.
	growth = 1.1
)

// mixture is what a soak asks for, by how many connections: each request has a query of its own, as busy people's have,
// except those for what the cache holds.
var mixture = []struct {
	connections  int
	method, path string
	size, body   int
	hit          bool
}{
	{connections: 32, method: "GET", path: "/1k?n=0000000000", size: 1 << 10},
	{connections: 12, method: "GET", path: "/64k?n=0000000000", size: 64 << 10},
	{connections: 8, method: "POST", path: "/upload?n=0000000000", size: 1 << 10, body: 64 << 10},
	{connections: 12, method: "GET", path: "/cacheable", size: 1 << 10, hit: true},
}

// Memory under full load: it has its size after a fifth of the time, and keeps it.
func BenchmarkSoak(b *testing.B) {
	length := shortSoak
	if text := os.Getenv("SALLYPORT_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	bed := newBed(b, cachedApp)
	proxied, hits := bed.gateway(b)
	var clients []*client
	for _, m := range mixture {
		x := proxied
		if m.hit {
			x = hits
		}
		for i := range m.connections {
			clients = append(clients, x.soaker(b, m.method, m.path, m.size, m.body, i))
		}
	}
	start := time.Now()
	var group sync.WaitGroup
	asked := make([]int, len(clients))
	for i, c := range clients {
		group.Go(func() {
			latencies, err := c.hurry(start, length)
			if asked[i] = len(latencies); err != nil {
				b.Error(err)
			}
		})
	}
	memory := sample(b, proxied.pids[0], start, length)
	group.Wait()
	requests := 0
	for _, n := range asked {
		requests += n
	}
	judge(b, memory, length, requests)
}

// soaker is a client whose nth request has n in its query.
func (x *subject) soaker(b *testing.B, method, path string, size, body, number int) *client {
	c := x.connect(b)
	var content []byte
	if body > 0 {
		content = bytes.Repeat([]byte{'x'}, body)
	}
	c.request, c.want = x.request(method, path, content), size
	if i := bytes.Index(c.request, []byte("n=0000000000")); i >= 0 {
		c.counter = c.request[i+len("n=") : i+len("n=0000000000")]
		copy(c.counter, fmt.Sprintf("%02d", number)) // no two ask for the same
	}
	return c
}

// sample reads the resident memory of a process 20 times in each tenth of the soak.
func sample(b *testing.B, pid int, start time.Time, length time.Duration) (tenths [soakTenths][]float64) {
	tick := time.NewTicker(length / (20 * soakTenths))
	defer tick.Stop()
	for now := range tick.C {
		part := int(now.Sub(start) * soakTenths / length)
		if part >= soakTenths || b.Failed() {
			return tenths
		}
		tenths[part] = append(tenths[part], resident(b, pid))
	}
	return tenths
}

// resident memory of a process, in MiB.
func resident(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20)
}

func judge(b *testing.B, memory [soakTenths][]float64, length time.Duration, requests int) {
	fmt.Printf("\nsoak of %s at full load, %d requests: resident memory of the gateway in MiB, median and highest of each tenth\n ", length, requests)
	for _, tenth := range memory {
		if len(tenth) == 0 {
			b.Fatal("a tenth of the soak has no sample")
		}
		middle := median(tenth)
		fmt.Printf(" %.0f/%.0f", middle, tenth[len(tenth)-1])
	}
	early, late := mean(memory[2], memory[3]), mean(memory[8], memory[9])
	fmt.Printf("\n  third and fourth tenth %.1f, last two %.1f: ratio %.3f\n\n", early, late, late/early)
	b.ReportMetric(late/early, "ratio")
	b.ReportMetric(0, "ns/op")
	if length >= fullSoak && late > growth*early {
		b.Errorf("the gateway's memory grew from %.1f to %.1f MiB", early, late)
	}
}

func mean(lists ...[]float64) float64 {
	sum, n := 0.0, 0
	for _, list := range lists {
		for _, v := range list {
			sum += v
			n++
		}
	}
	return sum / float64(n)
}
