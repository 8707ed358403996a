package segment

import (
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
const readAhead = 256 << 10

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
	buf := make([]byte, MaxFrame)
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
