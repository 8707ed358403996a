package jwks

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	jose "github.com/go-jose/go-jose/v4"

	"sallyport/authn/remote"
)

// Bounds of RSA keys: less is weak (RFC 7518 §3.3), more makes a verification expensive.
const (
	minRSA = 2048
	maxRSA = 8192
	maxKid = 1 << 10
)

// algorithms are those by which a public key alone verifies, and which keys they are for.
var algorithms = map[string]func(crypto.PublicKey) bool{
	"RS256": isRSA, "RS384": isRSA, "RS512": isRSA,
	"PS256": isRSA, "PS384": isRSA, "PS512": isRSA,
	"ES256": onCurve(elliptic.P256()), "ES384": onCurve(elliptic.P384()), "ES512": onCurve(elliptic.P521()),
	"EdDSA": isEd25519,
}

// Algorithms are the signature algorithms that a set knows keys for.
func Algorithms() []string {
	names := make([]string, 0, len(algorithms))
	for name := range algorithms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func isRSA(k crypto.PublicKey) bool     { _, ok := k.(*rsa.PublicKey); return ok }
func isEd25519(k crypto.PublicKey) bool { _, ok := k.(ed25519.PublicKey); return ok }

func onCurve(c elliptic.Curve) func(crypto.PublicKey) bool {
	return func(k crypto.PublicKey) bool { ec, ok := k.(*ecdsa.PublicKey); return ok && ec.Curve == c }
}

// key is a usable key: it verifies the algorithm that it is for, or every one of its kind when the issuer does not say.
type key struct {
	public crypto.PublicKey
	alg    string
}

func (k key) verifies(alg string) bool {
	fits := algorithms[alg]
	return fits != nil && fits(k.public) && (k.alg == "" || k.alg == alg)
}

// find returns the one key that kid and alg name; nil when there is none, or a choice.
func (s *snapshot) find(kid, alg string) crypto.PublicKey {
	if kid != "" {
		return only(s.keys[kid], alg)
	}
	var all []key // OpenID Connect Core §10.1: a kid is needed as soon as there is a choice
	for _, keys := range s.keys {
		all = append(all, keys...)
	}
	return only(all, alg)
}

func only(keys []key, alg string) (found crypto.PublicKey) {
	for _, k := range keys {
		if !k.verifies(alg) {
			continue
		}
		if found != nil && !sameKey(found, k.public) {
			return nil
		}
		found = k.public
	}
	return found
}

func sameKey(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// VerifySignature verifies a JWT in compact form by the key that its header names and returns its payload. It is go-oidc's
// KeySet; which algorithms may be used at all, its verifier knows.
func (s *Set) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	parsed, err := jose.ParseSignedCompact(jwt, accepted())
	if err != nil {
		return nil, fmt.Errorf("reading token: %w", err)
	}
	header := parsed.Signatures[0].Header
	public, err := s.Key(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return nil, err
	}
	payload, err := parsed.Verify(public)
	if err != nil {
		return nil, ErrSignature
	}
	return payload, nil
}

// ErrSignature is a signature that the key named does not verify.
var ErrSignature = errors.New("signature is not that of the key")

func accepted() []jose.SignatureAlgorithm {
	names := Algorithms()
	all := make([]jose.SignatureAlgorithm, len(names))
	for i, name := range names {
		all[i] = jose.SignatureAlgorithm(name)
	}
	return all
}

// download fetches the keys, and where they are when that is not configured.
func (s *Set) download(ctx context.Context) (map[string][]key, error) {
	at := s.cfg.URL
	if at == "" {
		var err error
		if at, err = s.locate(ctx); err != nil {
			return nil, err
		}
	}
	body, err := s.get(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("fetching keys: %w", err)
	}
	return parse(body)
}

// locate reads where the issuer keeps its keys. The issuer must be the one that we asked for (OpenID Connect Discovery §4.3).
func (s *Set) locate(ctx context.Context) (string, error) {
	issuer, err := remote.ParseBase(s.cfg.Issuer)
	if err != nil {
		return "", fmt.Errorf("issuer %w", err)
	}
	body, err := s.get(ctx, strings.TrimSuffix(s.cfg.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", fmt.Errorf("discovering the issuer: %w", err)
	}
	document := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &document); err != nil {
		return "", errors.New("discovery is no JSON object")
	}
	var says, keys string
	if json.Unmarshal(document["issuer"], &says) != nil || says != s.cfg.Issuer {
		return "", errors.New("discovery names another issuer")
	}
	if json.Unmarshal(document["jwks_uri"], &keys) != nil || !remote.AllowedEndpoint(keys, issuer) {
		return "", errors.New("discovery names no jwks_uri that may be called")
	}
	return keys, nil
}

func (s *Set) get(ctx context.Context, at string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, errors.New("bad URL")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-cache")
	resp, err := s.cfg.Client.Do(req)
	if err != nil {
		return nil, bare(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d", resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, remote.MaxAnswer+1))
}

// bare leaves out the URL, which the log names otherwise.
func bare(err error) error {
	if call, ok := errors.AsType[*url.Error](err); ok {
		return call.Err
	}
	return err
}

// parse reads a JWK set (RFC 7517 §5). Keys that we cannot or must not use are left out, as the RFC wants it; what is no set
// at all is an error.
func parse(body []byte) (map[string][]key, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&set); err != nil || set.Keys == nil {
		return nil, errors.New("answer is no key set")
	}
	if len(*set.Keys) > MaxKeys {
		return nil, fmt.Errorf("key set holds %d keys, want at most %d", len(*set.Keys), MaxKeys)
	}
	keys := map[string][]key{}
	for _, raw := range *set.Keys {
		if kid, k, ok := parseKey(raw); ok {
			keys[kid] = append(keys[kid], k)
		}
	}
	return keys, nil
}

// published is a JWK without what is private, and without certificates: those say nothing that the set does not.
type published struct {
	Kty string   `json:"kty,omitempty"`
	Use string   `json:"use,omitempty"`
	Ops []string `json:"key_ops,omitempty"`
	Alg string   `json:"alg,omitempty"`
	Kid string   `json:"kid,omitempty"`
	Crv string   `json:"crv,omitempty"`
	X   string   `json:"x,omitempty"`
	Y   string   `json:"y,omitempty"`
	N   string   `json:"n,omitempty"`
	E   string   `json:"e,omitempty"`
}

// parseKey reads one key that may verify signatures.
func parseKey(raw json.RawMessage) (kid string, _ key, ok bool) {
	var j published
	if json.Unmarshal(raw, &j) != nil || len(j.Kid) > maxKid {
		return "", key{}, false
	}
	if j.Use != "" && j.Use != "sig" || len(j.Ops) > 0 && !slices.Contains(j.Ops, "verify") { // RFC 7517 §4.2, §4.3
		return "", key{}, false
	}
	if j.Alg != "" && algorithms[j.Alg] == nil {
		return "", key{}, false
	}
	clean, err := json.Marshal(published{Kty: j.Kty, Crv: j.Crv, X: j.X, Y: j.Y, N: j.N, E: j.E})
	if err != nil {
		return "", key{}, false
	}
	var parsed jose.JSONWebKey
	if parsed.UnmarshalJSON(clean) != nil || !strong(parsed.Key) {
		return "", key{}, false
	}
	k := key{parsed.Key, j.Alg}
	return j.Kid, k, j.Alg == "" || k.verifies(j.Alg)
}

// strong accepts keys of the kinds that algorithms name, of a size that is worth verifying by.
func strong(k crypto.PublicKey) bool {
	switch k := k.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		return bits >= minRSA && bits <= maxRSA && k.E >= 3 && k.E%2 == 1
	case *ecdsa.PublicKey:
		return true // the parser has seen that the point is on a curve that it knows
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize
	}
	return false
}
