package boot

import (
	"context"
	"errors"
	"time"

	"sallyport/gateway/config"
	"sallyport/policy"
	"sallyport/policy/bundle"
)

// pollPolicy asks the address of the policy bundle for another one, as often as the configuration says, until ctx ends.
func (a *assembly) pollPolicy(ctx context.Context) error {
	var asked poll
	for {
		every := a.current().config.Policy.Poll
		if every == 0 {
			every = time.Minute
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.repoll: // the configuration may say otherwise now
			continue
		case <-time.After(every):
		}
		if cfg := a.current().config; bundle.Remote(cfg.Policy.Bundle) {
			a.pollOnce(ctx, cfg, &asked)
		}
	}
}

// poll is what was asked for last, so that a bundle that was refused is not tried again and again.
type poll struct{ address, etag string }

// polled is the change that a poll makes.
func polled() change { return change{why: "another bundle at the policy's address"} }

// pollOnce asks, and puts what it gets in force. A bundle that is refused stays refused until there is another one, or the
// operator reloads.
func (a *assembly) pollOnce(ctx context.Context, cfg *config.Config, asked *poll) {
	etag := asked.etag
	if asked.address != cfg.Policy.Bundle {
		etag = ""
		if last, err := a.policies.LastGood(cfg.Policy.Bundle); err == nil && last != nil {
			etag = last.ETag
		}
	}
	fetched, err := bundle.Fetch(ctx, cfg.Policy.Bundle, string(cfg.Policy.Token), etag)
	if ctx.Err() != nil {
		return
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.current().config != cfg { // reloaded meanwhile, which asked too
		return
	}
	if fetched != nil {
		*asked = poll{cfg.Policy.Bundle, fetched.ETag}
	}
	switch {
	case err == nil && fetched == nil:
		a.answeredLocked()
	case err == nil:
		a.settlePollLocked(ctx, a.offerLocked(ctx, cfg.Policy, fetched))
	default:
		a.settlePollLocked(ctx, &refusedPolicy{err: err})
	}
}

// answeredLocked forgets that the address could not be asked.
func (a *assembly) answeredLocked() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if errors.Is(a.attempt.failure, bundle.ErrUnavailable) {
		a.attempt = policyAttempt{at: a.opts.Now()}
	}
	next := *a.active // a frozen configuration is read without a lock
	next.offer.stale = nil
	a.active = &next
}

// offerLocked puts a bundle that was fetched in force. Under a pin it is only held against the gates.
func (a *assembly) offerLocked(ctx context.Context, cfg policy.Config, fetched *bundle.Fetched) error {
	now := a.current()
	files, err := unpacked(cfg, fetched.Archive)
	if err != nil {
		return &refusedPolicy{err: err}
	}
	own, err := choose(now.config, now.snapshot.Routes, offer{files: files, fetched: fetched})
	if err != nil {
		return err
	}
	if own.bundle.Digest == now.bundle.Digest && now.pin == nil {
		a.keepFetched(now.config.Policy.Bundle, fetched)
		return nil
	}
	next, err := now.under(ctx, own)
	if err != nil {
		return err
	}
	if now.pin != nil && now.pin.Digest != own.bundle.Digest {
		a.notePinned(own.bundle.Digest)
		return nil
	}
	return a.enforcePolledLocked(ctx, now, next)
}

func (a *assembly) enforcePolledLocked(ctx context.Context, now, next *frozen) error {
	if err := a.audit.KeepPolicy(next.bundle.Digest, next.bundle.Archive()); err != nil {
		return err
	}
	if err := a.recordPolicy(ctx, polled(), next); err != nil {
		return err
	}
	if now.pin != nil {
		if err := a.policies.SetPin(nil); err != nil {
			return err
		}
	}
	a.enforceLocked(polled(), next)
	a.opts.Log.Info("policy changed", "why", polled().why, "policy", next.bundle.Digest)
	return nil
}

// notePinned notes what the configuration would lead to.
func (a *assembly) notePinned(digest string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := *a.active
	next.configured, next.trouble = digest, nil
	a.active = &next
}

// settlePollLocked tells how a poll ended. The same failure is told once, and stays in status.
func (a *assembly) settlePollLocked(ctx context.Context, err error) {
	a.mu.Lock()
	before := a.attempt.failure
	a.mu.Unlock()
	a.notePolicy(err)
	if err == nil || before != nil && before.Error() == err.Error() {
		return
	}
	var digest string
	if refused, ok := errors.AsType[*refusedPolicy](err); ok {
		digest = refused.digest
	}
	a.refusePolicy(ctx, polled(), digest, err)
}
