package gateway

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// frame is an unmasked frame with n bytes of payload.
func frame(n int) []byte {
	head := []byte{0x82}
	switch {
	case n < 126:
		head = append(head, byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 127), uint64(n))
	}
	return append(head, bytes.Repeat([]byte{'x'}, n)...)
}

// readAll gathers what a client receives until the connection ends.
func readAll(t *testing.T, c net.Conn) <-chan []byte {
	t.Helper()
	done := make(chan []byte, 1)
	go func() {
		got, _ := io.ReadAll(c)
		done <- got
	}()
	return done
}

// The close frame comes between two frames, whatever pieces the app's bytes arrive in.
func TestCloseFrameComesBetweenFrames(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 127, 65535, 65536, 70000}
	for round := range 200 {
		var sent []byte
		var ends []int
		for range 1 + rand.IntN(4) {
			sent = append(sent, frame(sizes[rand.IntN(len(sizes))])...)
			ends = append(ends, len(sent))
		}
		client, far := net.Pipe()
		received := readAll(t, far)
		socket := newWebSocket(client)
		cut := rand.IntN(len(sent) + 1)
		finished := make(chan struct{})
		for rest := sent[:cut]; len(rest) > 0; {
			n := 1 + rand.IntN(len(rest))
			if _, err := socket.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		go func() { socket.end(ErrSessionRevoked); close(finished) }()
		eventually(t, "the end to be known", func() bool { socket.mu.Lock(); defer socket.mu.Unlock(); return socket.ending != nil })
		socket.Write(sent[cut:])
		<-finished
		client.Close()
		got := <-received
		want := 0
		for _, end := range append([]int{0}, ends...) {
			if end >= cut {
				want = end
				break
			}
		}
		if expected := append(bytes.Clone(sent[:want]), closeFrame(ErrSessionRevoked)...); !bytes.Equal(got, expected) {
			t.Fatalf("round %d: cut at %d, frames end at %v: got %d bytes, want %d", round, cut, ends, len(got), len(expected))
		}
	}
}

// An app that never finishes its frame is not waited for longer than the parting time.
func TestUnfinishedFrameIsNotWaitedFor(t *testing.T) {
	client, far := net.Pipe()
	received := readAll(t, far)
	socket := newWebSocket(client)
	socket.Write([]byte{0x82, 10, 'x'})
	done := make(chan struct{})
	go func() { socket.end(ErrShutdown); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("the end is waited for")
	}
	client.Close()
	if got := <-received; !bytes.Equal(got, []byte{0x82, 10, 'x'}) {
		t.Errorf("something was said within a frame: % x", got)
	}
}

func TestCloseFramesSayWhy(t *testing.T) {
	for cause, code := range map[error]uint16{ErrSessionRevoked: 1008, ErrPolicyChanged: 1008, ErrShutdown: 1001} {
		got := closeFrame(cause)
		if got[0] != 0x88 || int(got[1]) != len(got)-2 || binary.BigEndian.Uint16(got[2:]) != code || string(got[4:]) != cause.Error() {
			t.Errorf("%v: got % x", cause, got)
		}
	}
}
