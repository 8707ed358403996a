package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"sallyport/audit/tree"
)

// Damage is something wrong in a part of a log that was acknowledged, or a log that does not fit together.
type Damage struct {
	File   string // within the audit directory
	Offset int64  // where in the file
	Seq    uint64 // of the first record that cannot be read there
	Err    error  // what is wrong
}

func (d *Damage) Error() string {
	return fmt.Sprintf("audit log is damaged: %s at offset %d, seq %d: %v", d.File, d.Offset, d.Seq, d.Err)
}

func (d *Damage) Unwrap() error { return d.Err }

// readAhead is how much of a segment is read at once: many small frames, or the head of a large one.
const readAhead = 128 << 10

// Scanner reads the frames of one segment in order, each with its checksum and seq checked.
type Scanner struct {
	file io.ReaderAt
	name string
	id   uuid.UUID
	at   int64  // where the next frame starts
	seq  uint64 // of the next record
	buf  []byte // of the file, from bufAt
	from int64
}

// NewScanner scans the segment of that header from its first frame on.
func NewScanner(f io.ReaderAt, h *Header) *Scanner {
	return &Scanner{file: f, name: Name(h.Log, h.Number), id: h.ID, at: Block, seq: h.FirstSeq()}
}

// File is the segment's name, below the audit directory.
func (s *Scanner) File() string { return s.name }

// At is where the next frame starts.
func (s *Scanner) At() int64 { return s.at }

// Seq is the seq of the next record.
func (s *Scanner) Seq() uint64 { return s.seq }

// Next returns the next frame before limit, io.EOF at limit, and *Damage where there is something else. The frame is
// valid until the next call, and raw is all of it.
func (s *Scanner) Next(limit int64) (f *Frame, raw []byte, err error) {
	if s.at >= limit {
		return nil, nil, io.EOF
	}
	b, err := s.peek(FrameHeaderLen, limit)
	if err != nil {
		return nil, nil, err
	}
	size, err := frameSize(b)
	if err != nil {
		return nil, nil, s.Damaged(err)
	}
	if b, err = s.peek(size, limit); err != nil {
		return nil, nil, err
	}
	f, err = ParseFrame(b, s.id)
	if err != nil {
		return nil, nil, s.Damaged(err)
	}
	if f.FirstSeq != s.seq {
		return nil, nil, s.Damaged(fmt.Errorf("frame starts with seq %d", f.FirstSeq))
	}
	s.at += int64(f.Size)
	s.seq += uint64(f.Count)
	return f, b[:f.Size], nil
}

// Jump goes on at the frame that starts at an offset before limit, wherever the scanner was. *Damage says that none does.
func (s *Scanner) Jump(at, limit int64) error {
	b := make([]byte, FrameHeaderLen)
	if at < Block || at%Block != 0 || at >= limit {
		return &Damage{File: s.name, Offset: at, Err: errNoFrame}
	}
	if _, err := s.file.ReadAt(b, at); err != nil {
		return fmt.Errorf("reading %s at %d: %w", s.name, at, err)
	}
	if _, err := frameSize(b); err != nil {
		return &Damage{File: s.name, Offset: at, Err: err}
	}
	s.at, s.seq, s.buf, s.from = at, binary.LittleEndian.Uint64(b[8:]), s.buf[:0], at
	return nil
}

const (
	// seekEnough is how much is read in order once a record is known to be in there.
	seekEnough = 256 << 10
	// seekStep is how much is read at a time to find where a frame starts.
	seekStep = 64 << 10
)

// Seek goes forward to a frame not far before the record of that seq, by bisection: frames start on blocks, and no block
// in their midst looks like their start. What it passes over is not checked.
func (s *Scanner) Seek(seq uint64, limit int64) error {
	low, lowSeq, high := s.at, s.seq, limit
	for high-low > seekEnough {
		middle := low + (high-low)/2/Block*Block
		at, first, err := s.frameFrom(middle, high)
		if err != nil {
			return err
		}
		if at < 0 || first > seq {
			high = middle
			continue
		}
		low, lowSeq = at, first
	}
	if low > s.at {
		s.at, s.seq, s.buf, s.from = low, lowSeq, s.buf[:0], low
	}
	return nil
}

// frameFrom finds the first frame that starts in a range of blocks, and its seq; -1 when there is none.
func (s *Scanner) frameFrom(from, to int64) (at int64, first uint64, err error) {
	buf := make([]byte, seekStep)
	for ; from < to; from += seekStep {
		n, err := s.file.ReadAt(buf[:min(seekStep, to-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, fmt.Errorf("reading %s at %d: %w", s.name, from, err)
		}
		for b := buf[:n]; len(b) >= FrameHeaderLen; b = b[min(Block, len(b)):] {
			if _, err := frameSize(b); err == nil {
				return from + int64(n-len(b)), binary.LittleEndian.Uint64(b[8:]), nil
			}
		}
	}
	return -1, 0, nil
}

// peek returns the bytes from where the scanner is: n of them or more, or as many as there are before limit. None is read
// twice.
func (s *Scanner) peek(n int, limit int64) ([]byte, error) {
	have := s.buf[min(max(s.at-s.from, 0), int64(len(s.buf))):]
	if s.at < s.from {
		have = nil
	}
	if len(have) >= n {
		return have, nil
	}
	want := int(min(int64(max(n, readAhead)), limit-s.at))
	if want <= len(have) {
		return have, nil
	}
	if cap(s.buf) < want {
		s.buf = append(make([]byte, 0, want), have...)
	} else {
		s.buf = s.buf[:copy(s.buf[:want], have)]
	}
	s.from = s.at
	kept := len(s.buf)
	got, err := s.file.ReadAt(s.buf[kept:want], s.at+int64(kept))
	s.buf = s.buf[:kept+got]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s at %d: %w", s.name, s.at, err)
	}
	return s.buf, nil
}

// Damaged says that something is wrong where the scanner is.
func (s *Scanner) Damaged(err error) error {
	return &Damage{File: s.name, Offset: s.at, Seq: s.seq, Err: err}
}

// Extent is how far a segment reaches.
type Extent struct {
	End     int64
	After   tree.Frontier // of all records up to there
	LastAt  int64         // where the last frame starts; 0 when there is none
	Dropped int64         // bytes of an incomplete batch beyond End
	Missing int64         // bytes by which the file is shorter than it was made
}

// NextSeq is the seq of the record after the segment's last.
func (x *Extent) NextSeq() uint64 { return x.After.Size() }

// MeasureSealed reads a segment up to the end that its successor states and checks all that the successor says.
func MeasureSealed(f io.ReaderAt, h, successor *Header) error {
	s := NewScanner(f, h)
	x, err := s.measure(h, successor.PrevEnd)
	if err != nil {
		return err
	}
	if x.End != successor.PrevEnd || !x.After.Equal(&successor.Before) {
		return s.Damaged(fmt.Errorf("ends otherwise than segment %d says", successor.Number))
	}
	return nil
}

// MeasureLast finds the end of a segment of that file size that has no successor. At most one batch was written and not
// acknowledged, so what follows the last whole frame is zeros, or parts of one frame; anything more is damage.
func MeasureLast(f io.ReaderAt, size int64, h *Header) (*Extent, error) {
	s := NewScanner(f, h)
	x, err := s.measure(h, size)
	x.Missing = max(0, h.Size-size)
	damage, torn := errors.AsType[*Damage](err)
	switch {
	case err == nil:
		return x, nil
	case !torn || !errors.Is(err, errNoFrame) && !errors.Is(err, errBadFrame):
		return nil, err
	}
	rest, err := nonZero(f, s.at, size)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.name, err)
	}
	reach, err := s.reach(size)
	if err != nil {
		return nil, err
	}
	if rest > reach {
		return nil, damage
	}
	x.Dropped = rest
	return x, nil
}

// measure scans up to limit. With an error it still says how far it came.
func (s *Scanner) measure(h *Header, limit int64) (*Extent, error) {
	x := &Extent{End: s.at, After: h.Before.Clone()}
	for {
		at := s.at
		f, _, err := s.Next(limit)
		if errors.Is(err, io.EOF) {
			return x, nil
		}
		if err != nil {
			return x, err
		}
		f.Grow(&x.After)
		x.LastAt, x.End = at, s.at
	}
}

// reach is how many bytes from here a single torn frame can have touched: what its header says if that arrived, else
// what any frame may have. A whole frame further on means that this one had been acknowledged.
func (s *Scanner) reach(limit int64) (int64, error) {
	b, err := s.peek(MaxFrame, limit)
	if err != nil {
		return 0, err
	}
	for at := Block; at < len(b); at += Block {
		if _, err := ParseFrame(b[at:], s.id); err == nil {
			return 0, nil
		}
	}
	if size, err := frameSize(b); err == nil {
		return int64(size), nil
	}
	return MaxFrame, nil
}

// nonZero returns the length from offset from to the last byte that is not zero.
func nonZero(f io.ReaderAt, from, size int64) (int64, error) {
	if from >= size {
		return 0, nil
	}
	buf := make([]byte, min(MaxFrame, size-from))
	var length int64
	for at := from; at < size; at += int64(len(buf)) {
		n, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for n > 0 && buf[n-1] == 0 {
			n--
		}
		if n > 0 {
			length = at - from + int64(n)
		}
	}
	return length, nil
}
