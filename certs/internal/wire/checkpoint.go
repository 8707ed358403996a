package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Checkpoint is a state of a log: the body of a C2SP tlog-checkpoint. It is also the answer to `checkpoint_position` and
// the body of a conflict, where it is the last one signed, or size 0 while there is none.
type Checkpoint struct {
	Origin string   // the log's name, and the name of the key in the note's signature
	Size   uint64   // leaves; at most MaxSize
	Root   [32]byte // of the Merkle tree, RFC 6962 §2.1
	// Previous is the one extension line that is allowed, without its line break: "previous <origin> <size> <root>", the
	// last state of the origin that this one continues. Empty for an origin that continues none.
	Previous string
}

// MaxProof is the most hashes that a consistency proof can have (C2SP tlog-witness, add-checkpoint).
const MaxProof = 63

// MaxSize is the most leaves that a checkpoint may have. Beyond it golang.org/x/mod/sumdb/tlog, which verifies the proofs,
// does not come to an end.
const MaxSize = 1 << 62

// errCheckpoint is all that is said of text that is none: it may be a stranger's.
var errCheckpoint = errors.New("not a checkpoint")

// AppendText appends the checkpoint's text.
func (c Checkpoint) AppendText(b []byte) []byte {
	b = fmt.Appendf(b, "%s\n%d\n%s\n", c.Origin, c.Size, Base64(c.Root))
	if c.Previous != "" {
		b = append(b, c.Previous...)
		b = append(b, '\n')
	}
	return b
}

// PreviousLine is the extension line of a successor of c.
func (c Checkpoint) PreviousLine() string {
	return fmt.Sprintf("previous %s %d %s", c.Origin, c.Size, Base64(c.Root))
}

// ParsePrevious reads what PreviousLine wrote.
func ParsePrevious(line string) (Checkpoint, error) {
	rest, ok := strings.CutPrefix(line, "previous ")
	fields := strings.Split(rest, " ")
	if !ok || len(fields) != 3 {
		return Checkpoint{}, errors.New("not a line about a previous log")
	}
	return ParseCheckpoint([]byte(strings.Join(fields, "\n") + "\n"))
}

// ParseCheckpoint reads what AppendText wrote, and nothing else: one text for one checkpoint.
func ParseCheckpoint(b []byte) (Checkpoint, error) {
	text, ok := strings.CutSuffix(string(b), "\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) < 3 || len(lines) > 4 || !ValidOrigin(lines[0]) {
		return Checkpoint{}, errCheckpoint
	}
	c := Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = parseSize(lines[1]); err != nil {
		return Checkpoint{}, err
	}
	if c.Root, err = parseHash(lines[2]); err != nil {
		return Checkpoint{}, err
	}
	if len(lines) == 4 {
		if _, err := ParsePrevious(lines[3]); err != nil {
			return Checkpoint{}, err
		}
		c.Previous = lines[3]
	}
	return c, nil
}

// Growth is a request to sign a checkpoint: what it has grown from, and the proof.
type Growth struct {
	Old   uint64     // the size that the proof is from: the last one signed
	Proof [][32]byte // that the tree of that size is a prefix, RFC 6962 §2.1.2; empty if Old is 0 or the new size
	Body  []byte     // the checkpoint, see ParseCheckpoint
}

// AppendText appends the request in the form of C2SP tlog-witness's add-checkpoint.
func (g Growth) AppendText(b []byte) []byte {
	b = fmt.Appendf(b, "old %d\n", g.Old)
	for _, h := range g.Proof {
		b = append(b, Base64(h)...)
		b = append(b, '\n')
	}
	return append(append(b, '\n'), g.Body...)
}

// ParseGrowth reads what AppendText wrote, and nothing else. Body aliases b and is not looked at.
func ParseGrowth(b []byte) (Growth, error) {
	bad := errors.New("not a request for a checkpoint")
	head, body, ok := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	size, ok2 := strings.CutPrefix(lines[0], "old ")
	if !ok || !ok2 || len(lines)-1 > MaxProof {
		return Growth{}, bad
	}
	g := Growth{Body: b[len(b)-len(body):]}
	var err error
	if g.Old, err = parseSize(size); err != nil {
		return Growth{}, bad
	}
	for _, line := range lines[1:] {
		h, err := parseHash(line)
		if err != nil {
			return Growth{}, bad
		}
		g.Proof = append(g.Proof, h)
	}
	return g, nil
}

// parseSize reads a decimal without leading zeros, at most MaxSize.
func parseSize(s string) (uint64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > MaxSize || strconv.FormatInt(n, 10) != s {
		return 0, errCheckpoint
	}
	return uint64(n), nil
}

// parseHash reads canonical base64 of 32 bytes.
func parseHash(s string) (h [32]byte, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(h) || Base64([32]byte(b)) != s { // the decoder skips line breaks
		return h, errCheckpoint
	}
	return [32]byte(b), nil
}

// Base64 is a hash as checkpoints and proofs write it.
func Base64(h [32]byte) string { return base64.StdEncoding.EncodeToString(h[:]) }

// maxOrigin bounds an origin, in bytes: with the number of an epoch it is part of a file's name.
const maxOrigin = 200

// ValidOrigin accepts names of logs and of their epochs: parts of letters, digits, '.', '-' and '_' between slashes, such
// as corp.example/audit/decision. C2SP signed-note would allow more: everything but spaces and '+'.
func ValidOrigin(s string) bool {
	if len(s) > maxOrigin {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || strings.Trim(part, ".") == "" || strings.Trim(part, originBytes) != "" {
			return false
		}
	}
	return true
}

const originBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

// EpochOrigin is the origin of an epoch, counted from 1: the first goes by the configured name.
func EpochOrigin(base string, epoch uint64) string {
	if epoch <= 1 {
		return base
	}
	return base + "/" + strconv.FormatUint(epoch, 10)
}

// manifestTitle is the second line of every manifest's note. No checkpoint has it there: theirs is a number.
const manifestTitle = "sallyport evidence manifest v1"

// ManifestText is the text that a manifest key of that name signs: the SHA-256 of an evidence bundle's manifest.
func ManifestText(name string, sum [32]byte) []byte {
	return fmt.Appendf(nil, "%s\n%s\nsha256 %x\n", name, manifestTitle, sum)
}
