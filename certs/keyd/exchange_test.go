package keyd

import (
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/certs/internal/wire"
)

// A peer that asks for many large answers and reads none makes keyd keep one, until it loses the connection.
func TestUnreadAnswersAreNotGathered(t *testing.T) {
	keys, _ := newBed(t, mathrand.New(mathrand.NewPCG(1, 0))).mustStart(t)
	var made, early atomic.Int32
	var deaf atomic.Bool
	facts := func() []wire.Fact {
		if made.Add(1); deaf.Load() {
			early.Add(1)
		}
		return nil
	}
	s, err := newServer(keys, "test", facts, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	var serving sync.WaitGroup
	serving.Go(func() { s.serveConn(t.Context(), hearing{theirs, &deaf}, peer{maySign: true}) })
	if err := wire.Offer(ours); err != nil {
		t.Fatal(err)
	}
	deaf.Store(true)
	for range maxInFlight {
		if _, err := ours.Write(wire.AppendFrame(nil, wire.Frame{Kind: byte(wire.OpStatus)})); err != nil {
			t.Fatal(err)
		}
	}
	serving.Wait() // until its patience ends
	if n := early.Load(); n != 1 {
		t.Errorf("keyd made %d answers of %d before the first was read, want 1", n, made.Load())
	}
}

// hearing tells when keyd gives its peer up.
type hearing struct {
	net.Conn
	deaf *atomic.Bool
}

func (h hearing) Close() error {
	h.deaf.Store(false)
	return h.Conn.Close()
}
