package keyd

import "crypto"

// keyKind is an algorithm that keyd makes keys of.
type keyKind string

// The kinds. Signatures of P-256 cost least; notes are signed with Ed25519, what every reader of them knows.
const (
	kindP256    keyKind = "p256"
	kindP384    keyKind = "p384"
	kindEd25519 keyKind = "ed25519"
	kindRSA2048 keyKind = "rsa2048"
)

// backend is where private keys are. A key has a reference there, for life: the name of a file below the key folder, the
// label of an object in a token. Implementations serve several goroutines at once.
type backend interface {
	// open returns the key under a reference. What it returns signs digests (crypto.Signer), except Ed25519 keys, which sign
	// whole messages (crypto.Hash(0)); nobody but key.sign calls it.
	open(ref string) (crypto.Signer, error)
	// generate makes a key under a reference that is free, durable on return, and returns it. One that exists is an error
	// that wraps fs.ErrExist and changes nothing.
	generate(ref string, kind keyKind) (crypto.Signer, error)
	// destroy removes the key for good, durable on return. A reference under which nothing is, is no error.
	destroy(ref string) error
	// close releases what open gave; keys that it returned sign no more.
	close() error
}
