package route

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/gateway/cache"
	"sallyport/gateway/canon"
	"sallyport/gateway/headers"
	"sallyport/gateway/limit"
	"sallyport/gateway/shield"
	"sallyport/gateway/units"
	"sallyport/gateway/upstream"
	"sallyport/policy"
)

// Name identifies an app in configuration, policy, records and metrics.
type Name string

// App is one internal web app behind the gateway.
type App struct {
	// Name identifies the app in policy, records and metrics: lower-case letters, digits and hyphens. Required.
	Name Name `yaml:"name" config:"required"`
	// Host is the public host name under which people reach the app, without port. Required.
	Host string `yaml:"host" config:"required"`
	// Path limits the app to one part of its host, so that several apps can share a name: it must start and end
	// with a slash, and the longest match wins at a segment border. Default "/", the whole host.
	Path string `yaml:"path" default:"/"`
	// Title is the name shown to people in the portal and on pages. Default: the name.
	Title string `yaml:"title"`
	// Description is one sentence shown in the portal. Default: none.
	Description string `yaml:"description"`
	// Upstreams are the app's own addresses, each http://, https:// or unix:, alone or as {url, weight, backup}. Several
	// are balanced. Required.
	Upstreams []upstream.Address `yaml:"upstreams" config:"required,single"`
	// UpstreamProtocol is what is spoken with the app: "auto" is HTTP/1.1, and HTTP/2 for gRPC with https:// upstreams,
	// where the two agree on it; "http1", "h2" (over TLS) and "h2c" (without) are spoken always, except that WebSockets are
	// HTTP/1.1. An app for gRPC without TLS needs "h2c". Default "auto".
	UpstreamProtocol upstream.Protocol `yaml:"upstream_protocol" default:"auto" enum:"auto,http1,h2,h2c"`
	// UpstreamTransport carries requests over HTTP/1.1: "lean" sends plain ones, without a large body, on the goroutine
	// that has them and leaves the rest to "standard", which is Go's own transport. Default "lean".
	UpstreamTransport Transport `yaml:"upstream_transport" default:"lean" enum:"lean,standard"`
	// UpstreamTLS is how https:// upstreams are spoken to.
	UpstreamTLS upstream.TLS `yaml:"upstream_tls"`
	// Balance says which address a request goes to.
	Balance upstream.Balance `yaml:"balance"`
	// Health asks the addresses regularly whether they are well. Default: it does not.
	Health upstream.Health `yaml:"health"`
	// Ejection takes addresses out of service for a while whose requests fail.
	Ejection upstream.Ejection `yaml:"ejection"`
	// Connections bounds what one address has to do at a time.
	Connections upstream.Limits `yaml:"connections"`
	// Retry says when a request is sent again.
	Retry upstream.Retry `yaml:"retry"`
	// Access says who may open the app: one rule or a list of which the first match decides. Absent or empty: nobody.
	Access policy.Access `yaml:"access" config:"single"`
	// Providers are the names of the identity providers whose people the app is for, in the order to offer them. People of
	// others are refused, whatever rules and packages say. Default: all.
	Providers []string `yaml:"providers" config:"single"`
	// Session is how fresh people's sign-in must be for the app, where it must be fresher than for others.
	Session Session `yaml:"session"`
	// Authorization says to whom the Authorization header belongs: "app" forwards it untouched beside a session,
	// "gateway" reads it as a gateway token and never forwards it. Default "app".
	Authorization Authorization `yaml:"authorization" default:"app" enum:"app,gateway"`
	// HostHeader is the Host the app sees: "public" is the name in the browser's address bar, "upstream" is the
	// upstream's own. Default "public".
	HostHeader HostHeader `yaml:"host_header" default:"public" enum:"public,upstream"`
	// StripPrefix is removed from the path before the policy judges it and the app receives it; it matches only at
	// a segment border, and requests outside it are refused. Starts with a slash, ends without. Default: nothing.
	StripPrefix string `yaml:"strip_prefix"`
	// IdentityHeaders sends X-Sallyport-User, -Email, -Groups and -Assertion to the app. Default true.
	IdentityHeaders *bool `yaml:"identity_headers" default:"true"`
	// IdentityAs says who is asking in further headers, by the names that the app expects, such as {X-Webauth-User: email}:
	// id (provider and subject), subject, email, username (the e-mail's part before the @), name, groups or assertion. A
	// header is left out when there is nothing to say, and what clients send under its name never passes. Default: none.
	IdentityAs map[string]string `yaml:"identity_as"`
	// InternalHosts are host names, without port, under which the app may know itself: in Location, Content-Location,
	// Refresh and Link they become its public origin, as the addresses of its upstreams do. Default: none.
	InternalHosts []string `yaml:"internal_hosts" config:"single"`
	// WebSocketOrigins are the origins besides the app's own from which a browser may open a WebSocket, such as
	// https://intranet.corp.example. Default: none.
	WebSocketOrigins []string `yaml:"websocket_origins" config:"single"`
	// SecretParams are names of query parameters that are recorded as [redacted], besides token, code, password,
	// secret, key, signature, access_token and id_token. Default: none.
	SecretParams []string `yaml:"secret_params" config:"single"`
	// Timeouts bound how long the gateway waits for the app and for the client.
	Timeouts Timeouts `yaml:"timeouts"`
	// MaxBody is the largest request body, such as 10MiB; larger ones are refused with 413. Default 100MiB; 0 means
	// no request may have a body.
	MaxBody units.Bytes `yaml:"max_body" default:"100MiB"`
	// Cache stores the app's answers behind the decision: every request is still decided and recorded first.
	Cache cache.Rules `yaml:"cache"`
	// Compression lets the gateway compress answers (gzip) that the app sends uncompressed, where nobody can use that to
	// guess what is in them. Default false.
	Compression bool `yaml:"compression"`
	// Streams says which answers and request bodies go through as they come, and how long they may stay open.
	Streams Streams `yaml:"streams"`
	// Relax lets the app have spellings below some of its folders that two servers could read differently, such as the
	// encoded slashes of GitLab: {paths: /api/v4/projects/, allow: encoded_slash}. Default: none.
	Relax []canon.Relaxation `yaml:"relax" config:"single"`
	// Security is what the app's answers promise to browsers.
	Security headers.Security `yaml:"security_headers"`
	// Cookies says how the app's cookies are hardened.
	Cookies headers.Cookies `yaml:"cookies"`
	// CORS says which other origins' pages may read the app's answers.
	CORS headers.CORS `yaml:"cors"`
	// CrossSite lets pages of other sites send the app requests that change something (POST, PUT, …), which the policy
	// otherwise refuses, for apps that take such requests on purpose and defend themselves. Default false.
	CrossSite bool `yaml:"cross_site"`
	// ClientCerts asks people's browsers and programs for a certificate of one of the authorities of
	// tls.client_certificates: "optional" tells policies of it (input.subject.cert and device), "required" also refuses
	// everybody without one that counts, whatever rules and packages say. It is a factor besides the sign-in. Clients are
	// asked when they connect to the host, for all of its apps; an app with "none" is told nothing. Default "none".
	ClientCerts ClientCerts `yaml:"client_certs" default:"none" enum:"none,optional,required"`
	// Shield inspects requests with the OWASP Core Rule Set.
	Shield shield.Rules `yaml:"shield"`
	// Limits bound what people may ask of the app.
	Limits limit.App `yaml:"limits"`
	// Labels are facts about the app for policies and reports, such as {team: web, control: "SOC2:CC6.1"}.
	Labels map[string]string `yaml:"labels"`
	// Owner is the person or team that answers for the app. Shown when access is denied. Default: none.
	Owner string `yaml:"owner"`
	// Sensitivity is a word policies can ask for, such as high. Default: none.
	Sensitivity string `yaml:"sensitivity"`
}

// Session says how fresh a sign-in must be; whoever's is not is sent to sign in again, and returns. Absent: as session says
// for all apps.
type Session struct {
	// Idle is how long people may have been away, from all apps.
	Idle time.Duration `yaml:"idle"`
	// Absolute is how long ago they may have signed in, however busy they were since.
	Absolute time.Duration `yaml:"absolute"`
	// Reauthenticate is how long ago they may have proved themselves to their provider.
	Reauthenticate time.Duration `yaml:"reauthenticate"`
}

// Check refuses limits that no one can mean.
func (s Session) Check() error {
	for name, d := range map[string]time.Duration{"idle": s.Idle, "absolute": s.Absolute, "reauthenticate": s.Reauthenticate} {
		if d != 0 && d < time.Minute {
			return fmt.Errorf("session: %s: %v is shorter than a minute", name, d)
		}
	}
	return nil
}

// Timeouts bound how long the gateway waits for an app, and for the client.
type Timeouts struct {
	upstream.Timeouts `yaml:",inline"`
	// Client is the longest pause that a client may make in sending a body, or in taking an answer. Default 60s.
	Client time.Duration `yaml:"client" default:"60s"`
	// UploadRate is how many bytes a second a client must send of a body on average once it has sent for as long as client;
	// else the request is refused with 408, so that nobody holds room for a body for ever by sending a byte a minute. Uploads
	// that go through as they come (streams) are free to pause. Default 1KiB; 0, or client 0,
	// means no such bound.
	UploadRate units.Bytes `yaml:"upload_rate" default:"1KiB"`
}

// Check reports what is wrong with one app by itself.
func (a *App) Check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName(string(a.Name)) {
		fail("name %q must be lower-case letters, digits and inner hyphens, at most 63", a.Name)
	}
	if !validHost(a.Host) {
		fail("host %q must be a lower-case DNS name without port", a.Host)
	}
	if a.Path != "" && (!strings.HasPrefix(a.Path, "/") || !strings.HasSuffix(a.Path, "/") || !plainPath(a.Path)) {
		fail("path %q must start and end with a slash and hold only plain segments", a.Path)
	}
	if a.StripPrefix != "" && (!strings.HasPrefix(a.StripPrefix, "/") || strings.HasSuffix(a.StripPrefix, "/") || !plainPath(a.StripPrefix)) {
		fail("strip_prefix %q must start with a slash, end without one and hold only plain segments", a.StripPrefix)
	}
	for _, origin := range a.WebSocketOrigins {
		if !validOrigin(origin) {
			fail("websocket_origins: %q must be an origin such as https://intranet.corp.example", origin)
		}
	}
	for _, host := range a.InternalHosts {
		if !validHost(strings.ToLower(host)) {
			fail("internal_hosts: %q must be a host name or an IPv4 address, without port", host)
		}
	}
	if err := headers.CheckIdentityAs(a.IdentityAs); err != nil {
		errs = append(errs, err)
	}
	if len(a.Upstreams) == 0 {
		fail("upstreams must name at least one address")
	}
	return errors.Join(errs...)
}

// SendsIdentity reports whether the app is told who is asking.
func (a *App) SendsIdentity() bool { return a.IdentityHeaders == nil || *a.IdentityHeaders }

// NeedsAssertion reports whether the app is told who is asking in a signed form.
func (a *App) NeedsAssertion() bool {
	return a.SendsIdentity() || slices.Contains(slices.Collect(maps.Values(a.IdentityAs)), "assertion")
}

// DisplayName is what people read: the title, or else the name.
func (a *App) DisplayName() string {
	if a.Title != "" {
		return a.Title
	}
	return string(a.Name)
}

// AsksForCertificate reports whether the app wants to see the certificates of its clients.
func (a *App) AsksForCertificate() bool {
	return a.ClientCerts == ClientCertsOptional || a.ClientCerts == ClientCertsRequired
}

// Policy is the part of the app that the policy knows.
func (a *App) Policy() policy.App {
	app := policy.App{
		Name: string(a.Name), Owner: a.Owner, Sensitivity: a.Sensitivity, Labels: a.Labels, Access: a.Access, CrossSite: a.CrossSite,
		ClientCert: a.ClientCerts == ClientCertsRequired, Providers: a.Providers,
	}
	if a.Shield.Mode == shield.Block {
		app.ShieldThreshold = a.Shield.Threshold
	}
	return app
}

// Authorization says to whom an app's Authorization header belongs.
type Authorization string

const (
	AuthorizationApp     Authorization = "app"
	AuthorizationGateway Authorization = "gateway"
)

// UnmarshalText accepts app or gateway.
func (a *Authorization) UnmarshalText(text []byte) error {
	return oneOf(a, text, AuthorizationApp, AuthorizationGateway)
}

// HostHeader says which Host an app sees.
type HostHeader string

const (
	HostPublic   HostHeader = "public"
	HostUpstream HostHeader = "upstream"
)

// UnmarshalText accepts public or upstream.
func (h *HostHeader) UnmarshalText(text []byte) error {
	return oneOf(h, text, HostPublic, HostUpstream)
}

// ClientCerts says whether clients are asked for a certificate.
type ClientCerts string

const (
	ClientCertsNone     ClientCerts = "none"
	ClientCertsOptional ClientCerts = "optional"
	ClientCertsRequired ClientCerts = "required"
)

// UnmarshalText accepts none, optional or required.
func (c *ClientCerts) UnmarshalText(text []byte) error {
	return oneOf(c, text, ClientCertsNone, ClientCertsOptional, ClientCertsRequired)
}

// Transport is what carries requests to an app over HTTP/1.1.
type Transport string

const (
	TransportLean     Transport = "lean"
	TransportStandard Transport = "standard"
)

// UnmarshalText accepts lean or standard.
func (t *Transport) UnmarshalText(text []byte) error {
	return oneOf(t, text, TransportLean, TransportStandard)
}

func oneOf[T ~string](dst *T, text []byte, allowed ...T) error {
	for _, a := range allowed {
		if string(a) == string(text) {
			*dst = a
			return nil
		}
	}
	return fmt.Errorf("%q is none of %q", text, allowed)
}

func validName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !(c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z') {
			return false
		}
	}
	return true
}

func validHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validName(label) {
			return false
		}
	}
	return true
}

// plainPath holds for paths that no server reads in a second way.
func plainPath(p string) bool {
	if strings.Contains(p, "//") || strings.ContainsAny(p, "%;\\?#") {
		return false
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			return false
		}
		for _, c := range []byte(segment) {
			if c <= 0x20 || c >= 0x7f {
				return false
			}
		}
	}
	return true
}

func validOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && s == u.Scheme+"://"+u.Host
}
