package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A sealed segment is one that grows no more, compressed: zstd frames, each independent of the others, a skippable frame
// with a checksum of each of them, and the seek table of the zstd seekable format. Every zstd tool decompresses it to the
// segment; FORMAT.md has the layout.
const (
	// chunkLen is how many bytes of the segment go into one zstd frame. The header has one of its own, so that it is
	// read without its records.
	chunkLen = 1 << 20
	// maxRaw is more than any segment has; a table that claims more is nobody's.
	maxRaw = 2 << 30

	skippableMagic = 0x184d2a50 // RFC 8878 §3.1.2; the seek table's is the 15th of the sixteen
	seekTableMagic = 0x184d2a5e
	seekableMagic  = 0x8f92eab1 // ends the file
	skippableLen   = 8          // magic and length
	seekEntryLen   = 8          // compressed and decompressed size; the checksums are ours
	seekFooterLen  = 9          // number of entries, descriptor, magic
)

// sumsMagic starts our skippable frame; its last byte is the version of sealed segments.
var sumsMagic = [8]byte{'S', 'P', 'S', 'E', 'A', 'L', 'E', 1}

// maxSealedBlock bounds what zstd may make of a chunk: text that does not shrink is stored with a few bytes more.
const maxSealedBlock = chunkLen + chunkLen/64 + 128

// Seal writes the sealed form of the first size bytes of a segment to w and returns its length. rest is called between
// two chunks, for whoever does this beside more urgent work; its error ends the sealing. It may be nil.
func Seal(w io.WriterAt, segment io.ReaderAt, size int64, rest func() error) (int64, error) {
	if size < Block || size > maxRaw {
		return 0, fmt.Errorf("sealing a segment of %d bytes", size)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(chunkLen),
		zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
	if err != nil {
		return 0, err
	}
	defer enc.Close()
	table := sealTable{raw: size}
	raw, packed, at := make([]byte, min(chunkLen, size)), []byte(nil), int64(0)
	for i := range chunks(size) {
		if i > 0 && rest != nil {
			if err := rest(); err != nil {
				return 0, err
			}
		}
		from, to := chunkBounds(i, size)
		if _, err := segment.ReadAt(raw[:to-from], from); err != nil {
			return 0, fmt.Errorf("reading the segment at %d: %w", from, err)
		}
		packed = enc.EncodeAll(raw[:to-from], packed[:0])
		if _, err := w.WriteAt(packed, at); err != nil {
			return 0, err
		}
		table.add(packed)
		at += int64(len(packed))
	}
	end := table.encode()
	if _, err := w.WriteAt(end, at); err != nil {
		return 0, err
	}
	return at + int64(len(end)), nil
}

// chunks is how many chunks a segment of that size has.
func chunks(size int64) int { return 1 + int((size-Block+chunkLen-1)/chunkLen) }

// chunkBounds is what part of a segment a chunk is.
func chunkBounds(i int, size int64) (from, to int64) {
	if i == 0 {
		return 0, Block
	}
	from = Block + int64(i-1)*chunkLen
	return from, min(from+chunkLen, size)
}

// chunkAt is the chunk that holds an offset.
func chunkAt(at int64) int {
	if at < Block {
		return 0
	}
	return 1 + int((at-Block)/chunkLen)
}

// sealTable is what the end of a sealed segment says of its chunks.
type sealTable struct {
	raw   int64
	sizes []uint32 // compressed
	sums  []uint32 // CRC-32C of the compressed bytes
}

func (t *sealTable) add(packed []byte) {
	t.sizes = append(t.sizes, uint32(len(packed)))
	t.sums = append(t.sums, crc32.Checksum(packed, castagnoli))
}

// sumsLen is the length of our skippable frame: magic, size of the segment, checksums of the chunks, checksum of all
// from here on.
func sumsLen(chunks int) int { return skippableLen + len(sumsMagic) + 8 + 4*chunks + 4 }

func seekTableLen(chunks int) int { return skippableLen + (chunks+1)*seekEntryLen + seekFooterLen }

// encode returns the two skippable frames. The seek table lists ours too, as a frame of nothing.
func (t *sealTable) encode() []byte {
	n := len(t.sizes)
	b := make([]byte, 0, sumsLen(n)+seekTableLen(n))
	b = binary.LittleEndian.AppendUint32(b, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(sumsLen(n)-skippableLen))
	b = append(b, sumsMagic[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.raw))
	for _, sum := range t.sums {
		b = binary.LittleEndian.AppendUint32(b, sum)
	}
	sumAt := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, seekTableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(seekTableLen(n)-skippableLen))
	for i, size := range t.sizes {
		from, to := chunkBounds(i, t.raw)
		b = binary.LittleEndian.AppendUint32(b, size)
		b = binary.LittleEndian.AppendUint32(b, uint32(to-from))
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(sumsLen(n)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(n+1))
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint32(b, seekableMagic)
	binary.LittleEndian.PutUint32(b[sumAt:], tableChecksum(b, sumAt))
	return b
}

// tableChecksum is over both frames without the checksum's own bytes.
func tableChecksum(b []byte, sumAt int) uint32 {
	return crc32.Update(crc32.Checksum(b[:sumAt], castagnoli), castagnoli, b[sumAt+4:])
}

var errSealed = errors.New("sealed segment is damaged")

// SealedError is something wrong with a sealed segment, as opposed to with reading it.
type SealedError struct {
	Offset int64 // in the sealed file
	Err    error
}

func (e *SealedError) Error() string { return fmt.Sprintf("%v, at %d of its file", e.Err, e.Offset) }

func (e *SealedError) Unwrap() error { return e.Err }

// sealedError gives an error its place, if it is about what the file holds.
func sealedError(at int64, err error) error {
	if errors.Is(err, errSealed) {
		return &SealedError{at, err}
	}
	return err
}

// readTable reads the end of a sealed segment of that length. Every bit of it counts.
func readTable(f io.ReaderAt, size int64) (*sealTable, error) {
	var footer [seekFooterLen]byte
	if size < int64(len(footer)) {
		return nil, fmt.Errorf("%w: cut short", errSealed)
	}
	if err := readFull(f, footer[:], size-int64(len(footer))); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(footer[:])) - 1
	if binary.LittleEndian.Uint32(footer[5:]) != seekableMagic || n < 1 || n > int64(chunks(maxRaw)) {
		return nil, fmt.Errorf("%w: no seek table", errSealed)
	}
	length := int64(sumsLen(int(n)) + seekTableLen(int(n)))
	if length > size {
		return nil, fmt.Errorf("%w: cut short", errSealed)
	}
	b := make([]byte, length)
	if err := readFull(f, b, size-length); err != nil {
		return nil, err
	}
	return parseTable(b, int(n), size)
}

func parseTable(b []byte, n int, size int64) (*sealTable, error) {
	t := &sealTable{raw: int64(binary.LittleEndian.Uint64(b[skippableLen+len(sumsMagic):]))}
	sumAt := sumsLen(n) - 4
	if binary.LittleEndian.Uint32(b[sumAt:]) != tableChecksum(b, sumAt) {
		return nil, fmt.Errorf("%w: checksum of its tables does not match", errSealed)
	}
	if t.raw < Block || t.raw > maxRaw || chunks(t.raw) != n {
		return nil, fmt.Errorf("%w: impossible size", errSealed)
	}
	sums, sizes, total := b[skippableLen+len(sumsMagic)+8:], b[sumsLen(n)+skippableLen:], int64(len(b))
	for i := range n {
		t.sums = append(t.sums, binary.LittleEndian.Uint32(sums[4*i:]))
		t.sizes = append(t.sizes, binary.LittleEndian.Uint32(sizes[seekEntryLen*i:]))
		total += int64(t.sizes[i])
		if t.sizes[i] > maxSealedBlock {
			return nil, fmt.Errorf("%w: impossible size", errSealed)
		}
	}
	if total != size || string(t.encode()) != string(b) {
		return nil, fmt.Errorf("%w: its tables do not describe it", errSealed)
	}
	return t, nil
}

// readFull reads len(b) bytes. A file that ends before is damaged.
func readFull(f io.ReaderAt, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: cut short", errSealed)
	}
	return err
}

// Sealed reads a sealed segment as if it were not. It may be used by several goroutines, who then wait for each other;
// readings that go on at the same time fare better with a Sealed each.
type Sealed struct {
	file io.ReaderAt
	raw  int64
	at   []int64  // where each zstd frame starts, and the last ends
	sums []uint32 // of the zstd frames

	mu     sync.Mutex
	dec    *zstd.Decoder
	packed []byte
	cache  [2]chunk // the chunks read last, the latest first: frames of records cross from one to the next
}

// chunk is a decompressed part of a segment.
type chunk struct {
	number int // from 1; 0 while empty
	data   []byte
}

// OpenSealed reads the tables of a sealed segment, whose file has that size. What cannot be one is a *SealedError; damage
// to the records shows as one when they are read. The memory that reading takes is bounded by what the tables of a true one can claim,
// whatever the file holds: a few megabytes.
func OpenSealed(f io.ReaderAt, size int64) (*Sealed, error) {
	t, err := readTable(f, size)
	if err != nil {
		return nil, sealedError(size, err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(chunkLen),
		zstd.WithDecoderMaxWindow(chunkLen), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	s := &Sealed{file: f, raw: t.raw, sums: t.sums, at: make([]int64, 1, len(t.sizes)+1), dec: dec}
	for i, n := range t.sizes {
		s.at = append(s.at, s.at[i]+int64(n))
	}
	return s, nil
}

// Size is the size of the segment.
func (s *Sealed) Size() int64 { return s.raw }

// ReadAt reads the segment's bytes, as io.ReaderAt says. What is not as it was sealed is a *SealedError that names the place
// in the file, and nothing of a chunk is returned before all of it was checked.
func (s *Sealed) ReadAt(b []byte, at int64) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(b) {
		if at >= s.raw {
			return n, io.EOF
		}
		i := chunkAt(at)
		data, err := s.chunkLocked(i)
		if err != nil {
			return n, err
		}
		from, _ := chunkBounds(i, s.raw)
		copied := copy(b[n:], data[at-from:])
		n, at = n+copied, at+int64(copied)
	}
	return n, nil
}

// chunkLocked returns a chunk's bytes.
func (s *Sealed) chunkLocked(i int) ([]byte, error) {
	if s.cache[0].number == i+1 {
		return s.cache[0].data, nil
	}
	s.cache[0], s.cache[1] = s.cache[1], s.cache[0]
	if s.cache[0].number == i+1 {
		return s.cache[0].data, nil
	}
	c := &s.cache[0]
	c.number = 0
	if err := s.load(c, i); err != nil {
		return nil, sealedError(s.at[i], err)
	}
	c.number = i + 1
	return c.data, nil
}

// load reads a chunk. The bytes are compared with their checksum before zstd sees them.
func (s *Sealed) load(c *chunk, i int) error {
	length := int(s.at[i+1] - s.at[i])
	if cap(s.packed) < length {
		s.packed = make([]byte, length)
	}
	packed := s.packed[:length]
	if err := readFull(s.file, packed, s.at[i]); err != nil {
		return err
	}
	if crc32.Checksum(packed, castagnoli) != s.sums[i] {
		return fmt.Errorf("%w: checksum does not match", errSealed)
	}
	from, to := chunkBounds(i, s.raw)
	if cap(c.data) < int(to-from) {
		c.data = make([]byte, to-from)
	}
	data, err := s.dec.DecodeAll(packed, c.data[:0:to-from])
	if err != nil {
		return fmt.Errorf("%w: %w", errSealed, err)
	}
	if len(data) != int(to-from) {
		return fmt.Errorf("%w: %d bytes where %d should be", errSealed, len(data), to-from)
	}
	c.data = data
	return nil
}
