package fakeidp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Key is a key that the provider signs with.
type Key struct {
	ID      string
	Method  jwt.SigningMethod
	Private crypto.Signer
}

// methods are the algorithms that the provider can sign with, and how their keys are made.
var methods = map[string]func() (crypto.Signer, error){
	"ES256": onCurve(elliptic.P256()), "ES384": onCurve(elliptic.P384()), "ES512": onCurve(elliptic.P521()),
	"RS256": newRSA, "RS384": newRSA, "RS512": newRSA, "PS256": newRSA, "PS384": newRSA, "PS512": newRSA,
	"EdDSA": func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err },
}

func newRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }

func onCurve(c elliptic.Curve) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) }
}

// NewKey makes a key for an algorithm such as RS256, with an id of its own. It is published by nobody.
func NewKey(alg string) *Key {
	private, err := methods[alg]()
	if err != nil {
		panic(err)
	}
	return &Key{ID: rand.Text(), Method: jwt.GetSigningMethod(alg), Private: private}
}

// Sign signs claims with the key.
func (k *Key) Sign(claims jwt.Claims) string { return Sign(k.Method, k.ID, claims, k.Private) }

// JWK is the public half as a provider publishes it (RFC 7518 §6).
func (k *Key) JWK() map[string]any {
	b64 := base64.RawURLEncoding.EncodeToString
	j := map[string]any{"use": "sig", "alg": k.Method.Alg(), "kid": k.ID}
	switch public := k.Private.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 0x04 ‖ X ‖ Y
		if err != nil {
			panic(err)
		}
		half := 1 + len(point)/2
		j["kty"], j["crv"], j["x"], j["y"] = "EC", public.Params().Name, b64(point[1:half]), b64(point[half:])
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", b64(public)
	default:
		panic(fmt.Sprintf("no JWK for %T", public))
	}
	return j
}

// Rotate replaces the signing key by an ES256 key; the old ones are no longer published.
func (p *Provider) Rotate() { p.UseKeys(NewKey("ES256")) }

// UseKeys makes these the published keys. The first signs.
func (p *Provider) UseKeys(keys ...*Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = slices.Clone(keys)
}

// Keys are the published keys. The first signs.
func (p *Provider) Keys() []*Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.keys)
}

// Key is the current signing key, which must be an ECDSA one as it is from the start, and its id.
func (p *Provider) Key() (*ecdsa.PrivateKey, string) {
	key := p.Keys()[0]
	return key.Private.(*ecdsa.PrivateKey), key.ID
}

// Sign signs claims with a key and key id of the test's choice.
func Sign(method jwt.SigningMethod, kid string, claims jwt.Claims, key any) string {
	header := map[string]any{}
	if kid != "" {
		header["kid"] = kid
	}
	return SignWith(method, header, claims, key)
}

// SignWith signs claims under a header of the test's choice, beside typ and alg; nil values remove those.
func SignWith(method jwt.SigningMethod, header map[string]any, claims jwt.Claims, key any) string {
	t := jwt.NewWithClaims(method, claims)
	for name, value := range header {
		if t.Header[name] = value; value == nil {
			delete(t.Header, name)
		}
	}
	signed, err := t.SignedString(key)
	if err != nil {
		panic(err)
	}
	return signed
}

func (p *Provider) jwks(s Script, w http.ResponseWriter, r *http.Request) {
	if s.JWKS != nil && s.JWKS(w, r) {
		return
	}
	published := []map[string]any{}
	for _, k := range p.Keys() {
		published = append(published, k.JWK())
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": published})
}
