package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"sallyport/audit"
	"sallyport/gateway/canon"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
	"sallyport/policy"
)

// record writes the decision down. It returns once the record is durable; until then nothing has happened. A client
// that leaves meanwhile is waited for no less: what it asked for is decided and on record.
func (x *exchange) record() error {
	defer x.part()
	effect := audit.Deny
	if x.verdict.Allow {
		effect = audit.Allow
	}
	if effect == audit.Deny && x.countInstead(x.verdict.Reason) {
		return nil
	}
	record := &audit.Record{
		Type: audit.TypeDecision, RequestID: x.id, Session: x.sessionID(), App: string(x.app.Name),
		Effect: effect, Reason: x.verdict.Reason, Document: x.input, Decision: x.verdict.JSON, Memo: x.verdict.Memo,
		Policy: audit.Policy{Digest: x.snap.Policy.Digest(), Revision: x.snap.Policy.Revision()}, Detail: x.bothTargets(),
	}
	receipt, err := x.server.decisions.Append(context.Background(), record)
	if err != nil {
		x.auditFailed = true
		return unrecorded(err)
	}
	x.receipt, x.recorded = receipt, effect
	x.decidedOn(x.snap, x.verdict, x.start)
	x.server.compare(x.snap.Policy, x.input, x.verdict, receipt)
	return nil
}

// needsRecord reports whether the exchange has no decision record yet and should have one: every request for an app
// or an unknown host has exactly one, or is counted in its place; our own endpoints have none.
func (x *exchange) needsRecord() bool { return !x.isOwn && x.recorded == "" && !x.auditFailed }

// rejected is what is kept of a request that could not be judged.
type rejected struct {
	Method string `json:"method"`
	Host   string `json:"host"`
	Target string `json:"target"`
	Peer   string `json:"peer"`
	Why    string `json:"why,omitempty"`
}

// recordReject writes down a request that was refused before the policy could judge it. The raw form is capped and
// escaped: it may hold anything.
func (x *exchange) recordReject(r *Refusal) error {
	if x.countInstead(r.Reason) {
		return nil
	}
	detail, err := json.Marshal(rejected{Method: canon.Escape(x.r.Method), Host: canon.Escape(x.r.Host),
		Target: canon.Escape(canon.RedactTarget(x.r.RequestURI)), Peer: x.r.RemoteAddr, Why: r.Detail})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	record := &audit.Record{Type: audit.TypeDecision, RequestID: x.id, Session: x.sessionID(), Effect: r.Effect, Reason: r.Reason, Detail: detail, App: x.appName()}
	// The client may be gone already; what it tried is recorded all the same.
	receipt, err := x.server.decisions.Append(context.Background(), record)
	if err != nil {
		x.auditFailed = true
		return err
	}
	x.receipt, x.recorded = receipt, r.Effect
	return nil
}

// verdictRefusal is the policy's no as an answer, or nil.
func (x *exchange) verdictRefusal() error {
	if x.verdict.Allow {
		return nil
	}
	if deniedForCertificate(x.verdict) {
		return x.certificateRefusal()
	}
	if x.session == nil && x.findings != nil { // allowed but for what was found: to sign in would not help
		return &Refusal{Status: http.StatusForbidden, Effect: audit.Deny, Reason: x.verdict.Reason, Err: x.verdict.Err,
			Public: "The access policy does not allow this."}
	}
	if x.session == nil {
		return unauthenticated()
	}
	if x.verdict.Reason == policy.ReasonStepUp {
		if refusal := x.stepUpRefusal(); refusal != nil {
			return refusal
		}
	}
	who := x.session.Identity
	person := who.Email
	if person == "" {
		person = who.Name
	}
	return &Refusal{Status: http.StatusForbidden, Effect: audit.Deny, Reason: x.verdict.Reason, Err: x.verdict.Err,
		Public: "The access policy does not allow this.", Token: tokenError(x.verdict),
		Page: ui.Denied{App: x.app.DisplayName(), Owner: x.app.Owner, Method: x.input.Action.Method, Path: x.input.Resource.Path, Person: person,
			Reasons: x.userReasons(), Reference: x.id, Portal: x.snap.portalURL(), Open: x.wouldElsePass(),
			SignOut: signin.SignOutPath + "?scope=" + signin.ScopeEverywhere, FormAction: x.snap.FormOrigins}}
}

// wouldElsePass reports whether the shipped policy denies only the way in which the request was sent, or what is in it.
func (x *exchange) wouldElsePass() bool {
	return slices.ContainsFunc(x.verdict.Decision.Reasons, func(reason policy.Reason) bool {
		return reason.Code == "cross_site" || reason.Code == "shield" || reason.Code == "shield_timeout"
	})
}

// reasonsFor are the policy's words to add to a refusal; strangers are told none, which would tell them what exists.
func (x *exchange) reasonsFor(refusal *Refusal) []string {
	denied, is := refusal.Page.(ui.Denied)
	if refusal.SignIn || !is {
		return nil
	}
	return denied.Reasons
}
