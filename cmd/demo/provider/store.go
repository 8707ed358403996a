package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	// requestLife is how long a started sign-in may take.
	requestLife = 15 * time.Minute
	tokenLife   = 5 * time.Minute
	// maxRequests bounds what strangers can start; the oldest goes first.
	maxRequests = 1000
)

var (
	errUnknownRequest = errors.New("this sign-in is not known, or too old")
	errWrongPassword  = errors.New("that user name and password do not go together")
	errWrongCode      = errors.New("that is not the code")
	errDisabled       = errors.New("this account is disabled")
	errCut            = errors.New("the demo's provider does not offer this")
)

// request is one sign-in under way; op.AuthRequest is its reading side. It is replaced, never changed. One that was
// finished lives on behind a refresh token.
type request struct {
	id      string
	started time.Time
	asked   oidc.AuthRequest
	proof   // who it is, once they have proved it
	code    string
}

// proof is what a person has proved, and in which session of theirs.
type proof struct {
	person  string // user name; empty until the password was right
	proved  time.Time
	factors int
	session string // sid
}

// The classes of authentication (acr), by the number of factors.
const (
	acrPassword = "1fa"
	acrCode     = "2fa"
)

func (r *request) GetID() string { return r.id }
func (r *request) GetACR() string {
	if r.factors > 1 {
		return acrCode
	}
	return acrPassword
}

// GetAMR names the methods: RFC 8176 §2.
func (r *request) GetAMR() []string {
	if r.factors > 1 {
		return []string{"pwd", "otp", "mfa"}
	}
	return []string{"pwd"}
}
func (r *request) GetAudience() []string              { return []string{r.asked.ClientID} }
func (r *request) GetAuthTime() time.Time             { return r.proved }
func (r *request) GetClientID() string                { return r.asked.ClientID }
func (r *request) GetNonce() string                   { return r.asked.Nonce }
func (r *request) GetRedirectURI() string             { return r.asked.RedirectURI }
func (r *request) GetResponseType() oidc.ResponseType { return r.asked.ResponseType }
func (r *request) GetResponseMode() oidc.ResponseMode { return r.asked.ResponseMode }
func (r *request) GetScopes() []string                { return r.asked.Scopes }
func (r *request) GetState() string                   { return r.asked.State }
func (r *request) GetSubject() string                 { return r.person }
func (r *request) SetCurrentScopes(scopes []string)   { r.asked.Scopes = scopes }

// Done reports whether the person has proved all that was asked for.
func (r *request) Done() bool { return r.person != "" && r.factors >= r.wants() }

// wants is the number of factors that were asked for.
func (r *request) wants() int {
	if slices.Contains(r.asked.ACRValues, acrCode) {
		return 2
	}
	return 1
}

// admits reports whether what was proved earlier is new enough. The library turns prompt=login into a max_age of 0.
func (r *request) admits(p proof) bool {
	if p.person == "" || slices.Contains(r.asked.Prompt, oidc.PromptLogin) {
		return false
	}
	return r.asked.MaxAge == nil || time.Since(p.proved) <= time.Duration(*r.asked.MaxAge)*time.Second
}

func (r *request) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: r.asked.CodeChallenge, Method: r.asked.CodeChallengeMethod}
}

// store implements op.Storage in memory.
type store struct {
	opts   Options
	people map[string]Person
	key    signingKey
	client jose.JSONWebKeySet // the gateway's

	mu       sync.Mutex
	requests map[string]*request
	sessions map[string]proof    // by sid
	grants   map[string]*request // by refresh token
	spent    map[string]string   // refresh tokens that were used, and their sessions
	disabled map[string]bool     // user names
}

var _ op.Storage = (*store)(nil)

func newStore(opts Options, key *ecdsa.PrivateKey) (*store, error) {
	s := &store{opts: opts, people: map[string]Person{}, key: signingKey{rand.Text(), key}, requests: map[string]*request{},
		sessions: map[string]proof{}, grants: map[string]*request{}, spent: map[string]string{}, disabled: map[string]bool{}}
	for _, p := range opts.People {
		s.people[p.Username] = p
	}
	if err := json.Unmarshal(opts.ClientKeys, &s.client); err != nil {
		return nil, fmt.Errorf("reading the client's keys: %w", err)
	}
	return s, nil
}

// CreateAuthRequest insists on PKCE, which the library leaves to the client.
func (s *store) CreateAuthRequest(ctx context.Context, asked *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if asked.CodeChallenge == "" || asked.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("code_challenge with S256 is required")
	}
	r := &request{id: rand.Text(), started: time.Now(), asked: *asked}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(asked.Prompt, oidc.PromptNone) {
		known := s.sessions[sessionOf(ctx)]
		if r.proof = known; !r.admits(known) || !r.Done() {
			return nil, oidc.ErrLoginRequired() // OpenID Connect Core §3.1.2.1: nobody may be asked anything
		}
	}
	s.dropOldLocked()
	s.requests[r.id] = r
	return r, nil
}

func (s *store) dropOldLocked() {
	maps.DeleteFunc(s.requests, func(_ string, r *request) bool { return time.Since(r.started) > requestLife })
	if len(s.requests) < maxRequests {
		return
	}
	oldest := slices.MinFunc(slices.Collect(maps.Values(s.requests)), func(a, b *request) int { return a.started.Compare(b.started) })
	delete(s.requests, oldest.id)
}

func (s *store) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	return s.find(func(r *request) bool { return r.id == id })
}

// AuthRequestByCode finds the sign-in that a code stands for, once: RFC 6749 §4.1.2.
func (s *store) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	r, err := s.find(func(r *request) bool { return r.code != "" && r.code == code })
	if err != nil {
		return nil, oidc.ErrInvalidGrant().WithParent(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, waiting := s.requests[r.id]; !waiting {
		return nil, oidc.ErrInvalidGrant().WithParent(errUnknownRequest)
	}
	delete(s.requests, r.id)
	return r, nil
}

func (s *store) find(wanted func(*request) bool) (*request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if wanted(r) && time.Since(r.started) <= requestLife {
			return r, nil
		}
	}
	return nil, errUnknownRequest
}

func (s *store) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if !ok {
		return errUnknownRequest
	}
	coded := *r
	coded.code = code
	s.requests[id] = &coded
	return nil
}

func (s *store) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

// CreateAccessToken hands out a token that no endpoint accepts: the ID token says everything.
func (s *store) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return rand.Text(), time.Now().Add(tokenLife), nil
}

// SetUserinfoFromRequest fills the ID token.
func (s *store) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, r op.IDTokenRequest, _ []string) error {
	p, ok := s.people[r.GetSubject()]
	if !ok {
		return errUnknownRequest
	}
	info.Subject = p.Username
	info.Name = p.Name
	info.PreferredUsername = p.Username
	info.Email = p.Email
	info.EmailVerified = true
	info.AppendClaims("groups", p.Groups)
	if finished, ok := r.(*request); ok {
		info.AppendClaims("sid", finished.session) // OpenID Connect Back-Channel Logout 1.0 §2.1
	}
	return nil
}

func (s *store) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != s.opts.ClientID {
		return nil, errors.New("unknown client")
	}
	return client{s.opts}, nil
}

// GetKeyByIDAndClientID finds the key of a client assertion: RFC 7523 §3.
func (s *store) GetKeyByIDAndClientID(_ context.Context, keyID, clientID string) (*jose.JSONWebKey, error) {
	if keys := s.client.Key(keyID); clientID == s.opts.ClientID && len(keys) == 1 {
		return &keys[0], nil
	}
	return nil, errors.New("unknown client or key")
}

// signingKey is the provider's key, for signing and, as publicKey, for publishing.
type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k signingKey) Key() any                                    { return k.private }

type publicKey struct{ signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return k.private.Public() }

func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }
func (s *store) KeySet(context.Context) ([]op.Key, error)          { return []op.Key{publicKey{s.key}}, nil }
func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s *store) Health(context.Context) error { return nil }

// What follows belongs to endpoints that were cut.

func (s *store) TerminateSession(context.Context, string, string) error {
	return errCut // replaced by TerminateSessionFromRequest
}
func (s *store) RevokeToken(context.Context, string, string, string) *oidc.Error {
	return oidc.ErrInvalidRequest().WithParent(errCut)
}
func (s *store) GetRefreshTokenInfo(context.Context, string, string) (string, string, error) {
	return "", "", op.ErrInvalidRefreshToken
}
func (s *store) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil // replaced by SetUserinfoFromRequest
}
func (s *store) SetUserinfoFromToken(context.Context, *oidc.UserInfo, string, string, string) error {
	return errCut
}
func (s *store) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errCut
}
func (s *store) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil // access tokens are opaque
}
func (s *store) AuthorizeClientIDSecret(context.Context, string, string) error {
	return errCut // the client has a key and no secret
}
func (s *store) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errCut
}
