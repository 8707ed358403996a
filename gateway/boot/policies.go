package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sallyport/audit"
	"sallyport/gateway/admin"
	"sallyport/policy/bundle"
)

// policies is what operators do with policies beside the configuration.
type policies struct{ *assembly }

var _ admin.Policies = policies{}

// Policies lists what the audit directory keeps, with what is remembered of each.
func (p policies) Policies(context.Context) ([]admin.KeptPolicy, error) {
	now := p.current()
	kept, err := audit.KeptPolicies(now.config.Audit.Dir)
	if err != nil {
		return nil, err
	}
	history, err := p.policies.History()
	if err != nil {
		return nil, err
	}
	byDigest := map[string]bundle.Activation{} // the last one counts
	for _, activation := range history {
		byDigest[activation.Digest] = activation
	}
	var list []admin.KeptPolicy
	for _, k := range kept {
		last := byDigest[k.Digest]
		list = append(list, admin.KeptPolicy{Digest: k.Digest, Revision: last.Revision, Review: last.Review, Kept: k.Kept, Active: k.Digest == now.bundle.Digest,
			Used: last.At, Who: last.Who, Why: last.Why, Pinned: last.Pinned})
	}
	slices.SortStableFunc(list, func(a, b admin.KeptPolicy) int { return b.Used.Compare(a.Used) })
	return list, nil
}

var errNothingBefore = errors.New("no policy is remembered from before the one in force: name a digest of sallyport policy list")

// UsePolicy pins a policy that is kept, or made of a bundle.
func (p policies) UsePolicy(ctx context.Context, by *audit.Actor, what admin.PolicyUse) error {
	if len(what.Bundle) > 0 {
		return p.useBundle(ctx, change{what.Why, by}, what.Name, what.Bundle)
	}
	digest, err := p.find(what.Digest)
	if err != nil {
		return err
	}
	return p.usePolicy(ctx, digest, what.Why, by)
}

// find completes a digest; an empty one is the policy before the one in force.
func (p policies) find(digest string) (string, error) {
	now := p.current()
	if digest != "" {
		return audit.FindPolicy(now.config.Audit.Dir, digest)
	}
	history, err := p.policies.History()
	if err != nil {
		return "", err
	}
	if digest = bundle.Before(history, now.bundle.Digest); digest == "" {
		return "", errNothingBefore
	}
	return digest, nil
}

// ReleasePolicy ends the pin.
func (p policies) ReleasePolicy(ctx context.Context, by *audit.Actor, what admin.PolicyRelease) error {
	return p.releasePolicy(ctx, what.Why, by)
}

// policyStatus is what status says of the policy in force.
func (a *assembly) policyStatus(f *frozen) admin.PolicyStatus {
	s := admin.PolicyStatus{Digest: f.bundle.Digest, Revision: f.bundle.Revision}
	if f.pin != nil {
		s.Pinned = &admin.PolicyPin{Who: f.pin.Who, Why: f.pin.Why, Since: f.pin.Since}
	}
	if f.configured != f.bundle.Digest {
		s.Configured = f.configured
	}
	if tried := a.shadowing.tried.Load(); tried != nil {
		s.Candidate = tried.digest
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.attempt.failure != nil {
		s.Error, s.Failed = a.attempt.failure.Error(), a.attempt.at
	} else if f.offer.stale != nil {
		s.Error, s.Failed = f.offer.stale.Error(), f.loaded
	} else if f.trouble != nil {
		s.Error, s.Failed = fmt.Sprintf("the configured policy: %v", f.trouble), f.loaded
	}
	return s
}
