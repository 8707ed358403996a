package keyd

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"sallyport/certs/internal/wire"
)

// noteSigner signs notes under one name: C2SP signed-note, Ed25519.
type noteSigner struct {
	note.Verifier
	private crypto.Signer
}

// newNoteSigner demands an Ed25519 key: the one algorithm that everybody who reads signed notes knows.
func newNoteSigner(name string, private crypto.Signer) (noteSigner, error) {
	line, err := verifierKey(name, private.Public())
	if err != nil {
		return noteSigner{}, err
	}
	v, err := note.NewVerifier(line)
	return noteSigner{v, private}, err
}

// Sign implements note.Signer.
func (s noteSigner) Sign(text []byte) ([]byte, error) {
	return s.private.Sign(rand.Reader, text, crypto.Hash(0))
}

// signatures returns what follows the text and the empty line of a note: one line.
func (s noteSigner) signatures(text []byte) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: string(text)}, s)
	if err != nil {
		return nil, err
	}
	return signed[len(text)+len("\n"):], nil
}

// verifierKey is the public half as a trust file shows it, `name+hash+base64`.
func verifierKey(name string, public crypto.PublicKey) (string, error) {
	k, ok := public.(ed25519.PublicKey)
	if !ok {
		return "", errors.New("want an Ed25519 key")
	}
	return note.NewEd25519VerifierKey(name, k)
}

// verifierKeys are the verifier keys of all epochs up to the given one.
func verifierKeys(base string, epoch uint64, public crypto.PublicKey) ([]string, error) {
	var lines []string
	for n := uint64(1); n <= epoch; n++ {
		line, err := verifierKey(wire.EpochOrigin(base, n), public)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// manifestSigner returns how a key signs the manifests of evidence bundles under its name: the texts of
// wire.ManifestText, byte by byte, and nothing else.
func manifestSigner(name string, private crypto.Signer) (func(text []byte) ([]byte, error), error) {
	s, err := newNoteSigner(name, private)
	if err != nil {
		return nil, err
	}
	return func(text []byte) ([]byte, error) {
		if err := checkManifest(name, text); err != nil {
			return nil, err
		}
		return s.signatures(text)
	}, nil
}

// checkManifest reads the sum at the end and compares with the one text that has it.
func checkManifest(name string, text []byte) error {
	bad := refusal("not the note of a manifest under this key's name")
	last := strings.TrimSuffix(string(text), "\n")
	sum, err := hex.DecodeString(last[max(0, len(last)-64):])
	if err != nil || len(sum) != 32 || string(text) != string(wire.ManifestText(name, [32]byte(sum))) {
		return bad
	}
	return nil
}
