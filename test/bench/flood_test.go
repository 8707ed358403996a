package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
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
	floodLength      = 8 * time.Second
	// floodNice is by how much the strangers give way to the gateway on the processors that they share here; real ones
	// have their own. They still have what the gateway leaves, and what they achieve is printed.
	floodNice = 10
	// signedInRate is what people ask for who are signed in.
	signedInRate = 200
	// calm is what the 99th percentile may be under the flood: so many times the idle one, or so long.
	calmTimes = 10
	calmMS    = 50
)

// Strangers flood the gateway while people who are signed in go on: they notice little, and nothing of theirs fails. All of
// it takes about two minutes, and at most four on a machine that is too slow for it.
func BenchmarkFlood(b *testing.B) {
	bed := newBed(b, plainApp)
	wiki, _ := bed.gateway(b)
	s := scenario{path: "/1k", size: 1 << 10, length: floodLength, rate: signedInRate}
	l := wiki.lane(b, s)
	l.visit(scenario{length: 2 * time.Second, rate: s.rate}) // caches, heaps
	before := resident(b, wiki.pids[0])
	fmt.Printf("\nflood: %d connections of strangers and %d requests a second of theirs, from a process that gives way (nice %d) since it has no machine of its own,\n"+
		"beside %d requests a second of people who are signed in, on %d connections and ten new ones a second; %d rounds of %s, idle and flooded in turn\n",
		floodConnections, floodRate, floodNice, s.rate, connections, floodRounds, s.length)
	fmt.Printf("  %8s %8s %9s %9s %10s %9s %7s %9s %8s %10s %10s %11s %11s\n", "idle p50", "idle p99", "flood p50", "flood p99", "newcomers", "failures",
		"open", "opened/s", "asked/s", "answered/s", "records/s", "log KiB/s", "memory MiB")
	var idle, flood []visits
	var floods []round
	for range floodRounds {
		idle = append(idle, l.visit(s))
		r := l.underFlood(b, s)
		flood, floods = append(flood, r.people), append(floods, r)
		r.print(idle[len(idle)-1])
	}
	calm, hurried := medianOf(idle, .99), medianOf(flood, .99)
	var failures []error
	most := 0.0
	for i, r := range floods {
		failures = slices.Concat(failures, idle[i].failures, r.people.failures, r.newcomers.failures)
		most = max(most, r.memory)
	}
	fmt.Printf("  medians: p50 %.2f ms idle, %.2f ms flooded; p99 %.2f ms idle, %.2f ms flooded; %d failures; memory %.0f MiB before, %.0f at most\n",
		medianOf(idle, .5), medianOf(flood, .5), calm, hurried, len(failures), before, most)
	printKinds(floods)
	b.ReportMetric(hurried, "p99-ms")
	b.ReportMetric(most, "MiB")
	b.ReportMetric(0, "ns/op")
	if hurried > max(calmTimes*calm, calmMS) {
		b.Errorf("the p99 of signed-in requests is %.1f ms under the flood and %.1f ms without", hurried, calm)
	}
	for _, err := range failures[:min(len(failures), 10)] {
		b.Errorf("of people who are signed in: %v", err)
	}
}

// visits are what people who are signed in asked for, and how long each request took: from when it was due, as in keepPace.
type visits struct {
	latencies []time.Duration // sorted
	failures  []error
}

func (v visits) quantile(q float64) float64 {
	if len(v.latencies) == 0 {
		return 0
	}
	return run{latencies: v.latencies}.quantile(q)
}

func medianOf(rounds []visits, q float64) float64 {
	var values []float64
	for _, v := range rounds {
		values = append(values, v.quantile(q))
	}
	return median(values)
}

// visit has people ask at the scenario's rate, on connections that they keep. It ends in time, however slow the answers are:
// what could not be asked by then took as long as it waited. What fails is counted, and asked anew on a new connection.
func (l *lane) visit(s scenario) (v visits) {
	var mu sync.Mutex
	var group sync.WaitGroup
	start := time.Now()
	step := time.Duration(len(l.conns)) * time.Second / time.Duration(s.rate)
	for i, c := range l.conns {
		group.Go(func() {
			mine := l.keepVisiting(c, start.Add(time.Duration(i)*step/time.Duration(len(l.conns))), step, start.Add(s.length))
			mu.Lock()
			defer mu.Unlock()
			v.latencies, v.failures = append(v.latencies, mine.latencies...), append(v.failures, mine.failures...)
		})
	}
	group.Wait()
	slices.Sort(v.latencies)
	return v
}

func (l *lane) keepVisiting(c *client, due time.Time, step time.Duration, end time.Time) (v visits) {
	for ; due.Before(end); due = due.Add(step) {
		time.Sleep(time.Until(due))
		if time.Now().Before(end) {
			c.conn.SetDeadline(time.Now().Add(patience))
			if err := c.ask(); err != nil {
				v.failures = append(v.failures, err)
				l.reconnect(c)
			}
		}
		v.latencies = append(v.latencies, time.Since(due))
	}
	return v
}

// reconnect gives a client whose connection broke another one; if it cannot, its next request fails too.
func (l *lane) reconnect(c *client) {
	c.conn.Close()
	if another, err := l.dial(); err == nil {
		c.conn, c.reader = another.conn, another.reader
	}
}

// round is one under the flood.
type round struct {
	people, newcomers visits
	seconds           float64
	first, last       flooded
	records, log      float64 // of the gateway's log, in records and bytes
	memory            float64 // MiB
}

// underFlood is one round: the flood is there before the measurement begins, and gone after it.
func (l *lane) underFlood(b *testing.B, s scenario) (r round) {
	strangers := l.flood(b)
	defer strangers.end()
	strangers.awaitAll(b)
	before := l.state(b)
	r.first = strangers.state(b)
	var watching sync.WaitGroup
	done := make(chan struct{})
	watching.Go(func() { r.memory = l.mostMemory(b, done) })
	watching.Go(func() { r.newcomers = l.newcomers(s, done) })
	began := time.Now()
	r.people = l.visit(s)
	r.seconds = time.Since(began).Seconds()
	r.last = strangers.state(b)
	close(done)
	watching.Wait()
	after := l.state(b)
	r.records, r.log = after.records-before.records, float64(after.log-before.log)
	return r
}

func (r *round) print(idle visits) {
	fmt.Printf("  %8.2f %8.2f %9.2f %9.2f %10.1f %9d %7d %9.0f %8.0f %10.0f %10.0f %11.0f %11.0f\n", idle.quantile(.5), idle.quantile(.99),
		r.people.quantile(.5), r.people.quantile(.99), r.newcomers.quantile(.99), len(idle.failures)+len(r.people.failures)+len(r.newcomers.failures),
		sum(r.last.Open), float64(sum(r.last.Opened)-sum(r.first.Opened))/r.seconds, float64(r.last.Asked-r.first.Asked)/r.seconds,
		float64(r.last.Answered-r.first.Answered)/r.seconds, r.records/r.seconds, r.log/1024/r.seconds, r.memory)
}

// printKinds tells what each kind of connection achieved, as medians of the rounds.
func printKinds(floods []round) {
	for at, a := range attacks {
		var open, opened []float64
		for _, r := range floods {
			open, opened = append(open, float64(r.last.Open[at])), append(opened, float64(r.last.Opened[at]-r.first.Opened[at])/r.seconds)
		}
		fmt.Printf("  %-27s %5.0f open, %4.0f new ones a second\n", a.name+":", median(open), median(opened))
	}
	fmt.Println()
}

func sum(list []int64) (total int64) {
	for _, n := range list {
		total += n
	}
	return total
}

// newcomers are people who are signed in and come on a new connection each time.
func (l *lane) newcomers(s scenario, done chan struct{}) (v visits) {
	defer func() { slices.Sort(v.latencies) }()
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	for {
		began := time.Now()
		c, err := l.dial()
		if err == nil {
			c.request, c.want = l.request("GET", s.path, nil), s.size
			c.conn.SetDeadline(time.Now().Add(patience))
			err = c.ask()
			c.conn.Close()
		}
		if err != nil {
			v.failures = append(v.failures, fmt.Errorf("on a new connection: %w", err))
		}
		v.latencies = append(v.latencies, time.Since(began))
		select {
		case <-done:
			return v
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
	nice, err := exec.LookPath("nice")
	if err != nil {
		b.Fatal(err)
	}
	c.Path, c.Args = nice, append([]string{nice, "-n", strconv.Itoa(floodNice)}, c.Args...)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	c.started()
	return flooding{c}
}

// awaitAll returns when each stranger has come at least once, or most of them on a machine that is too slow.
func (f flooding) awaitAll(b *testing.B) {
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if sum(f.state(b).Opened) >= floodConnections {
			return
		}
	}
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
	res, err := (&http.Client{Transport: transport}).Get("http://sallyport" + path)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode != http.StatusOK {
		b.Fatalf("%s: %d %v", path, res.StatusCode, err)
	}
}
