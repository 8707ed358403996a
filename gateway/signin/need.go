package signin

import (
	"time"
)

// Need is what a sign-in must come to for what somebody is about to open. A session that falls short of it goes to the
// provider once more, and is raised when the same person comes back. The zero Need is met by every session.
type Need struct {
	MFA    bool          `json:"mfa,omitzero"`     // more than one factor
	ACR    []string      `json:"acr,omitempty"`    // one of these classes
	MaxAge time.Duration `json:"max_age,omitzero"` // since the person proved themselves, at most
	Fresh  bool          `json:"fresh,omitzero"`   // they prove themselves now
	// Recheck: the provider is passed by again, whatever the session says. It is not to ask anything of people it knows.
	Recheck bool `json:"recheck,omitzero"`
	// Providers are the names of those that will do, besides what the app says of them; empty: all.
	Providers []string `json:"providers,omitempty"`
}
