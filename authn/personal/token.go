package personal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"time"
)

// Token is what is known of one personal token; the token itself nobody has but who made it.
type Token struct {
	ID      string   // public name, for records and lists: tells nothing about the token
	Owner   string   // provider|subject
	Name    string   // what the owner calls it
	Apps    []string // names of the apps that it is good for, or [Any]
	Methods []string // HTTP methods that it is good for, or [Any]
	Created time.Time
	Expires time.Time
	Used    time.Time // to the minute; zero: never
	Ended   time.Time // when it was revoked; zero: it was not
}

// Any, as the one element of Apps or Methods, stands for all that the owner may use.
const Any = "*"

// State is what became of a token.
type State string

// The states of a token.
const (
	Active  State = "active"
	Expired State = "expired"
	Revoked State = "revoked"
)

// State is the token's at a time.
func (t *Token) State(now time.Time) State {
	switch {
	case !t.Ended.IsZero():
		return Revoked
	case !now.Before(t.Expires):
		return Expired
	}
	return Active
}

// Prefix begins every personal token, so that people and secret scanners know one when they see it.
const Prefix = "sallyport_pat_"

const (
	secretBytes   = 20 // 160 random bits: nobody guesses one, so a plain hash is all that need be kept
	checksumBytes = 5  // the last is zero: 200 bits are 40 letters, without padding
)

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Hash is all that is stored of a token: its SHA-256.
type Hash [sha256.Size]byte

// newSecret makes a token.
func newSecret() (secret string, hash Hash) {
	var b [secretBytes]byte
	rand.Read(b[:])
	secret = spell(b)
	return secret, sha256.Sum256([]byte(secret))
}

func spell(b [secretBytes]byte) string {
	return Prefix + letters.EncodeToString(append(b[:], checksum(b[:])...))
}

// checksum tells tokens from what was cut or mistyped, and lets strangers' guesses go without a look into the store. It
// keeps nothing secret.
func checksum(b []byte) []byte {
	sum := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(append([]byte(Prefix), b...)))
	return append(sum, make([]byte, checksumBytes-len(sum))...)
}

// Is reports whether a credential has the form of a personal token, right or wrong.
func Is(credential string) bool { return strings.HasPrefix(credential, Prefix) }

// read is the hash of a token that is spelt as we spell them.
func read(secret string) (hash Hash, ok bool) {
	body, found := strings.CutPrefix(secret, Prefix)
	if !found || len(body) != letters.EncodedLen(secretBytes+checksumBytes) {
		return hash, false
	}
	decoded, err := letters.DecodeString(body)
	if err != nil || spell([secretBytes]byte(decoded[:secretBytes])) != secret {
		return hash, false
	}
	return sha256.Sum256([]byte(secret)), true
}
