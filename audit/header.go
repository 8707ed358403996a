package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/google/uuid"
)

// block is the unit of everything in a segment: the header is one, and every frame starts on one. Data that was
// acknowledged is therefore never written again, not even in passing.
const block = 4096

// headerMagic starts every segment; its last byte is the format's version.
var headerMagic = [8]byte{'S', 'P', 'A', 'U', 'D', 'I', 'T', Version}

// castagnoli is CRC-32C, for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the first block of a segment. See FORMAT.md for the layout.
type header struct {
	log      string            // which log, at most 16 bytes
	number   uint64            // of the segment, from 1
	id       uuid.UUID         // random; part of every frame's checksum
	created  time.Time         // data
	boot     uuid.UUID         // Boot.ID of the run that made the segment
	bootN    uint64            // Boot.N
	size     int64             // preallocated bytes, this block included
	firstSeq uint64            // seq of the first record here; the predecessor's last record is the one before
	prevEnd  int64             // where the predecessor ends; 0 when there is none
	prevSum  [sha256.Size]byte // SHA-256 of the predecessor's bytes up to there
}

// headerLen is the part of the block that is used; the rest is zero.
const headerLen = 8 + 4 + 4 + 16 + 8 + 16 + 8 + 16 + 8 + 8 + 8 + 8 + sha256.Size

// encode returns the header's block.
func (h *header) encode() []byte {
	b := make([]byte, block)
	copy(b, headerMagic[:])
	copy(b[16:32], h.log)
	binary.LittleEndian.PutUint64(b[32:], h.number)
	copy(b[40:56], h.id[:])
	binary.LittleEndian.PutUint64(b[56:], uint64(h.created.UnixNano()))
	copy(b[64:80], h.boot[:])
	binary.LittleEndian.PutUint64(b[80:], h.bootN)
	binary.LittleEndian.PutUint64(b[88:], uint64(h.size))
	binary.LittleEndian.PutUint64(b[96:], h.firstSeq)
	binary.LittleEndian.PutUint64(b[104:], uint64(h.prevEnd))
	copy(b[112:], h.prevSum[:])
	binary.LittleEndian.PutUint32(b[8:], headerChecksum(b))
	return b
}

// parseHeader reads a header's block; every byte of it counts.
func parseHeader(b []byte) (*header, error) {
	if len(b) != block {
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
	h := &header{
		log:      string(bytes.TrimRight(b[16:32], "\x00")),
		number:   binary.LittleEndian.Uint64(b[32:]),
		id:       uuid.UUID(b[40:56]),
		created:  time.Unix(0, int64(binary.LittleEndian.Uint64(b[56:]))),
		boot:     uuid.UUID(b[64:80]),
		bootN:    binary.LittleEndian.Uint64(b[80:]),
		size:     int64(binary.LittleEndian.Uint64(b[88:])),
		firstSeq: binary.LittleEndian.Uint64(b[96:]),
		prevEnd:  int64(binary.LittleEndian.Uint64(b[104:])),
		prevSum:  [sha256.Size]byte(b[112:144]),
	}
	if h.number == 0 || h.size < block || h.size%block != 0 || h.prevEnd < 0 || h.prevEnd%block != 0 {
		return nil, errors.New("segment header: impossible values")
	}
	if !bytes.Equal(b, h.encode()) {
		return nil, errors.New("segment header: unused bytes are not zero")
	}
	return h, nil
}

// headerChecksum is over the whole block but the checksum's own four bytes.
func headerChecksum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:8])
	return crc32.Update(sum, castagnoli, b[12:])
}
