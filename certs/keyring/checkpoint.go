package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sallyport/certs/internal/wire"
)

// Errors of notes that callers may ask for.
var (
	// ErrConflict means that a checkpoint does not grow from the last one that keyd signed. The error is a *Conflict.
	ErrConflict = errors.New("the key process has signed another checkpoint last")
	// ErrNoKey means that keyd's configuration has no key for the log or for manifests: `keyd init` adds them. It is
	// ErrRefused too.
	ErrNoKey = errors.New("its configuration has no such key")
)

// Position is the last checkpoint that keyd signed for a log.
type Position struct {
	Origin string   // in use: the configured one, or that of its latest epoch
	Size   uint64   // leaves; 0 while nothing was signed
	Root   [32]byte // of the tree of that size
	// Previous is the extension line, without its line break, that the first checkpoint of a later epoch must carry and
	// that its others may carry: "previous <origin> <size> <root>". Empty in the first epoch.
	Previous string
}

// Conflict is where keyd stands instead.
type Conflict struct{ Position }

func (c *Conflict) Error() string {
	return fmt.Sprintf("%s: %s at size %d", ErrConflict, c.Origin, c.Size)
}

// Is makes errors.Is(err, ErrConflict) work.
func (c *Conflict) Is(target error) bool { return target == ErrConflict }

// CheckpointPosition asks keyd for the last checkpoint of the log with that configured origin, such as
// corp.example/audit/decision. A keyd that no longer knows refuses: ErrRefused.
func (c *Client) CheckpointPosition(ctx context.Context, base string) (Position, error) {
	id, err := c.noteKey(PurposeCheckpoint, func(o Origin) bool { return o.Base == base })
	if err != nil {
		return Position{}, fmt.Errorf("%w: origin %q", err, base)
	}
	answer, err := c.request(ctx, wire.OpCheckpointPosition, wire.SignBody(id, []byte(base)))
	if err != nil {
		return Position{}, err
	}
	return parsePosition(answer)
}

// SignCheckpoint has keyd sign a checkpoint and returns the note (C2SP tlog-checkpoint): body, an empty line, signatures.
// Keyd has then noted it for good. The body is `origin\nsize\nroot in base64\n`, with the origin of CheckpointPosition and,
// in a later epoch, its Previous as a fourth line.
//
// oldSize is the size that keyd signed last and proof the consistency proof from there (RFC 6962 §2.1.2), empty if either
// oldSize or the growth is 0. ErrConflict says that keyd signed another size last. ErrRefused means that the
// checkpoint is no continuation, or that keyd could not note it. What was signed last may be signed again.
func (c *Client) SignCheckpoint(ctx context.Context, body []byte, oldSize uint64, proof [][32]byte) ([]byte, error) {
	cp, err := wire.ParseCheckpoint(body)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint: %w", err)
	}
	id, err := c.noteKey(PurposeCheckpoint, func(o Origin) bool { return o.InUse == cp.Origin })
	if err != nil {
		return nil, fmt.Errorf("%w: origin %q", err, cp.Origin)
	}
	growth := wire.Growth{Old: oldSize, Proof: proof, Body: body}
	signatures, err := c.request(ctx, wire.OpSignCheckpoint, wire.SignBody(id, growth.AppendText(nil)))
	if err != nil {
		return nil, err
	}
	return signedNote(body, signatures), nil
}

// SignManifest has keyd sign the SHA-256 of an evidence bundle's manifest and returns the note (C2SP signed-note), whose
// text is the name of the key, `sallyport evidence manifest v1` and `sha256 ` with the sum in hex, a line each.
func (c *Client) SignManifest(ctx context.Context, sha256 [32]byte) ([]byte, error) {
	var name string
	id, err := c.noteKey(PurposeManifest, func(o Origin) bool {
		name = o.InUse
		return true
	})
	if err != nil {
		return nil, err
	}
	text := wire.ManifestText(name, sha256)
	signatures, err := c.request(ctx, wire.OpSignManifest, wire.SignBody(id, text))
	if err != nil {
		return nil, err
	}
	return signedNote(text, signatures), nil
}

// VerifierKeys are the verifier keys (C2SP signed-note, `name+hash+base64`) of all checkpoints and manifests that keyd
// signs, those of earlier epochs included: the lines of a trust file.
func (c *Client) VerifierKeys(ctx context.Context) ([]string, error) {
	keys, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, k := range keys {
		for _, o := range k.Origins {
			lines = append(lines, o.VerifierKeys...)
		}
	}
	return lines, nil
}

// noteKey finds the key of that purpose that has such an origin.
func (c *Client) noteKey(p Purpose, matches func(Origin) bool) (wire.KeyID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.keys {
		if k.Purpose == p && k.Current && slices.ContainsFunc(k.Origins, matches) {
			return wire.ID(k.Public)
		}
	}
	return wire.KeyID{}, fmt.Errorf("%w: purpose %s: %w", ErrRefused, p, ErrNoKey)
}

func signedNote(text, signatures []byte) []byte {
	return slices.Concat(text, []byte("\n"), signatures)
}

func parsePosition(text []byte) (Position, error) {
	cp, err := wire.ParseCheckpoint(text)
	if err != nil {
		return Position{}, fmt.Errorf("reading keyd's position: %w", err)
	}
	return Position(cp), nil
}

// asConflict is the error of an answer with code conflict.
func asConflict(text []byte) error {
	p, err := parsePosition(text)
	if err != nil {
		return err
	}
	return &Conflict{p}
}
