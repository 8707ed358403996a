package gateway

import (
	"errors"
	"net/http"

	"sallyport/audit"
	"sallyport/authn/session"
)

// identify finds out who is asking. Nobody is an answer too: whether strangers may pass is for the policy to say, and how
// often they may ask is limited from here. A handle costs strangers nothing but the look: one that we did not make is
// recognised without asking the store, and so is one that has ended (session.Keeper).
// A program shows a token, or the certificate of its account, in place of a session (machine.go).
// When nobody can tell, because the session store does not answer, the request is refused.
func (x *exchange) identify() error {
	if x.req.Token != "" {
		return x.identifyBearer()
	}
	handle, ok := x.req.Handle()
	if !ok {
		return x.identifyProgram()
	}
	found, err := x.server.sessions.Lookup(x.ctx, x.req.Host, handle)
	switch {
	case err == nil:
		x.session, x.handle = found, handle
		x.conn.identified()
		return nil
	case !errors.Is(err, session.ErrNoSession):
		return sessionsUnavailable(err)
	}
	return x.identifyProgram()
}

func sessionsUnavailable(err error) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: "sessions_unavailable",
		Public: "The gateway cannot look up your session at the moment.", Err: err}
}

// currentSession is the exchange's session as it is now: nil for strangers, an error once it has ended.
func (x *exchange) currentSession() (*session.Session, error) {
	if x.session == nil {
		return nil, nil
	}
	if x.machine {
		return x.currentMachine()
	}
	found, err := x.server.sessions.Lookup(x.ctx, x.req.Host, x.handle)
	if err != nil {
		return nil, err
	}
	return x.recheckOpen(found)
}
