package signin

import (
	"net/http"

	"sallyport/authn/oidc"
)

// The codes of problems that are not a provider's; those are [oidc.Code].
const (
	CodeNotFound          = "not_found"
	CodeMethod            = "method_not_allowed"
	CodeConfirmSignOut    = "confirm_sign_out"       // sign-out was opened as a link: a button asks again
	CodeSignedOut         = "signed_out"             // not a problem: the page after a sign-out
	CodeChooseProvider    = "choose_provider"        // not a problem: there are several providers
	CodeOtherProvider     = "provider"               // the session is from a provider that will not do here
	CodeNoProvider        = "no_provider"            // no provider will do here
	CodeManyTabs          = "many_tabs"              // many sign-ins began within seconds; one button goes on
	CodeStepUpLoop        = "step_up_loop"           // the app asks for more, however often the person proves themselves
	CodeStillSignedIn     = "still_signed_in"        // the page after a sign-out at the provider, in a browser with a session
	CodeProviderSignedOut = "signed_out_at_provider" // not a problem: the page after a sign-out at the provider as well
	CodeProviderStays     = "provider_signed_in"     // not a problem: the page after a sign-out from a provider that offers none
	CodeUnknownApp        = "unknown_app"            // start or return for a host without an app
	CodeFlowMissing       = "flow_missing"           // callback in a browser that did not start it, or a bookmark, or cookies are off
	CodeFlowExpired       = "flow_expired"           // more than ten minutes between start and callback
	CodeFlowSpent         = "flow_spent"             // the same callback twice
	CodeHandOffInvalid    = "handoff_invalid"        // no code of ours, or for another host or browser
	CodeHandOffExpired    = "handoff_expired"        // more than 30 s between callback and return
	CodeHandOffSpent      = "handoff_spent"          // the same return twice
	CodeHandOffEnded      = "handoff_ended"          // the session ended before the return
	CodeBackMissing       = "back_missing"           // return in a browser that did not start it, or cookies are off
	CodeLoop              = "sign_in_loop"           // the browser does not keep the session cookie
	CodeCrossOrigin       = "cross_origin"           // sign-out posted by another site
	CodeRequestInvalid    = "request_invalid"        // repeated or malformed parameters
	CodeLimited           = "rate_limited"           // too many sign-ins; in records, the answer is the limit's
	CodeSessionsDown      = "sessions_down"          // session store unavailable
	CodeAuditUnavailable  = "audit_unavailable"      // the record could not be written
)

// Action is one thing to do: a link, or with Method "POST" a button that sends an empty form.
type Action struct{ Label, URL, Method string }

// EmailForm is a form with one visible field of the name "email". It needs no JavaScript.
type EmailForm struct {
	URL, Method string
	Hidden      []Field
	Value       string // an address that was given before; empty: none
	Error       string // what is wrong with it; empty: nothing
	// Origins are where the answer may send the browser: browsers hold a page's form-action against redirects too.
	Origins []string
}

// Field is one hidden field of a form.
type Field struct{ Name, Value string }

// Problem is what a person is told where signing in or out does not simply go on. It holds no text of a browser or a
// provider. Set-Cookie headers that are on the ResponseWriter when a method returns a Problem belong to its answer.
type Problem struct {
	Status int
	Code   string // fixed word, for logs, records and programs
	Title  string
	Text   string // what happened, in a sentence or two
	Advice string // what to do about it; may be empty
	Action *Action
	// Choices are set where there is a choice of providers: one link for each.
	Choices []Action
	// Email, set with Choices only, is a form in which people say their address in place of choosing.
	Email *EmailForm
	// Current is set with CodeOtherProvider: the title of the provider that the session in this browser is from.
	Current string
	// App is the title of the app that the problem is about; for CodeSignedOut the app that was signed out of, empty for
	// everywhere.
	App string
	Err error // for the log; may be nil
}

// Error names the code and the cause.
func (p *Problem) Error() string {
	if p.Err == nil {
		return "sign-in: " + p.Code
	}
	return "sign-in: " + p.Code + ": " + p.Err.Error()
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

func (h *Handler) notFound() *Problem {
	return &Problem{Status: http.StatusNotFound, Code: CodeNotFound, Title: "Nothing here",
		Text: "There is no page at this address.", Action: h.toPortal()}
}

func (h *Handler) unknownApp() *Problem {
	return &Problem{Status: http.StatusNotFound, Code: CodeUnknownApp, Title: "We do not know this app",
		Text: "The link asks to sign in to an app that is not behind this gateway.", Action: h.toPortal()}
}

func (h *Handler) sessionsDown(err error) *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: CodeSessionsDown, Title: "Sign-in is not available",
		Text:   "The gateway cannot reach its session store, so nobody can be signed in or out.",
		Advice: "Try again in a moment.", Action: h.toPortal(), Err: err}
}

func (h *Handler) auditUnavailable(err error) *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: CodeAuditUnavailable, Title: "Sign-in is not available",
		Text:   "The gateway cannot write its audit log, so nobody can be signed in or out.",
		Advice: "Try again in a moment.", Action: h.toPortal(), Err: err}
}

func (h *Handler) toPortal() *Action {
	return &Action{Label: "Go to your apps", URL: h.authOrigin + "/"}
}

// again is where a person who wanted to reach a page starts over.
func (h *Handler) again(f *attempt) *Action {
	if f == nil {
		return h.toPortal()
	}
	if app, ok := h.apps(f.ReturnHost); ok {
		return &Action{Label: "Sign in again", URL: app.Origin + Target(f.ReturnPath)}
	}
	return &Action{Label: "Sign in again", URL: h.authOrigin + portalTarget(f.ReturnPath)}
}

// flowProblem is a callback whose flow cannot be used. Signing in again is all there is to do.
func (h *Handler) flowProblem(code string, f *attempt) *Problem {
	p := &Problem{Status: http.StatusBadRequest, Code: code, Title: "This sign-in cannot be finished", Action: h.again(f)}
	switch code {
	case CodeFlowExpired:
		p.Text = "More than ten minutes passed since it was started."
	case CodeFlowSpent:
		p.Text = "It was finished before, perhaps in another tab. The address of this page works only once."
	default:
		p.Text = "This browser did not start it, or started it too long ago. " +
			"That happens with bookmarks of the sign-in page, after going back, and when cookies are blocked."
		p.Advice = "If it keeps happening, allow cookies for this site."
	}
	return p
}

// handOffProblem is a return that cannot be used.
func (h *Handler) handOffProblem(code string, app App, target string, err error) *Problem {
	p := &Problem{Status: http.StatusBadRequest, Code: code, Title: "This sign-in cannot be finished", Err: err,
		Action: &Action{Label: "Continue to " + app.title(), URL: app.Origin + target}}
	switch code {
	case CodeHandOffExpired:
		p.Text = "The last step took more than 30 seconds."
	case CodeHandOffSpent:
		p.Text = "It was finished before, perhaps in another tab. The address of this page works only once."
	case CodeHandOffEnded:
		p.Text = "You were signed out before it was finished."
	default:
		p.Text = "This browser did not start it. That happens when a sign-in link is shared, and when cookies are blocked."
		p.Advice = "If it keeps happening, allow cookies for this site."
	}
	return p
}

func (h *Handler) loopProblem(need Need, action *Action) *Problem {
	if need.asks() {
		return &Problem{Status: http.StatusForbidden, Code: CodeStepUpLoop, Title: "Signing in again does not help",
			Text:   "You proved yourself several times within a minute, but what you want to open asks for more each time.",
			Advice: "Tell your administrator, with the reference below.", Action: action}
	}
	return &Problem{Status: http.StatusBadRequest, Code: CodeLoop, Title: "Your browser does not stay signed in",
		Text:   "You were signed in several times within a minute, but your browser did not send its session cookie back.",
		Advice: "Allow cookies for this site, check that the clock of this device is right, then try again.", Action: action}
}

// manyTabs is the page of a tab that would push out the sign-in of another one.
func (h *Handler) manyTabs(again string) *Problem {
	return &Problem{Status: http.StatusTooManyRequests, Code: CodeManyTabs, Title: "Sign in in one of your other tabs",
		Text:   "Many tabs asked to sign in at the same moment. Once one of them is signed in, all of them are.",
		Action: &Action{Label: "Continue", URL: again}}
}

// providerProblem tells what a failure at the provider means for the person. called is the provider's title.
func (h *Handler) providerProblem(failure *oidc.Failure, called string, action *Action) *Problem {
	p := &Problem{Status: http.StatusBadRequest, Code: string(failure.Code), Title: "We could not sign you in",
		Action: action, Err: failure}
	switch failure.Code {
	case oidc.ProviderUnreachable:
		p.Status, p.Title = http.StatusBadGateway, "The sign-in service does not answer"
		p.Text = called + " could not be reached. This is usually over soon."
		p.Advice = "Try again in a moment. If it lasts, tell your administrator."
		if action != nil {
			p.Action = &Action{Label: "Try again", URL: action.URL}
		}
	case oidc.AccessDenied:
		p.Status = http.StatusForbidden
		p.Text = called + " did not sign you in: you or it declined."
	case oidc.ProviderError:
		h.reportedProblem(p, failure.Reported, called)
	case oidc.LoginRequired:
		p.Text = called + " wants to see you before it confirms who you are."
	case oidc.AssuranceUnmet:
		p.Status = http.StatusForbidden
		p.Text = called + " signed you in, but not in the way that is asked for here, such as with a second factor."
		p.Advice = "Sign in again and use the stronger way. If " + called + " does not offer you one, tell your administrator."
	case oidc.AuthTooOld:
		p.Status = http.StatusForbidden
		p.Text = "You have to prove to " + called + " anew who you are, and it did not say that you did."
		p.Advice = "Sign in again. If it happens again, tell your administrator, with the reference below."
	case oidc.ClientRejected, oidc.DiscoveryMismatch, oidc.DiscoveryInvalid, oidc.ProviderInvalidAnswer, oidc.KeyUnavailable:
		p.Status = http.StatusBadGateway
		p.Text = misunderstood(called)
		p.Advice = "Tell your administrator, with the reference below."
	case oidc.TokenNotYet, oidc.TokenExpired:
		p.Text = "The clocks of the gateway and " + called + " differ too much."
		p.Advice = "Tell your administrator, with the reference below."
	case oidc.CodeRejected:
		p.Text = called + " did not confirm the sign-in, perhaps because it took too long."
	case oidc.StateMissing, oidc.StateMismatch, oidc.CallbackInvalid, oidc.CodeMissing:
		p.Text = "The address of this page is not that of a sign-in of this browser."
	default:
		p.Text = "What " + called + " answered did not belong to this sign-in, so it was not accepted."
		p.Advice = "Try again. If it happens again, tell your administrator."
	}
	return p
}

func misunderstood(called string) string {
	return "The gateway and " + called + " do not understand each other. This is not something you did."
}

// reportedProblem tells what an error means that the provider named (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6).
func (h *Handler) reportedProblem(p *Problem, reported, called string) {
	switch reported {
	case "server_error", "temporarily_unavailable":
		p.Text = called + " has a problem of its own and signs nobody in at the moment."
		p.Advice = "Try again in a moment. If it lasts, tell your administrator."
	case "login_required", "interaction_required", "consent_required", "account_selection_required":
		p.Text = called + " wants to ask you something before it signs you in."
		p.Advice = "Sign in again and answer it."
	case "":
		p.Text = called + " reported an error instead of signing you in."
		p.Advice = "Try again. If it happens again, tell your administrator."
	default: // what is wrong with the request, or with how the client is registered
		p.Text = misunderstood(called)
		p.Advice = "Tell your administrator, with the reference below."
	}
}
