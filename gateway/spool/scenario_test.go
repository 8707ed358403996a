package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// scenario is an answer, an app and a client with habits of their own, and a folder with its troubles.
type scenario struct {
	Memory, PerBody, Disk, BodyDisk int64

	Size     int   // of the answer
	Breaks   bool  // it ends with errBroken in place of io.EOF
	Pieces   []int // how the app says it, over and over; 0 says nothing once
	AppPause int   // the app pauses after so many pieces

	Reads     []int // how the client reads; 0 waits until everything else stands still
	WriteTo   bool  // the client uses WriteTo; Reads are what its writer does then
	LeavesAt  int   // the client closes after so many bytes; -1: never
	Cancelled bool  // by the end of its context

	Failures  []bool // which calls of Create and WriteAt fail, over and over
	Slow      bool   // the disk takes its time, so that others go on meanwhile
	CannotCut bool   // the file system gives no space back of a file
}

var errBroken = errors.New("the app broke off")

func sizes(most int) *rapid.Generator[[]int] {
	return rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, most), rapid.SampledFrom([]int{0, 1, tinyChunk, smallChunk, largeChunk})), 1, 6)
}

var scenarios = rapid.Custom(func(t *rapid.T) scenario {
	return scenario{
		Memory:    rapid.SampledFrom([]int64{0, tinyChunk, 3 * smallChunk, 256 << 10, 1 << 20}).Draw(t, "memory"),
		PerBody:   rapid.SampledFrom([]int64{0, smallChunk, 128 << 10, 256 << 10}).Draw(t, "per body"),
		Disk:      rapid.SampledFrom([]int64{0, 50 << 10, 400 << 10, 1 << 30}).Draw(t, "disk"),
		BodyDisk:  rapid.SampledFrom([]int64{10 << 10, 200 << 10, 1 << 30}).Draw(t, "body disk"),
		Size:      rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 300<<10), rapid.IntRange(0, 12<<20)).Draw(t, "size"),
		Breaks:    rapid.Bool().Draw(t, "breaks"),
		Pieces:    sizes(100<<10).Draw(t, "pieces"),
		AppPause:  rapid.IntRange(1, 20).Draw(t, "app pause"),
		Reads:     sizes(100<<10).Draw(t, "reads"),
		WriteTo:   rapid.Bool().Draw(t, "write to"),
		LeavesAt:  rapid.OneOf(rapid.Just(-1), rapid.IntRange(0, 400<<10)).Draw(t, "leaves at"),
		Cancelled: rapid.Bool().Draw(t, "cancelled"),
		Failures:  rapid.SliceOfN(rapid.Bool(), 0, 5).Draw(t, "failures"),
		Slow:      rapid.Bool().Draw(t, "slow"),
		CannotCut: rapid.Bool().Draw(t, "cannot cut"),
	}
})

// run plays the scenario and says what is wrong with what the client saw, or with what is left over.
func (sc scenario) run(t *testing.T, mistake func(*fakeFile) file) (err error) {
	synctest.Test(t, func(t *testing.T) { err = sc.play(t.Context(), mistake) })
	return err
}

func (sc scenario) play(ctx context.Context, mistake func(*fakeFile) file) error {
	s, folder := &Spooler{retry: retryPeriod}, &fakeFolder{failures: sc.Failures, slow: sc.Slow, cannotCut: sc.CannotCut, mistake: mistake}
	s.use(&settings{memory: sc.Memory, perBody: sc.PerBody, disk: sc.Disk, bodyDisk: sc.BodyDisk, folder: folder})
	app := &fakeApp{answer: contents(sc.Size), pieces: sc.Pieces, pause: sc.AppPause, closed: make(chan struct{})}
	if sc.Breaks {
		app.end = errBroken
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := s.Response(ctx, app)
	c := &client{sc: sc, reader: r, cancel: cancel}
	wrong := c.judge(app, c.read())
	if s.memory.used.Load() > sc.Memory || s.disk.used.Load() > sc.Disk {
		wrong = errors.Join(wrong, fmt.Errorf("more is used than allowed: %+v", s.Stats()))
	}
	r.Close()
	cancel(nil)
	s.Close()
	synctest.Wait()
	left := s.Stats()
	left.Failures = 0
	if left != (Stats{}) || folder.open != 0 || !app.isClosed {
		wrong = errors.Join(wrong, fmt.Errorf("left over: %+v, %d files, app closed %v", left, folder.open, app.isClosed))
	}
	return wrong
}

var errRevoked = errors.New("session revoked")

// client is who reads the answer.
type client struct {
	sc     scenario
	reader *Reader
	cancel context.CancelCauseFunc
	seen   []byte
	turn   int
	left   bool
}

// read reads until it is told to stop, and says why.
func (c *client) read() error {
	if c.sc.WriteTo {
		if _, err := c.reader.WriteTo(c); err != nil {
			return err
		}
		return io.EOF
	}
	p := make([]byte, 200<<10)
	for {
		n, err := c.reader.Read(p[:c.pace()])
		if err != nil && n > 0 {
			return fmt.Errorf("bytes beside an error: %w", err)
		}
		if err != nil {
			return err
		}
		c.Write(p[:n])
	}
}

// pace is the size of the next read. Before some, everything else goes on until it stands still.
func (c *client) pace() int {
	size := c.sc.Reads[c.turn%len(c.sc.Reads)]
	c.turn++
	if size == 0 {
		synctest.Wait()
	}
	return max(size, 1+c.sc.Size/1000)
}

// Write is what WriteTo gets to see, which must not change while it is looked at.
func (c *client) Write(p []byte) (int, error) {
	c.leave(len(p))
	if c.sc.WriteTo {
		c.pace()
	}
	c.seen = append(c.seen, p...)
	return len(p), nil
}

// leave ends the Reader when the client will have seen enough with n more bytes.
func (c *client) leave(n int) {
	if c.left || c.sc.LeavesAt < 0 || len(c.seen)+n < c.sc.LeavesAt {
		return
	}
	c.left = true
	if c.sc.Cancelled {
		c.cancel(errRevoked)
		synctest.Wait()
	} else {
		c.reader.Close()
	}
	scribble()
}

// scribble does to free chunks what the next body will.
func scribble() {
	for _, size := range []int{tinyChunk, smallChunk, largeChunk} {
		free := poolOf(size).Get().(*chunk)
		clear(free.buf)
		poolOf(size).Put(free)
	}
}

// judge compares what the client saw with what the app said.
func (c *client) judge(app *fakeApp, err error) error {
	want := io.EOF
	switch {
	case c.left && c.sc.Cancelled:
		want = errRevoked
	case c.left:
		want = ErrClosed
	case c.sc.Breaks:
		want = errBroken
	}
	if err != want {
		return fmt.Errorf("the client's end is %v, want %v, after %d of %d bytes", err, want, len(c.seen), c.sc.Size)
	}
	if !bytes.HasPrefix(app.answer, c.seen) {
		return fmt.Errorf("the client saw other bytes than the app said, from %d on", firstDifference(app.answer, c.seen))
	}
	if !c.left && len(c.seen) != c.sc.Size {
		return fmt.Errorf("the client saw %d of %d bytes", len(c.seen), c.sc.Size)
	}
	return nil
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// contents are bytes that show when one is in another's place.
func contents(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(p)
	return p
}

// fakeApp is what an app says.
type fakeApp struct {
	answer   []byte
	said     int
	pieces   []int
	turn     int
	pause    int
	wait     time.Duration // before the end
	end      error
	closed   chan struct{}
	once     sync.Once
	isClosed bool
}

func (a *fakeApp) Read(p []byte) (int, error) {
	piece := a.pieces[a.turn%len(a.pieces)]
	a.turn++
	if a.turn%a.pause == 0 {
		select {
		case <-time.After(time.Second):
		case <-a.closed:
		}
	}
	select {
	case <-a.closed:
		return 0, io.ErrClosedPipe
	default:
	}
	if piece > 0 || a.turn%len(a.pieces) == 0 {
		piece = max(piece, 1+len(a.answer)/1000)
	}
	n := copy(p[:min(piece, len(p))], a.answer[a.said:])
	a.said += n
	if n > 0 && a.wait > 0 {
		return n, nil
	}
	if a.said == len(a.answer) && a.wait > 0 {
		select {
		case <-time.After(a.wait):
		case <-a.closed:
			return 0, io.ErrClosedPipe
		}
	}
	if a.said == len(a.answer) {
		if a.end != nil {
			return n, a.end
		}
		return n, io.EOF
	}
	return n, nil
}

func (a *fakeApp) Close() error {
	a.once.Do(func() { a.isClosed = true; close(a.closed) })
	return nil
}
