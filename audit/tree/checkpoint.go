package tree

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxSize is the greatest number of leaves that a tree of ours may have. It keeps the arithmetic of stored hash indexes
// within 63 bits; a log that fills up with a million records a second reaches it after 70,000 years.
const MaxSize = 1 << 61

// Checkpoint is what a log says of itself at one moment (C2SP tlog-checkpoint): under this name, so many leaves, this
// root. It is worth as much as the signature it came with; see [Trust.Open].
type Checkpoint struct {
	Origin     string   // name of the log, unique in the world; also the name of the key that signs
	Size       uint64   // number of leaves
	Root       Hash     // root of the tree of that many leaves (RFC 6962 §2.1)
	Extensions []string // further lines that are signed too; none of them is empty
}

// Body is the text that is signed: origin, size and root, each on its line, then the extension lines.
func (c Checkpoint) Body() []byte {
	b := fmt.Appendf(nil, "%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
	for _, line := range c.Extensions {
		b = append(append(b, line...), '\n')
	}
	return b
}

// ErrMalformed is the reason for which something is no checkpoint, signed note, trust file or proof at all.
var ErrMalformed = errors.New("malformed")

// ParseCheckpointBody reads what [Checkpoint.Body] writes. A checkpoint has one spelling only: what is accepted is
// written again as the same bytes.
func ParseCheckpointBody(body []byte) (Checkpoint, error) {
	if !printable(body) {
		return Checkpoint{}, fmt.Errorf("%w checkpoint: it holds control characters or is not UTF-8", ErrMalformed)
	}
	lines := strings.Split(string(body), "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" {
		return Checkpoint{}, fmt.Errorf("%w checkpoint: origin, size and root are three whole lines", ErrMalformed)
	}
	c := Checkpoint{Origin: lines[0]}
	if c.Origin == "" {
		return Checkpoint{}, fmt.Errorf("%w checkpoint: the origin is empty", ErrMalformed)
	}
	var err error
	if c.Size, err = parseNumber(lines[1]); err != nil {
		return Checkpoint{}, fmt.Errorf("%w checkpoint: size %w", ErrMalformed, err)
	}
	if err := c.Root.UnmarshalText([]byte(lines[2])); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: root: %w", err)
	}
	if c.Size == 0 && c.Root != EmptyRoot {
		return Checkpoint{}, fmt.Errorf("%w checkpoint: size 0 has another root than an empty tree", ErrMalformed)
	}
	for _, line := range lines[3 : len(lines)-1] {
		if line == "" {
			return Checkpoint{}, fmt.Errorf("%w checkpoint: an extension line is empty", ErrMalformed)
		}
		c.Extensions = append(c.Extensions, line)
	}
	return c, nil
}

// parseNumber reads a number of leaves or an index in its only spelling.
func parseNumber(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s || n > MaxSize {
		return 0, fmt.Errorf("%q is not a decimal number up to %d", s, uint64(MaxSize))
	}
	return n, nil
}

// printable reports whether b may be part of a signed note: UTF-8 without control characters but line breaks.
func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' {
			return false
		}
	}
	return utf8.Valid(b)
}

// MarshalText is the hash in base64.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads a hash in base64, in the one spelling that it has.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(b) != len(h) || Hash(b).String() != string(text) {
		return fmt.Errorf("%w hash %q: it is not the base64 of %d bytes", ErrMalformed, text, len(h))
	}
	*h = Hash(b)
	return nil
}
