package token

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// JWKS returns the JSON Web Key Set (RFC 7517 §5) of the given keys. The first is the one that signs; further ones are
// published so that apps know them before and after a change of keys.
func JWKS(keys ...Signer) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: make([]jwk, 0, len(keys))}
	for _, key := range keys {
		j, err := publicJWK(key)
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, j)
	}
	return json.Marshal(set)
}

// jwk is the public half of a P-256 key (RFC 7518 §6.2.1).
type jwk struct {
	KeyType   string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

func publicJWK(key Signer) (jwk, error) {
	if _, err := methodFor(key); err != nil {
		return jwk{}, err
	}
	point, err := key.Public().(*ecdsa.PublicKey).Bytes() // 0x04 ‖ X ‖ Y
	if err != nil {
		return jwk{}, fmt.Errorf("public key %q: %w", key.KeyID(), err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return jwk{
		KeyType: "EC", Use: "sig", Algorithm: "ES256", KeyID: key.KeyID(),
		Curve: "P-256", X: b64(point[1:33]), Y: b64(point[33:]),
	}, nil
}
