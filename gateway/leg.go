package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"sallyport/gateway/upstream"
)

type exchangeKey struct{}

// forwarding is the context of an exchange on its way to the app. It outlives the exchange where a cache refreshes an
// entry afterwards.
func (x *exchange) forwarding() context.Context { return context.WithValue(x.ctx, exchangeKey{}, x) }

// leg is what lies between cache and pool: it says how the request is to be balanced, and removes from the answer what
// an app may not say, before anything of it can be stored.
type leg struct{ app *App }

func (l leg) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	hint := l.app.hint(x)
	defer x.hint.Store(hint)
	res, err := l.app.pool.RoundTrip(r.WithContext(upstream.WithHint(r.Context(), hint)))
	if err != nil {
		return nil, err
	}
	if err := checkHead(res); err != nil {
		res.Body.Close()
		return nil, err
	}
	blocked, err := l.app.headers.FromApp(res.Header, res.StatusCode)
	if err != nil {
		res.Body.Close()
		return nil, err
	}
	if blocked != nil {
		x.blockedCookies.Store(&blocked)
	}
	return res, nil
}

// checkHead refuses what HTTP/1.1 clients would be told in two ways, or net/http cannot tell them: lengths that HTTP/2, which
// has frames for that, lets pass (RFC 9113 §8.1.1, RFC 9110 §8.6), and statuses that do not end an exchange (RFC 9110 §15).
func checkHead(res *http.Response) error {
	switch lengths := res.Header["Content-Length"]; {
	case len(lengths) > 1:
		return errTwoLengths
	case len(lengths) == 1 && (lengths[0] == "" || strings.Trim(lengths[0], "0123456789") != ""):
		return errNoLength
	case res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols, res.StatusCode > 999:
		return errNoStatus
	}
	return nil
}

var (
	errTwoLengths = errors.New("the app announced two lengths")
	errNoLength   = errors.New("the app announced a length that is no number")
	errNoStatus   = errors.New("the app answered with a status that is none")
)

// hint is what the pool may know of the sender of a request to choose an address for it.
func (a *App) hint(x *exchange) *upstream.Hint {
	hint := &upstream.Hint{Prefer: x.stuckTo()}
	switch a.Balance.Method {
	case upstream.MethodHash:
		hint.Key = a.hashKey(x)
	}
	return hint
}

// hashKey is what requests that belong together have in common.
func (a *App) hashKey(x *exchange) string {
	switch a.Balance.Hash {
	case upstream.HashUser:
		if x.session != nil {
			return x.session.Identity.ID()
		}
	case upstream.HashCookie:
		for _, cookie := range (&http.Request{Header: x.req.Header}).CookiesNamed(a.Balance.Name) {
			return cookie.Value
		}
	case upstream.HashHeader:
		if value := x.req.Header.Get(a.Balance.Name); value != "" {
			return value
		}
	}
	return x.req.Peer.Addr().String()
}
