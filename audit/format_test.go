package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

func sampleHeader() *header {
	return &header{
		log: DecisionLog, number: 2, id: uuid.UUID{1, 2, 3}, created: time.Unix(0, 1), boot: uuid.UUID{4}, bootN: 5,
		size: 10 * block, firstSeq: 7, prevEnd: 3 * block, prevSum: sha256.Sum256(nil),
	}
}

// sampleSegment is a segment of two batches with seq 7 and 8, 9.
func sampleSegment() []byte {
	h := sampleHeader()
	b := h.encode()
	b = append(b, sealFrame(append(appendFrameHeader(nil), "{\"seq\":7}\n"...), h.id, 7, 1)...)
	b = append(b, sealFrame(append(appendFrameHeader(nil), "{\"seq\":8}\n{\"seq\":9}\n"...), h.id, 8, 2)...)
	return append(b, make([]byte, int(h.size)-len(b))...)
}

// The format is what FORMAT.md says: files of earlier versions of this program stay readable. A change here is a change
// of the format's version.
func TestFormatIsPinned(t *testing.T) {
	b := sampleSegment()
	for _, c := range []struct {
		what string
		at   int
		want string
	}{
		{"magic and version", 0, "5350415544495401"},
		{"header checksum", 8, "7f3b2ef100000000"},
		{"log", 16, "6465636973696f6e0000000000000000"},
		{"number", 32, "0200000000000000"},
		{"id", 40, "01020300000000000000000000000000"},
		{"created", 56, "0100000000000000"},
		{"boot", 64, "04000000000000000000000000000000"},
		{"boot number", 80, "0500000000000000"},
		{"size", 88, "00a0000000000000"},
		{"first seq", 96, "0700000000000000"},
		{"end of predecessor", 104, "0030000000000000"},
		{"digest of predecessor", 112, "e3b0c44298fc1c149afbf4c8996fb924"},
		{"frame magic", 2 * block, "f5535042"},
		{"frame checksum", 2*block + 4, "2f09451c"},
		{"frame's first seq", 2*block + 8, "0800000000000000"},
		{"frame's count", 2*block + 16, "02000000"},
		{"frame's length", 2*block + 20, "14000000"},
		{"payload", 2*block + 24, hex.EncodeToString([]byte("{\"seq\":8}\n{\"seq\":9}\n"))},
	} {
		if got := hex.EncodeToString(b[c.at : c.at+len(c.want)/2]); got != c.want {
			t.Errorf("%s at %d is %s, want %s", c.what, c.at, got, c.want)
		}
	}
}

// No bit of a header may differ and still be a header.
func TestHeaderHasNoSlack(t *testing.T) {
	b := sampleHeader().encode()
	if h, err := parseHeader(b); err != nil || !bytes.Equal(h.encode(), b) {
		t.Fatalf("own header: %v", err)
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := parseHeader(b); err == nil {
			t.Errorf("header with bit %d turned was accepted", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	if _, err := parseHeader(b[:headerLen]); err == nil {
		t.Error("half a block was accepted as a header")
	}
}

// Whatever a segment holds, the scanner ends, stays within it, and yields frames that are the writer's own bytes. A
// segment that counts as whole or torn has nothing behind its end that one batch could not have left.
func FuzzSegment(f *testing.F) {
	whole := sampleSegment()
	f.Add(whole)
	f.Add(whole[:2*block+100])
	torn := slices.Clone(whole)
	clear(torn[2*block : 2*block+sector])
	f.Add(torn)
	f.Add([]byte("SPAUDIT\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		h, err := readHeader(bytes.NewReader(b), "fuzz", DecisionLog, 2)
		if err != nil {
			return
		}
		s := newScanner(bytes.NewReader(b), "fuzz", h)
		seq, end := h.firstSeq, int64(block)
		for {
			f, raw, err := s.next(int64(len(b)))
			if err != nil {
				if _, damaged := errors.AsType[*Damage](err); !damaged && !errors.Is(err, io.EOF) {
					t.Errorf("scanning ends with %v", err)
				}
				break
			}
			if !bytes.Equal(raw, b[end:end+int64(f.size)]) || f.firstSeq != seq {
				t.Errorf("frame at %d is not what stands there", end)
			}
			again := sealFrame(append(appendFrameHeader(nil), f.payload...), h.id, f.firstSeq, int(f.count))
			if !bytes.Equal(again, raw) {
				t.Errorf("frame at %d has another spelling", end)
			}
			seq += uint64(f.count)
			end += int64(f.size)
		}
		x, err := measureLast(memory(b), "fuzz", h)
		if err == nil && (x.end != end || x.nextSeq != seq || x.dropped > maxFrame) {
			t.Errorf("measured %+v, scanned to %d, seq %d", x, end, seq)
		}
	})
}

// FuzzFrame: a frame that is accepted has one spelling only.
func FuzzFrame(f *testing.F) {
	id := sampleHeader().id
	f.Add(sampleSegment()[block:])
	f.Add(sampleSegment()[2*block:])
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := parseFrame(b, id)
		if err != nil {
			return
		}
		again := sealFrame(append(appendFrameHeader(nil), frame.payload...), id, frame.firstSeq, int(frame.count))
		if !bytes.Equal(again, b[:frame.size]) {
			t.Error("accepted frame has another spelling")
		}
	})
}
