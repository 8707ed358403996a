package tree

import (
	"bytes"
	"strings"
	"testing"
)

// What is read as a checkpoint is written as the same bytes.
func FuzzCheckpoint(f *testing.F) {
	f.Add(sample().Body())
	f.Add(Checkpoint{Origin: "o", Root: EmptyRoot}.Body())
	f.Add([]byte("o\n1\n" + EmptyRoot.String() + "\nextension\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := ParseCheckpointBody(body)
		if err == nil && !bytes.Equal(c.Body(), body) {
			t.Errorf("%q is written as %q", body, c.Body())
		}
	})
}

// What opens says what the key signed, whatever else is in the note.
func FuzzSignedCheckpoint(f *testing.F) {
	key, other := newSigner(f, origin, 1), newSigner(f, "witness", 2)
	trusted := trust(f, key.vkey)
	f.Add(sign(f, sample(), key))
	f.Add(sign(f, sample(), other, key))
	f.Fuzz(func(t *testing.T, signed []byte) {
		c, err := trusted.Open(signed)
		if err == nil && !bytes.Equal(c.Body(), sample().Body()) {
			t.Errorf("nobody signed %q", c.Body())
		}
	})
}

// A trust file means what its keys and receipts say: written anew from those it means the same.
func FuzzTrust(f *testing.F) {
	key := newSigner(f, origin, 1)
	f.Add([]byte("# ours\n\n" + key.vkey + "\n"))
	f.Add([]byte(key.vkey + "\r\n" + string(sign(f, sample(), key)) + "\n" + string(sign(f, sample(), key))))
	f.Fuzz(func(t *testing.T, file []byte) {
		first, err := ParseTrust(file)
		if err != nil {
			return
		}
		var text strings.Builder
		text.WriteString(strings.Join(first.Keys(), "\n") + "\n")
		for _, r := range first.Receipts() {
			if !bytes.Contains(bytes.ReplaceAll(append(file, '\n'), []byte("\r\n"), []byte("\n")), r.Signed) {
				t.Errorf("the receipt %q is not in %q", r.Signed, file)
			}
			text.WriteString(string(r.Signed))
		}
		again, err := ParseTrust([]byte(text.String()))
		if err != nil || len(again.Keys()) != len(first.Keys()) || len(again.Receipts()) != len(first.Receipts()) {
			t.Errorf("%q is written as %q: %v", file, text.String(), err)
		}
	})
}

// A proof file has one spelling, and proves what it should only.
func FuzzProof(f *testing.F) {
	p, trusted := proofFile(f, 300, 77, nil)
	f.Add(WriteProof(p))
	p.Extra = []byte{}
	f.Add(WriteProof(p))
	p.Extra = []byte("more")
	f.Add(WriteProof(p))
	f.Fuzz(func(t *testing.T, file []byte) {
		read, err := ParseProof(file)
		if err != nil {
			return
		}
		if !bytes.Equal(WriteProof(read), file) {
			t.Errorf("%q is written as %q", file, WriteProof(read))
		}
		if _, err := CheckProof(trusted, read, record(77)); err == nil && read.Index != 77 {
			t.Errorf("record 77 is proved at %d", read.Index)
		}
	})
}

// Notes that are scanned are all the bytes there are, but for the line breaks between them.
func FuzzScanNotes(f *testing.F) {
	key := newSigner(f, origin, 1)
	f.Add(append(sign(f, sample(), key), "\n\n"+string(sign(f, sample(), key))...))
	f.Add([]byte("a\n\nb"))
	f.Fuzz(func(t *testing.T, file []byte) {
		rest, joined := file, []byte{}
		for len(rest) > 0 {
			n, token, err := ScanNotes(rest, true)
			if err != nil || n == 0 {
				t.Fatalf("%q: %d, %v", rest, n, err)
			}
			joined, rest = append(joined, token...), rest[n:]
		}
		if !bytes.Equal(bytes.ReplaceAll(joined, []byte("\n"), nil), bytes.ReplaceAll(file, []byte("\n"), nil)) {
			t.Errorf("%q is scanned as %q", file, joined)
		}
	})
}
