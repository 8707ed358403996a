package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"
)

// A frame is one batch of records: what one write and one sync made durable together.
const (
	frameHeaderLen = 24
	// maxFrame bounds a frame with its header and padding. A megabyte is some hundred large records, and little
	// enough that recovery can tell a torn frame from damage by how far it reaches.
	maxFrame = 1 << 20
)

// frameMagic cannot occur in a record: 0xf5 is in no UTF-8 text.
var frameMagic = [4]byte{0xf5, 'S', 'P', 'B'}

var (
	errNoFrame  = errors.New("no frame here")
	errBadFrame = errors.New("frame is damaged")
)

// frame is a parsed batch; its payload is count lines.
type frame struct {
	firstSeq uint64
	count    uint32
	payload  []byte
	size     int // with header and padding: the next frame starts there
}

// appendFrameHeader makes room for a frame's header.
func appendFrameHeader(dst []byte) []byte {
	return append(dst, make([]byte, frameHeaderLen)...)
}

// sealFrame fills in the header of a frame whose payload is there, and pads it to a block.
func sealFrame(b []byte, id uuid.UUID, firstSeq uint64, count int) []byte {
	copy(b, frameMagic[:])
	binary.LittleEndian.PutUint64(b[8:], firstSeq)
	binary.LittleEndian.PutUint32(b[16:], uint32(count))
	binary.LittleEndian.PutUint32(b[20:], uint32(len(b)-frameHeaderLen))
	binary.LittleEndian.PutUint32(b[4:], frameChecksum(b, id))
	return append(b, make([]byte, padded(len(b))-len(b))...)
}

// frameSize reads how long the frame is that starts in b, which holds at least its header: errNoFrame where no frame
// starts, errBadFrame where one starts that nobody wrote.
func frameSize(b []byte) (int, error) {
	if len(b) < frameHeaderLen || !bytes.Equal(b[:4], frameMagic[:]) {
		return 0, errNoFrame
	}
	length := int64(binary.LittleEndian.Uint32(b[20:]))
	if length == 0 || length > maxFrame-frameHeaderLen {
		return 0, fmt.Errorf("%w: length %d", errBadFrame, length)
	}
	return padded(frameHeaderLen + int(length)), nil
}

// parseFrame reads the frame that b starts with, of the segment id. It does not copy.
func parseFrame(b []byte, id uuid.UUID) (*frame, error) {
	size, err := frameSize(b)
	if err != nil {
		return nil, err
	}
	if len(b) < size {
		return nil, fmt.Errorf("%w: cut short", errBadFrame)
	}
	end := frameHeaderLen + int(binary.LittleEndian.Uint32(b[20:]))
	if binary.LittleEndian.Uint32(b[4:]) != frameChecksum(b[:end], id) {
		return nil, fmt.Errorf("%w: checksum does not match", errBadFrame)
	}
	if !isZero(b[end:size]) {
		return nil, fmt.Errorf("%w: padding is not zero", errBadFrame)
	}
	f := &frame{
		firstSeq: binary.LittleEndian.Uint64(b[8:]),
		count:    binary.LittleEndian.Uint32(b[16:]),
		payload:  b[frameHeaderLen:end],
		size:     size,
	}
	if f.count == 0 || f.payload[len(f.payload)-1] != '\n' || bytes.Count(f.payload, []byte{'\n'}) != int(f.count) {
		return nil, fmt.Errorf("%w: not %d lines", errBadFrame, f.count)
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

// padded rounds up to whole blocks.
func padded(n int) int { return (n + block - 1) / block * block }

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), block)
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

var zeros [block]byte
