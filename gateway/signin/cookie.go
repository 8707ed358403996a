package signin

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// The names of our cookies. The prefix __Host- makes browsers refuse them from any other host, from plain HTTP and with
// a Domain or a Path (RFC 6265bis §4.1.3.2).
const (
	SessionCookie = "__Host-sallyport"
	flowCookie    = "__Host-sallyport-flow-" // and the flow's id
	backCookie    = "__Host-sallyport-back-" // and the id of one way back
	loopCookie    = backCookie + "loop"      // counts sign-ins that followed each other too quickly
)

const (
	attemptTime    = 10 * time.Minute // from the first redirect to the callback
	maxAttempts    = 10               // flow cookies, and back cookies, in one browser and host
	maxFlowBytes   = 12 << 10         // all flow cookies together: servers bound a request's head
	maxCookieValue = 3800             // browsers keep 4,096 bytes of name, value and attributes
	maxHandles     = 4                // session cookies looked at in one request
	flowPurpose    = "signin flow"
)

// setCookie sets one of our cookies; maxAge 0 makes it last as long as the browser runs, which the session cookie does:
// its limits are the server's to keep, and it need not outlive the browser.
func setCookie(w http.ResponseWriter, name, value string, maxAge time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, MaxAge: int(maxAge / time.Second),
		Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func clearCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{
		Name: name, MaxAge: -1, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// handles are the values of the session cookie. There is more than one only when somebody tampers: each is tried.
func handles(r *http.Request) []string {
	var all []string
	for _, c := range r.CookiesNamed(SessionCookie) {
		if len(all) < maxHandles && c.Value != "" {
			all = append(all, c.Value)
		}
	}
	return all
}

// first returns the first session that a handle of the request leads to, nil when none does.
func (h *Handler) first(r *http.Request, find func(handle string) (*session.Session, error)) (*session.Session, error) {
	for _, handle := range handles(r) {
		s, err := find(handle)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, session.ErrNoSession) {
			return nil, h.sessionsDown(err)
		}
	}
	return nil, nil
}

// carried is a cookie of one attempt, with the time it was made; the zero time when that cannot be told.
type carried struct {
	name string
	size int
	made time.Time
}

// makeRoom drops cookies of the oldest attempts, so that one more keeps within the bounds.
func makeRoom(w http.ResponseWriter, have []carried, adding, maxBytes int) {
	slices.SortStableFunc(have, func(a, b carried) int { return a.made.Compare(b.made) })
	bytes := adding
	for _, c := range have {
		bytes += c.size
	}
	for len(have) > 0 && (len(have) >= maxAttempts || bytes > maxBytes) {
		clearCookie(w, have[0].name)
		bytes -= have[0].size
		have = have[1:]
	}
}

// carryFlow puts a flow into the browser.
func (h *Handler) carryFlow(w http.ResponseWriter, r *http.Request, f *oidc.Flow) {
	sealed := h.sealFlow(f)
	if len(sealed) > maxCookieValue {
		f.ReturnPath = "/"
		sealed = h.sealFlow(f)
	}
	name := flowCookie + f.ID
	var have []carried
	for _, c := range r.Cookies() {
		if !strings.HasPrefix(c.Name, flowCookie) {
			continue
		}
		var made time.Time
		if old := h.openFlow(c.Value); old != nil {
			made = old.Started
		}
		have = append(have, carried{c.Name, len(c.Name) + len(c.Value), made})
	}
	makeRoom(w, have, len(name)+len(sealed), maxFlowBytes)
	setCookie(w, name, sealed, attemptTime)
}

// takeFlow reads the flow with the given id and takes its cookie away: it is used once, whatever comes of it.
func (h *Handler) takeFlow(w http.ResponseWriter, r *http.Request, id string) (*oidc.Flow, error) {
	cookie, err := r.Cookie(flowCookie + id)
	if err != nil {
		return nil, err
	}
	clearCookie(w, cookie.Name)
	f := h.openFlow(cookie.Value)
	if f == nil || f.ID != id {
		return nil, http.ErrNoCookie
	}
	return f, nil
}

func (h *Handler) sealFlow(f *oidc.Flow) string {
	var plain strings.Builder
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false) // a "&" in a query should not cost six bytes
	if err := enc.Encode(f); err != nil {
		panic("BUG: a flow is not JSON: " + err.Error())
	}
	return h.sessions.Seal(flowPurpose, []byte(plain.String()))
}

func (h *Handler) openFlow(sealed string) *oidc.Flow {
	plain, err := h.sessions.Open(flowPurpose, sealed)
	if err != nil {
		return nil
	}
	f := new(oidc.Flow)
	if err := json.Unmarshal(plain, f); err != nil {
		return nil
	}
	return f
}

// carryBack puts the verifier of one way back into the browser: the time it was made, a dot and random text.
func (h *Handler) carryBack(w http.ResponseWriter, r *http.Request, id, random string) (verifier string) {
	verifier = strconv.FormatInt(h.now().Unix(), 10) + "." + random
	var have []carried
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, backCookie) && c.Name != loopCookie {
			have = append(have, carried{name: c.Name, made: stampOf(c.Value)})
		}
	}
	makeRoom(w, have, 0, 0)
	setCookie(w, backCookie+id, verifier, attemptTime)
	return verifier
}

// stampOf reads the Unix time before the dot.
func stampOf(value string) time.Time {
	stamp, _, _ := strings.Cut(value, ".")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// A browser that does not send our session cookie back would sign in forever: after loopLimit sign-ins within loopTime
// the next one is a page instead.
const (
	loopTime  = time.Minute
	loopLimit = 5
)

// loops reads how many sign-ins there were and since when.
func (h *Handler) loops(r *http.Request) (count int, since time.Time) {
	cookie, err := r.Cookie(loopCookie)
	if err != nil {
		return 0, h.now()
	}
	since = stampOf(cookie.Value)
	_, number, _ := strings.Cut(cookie.Value, ".")
	count, err = strconv.Atoi(number)
	if age := h.now().Sub(since); err != nil || age < 0 || age > loopTime {
		return 0, h.now()
	}
	return count, since
}

// countSignIn remembers one more.
func (h *Handler) countSignIn(w http.ResponseWriter, r *http.Request) {
	count, since := h.loops(r)
	setCookie(w, loopCookie, strconv.FormatInt(since.Unix(), 10)+"."+strconv.Itoa(count+1), loopTime)
}

// looping tells that the browser must stop, and lets it begin anew after that.
func (h *Handler) looping(w http.ResponseWriter, r *http.Request) bool {
	if count, _ := h.loops(r); count < loopLimit {
		return false
	}
	clearCookie(w, loopCookie)
	return true
}
