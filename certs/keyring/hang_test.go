package keyring

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/certs/internal/wire"
)

// KEY-10: a keyd that waits for a processor is not taken for one that hangs, which is given up in time.
func TestSlowIsNotHung(t *testing.T) {
	for _, tt := range []struct {
		name   string
		after  time.Duration // until an answer; 0: never
		others time.Duration // until each of the answers to others; 0: there are none
		err    error
		lost   bool
	}{
		{name: "at once", after: time.Nanosecond},
		{name: "starved", after: hungAfter - time.Second},
		{name: "late, and nothing else comes", after: answerWithin - time.Millisecond},
		{name: "never, while others are answered", others: time.Second, err: context.DeadlineExceeded},
		{name: "never", err: context.DeadlineExceeded, lost: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := answering(t, map[wire.KeyID]time.Duration{{1}: tt.after, {2}: tt.others})
				ctx, stop := context.WithTimeout(t.Context(), answerWithin)
				defer stop()
				var others sync.WaitGroup
				defer others.Wait()
				others.Go(func() {
					for ctx.Err() == nil && tt.others > 0 {
						l.call(ctx, wire.OpSignAssertion, wire.SignBody(wire.KeyID{2}, nil))
					}
				})
				_, err := l.call(ctx, wire.OpSignTLS13Server, wire.SignBody(wire.KeyID{1}, nil))
				if !errors.Is(err, tt.err) || l.alive() == tt.lost {
					t.Errorf("got %v and a connection that is alive: %t, want %v and %t", err, l.alive(), tt.err, !tt.lost)
				}
			})
		})
	}
}

// A hang is noticed by asking, though nobody else asks.
func TestWatchFindsAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := answering(t, nil)
		began := time.Now()
		l.watch(t.Context(), func([]Key) {})
		if took := time.Since(began); took != probeEvery+answerWithin {
			t.Errorf("it took %v, want %v", took, probeEvery+answerWithin)
		}
	})
}

// answering is a keyd that answers what a key is asked for after a while, or never.
func answering(t *testing.T, after map[wire.KeyID]time.Duration) *link {
	ours, theirs := net.Pipe()
	l := newLink(ours, func() error { return nil })
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			f, err := wire.ReadFrame(theirs, wire.MaxRequest)
			if err != nil {
				return
			}
			id, _, err := wire.SplitSignBody(f.Body)
			if pause := after[id]; err == nil && pause > 0 {
				serving.Go(func() {
					time.Sleep(pause)
					theirs.Write(wire.AppendFrame(nil, wire.Frame{ID: f.ID, Kind: byte(wire.OK)}))
				})
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
