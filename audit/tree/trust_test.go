package tree

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// signer is a key of a test, and the line for a trust file.
type signer struct {
	note.Signer
	vkey string
}

func newSigner(t testing.TB, name string, seed byte) signer {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	vkey, err := VerifierKey(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	_, hash, _ := strings.Cut(vkey, "+")
	hash, _, _ = strings.Cut(hash, "+")
	secret := append([]byte{1}, key.Seed()...)
	s, err := note.NewSigner("PRIVATE+KEY+" + name + "+" + hash + "+" + base64.StdEncoding.EncodeToString(secret))
	if err != nil {
		t.Fatal(err)
	}
	return signer{s, vkey}
}

// sign signs a checkpoint with all the keys.
func sign(t testing.TB, c Checkpoint, by ...signer) []byte {
	t.Helper()
	var signers []note.Signer
	for _, s := range by {
		signers = append(signers, s.Signer)
	}
	signed, err := note.Sign(&note.Note{Text: string(c.Body())}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func trust(t testing.TB, lines ...string) *Trust {
	t.Helper()
	parsed, err := ParseTrust([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

const origin = "corp.example/audit/decision"

func sample() Checkpoint {
	return Checkpoint{Origin: origin, Size: 70_000, Root: HashLeaf([]byte("root")), Extensions: []string{"previous a 1 b"}}
}

func TestCheckpointOpensWithTheKeyOfItsOrigin(t *testing.T) {
	key, witness, stranger := newSigner(t, origin, 1), newSigner(t, "witness.example", 2), newSigner(t, "stranger", 3)
	for _, row := range []struct {
		name  string
		by    []signer
		trust []string
		want  error
	}{
		{"by its key", []signer{key}, []string{key.vkey}, nil},
		{"with a signature that nobody knows", []signer{stranger, key}, []string{key.vkey}, nil},
		{"with a second one that is known", []signer{key, witness}, []string{key.vkey, witness.vkey}, nil},
		{"by a stranger", []signer{stranger}, []string{key.vkey}, ErrUntrusted},
		{"by a known key of another name", []signer{witness}, []string{key.vkey, witness.vkey}, ErrUntrusted},
		{"by another key of that name", []signer{newSigner(t, origin, 9)}, []string{key.vkey}, ErrUntrusted},
	} {
		got, err := trust(t, row.trust...).Open(sign(t, sample(), row.by...))
		if !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
		if row.want == nil && string(got.Body()) != string(sample().Body()) {
			t.Errorf("%s: read %q", row.name, got.Body())
		}
	}
}

// Every bit of a signed checkpoint matters.
func TestEveryFlippedBitOfASignedCheckpointIsFound(t *testing.T) {
	key := newSigner(t, origin, 1)
	trusted, signed := trust(t, key.vkey), sign(t, sample(), key)
	kinds := map[error]int{}
	for i := range len(signed) * 8 {
		flipped := bytes.Clone(signed)
		flipped[i/8] ^= 1 << (i % 8)
		_, err := trusted.Open(flipped)
		if err == nil {
			t.Fatalf("bit %d of byte %d of\n%s makes no difference", i%8, i/8, signed)
		}
		for _, kind := range []error{ErrUntrusted, ErrBadSignature, ErrMalformed} {
			if errors.Is(err, kind) {
				kinds[kind]++
			}
		}
	}
	if len(kinds) != 3 {
		t.Errorf("errors are of kinds %v", kinds)
	}
	for n := range signed {
		if _, err := trusted.Open(signed[:n]); err == nil {
			t.Errorf("the first %d bytes open", n)
		}
	}
}

func TestCheckpointHasOneSpelling(t *testing.T) {
	root := HashLeaf(nil).String()
	for _, body := range []string{
		"", "\n", "o\n1\n" + root, "\n1\n" + root + "\n", "o\n01\n" + root + "\n", "o\n+1\n" + root + "\n", "o\n-1\n" + root + "\n",
		"o\n1\n" + root[:43] + "\n", "o\n1\n" + root[:42] + "F=\n", "o\n1\n" + root + "\n\n", "o\n1\n" + root + "\nx\n\ny\n",
		"o\r\n1\n" + root + "\n", "o\xff\n1\n" + root + "\n", "o\n99999999999999999999\n" + root + "\n", "o\n2305843009213693953\n" + root + "\n",
		"o\n0\n" + root + "\n",
	} {
		if c, err := ParseCheckpointBody([]byte(body)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q is read as %+v, %v", body, c, err)
		}
	}
	for _, text := range []string{root + "\n", root[:10] + "\r\n" + root[10:], root + "=", "", root[:40]} {
		if err := new(Hash).UnmarshalText([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q is read as a hash: %v", text, err)
		}
	}
	empty := Checkpoint{Origin: "o", Root: EmptyRoot}
	if c, err := ParseCheckpointBody(empty.Body()); err != nil || c.Root != EmptyRoot {
		t.Errorf("the checkpoint of an empty log is not read: %v", err)
	}
}

func TestTrustFileWithReceipts(t *testing.T) {
	key, control := newSigner(t, origin, 1), newSigner(t, "corp.example/audit/control", 2)
	first, second := sample(), Checkpoint{Origin: control.Name(), Size: 3, Root: HashLeaf(nil)}
	file := "# our auditor's file\n\n" + string(sign(t, first, key)) + key.vkey + "\n  " + control.vkey + "  \n" + key.vkey + "\n" +
		string(sign(t, second, control)) + "\n" + string(sign(t, first, key, control))
	for _, text := range []string{file, strings.ReplaceAll(file, "\n", "\r\n"), strings.TrimSuffix(file, "\n")} {
		parsed, err := ParseTrust([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed.Keys(); !slices.Equal(got, []string{key.vkey, control.vkey}) {
			t.Errorf("keys are %q", got)
		}
		if got := parsed.Names(); !slices.Equal(got, []string{origin, control.Name()}) {
			t.Errorf("names are %q", got)
		}
		receipts := parsed.Receipts()
		if len(receipts) != 3 || receipts[0].Line != 3 || receipts[1].Size != 3 || receipts[2].Root != first.Root {
			t.Errorf("receipts are %+v", receipts)
		}
	}
}

func TestTrustFileErrorsNameTheLine(t *testing.T) {
	key, stranger := newSigner(t, origin, 1), newSigner(t, "stranger", 2)
	receipt := string(sign(t, sample(), key))
	for _, row := range []struct {
		file, want string
		kind       error
	}{
		{"", "names no verifier key", ErrMalformed},
		{"# nothing\n", "names no verifier key", ErrMalformed},
		{key.vkey + "\nx+0123+y\n", "line 2", ErrMalformed},
		{"\n\n" + strings.Replace(key.vkey, "corp", "evil", 1), "line 3", ErrMalformed},
		{key.vkey + "\n\nhello\n", "line 3", ErrMalformed},
		{key.vkey + "\n" + strings.Replace(receipt, "70000", "70001", 1), "line 2", ErrBadSignature},
		{stranger.vkey + "\n# kept\n" + receipt, "line 3", ErrUntrusted},
		{key.vkey + "\n" + receipt[:len(receipt)-20] + "\n", "line 2", ErrMalformed},
	} {
		_, err := ParseTrust([]byte(row.file))
		if !errors.Is(err, row.kind) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: %v, want %v with %q", row.file, err, row.kind, row.want)
		}
	}
}

func TestNotesAreScannedOneByOne(t *testing.T) {
	key, other := newSigner(t, origin, 1), newSigner(t, "other", 2)
	trusted := trust(t, key.vkey)
	for _, between := range []string{"\n", "", "\n\n"} {
		var file bytes.Buffer
		for i := range 50 {
			by := []signer{key, other}[:1+i%2]
			fmt.Fprintf(&file, "%s%s", sign(t, Checkpoint{Origin: origin, Size: uint64(i + 1), Root: HashLeaf(nil)}, by...), between)
		}
		for _, cut := range []int{0, 1 + len(between), 30} {
			sc := bufio.NewScanner(&oneByte{file.Bytes()[:file.Len()-cut]})
			sc.Split(ScanNotes)
			n := 0
			for sc.Scan() {
				c, err := trusted.Open(sc.Bytes())
				if torn := n == 49 && cut > len(between); (err == nil) == torn || err == nil && c.Size != uint64(n+1) {
					t.Errorf("note %d, %d bytes cut: %+v, %v", n, cut, c, err)
				}
				n++
			}
			if n != 50 || sc.Err() != nil {
				t.Errorf("%d notes, %v", n, sc.Err())
			}
		}
	}
}

// oneByte hands out its bytes one at a time.
type oneByte struct{ left []byte }

func (r *oneByte) Read(p []byte) (int, error) {
	if len(r.left) == 0 || len(p) == 0 {
		return bytes.NewReader(nil).Read(p)
	}
	p[0], r.left = r.left[0], r.left[1:]
	return 1, nil
}
