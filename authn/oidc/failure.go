package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"sallyport/authn/remote"
)

// Code says why a sign-in failed. Codes are fixed words for records, metrics and pages: they never hold anything that a
// provider or a browser sent.
type Code string

// The reasons for which a sign-in fails.
const (
	StateMissing          Code = "state_missing"           // callback without state
	StateMismatch         Code = "state_mismatch"          // state of another sign-in
	CallbackInvalid       Code = "callback_invalid"        // repeated or oversized parameters
	IssuerMissing         Code = "iss_missing"             // provider announces iss in answers and sent none (RFC 9207 §2.4)
	IssuerMismatch        Code = "iss_mismatch"            // iss of another provider
	AccessDenied          Code = "access_denied"           // the person or the provider declined
	LoginRequired         Code = "login_required"          // the provider cannot answer without asking the person
	ProviderError         Code = "provider_error"          // any other error that the provider reported
	CodeMissing           Code = "code_missing"            // neither code nor error
	CodeRejected          Code = "code_rejected"           // token endpoint refused the code or the verifier
	RefreshRejected       Code = "refresh_rejected"        // token endpoint refused the refresh token
	ClientRejected        Code = "client_rejected"         // token endpoint refused Sallyport itself
	KeyUnavailable        Code = "client_key_unavailable"  // the client assertion could not be signed
	ProviderUnreachable   Code = "provider_unreachable"    // no answer, in time, or an overloaded one
	ProviderInvalidAnswer Code = "provider_invalid_answer" // an answer that makes no sense
	DiscoveryMismatch     Code = "issuer_mismatch"         // discovery names another issuer than configured
	DiscoveryInvalid      Code = "discovery_invalid"       // discovery lacks or misplaces an endpoint
	TokenMissing          Code = "id_token_missing"        // no id_token in the token answer
	TokenInvalid          Code = "id_token_invalid"        // form, or a claim that makes no sense
	TokenAlgorithm        Code = "id_token_algorithm"      // none, symmetric or not one that the provider announces
	TokenKey              Code = "id_token_unknown_key"    // no published key of that id and kind
	TokenSignature        Code = "id_token_signature"      // not by the key that it names
	TokenIssuer           Code = "id_token_wrong_issuer"   // iss of another provider
	TokenAudience         Code = "id_token_wrong_audience" // aud without this client
	TokenExpired          Code = "id_token_expired"        // exp in the past
	TokenNotYet           Code = "id_token_not_yet_valid"  // iat or nbf in the future
	TokenParty            Code = "id_token_wrong_party"    // azp of another client
	NonceMismatch         Code = "nonce_mismatch"          // nonce absent or of another sign-in
	SubjectInvalid        Code = "subject_invalid"         // sub absent, oversized or not text
	SubjectMismatch       Code = "subject_mismatch"        // userinfo or refresh speaks of somebody else
	AuthTooOld            Code = "auth_too_old"            // auth_time absent or older than max_age allows
	AssuranceUnmet        Code = "assurance_unmet"         // acr or amr fall short of what was demanded
	LogoutInvalid         Code = "logout_token_invalid"    // form, type, event or identifier of a logout token
	LogoutExpired         Code = "logout_token_expired"    // exp in the past
)

// Failure is a sign-in that did not come to an end. Code may be recorded and shown; Err is for the log.
type Failure struct {
	Code Code
	// Reported is the provider's own error code when it is one that the standards define, otherwise empty.
	Reported string
	// Unsent tells of a refresh whose token the provider surely did not use up: the call did not get through to it, or it
	// said no for another reason than the token.
	Unsent bool
	Err    error
}

// Error names the code and the cause.
func (f *Failure) Error() string {
	text := string(f.Code)
	if f.Reported != "" {
		text += " (" + f.Reported + ")"
	}
	if f.Err != nil {
		text += ": " + f.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

func fail(code Code, format string, args ...any) *Failure {
	return &Failure{Code: code, Err: fmt.Errorf(format, args...)}
}

// reportable are the error codes of RFC 6749 §4.1.2.1 and §5.2 and OpenID Connect Core §3.1.2.6: only these are repeated
// in records and pages.
var reportable = map[string]bool{
	"invalid_request": true, "unauthorized_client": true, "access_denied": true, "unsupported_response_type": true,
	"invalid_scope": true, "server_error": true, "temporarily_unavailable": true, "interaction_required": true,
	"login_required": true, "account_selection_required": true, "consent_required": true, "invalid_request_uri": true,
	"invalid_request_object": true, "request_not_supported": true, "request_uri_not_supported": true,
	"registration_not_supported": true, "invalid_client": true, "invalid_grant": true, "unsupported_grant_type": true,
}

func reported(code string) string {
	if reportable[code] {
		return code
	}
	return ""
}

// tokenFailure classifies what the token endpoint did. The library's error text holds the whole answer, which may hold
// tokens: only its status and its standard error code are kept.
func tokenFailure(err error, rejected Code) *Failure {
	if failure, ok := errors.AsType[*Failure](err); ok {
		return failure
	}
	answer, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return callFailure("calling the token endpoint", err)
	}
	code := ProviderInvalidAnswer
	switch answer.ErrorCode {
	case "invalid_grant":
		code = rejected
	case "invalid_client", "unauthorized_client":
		code = ClientRejected
	}
	return &Failure{Code: code, Reported: reported(answer.ErrorCode),
		Err: fmt.Errorf("token endpoint answered %d", answer.Response.StatusCode)}
}

// callFailure tells a provider that cannot be reached from one that answers nonsense.
func callFailure(doing string, err error) *Failure {
	if mismatch, ok := errors.AsType[*gooidc.IssuerMismatchError](err); ok {
		return fail(DiscoveryMismatch, "%s: configured issuer %s, provider says it is %s",
			doing, excerpt(mismatch.Provided), excerpt(mismatch.Discovered))
	}
	if failure, ok := errors.AsType[*Failure](err); ok {
		return failure
	}
	if refused, ok := errors.AsType[*remote.Error](err); ok && refused.Kind != remote.Busy {
		return fail(ProviderInvalidAnswer, "%s: %w", doing, refused)
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		return fail(ProviderUnreachable, "%s: %w", doing, call.Err)
	}
	if remote.Unreachable(err) {
		return fail(ProviderUnreachable, "%s: %w", doing, err)
	}
	return fail(ProviderInvalidAnswer, "%s: %s", doing, excerpt(err.Error()))
}

// excerpt bounds and quotes text that may repeat a whole answer.
func excerpt(text string) string {
	const most = 200
	if len(text) > most {
		return strconv.Quote(text[:most]) + "…"
	}
	return strconv.Quote(text)
}
