package gateway

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

// webSocket is the app's side of a WebSocket on its way to the client. It follows the frames (RFC 6455 §5.2) as far as
// is needed to know where one ends, because only there can the gateway say that it closes the connection.
type webSocket struct {
	client net.Conn

	mu     sync.Mutex
	head   [10]byte // the first bytes of the frame that is arriving, up to the end of its length
	have   int
	left   uint64        // bytes of its payload still to come
	ending error         // why no frame begins any more
	ended  chan struct{} // closed when the close frame is on its way, or cannot be
}

func newWebSocket(client net.Conn) *webSocket {
	return &webSocket{client: client, ended: make(chan struct{})}
}

// Status codes of a close frame (RFC 6455 §7.4.1).
const (
	closeGoingAway       = 1001
	closePolicyViolation = 1008
)

var errSocketClosed = errors.New("the WebSocket was closed by the gateway")

// Write passes on what the app sent, up to the end of the frame under way once the socket is to be closed.
func (s *webSocket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		return 0, errSocketClosed
	}
	n := s.follow(p)
	if _, err := s.client.Write(p[:n]); err != nil {
		return 0, err
	}
	if s.ending != nil && s.atBoundary() {
		s.sayClosed()
		return n, errSocketClosed
	}
	return n, nil
}

func (s *webSocket) closed() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// follow returns how much of p may pass: all of it, or what ends the frame under way when the socket is to be closed.
func (s *webSocket) follow(p []byte) int {
	for i := 0; i < len(p); {
		if s.ending != nil && s.atBoundary() {
			return i
		}
		if s.left > 0 {
			step := min(s.left, uint64(len(p)-i))
			s.left -= step
			i += int(step)
			continue
		}
		s.head[s.have] = p[i]
		s.have++
		i++
		if s.have == headLength(s.head[:s.have]) {
			s.left, s.have = payloadLength(s.head[:s.have]), 0
		}
	}
	return len(p)
}

func (s *webSocket) atBoundary() bool { return s.left == 0 && s.have == 0 }

// headLength is how long the head of a frame is, as far as its first bytes tell.
func headLength(head []byte) int {
	if len(head) < 2 {
		return 2
	}
	switch head[1] & 0x7f {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

func payloadLength(head []byte) uint64 {
	n := uint64(head[1] & 0x7f)
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		n = binary.BigEndian.Uint64(head[2:])
	}
	if head[1]&0x80 != 0 { // servers do not mask (RFC 6455 §5.1), but if one does, its key comes before the payload
		n += 4
	}
	return n
}

// end tells the client why the connection ends: at once, or when the frame under way has passed, for which the app has
// partingTime.
func (s *webSocket) end(cause error) {
	s.client.SetWriteDeadline(time.Now().Add(partingTime))
	s.mu.Lock()
	s.ending = cause
	if s.atBoundary() && !s.closed() {
		s.sayClosed()
	}
	s.mu.Unlock()
	patience := time.NewTimer(partingTime)
	defer patience.Stop()
	select {
	case <-s.ended:
	case <-patience.C:
	}
}

// sayClosed is called with the lock held, between two frames.
func (s *webSocket) sayClosed() {
	s.client.Write(closeFrame(s.ending)) // a client that takes nothing any more is not told
	close(s.ended)
}

// closeFrame is a close frame with status and reason (RFC 6455 §5.5.1).
func closeFrame(cause error) []byte {
	code := uint16(closePolicyViolation)
	if errors.Is(cause, ErrShutdown) {
		code = closeGoingAway
	}
	reason := cause.Error()
	reason = reason[:min(len(reason), 123)]
	frame := []byte{0x88, byte(2 + len(reason))}
	frame = binary.BigEndian.AppendUint16(frame, code)
	return append(frame, reason...)
}
