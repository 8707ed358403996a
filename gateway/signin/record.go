package signin

import (
	"encoding/json"
	"net"
	"net/http"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// The codes of the control records.
const (
	RecordSignIn       = "sign_in"        // a person signed in; session made
	RecordSignInApp    = "sign_in_app"    // the session was carried to an app host
	RecordSignInFailed = "sign_in_failed" // reason says why
	RecordRaised       = "session_raised" // the person of a session proved themselves again
	RecordSignOut      = "sign_out"       // everywhere; reason replaced: another person signed in; too_many_sessions: the oldest
	RecordSignOutApp   = "sign_out_app"   // on one app host
	// RecordProviderSignedOut: a provider said that it signed somebody out; their sessions end.
	RecordProviderSignedOut = "provider_signed_out"
	// RecordProviderSignOutFailed: what said so was not the provider's, or not for us; reason says why.
	RecordProviderSignOutFailed = "provider_sign_out_failed"
)

const maxText = 256 // of what records repeat of browsers and providers

// detail is what control records of sign-in say beyond the common fields.
type detail struct {
	Provider  string   `json:"provider,omitempty"`
	Reported  string   `json:"reported,omitempty"` // standard error code of the provider
	Host      string   `json:"host,omitempty"`     // of the app
	Address   string   `json:"address,omitempty"`  // of the browser, where there is no actor
	UserAgent string   `json:"user_agent,omitempty"`
	ACR       string   `json:"acr,omitempty"`
	AMR       []string `json:"amr,omitempty"`
	MFA       bool     `json:"mfa,omitempty"`
	Joined    bool     `json:"joined,omitempty"` // another tab had signed in meanwhile: its session is used
	Silent    bool     `json:"silent,omitempty"` // the provider was not to ask the person; now it is

	SID      string   `json:"sid,omitempty"`      // the provider's session that it signed out of
	Subject  string   `json:"subject,omitempty"`  // whom it signed out
	JTI      string   `json:"jti,omitempty"`      // of the logout token
	Count    *int     `json:"count,omitempty"`    // sessions that end
	Sessions []string `json:"sessions,omitempty"` // their ids
}

// record writes one control record and waits for it.
func (h *Handler) record(r *http.Request, record audit.Record, d detail) error {
	d.UserAgent = clip(r.UserAgent())
	raw, err := json.Marshal(d)
	if err != nil {
		panic("BUG: detail of a control record: " + err.Error())
	}
	record.Type, record.Detail = audit.TypeControl, raw
	if err := h.recorder.Record(r.Context(), &record); err != nil {
		return h.auditUnavailable(err)
	}
	return nil
}

func (h *Handler) recordSession(r *http.Request, code, reason, app string, s *session.Session, d detail) error {
	return h.record(r, audit.Record{Code: code, Reason: reason, App: app, Session: s.ID, Actor: actor(r, s.Identity)}, d)
}

// limited records a sign-in that a limit ended, of a person where that is known, and returns the limit's answer.
func (h *Handler) limited(r *http.Request, provider string, who *audit.Actor, answer error) error {
	if who == nil && h.limits.Counted(CodeLimited) {
		return answer
	}
	d := detail{Provider: provider, Address: address(r)}
	if err := h.record(r, audit.Record{Code: RecordSignInFailed, Reason: CodeLimited, Actor: who}, d); err != nil {
		return err
	}
	return answer
}

// refuse records a sign-in that failed, or counts it, and returns its page; a record that cannot be written is the greater
// problem.
func (h *Handler) refuse(r *http.Request, provider string, p *Problem) error {
	if h.limits != nil && h.limits.Counted(p.Code) {
		return p
	}
	d := detail{Provider: provider, Address: address(r)}
	if failure, ok := p.Err.(*oidc.Failure); ok {
		d.Reported = failure.Reported
	}
	if err := h.record(r, audit.Record{Code: RecordSignInFailed, Reason: p.Code}, d); err != nil {
		return err
	}
	h.log.WarnContext(r.Context(), "sign-in failed", "provider", provider, "reason", p.Code, "error", p.Err)
	return p
}

// clip bounds what a record repeats.
func clip(s string) string {
	if len(s) > maxText {
		return s[:maxText]
	}
	return s
}

func actor(r *http.Request, id *authn.Identity) *audit.Actor {
	return &audit.Actor{Kind: string(id.Kind), ID: id.ID(), Name: id.Email, Address: address(r)}
}

// address is the peer's: what headers say about it is the client's own word.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
