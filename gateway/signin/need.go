package signin

import (
	"encoding/json"
	"slices"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
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

// needed is a Need on its way to the sign-in host.
type needed struct {
	Need
	Since time.Time `json:"since,omitzero"` // when it was found
}

const (
	needPurpose = "signin need"
	maxNeed     = 2 << 10 // sealed
)

func (n Need) isZero() bool {
	return !n.MFA && len(n.ACR) == 0 && n.MaxAge == 0 && !n.Fresh && !n.Recheck && len(n.Providers) == 0
}

// asks reports whether a need asks something of a session, besides where it is from.
func (n Need) asks() bool {
	n.Providers = nil
	return !n.isZero()
}

// sealNeed puts a need into words that only the sign-in host reads; "" when there is none.
func (h *Handler) sealNeed(n Need) string {
	if n.isZero() {
		return ""
	}
	plain, err := json.Marshal(needed{n, h.now()})
	if err != nil {
		panic("BUG: a need is not JSON: " + err.Error())
	}
	return h.sessions.Seal(needPurpose, plain)
}

// openNeed reads them. What cannot be read, such as that of a key that is gone, is no need: the app host says it again.
func (h *Handler) openNeed(sealed string) (n needed) {
	if sealed == "" || len(sealed) > maxNeed {
		return needed{}
	}
	plain, err := h.sessions.Open(needPurpose, sealed)
	if err != nil || json.Unmarshal(plain, &n) != nil {
		return needed{}
	}
	return n
}

// demand is what the provider is asked for.
func (n Need) demand() oidc.Demand {
	d := oidc.Demand{MFA: n.MFA, ACR: n.ACR, Fresh: n.Fresh}
	if n.MaxAge > 0 {
		d.MaxAge = max(int64(n.MaxAge/time.Second), 1)
	}
	return d
}

// metBy reports whether a session comes to what is needed, but for the provider.
func (n needed) metBy(s *session.Session, now time.Time) bool {
	if n.Recheck && s.Checked.Before(n.Since) {
		return false
	}
	return meets(s, n.demand(), n.Since, now)
}

// meets reports whether a session comes to what is demanded since a time. Providers tell times in whole seconds.
func meets(s *session.Session, d oidc.Demand, since, now time.Time) bool {
	who := s.Identity
	switch {
	case d.MFA && !who.MFA:
		return false
	case len(d.ACR) > 0 && !slices.Contains(d.ACR, who.ACR):
		return false
	case d.MaxAge > 0 && (who.AuthTime.IsZero() || now.Sub(who.AuthTime) > time.Duration(d.MaxAge)*time.Second):
		return false
	case d.Fresh && (who.AuthTime.IsZero() || who.AuthTime.Before(since.Truncate(time.Second))):
		return false
	}
	return true
}
