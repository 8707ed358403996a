package segment

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
)

// largeSegment is a segment of many frames of all sizes, whose records hold anything a record may; offsets has where each
// frame starts, and after its first seq.
func largeSegment(rnd *rand.Rand, size int) (h *Header, b []byte, frames map[int64]uint64) {
	h = &Header{Log: "decision", Number: 1, ID: uuid.UUID{9}, Created: time.Unix(0, 1), Size: int64(Padded(size)) + MaxFrame}
	b, frames = h.Encode(), map[int64]uint64{}
	for seq := uint64(0); len(b) < size; {
		frame, n := BeginFrame(nil), 1+rnd.IntN(1<<rnd.IntN(7))
		for range n {
			line := bytes.Repeat([]byte("x"), rnd.IntN(1<<rnd.IntN(14)))
			if len(frame)+len(line)+1 > MaxFrame {
				line = nil
			}
			frame = append(append(frame, line...), '\n')
		}
		frames[int64(len(b))] = seq
		b = append(b, SealFrame(frame, h.ID, seq, n)...)
		seq += uint64(n)
	}
	return h, b, frames
}

// Whatever seq is looked for, bisection ends at a whole frame before it, and not far before.
func TestSeekEndsBeforeTheRecord(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	h, b, frames := largeSegment(rnd, 6<<20)
	limit := int64(len(b))
	last := uint64(0)
	for _, seq := range frames {
		last = max(last, seq)
	}
	for range 300 {
		seq := rnd.Uint64N(last + 2)
		s := NewScanner(bytes.NewReader(b), h)
		if err := s.Seek(seq, limit); err != nil {
			t.Fatal(err)
		}
		began := s.At()
		if first, ok := frames[began]; !ok || first != s.Seq() || first > seq {
			t.Fatalf("seq %d: ended at %d, seq %d", seq, began, s.Seq())
		}
		for {
			f, _, err := s.Next(limit)
			if errors.Is(err, io.EOF) && seq > last {
				break
			}
			if err != nil {
				t.Fatalf("seq %d: %v", seq, err)
			}
			if f.FirstSeq+uint64(f.Count) > seq {
				break
			}
		}
		if s.At()-began > seekEnough+2*MaxFrame {
			t.Errorf("seq %d: %d bytes were read in order", seq, s.At()-began)
		}
	}
}

// A scanner jumps to where a frame starts, from anywhere, and nowhere else.
func TestJumpGoesToFramesOnly(t *testing.T) {
	h, b, frames := largeSegment(rand.New(rand.NewPCG(3, 4)), 1<<20)
	s := NewScanner(bytes.NewReader(b), h)
	for at := int64(-Block); at < int64(len(b))+Block; at += Block / 2 {
		err := s.Jump(at, int64(len(b)))
		if first, ok := frames[at]; ok {
			f, _, err2 := s.Next(int64(len(b)))
			if err != nil || err2 != nil || f.FirstSeq != first {
				t.Errorf("jump to %d: %v, %v", at, err, err2)
			}
			continue
		}
		if _, ok := errors.AsType[*Damage](err); !ok {
			t.Errorf("jump to %d, where no frame starts: %v", at, err)
		}
	}
}

// Frames that cross what is read at once come whole, and nothing of the file is read twice.
func TestScannerReadsOnce(t *testing.T) {
	h, b, frames := largeSegment(rand.New(rand.NewPCG(5, 6)), 4<<20)
	counting := &countingReader{r: bytes.NewReader(b)}
	s := NewScanner(counting, h)
	for at := int64(Block); ; {
		f, raw, err := s.Next(int64(len(b)))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || frames[at] != f.FirstSeq || !bytes.Equal(raw, b[at:at+int64(f.Size)]) {
			t.Fatalf("frame at %d: %v", at, err)
		}
		at += int64(f.Size)
	}
	if counting.n > len(b) {
		t.Errorf("%d bytes were read of %d", counting.n, len(b))
	}
}

type countingReader struct {
	r io.ReaderAt
	n int
}

func (c *countingReader) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.r.ReadAt(b, at)
	c.n += n
	return n, err
}
