package keyring

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"sallyport/certs/internal/wire"
)

// jammed is a keyd that is at work for ever on what the given keys are asked for. Like the real one it works on 32
// requests at once and then reads no further.
func jammed(t *testing.T, keys ...wire.KeyID) *link {
	t.Helper()
	ours, theirs := net.Pipe()
	l := newLink(ours, func() error { return nil })
	var serving sync.WaitGroup
	serving.Go(func() {
		for busy := 0; busy < 32; {
			f, err := wire.ReadFrame(theirs, wire.MaxRequest)
			if err != nil {
				return
			}
			id, _, err := wire.SplitSignBody(f.Body)
			jam := false
			for _, k := range keys {
				jam = jam || err == nil && id == k
			}
			if jam {
				busy++
				continue
			}
			if _, err := theirs.Write(wire.AppendFrame(nil, wire.Frame{ID: f.ID, Kind: byte(wire.OK)})); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		theirs.Close()
		serving.Wait()
		l.release()
	})
	return l
}

// flood has many requests for the keys wait, until the test ends, and returns when keyd has as many as it is given.
func flood(t *testing.T, l *link, op wire.Op, want int, keys ...wire.KeyID) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for _, k := range keys {
		for range 50 {
			waiting.Go(func() { l.call(ctx, op, wire.SignBody(k, nil)) })
		}
	}
	t.Cleanup(func() {
		cancel()
		waiting.Wait()
	})
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		n := len(l.waiting)
		l.mu.Unlock()
		switch {
		case n == want:
			return
		case time.Now().After(end):
			t.Fatalf("keyd has %d requests, want %d", n, want)
		}
	}
}

// A crowd at the door, whose handshakes keyd cannot keep up with, holds up neither other keys nor the assertions of the
// people inside.
func TestFloodedKeysLeaveRoomForOthers(t *testing.T) {
	slow := []wire.KeyID{{1}, {2}, {3}, {4}, {5}}
	for _, tt := range []struct {
		name    string
		op      wire.Op
		flooded []wire.KeyID
		inKeyd  int
		others  []wire.Op
	}{
		{"one key", wire.OpSignTLS13Server, slow[:1], turnsPerKey, []wire.Op{wire.OpSignTLS13Server, wire.OpSignTLS13Client, wire.OpSignAssertion, wire.OpSignClientAssertion}},
		{"all TLS keys", wire.OpSignTLS13Server, slow, turnsForHandshakes, []wire.Op{wire.OpSignAssertion, wire.OpSignClientAssertion}},
		{"all in TLS 1.2", wire.OpSignTLS12Server, slow, turnsForHandshakes, []wire.Op{wire.OpSignAssertion, wire.OpSignClientAssertion}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := jammed(t, slow...)
			flood(t, l, tt.op, tt.inKeyd, tt.flooded...)
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
			defer stop()
			for _, op := range tt.others {
				for range 20 {
					if _, err := l.call(ctx, op, wire.SignBody(wire.KeyID{99}, nil)); err != nil {
						t.Fatalf("%s: %v", op, err)
					}
				}
			}
			for _, op := range []wire.Op{wire.OpStatus, wire.OpList} {
				if _, err := l.call(ctx, op, nil); err != nil {
					t.Errorf("%s: %v", op, err)
				}
			}
		})
	}
}

// A request that gives up gives its turn away.
func TestTurnsAreGivenBack(t *testing.T) {
	turns := newTurns()
	ctx, cancel := context.WithCancel(t.Context())
	body := wire.SignBody(wire.KeyID{1}, nil)
	var overs []func()
	for range turnsPerKey {
		over, err := turns.wait(ctx, wire.OpSignTLS13Server, body)
		if err != nil {
			t.Fatal(err)
		}
		overs = append(overs, over)
	}
	cancel()
	if _, err := turns.wait(ctx, wire.OpSignTLS13Server, body); err == nil {
		t.Error("one more than there are turns got one")
	}
	for _, over := range overs {
		over()
	}
	if n := len(turns.handshakes) + len(turns.key(wire.KeyID{1})); n != 0 {
		t.Errorf("%d turns were not given back", n)
	}
}
