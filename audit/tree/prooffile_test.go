package tree

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

func proofFile(t testing.TB, size, index uint64, extra []byte) (Proof, *Trust) {
	t.Helper()
	tiles := newTiles(t, newMemoryFiles(), leaves(int(size)))
	c := Checkpoint{Origin: origin, Size: size, Root: tiles.frontier.Root()}
	key := newSigner(t, origin, 1)
	hashes, err := tiles.ProveInclusion(size, index)
	must(t, err)
	return Proof{Index: index, Extra: extra, Hashes: hashes, Signed: sign(t, c, key)}, trust(t, key.vkey)
}

func TestProofFileProvesItsRecordOnly(t *testing.T) {
	for _, row := range []struct {
		size, index uint64
		extra       []byte
	}{{1, 0, nil}, {300, 299, []byte("why")}, {300, 5, []byte{}}} {
		p, trusted := proofFile(t, row.size, row.index, row.extra)
		read, err := ParseProof(WriteProof(p))
		must(t, err)
		if read.Index != p.Index || !bytes.Equal(read.Extra, p.Extra) || (read.Extra == nil) != (p.Extra == nil) || !slices.Equal(read.Hashes, p.Hashes) {
			t.Errorf("%+v is read as %+v", p, read)
		}
		c, err := CheckProof(trusted, read, record(row.index))
		if err != nil || c.Size != row.size {
			t.Errorf("the proof of %d in %d: %v, %+v", row.index, row.size, err, c)
		}
		if _, err := CheckProof(trusted, read, record(row.index+1)); !errors.Is(err, ErrProof) {
			t.Errorf("it proves another record: %v", err)
		}
		if _, err := CheckProof(trust(t, newSigner(t, "other", 2).vkey), read, record(row.index)); !errors.Is(err, ErrUntrusted) {
			t.Errorf("it convinces who does not trust the key: %v", err)
		}
	}
}

// Every bit of a proof file matters, but those of extra data, which nobody vouches for.
func TestEveryFlippedBitOfAProofFileIsFound(t *testing.T) {
	p, trusted := proofFile(t, 300, 77, nil)
	file := WriteProof(p)
	for i := range len(file) * 8 {
		flipped := bytes.Clone(file)
		flipped[i/8] ^= 1 << (i % 8)
		read, err := ParseProof(flipped)
		if err != nil {
			continue
		}
		if _, err := CheckProof(trusted, read, record(77)); err == nil {
			t.Fatalf("bit %d of byte %d of\n%s makes no difference", i%8, i/8, file)
		}
	}
}

func TestProofFileHasOneSpelling(t *testing.T) {
	p, _ := proofFile(t, 2, 1, []byte("x"))
	file := string(WriteProof(p))
	for _, change := range []struct{ old, new string }{
		{"c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"},
		{"extra eA==", "extra eA"}, {"extra eA==", "extra eB=="}, {"extra eA==\n", "extra eA==\nextra eA==\n"},
		{"index 1", "index 01"}, {"index 1", "index -1"}, {"index 1", "index"}, {"index 1\n", ""},
		{"index 1\n", "index 1\r\n"}, {"index 1\n", "index 1\n" + strings.Repeat(EmptyRoot.String()+"\n", 64)}, {"=\n\n", "=\n"}, {"=\n\n", "=\nx\n\n"},
	} {
		changed := strings.Replace(file, change.old, change.new, 1)
		if changed == file {
			t.Fatalf("%q is not in %s", change.old, file)
		}
		if _, err := ParseProof([]byte(changed)); !errors.Is(err, ErrMalformed) {
			t.Errorf("with %q for %q: %v", change.new, change.old, err)
		}
	}
}
