package headers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// CORS says which other origins' pages may read an app's answers (https://fetch.spec.whatwg.org/#http-cors-protocol). With
// it the gateway answers preflights by itself, and what the app says in Access-Control-Allow-* and
// Access-Control-Expose-Headers is replaced. Without it, preflights are requests like others, and what the app says passes.
type CORS struct {
	// Origins are those pages' origins, such as https://intranet.corp.example. They also may send requests that change
	// something. Default: none.
	Origins []string `yaml:"origins" config:"single"`
	// Methods are what those pages may do. Default: GET, HEAD, POST.
	Methods []string `yaml:"methods" config:"single" default:"GET,HEAD,POST"`
	// Headers are the request headers that those pages may send besides the ones that any page may. Default: none.
	Headers []string `yaml:"headers" config:"single"`
	// Expose are the headers of answers that those pages may read besides the ones that any page may. Default: none.
	Expose []string `yaml:"expose" config:"single"`
	// Credentials lets those pages ask as the person who is signed in. Browsers send the gateway's cookie to pages of the
	// same site only. Default false.
	Credentials bool `yaml:"credentials"`
	// MaxAge is how long browsers may remember the answer to a preflight. Default 10m.
	MaxAge time.Duration `yaml:"max_age" default:"10m"`
}

// Check reports values that would mean nothing, or everything.
func (c *CORS) Check() error {
	var errs []error
	for _, origin := range c.Origins {
		if !isOrigin(origin) {
			errs = append(errs, fmt.Errorf("origins: %q must be an origin such as https://intranet.corp.example", origin))
		}
	}
	for _, list := range [...]struct {
		key   string
		names []string
	}{{"methods", c.Methods}, {"headers", c.Headers}, {"expose", c.Expose}} {
		for _, name := range list.names {
			if !isOrdinary(http.CanonicalHeaderKey(name)) {
				errs = append(errs, fmt.Errorf("%s: %q must be a name of letters, digits and hyphens", list.key, name))
			}
		}
	}
	for _, method := range c.Methods {
		if method != strings.ToUpper(method) { // methods are case-sensitive, and browsers ask for PUT (RFC 9110 §9.1)
			errs = append(errs, fmt.Errorf("methods: %q must be in upper case", method))
		}
	}
	if c.MaxAge < 0 {
		errs = append(errs, errors.New("max_age must not be negative"))
	}
	if len(c.Origins) == 0 && (c.Credentials || len(c.Headers) > 0 || len(c.Expose) > 0) {
		errs = append(errs, errors.New("origins must name at least one"))
	}
	return errors.Join(errs...)
}

// isOrigin holds for a scheme and an authority in the one form in which browsers send them (RFC 6454 §6.2).
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && s == u.Scheme+"://"+strings.ToLower(u.Host) &&
		!strings.ContainsAny(s, "*,;'\" ")
}

// sharing is CORS, worked out once.
type sharing struct {
	origins             map[string][]string // the value of Access-Control-Allow-Origin
	methods, headers    []string
	expose, credentials []string
	maxAge              []string
}

func (c *CORS) sharing() *sharing {
	if len(c.Origins) == 0 {
		return nil
	}
	methods := c.Methods
	if methods == nil {
		methods = []string{"GET", "HEAD", "POST"}
	}
	s := &sharing{origins: map[string][]string{}, methods: commas(methods), headers: commas(c.Headers), expose: commas(c.Expose),
		maxAge: []string{strconv.Itoa(int(c.MaxAge / time.Second))}}
	for _, origin := range c.Origins {
		s.origins[origin] = []string{origin}
	}
	if c.Credentials {
		s.credentials = []string{"true"}
	}
	return s
}

func commas(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return []string{strings.Join(list, ", ")}
}

// Shares reports whether the gateway speaks for the app about other origins' pages.
func (a *App) Shares() bool { return a.sharing != nil }

// Admits reports whether an Origin field is one of an origin whose pages may use the app.
func (a *App) Admits(origin []string) bool {
	return a.sharing != nil && len(origin) == 1 && a.sharing.origins[origin[0]] != nil
}

// Preflight makes h the answer to a preflight from an origin that Admits holds for. It says what may be asked, not whether
// this was: the browser compares. It is the same for everybody, and tells nothing of people.
func (a *App) Preflight(h http.Header, origin []string) {
	s := a.sharing
	h["Vary"] = preflightVary
	h["Access-Control-Allow-Methods"], h["Access-Control-Max-Age"] = s.methods, s.maxAge
	s.allow(h, origin)
	if s.headers != nil {
		h["Access-Control-Allow-Headers"] = s.headers
	}
}

// Share says in an answer that is about to leave whether the page that asked may read it, in place of what the app says.
func (a *App) Share(h http.Header, origin []string) {
	if a.sharing == nil {
		return
	}
	for _, name := range [...]string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
		"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age", "Access-Control-Allow-Private-Network"} {
		delete(h, name)
	}
	h["Vary"] = joined(h["Vary"], originVary)
	if !a.Admits(origin) {
		return
	}
	a.sharing.allow(h, origin)
	if a.sharing.expose != nil {
		h["Access-Control-Expose-Headers"] = a.sharing.expose
	}
}

// allow names the origin as it is configured, never as it was sent.
func (s *sharing) allow(h http.Header, origin []string) {
	h["Access-Control-Allow-Origin"] = s.origins[origin[0]]
	if s.credentials != nil {
		h["Access-Control-Allow-Credentials"] = s.credentials
	}
}

var (
	originVary    = []string{"Origin"}
	preflightVary = []string{"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
)
