package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/token"
	"sallyport/certs"
	"sallyport/gateway/cache"
	"sallyport/gateway/canon"
	"sallyport/gateway/headers"
	"sallyport/gateway/limit"
	"sallyport/gateway/place"
	"sallyport/gateway/route"
	"sallyport/gateway/shield"
	"sallyport/gateway/signin"
	"sallyport/gateway/upstream"
	"sallyport/policy"
)

// Snapshot is everything a request is judged by. It is immutable and swapped as a whole: a request loads one when it
// begins and keeps it.
type Snapshot struct {
	Routes *route.Table
	Policy *policy.Engine
	Zone   *time.Location // policy.timezone
	// PolicyHeaders are the names of request headers that the policy may read.
	PolicyHeaders []string
	SignIn        *signin.Handler
	// AuthHost is the host of sign-in and portal, such as auth.corp.example.
	AuthHost string
	// PublicPort is the port in every URL we print; 443 is left out.
	PublicPort int
	// FormOrigins are the origins a sign-in or sign-out form may lead to, for pages' form-action.
	FormOrigins []string
	// Reauthorize is how often an open exchange is decided again. Default 30 s.
	Reauthorize time.Duration
	// Requests bound what one request may cost.
	Requests canon.Limits
	// Limits are the rates that strangers and sign-ins are held to; each app has its own.
	Limits limit.Config
	// ClientAuthorities judge the certificates that clients show; nil: nobody is asked for one.
	ClientAuthorities *certs.ClientAuthorities
	// SignInCertificate demands one of everybody who signs in.
	SignInCertificate bool
	// Issuers verifies tokens that programs show; nil: nobody's are good.
	Issuers *token.Verifier
	// Programs are the service accounts that certificates may be of; nil: there are none.
	Programs *Programs
	// Places says where clients are; nil: nobody knows.
	Places *place.Places
	// Bind is what a session's browser must stay.
	Bind session.Bind
	// Reauthenticate is how long ago people may have proved themselves to their provider, for all apps; 0 is no limit.
	Reauthenticate time.Duration
	// TransportSecurity is the max-age of Strict-Transport-Security; 0 sends none.
	TransportSecurity time.Duration

	apps  map[route.Name]*App
	rules *canon.Rules
	hsts  string
}

// App is a route with its leg to the app.
type App struct {
	*route.App
	origin    string   // https://host[:port]
	ownOrigin []string // the same, as the value of a header
	authority string   // host[:port], what the app sees as Host whatever port the client wrote
	site      *headers.Site
	headers   *headers.App
	pool      *upstream.Pool
	transport http.RoundTripper // the pool, behind what cleans its answers and, where there is one, the cache
	secrets   policy.Secrets
	inspector *shield.Inspector // nil: its requests are not inspected

	metricsOnce sync.Once
	metrics     *appMetrics
}

// Behind is what stands between the pipeline and all apps.
type Behind struct {
	Cache *cache.Cache  // nil: none
	Log   *slog.Logger  // hears about addresses that leave and return; nil: nobody does
	Own   *upstream.Own // where the gateway itself listens, and no app lives; nil: nowhere
	// ClientCertificate loads the certificate chain in a file. Required when an app names one.
	ClientCertificate func(file string) (*certs.Client, error)
}

// Connect gives each app of the snapshot its upstream pool. What the pools of the previous snapshot know of addresses
// that stay is kept, and so are their connections; previous may be nil. Nothing of the previous snapshot changes.
func (s *Snapshot) Connect(previous *Snapshot, behind Behind) error {
	s.rules = canon.NewRules(s.Requests, s.Routes.Relaxed())
	s.hsts = "max-age=" + strconv.FormatInt(int64(s.TransportSecurity/time.Second), 10)
	s.apps = make(map[route.Name]*App, len(s.Routes.Apps()))
	for _, r := range s.Routes.Apps() {
		inspector, err := s.inspectorFor(r, previous)
		if err != nil {
			s.Retire(previous)
			return fmt.Errorf("app %s: shield: %w", r.Name, err)
		}
		pool, err := previous.poolFor(r, behind)
		if err != nil {
			s.Retire(previous)
			return fmt.Errorf("app %s: %w", r.Name, err)
		}
		s.apps[r.Name] = s.connected(r, pool, behind.Cache)
		s.apps[r.Name].inspector = inspector
	}
	return nil
}

func (s *Snapshot) connected(r *route.App, pool *upstream.Pool, stored *cache.Cache) *App {
	app := &App{App: r, origin: s.Origin(r.Host), authority: strings.TrimPrefix(s.Origin(r.Host), "https://"), pool: pool,
		secrets: policy.DefaultSecrets.With(r.SecretParams...)}
	app.ownOrigin = []string{app.origin}
	app.site = headers.NewSite(app.authority, "https", uint16(s.PublicPort))
	app.headers = headers.NewApp(s.headersOf(r))
	app.transport = leg{app}
	if stored != nil && caches(&r.Cache) {
		app.transport = stored.For(app.transport)
	}
	return app
}

// headersOf is what an app's headers are judged by.
func (s *Snapshot) headersOf(r *route.App) headers.AppConfig {
	cfg := headers.AppConfig{Address: s.addressOf(r), InternalHosts: r.InternalHosts, IdentityAs: r.IdentityAs,
		Cookies: r.Cookies, Security: r.Security, CORS: r.CORS}
	for _, other := range s.Routes.Apps() {
		if other != r {
			cfg.Others = append(cfg.Others, s.addressOf(other))
		}
	}
	return cfg
}

func (s *Snapshot) addressOf(r *route.App) headers.Address {
	at := headers.Address{Origin: s.Origin(r.Host), Path: r.Path, Prefix: r.StripPrefix}
	for _, u := range r.Upstreams {
		at.Upstreams = append(at.Upstreams, u.URL.String())
	}
	return at
}

// caches reports whether anything of an app may be stored.
func caches(rules *cache.Rules) bool {
	return rules.Enabled || slices.ContainsFunc(rules.Paths, func(p cache.PathRule) bool { return p.Enabled != nil && *p.Enabled })
}

// WithPolicy is the snapshot under another policy, which tells the time in zone; all else is shared.
func (s *Snapshot) WithPolicy(engine *policy.Engine, zone *time.Location) *Snapshot {
	next := *s
	next.Policy, next.Zone = engine, zone
	return &next
}

// Retire ends the pools that the successor does not use: requests under way finish.
func (s *Snapshot) Retire(successor *Snapshot) {
	for name, app := range s.apps {
		if successor == nil || successor.apps[name] == nil || successor.apps[name].pool != app.pool {
			app.pool.Close()
		}
	}
	s.retireInspectors(successor)
}

// poolFor is the pool of an app, with what the pool of the same app in s knows.
func (s *Snapshot) poolFor(r *route.App, behind Behind) (*upstream.Pool, error) {
	cfg := upstream.Config{Addresses: r.Upstreams, HostUpstream: r.HostHeader == route.HostUpstream, Protocol: r.UpstreamProtocol, Lean: r.UpstreamTransport == route.TransportLean, TLS: r.UpstreamTLS,
		Balance: r.Balance, Health: r.Health, Ejection: r.Ejection, Limits: r.Connections, Retry: r.Retry, Timeouts: r.Timeouts.Timeouts, Own: behind.Own, Log: behind.Log}
	if cfg.Log != nil {
		cfg.Log = cfg.Log.With("app", string(r.Name))
	}
	if file := r.UpstreamTLS.ClientCertificate; file != "" {
		client, err := behind.ClientCertificate(file)
		if err != nil {
			return nil, err
		}
		if client != nil { // else it is only checked that there could be one
			cfg.ClientCertificate, cfg.ClientDigest = client.GetClientCertificate, client.Digest()
		}
	}
	return upstream.New(cfg, s.Pool(r.Name))
}

// Pool is an app's set of addresses, or nil when there is no such app.
func (s *Snapshot) Pool(name route.Name) *upstream.Pool {
	if s == nil || s.apps[name] == nil {
		return nil
	}
	return s.apps[name].pool
}

// start puts the pools in force.
func (s *Snapshot) start() {
	for _, app := range s.apps {
		app.pool.Start()
	}
}

// Origin is the public origin of a host: the scheme is always https, port 443 is left out.
func (s *Snapshot) Origin(host string) string {
	if s.PublicPort == 443 {
		return "https://" + host
	}
	return "https://" + host + ":" + strconv.Itoa(s.PublicPort)
}

// URL is a page on a public host.
func (s *Snapshot) URL(host, path string) string {
	return s.Origin(host) + (&url.URL{Path: path}).EscapedPath()
}

// portalURL is where people find all their apps.
func (s *Snapshot) portalURL() string { return s.URL(s.AuthHost, "/") }

// admitsOrigin reports whether a request with this Origin field may be one of the app's own pages asking: there is no
// Origin, or it is the app's, or one that the app names.
func (a *App) admitsOrigin(origin []string) bool {
	switch len(origin) {
	case 0:
		return true
	case 1:
		return origin[0] == a.origin || slices.Contains(a.WebSocketOrigins, origin[0])
	}
	return false
}
