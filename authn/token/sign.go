// Package token makes the tokens that Sallyport itself issues: the assertion by which an app learns who is asking, and
// the claims that prove to an identity provider which client is asking.
//
// A [Minter] hands out assertions and remembers them for as long as they may be reused; [JWKS] is the document by which
// apps check them. [Sign] turns any claims into a JWT signed by a key that lives in another process.
//
// A [Verifier] reads the tokens that programs show in place of a sign-in, of the issuers that the configuration names.
package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// Signer is a private key held elsewhere that signs JWTs and nothing else.
//
// SignJWT receives the whole JWS signing input (RFC 7515 §5.1: header "." payload) rather than a digest, so that the
// holder can see what it signs, and returns the signature as JWS wants it: R and S of 32 bytes each for ES256 (RFC 7518
// §3.4). It may be called at once from many goroutines and gives up when ctx ends.
type Signer interface {
	KeyID() string
	Public() crypto.PublicKey
	SignJWT(ctx context.Context, signingInput []byte) (signature []byte, err error)
}

// Rotating is a Signer that stands for one key after another. Sign asks once for each token, so that its header and its
// signature are of the same key.
type Rotating interface {
	Signer
	// Current is the key to sign with now.
	Current() Signer
}

// Sign returns claims as a compact JWT (RFC 7519) with header typ "JWT", the signer's key id and alg ES256. Keys other
// than P-256 are refused.
func Sign(ctx context.Context, signer Signer, claims jwt.Claims) (string, error) {
	if r, ok := signer.(Rotating); ok {
		signer = r.Current()
	}
	method, err := methodFor(signer)
	if err != nil {
		return "", err
	}
	t := jwt.NewWithClaims(method, claims)
	t.Header["kid"] = signer.KeyID()
	signed, err := t.SignedString(call{ctx, signer})
	if err != nil {
		return "", fmt.Errorf("signing a token with key %q: %w", signer.KeyID(), err)
	}
	return signed, nil
}

func methodFor(signer Signer) (jwt.SigningMethod, error) {
	key, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key %q cannot sign tokens: want ECDSA P-256", signer.KeyID())
	}
	return remoteES256{jwt.SigningMethodES256}, nil
}

// remoteES256 is golang-jwt's ES256 with the signature made by a [Signer]: the library's own takes only concrete
// private keys. Verifying and the name of the algorithm stay the library's.
type remoteES256 struct{ *jwt.SigningMethodECDSA }

// call is the "key" that golang-jwt carries to [remoteES256.Sign], which knows no context.
type call struct {
	ctx    context.Context
	signer Signer
}

func (remoteES256) Sign(signingInput string, key any) ([]byte, error) {
	c, ok := key.(call)
	if !ok {
		return nil, jwt.ErrInvalidKeyType
	}
	sig, err := c.signer.SignJWT(c.ctx, []byte(signingInput))
	if err != nil {
		return nil, err
	}
	if len(sig) != 64 {
		return nil, errors.New("signer returned something that is no ES256 signature")
	}
	return sig, nil
}
