package review

import (
	"testing"

	"sallyport/policy"
)

// Every pair of answers is the change that people would call it: what lets somebody in is never hidden behind an error.
func TestCompare(t *testing.T) {
	answer := func(reason, rule string, obligations ...policy.Obligation) *policy.Verdict {
		allow := reason == policy.ReasonAllow
		return &policy.Verdict{Allow: allow, Reason: reason,
			Decision: policy.Decision{Allow: allow, Reasons: []policy.Reason{{Code: reason, Rule: rule}}, Obligations: obligations}}
	}
	var (
		yes       = answer(policy.ReasonAllow, "staff")
		shortly   = answer(policy.ReasonAllow, "staff", policy.Obligation{Type: policy.Reauthorize, EveryS: 5})
		no        = answer(policy.ReasonPolicy, "staff")
		nobody    = answer(policy.ReasonPolicy, "")
		signIn    = answer(policy.ReasonUnauthenticated, "")
		stronger  = answer(policy.ReasonStepUp, "staff", policy.Obligation{Type: policy.StepUp, MFA: true})
		fresher   = answer(policy.ReasonStepUp, "staff", policy.Obligation{Type: policy.StepUp, MaxAgeS: 60})
		undefined = answer(policy.ReasonUndefined, "")
		failed    = answer(policy.ReasonError, "")
	)
	for _, c := range []struct {
		from, to *policy.Verdict
		want     Change
	}{
		{yes, yes, Unchanged}, {no, no, Unchanged}, {stronger, stronger, Unchanged}, {failed, failed, Unchanged},
		{no, yes, Gained}, {signIn, yes, Gained}, {undefined, yes, Gained}, {failed, yes, Gained},
		{no, stronger, Gained}, {undefined, stronger, Gained}, {failed, stronger, Gained},
		{stronger, yes, StepUpRemoved}, {yes, stronger, StepUpAdded},
		{yes, no, Revoked}, {yes, failed, Revoked}, {yes, undefined, Revoked}, {stronger, no, Revoked}, {stronger, failed, Revoked},
		{no, failed, Failing}, {undefined, no, Failing}, {signIn, undefined, Failing},
		{yes, shortly, Obligations}, {stronger, fresher, Obligations},
		{no, nobody, ReasonOnly}, {no, signIn, ReasonOnly}, {undefined, failed, ReasonOnly},
	} {
		if got := Compare(c.from, c.to); got != c.want {
			t.Errorf("from %s to %s: got %q, want %q", c.from.Reason, c.to.Reason, got, c.want)
		}
	}
}
