package tree

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

// Proof is a file that proves one leaf offline (C2SP tlog-proof, `c2sp.org/tlog-proof@v1`): with the leaf and
// a trust file nothing else is needed.
type Proof struct {
	Index  uint64 // of the leaf in its log
	Extra  []byte // whatever goes along, and is not proved; nil: no such line
	Hashes []Hash // inclusion proof (RFC 6962 §2.1.1), the leaf's sibling first
	Signed []byte // signed checkpoint
}

const (
	proofHeader  = "c2sp.org/tlog-proof@v1"
	extraPrefix  = "extra "
	indexPrefix  = "index "
	maxInclusion = 63 // hashes of an inclusion proof in a tree of MaxSize leaves, and to spare
)

// WriteProof is the content of the file.
func WriteProof(p Proof) []byte {
	var b bytes.Buffer
	b.WriteString(proofHeader + "\n")
	if p.Extra != nil {
		b.WriteString(extraPrefix + base64.StdEncoding.EncodeToString(p.Extra) + "\n")
	}
	fmt.Fprintf(&b, "%s%d\n", indexPrefix, p.Index)
	for _, h := range p.Hashes {
		b.WriteString(h.String() + "\n")
	}
	b.WriteByte('\n')
	b.Write(p.Signed)
	return b.Bytes()
}

// ParseProof reads a proof file. A file has one spelling only. Whether it proves anything is for [CheckProof] to say.
func ParseProof(b []byte) (Proof, error) {
	head, signed, ok := bytes.Cut(b, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !ok || lines[0] != proofHeader {
		return Proof{}, fmt.Errorf("%w proof file: it does not begin with %s", ErrMalformed, proofHeader)
	}
	p, lines := Proof{Signed: bytes.Clone(signed)}, lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], extraPrefix) {
		text := lines[0][len(extraPrefix):]
		extra, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || base64.StdEncoding.EncodeToString(extra) != text {
			return Proof{}, fmt.Errorf("%w proof file: the extra line is not base64", ErrMalformed)
		}
		p.Extra, lines = append([]byte{}, extra...), lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], indexPrefix) {
		return Proof{}, fmt.Errorf("%w proof file: it has no index line", ErrMalformed)
	}
	var err error
	if p.Index, err = parseNumber(lines[0][len(indexPrefix):]); err != nil {
		return Proof{}, fmt.Errorf("%w proof file: index %w", ErrMalformed, err)
	}
	if len(lines)-1 > maxInclusion {
		return Proof{}, fmt.Errorf("%w proof file: it has %d hashes", ErrMalformed, len(lines)-1)
	}
	for _, line := range lines[1:] {
		var h Hash
		if err := h.UnmarshalText([]byte(line)); err != nil {
			return Proof{}, fmt.Errorf("proof file: %w", err)
		}
		p.Hashes = append(p.Hashes, h)
	}
	return p, nil
}

// CheckProof checks that the leaf is at the proof's index of a log that a trusted key signed, and returns the checkpoint.
// Extra data is not covered. Errors are those of [Trust.Open] and [ErrProof].
func CheckProof(t *Trust, p Proof, leaf []byte) (Checkpoint, error) {
	c, err := t.Open(p.Signed)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("proof file: %w", err)
	}
	if err := VerifyInclusion(p.Index, c.Size, HashLeaf(leaf), p.Hashes, c.Root); err != nil {
		return Checkpoint{}, fmt.Errorf("proof file: %s: %w", c.Origin, err)
	}
	return c, nil
}
