package route

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

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
	// Upstreams are the app's own addresses, http:// or https:// with an optional port and nothing after it.
	// Several are balanced. Required.
	Upstreams []Upstream `yaml:"upstreams" config:"required,single"`
	// Access says who may open the app: one rule or a list of which the first match decides. Absent or empty: nobody.
	Access policy.Access `yaml:"access" config:"single"`
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
	// WebSocketOrigins are the origins besides the app's own from which a browser may open a WebSocket, such as
	// https://intranet.corp.example. Default: none.
	WebSocketOrigins []string `yaml:"websocket_origins" config:"single"`
	// SecretParams are names of query parameters that are recorded as [redacted], besides token, code, password,
	// secret, key, signature, access_token and id_token. Default: none.
	SecretParams []string `yaml:"secret_params" config:"single"`
	// Timeouts bound how long the gateway waits for the app.
	Timeouts Timeouts `yaml:"timeouts"`
	// MaxBody is the largest request body, such as 10MiB; larger ones are refused with 413. Default 100MiB; 0 means
	// no request may have a body.
	MaxBody units.Bytes `yaml:"max_body" default:"100MiB"`
	// UpstreamCA is a PEM file of the authorities that may vouch for https:// upstreams. Default: the system's.
	UpstreamCA string `yaml:"upstream_ca" config:"path"`
	// Labels are facts about the app for policies and reports, such as {team: web, control: "SOC2:CC6.1"}.
	Labels map[string]string `yaml:"labels"`
	// Owner is the person or team that answers for the app. Shown when access is denied. Default: none.
	Owner string `yaml:"owner"`
	// Sensitivity is a word policies can ask for, such as high. Default: none.
	Sensitivity string `yaml:"sensitivity"`
}

// Timeouts bound how long the gateway waits for an app.
type Timeouts struct {
	// Connect is the longest wait for a connection, TLS included. Default 5s.
	Connect time.Duration `yaml:"connect" default:"5s"`
	// Response is the longest wait for the head of an answer after the request was sent. Default 60s.
	Response time.Duration `yaml:"response" default:"60s"`
	// Idle closes kept connections to the app that were not used this long. Keep it below the app's own keep-alive time:
	// a POST that meets a connection which the app is just closing cannot be repeated and is answered 502. Default 90s.
	Idle time.Duration `yaml:"idle" default:"90s"`
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
	if len(a.Upstreams) == 0 {
		fail("upstreams must name at least one address")
	}
	return errors.Join(errs...)
}

// SendsIdentity reports whether the app is told who is asking.
func (a *App) SendsIdentity() bool { return a.IdentityHeaders == nil || *a.IdentityHeaders }

// DisplayName is what people read: the title, or else the name.
func (a *App) DisplayName() string {
	if a.Title != "" {
		return a.Title
	}
	return string(a.Name)
}

// Policy is the part of the app that the policy knows.
func (a *App) Policy() policy.App {
	return policy.App{
		Name: string(a.Name), Owner: a.Owner, Sensitivity: a.Sensitivity, Labels: a.Labels, Access: a.Access,
	}
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

func oneOf[T ~string](dst *T, text []byte, allowed ...T) error {
	for _, a := range allowed {
		if string(a) == string(text) {
			*dst = a
			return nil
		}
	}
	return fmt.Errorf("%q is none of %q", text, allowed)
}

// Upstream is one address of an app: scheme, host and port.
type Upstream struct{ url.URL }

// UnmarshalText accepts http:// and https:// addresses without user, path, query or fragment.
func (u *Upstream) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if err != nil {
		return err
	}
	switch {
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return fmt.Errorf("upstream %q must start with http:// or https://", text)
	case parsed.Hostname() == "" || parsed.User != nil || parsed.Opaque != "":
		return fmt.Errorf("upstream %q must be a scheme, a host and an optional port", text)
	case (parsed.Path != "" && parsed.Path != "/") || parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "":
		return fmt.Errorf("upstream %q must have no path, query or fragment", text)
	}
	if ip, err := netip.ParseAddr(parsed.Hostname()); err == nil && upstream.Forbidden(ip) {
		return fmt.Errorf("upstream %q is a link-local, multicast or unspecified address", text)
	}
	u.URL = url.URL{Scheme: parsed.Scheme, Host: strings.ToLower(parsed.Host)}
	return nil
}

// MarshalText is the address as configured.
func (u Upstream) MarshalText() ([]byte, error) { return []byte(u.URL.String()), nil }

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
