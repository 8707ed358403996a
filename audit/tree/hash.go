// Package tree is the Merkle tree over a log's records: RFC 6962 hashes, tiles and entry bundles in the layout of C2SP
// tlog-tiles, signed checkpoints (tlog-checkpoint, signed-note) and proofs.
//
// It knows nothing of records or segments: a leaf is a run of bytes, and its index is its place in the log. It never signs.
package tree

import (
	"crypto/sha256"
	"encoding/base64"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is the hash of a leaf or of a subtree (RFC 6962 §2.1).
type Hash [sha256.Size]byte

// String is the hash in base64, as checkpoints and proofs write it.
func (h Hash) String() string { return base64.StdEncoding.EncodeToString(h[:]) }

// EmptyRoot is the root of a tree without leaves: SHA-256 of nothing.
var EmptyRoot = Hash(sha256.Sum256(nil))

// HashLeaf is the hash of one leaf: SHA-256(0x00 ‖ leaf).
func HashLeaf(leaf []byte) Hash {
	h := sha256.New()
	h.Write(leafPrefix)
	h.Write(leaf)
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

var leafPrefix = []byte{0}

// HashChildren is the hash of a subtree: SHA-256(0x01 ‖ left ‖ right).
func HashChildren(left, right Hash) Hash {
	return Hash(tlog.NodeHash(tlog.Hash(left), tlog.Hash(right)))
}
