package segment

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"sallyport/audit/tree"
)

func sampleHeader() *Header {
	h := &Header{
		Log: "decision", Number: 2, ID: uuid.UUID{1, 2, 3}, Created: time.Unix(0, 1), Boot: uuid.UUID{4}, BootN: 5,
		Size: 10 * Block, PrevEnd: 3 * Block,
	}
	for i := range 7 {
		h.Before.Append(tree.HashLeaf([]byte{byte(i)}))
	}
	return h
}

// sampleSegment is a segment of two batches with seq 7 and 8, 9.
func sampleSegment() []byte {
	h := sampleHeader()
	b := h.Encode()
	b = append(b, SealFrame(append(BeginFrame(nil), "{\"seq\":7}\n"...), h.ID, 7, 1)...)
	b = append(b, SealFrame(append(BeginFrame(nil), "{\"seq\":8}\n{\"seq\":9}\n"...), h.ID, 8, 2)...)
	return append(b, make([]byte, int(h.Size)-len(b))...)
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
		{"magic and version", 0, "5350415544495402"},
		{"header checksum", 8, "85599cd700000000"},
		{"log", 16, "6465636973696f6e0000000000000000"},
		{"number", 32, "0200000000000000"},
		{"id", 40, "01020300000000000000000000000000"},
		{"created", 56, "0100000000000000"},
		{"boot", 64, "04000000000000000000000000000000"},
		{"boot number", 80, "0500000000000000"},
		{"size", 88, "00a0000000000000"},
		{"first seq", 96, "0700000000000000"},
		{"end of predecessor", 104, "0030000000000000"},
		{"largest subtree before", 112, "9bcd51240af4005168f033121ba85be5"},
		{"frame magic", 2 * Block, "f5535042"},
		{"frame checksum", 2*Block + 4, "2f09451c"},
		{"frame's first seq", 2*Block + 8, "0800000000000000"},
		{"frame's count", 2*Block + 16, "02000000"},
		{"frame's length", 2*Block + 20, "14000000"},
		{"payload", 2*Block + 24, hex.EncodeToString([]byte("{\"seq\":8}\n{\"seq\":9}\n"))},
	} {
		if got := hex.EncodeToString(b[c.at : c.at+len(c.want)/2]); got != c.want {
			t.Errorf("%s at %d is %s, want %s", c.what, c.at, got, c.want)
		}
	}
}

// No bit of a header may differ and still be a header.
func TestHeaderHasNoSlack(t *testing.T) {
	b := sampleHeader().Encode()
	if h, err := ParseHeader(b); err != nil || !bytes.Equal(h.Encode(), b) {
		t.Fatalf("own header: %v", err)
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := ParseHeader(b); err == nil {
			t.Errorf("header with bit %d turned was accepted", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	if _, err := ParseHeader(b[:Block/2]); err == nil {
		t.Error("half a block was accepted as a header")
	}
}

// Whatever a segment holds, the scanner ends, stays within it, and yields frames that are the writer's own bytes. A
// segment that counts as whole or torn has nothing behind its end that one batch could not have left.
func FuzzSegment(f *testing.F) {
	whole := sampleSegment()
	f.Add(whole)
	f.Add(whole[:2*Block+100])
	torn := slices.Clone(whole)
	clear(torn[2*Block : 2*Block+512])
	f.Add(torn)
	f.Add([]byte("SPAUDIT\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		h, err := ReadHeader(bytes.NewReader(b), "decision", 2)
		if err != nil {
			return
		}
		s := NewScanner(bytes.NewReader(b), h)
		seq, end := h.FirstSeq(), int64(Block)
		for {
			f, raw, err := s.Next(int64(len(b)))
			if err != nil {
				if _, damaged := errors.AsType[*Damage](err); !damaged && !errors.Is(err, io.EOF) {
					t.Errorf("scanning ends with %v", err)
				}
				break
			}
			if !bytes.Equal(raw, b[end:end+int64(f.Size)]) || f.FirstSeq != seq {
				t.Errorf("frame at %d is not what stands there", end)
			}
			again := SealFrame(append(BeginFrame(nil), f.Payload...), h.ID, f.FirstSeq, int(f.Count))
			if !bytes.Equal(again, raw) {
				t.Errorf("frame at %d has another spelling", end)
			}
			seq += uint64(f.Count)
			end += int64(f.Size)
		}
		x, err := MeasureLast(bytes.NewReader(b), int64(len(b)), h)
		if err == nil && (x.End != end || x.NextSeq() != seq || x.Dropped > MaxFrame) {
			t.Errorf("measured %+v, scanned to %d, seq %d", x, end, seq)
		}
	})
}

// FuzzFrame: a frame that is accepted has one spelling only.
func FuzzFrame(f *testing.F) {
	id := sampleHeader().ID
	f.Add(sampleSegment()[Block:])
	f.Add(sampleSegment()[2*Block:])
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ParseFrame(b, id)
		if err != nil {
			return
		}
		again := SealFrame(append(BeginFrame(nil), frame.Payload...), id, frame.FirstSeq, int(frame.Count))
		if !bytes.Equal(again, b[:frame.Size]) {
			t.Error("accepted frame has another spelling")
		}
	})
}
