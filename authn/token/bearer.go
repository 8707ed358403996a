package token

import (
	"time"

	"sallyport/authn/session"
)

// Bearer is who showed a token that is good, and what it is good for. It is shared between goroutines and never changes.
type Bearer struct {
	// ID is the token's public name, which tells nothing about the token; records and open streams know it by that.
	ID   string
	Kind Kind
	Name string // as its owner named it, or the issuer's name

	Apps    []string // what it is good for; "*" is everything
	Methods []string
	Scopes  []string // RFC 6749 §3.3; of issued tokens

	Expires time.Time

	// Session stands for the bearer; its id is ID (session.ForMachine).
	Session *session.Session
}

// Kind tells who made a token.
type Kind string

// The kinds of tokens.
const (
	Personal Kind = "personal" // a person, in the portal
	Issued   Kind = "issued"   // a configured issuer
)

// Refused is why a credential is not good. Code is for records and fixed; Err is for the log and never holds the token.
type Refused struct {
	Code string
	Err  error
}

func (r *Refused) Error() string {
	if r.Err != nil {
		return "token refused: " + r.Code + ": " + r.Err.Error()
	}
	return "token refused: " + r.Code
}

func (r *Refused) Unwrap() error { return r.Err }
