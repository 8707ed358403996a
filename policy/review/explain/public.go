package explain

import (
	"context"
	"slices"
	"strings"

	"sallyport/policy"
)

// Public is what the person may know who was refused: the policy's own sentences for them, or, where it has none, which
// kinds of things would have to be otherwise. It names no other people, no networks, no groups that are not the
// policy's to tell, and nothing of how rules are written. It is empty when the request is allowed.
func (x *Explanation) Public() []string { return x.public }

// Why is Public of a verdict that was given already, without the rest of an explanation: what a page may say to the person.
// It takes as long as ctx lasts at most, and then says less.
func Why(ctx context.Context, e *policy.Engine, in *policy.Input, v *policy.Verdict) []string {
	if v.Allow {
		return nil
	}
	var nearest *Nearest
	if s, err := About(e, in.Resource.ID, Options{}); err == nil {
		nearest = s.nearest(ctx, in, v, nil)
	}
	return public(v, nearest)
}

// Fallback is Public of a policy of which nothing better can be said.
const Fallback = "No rule of the access policy allows this request."

func public(v *policy.Verdict, n *Nearest) []string {
	if v.Allow {
		return nil
	}
	var said []string
	for _, r := range v.Decision.Reasons {
		if r.User != "" {
			said = append(said, r.User)
		}
	}
	silent := v.Reason == policy.ReasonUndefined // what stands for its silence says nothing of why
	if len(said) > 0 && !(silent && n != nil) {
		return said
	}
	if n == nil {
		return []string{Fallback}
	}
	said = nil
	for _, c := range n.Changes {
		if s := hint(c.Field); !slices.Contains(said, s) {
			said = append(said, s)
		}
	}
	return said
}

// hint says which kind of thing would have to be otherwise, and no more.
func hint(field string) string {
	for _, h := range []struct{ prefix, text string }{
		{"subject.authn", "A stronger or fresher sign-in may be needed."},
		{"subject.session", "A fresher sign-in may be needed."},
		{"subject.device", "The device you use may not be one that is allowed here."},
		{"subject.cert", "The device you use may not be one that is allowed here."},
		{"subject", "Your account is not among those that may do this."},
		{"context.client", "This cannot be opened from the network or place you are in."},
		{"context.hour", "This is not open at the present time."},
		{"context.weekday", "This is not open at the present time."},
		{"context.time", "This is not open at the present time."},
		{"action", "Nobody may do this with the request that was made."},
		{"resource", "This part of the app is not open to you."},
	} {
		if strings.HasPrefix(field, h.prefix) {
			return h.text
		}
	}
	return Fallback
}
