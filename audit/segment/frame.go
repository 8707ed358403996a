package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"

	"github.com/google/uuid"

	"sallyport/audit/tree"
)

// A frame is one batch of records: what one write and one sync made durable together.
const (
	// FrameHeaderLen is how many bytes precede a frame's payload.
	FrameHeaderLen = 24
	// MaxFrame bounds a frame with its header and padding. A megabyte is some hundred large records, and little
	// enough that recovery can tell a torn frame from damage by how far it reaches.
	MaxFrame = 1 << 20
)

// frameMagic cannot occur in a record: 0xf5 is in no UTF-8 text.
var frameMagic = [4]byte{0xf5, 'S', 'P', 'B'}

var (
	errNoFrame  = errors.New("no frame here")
	errBadFrame = errors.New("frame is damaged")
)

// Frame is a parsed batch; its payload is Count lines.
type Frame struct {
	FirstSeq uint64
	Count    uint32
	Payload  []byte
	Size     int // with header and padding: the next frame starts there
}

// Lines yields the records, without their line breaks.
func (f *Frame) Lines() iter.Seq[[]byte] { return lines(f.Payload) }

func lines(payload []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(payload) > 0 {
			n := bytes.IndexByte(payload, '\n')
			if !yield(payload[:n]) {
				return
			}
			payload = payload[n+1:]
		}
	}
}

// Grow adds the frame's records to the tree.
func (f *Frame) Grow(t *tree.Frontier) {
	for line := range f.Lines() {
		t.Append(tree.HashLeaf(line))
	}
}

// BeginFrame makes room for a frame's header.
func BeginFrame(dst []byte) []byte {
	return append(dst, make([]byte, FrameHeaderLen)...)
}

// SealFrame fills in the header of a frame whose payload is there, and pads it to a block.
func SealFrame(b []byte, id uuid.UUID, firstSeq uint64, count int) []byte {
	copy(b, frameMagic[:])
	binary.LittleEndian.PutUint64(b[8:], firstSeq)
	binary.LittleEndian.PutUint32(b[16:], uint32(count))
	binary.LittleEndian.PutUint32(b[20:], uint32(len(b)-FrameHeaderLen))
	binary.LittleEndian.PutUint32(b[4:], frameChecksum(b, id))
	return append(b, make([]byte, Padded(len(b))-len(b))...)
}

// Lines yields the records of a frame that SealFrame sealed.
func Lines(sealed []byte) iter.Seq[[]byte] {
	return lines(sealed[FrameHeaderLen : FrameHeaderLen+int(binary.LittleEndian.Uint32(sealed[20:]))])
}

// frameSize reads how long the frame is that starts in b, which holds at least its header: errNoFrame where no frame
// starts, errBadFrame where one starts that nobody wrote.
func frameSize(b []byte) (int, error) {
	if len(b) < FrameHeaderLen || !bytes.Equal(b[:4], frameMagic[:]) {
		return 0, errNoFrame
	}
	length := int64(binary.LittleEndian.Uint32(b[20:]))
	if length == 0 || length > MaxFrame-FrameHeaderLen {
		return 0, fmt.Errorf("%w: length %d", errBadFrame, length)
	}
	return Padded(FrameHeaderLen + int(length)), nil
}

// ParseFrame reads the frame that b starts with, of the segment id. It does not copy.
func ParseFrame(b []byte, id uuid.UUID) (*Frame, error) {
	size, err := frameSize(b)
	if err != nil {
		return nil, err
	}
	if len(b) < size {
		return nil, fmt.Errorf("%w: cut short", errBadFrame)
	}
	end := FrameHeaderLen + int(binary.LittleEndian.Uint32(b[20:]))
	if binary.LittleEndian.Uint32(b[4:]) != frameChecksum(b[:end], id) {
		return nil, fmt.Errorf("%w: checksum does not match", errBadFrame)
	}
	if !isZero(b[end:size]) {
		return nil, fmt.Errorf("%w: padding is not zero", errBadFrame)
	}
	f := &Frame{
		FirstSeq: binary.LittleEndian.Uint64(b[8:]),
		Count:    binary.LittleEndian.Uint32(b[16:]),
		Payload:  b[FrameHeaderLen:end],
		Size:     size,
	}
	if f.Count == 0 || f.Payload[len(f.Payload)-1] != '\n' || bytes.Count(f.Payload, []byte{'\n'}) != int(f.Count) {
		return nil, fmt.Errorf("%w: not %d lines", errBadFrame, f.Count)
	}
	return f, nil
}

// frameChecksum is over the segment's id, the header and the payload: a frame is valid in its own segment only, so
// that no earlier use of a disk block can ever pass for one.
func frameChecksum(b []byte, id uuid.UUID) uint32 {
	sum := crc32.Update(0, castagnoli, id[:])
	sum = crc32.Update(sum, castagnoli, b[:4])
	return crc32.Update(sum, castagnoli, b[8:])
}

// Padded rounds up to whole blocks.
func Padded(n int) int { return (n + Block - 1) / Block * Block }

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), Block)
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

var zeros [Block]byte
