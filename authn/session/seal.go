package session

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// A sealed text is base64url(version ‖ key id ‖ nonce ‖ XChaCha20-Poly1305 ciphertext). The nonce is random, which its
// 24 bytes allow for any number of messages (draft-irtf-cfrg-xchacha-03 §2). Version, key id and purpose are
// authenticated, so that a text sealed for one purpose opens for no other.
const (
	sealVersion = 1
	sealHead    = 1 + 4 // version, key id
)

// sealKey is a key of the store, split by HKDF (RFC 5869) into one key per use.
type sealKey struct {
	id      uint32
	aead    cipher.AEAD
	handles []byte // tags handles
}

// keyring holds the keys newest first: the newest seals, all of them open.
type keyring []*sealKey

func newKeyring(keys []SealingKey) (keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("the store holds no sealing key")
	}
	var ring keyring
	for _, key := range keys {
		seal, err := hkdf.Key(sha256.New, key.Secret[:], nil, "sallyport session seal", chacha20poly1305.KeySize)
		if err != nil {
			return nil, fmt.Errorf("deriving sealing key: %w", err)
		}
		handles, err := hkdf.Key(sha256.New, key.Secret[:], nil, "sallyport session handle", sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("deriving handle key: %w", err)
		}
		aead, err := chacha20poly1305.NewX(seal)
		if err != nil {
			return nil, fmt.Errorf("using sealing key: %w", err)
		}
		ring = append(ring, &sealKey{id: key.ID, aead: aead, handles: handles})
	}
	return ring, nil
}

func (ring keyring) newest() *sealKey { return ring[0] }

func (ring keyring) find(id uint32) *sealKey {
	for _, key := range ring {
		if key.id == id {
			return key
		}
	}
	return nil
}

// Seal encrypts and authenticates a text that only Open with the same purpose reads, here or in any gateway on the
// same store. The result is made of letters, digits, "-" and "_", and is 60 characters plus four for three bytes long.
// Nothing in it expires: the caller puts a time inside.
func (k *Keeper) Seal(purpose string, plaintext []byte) string {
	key := k.keys.newest()
	head := make([]byte, sealHead, sealHead+key.aead.NonceSize()+len(plaintext)+key.aead.Overhead())
	head[0] = sealVersion
	binary.BigEndian.PutUint32(head[1:], key.id)
	nonce := make([]byte, key.aead.NonceSize())
	rand.Read(nonce) // never fails
	box := append(head, nonce...)
	box = key.aead.Seal(box, nonce, plaintext, associated(head, purpose))
	return base64.RawURLEncoding.EncodeToString(box)
}

// Open returns what was sealed for the purpose, or ErrSealed. Every sealed text has one spelling: no other opens.
func (k *Keeper) Open(purpose, sealed string) ([]byte, error) {
	if strings.ContainsAny(sealed, "\r\n") { // which encoding/base64 would skip
		return nil, ErrSealed
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(box) < sealHead+chacha20poly1305.NonceSizeX || box[0] != sealVersion {
		return nil, ErrSealed
	}
	head, rest := box[:sealHead], box[sealHead:]
	key := k.keys.find(binary.BigEndian.Uint32(head[1:]))
	if key == nil {
		return nil, ErrSealed
	}
	nonce, ciphertext := rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:]
	plaintext, err := key.aead.Open(nil, nonce, ciphertext, associated(head, purpose))
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

func associated(head []byte, purpose string) []byte {
	return append(append(make([]byte, 0, sealHead+len(purpose)), head[:sealHead]...), purpose...)
}
