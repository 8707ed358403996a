package keyd

import (
	"crypto"
	"crypto/sha256"
)

// acmeSigner returns how an account's key signs. The ACME library hands its signers digests, so that this is the one
// operation in which keyd does not see what it signs: RFC 8555 §6.2 requires a key that is nothing else's, and so does keyd.
func acmeSigner(private crypto.Signer) (func(digest []byte) ([]byte, error), error) {
	if err := checkES256(private.Public()); err != nil {
		return nil, err
	}
	return func(digest []byte) ([]byte, error) {
		if len(digest) != sha256.Size {
			return nil, refusal("not a SHA-256 digest")
		}
		return signES256(private, digest)
	}, nil
}
