// Package segment is the format of the files that a log consists of: a header, frames of records, zeros.
//
// FORMAT.md in package audit describes it. The package reads and writes bytes; which of them are durable, who may write
// and what a log's folder holds is package audit's affair.
package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/google/uuid"

	"sallyport/audit/tree"
)

// Version is the version of the format, and the only one that this package reads.
const Version = 2

// Block is the unit of everything in a segment: the header is one, and every frame starts on one. Data that was
// acknowledged is therefore never written again, not even in passing.
const Block = 4096

// headerMagic starts every segment; its last byte is the format's version.
var headerMagic = [8]byte{'S', 'P', 'A', 'U', 'D', 'I', 'T', Version}

// castagnoli is CRC-32C, for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the first block of a segment. See FORMAT.md for the layout.
type Header struct {
	Log     string        // which log, at most 16 bytes
	Number  uint64        // of the segment, from 1
	ID      uuid.UUID     // random; part of every frame's checksum
	Created time.Time     // data
	Boot    uuid.UUID     // of the run that made the segment
	BootN   uint64        // number of that run
	Size    int64         // preallocated bytes, this block included
	PrevEnd int64         // where the predecessor ends; 0 when there is none
	Before  tree.Frontier // the tree of all records before this segment's first
}

// FirstSeq is the seq of the first record here; the predecessor's last record is the one before.
func (h *Header) FirstSeq() uint64 { return h.Before.Size() }

// frontierAt is where the frontier is in a header; what follows it is zero.
const frontierAt = 112

// Encode returns the header's block.
func (h *Header) Encode() []byte {
	b := make([]byte, Block)
	copy(b, headerMagic[:])
	copy(b[16:32], h.Log)
	binary.LittleEndian.PutUint64(b[32:], h.Number)
	copy(b[40:56], h.ID[:])
	binary.LittleEndian.PutUint64(b[56:], uint64(h.Created.UnixNano()))
	copy(b[64:80], h.Boot[:])
	binary.LittleEndian.PutUint64(b[80:], h.BootN)
	binary.LittleEndian.PutUint64(b[88:], uint64(h.Size))
	binary.LittleEndian.PutUint64(b[96:], h.FirstSeq())
	binary.LittleEndian.PutUint64(b[104:], uint64(h.PrevEnd))
	h.Before.AppendBinary(b[:frontierAt])
	binary.LittleEndian.PutUint32(b[8:], headerChecksum(b))
	return b
}

// ParseHeader reads a header's block; every byte of it counts.
func ParseHeader(b []byte) (*Header, error) {
	if len(b) != Block {
		return nil, errors.New("segment header: cut short")
	}
	if !bytes.Equal(b[:7], headerMagic[:7]) {
		return nil, errors.New("segment header: not an audit segment")
	}
	if b[7] != Version {
		return nil, fmt.Errorf("segment header: format version %d, this program reads %d", b[7], Version)
	}
	if binary.LittleEndian.Uint32(b[8:]) != headerChecksum(b) {
		return nil, errors.New("segment header: checksum does not match")
	}
	firstSeq := binary.LittleEndian.Uint64(b[96:])
	before, err := tree.ParseFrontier(firstSeq, b[frontierAt:frontierAt+tree.FrontierLen(firstSeq)])
	if err != nil {
		return nil, fmt.Errorf("segment header: %w", err)
	}
	h := &Header{
		Log:     string(bytes.TrimRight(b[16:32], "\x00")),
		Number:  binary.LittleEndian.Uint64(b[32:]),
		ID:      uuid.UUID(b[40:56]),
		Created: time.Unix(0, int64(binary.LittleEndian.Uint64(b[56:]))),
		Boot:    uuid.UUID(b[64:80]),
		BootN:   binary.LittleEndian.Uint64(b[80:]),
		Size:    int64(binary.LittleEndian.Uint64(b[88:])),
		PrevEnd: int64(binary.LittleEndian.Uint64(b[104:])),
		Before:  before,
	}
	if h.Number == 0 || h.Size < Block || h.Size%Block != 0 || h.PrevEnd < 0 || h.PrevEnd%Block != 0 {
		return nil, errors.New("segment header: impossible values")
	}
	if !bytes.Equal(b, h.Encode()) {
		return nil, errors.New("segment header: unused bytes are not zero")
	}
	return h, nil
}

// headerChecksum is over the whole block but the checksum's own four bytes.
func headerChecksum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:8])
	return crc32.Update(sum, castagnoli, b[12:])
}

// ReadHeader reads and checks the header of a segment, which must be the one of that number of that log.
func ReadHeader(f io.ReaderAt, log string, number uint64) (*Header, error) {
	name := Name(log, number)
	b := make([]byte, Block)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	h, err := ParseHeader(b[:n])
	if err == nil && (h.Log != log || h.Number != number) {
		err = fmt.Errorf("header is of segment %d of log %q", h.Number, h.Log)
	}
	if err != nil {
		return nil, &Damage{File: name, Err: err}
	}
	return h, nil
}

// Follows reports what is wrong with h as the header of the segment after prev's, whose frames are not looked at.
func (h *Header) Follows(prev *Header) error {
	switch {
	case h.PrevEnd < Block || h.PrevEnd > prev.Size:
		return fmt.Errorf("header puts the end of segment %d at %d", prev.Number, h.PrevEnd)
	case h.FirstSeq() < prev.FirstSeq():
		return fmt.Errorf("header's first seq is before that of segment %d", prev.Number)
	case h.BootN < prev.BootN:
		return fmt.Errorf("header's boot number %d is less than %d of segment %d", h.BootN, prev.BootN, prev.Number)
	}
	return nil
}
