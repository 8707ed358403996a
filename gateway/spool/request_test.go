package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"pgregory.net/rapid"
)

// DOS-19: a request's body is what the client sent, as often as it is read, or one of the errors that are promised; and
// nothing is left when it is closed.
func TestBodyIsWhatTheClientSent(t *testing.T) {
	rapid.Check(t, func(draw *rapid.T) {
		set := settings{
			memory:   rapid.SampledFrom([]int64{0, tinyChunk, 100 << 10, 1 << 20}).Draw(draw, "memory"),
			perBody:  rapid.SampledFrom([]int64{0, smallChunk, 256 << 10}).Draw(draw, "per body"),
			disk:     rapid.SampledFrom([]int64{0, 100 << 10, 1 << 30}).Draw(draw, "disk"),
			bodyDisk: rapid.SampledFrom([]int64{50 << 10, 1 << 30}).Draw(draw, "body disk"),
		}
		folder := &fakeFolder{failures: rapid.SliceOfN(rapid.Bool(), 0, 4).Draw(draw, "failures")}
		set.folder = folder
		s := &Spooler{}
		s.use(&set)
		text := contents(rapid.OneOf(rapid.IntRange(0, 20<<10), rapid.IntRange(0, 2<<20)).Draw(draw, "size"))
		client := &fakeApp{answer: text, pieces: sizes(100<<10).Draw(draw, "pieces"), pause: 1 << 30, closed: make(chan struct{})}
		if rapid.Bool().Draw(draw, "breaks") {
			client.end = errBroken
		}
		length := rapid.OneOf(rapid.Just(int64(-1)), rapid.Just(int64(len(text))), rapid.Int64Range(0, 3<<20)).Draw(draw, "length")
		limit := rapid.OneOf(rapid.Just(int64(-1)), rapid.Int64Range(0, 3<<20)).Draw(draw, "limit")

		b, err := s.Request(t.Context(), client, length, limit)
		size := int64(len(text))
		switch {
		case err == nil:
			if client.end != nil || (length >= 0 && length != size) || (limit >= 0 && size > limit) {
				draw.Fatalf("accepted %d bytes, announced %d, limit %d, end %v", size, length, limit, client.end)
			}
			checkBody(draw, b, text)
			b.Close()
		case errors.Is(err, ErrTooLarge) && limit >= 0 && max(length, size) > limit:
		case errors.Is(err, ErrFull) && (size > set.perBody || set.memory < 1<<20):
		case err == io.ErrUnexpectedEOF && length >= 0 && length != size:
		case err == errBroken && client.end == errBroken:
		default:
			draw.Fatalf("got %v for %d bytes, announced %d, limit %d, %+v", err, size, length, limit, set)
		}
		left := s.Stats()
		left.Failures = 0
		if left != (Stats{}) || folder.open != 0 {
			draw.Fatalf("left over: %+v, %d files", left, folder.open)
		}
	})
}

// checkBody reads a body three times at once, and here and there.
func checkBody(draw *rapid.T, b *Body, text []byte) {
	var wg sync.WaitGroup
	for range 3 {
		r, err := b.Open()
		if err != nil {
			draw.Fatal(err)
		}
		wg.Go(func() {
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) {
				draw.Errorf("read %d bytes of %d, %v", len(got), len(text), err)
			}
		})
	}
	wg.Wait()
	offset := rapid.IntRange(0, len(text)+10).Draw(draw, "offset")
	part := make([]byte, rapid.IntRange(0, 200<<10).Draw(draw, "part"))
	n, err := b.ReadAt(part, int64(offset))
	want := text[min(offset, len(text)):min(offset+len(part), len(text))]
	if !bytes.Equal(part[:n], want) || (err == io.EOF) != (len(want) < len(part)) {
		draw.Errorf("ReadAt(%d, %d) = %d, %v", len(part), offset, n, err)
	}
	if b.Size() != int64(len(text)) {
		draw.Errorf("size %d, want %d", b.Size(), len(text))
	}
}

func TestBodyReadsLikeAnyReader(t *testing.T) {
	for _, size := range []int{0, 100, 70 << 10, 400 << 10} {
		s, text := onFake(t, plenty, &fakeFolder{}), contents(size)
		b, err := s.Request(t.Context(), bytes.NewReader(text), int64(size), -1)
		if err != nil {
			t.Fatal(err)
		}
		r, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, text); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if _, err := b.ReadAt(nil, -1); err == nil {
			t.Error("a negative offset was accepted")
		}
		r.Close()
		if _, err := r.Read(make([]byte, 1)); err != ErrClosed {
			t.Errorf("after Close of the reader: %v", err)
		}
		b.Close()
		b.Close()
		if _, err := b.Open(); err != ErrClosed {
			t.Errorf("after Close of the body: %v", err)
		}
	}
}

// An exchange may end while the transport still sends its body: the memory must not be somebody else's by then.
func TestBodyClosedWhileItIsRead(t *testing.T) {
	s, text := onFake(t, plenty, &fakeFolder{}), contents(200<<10)
	for range 50 {
		b, err := s.Request(t.Context(), bytes.NewReader(text), -1, -1)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			r, err := b.Open()
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				got, err := io.ReadAll(r)
				if (err != nil && err != ErrClosed) || !bytes.HasPrefix(text, got) {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			})
		}
		b.Close()
		next, err := s.Request(t.Context(), bytes.NewReader(make([]byte, len(text))), -1, -1)
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		next.Close()
	}
}

func TestReadUnderWayKeepsWhatItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := &fakeFolder{slow: true}
		s, text := onFake(t, plenty, folder), contents(1<<20)
		b, err := s.Request(t.Context(), bytes.NewReader(text), -1, -1)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			got := make([]byte, len(text))
			if _, err := b.ReadAt(got, 0); err != nil || !bytes.Equal(got, text) {
				t.Errorf("the read under way got %v, or other bytes", err)
			}
		})
		synctest.Wait() // it waits for the disk
		b.Close()
		if used := s.Stats(); used.Memory == 0 || used.Files == 0 {
			t.Error("freed while it is read")
		}
		wg.Wait()
		if _, err := b.ReadAt(make([]byte, 1), 0); err != ErrClosed {
			t.Errorf("a later read got %v", err)
		}
	})
}

func TestSmallBodyTakesOneAllocationAndNoFile(t *testing.T) {
	for _, size := range []int{0, 10, 4 << 10, 16 << 10, 64 << 10} {
		s, text := onFake(t, plenty, &fakeFolder{}), contents(size)
		r := bytes.NewReader(text)
		allocations := testing.AllocsPerRun(100, func() {
			r.Reset(text)
			b, err := s.Request(context.Background(), r, int64(size), -1)
			if err != nil || b.file != nil {
				t.Fatal("a file, or", err)
			}
			b.Close()
		})
		if allocations > 1 && !raceDetector {
			t.Errorf("%d bytes: %v allocations", size, allocations)
		}
	}
}

// DOS-19: uploads that announce much and send little cost little.
func TestSlowUploadsHoldLittle(t *testing.T) {
	s := onFake(t, settings{memory: 1 << 20, perBody: 256 << 10, disk: 1 << 30, bodyDisk: 1 << 30}, &fakeFolder{})
	var clients []*io.PipeWriter
	var wg sync.WaitGroup
	for range 50 {
		r, w := io.Pipe()
		clients = append(clients, w)
		wg.Go(func() {
			b, err := s.Request(t.Context(), r, 1<<30, -1)
			if err != errBroken {
				t.Errorf("got %v", err)
				b.Close()
			}
		})
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if used := s.Stats(); used.Memory != 50*smallChunk || used.Bodies != 50 {
		t.Errorf("50 bytes hold %+v", used)
	}
	for _, w := range clients {
		w.CloseWithError(errBroken)
	}
	wg.Wait()
}

func TestEndOfContextEndsReadingARequest(t *testing.T) {
	s := onFake(t, plenty, &fakeFolder{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errRevoked)
	if _, err := s.Request(ctx, bytes.NewReader(nil), -1, -1); err != errRevoked {
		t.Errorf("got %v", err)
	}
}

// What cannot be read back must not reach the app as a shorter body.
func TestUnreadableFileIsNoEndOfABody(t *testing.T) {
	s, text := onFake(t, plenty, &fakeFolder{unread: true}), contents(1<<20)
	b, err := s.Request(t.Context(), bytes.NewReader(text), -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}
