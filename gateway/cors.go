package gateway

import (
	"net/http"
	"slices"

	"sallyport/audit"
)

// preflight answers the questions that browsers ask before a page's request to another origin, where the app declares
// which may; nil when this is none. Such a question comes without credentials, so it is a stranger's: the answer says what
// the configuration says and nothing of what there is, and the app is not asked.
func (x *exchange) preflight() func(*exchange) error {
	if !x.app.headers.Shares() || !isPreflight(x.r) {
		return nil
	}
	if !x.app.headers.Admits(x.req.Header["Origin"]) {
		return (*exchange).refusePreflight
	}
	return (*exchange).answerPreflight
}

// isPreflight tells a browser's question from an OPTIONS request that an app may understand (Fetch §3.3.2).
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header["Origin"] != nil && r.Header["Access-Control-Request-Method"] != nil
}

// answerPreflight is on record as a request that no policy judged: nothing was opened. Preflights are counted apart from
// what strangers ask besides, since the people behind them may be known.
func (x *exchange) answerPreflight() error {
	if err := x.takeStranger(strangersPreflight); err != nil {
		return err
	}
	if err := x.recordReject(&Refusal{Effect: audit.Reject, Reason: "cors_preflight"}); err != nil {
		return unrecorded(err)
	}
	x.app.headers.Preflight(x.w.Header(), x.req.Header["Origin"])
	x.hurry()
	x.w.WriteHeader(http.StatusNoContent)
	return nil
}

// refusePreflight tells strangers what they are told everywhere.
func (x *exchange) refusePreflight() error {
	return x.hidden(&Refusal{Status: http.StatusForbidden, Effect: audit.Reject, Reason: "cors_origin",
		Public: "Pages of this origin may not use the app."})
}

// crossSiteUnsafe reports whether the request may change something and a page of another origin, which the app does not
// admit, makes the browser send it. Another app of the same site is another origin, too. Clients that are no browsers say
// nothing about it, and are not meant. WebSockets begin with a safe method and have a rule of their own.
func (x *exchange) crossSiteUnsafe(app *App) bool {
	switch x.req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false // RFC 9110 §9.2.1
	}
	origin, site := x.req.Header["Origin"], x.req.Header["Sec-Fetch-Site"]
	if app.headers.Admits(origin) {
		return false
	}
	foreign := origin != nil && !slices.Equal(origin, app.ownOrigin)
	if site == nil {
		return foreign
	}
	// A page without referrers has the origin null also towards its own app. Any other name beside same-origin is no browser's.
	if foreign && slices.Equal(origin, nullOrigin) {
		foreign = false
	}
	return foreign || !slices.Equal(site, sameOriginFetch) && !slices.Equal(site, noSiteFetch)
}

var (
	nullOrigin      = []string{"null"}
	sameOriginFetch = []string{"same-origin"}
	noSiteFetch     = []string{"none"}
)

// shareRefusal lets pages of other origins that the app admits read why they were refused, so that their scripts see a
// status and not a network error. There is nothing of the app in it.
func (x *exchange) shareRefusal(header http.Header) {
	if x.app == nil || x.req == nil || !x.app.headers.Shares() {
		return
	}
	x.app.headers.Share(header, x.req.Header["Origin"])
	if header["Access-Control-Allow-Origin"] != nil {
		header.Add("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, X-Request-Id")
	}
}
