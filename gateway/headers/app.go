package headers

import (
	"errors"
	"net/http"
	"strings"
)

// CookiePrefix begins the name of every cookie of the gateway: the session, and with a hyphen after it the ones of a
// sign-in under way. Apps can neither read nor write a cookie whose name begins like this, in any case.
const CookiePrefix = "__Host-sallyport"

// AppConfig is what an App is made of.
type AppConfig struct {
	Address
	InternalHosts []string  // names under which the app may know itself, without port
	Others        []Address // of the other apps
	IdentityAs    map[string]string
	Cookies       Cookies
	Security      Security
	CORS          CORS
}

// App is the table for one app: what it is told of people, what becomes of its answers. It is immutable and serves many
// requests at once.
type App struct {
	places   places
	told     []telling
	cookies  cookieRules
	promises promises
	sharing  *sharing
}

// NewApp works out what is the same for all requests to an app. What cfg holds has been checked.
func NewApp(cfg AppConfig) *App {
	return &App{
		places: newPlaces(cfg), told: tellings(cfg.IdentityAs), cookies: cfg.Cookies.rules(cfg.Origin),
		promises: cfg.Security.promises(), sharing: cfg.CORS.sharing(),
	}
}

// ErrSplit says that an answer's header holds bytes that end a line somewhere else: what one reader takes for a value, the
// next takes for two fields (RFC 9110 §5.5). Such an answer does not leave.
var ErrSplit = errors.New("the app's header holds control bytes")

// FromApp makes an answer's header fit to leave: it removes the fields of the table and those that Connection names, turns
// internal addresses in Location, Content-Location, Refresh and Link into public ones, and hardens cookies. With status 101
// the upgrade itself stays, since it is the answer's meaning. h is changed in place.
//
// blocked are the names of cookies that were removed, as the app spelt them, at most 64 bytes each and at most 8 of
// them; whoever records the exchange says so there. The error is ErrSplit.
func (a *App) FromApp(h http.Header, status int) (blocked []string, err error) {
	upgrade := h["Upgrade"]
	for _, name := range NamedByConnection(h) {
		delete(h, name)
	}
	for name, values := range h {
		if !isText(values) {
			return nil, ErrSplit
		}
		if !isOrdinary(name) || fromApp.class(name) != passes {
			delete(h, name)
		}
	}
	if status == http.StatusSwitchingProtocols && len(upgrade) == 1 {
		SetUpgrade(h, upgrade[0])
	}
	blocked = a.cookies.harden(h)
	keepSignedIn(h)
	a.places.rewrite(h)
	return blocked, nil
}

// isText reports whether values hold nothing but what RFC 9110 §5.5 allows: visible characters, spaces and tabs.
func isText(values []string) bool {
	for _, value := range values {
		for i := 0; i < len(value); i++ {
			if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
				return false
			}
		}
	}
	return true
}

// keepSignedIn takes "cookies" and "*" out of Clear-Site-Data: browsers clear cookies for the whole registrable
// domain, so one app would sign people out of all the others (https://www.w3.org/TR/clear-site-data/ §3.1).
func keepSignedIn(h http.Header) {
	lines := h["Clear-Site-Data"]
	if lines == nil {
		return
	}
	var kept []string
	for _, line := range lines {
		for kind := range strings.SplitSeq(line, ",") {
			switch kind = strings.TrimSpace(kind); strings.ToLower(kind) {
			case `"cookies"`:
			case `"*"`:
				kept = append(kept, `"cache"`, `"storage"`)
			default:
				kept = append(kept, kind)
			}
		}
	}
	delete(h, "Clear-Site-Data")
	if len(kept) > 0 {
		h["Clear-Site-Data"] = []string{strings.Join(kept, ", ")}
	}
}
