package sink

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
)

// syslogServer is a syslog receiver over TLS (RFC 5425) that keeps what it read.
type syslogServer struct {
	*shelf
	address string
	ca      string
	tls     *tls.Config

	mu        sync.Mutex
	listener  net.Listener
	conns     map[net.Conn]bool
	serving   sync.WaitGroup
	leave     func() bool // asked before each message is read: true crashes, with what is in the buffers
	buffer    int
	malformed []string
}

func newSyslogServer(t testing.TB) *syslogServer {
	t.Helper()
	c := newCollector(t)
	s := &syslogServer{shelf: c.shelf, ca: c.ca, conns: map[net.Conn]bool{}}
	s.tls = &tls.Config{Certificates: c.server.TLS.Certificates}
	s.listen(t, "127.0.0.1:0")
	t.Cleanup(s.crash)
	return s
}

func (s *syslogServer) listen(t testing.TB, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener, s.address = l, l.Addr().String()
	s.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			if s.buffer > 0 {
				conn.(*net.TCPConn).SetReadBuffer(s.buffer)
			}
			s.serving.Go(func() { s.serve(conn) })
		}
	})
}

// serve reads messages: their length, a space, and so many bytes (RFC 5425 §4.3).
func (s *syslogServer) serve(conn net.Conn) {
	defer s.hangUp(conn)
	r := bufio.NewReader(tls.Server(conn, s.tls))
	for {
		if s.leave != nil && s.leave() {
			return
		}
		length, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil || n <= 0 || n > 1<<20 {
			s.complain(length)
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}
		s.message(message)
	}
}

func (s *syslogServer) message(message []byte) {
	at := bytes.Index(message, []byte(`{"v":1`))
	if !bytes.HasPrefix(message, []byte("<1")) || at < 0 {
		s.complain(string(message))
		return
	}
	it, err := readItem(bytes.TrimSpace(message[at:]))
	if err != nil {
		s.complain(err.Error())
		return
	}
	s.take([]item{it})
}

func (s *syslogServer) complain(about string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.malformed = append(s.malformed, about)
}

// hangUp closes without the closing words of TLS, as a process that died.
func (s *syslogServer) hangUp(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *syslogServer) crash() {
	s.mu.Lock()
	s.listener.Close()
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *syslogServer) config() Config {
	return Config{Name: "syslog", Type: Syslog, Address: s.address, CA: s.ca, ServerName: "example.com", BatchWait: time.Millisecond, BatchRecords: 20}
}

// Records of a real log arrive over TLS as whole messages.
func TestRecordsArriveOverSyslog(t *testing.T) {
	g, server := newGateway(t), newSyslogServer(t)
	g.write(t, 400)
	s, end := run(t, g.options(server.shelf), server.config())
	server.await(t, "delivery", g.arrived(server.shelf))
	for late := time.Now().Add(patience); s.Lags()[0].Records > 0 && time.Now().Before(late); {
		rest(t.Context(), time.Millisecond)
	}
	if l := s.Lags()[0]; l.Records != 0 || l.Error != "" {
		t.Errorf("%+v", l)
	}
	end()
	if len(server.malformed) > 0 {
		t.Errorf("malformed: %.300q", server.malformed)
	}
	if n := len(server.seqs(audit.DecisionLog)); n != 400 {
		t.Errorf("%d arrived, want each of 400 once", n)
	}
}

// A receiver that is restarted between batches misses nothing: that its connection has ended is seen before, or right
// after, the next batch. Without that look the first write to a closed connection succeeds, and its batch is lost.
func TestRestartedSyslogReceiverMissesNothing(t *testing.T) {
	restarts := func(careless bool) error {
		server := newSyslogServer(t)
		log := newBook(audit.DecisionLog, 0)
		o := options(newMachine(), server.shelf, nil, log)
		o.open = func(c Config, ca string) (receiver, error) {
			settings, err := tlsConfig(c, ca)
			if careless {
				return &carelessly{syslogger: newSyslog(c, settings)}, err
			}
			return newSyslog(c, settings), err
		}
		s, end := run(t, o, server.config())
		defer end()
		for i := range 12 {
			log.write(20)
			late := time.Now().Add(patience)
			for s.Lags()[0].Records > 0 {
				if time.Now().After(late) {
					return fmt.Errorf("round %d: %+v", i, s.Lags()[0])
				}
				rest(t.Context(), time.Millisecond)
			}
			if !careless {
				server.await(t, "delivery", func() bool { return complete(server.seqs(log.name), 0, log.Next()) == nil })
			}
			server.crash()
			server.listen(t, server.address)
		}
		return complete(server.seqs(log.name), 0, log.Next())
	}
	if err := restarts(false); err != nil {
		t.Error(err)
	}
	if err := restarts(true); err == nil {
		t.Error("a sink that never looks at its connection lost nothing: the test shows nothing")
	}
}

// carelessly is a syslog sink as most are: what was written counts as delivered.
type carelessly struct{ *syslogger }

func (c *carelessly) send(ctx context.Context, items []item) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	for _, it := range items {
		if _, err := c.link.conn.Write(it.line); err != nil {
			c.close()
			return err
		}
	}
	return nil
}

// A receiver that stops reading costs a timeout: what it did not confirm is sent again.
func TestSyslogReceiverThatStopsReading(t *testing.T) {
	server := newSyslogServer(t)
	stuck := make(chan struct{})
	var once sync.Once
	server.leave, server.buffer = func() bool { <-stuck; return false }, 64<<10
	defer once.Do(func() { close(stuck) })
	log := newBook(audit.DecisionLog, 0)
	cfg := server.config()
	cfg.BatchRecords, cfg.Timeout = 10_000, 2*time.Second
	o := options(newMachine(), server.shelf, nil, log)
	o.open = nil
	s, _ := run(t, o, cfg)
	log.write(10_000) // more than a kernel takes
	for late := time.Now().Add(patience); s.Lags()[0].Error != errTimeout.Error(); {
		if time.Now().After(late) {
			t.Fatalf("%+v", s.Lags()[0])
		}
		rest(t.Context(), time.Millisecond)
	}
	once.Do(func() { close(stuck) })
	server.await(t, "delivery", func() bool { return complete(server.seqs(log.name), 0, log.Next()) == nil })
}
