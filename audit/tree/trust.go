package tree

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// ErrUntrusted says that none of the keys that are trusted for this name signed.
var ErrUntrusted = errors.New("not signed by a key that is trusted for it")

// ErrBadSignature says that a signature names a trusted key, and is not by it: text or signature were changed.
var ErrBadSignature = errors.New("the signature of a trusted key does not fit")

// Trust is what somebody who verifies knows beforehand: public keys, and receipts, which are checkpoints that were handed
// out earlier. It does not change, and may be used by several goroutines.
type Trust struct {
	vkeys    []string
	keys     note.Verifiers
	receipts []Receipt
}

// Receipt is a signed checkpoint that was kept elsewhere. The log must still begin with exactly that tree: one that is
// shorter, or has another root at that size, was rolled back or rewritten.
type Receipt struct {
	Checkpoint
	Signed []byte // the note as it was handed out
	Line   int    // line of the trust file at which it begins, from 1
}

// VerifierKey is the line of a trust file for a key: the name, a hash that tells keys of one name apart, and the public
// key (C2SP signed-note, "vkey", type Ed25519).
func VerifierKey(name string, key ed25519.PublicKey) (string, error) {
	vkey, err := note.NewEd25519VerifierKey(name, key)
	if err != nil {
		return "", fmt.Errorf("verifier key of %q: %w", name, err)
	}
	if _, err := note.NewVerifier(vkey); err != nil {
		return "", fmt.Errorf("verifier key of %q: %w", name, err)
	}
	return vkey, nil
}

// ParseTrust reads a trust file: one verifier key a line, lines that begin with # and empty ones, and whole signed
// checkpoints, each beginning with its origin line. Lines may end in CR LF and the last in nothing, as mail programs have
// it. Every receipt must be signed by a key of the same file. Errors name the line.
func ParseTrust(b []byte) (*Trust, error) {
	var t Trust
	var verifiers []note.Verifier
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	lines := bytes.SplitAfter(append(bytes.TrimRight(b, "\n"), '\n'), []byte("\n"))
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(string(lines[i]))
		switch {
		case line == "" || line[0] == '#':
		case strings.Contains(line, "+"):
			v, err := t.addKey(line)
			if err != nil {
				return nil, fmt.Errorf("trust: line %d: %w", i+1, err)
			}
			if v != nil {
				verifiers = append(verifiers, v)
			}
		default:
			signed, n := noteLines(lines[i:])
			t.receipts = append(t.receipts, Receipt{Signed: signed, Line: i + 1})
			i += n - 1
		}
	}
	if len(t.vkeys) == 0 {
		return nil, fmt.Errorf("trust: %w: it names no verifier key", ErrMalformed)
	}
	t.keys = note.VerifierList(verifiers...)
	for i, r := range t.receipts {
		c, err := t.Open(r.Signed)
		if err != nil {
			return nil, fmt.Errorf("trust: line %d: receipt: %w", r.Line, err)
		}
		t.receipts[i].Checkpoint = c
	}
	return &t, nil
}

// addKey adds a verifier key. One that is there already is no error and gives nil.
func (t *Trust) addKey(vkey string) (note.Verifier, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrMalformed, vkey, err)
	}
	for _, other := range t.vkeys {
		if other == vkey {
			return nil, nil
		}
		if o, err := note.NewVerifier(other); err == nil && o.Name() == v.Name() && o.KeyHash() == v.KeyHash() {
			return nil, fmt.Errorf("%w: %q and %q have one hash", ErrMalformed, vkey, other)
		}
	}
	t.vkeys = append(t.vkeys, vkey)
	return v, nil
}

// Keys are the verifier keys, in the order of the file.
func (t *Trust) Keys() []string { return slices.Clone(t.vkeys) }

// Names are the names of the keys, each once, in the order of the file. Those of logs are their origins.
func (t *Trust) Names() []string {
	var names []string
	for _, vkey := range t.vkeys {
		if name, _, _ := strings.Cut(vkey, "+"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Receipts are the signed checkpoints of the file, in its order.
func (t *Trust) Receipts() []Receipt { return slices.Clone(t.receipts) }

// Open reads a signed checkpoint. A key named like its origin must be trusted and have signed it; signatures by keys that
// are not known are ignored, as signed-note asks. Errors are [ErrUntrusted], [ErrBadSignature] and [ErrMalformed].
func (t *Trust) Open(signed []byte) (Checkpoint, error) {
	text, names, err := t.OpenNote(signed)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := ParseCheckpointBody(text)
	if err != nil {
		return Checkpoint{}, err
	}
	if !slices.Contains(names, c.Origin) {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q: %w: it is signed by %q", c.Origin, ErrUntrusted, names)
	}
	return c, nil
}

// OpenNote reads any signed note (C2SP signed-note) and returns its text and the names of the trusted keys that signed it,
// at least one. It is for the caller to ask whether that name may say this.
func (t *Trust) OpenNote(signed []byte) (text []byte, names []string, err error) {
	if err := oneSpelling(signed); err != nil {
		return nil, nil, err
	}
	n, err := note.Open(signed, t.keys)
	if _, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		return nil, nil, fmt.Errorf("note beginning %q: %w", firstLine(signed), ErrUntrusted)
	}
	if bad, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		return nil, nil, fmt.Errorf("note beginning %q: %w: key %s+%08x", firstLine(signed), ErrBadSignature, bad.Name, bad.Hash)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w note beginning %q: %w", ErrMalformed, firstLine(signed), err)
	}
	for _, s := range n.Sigs {
		names = append(names, s.Name)
	}
	return []byte(n.Text), names, nil
}

// oneSpelling refuses what note.Open lets pass without looking: base64 with bits set that mean nothing, and a second
// signature by the same key. A bit that turned in a signature line of ours is found that way wherever it is.
func oneSpelling(signed []byte) error {
	end := bytes.LastIndex(signed, []byte("\n\n"))
	if end < 0 {
		return fmt.Errorf("%w note beginning %q: it has no signatures", ErrMalformed, firstLine(signed))
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(signed[end+2:])) {
		name, sig, _ := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), signaturePrefix), " ")
		raw, err := base64.StdEncoding.Strict().DecodeString(sig)
		if err != nil || len(raw) < 5 || base64.StdEncoding.EncodeToString(raw) != sig {
			return fmt.Errorf("%w note beginning %q: signature of %q", ErrMalformed, firstLine(signed), name)
		}
		key := name + "+" + string(raw[:4])
		if seen[key] {
			return fmt.Errorf("%w note beginning %q: two signatures by one key of %q", ErrMalformed, firstLine(signed), name)
		}
		seen[key] = true
	}
	return nil
}

// signaturePrefix begins each signature line of a note: an em dash and a space.
const signaturePrefix = "— "

// noteLines takes the note that the lines begin with: its text, an empty line, and the signature lines. It returns how
// many lines that is.
func noteLines(lines [][]byte) (signed []byte, n int) {
	for n < len(lines) && len(bytes.TrimSpace(lines[n])) > 0 {
		n++
	}
	if n < len(lines) {
		n++
	}
	for n < len(lines) && bytes.HasPrefix(lines[n], []byte(signaturePrefix)) {
		n++
	}
	return bytes.Join(lines[:n], nil), n
}

func firstLine(b []byte) []byte {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line[:min(len(line), 100)]
}

// ScanNotes is a [bufio.SplitFunc] for a file of signed notes, one after another, with or without empty lines between
// them. What is cut off at the end comes as a token too, and fails to open.
func ScanNotes(data []byte, atEOF bool) (advance int, token []byte, err error) {
	skip := len(data) - len(bytes.TrimLeft(data, "\n"))
	rest := data[skip:]
	if len(rest) == 0 {
		return skip, nil, nil
	}
	end := bytes.Index(rest, []byte("\n\n"))
	if end >= 0 {
		for end += 2; ; {
			line := bytes.IndexByte(rest[end:], '\n')
			if known := len(rest)-end >= len(signaturePrefix); known && !bytes.HasPrefix(rest[end:], []byte(signaturePrefix)) {
				return skip + end, rest[:end], nil
			}
			if line < 0 {
				break
			}
			if line == 0 {
				return skip + end, rest[:end], nil
			}
			end += line + 1
		}
	}
	if atEOF {
		return len(data), rest, nil
	}
	return skip, nil, nil
}
