package bench

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// strangers are a process that floods the gateway. It is as cheap as it can be, since it runs on the same processors: a
// connection is one goroutine, which sleeps in the poller most of the time.
type strangers struct {
	address, host string
	kinds         []kind // as attacks
	asked, denied atomic.Int64
}

// kind counts the connections of an attack.
type kind struct{ open, opened atomic.Int64 }

// flooded is what a process of strangers has done so far. What is counted by kind is in the order of attacks.
type flooded struct {
	Open, Opened    []int64
	Asked, Answered int64
}

// attack holds a connection until the gateway closes it.
type attack struct {
	name  string
	share int // of all connections, in percent
	run   func(*strangers, net.Conn)
}

// attacks are the slow kinds. Each connection that the gateway closes is opened again, after returnAfter.
var attacks = []attack{
	{name: "half handshakes", share: 30, run: (*strangers).halfHandshake},
	{name: "half heads", share: 20, run: (*strangers).halfHead},
	{name: "slow bodies", share: 15, run: (*strangers).slowBody},
	{name: "readers that never read", share: 15, run: (*strangers).neverRead},
	{name: "HTTP/2 windows of zero", share: 10, run: (*strangers).tinyWindow},
	{name: "HTTP/2 requests taken back", share: 10, run: (*strangers).takeBack},
}

const (
	// returnAfter is how long a stranger waits with its next connection. All come from floodAddresses addresses.
	returnAfter    = 10 * time.Second
	floodAddresses = 50
	// askers share the rate of plain requests.
	askers = 50
)

// runStrangers floods an address: its arguments are the address, a host, a number of connections and a rate.
func runStrangers(args []string) {
	s := &strangers{address: args[0], host: args[1], kinds: make([]kind, len(attacks))}
	connections, _ := strconv.Atoi(args[2]) // ours
	rate, _ := strconv.Atoi(args[3])
	for i := range connections {
		go s.comeBack(i, attackOf(i))
	}
	for i := range askers {
		go s.ask(i, askers*time.Second/time.Duration(rate))
	}
	s.tell()
}

// attackOf spreads the kinds evenly over the numbers; it is a place in attacks.
func attackOf(i int) int {
	n := i * 37 % 100
	for at, a := range attacks {
		if n -= a.share; n < 0 {
			return at
		}
	}
	panic("BUG: the shares are not 100 percent")
}

// tell answers each byte on standard input with what was done so far, and ends the process with it.
func (s *strangers) tell() {
	syscall.CloseOnExec(answersFD)
	answers := json.NewEncoder(os.NewFile(answersFD, "answers"))
	for {
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return
		}
		done := flooded{Asked: s.asked.Load(), Answered: s.denied.Load()}
		for i := range s.kinds {
			done.Open, done.Opened = append(done.Open, s.kinds[i].open.Load()), append(done.Opened, s.kinds[i].opened.Load())
		}
		if err := answers.Encode(done); err != nil {
			return
		}
	}
}

// comeBack opens one connection after the other.
func (s *strangers) comeBack(i, at int) {
	count := &s.kinds[at]
	time.Sleep(time.Duration(i) * time.Millisecond) // 1,000 a second
	for {
		began := time.Now()
		if conn, err := s.dial(i); err == nil {
			count.open.Add(1)
			count.opened.Add(1)
			attacks[at].run(s, conn)
			conn.Close()
			count.open.Add(-1)
		}
		time.Sleep(returnAfter - time.Since(began))
	}
}

// dial connects from one of many addresses of the loopback network.
func (s *strangers) dial(i int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 0, byte(1+i%floodAddresses))}, Timeout: 5 * time.Second}
	return d.Dial("tcp4", s.address)
}

func (s *strangers) secure(conn net.Conn, protocol string) (*tls.Conn, error) {
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: s.host, NextProtos: []string{protocol},
		CurvePreferences: []tls.CurveID{tls.X25519}})
	return secured, secured.Handshake()
}

// untilClosed waits until the other side closes.
func untilClosed(conn net.Conn) {
	var one [1]byte
	for {
		if _, err := conn.Read(one[:]); err != nil {
			return
		}
	}
}

// halfHandshake announces a message of TLS and sends a part of it.
func (s *strangers) halfHandshake(conn net.Conn) {
	conn.Write(append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 100)...))
	untilClosed(conn)
}

func (s *strangers) halfHead(conn net.Conn) {
	if secured, err := s.secure(conn, "http/1.1"); err == nil {
		fmt.Fprintf(secured, "GET / HTTP/1.1\r\nHost: %s\r\nX-Slow: ", s.host)
		untilClosed(secured)
	}
}

// slowBody announces a megabyte and sends a byte a second.
func (s *strangers) slowBody(conn net.Conn) {
	secured, err := s.secure(conn, "http/1.1")
	if err != nil {
		return
	}
	fmt.Fprintf(secured, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 1048576\r\n\r\n", s.host)
	for err == nil {
		time.Sleep(time.Second)
		_, err = secured.Write([]byte{'x'})
	}
}

// neverRead asks until nothing goes any more, and takes no answer.
func (s *strangers) neverRead(conn net.Conn) {
	conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	secured, err := s.secure(conn, "http/1.1")
	if err != nil {
		return
	}
	request := fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nAccept: text/html\r\n\r\n", s.host)
	for range 4 {
		if _, err := secured.Write(request); err != nil {
			return
		}
	}
	for err == nil { // that it was closed shows when something is written
		time.Sleep(5 * time.Second)
		_, err = secured.Write([]byte{'\r', '\n'})
	}
}

// tinyWindow opens streams on which nothing may be sent.
func (s *strangers) tinyWindow(conn net.Conn) {
	if framer, secured := s.http2(conn, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); framer != nil {
		for stream := range uint32(5) {
			s.head(framer, 1+2*stream)
		}
		untilClosed(secured)
	}
}

// takeBack takes back each request at once, four every two seconds.
func (s *strangers) takeBack(conn net.Conn) {
	framer, secured := s.http2(conn)
	if framer == nil {
		return
	}
	go untilClosed(secured)
	for stream := uint32(1); ; stream += 2 {
		if s.head(framer, stream) != nil || framer.WriteRSTStream(stream, http2.ErrCodeCancel) != nil {
			return
		}
		if stream%8 == 7 {
			time.Sleep(2 * time.Second)
		}
	}
}

func (s *strangers) http2(conn net.Conn, settings ...http2.Setting) (*http2.Framer, *tls.Conn) {
	secured, err := s.secure(conn, "h2")
	if err != nil {
		return nil, nil
	}
	io.WriteString(secured, http2.ClientPreface)
	framer := http2.NewFramer(secured, secured)
	if framer.WriteSettings(settings...) != nil {
		return nil, nil
	}
	return framer, secured
}

func (s *strangers) head(framer *http2.Framer, stream uint32) error {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", s.host}, {":path", "/"}, {"accept", "text/html"}} {
		encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
}

// ask asks in a fixed rhythm, on a new connection when the last one was closed.
func (s *strangers) ask(i int, step time.Duration) {
	request := fmt.Appendf(nil, "GET /?stranger=%d HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\n\r\n", i, s.host)
	answer := make([]byte, 8<<10)
	var conn net.Conn
	for due := time.Now().Add(time.Duration(i) * step / askers); ; due = due.Add(step) {
		time.Sleep(time.Until(due))
		if now := time.Now(); now.Sub(due) > time.Second { // what was missed is not made up for
			due = now
		}
		if conn == nil {
			plain, err := s.dial(i)
			if err != nil {
				continue
			}
			if conn, err = s.secure(plain, "http/1.1"); err != nil {
				plain.Close()
				conn = nil
				continue
			}
		}
		s.asked.Add(1)
		conn.Write(request)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := conn.Read(answer) // a refusal is one record of TLS
		if err == nil {
			s.denied.Add(1)
		}
		if err != nil || bytes.Contains(answer[:n], []byte("Connection: close")) {
			conn.Close()
			conn = nil
		}
	}
}
