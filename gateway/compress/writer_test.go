package compress

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// FuzzRoundTrip writes and flushes as it is told; what arrives is what was written, and after each flush all of it.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello"), uint64(1))
	f.Add(bytes.Repeat([]byte("abc"), 10000), uint64(2))
	f.Add([]byte{}, uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		turns := rand.New(rand.NewPCG(seed, 0))
		var wire flushed
		w := NewWriter(&wire)
		for rest := text; len(rest) > 0; {
			n := 1 + turns.IntN(len(rest))
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
			if turns.IntN(4) > 0 {
				continue
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if got, err := gunzip(wire.Bytes()); !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, text[:len(text)-len(rest)]) {
				t.Fatalf("after a flush %d of %d bytes have arrived, %v", len(got), len(text)-len(rest), err)
			}
			if wire.flushes == 0 {
				t.Fatal("the flush ends in the compressor")
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := gunzip(wire.Bytes()); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(text), err)
		}
	})
}

type flushed struct {
	bytes.Buffer
	flushes int
}

func (f *flushed) Flush() error { f.flushes++; return nil }

func gunzip(p []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// An answer that broke off is not closed, and looks it.
func TestBrokenAnswerHasNoEnd(t *testing.T) {
	var wire bytes.Buffer
	w := NewWriter(&wire)
	w.Write([]byte("a part"))
	w.Flush()
	if _, err := gunzip(wire.Bytes()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestClosedWriterIsDone(t *testing.T) {
	var wire bytes.Buffer
	w := NewWriter(&wire)
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("written after Close")
	}
	if err := w.Flush(); err == nil {
		t.Error("flushed after Close")
	}
	if got, err := gunzip(wire.Bytes()); err != nil || len(got) != 0 {
		t.Errorf("an empty answer reads %q, %v", got, err)
	}
}

// Compressors are used again: no answer holds a byte of another.
func TestAnswersShareNothing(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			text := bytes.Repeat([]byte{byte('a' + i%26), byte(i)}, 1000+i)
			for range 20 {
				var wire bytes.Buffer
				w := NewWriter(&wire)
				w.Write(text)
				if i%3 == 0 {
					continue // broke off
				}
				w.Close()
				if got, err := gunzip(wire.Bytes()); err != nil || !bytes.Equal(got, text) {
					t.Errorf("answer %d holds other bytes, %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestErrorOfTheClientIsPassedOn(t *testing.T) {
	w := NewWriter(broken{})
	w.Write([]byte("x"))
	if w.Flush() == nil || w.Close() == nil {
		t.Error("nobody noticed that the client has gone")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func BenchmarkWriter(b *testing.B) {
	text := []byte(strings.Repeat(`{"id":4711,"title":"quarterly report","owner":"maria@corp.example","tags":["finance","draft"]},`+"\n", 100))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		w := NewWriter(io.Discard)
		w.Write(text)
		w.Close()
	}
}

// Threats, invariant 14: what the client's side failed to write it may still be about to send, so that nobody else writes
// there.
func TestBufferOfAFailedCloseIsNotLentAgain(t *testing.T) {
	w := NewWriter(broken{})
	io.WriteString(w, "the last words")
	borrowed := w.press
	if w.Close() == nil {
		t.Fatal("the error is lost")
	}
	for range 100 {
		if NewWriter(io.Discard).press == borrowed {
			t.Fatal("the next answer is written there")
		}
	}
}
