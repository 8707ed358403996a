package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"sallyport/gateway/admin"
)

const (
	floodConnections = 5000
	floodRate        = 2000 // requests a second, of nobody
	floodRounds      = 5
	// signedInRate is what people ask for who are signed in.
	signedInRate = 200
	// calm is what the 99th percentile may be under the flood: so many times the idle one, or so long.
	calmTimes = 10
	calmMS    = 50
)

// Strangers flood the gateway while people who are signed in go on: they notice little, and nothing of theirs fails.
func BenchmarkFlood(b *testing.B) {
	bed := newBed(b, plainApp)
	wiki, _ := bed.gateway(b)
	wiki.pids = wiki.pids[:1] // keyd is started again when a starved machine makes it late
	s := scenario{path: "/1k", size: 1 << 10, length: 10 * time.Second, rate: signedInRate}
	l := wiki.lane(b, s)
	l.measure(b, scenario{length: 2 * time.Second, rate: s.rate})
	l.runs = nil
	before := resident(b, wiki.pids[0])
	fmt.Printf("\nflood: %d connections of strangers and %d requests a second of theirs, beside %d a second of people who are signed in; %d rounds of %s each\n",
		floodConnections, floodRate, s.rate, floodRounds, s.length)
	fmt.Printf("  %9s %9s %9s %9s %9s %9s %9s %9s %9s %11s\n", "idle p99", "flood p99", "p99.9", "newcomers", "open", "opened/s", "answered/s", "records/s", "log KiB/s", "memory MiB")
	var idle, flood, memory []float64
	for range floodRounds {
		l.measure(b, s)
		idle = append(idle, p99(l.runs[len(l.runs)-1]))
		flood, memory = append(flood, 0), append(memory, 0)
		flood[len(flood)-1], memory[len(memory)-1] = l.underFlood(b, s, idle[len(idle)-1])
	}
	most := slices.Max(memory)
	calm, hurried := median(idle), median(flood)
	fmt.Printf("  medians: p99 %.2f ms idle, %.2f ms under the flood; no signed-in request failed; memory %.0f MiB before, %.0f at most\n\n", calm, hurried, before, most)
	b.ReportMetric(hurried, "p99-ms")
	b.ReportMetric(most, "MiB")
	b.ReportMetric(0, "ns/op")
	if hurried > max(calmTimes*calm, calmMS) {
		b.Errorf("the p99 of signed-in requests is %.1f ms under the flood and %.1f ms without", hurried, calm)
	}
}

// underFlood is one round: the flood is there before the measurement begins, and gone after it.
func (l *lane) underFlood(b *testing.B, s scenario, idle float64) (p99ms, memory float64) {
	stop := l.flood(b)
	defer stop.end()
	time.Sleep(7 * time.Second) // all have come
	before, first := l.state(b), stop.state(b)
	var watching sync.WaitGroup
	done := make(chan struct{})
	var newcomers []time.Duration
	watching.Go(func() { memory = l.mostMemory(b, done) })
	watching.Go(func() { newcomers = l.newcomers(b, s, done) })
	l.measure(b, s)
	close(done)
	watching.Wait()
	after, last := l.state(b), stop.state(b)
	r := l.runs[len(l.runs)-1]
	seconds := r.elapsed.Seconds()
	slices.Sort(newcomers)
	fmt.Printf("  %9.2f %9.2f %9.2f %9.1f %9d %9.0f %9.0f %9.0f %9.0f %11.0f\n", idle, p99(r), r.quantile(.999),
		newcomers[len(newcomers)*99/100].Seconds()*1e3, last.Open, float64(last.Opened-first.Opened)/seconds, float64(last.Answered-first.Answered)/seconds,
		(after.records-before.records)/seconds, float64(after.log-before.log)/1024/seconds, memory)
	return p99(r), memory
}

// newcomers are people who are signed in and come on a new connection each time.
func (l *lane) newcomers(b *testing.B, s scenario, done chan struct{}) (latencies []time.Duration) {
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	for {
		began := time.Now()
		c, err := l.dial()
		if err == nil {
			c.request, c.want = l.request("GET", s.path, nil), s.size
			err = c.ask()
			c.conn.Close()
		}
		if err != nil {
			b.Errorf("somebody who is signed in, on a new connection: %v", err)
			return append(latencies, time.Since(began))
		}
		latencies = append(latencies, time.Since(began))
		select {
		case <-done:
			return latencies
		case <-pause.C:
		}
	}
}

// mostMemory is the most resident memory that the gateway has until done.
func (l *lane) mostMemory(b *testing.B, done chan struct{}) (most float64) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		most = max(most, resident(b, l.pids[0]))
		select {
		case <-done:
			return most
		case <-tick.C:
		}
	}
}

// flooding is a process of strangers.
type flooding struct{ *child }

func (l *lane) flood(b *testing.B) flooding {
	c := newChild(b, "strangers", l.address, l.host, strconv.Itoa(floodConnections), strconv.Itoa(floodRate))
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	c.started()
	return flooding{c}
}

func (f flooding) state(b *testing.B) (s flooded) {
	if _, err := f.ask.Write([]byte{'?'}); err != nil {
		b.Fatal(err)
	}
	if err := f.answers.Decode(&s); err != nil {
		b.Fatal(err)
	}
	return s
}

func (f flooding) end() {
	f.Process.Kill()
	f.Wait()
}

// state is what the gateway tells of itself.
type state struct {
	records float64 // in the decision log
	log     int64   // bytes of the audit log
}

func (l *lane) state(b *testing.B) (s state) {
	var status admin.Status
	l.operator(b, "/v1/status", &status)
	s.records = float64(status.Audit.Decisions)
	err := filepath.WalkDir(filepath.Join(l.dir, "audit"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it may have been renamed meanwhile
		}
		if info, err := e.Info(); err == nil {
			s.log += info.Size()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// operator asks the gateway over its socket.
func (l *lane) operator(b *testing.B, path string, into any) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(l.dir, "admin.sock"))
	}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("http://gateway" + path)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		b.Fatal(err)
	}
}
