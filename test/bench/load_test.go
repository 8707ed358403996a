package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// drive lets every connection ask for a while and returns how long each request took.
func drive(b *testing.B, l *lane, s scenario, start time.Time) []time.Duration {
	var group sync.WaitGroup
	latencies := make([][]time.Duration, len(l.conns))
	for i, c := range l.conns {
		group.Go(func() {
			var err error
			if s.rate > 0 {
				step := time.Duration(len(l.conns)) * time.Second / time.Duration(s.rate)
				latencies[i], err = c.keepPace(start.Add(time.Duration(i)*step/time.Duration(len(l.conns))), step, s.length)
			} else {
				latencies[i], err = c.hurry(start, s.length)
			}
			if err != nil {
				b.Errorf("%s: %v", l.name, err)
			}
		})
	}
	group.Wait()
	return slices.Concat(latencies...)
}

// hurry asks one request after the other.
func (c *client) hurry(start time.Time, length time.Duration) (latencies []time.Duration, err error) {
	for began := time.Now(); began.Sub(start) < length; {
		if err := c.ask(); err != nil {
			return latencies, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(began))
		began = now
	}
	return latencies, nil
}

// keepPace asks when it is time to, and what it could not ask in time was waiting: a request's latency runs from when
// it was due, not from when the connection was free for it. Otherwise a proxy that stalls would be asked less and
// would look better for it (coordinated omission).
func (c *client) keepPace(due time.Time, step, length time.Duration) (latencies []time.Duration, err error) {
	for end := due.Add(length); due.Before(end); due = due.Add(step) {
		time.Sleep(time.Until(due))
		if err := c.ask(); err != nil {
			return latencies, err
		}
		latencies = append(latencies, time.Since(due))
	}
	return latencies, nil
}

// client is one keep-alive connection. It is as lean as it can be, since it runs on the same processors as what it
// measures.
type client struct {
	conn    *tls.Conn
	reader  *bufio.Reader
	request []byte
	counter []byte // digits in request that count what was asked; nil = every request is the same
	want    int    // bytes of each answer
}

// lane connects the subject for a scenario.
func (x *subject) lane(b *testing.B, s scenario) *lane {
	l := &lane{subject: x}
	for range connections {
		c := x.connect(b)
		c.request, c.want = x.request("GET", s.path, nil), s.size
		l.conns = append(l.conns, c)
	}
	return l
}

func (x *subject) connect(b *testing.B) *client {
	c, err := x.dial()
	if err != nil {
		b.Fatalf("%s: %v", x.name, err)
	}
	b.Cleanup(func() { c.conn.Close() })
	return c
}

// patience is how long a new connection may take.
const patience = 15 * time.Second

func (x *subject) dial() (*client, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", x.address, &tls.Config{ServerName: x.host, RootCAs: x.roots, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, reader: bufio.NewReaderSize(conn, 16<<10)}, nil
}

// request is one request's bytes.
func (x *subject) request(method, path string, body []byte) []byte {
	lines := []string{method + " " + path + " HTTP/1.1", "Host: " + x.host, "Accept: text/html", "User-Agent: bench"}
	if x.cookie != "" {
		lines = append(lines, "Cookie: "+x.cookie)
	}
	if body != nil {
		lines = append(lines, "Content-Length: "+strconv.Itoa(len(body)))
	}
	return append([]byte(strings.Join(lines, "\r\n")+"\r\n\r\n"), body...)
}

var (
	statusOK      = []byte("HTTP/1.1 200")
	contentLength = []byte("Content-Length:")
)

// ask sends one request and reads its answer, which must be a 200 of the right length.
func (c *client) ask() error {
	c.count()
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
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return err
			}
		}
		if len(line) <= 2 {
			break
		}
	}
	if length != c.want {
		return fmt.Errorf("an answer of %d bytes, want %d", length, c.want)
	}
	_, err := c.reader.Discard(length)
	return err
}

// count makes the next request's query another one.
func (c *client) count() {
	for i := len(c.counter) - 1; i >= 0; i-- {
		if c.counter[i] < '9' {
			c.counter[i]++
			return
		}
		c.counter[i] = '0'
	}
}
