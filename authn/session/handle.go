package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// A handle is 20 random bytes and a 12-byte tag over them, in base64url. The random bytes are the credential: whoever
// does not know them finds no session. The tag only keeps strangers away from the store: a value that we never made is
// recognised without looking anything up, so random cookies cost no memory and no disk.
const (
	handleRandom = 20
	handleTag    = 12
	handleLength = (handleRandom+handleTag)/3*4 + 3 // 43 characters without padding
)

// newHandle makes a handle and the hash under which it is stored.
func (k *Keeper) newHandle() (string, Hash) {
	raw := make([]byte, handleRandom, handleRandom+handleTag)
	rand.Read(raw) // never fails
	raw = append(raw, k.keys.newest().tag(raw)...)
	handle := base64.RawURLEncoding.EncodeToString(raw)
	return handle, sha256.Sum256([]byte(handle))
}

// hashHandle hashes the text as it came: only the exact characters that we handed out find a session.
func hashHandle(handle string) (Hash, bool) {
	if len(handle) != handleLength {
		return Hash{}, false
	}
	var text [handleLength]byte
	copy(text[:], handle)
	return sha256.Sum256(text[:]), true
}

// made says whether one of our keys tagged the handle.
func (k *Keeper) made(handle string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(handle)
	if err != nil || len(raw) != handleRandom+handleTag {
		return false
	}
	for _, key := range k.keys {
		if hmac.Equal(raw[handleRandom:], key.tag(raw[:handleRandom])) {
			return true
		}
	}
	return false
}

func (key *sealKey) tag(random []byte) []byte {
	mac := hmac.New(sha256.New, key.handles)
	mac.Write(random)
	return mac.Sum(nil)[:handleTag]
}
