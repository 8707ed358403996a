package audit

import (
	"bytes"
	"os"
	"testing"

	"sallyport/audit/segment"
)

// Whole blocks and pieces, from memory that is aligned and from memory that is not, are one file to whoever reads it, also
// to those who had read zeros there before.
func TestDirectAndCachedWritesAreOneFile(t *testing.T) {
	dir := t.TempDir()
	d, err := openDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := d.OpenFile("file", os.O_RDWR|os.O_CREATE|wholeBlocks)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	beside, err := os.Open(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	const size = 64 * segment.Block
	memory := make([]byte, size+segment.Block)
	want := make([]byte, size)
	write := func(b []byte, at int) {
		t.Helper()
		if n, err := f.WriteAt(b, int64(at)); n != len(b) || err != nil {
			t.Fatalf("writing %d bytes at %d: %d, %v", len(b), at, n, err)
		}
		copy(want[at:], b)
		got := make([]byte, size)
		if _, err := beside.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("after writing %d bytes at %d, another reader sees something else: %v", len(b), at, err)
		}
	}
	write(memory[:size], 0)
	for i := range memory {
		memory[i] = byte(i % 251)
	}
	write(memory[:8*segment.Block], 0)
	write(memory[1:1+8*segment.Block], 8*segment.Block) // memory that is not aligned
	write(memory[:100], 20*segment.Block+7)
	write(memory[:segment.Block], 20*segment.Block)
	write(memory[segment.Block:3*segment.Block], 63*segment.Block-segment.Block)
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if got, err := f.Size(); got != size || err != nil {
		t.Errorf("size %d, %v, want %d", got, err, size)
	}
	got := make([]byte, size)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("reading back: %v", err)
	}
}
