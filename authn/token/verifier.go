package token

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/authn/jwks"
	"sallyport/authn/remote"
	"sallyport/authn/session"
)

// Codes of refused tokens.
const (
	CodeMalformed   = "token_malformed"    // no JWT that everybody reads alike
	CodeHeader      = "token_header"       // typ, crit or b64 ask for what we do not do
	CodeIssuer      = "token_issuer"       // of no configured issuer
	CodeAlgorithm   = "token_algorithm"    // one that the issuer does not sign with
	CodeKey         = "token_key"          // the issuer publishes no such key for the algorithm
	CodeSignature   = "token_signature"    // not the issuer's
	CodeAudience    = "token_audience"     // meant for somebody else
	CodeTimes       = "token_times"        // exp or iat is missing, or a time is no number
	CodeTokenExpiry = "token_expired"      // exp has passed
	CodeNotYet      = "token_not_yet"      // nbf or iat is yet to come
	CodeTooOld      = "token_too_old"      // made longer ago than max_age
	CodeClaim       = "token_claim"        // lacks what require demands
	CodeScopes      = "token_scopes"       // lacks what scopes demands
	CodeSubject     = "token_subject"      // names nobody
	CodeNoKeys      = "issuer_unavailable" // the issuer's keys cannot be had: nothing is known of the token
)

const (
	maxToken = 16 << 10
	maxKid   = 1 << 10
	// reverify is how long a token that was good is believed without looking at its key again: a key that the issuer
	// withdraws is refused this much later than jwks.Refresh says.
	reverify = time.Minute
	// keyTimeout bounds the wait for an issuer's keys.
	keyTimeout = 5 * time.Second
)

// Verifier tells who shows a token of a configured issuer (RFC 7519, RFC 8725). Nothing in a token is followed: the issuer
// is the configured one that iss names exactly, and keys are the configured issuer's. It never changes; a changed
// configuration makes a new one, which forgets what tokens were good.
type Verifier struct {
	issuers map[string]*trusted // by what iss says
	parser  parser
	now     func() time.Time
	memory  Memory[*verified]
}

// parser reads a token and verifies its signature by the key that find returns (jwt.Parser). Tests have worse ones.
type parser interface {
	ParseWithClaims(raw string, into jwt.Claims, find jwt.Keyfunc) (*jwt.Token, error)
}

// trusted is one configured issuer with its keys.
type trusted struct {
	Issuer
	keys keys
}

// keys are an issuer's (jwks.Set).
type keys interface {
	Key(ctx context.Context, kid, alg string) (publicKey, error)
}

type publicKey = any // one of those that jwks.Set returns; none is a secret

// verified is a token that was good.
type verified struct {
	at     time.Time
	bearer *Bearer
}

// VerifierConfig says whose tokens are good.
type VerifierConfig struct {
	Issuers []Issuer
	Log     *slog.Logger
	Now     func() time.Time
	// Previous is the verifier that the new one takes over from: keys of issuers that are asked as before stay known.
	Previous *Verifier
}

// NewVerifier returns a verifier of tokens of the configured issuers. No issuer is asked for anything yet.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	v := &Verifier{issuers: make(map[string]*trusted, len(c.Issuers)), now: c.Now,
		parser: jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())}
	if v.now == nil {
		v.now = time.Now
	}
	for _, cfg := range c.Issuers {
		keys, err := keysOf(cfg, c)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", cfg.Name, err)
		}
		if v.issuers[cfg.Issuer] != nil {
			return nil, fmt.Errorf("issuer %s: %q is there twice", cfg.Name, cfg.Issuer)
		}
		v.issuers[cfg.Issuer] = &trusted{cfg, keys}
	}
	return v, nil
}

func keysOf(cfg Issuer, c VerifierConfig) (keys, error) {
	if c.Previous != nil {
		// A file may hold another authority by now.
		if had := c.Previous.issuers[cfg.Issuer]; had != nil && cfg.CA == "" && cfg.JWKSURI == had.JWKSURI && cfg.Connect == had.Connect && cfg.CA == had.CA {
			return had.keys, nil
		}
	}
	client, err := cfg.client()
	if err != nil {
		return nil, err
	}
	return published{jwks.New(jwks.Config{Issuer: cfg.Issuer, URL: cfg.JWKSURI, Client: client, Now: c.Now, Log: c.Log})}, nil
}

// published are the keys that an issuer publishes.
type published struct{ *jwks.Set }

func (p published) Key(ctx context.Context, kid, alg string) (publicKey, error) {
	return p.Set.Key(ctx, kid, alg)
}

func (i Issuer) client() (*http.Client, error) {
	base, err := remote.ParseBase(i.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return remote.NewClient(remote.Config{Base: base, Connect: i.Connect, CA: i.CA})
}

// Recalls reports whether the token was good when it was last looked at: it is no stranger's guess.
func (v *Verifier) Recalls(raw string) bool {
	_, had := v.memory.Get(sha256.Sum256([]byte(raw)))
	return had
}

// Bearer returns who shows a token, the same value for as long as nothing changed. What there is against a token that is
// not good is a *Refused. A token that was good costs no signature again for a minute.
func (v *Verifier) Bearer(ctx context.Context, raw string) (*Bearer, error) {
	if len(raw) > maxToken {
		return nil, &Refused{Code: CodeMalformed, Err: fmt.Errorf("%d bytes long", len(raw))}
	}
	hash, now := sha256.Sum256([]byte(raw)), v.now()
	had, known := v.memory.Get(hash)
	if known && now.Sub(had.at) < reverify && now.Before(had.bearer.Expires) {
		return had.bearer, nil
	}
	made, err := v.verify(ctx, raw, hash, now)
	if err != nil {
		if known {
			v.memory.Delete(hash)
		}
		return nil, err
	}
	if known && reflect.DeepEqual(had.bearer.Session.Identity, made.Session.Identity) {
		made = had.bearer
	}
	v.memory.Put(hash, &verified{now, made})
	return made, nil
}

// verify checks form, issuer, algorithm, key and signature, in that order, and then what the token says.
func (v *Verifier) verify(ctx context.Context, raw string, hash [sha256.Size]byte, now time.Time) (*Bearer, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	said := claims{}
	var by *trusted
	_, err := v.parser.ParseWithClaims(raw, &said, func(t *jwt.Token) (any, error) {
		var err error
		if by, err = v.issuerOf(t, said); err != nil {
			return nil, err
		}
		return by.key(ctx, t)
	})
	if err != nil {
		return nil, refusal(err)
	}
	return by.bearer(said, hash, now)
}

// issuerOf routes a token by what it says before anything of it is verified: the signature must then be of that very
// issuer's key.
func (v *Verifier) issuerOf(t *jwt.Token, said claims) (*trusted, error) {
	if err := checkHeader(t.Header); err != nil {
		return nil, err
	}
	iss, _ := said["iss"].(string)
	by := v.issuers[iss]
	if by == nil {
		return nil, &Refused{Code: CodeIssuer}
	}
	return by, nil
}

// checkHeader refuses what asks for a processing that we do not do. jku, x5u, jwk and x5c are not looked at: they would let
// a token choose its own key (RFC 8725 §3.10).
func checkHeader(header map[string]any) error {
	if _, has := header["crit"]; has { // RFC 7515 §4.1.11: we understand no extension
		return &Refused{Code: CodeHeader, Err: errors.New("crit is there")}
	}
	if _, has := header["b64"]; has { // RFC 7797 changes what is signed
		return &Refused{Code: CodeHeader, Err: errors.New("b64 is there")}
	}
	typ, has := header["typ"]
	if !has {
		return nil
	}
	// RFC 8725 §3.11: a token of another type was made for another purpose, such as a logout token or a DPoP proof.
	word, _ := typ.(string)
	switch strings.TrimPrefix(strings.ToLower(word), "application/") {
	case "jwt", "at+jwt": // RFC 9068 §2.1
		return nil
	}
	return &Refused{Code: CodeHeader, Err: errors.New("typ is of another kind of token")}
}

// key is the issuer's key that the token names, of the kind that its algorithm needs.
func (i *trusted) key(ctx context.Context, t *jwt.Token) (any, error) {
	alg := t.Method.Alg()
	if !slices.Contains(i.Algorithms, alg) {
		return nil, &Refused{Code: CodeAlgorithm, Err: fmt.Errorf("alg is %q", alg)}
	}
	kid, isText := t.Header["kid"].(string)
	if named := t.Header["kid"] != nil; named && !isText || len(kid) > maxKid {
		return nil, &Refused{Code: CodeHeader, Err: errors.New("kid is no text, or too long")}
	}
	key, err := i.keys.Key(ctx, kid, alg)
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, jwks.ErrUnavailable):
		return nil, &Refused{Code: CodeNoKeys, Err: err}
	}
	return nil, &Refused{Code: CodeKey}
}

// refusal gives what the parser found its code.
func refusal(err error) *Refused {
	if refused, ok := errors.AsType[*Refused](err); ok {
		return refused
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return &Refused{Code: CodeMalformed}
	case errors.Is(err, jwt.ErrTokenUnverifiable): // an alg that nobody knows
		return &Refused{Code: CodeAlgorithm}
	}
	return &Refused{Code: CodeSignature}
}

// idOf is a token's public name: nobody learns the token from it.
func idOf(hash [sha256.Size]byte) string {
	again := sha256.Sum256(hash[:])
	return "jwt_" + strings.ToLower(base32.StdEncoding.EncodeToString(again[:10]))
}

// bearer is who a token names whose signature is good, if it is meant for us, now, and says what it must.
func (i *trusted) bearer(said claims, hash [sha256.Size]byte, now time.Time) (*Bearer, error) {
	for _, check := range []func() *Refused{
		func() *Refused { return i.checkAudience(said) },
		func() *Refused { return i.checkTimes(said, now) },
		func() *Refused { return i.checkRequired(said) },
		func() *Refused { return i.checkScopes(said) },
	} {
		if refused := check(); refused != nil {
			return nil, refused
		}
	}
	who, err := i.identity(said)
	if err != nil {
		return nil, &Refused{Code: CodeSubject, Err: err}
	}
	id := idOf(hash)
	b := &Bearer{ID: id, Kind: Issued, Name: i.Name, Apps: []string{"*"}, Methods: []string{"*"}, Scopes: scopes(said), Expires: i.expires(said),
		Session: session.ForMachine(id, who, now)}
	return b, nil
}
