package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/google/uuid"
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
const readAhead = 64 << 10

// scanner reads the frames of one segment in order, each with its checksum and seq checked.
type scanner struct {
	file io.ReaderAt
	name string
	id   uuid.UUID
	at   int64  // where the next frame starts
	seq  uint64 // of the next record
	buf  []byte // of the file, from bufAt
	from int64
}

func newScanner(f io.ReaderAt, name string, h *header) *scanner {
	return &scanner{file: f, name: name, id: h.id, at: block, seq: h.firstSeq}
}

// next returns the next frame before limit, io.EOF at limit, and *Damage where there is something else. The frame is
// valid until the next call, and raw is all of it.
func (s *scanner) next(limit int64) (f *frame, raw []byte, err error) {
	if s.at >= limit {
		return nil, nil, io.EOF
	}
	b, err := s.peek(frameHeaderLen, limit)
	if err != nil {
		return nil, nil, err
	}
	size, err := frameSize(b)
	if err != nil {
		return nil, nil, s.damage(err)
	}
	if b, err = s.peek(size, limit); err != nil {
		return nil, nil, err
	}
	f, err = parseFrame(b, s.id)
	if err != nil {
		return nil, nil, s.damage(err)
	}
	if f.firstSeq != s.seq {
		return nil, nil, s.damage(fmt.Errorf("frame starts with seq %d", f.firstSeq))
	}
	s.at += int64(f.size)
	s.seq += uint64(f.count)
	return f, b[:f.size], nil
}

// peek returns the bytes from where the scanner is: n of them, or as many as there are before limit.
func (s *scanner) peek(n int, limit int64) ([]byte, error) {
	have := s.from + int64(len(s.buf))
	if s.at >= s.from && s.at+int64(n) <= have {
		return s.buf[s.at-s.from:], nil
	}
	want := min(int64(max(n, readAhead)), limit-s.at)
	if int64(cap(s.buf)) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.from = s.buf[:want], s.at
	got, err := s.file.ReadAt(s.buf, s.at)
	s.buf = s.buf[:got]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s at %d: %w", s.name, s.at, err)
	}
	return s.buf, nil
}

func (s *scanner) damage(err error) error {
	return &Damage{File: s.name, Offset: s.at, Seq: s.seq, Err: err}
}

// extent is how far a segment reaches.
type extent struct {
	end     int64
	nextSeq uint64
	sum     [sha256.Size]byte
	lastAt  int64 // where the last frame starts; 0 when there is none
	dropped int64 // bytes of an incomplete batch beyond end
	missing int64 // bytes by which the file is shorter than it was made
}

// measureSealed reads a segment up to the end that its successor states and checks all that the successor says.
func measureSealed(f io.ReaderAt, name string, h, successor *header) error {
	s := newScanner(f, name, h)
	x, err := s.measure(h, successor.prevEnd)
	if err != nil {
		return err
	}
	if x.end != successor.prevEnd || x.nextSeq != successor.firstSeq || x.sum != successor.prevSum {
		return s.damage(fmt.Errorf("ends otherwise than segment %d says", successor.number))
	}
	return nil
}

// measureLast finds the end of a segment that has no successor. At most one batch was written and not acknowledged,
// so what follows the last whole frame is zeros, or parts of one frame; anything more is damage.
func measureLast(f File, name string, h *header) (*extent, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	s := newScanner(f, name, h)
	x, err := s.measure(h, size)
	x.missing = max(0, h.size-size)
	damage, torn := errors.AsType[*Damage](err)
	switch {
	case err == nil:
		return x, nil
	case !torn || !errors.Is(err, errNoFrame) && !errors.Is(err, errBadFrame):
		return nil, err
	}
	rest, err := nonZero(f, s.at, size)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	reach, err := s.reach(size)
	if err != nil {
		return nil, err
	}
	if rest > reach {
		return nil, damage
	}
	x.dropped = rest
	return x, nil
}

// measure scans up to limit. With an error it still says how far it came.
func (s *scanner) measure(h *header, limit int64) (*extent, error) {
	sum := sha256.New()
	sum.Write(h.encode())
	x := &extent{end: s.at, nextSeq: s.seq}
	defer func() { sum.Sum(x.sum[:0]) }()
	for {
		at := s.at
		_, raw, err := s.next(limit)
		if errors.Is(err, io.EOF) {
			return x, nil
		}
		if err != nil {
			return x, err
		}
		addFrame(x, sum, at, raw, s.seq)
	}
}

func addFrame(x *extent, sum hash.Hash, at int64, raw []byte, nextSeq uint64) {
	sum.Write(raw)
	x.lastAt, x.end, x.nextSeq = at, at+int64(len(raw)), nextSeq
}

// reach is how many bytes from here a single torn frame can have touched: what its header says if that arrived, else
// what any frame may have. A whole frame further on means that this one had been acknowledged.
func (s *scanner) reach(limit int64) (int64, error) {
	b, err := s.peek(maxFrame, limit)
	if err != nil {
		return 0, err
	}
	for at := block; at < len(b); at += block {
		if _, err := parseFrame(b[at:], s.id); err == nil {
			return 0, nil
		}
	}
	if size, err := frameSize(b); err == nil {
		return int64(size), nil
	}
	return maxFrame, nil
}

// nonZero returns the length from offset from to the last byte that is not zero.
func nonZero(f io.ReaderAt, from, size int64) (int64, error) {
	buf := make([]byte, fillChunk)
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

// readHeader reads and checks the header of a segment.
func readHeader(f io.ReaderAt, name, log string, number uint64) (*header, error) {
	b := make([]byte, block)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	h, err := parseHeader(b[:n])
	if err == nil && (h.log != log || h.number != number) {
		err = fmt.Errorf("header is of segment %d of log %q", h.number, h.log)
	}
	if err != nil {
		return nil, &Damage{File: name, Err: err}
	}
	return h, nil
}

// listSegments returns the numbers of a log's segments in ascending order.
func listSegments(fs FileSystem, log string) ([]uint64, error) {
	names, err := fs.ReadDir(log)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing audit segments: %w", err)
	}
	var numbers []uint64
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			numbers = append(numbers, n)
		}
	}
	for i, n := range numbers {
		if n != numbers[0]+uint64(i) {
			missing := numbers[0] + uint64(i)
			return nil, &Damage{File: segmentName(log, missing), Err: errors.New("segment is missing")}
		}
	}
	return numbers, nil
}
