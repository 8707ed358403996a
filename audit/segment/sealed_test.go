package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// buffer is a file in memory.
type buffer struct{ b []byte }

func (f *buffer) WriteAt(b []byte, at int64) (int, error) {
	f.b = append(f.b[:at], b...)
	return len(b), nil
}

func sealed(t testing.TB, raw []byte) []byte {
	t.Helper()
	var f buffer
	n, err := Seal(&f, bytes.NewReader(raw), int64(len(raw)), nil)
	if err != nil || n != int64(len(f.b)) {
		t.Fatalf("sealing: %d of %d bytes, %v", n, len(f.b), err)
	}
	return f.b
}

// readSealed reads all of a sealed segment.
func readSealed(b []byte) ([]byte, error) {
	s, err := OpenSealed(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
}

func textOf(rnd *rand.Rand, n int) []byte {
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, `{"seq":%d,"app":"app-%d","effect":"allow"}`+"\n", b.Len(), rnd.IntN(50))
	}
	return b.Bytes()[:n]
}

// Whatever is sealed comes back, in any order and piece; and a program that knows zstd only gets the segment.
func TestSealedHoldsTheSegment(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{Block, Block + 1, Block + chunkLen, Block + chunkLen + 1, 3*chunkLen + 77} {
		raw := textOf(rnd, n)
		for i := range min(n, 2*chunkLen) / 3 { // what does not shrink is in it too
			raw[n-1-i] = byte(rnd.Uint32())
		}
		b := sealed(t, raw)
		s, err := OpenSealed(bytes.NewReader(b), int64(len(b)))
		if err != nil || s.Size() != int64(n) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		for range 50 {
			from := rnd.IntN(n + 10)
			piece := make([]byte, rnd.IntN(n+20-from))
			got, err := s.ReadAt(piece, int64(from))
			want := min(len(piece), max(0, n-from))
			if got != want || (err != nil) != (got < len(piece)) || !bytes.Equal(piece[:got], raw[min(from, n):min(from, n)+got]) {
				t.Errorf("%d bytes: reading %d at %d gives %d, %v", n, len(piece), from, got, err)
			}
		}
		plain, err := zstd.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(plain)
		if err != nil || !bytes.Equal(all, raw) {
			t.Errorf("%d bytes: another zstd reads %d bytes, %v", n, len(all), err)
		}
		plain.Close()
	}
}

// The seek table is that of the zstd seekable format: found from the file's end, it leads to every frame.
func TestSealedHasTheSeekTableOfZstd(t *testing.T) {
	raw := textOf(rand.New(rand.NewPCG(3, 4)), 2*chunkLen+5)
	b := sealed(t, raw)
	footer := b[len(b)-9:]
	if binary.LittleEndian.Uint32(footer[5:]) != 0x8f92eab1 || footer[4] != 0 {
		t.Fatalf("footer %x", footer)
	}
	n := int(binary.LittleEndian.Uint32(footer))
	table := b[len(b)-9-8*n-8:]
	if binary.LittleEndian.Uint32(table) != 0x184d2a5e || int(binary.LittleEndian.Uint32(table[4:])) != len(table)-8 {
		t.Fatalf("table starts with %x", table[:8])
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var all []byte
	at := 0
	for i := range n {
		size, length := int(binary.LittleEndian.Uint32(table[8+8*i:])), int(binary.LittleEndian.Uint32(table[12+8*i:]))
		piece, err := dec.DecodeAll(b[at:at+size], nil)
		if err != nil || len(piece) != length {
			t.Fatalf("frame %d has %d bytes, table says %d: %v", i, len(piece), length, err)
		}
		all = append(all, piece...)
		at += size
	}
	if at != len(b)-len(table) || !bytes.Equal(all, raw) {
		t.Errorf("table covers %d of %d bytes", at, len(b)-len(table))
	}
}

// No bit of a sealed segment may turn, no byte be missing or added.
func TestSealedHasNoSlack(t *testing.T) {
	raw := textOf(rand.New(rand.NewPCG(5, 6)), Block+900)
	b := sealed(t, raw)
	check := func(what string, b []byte) {
		t.Helper()
		if _, err := readSealed(b); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		check(fmt.Sprintf("bit %d of %d turned", bit, len(b)*8), b)
		b[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(b) {
		check(fmt.Sprintf("cut to %d", n), b[:n])
		check(fmt.Sprintf("%d cut off in front", n+1), b[n+1:])
	}
	check("a byte more", append(slices.Clone(b), 0))
	check("twice", append(slices.Clone(b), b...))
	if got, err := readSealed(b); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("as it was: %v", err)
	}
}

// forge makes a sealed file of a header chunk and whatever zstd frame is given, with tables that fit.
func forge(t testing.TB, frame []byte, rawSize int64) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	table := sealTable{raw: rawSize}
	b := enc.EncodeAll(make([]byte, Block), nil)
	table.add(b)
	table.add(frame)
	return append(append(b, frame...), table.encode()...)
}

// A frame that unpacks to more than it may is refused before it takes the memory, whether it says so or not.
func TestSealedBombTakesNoMemory(t *testing.T) {
	zeros := make([]byte, 64<<20)
	bomb := func(opts ...zstd.EOption) []byte {
		var b bytes.Buffer
		enc, err := zstd.NewWriter(&b, append(opts, zstd.WithEncoderConcurrency(1))...)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // much more than a chunk
			if _, err := enc.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
		if err := enc.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	stated, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	for name, frame := range map[string][]byte{
		"of unstated size":                 bomb(),
		"with a window of half a gigabyte": bomb(zstd.WithWindowSize(zstd.MaxWindowSize)),
		"of stated size":                   stated.EncodeAll(zeros, nil),
		"many frames":                      bytes.Repeat(stated.EncodeAll(zeros[:chunkLen], nil), 100),
	} {
		t.Run(name, func(t *testing.T) {
			b := forge(t, frame[:min(len(frame), maxSealedBlock)], Block+chunkLen)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := readSealed(b)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("accepted")
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 24<<20 {
				t.Errorf("%d MiB were taken", took>>20)
			}
		})
	}
}

// FuzzSealed: tables that are accepted are the only spelling of what they say, and reading ends within what they claim.
func FuzzSealed(f *testing.F) {
	f.Add(sealed(f, sampleSegment()))
	f.Add(sealed(f, textOf(rand.New(rand.NewPCG(1, 1)), Block+100)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := readTable(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if !bytes.HasSuffix(b, table.encode()) {
			t.Error("accepted tables have another spelling")
		}
		if table.raw > 16<<20 {
			return
		}
		if raw, err := readSealed(b); err == nil && int64(len(raw)) != table.raw {
			t.Errorf("%d bytes where %d should be", len(raw), table.raw)
		}
	})
}
