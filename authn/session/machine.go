package session

import (
	"sync/atomic"
	"time"

	"sallyport/authn"
)

// machines counts the values of ForMachine.
var machines atomic.Int64

// ForMachine is who sends a request without a session, in the form in which the gateway knows who asks: the bearer of a
// token, or a program with a certificate. No store has it and no handle leads to it. What it is known by is named by id,
// as records and open streams do: the public name of a token, or of a service account.
//
// The value is made once for each token in use and kept with it, so that what is derived of it is, too. A change of identity
// is a new value. Each has a version of its own: what is remembered of one by its id and version, such as assertions, is
// never told of another, also when a reload or a full memory made the same program anew.
func ForMachine(id string, who *authn.Identity, at time.Time) *Session {
	return &Session{ID: id, Identity: who, Created: at, Seen: at, Checked: at, Version: machines.Add(1), derived: new(derived)}
}
