package gateway

import (
	"context"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/explain"
)

// An app's own package may refuse without a word for the person. They are then told which kind of thing would have to be
// otherwise, and no more: see explain.Why.

// whyTime is how long a refusal may wait for such a sentence: no longer than a person notices.
const whyTime = 50 * time.Millisecond

// userReasons are the policy's words for people, or what stands for them.
func (x *exchange) userReasons() []string {
	if x.verdict == nil || x.verdict.Allow {
		return nil
	}
	var words []string
	for _, reason := range x.verdict.Decision.Reasons {
		if reason.User != "" {
			words = append(words, reason.User)
		}
	}
	if len(words) > 0 && x.verdict.Reason != policy.ReasonUndefined || !x.snap.Policy.Own(x.input.Resource.ID) {
		return words
	}
	if said := x.server.whys.of(x.snap.Policy, x.input, x.verdict); said != nil {
		return said
	}
	return words
}

// whys finds sentences for refusals, one at a time: whoever is refused meanwhile is told what is always true, so that
// nobody keeps the gateway busy by being refused.
type whys struct{ busy chan struct{} }

func newWhys() whys { return whys{busy: make(chan struct{}, 1)} }

// of is nil when nothing can be said, or not now.
func (w whys) of(e *policy.Engine, in *policy.Input, v *policy.Verdict) []string {
	switch v.Reason {
	case policy.ReasonPolicy, policy.ReasonUndefined, policy.ReasonStepUp:
	default: // asking again what failed or took too long helps nobody
		return nil
	}
	select {
	case w.busy <- struct{}{}:
		defer func() { <-w.busy }()
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), whyTime)
	defer cancel()
	return explain.Why(ctx, e, in, v)
}
