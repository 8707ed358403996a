package keyd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
)

// refusal is why a message is not signed. It is a sentence for a log and never quotes the message.
type refusal string

func (r refusal) Error() string { return string(r) }

// side is an end of a handshake as RFC 8446 §4.4.3 names it. A key has one, so that neither end's key can be made to
// sign for the other.
type side string

const (
	serverSide side = "server"
	clientSide side = "client"
)

// certificateVerify is what every CertificateVerify message of a side begins with: RFC 8446 §4.4.3. The 64 spaces and
// the context string keep it apart from TLS 1.2, from the other side's, and from any DER or JWT.
func (s side) certificateVerify() string {
	return strings.Repeat(" ", 64) + "TLS 1.3, " + string(s) + " CertificateVerify\x00"
}

// check accepts the content covered by the signature of one side of TLS 1.3, and nothing else: after the prefix comes a
// transcript hash, SHA-256 or SHA-384 by cipher suite (RFC 8446 §B.4).
func (s side) check(message []byte) error {
	transcript, ok := strings.CutPrefix(string(message), s.certificateVerify())
	if !ok || len(transcript) != 32 && len(transcript) != 48 {
		return refusal("not a TLS 1.3 " + string(s) + " CertificateVerify message")
	}
	return nil
}

// tlsSigner returns how a key signs the messages that check accepts.
func tlsSigner(private crypto.Signer, check func(message []byte) error) (func(message []byte) ([]byte, error), error) {
	opts, err := tlsOptions(private.Public())
	if err != nil {
		return nil, err
	}
	return func(message []byte) ([]byte, error) {
		if err := check(message); err != nil {
			return nil, err
		}
		return crypto.SignMessage(private, rand.Reader, message, opts)
	}, nil
}

// tlsOptions are hash and padding. They follow from the key alone, so that nobody can ask for PKCS #1 v1.5 or a weaker
// hash: RFC 8446 §4.2.3, and the same in TLS 1.2.
func tlsOptions(public crypto.PublicKey) (crypto.SignerOpts, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return crypto.SHA256, nil
		case elliptic.P384():
			return crypto.SHA384, nil
		}
		return nil, errors.New("want curve P-256 or P-384")
	case ed25519.PublicKey:
		return crypto.Hash(0), nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return nil, fmt.Errorf("RSA key of %d bits, want 2048 to 8192", n)
		}
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}, nil
	}
	return nil, fmt.Errorf("unsupported public key %T", public)
}
