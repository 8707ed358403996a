package signin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"sallyport/audit"
	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

const (
	maxLogoutBody = 64 << 10         // logout tokens are a few KiB at most
	logoutTime    = 15 * time.Second // providers do not wait for long
	logoutRetry   = 5                // seconds after which a provider may try again
)

// reasonLogoutReplay is a reason for which a logout token ends nothing, besides [CodeRequestInvalid] and those of
// [oidc.Provider.ReadLogout].
const reasonLogoutReplay = "logout_token_replayed"

// errReplayed: a logout token that was used, or is in use.
var errReplayed = errors.New("logout token was used before")

// serveBackChannel answers a provider that tells who is signed out (OpenID Connect Back-Channel Logout 1.0 §2.5 to §2.8).
// The answer is 200 when what the token says holds, whether it ended anything or not, 400 for what is not such a token or
// was seen before, and 503 when the provider should say it again.
func (h *Handler) serveBackChannel(w http.ResponseWriter, r *http.Request, name string) error {
	if err := allowOnly(w, r, http.MethodPost); err != nil {
		return err
	}
	p := h.provider(name)
	if p == nil {
		return h.notFound()
	}
	ctx, cancel := context.WithTimeout(r.Context(), logoutTime)
	defer cancel()
	r = r.WithContext(ctx)
	token, err := logoutToken(w, r)
	if err != nil {
		return h.logoutRefused(w, r, p, CodeRequestInvalid, err)
	}
	logout, err := p.ReadLogout(ctx, token)
	if err != nil && undecided(err) {
		return h.logoutAgain(w, r, p, err)
	}
	if err != nil {
		return h.logoutRefused(w, r, p, reasonOf(err), err)
	}
	switch err := h.signedOutBy(r, p, logout); {
	case errors.Is(err, errReplayed):
		return h.logoutRefused(w, r, p, reasonLogoutReplay, err)
	case err != nil:
		return h.logoutAgain(w, r, p, err)
	}
	logoutAnswer(w, http.StatusOK, "")
	return nil
}

// logoutToken reads the one form parameter that counts.
func logoutToken(w http.ResponseWriter, r *http.Request) (string, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return "", errors.New("not a form")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogoutBody))
	if err != nil {
		return "", fmt.Errorf("reading the form: %w", err)
	}
	values, err := singleValues(string(body), maxLogoutBody, "logout_token")
	if err != nil {
		return "", err
	}
	if values.Get("logout_token") == "" {
		return "", errors.New("no logout_token")
	}
	return values.Get("logout_token"), nil
}

// signedOutBy ends the sessions that a token speaks of, once. The token's id is claimed before anything else, for as long
// as the token could be accepted, and let go when the sessions could not be ended, so that the provider may say it again.
func (h *Handler) signedOutBy(r *http.Request, p *oidc.Provider, logout oidc.Logout) error {
	digest := sha256.Sum256([]byte(logout.ID))
	name := "logout " + p.Name() + " " + base64.RawURLEncoding.EncodeToString(digest[:])
	mine, release, err := h.sessions.Claim(r.Context(), name, holdOf(logout, h.now()))
	if err != nil {
		return err
	}
	if !mine {
		return errReplayed
	}
	if err := h.endSignedOut(r, p, logout); err != nil {
		release()
		return err
	}
	return nil
}

// logoutMargin is more than clocks differ by: a token that expires is refused before its id is forgotten.
const logoutMargin = 15 * time.Minute

func holdOf(logout oidc.Logout, now time.Time) time.Duration {
	last := logout.Issued
	if logout.Expires.After(last) {
		last = logout.Expires
	}
	return max(last.Sub(now), 0) + logoutMargin
}

// endSignedOut records what ends, then ends it.
func (h *Handler) endSignedOut(r *http.Request, p *oidc.Provider, logout oidc.Logout) error {
	over, err := h.sessionsOf(r.Context(), p, logout)
	if err != nil {
		return err
	}
	d := detail{Provider: p.Name(), Address: address(r), SID: clip(logout.Session), Subject: clip(logout.Subject), JTI: clip(logout.ID), Count: new(len(over))}
	for _, s := range over {
		d.Sessions = append(d.Sessions, s.ID)
	}
	record := audit.Record{Code: RecordProviderSignedOut}
	if len(over) == 1 {
		record.Session = over[0].ID
	}
	if err := h.record(r, record, d); err != nil {
		return err
	}
	for _, s := range over {
		if _, err := h.sessions.End(r.Context(), session.Filter{ID: s.ID}, session.ProviderSignedOut); err != nil {
			return err
		}
	}
	return nil
}

// sessionsOf are the sessions that a token speaks of. One that names a session of the provider's (sid) means what began
// within that one, and where it names the person too (sub), also what of them began in none that the provider named: it
// may be meant. One that names only the person means all of theirs.
func (h *Handler) sessionsOf(ctx context.Context, p *oidc.Provider, logout oidc.Logout) ([]session.Session, error) {
	var over []session.Session
	if logout.Session != "" {
		within, err := h.sessions.List(ctx, session.Filter{Provider: p.Name(), ProviderSession: logout.Session})
		if err != nil {
			return nil, err
		}
		for _, s := range within {
			if logout.Subject == "" || s.Identity.Subject == logout.Subject {
				over = append(over, s)
			}
		}
	}
	if logout.Subject == "" {
		return over, nil
	}
	theirs, err := h.sessions.List(ctx, session.Filter{Subject: logout.Person, Provider: p.Name()})
	if err != nil {
		return nil, err
	}
	for _, s := range theirs {
		if s.Identity.Subject == logout.Subject && (logout.Session == "" || s.ProviderSession == "") {
			over = append(over, s)
		}
	}
	return over, nil
}

// logoutRefused records what was not accepted, or counts it: anybody can send it.
func (h *Handler) logoutRefused(w http.ResponseWriter, r *http.Request, p *oidc.Provider, reason string, cause error) error {
	if h.limits == nil || !h.limits.Counted(reason) {
		d := detail{Provider: p.Name(), Address: address(r)}
		if err := h.record(r, audit.Record{Code: RecordProviderSignOutFailed, Reason: reason}, d); err != nil {
			return h.logoutAgain(w, r, p, err)
		}
		h.log.WarnContext(r.Context(), "sign-out by a provider refused", "provider", p.Name(), "reason", reason, "error", cause)
	}
	logoutAnswer(w, http.StatusBadRequest, "invalid_request")
	return nil
}

// logoutAgain asks the provider to say it again: nothing was ended, or not everything.
func (h *Handler) logoutAgain(w http.ResponseWriter, r *http.Request, p *oidc.Provider, cause error) error {
	h.log.ErrorContext(r.Context(), "sign-out by a provider could not be carried out", "provider", p.Name(), "error", cause)
	w.Header().Set("Retry-After", strconv.Itoa(logoutRetry))
	logoutAnswer(w, http.StatusServiceUnavailable, "temporarily_unavailable")
	return nil
}

// logoutAnswer follows Back-Channel Logout 1.0 §2.8.
func logoutAnswer(w http.ResponseWriter, status int, code string) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if code == "" {
		w.WriteHeader(status)
		return
	}
	header.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, `{"error":"`+code+`"}`+"\n") // the provider may have gone; there is nobody else to tell
}

// undecided: the provider's keys cannot be had, so nobody can tell yet what the token is worth.
func undecided(err error) bool {
	failure, ok := errors.AsType[*oidc.Failure](err)
	return ok && (failure.Code == oidc.ProviderUnreachable || failure.Code == oidc.ProviderInvalidAnswer)
}

func reasonOf(err error) string {
	if failure, ok := errors.AsType[*oidc.Failure](err); ok {
		return string(failure.Code)
	}
	return string(oidc.LogoutInvalid)
}
