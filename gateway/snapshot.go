package gateway

import (
	"fmt"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/gateway/route"
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
	// TransportSecurity is the max-age of Strict-Transport-Security; 0 sends none.
	TransportSecurity time.Duration

	apps map[route.Name]*App
	hsts string
}

// App is a route with its leg to the app.
type App struct {
	*route.App
	origin          string // https://host[:port]
	authority       string // host[:port], what the app sees as Host whatever port the client wrote
	upstreamOrigins []string
	pool            *upstream.Pool
	proxy           *httputil.ReverseProxy
	secrets         policy.Secrets

	metricsOnce sync.Once
	metrics     *appMetrics
}

// Connect gives each app of the snapshot its upstream pool. Pools of the previous snapshot whose settings did not
// change are kept with their connections; previous may be nil.
func (s *Snapshot) Connect(previous *Snapshot) error {
	buffers, quiet := newBufferPool(), quietLog()
	s.hsts = "max-age=" + strconv.FormatInt(int64(s.TransportSecurity/time.Second), 10)
	s.apps = make(map[route.Name]*App, len(s.Routes.Apps()))
	for _, r := range s.Routes.Apps() {
		pool, err := previous.poolFor(r)
		if err != nil {
			return fmt.Errorf("app %s: %w", r.Name, err)
		}
		app := &App{App: r, origin: s.Origin(r.Host), authority: strings.TrimPrefix(s.Origin(r.Host), "https://"), pool: pool, secrets: policy.DefaultSecrets.With(r.SecretParams...)}
		for _, u := range r.Upstreams {
			app.upstreamOrigins = append(app.upstreamOrigins, u.String())
		}
		app.proxy = newProxy(app, pool, buffers, quiet)
		s.apps[r.Name] = app
	}
	return nil
}

// Retire closes the idle connections of pools that the successor does not use.
func (s *Snapshot) Retire(successor *Snapshot) {
	for name, app := range s.apps {
		if next := successor.apps[name]; next == nil || next.pool != app.pool {
			app.pool.CloseIdle()
		}
	}
}

// poolFor is the pool of the same app in s when nothing about it changed, or a new one.
func (s *Snapshot) poolFor(r *route.App) (*upstream.Pool, error) {
	if s != nil {
		if old := s.apps[r.Name]; old != nil && samePool(old.App, r) {
			return old.pool, nil
		}
	}
	cfg := upstream.Defaults()
	cfg.HostUpstream, cfg.TLS.CA = r.HostHeader == route.HostUpstream, r.UpstreamCA
	cfg.Timeouts.Connect, cfg.Timeouts.Response, cfg.Timeouts.Idle = r.Timeouts.Connect, r.Timeouts.Response, r.Timeouts.Idle
	for _, u := range r.Upstreams {
		cfg.Addresses = append(cfg.Addresses, upstream.Address{URL: upstream.URL{URL: u.URL}, Weight: 1})
	}
	return upstream.New(cfg, nil)
}

func samePool(a, b *route.App) bool {
	return upstreamList(a) == upstreamList(b) && a.HostHeader == b.HostHeader && a.Timeouts == b.Timeouts && a.UpstreamCA == "" && b.UpstreamCA == ""
}

func upstreamList(a *route.App) string {
	var list strings.Builder
	for _, u := range a.Upstreams {
		list.WriteString(u.String() + " ")
	}
	return list.String()
}

// Endpoints reports the state of every app's addresses.
func (s *Snapshot) Endpoints() map[string][]upstream.Endpoint {
	state := make(map[string][]upstream.Endpoint, len(s.apps))
	for name, app := range s.apps {
		state[string(name)] = app.pool.Endpoints()
	}
	return state
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
