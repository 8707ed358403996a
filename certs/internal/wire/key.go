package wire

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"
)

// Purpose is the one thing a key is for.
type Purpose string

// The purposes of this version.
const (
	TLSServer   Purpose = "tls-server"   // server side of TLS 1.3 handshakes
	TLSClient   Purpose = "tls-client"   // client side of TLS 1.3 handshakes: the gateway towards its apps
	Assertion   Purpose = "assertion"    // the gateway's word to an app about who is asking
	OIDCClient  Purpose = "oidc-client"  // private_key_jwt at an identity provider
	Checkpoints Purpose = "checkpoint"   // states of the audit logs, each a continuation of the last
	Manifests   Purpose = "manifest"     // manifests of evidence bundles
	ACMEAccount Purpose = "acme-account" // requests to a certificate authority (RFC 8555 §6.2)
)

// KeyID names a key by its public half: the JWK thumbprint of RFC 7638 with SHA-256. A request names keys by id and by
// nothing else, so a key that was replaced under its old name is an unknown key, not a wrong signature.
type KeyID [sha256.Size]byte

// String is the id as a `kid`: base64url without padding.
func (id KeyID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ID returns the id of a public key: ECDSA on P-256 or P-384, Ed25519, or RSA.
func ID(pub crypto.PublicKey) (KeyID, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	// RFC 7638 §3.2: required members only, in lexicographic order, no whitespace.
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		curve, err := curveName(pub.Curve)
		if err != nil {
			return KeyID{}, err
		}
		point, err := pub.Bytes() // 0x04 ‖ x ‖ y
		if err != nil {
			return KeyID{}, err
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		return sha256.Sum256(fmt.Appendf(nil, `{"crv":%q,"kty":"EC","x":%q,"y":%q}`, curve, b64(x), b64(y))), nil
	case ed25519.PublicKey:
		return sha256.Sum256(fmt.Appendf(nil, `{"crv":"Ed25519","kty":"OKP","x":%q}`, b64(pub))), nil
	case *rsa.PublicKey:
		e := big.NewInt(int64(pub.E)).Bytes()
		return sha256.Sum256(fmt.Appendf(nil, `{"e":%q,"kty":"RSA","n":%q}`, b64(e), b64(pub.N.Bytes()))), nil
	}
	return KeyID{}, fmt.Errorf("unsupported public key %T", pub)
}

func curveName(c elliptic.Curve) (string, error) {
	switch c {
	case elliptic.P256():
		return "P-256", nil
	case elliptic.P384():
		return "P-384", nil
	}
	return "", fmt.Errorf("unsupported curve %s", c.Params().Name)
}

// Key is one key in the answer to `list`.
type Key struct {
	Name     string   `json:"name"`
	Purpose  Purpose  `json:"purpose"`
	ID       string   `json:"id"`
	Public   []byte   `json:"public"` // SubjectPublicKeyInfo, DER
	Names    []string `json:"names,omitzero"`
	ClientID string   `json:"client_id,omitzero"`
	Origins  []Origin `json:"origins,omitzero"`
	TLS12    bool     `json:"tls12,omitzero"` // a tls-server key that serves TLS 1.2 too
	// Generation tells keys of one name apart, from 1. Current is the one to make new signatures with; the others of that
	// name will be (if their generation is greater) or were, and sign as well until Retires.
	Generation int       `json:"generation"`
	Current    bool      `json:"current"`
	Since      time.Time `json:"since,omitzero"`    // when it was announced, became the current one or began to retire; unknown of a first generation
	Retires    time.Time `json:"retires,omitzero"`  // when it is destroyed
	Announce   int       `json:"announce,omitzero"` // seconds for which a successor is in the list before it signs
}

// Origin is a name under which a key signs notes: a log's, with its epochs, or that of manifests.
type Origin struct {
	Base  string `json:"base"`   // as configured
	InUse string `json:"in_use"` // Base, or that of a later epoch; empty if keyd lost what it knew of the log
	// VerifierKeys are the verifier keys of C2SP signed-note, `name+hash+base64`: of each epoch, the one in use last.
	VerifierKeys []string `json:"verifier_keys,omitzero"`
}

// List is the answer to `list`.
type List struct {
	Keys  []Key  `json:"keys"`
	Slots []Slot `json:"slots"`
}

// Slot is a key of the configuration, whatever its generations are. A managed tls-server key may have none.
type Slot struct {
	Name    string   `json:"name"`
	Purpose Purpose  `json:"purpose"`
	Names   []string `json:"names,omitzero"`
	Managed bool     `json:"managed,omitzero"`
}

// CSRRequest is the body of `make_csr`.
type CSRRequest struct {
	Slot  string   `json:"slot"`
	Names []string `json:"names"` // DNS names for the certificate
}

// RotateRequest is the body of `rotate`.
type RotateRequest struct {
	Name string `json:"name"`
	Now  bool   `json:"now"` // do not wait until everybody has seen the new key
}

// Rotation is the answer to `rotate`.
type Rotation struct {
	Name       string    `json:"name"`
	Generation int       `json:"generation"` // the new one
	ID         string    `json:"id"`
	Current    time.Time `json:"current"` // when it is used, or since when
	Retires    time.Time `json:"retires"` // when the one before is destroyed
}
