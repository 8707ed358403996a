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
	lastCookie    = "__Host-sallyport-last"  // name of the provider of the last sign-in
)

const (
	attemptTime    = 10 * time.Minute // from the first redirect to the callback
	maxAttempts    = 10               // flow cookies, and back cookies, in one browser and host
	maxFlowBytes   = 15 << 10         // all flow cookies together: servers bound a request's head
	crowdTime      = 5 * time.Second  // a tab that would push out an attempt this young waits for a click
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

// signedIn returns the sign-in session of the browser and the handle that leads to it, nil when there is none.
func (h *Handler) signedIn(r *http.Request) (*session.Session, string, error) {
	for _, handle := range handles(r) {
		s, err := h.sessions.SignedIn(r.Context(), handle)
		if err == nil {
			return s, handle, nil
		}
		if !errors.Is(err, session.ErrNoSession) {
			return nil, "", h.sessionsDown(err)
		}
	}
	return nil, "", nil
}

// carried is a cookie of one attempt, with the time it was made; the zero time when that cannot be told.
type carried struct {
	name string
	size int
	made time.Time
}

// makeRoom drops cookies of the oldest attempts, so that one more keeps within the bounds. It drops nothing, and says so,
// when that would push out a tab that was opened a moment ago, as when a browser restores twenty at once.
func (h *Handler) makeRoom(w http.ResponseWriter, have []carried, adding, maxBytes int) bool {
	slices.SortStableFunc(have, func(a, b carried) int { return a.made.Compare(b.made) })
	bytes, drop := adding, 0
	for _, c := range have {
		bytes += c.size
	}
	for drop < len(have) && (len(have)-drop >= maxAttempts || bytes > maxBytes) {
		if age := h.now().Sub(have[drop].made); age >= 0 && age < crowdTime {
			return false
		}
		bytes -= have[drop].size
		drop++
	}
	for _, c := range have[:drop] {
		clearCookie(w, c.name)
	}
	return true
}

// attempt is a flow with what is the sign-in host's own to remember of it.
type attempt struct {
	*oidc.Flow
	// Raises is the id of the session that goes on when its person comes back; empty: none.
	Raises string `json:"raises,omitempty"`
}

// carryFlow puts an attempt into the browser; false when there is no room for it at the moment.
func (h *Handler) carryFlow(w http.ResponseWriter, r *http.Request, a *attempt) bool {
	sealed := h.sealFlow(a)
	if len(sealed) > maxCookieValue {
		a.ReturnPath = "/"
		sealed = h.sealFlow(a)
	}
	name := flowCookie + a.ID
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
	if !h.makeRoom(w, have, len(name)+len(sealed), maxFlowBytes) {
		return false
	}
	setCookie(w, name, sealed, attemptTime)
	return true
}

// takeFlow reads the flow with the given id and takes its cookie away: it is used once, whatever comes of it.
func (h *Handler) takeFlow(w http.ResponseWriter, r *http.Request, id string) (*attempt, error) {
	cookie, err := r.Cookie(flowCookie + id)
	if err != nil {
		return nil, err
	}
	clearCookie(w, cookie.Name)
	a := h.openFlow(cookie.Value)
	if a == nil || a.ID != id {
		return nil, http.ErrNoCookie
	}
	return a, nil
}

func (h *Handler) sealFlow(a *attempt) string {
	var plain strings.Builder
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false) // a "&" in a query should not cost six bytes
	if err := enc.Encode(a); err != nil {
		panic("BUG: a flow is not JSON: " + err.Error())
	}
	return h.sessions.Seal(flowPurpose, []byte(plain.String()))
}

func (h *Handler) openFlow(sealed string) *attempt {
	plain, err := h.sessions.Open(flowPurpose, sealed)
	if err != nil {
		return nil
	}
	a := &attempt{Flow: new(oidc.Flow)}
	if err := json.Unmarshal(plain, a); err != nil {
		return nil
	}
	return a
}

// carryBack puts the verifier of one way back into the browser: the time it was made, a dot and random text. It is false
// when there is no room for it at the moment.
func (h *Handler) carryBack(w http.ResponseWriter, r *http.Request, id, random string) (verifier string, fits bool) {
	verifier = strconv.FormatInt(h.now().Unix(), 10) + "." + random
	var have []carried
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, backCookie) && c.Name != loopCookie {
			have = append(have, carried{name: c.Name, made: stampOf(c.Value)})
		}
	}
	if !h.makeRoom(w, have, 0, 0) {
		return "", false
	}
	setCookie(w, backCookie+id, verifier, attemptTime)
	return verifier, true
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

// A browser that does not send our session cookie back would sign in forever, and so would one whose person cannot come to
// what an app needs. Each sign-in that begins within loopTime of the return of another counts; after so many the next one
// is a page instead. Tabs that begin before any of them returned do not count.
const (
	loopTime        = time.Minute
	loopLimit       = 5
	stepUpLoopLimit = 3
)

// loop is what the loop cookie holds: "since.count.b" after a return, without the last part after a start.
type loop struct {
	since    time.Time // the last return
	count    int
	returned bool
}

func (h *Handler) loop(r *http.Request) loop {
	cookie, err := r.Cookie(loopCookie)
	if err != nil {
		return loop{}
	}
	l := loop{since: stampOf(cookie.Value)}
	_, rest, _ := strings.Cut(cookie.Value, ".")
	number, mark, _ := strings.Cut(rest, ".")
	l.count, err = strconv.Atoi(number)
	l.returned = mark == "b"
	if age := h.now().Sub(l.since); err != nil || l.count < 0 || age < 0 || age > loopTime {
		return loop{}
	}
	return l
}

func (l loop) set(w http.ResponseWriter) {
	value := strconv.FormatInt(l.since.Unix(), 10) + "." + strconv.Itoa(l.count)
	if l.returned {
		value += ".b"
	}
	setCookie(w, loopCookie, value, loopTime)
}

// countReturn remembers that a sign-in came to its end.
func (h *Handler) countReturn(w http.ResponseWriter, r *http.Request) {
	l := h.loop(r)
	l.since, l.returned = h.now(), true
	l.set(w)
}

// looping tells that the browser must stop, and lets it begin anew after that.
func (h *Handler) looping(w http.ResponseWriter, r *http.Request, need Need) bool {
	l := h.loop(r)
	if !l.returned {
		return false
	}
	l.returned = false
	l.count++
	if l.count >= loopLimit || need.asks() && l.count >= stepUpLoopLimit {
		clearCookie(w, loopCookie)
		return true
	}
	l.set(w)
	return false
}
