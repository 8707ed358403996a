// Package review holds two policies against each other. What differs is a Difference: one request, its answer under the
// old policy and under the new one, and what kind of Change that is. The packages below find differences by replaying
// recorded decisions (replay) and by asking for everybody in a directory (matrix), and diff sums them up.
package review

import (
	"reflect"
	"slices"
	"time"

	"sallyport/policy"
)

// Change is the kind of difference between two answers to one request.
type Change string

// The changes, the gravest first.
const (
	Unchanged     Change = ""
	Gained        Change = "gained"              // no became yes
	StepUpRemoved Change = "step_up_removed"     // a stronger sign-in is not asked for any more
	Revoked       Change = "revoked"             // yes became no
	StepUpAdded   Change = "step_up_added"       // yes became yes after a stronger sign-in
	Failing       Change = "error"               // one of the policies gave no clear answer and the other did
	Obligations   Change = "obligations_changed" // yes, under other conditions
	ReasonOnly    Change = "reason_only"         // the same answer for another reason, or by another rule
)

// Changes are all that are differences, the gravest first.
func Changes() []Change {
	return []Change{Gained, StepUpRemoved, Revoked, StepUpAdded, Failing, Obligations, ReasonOnly}
}

// Compare tells how the answer to one request changed.
func Compare(from, to *policy.Verdict) Change {
	switch {
	case !from.Allow && to.Allow && from.Reason == policy.ReasonStepUp:
		return StepUpRemoved
	case !from.Allow && to.Allow:
		return Gained
	case from.Allow && to.Reason == policy.ReasonStepUp:
		return StepUpAdded
	case from.Allow && !to.Allow:
		return Revoked
	case from.Allow && !reflect.DeepEqual(from.Decision.Obligations, to.Decision.Obligations):
		return Obligations
	case from.Reason == policy.ReasonStepUp && to.Reason != policy.ReasonStepUp:
		return Revoked // whoever signed in again got in
	case to.Reason == policy.ReasonStepUp && from.Reason != policy.ReasonStepUp:
		return Gained // whoever signs in again gets in
	case Doubtful(from) != Doubtful(to):
		return Failing
	case from.Reason == policy.ReasonStepUp && !reflect.DeepEqual(from.Decision.Obligations, to.Decision.Obligations):
		return Obligations
	case from.Reason != to.Reason || !slices.EqualFunc(from.Decision.Reasons, to.Decision.Reasons, sameReason):
		return ReasonOnly
	}
	return Unchanged
}

// Doubtful reports whether the policy gave no clear answer: it failed, took too long, or said nothing.
func Doubtful(v *policy.Verdict) bool {
	switch v.Reason {
	case policy.ReasonError, policy.ReasonTimeout, policy.ReasonUndefined, policy.ReasonUnknownObligation:
		return true
	}
	return false
}

// sameReason compares what counts for programs; how a sentence is put is no difference.
func sameReason(a, b policy.Reason) bool { return a.Code == b.Code && a.Rule == b.Rule }

// Difference is one request, or many that neither policy can tell apart, whose answer changed.
type Difference struct {
	Change   Change
	Input    *policy.Input // one of them
	From, To *policy.Verdict

	// Person is who asked, as people know them: an e-mail address or a name. Several when a matrix found them alike.
	People []Person

	// Requests counts recorded ones; 0 when the matrix made it up. Last is when the last of them was made, and Records
	// names a few.
	Requests int64
	Last     time.Time
	Records  []string
}

// Person is somebody a difference concerns.
type Person struct {
	ID   string `json:"id"`             // provider|sub
	Name string `json:"name,omitempty"` // as people know them; empty: the ID is all there is
}
