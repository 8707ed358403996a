// Package oidc signs people in at OpenID providers: discovery, the authorization code flow with PKCE, state and nonce,
// and the reading of what the provider says about a person.
//
// A [Provider] is used in three steps. [Provider.NewFlow] makes the secrets of one attempt, which the caller keeps with
// the browser; [Provider.AuthCodeURL] is where the browser goes; [Provider.Finish] turns what it brings back into an
// identity. [Provider.Refresh] asks again later. The provider may be down when the gateway starts or at any time later:
// [Provider.Run] keeps trying and [Provider.Ready] tells.
//
// The package sets no cookies, keeps no sessions and decides nothing about access. Go-oidc and oauth2 do the protocol, package
// jwks keeps the keys; this package bounds what they read, pins what they accept and names what went wrong.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"sallyport/authn/jwks"
	"sallyport/authn/remote"
	"sallyport/authn/token"
)

// Options are what a provider needs besides its configuration.
type Options struct {
	// RedirectURL is our callback for this provider, registered there: https://auth.<domain>[:port]/.sallyport/callback/<name>.
	RedirectURL string
	// Assertion is the key of purpose oidc-client that signs client assertions. Needed for private_key_jwt only.
	Assertion token.Signer
	// Among is where this provider stands among the others: see [Stand].
	Among Standing
	Log   *slog.Logger     // nil: nothing is logged
	Now   func() time.Time // nil: time.Now
}

// Provider is one OpenID provider. Its methods may be called at once from many goroutines.
type Provider struct {
	cfg         Config
	issuer      *url.URL
	redirectURL string
	secret      Secret
	client      *http.Client // for everything but the token endpoint
	tokenClient *http.Client // proves who we are
	among       Standing
	log         *slog.Logger
	now         func() time.Time
	pace        pace
	wake        chan struct{} // asks Run to look at the provider now

	found atomic.Pointer[discovered] // nil until the provider was first reached
	tried chan struct{}              // closed once the first look at the provider is over
	// noOffline remembers that the provider refused offline_access to this client, though it lists it.
	noOffline atomic.Bool

	mu    sync.Mutex
	fault *Failure  // why the provider cannot be used at the moment; nil when it can
	since time.Time // since when
}

// pace says how often Run looks at the provider.
type pace struct {
	first, most time.Duration // delays between attempts while it is down
	refresh     time.Duration // between looks while it is well: endpoints that move are followed within this time
}

var defaultPace = pace{first: time.Second, most: time.Minute, refresh: time.Hour}

// discovered is what the provider says about itself. It is replaced as a whole.
type discovered struct {
	keys       *jwks.Set
	algorithms []string
	oauth      *oauth2.Config
	userinfo   string // empty: none
	endSession string // empty: none that may be used
	offline    bool   // the scope offline_access is listed
	sendsIss   bool   // RFC 9207: every answer names its issuer
}

// New returns a provider that has not been reached yet: see [Provider.Discover] and [Provider.Run].
func New(cfg Config, opts Options) (*Provider, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("provider %q: %w", cfg.Name, err)
	}
	secret, err := cfg.secret()
	if err != nil {
		return nil, fmt.Errorf("provider %q: %w", cfg.Name, err)
	}
	issuer, err := cfg.issuerURL()
	if err != nil {
		return nil, fmt.Errorf("provider %q: %w", cfg.Name, err)
	}
	client, err := remote.NewClient(remote.Config{Base: issuer, Connect: cfg.Connect, CA: cfg.CA})
	if err != nil {
		return nil, fmt.Errorf("provider %q: %w", cfg.Name, err)
	}
	p := &Provider{
		cfg: cfg, issuer: issuer, redirectURL: opts.RedirectURL, secret: secret, client: client, tokenClient: client,
		among: opts.Among, log: opts.Log, now: opts.Now, pace: defaultPace, wake: make(chan struct{}, 1), tried: make(chan struct{}),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	if err := p.useAssertions(opts.Assertion); err != nil {
		return nil, fmt.Errorf("provider %q: %w", cfg.Name, err)
	}
	p.fault, p.since = fail(ProviderUnreachable, "not reached yet"), p.now()
	return p, nil
}

func (p *Provider) useAssertions(signer token.Signer) error {
	if p.cfg.clientAuth() != PrivateKeyJWT {
		return nil
	}
	if signer == nil {
		return errors.New("client_auth private_key_jwt needs a key of purpose oidc-client")
	}
	asserting := *p.client
	asserting.Transport = &assertingTransport{
		base: p.client.Transport, signer: signer, clientID: p.cfg.ClientID, now: p.now,
		audience: func(tokenEndpoint string) string {
			if p.cfg.AssertionAudience == AudienceTokenEndpoint {
				return tokenEndpoint
			}
			return p.cfg.Issuer
		},
	}
	p.tokenClient = &asserting
	return nil
}

// Name is the provider's name in the configuration.
func (p *Provider) Name() string { return p.cfg.Name }

// Issuer is the provider's issuer URL: what it gave out is of use there and nowhere else.
func (p *Provider) Issuer() string { return p.cfg.Issuer }

// LinkedTo is the person, as "provider|sub", whom the configuration links an account of the provider to; empty for none.
func (p *Provider) LinkedTo(subject string) string { return p.among.People[subject] }

// Title is what people call the provider.
func (p *Provider) Title() string {
	if p.cfg.Title == "" {
		return p.cfg.Name
	}
	return p.cfg.Title
}

// Origin is the scheme, host and port that the browser is sent to, empty while the provider has never been reached. Pages
// whose forms lead there name it in form-action.
func (p *Provider) Origin() string {
	d := p.found.Load()
	if d == nil {
		return ""
	}
	u, err := url.Parse(d.oauth.Endpoint.AuthURL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Ready returns nil when people can sign in; otherwise an error that says why not and since when, and wraps a [*Failure].
func (p *Provider) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil {
		return nil
	}
	return fmt.Errorf("provider %q is not usable since %s: %w", p.cfg.Name, p.since.UTC().Format(time.RFC3339), p.fault)
}

// Run discovers the provider and keeps an eye on it until ctx ends, then returns nil. While the provider is down it tries
// again after a second, then less often up to once a minute, and at once when somebody wants to sign in. What was
// discovered before stays in use.
func (p *Provider) Run(ctx context.Context) error {
	for failures := 0; ; {
		if err := p.Discover(ctx); err != nil {
			failures++
		} else {
			failures = 0
		}
		if !p.rest(ctx, failures) {
			return nil
		}
	}
}

// rest waits for the next look and reports whether there is one. Being woken shortens the wait, but never below the first
// delay: people who press reload do not become load.
func (p *Provider) rest(ctx context.Context, failures int) bool {
	if !sleep(ctx, p.pace.first, nil) {
		return false
	}
	return sleep(ctx, p.pace.delay(failures)-p.pace.first, p.wake)
}

func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// delay doubles with each failure up to the most, give or take a quarter so that many gateways do not return at once.
func (c pace) delay(failures int) time.Duration {
	d := c.refresh
	if failures > 0 {
		d = min(c.first<<min(failures-1, 16), c.most)
	}
	return d*3/4 + rand.N(d/2+1)
}

// Discover asks the provider once who it is and takes its answer into use, or returns a [*Failure] and leaves what was
// in use before. [DiscoveryMismatch] and [DiscoveryInvalid] mean that the configuration or the provider is wrong and
// waiting will not help; a check of the configuration can refuse those.
func (p *Provider) Discover(ctx context.Context) error {
	d, failure := p.discover(ctx)
	if failure != nil {
		if ctx.Err() == nil {
			p.setFault(failure)
		}
		return failure
	}
	p.found.Store(d)
	p.setFault(nil)
	return nil
}

func (p *Provider) discover(ctx context.Context) (*discovered, *Failure) {
	ctx, cancel := context.WithTimeout(gooidc.ClientContext(ctx, p.client), remote.CallTimeout)
	defer cancel()
	provider, err := gooidc.NewProvider(ctx, p.cfg.Issuer) // OpenID Connect Discovery §4.3: the issuer matches exactly
	if err != nil {
		return nil, callFailure("discovering the provider", err)
	}
	var document map[string]any
	if err := provider.Claims(exact(&document)); err != nil {
		return nil, fail(DiscoveryInvalid, "reading discovery: %s", excerpt(err.Error()))
	}
	meta := readMetadata(document)
	if meta.issuer != p.cfg.Issuer {
		return nil, fail(DiscoveryMismatch, "issuer is written in another case")
	}
	algorithms, failure := p.examine(meta)
	if failure != nil {
		return nil, failure
	}
	return &discovered{
		keys:       p.keysAt(meta.keys),
		algorithms: algorithms,
		oauth:      p.oauthConfig(meta),
		userinfo:   meta.userinfo,
		endSession: p.endSession(meta),
		offline:    slices.Contains(meta.scopes, gooidc.ScopeOfflineAccess),
		sendsIss:   meta.sendsIss,
	}, nil
}

// keysAt returns the keys in use while they stay where they are. Keys from elsewhere start anew: what was found at the old
// place says nothing about them.
func (p *Provider) keysAt(url string) *jwks.Set {
	if before := p.found.Load(); before != nil && before.keys.URL() == url {
		return before.keys
	}
	return jwks.New(jwks.Config{Issuer: p.cfg.Issuer, URL: url, Client: p.client, Now: p.now, Log: p.log})
}

// metadata is what we read of OpenID Connect Discovery §3, RP-Initiated Logout §2.1 and RFC 9207 §3.
type metadata struct {
	issuer, authorize, token, keys, userinfo, endSession string
	algorithms, scopes                                   []string
	sendsIss                                             bool
}

func readMetadata(document map[string]any) metadata {
	sendsIss, _ := document["authorization_response_iss_parameter_supported"].(bool)
	return metadata{
		issuer:     text(document, "issuer"),
		authorize:  text(document, "authorization_endpoint"),
		token:      text(document, "token_endpoint"),
		keys:       text(document, "jwks_uri"),
		userinfo:   text(document, "userinfo_endpoint"),
		endSession: text(document, "end_session_endpoint"),
		algorithms: texts(document["id_token_signing_alg_values_supported"]),
		scopes:     texts(document["scopes_supported"]),
		sendsIss:   sendsIss,
	}
}

// examine refuses endpoints in the clear and returns the algorithms that ID tokens may be signed with: those the provider
// announces, less the symmetric ones and "none".
func (p *Provider) examine(meta metadata) ([]string, *Failure) {
	endpoints := []struct{ name, url string }{
		{"authorization_endpoint", meta.authorize},
		{"token_endpoint", meta.token},
		{"jwks_uri", meta.keys},
	}
	if p.cfg.Userinfo {
		endpoints = append(endpoints, struct{ name, url string }{"userinfo_endpoint", meta.userinfo})
	}
	for _, e := range endpoints {
		if !remote.AllowedEndpoint(e.url, p.issuer) {
			return nil, fail(DiscoveryInvalid, "%s %s: want an https:// URL", e.name, excerpt(e.url))
		}
	}
	if len(meta.algorithms) == 0 {
		return []string{gooidc.RS256}, nil // OpenID Connect Core §2: the default
	}
	known := jwks.Algorithms()
	algorithms := slices.DeleteFunc(slices.Clone(meta.algorithms), func(a string) bool { return !slices.Contains(known, a) })
	if len(algorithms) == 0 {
		return nil, fail(DiscoveryInvalid, "provider signs ID tokens with no algorithm that Sallyport accepts")
	}
	return algorithms, nil
}

func (p *Provider) oauthConfig(meta metadata) *oauth2.Config {
	style := oauth2.AuthStyleInParams
	if p.cfg.clientAuth() == ClientSecretBasic {
		style = oauth2.AuthStyleInHeader
	}
	return &oauth2.Config{
		ClientID:     p.cfg.ClientID,
		ClientSecret: string(p.secret),
		RedirectURL:  p.redirectURL,
		Scopes:       p.scopes(),
		Endpoint:     oauth2.Endpoint{AuthURL: meta.authorize, TokenURL: meta.token, AuthStyle: style},
	}
}

func (p *Provider) scopes() []string {
	if slices.Contains(p.cfg.Scopes, gooidc.ScopeOpenID) {
		return p.cfg.Scopes
	}
	return append([]string{gooidc.ScopeOpenID}, p.cfg.Scopes...)
}

// firstLook is how long a sign-in waits for the first answer of a provider: a person who comes while the gateway starts
// need not press reload, and one that is down is not waited for twice.
const firstLook = 5 * time.Second

// inUse returns what was discovered, or why there is nothing yet; asking makes Run look again.
func (p *Provider) inUse(ctx context.Context) (*discovered, *Failure) {
	if d := p.found.Load(); d != nil {
		return d, nil
	}
	p.lookAgain()
	select {
	case <-p.tried:
	case <-ctx.Done():
	case <-time.After(firstLook):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil { // discovered this instant
		return p.found.Load(), nil
	}
	return nil, p.fault
}

func (p *Provider) lookAgain() {
	select {
	case p.wake <- struct{}{}:
	default: // already asked
	}
}

// setFault remembers what a look at the provider found, and logs a change between usable and not. Since keeps the first
// moment.
func (p *Provider) setFault(f *Failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f == nil && p.fault != nil:
		p.log.Info("provider is usable", "provider", p.cfg.Name)
	case f != nil && p.fault == nil:
		p.since = p.now()
		p.log.Warn("provider is not usable", "provider", p.cfg.Name, "reason", string(f.Code), "error", f)
	case f != nil && p.fault.Code != f.Code:
		p.log.Warn("provider is still not usable", "provider", p.cfg.Name, "reason", string(f.Code), "error", f)
	}
	p.fault = f
	select {
	case <-p.tried:
	default:
		close(p.tried)
	}
}

// noticed lets a call that found the provider unreachable count for everyone.
func (p *Provider) noticed(f *Failure) *Failure {
	if f != nil && f.Code == ProviderUnreachable && !errors.Is(f, context.Canceled) {
		p.setFault(f)
		p.lookAgain()
	}
	return f
}
