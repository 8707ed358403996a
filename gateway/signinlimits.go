package gateway

import (
	"strings"
	"time"

	"sallyport/gateway/limit"
	"sallyport/gateway/signin"
)

// limitOwn holds strangers to their rates also where the gateway itself answers, and the steps of a sign-in to the rate
// of their address: a way back from a provider always, the way there unless somebody is signed in and will be sent on at
// once. When nobody can tell whether somebody is, the endpoint says so itself.
func (x *exchange) limitOwn(isAuth bool) error {
	known := x.known(isAuth)
	if !known {
		if err := x.stranger(); err != nil {
			return x.countOwn(err)
		}
	}
	back := isAuth && strings.HasPrefix(x.req.Path, signin.CallbackPath)
	if there := isAuth && x.req.Path == signin.StartPath; !back && (!there || known) {
		return nil
	}
	rate := x.snap.Limits.SignIn.Address
	if wait := x.server.accounts.strangers.Take(strangerAccount{strangersSignIn, networkOf(x.conn.address.Addr())}, rate, x.start); wait > 0 {
		return x.countOwn(x.tooOften(overLimit{limit: limitSignInAddress, rate: rate, wait: wait}, ""))
	}
	return nil
}

// known reports whether there is a session behind the request.
func (x *exchange) known(isAuth bool) bool {
	handle, ok := x.req.Handle()
	if !ok {
		return false
	}
	var err error
	if isAuth {
		_, err = x.server.sessions.SignedIn(x.ctx, handle)
	} else {
		_, err = x.server.sessions.Lookup(x.ctx, x.req.Host, handle)
	}
	return err == nil
}

// countOwn puts a refusal of an own endpoint, which has no decision record, into the log's window.
func (x *exchange) countOwn(err error) error {
	x.server.count("rate_limited", "", x.conn.address.Addr())
	return err
}

// signIn is the sign-in within the limits that hold for this exchange, whose sessions are bound to what its client is.
func (x *exchange) signIn() *signin.Handler {
	return x.snap.SignIn.Within(signInLimits{x}).Seeing(x.bound)
}

// signInLimits are what a sign-in may cost.
type signInLimits struct{ x *exchange }

// Return implements [signin.Limits].
func (l signInLimits) Return() error {
	return l.take(limitSignInTotal, l.x.snap.Limits.SignIn.Total, l.x.server.accounts.returning.Take)
}

// Account implements [signin.Limits].
func (l signInLimits) Account(id string) error {
	account := personAccount{limit: limitSignInAccount, person: id}
	return l.take(limitSignInAccount, l.x.snap.Limits.SignIn.Account, func(rate limit.Rate, now time.Time) time.Duration {
		return l.x.server.accounts.people.Take(account, rate, now)
	})
}

func (l signInLimits) take(which limited, rate limit.Rate, from func(limit.Rate, time.Time) time.Duration) error {
	if wait := from(rate, l.x.start); wait > 0 {
		return l.x.tooOften(overLimit{limit: which, rate: rate, wait: wait}, "")
	}
	return nil
}

// Counted implements [signin.Limits].
func (l signInLimits) Counted(reason string) bool { return l.x.countInstead(reason) }

var _ signin.Limits = signInLimits{}
