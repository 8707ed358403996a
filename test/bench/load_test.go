package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// subject is a proxy being measured.
type subject struct {
	name, address, host, cookie string
	roots                       *x509.CertPool
	pid                         int
	runs                        []run
	conns                       []*client
}

// run is one round of one subject.
type run struct {
	elapsed, cpu time.Duration
	latencies    []time.Duration // sorted
}

func perSecond(r run) float64 { return float64(len(r.latencies)) / r.elapsed.Seconds() }
func cpuMicros(r run) float64 { return float64(r.cpu.Microseconds()) / float64(len(r.latencies)) }
func p50(r run) float64       { return r.latencies[len(r.latencies)/2].Seconds() * 1e3 }
func p99(r run) float64       { return r.latencies[len(r.latencies)*99/100].Seconds() * 1e3 }

func (x *subject) median(of func(run) float64) float64 {
	var values []float64
	for _, r := range x.runs {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// measure lets every connection ask one request after the other for a while.
func (x *subject) measure(b *testing.B, length time.Duration) {
	for len(x.conns) < connections {
		x.conns = append(x.conns, x.connect(b))
	}
	var group sync.WaitGroup
	latencies := make([][]time.Duration, connections)
	cpu, start := x.cpu(b), time.Now()
	for i, c := range x.conns {
		group.Go(func() {
			for time.Since(start) < length {
				began := time.Now()
				if err := c.ask(); err != nil {
					b.Errorf("%s: %v", x.name, err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(began))
			}
		})
	}
	group.Wait()
	r := run{elapsed: time.Since(start), cpu: x.cpu(b) - cpu, latencies: slices.Concat(latencies...)}
	if b.Failed() || len(r.latencies) == 0 {
		b.FailNow()
	}
	slices.Sort(r.latencies)
	x.runs = append(x.runs, r)
}

// cpu is the processor time the subject has used so far.
func (x *subject) cpu(b *testing.B) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", x.pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime (proc_pid_stat(5)), in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// client is one keep-alive connection. It is as lean as it can be, since it runs on the same processors as what it
// measures.
type client struct {
	conn    *tls.Conn
	reader  *bufio.Reader
	request []byte
}

func (x *subject) connect(b *testing.B) *client {
	conn, err := tls.Dial("tcp", x.address, &tls.Config{ServerName: x.host, RootCAs: x.roots, NextProtos: []string{"http/1.1"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &client{conn: conn, reader: bufio.NewReaderSize(conn, 16<<10), request: requestBytes(x.host, x.cookie)}
}

var (
	statusOK      = []byte("HTTP/1.1 200")
	contentLength = []byte("Content-Length: ")
)

// ask sends one request and reads its answer, which must be a 200 of the right length.
func (c *client) ask() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, statusOK) {
			rest, _ := c.reader.Peek(c.reader.Buffered())
			return fmt.Errorf("got %q %q", line, rest)
		}
		if text, found := bytes.CutPrefix(line, contentLength); found {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(text))); err != nil {
				return err
			}
		}
		if len(line) <= 2 {
			break
		}
	}
	if length != answerSize {
		return fmt.Errorf("an answer of %d bytes, want %d", length, answerSize)
	}
	_, err := c.reader.Discard(length)
	return err
}
