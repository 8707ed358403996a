package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/gateway/config"
	"sallyport/gateway/route"
	"sallyport/policy"
	"sallyport/policy/bundle"
)

// chosen is the policy in force under a configuration: the one that the configuration leads to, or the one that an
// operator pinned in its place.
type chosen struct {
	bundle     *policy.Bundle
	pin        *bundle.Pin // nil: the configuration's own
	configured string      // digest of the configuration's own; empty while it cannot be told
	trouble    error       // why it cannot be told
}

// choice chooses a policy for a configuration and its apps.
type choice func(cfg *config.Config, table *route.Table) (chosen, error)

// configuredPolicy chooses what the configuration leads to.
func configuredPolicy(cfg *config.Config, table *route.Table) (chosen, error) {
	b, err := buildPolicy(cfg.Policy, table)
	if err != nil {
		return chosen{}, &refusedPolicy{err: err}
	}
	return chosen{bundle: b, configured: b.Digest}, nil
}

// buildPolicy is the effective policy of a configuration.
func buildPolicy(cfg policy.Config, table *route.Table) (*policy.Bundle, error) {
	apps := make([]policy.App, 0, len(table.Apps()))
	for _, app := range table.Apps() {
		apps = append(apps, app.Policy())
	}
	b, err := policy.Build(cfg, apps, policy.Reauthorize)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return b, nil
}

// refusedPolicy says that it is the policy which is at fault, and which one as far as it has a digest.
type refusedPolicy struct {
	digest string
	err    error
}

func (e *refusedPolicy) Error() string { return e.err.Error() }
func (e *refusedPolicy) Unwrap() error { return e.err }

// openPolicies opens what is remembered of policies, before the first one is chosen.
func (a *assembly) openPolicies(cfg *config.Config) (err error) {
	if a.policies, err = bundle.OpenStore(policyStore(cfg)); err != nil {
		return err
	}
	a.onClose(a.policies.Close)
	return nil
}

// policyStore is the folder of the configuration's policy store.
func policyStore(cfg *config.Config) string {
	return cmp.Or(cfg.Policy.Store, filepath.Join(filepath.Dir(cfg.State.SQLite), "policy"))
}

// firstPolicy is choosePolicy for a gateway that starts.
func (a *assembly) firstPolicy(cfg *config.Config, table *route.Table) (chosen, error) {
	if err := a.openPolicies(cfg); err != nil {
		return chosen{}, err
	}
	return a.choosePolicy(cfg, table)
}

// choosePolicy lets a pin go before the configuration, until both name the same policy.
func (a *assembly) choosePolicy(cfg *config.Config, table *route.Table) (chosen, error) {
	own, err := configuredPolicy(cfg, table)
	pin, unread := a.policies.Pin()
	if unread != nil {
		return chosen{}, &refusedPolicy{err: fmt.Errorf("policy: %w", unread)}
	}
	if pin == nil || err == nil && own.configured == pin.Digest {
		return own, err
	}
	pinned, unread := keptPolicy(cfg, pin.Digest)
	if unread != nil {
		return chosen{}, &refusedPolicy{pin.Digest, fmt.Errorf("the pinned policy: %w", unread)}
	}
	return chosen{bundle: pinned, pin: pin, configured: own.configured, trouble: err}, nil
}

// keptPolicy reads a policy from the audit directory, to be evaluated as the configuration says.
func keptPolicy(cfg *config.Config, digest string) (*policy.Bundle, error) {
	archive, err := audit.ReadPolicy(cfg.Audit.Dir, digest)
	if err != nil {
		return nil, err
	}
	b, err := policy.OpenArchive(archive)
	if err != nil {
		return nil, err
	}
	return b.Under(cfg.Policy), nil
}

// change is who wants another policy or configuration, and why.
type change struct {
	why string
	by  *audit.Actor // nil: nobody but the gateway itself
}

func (c change) who() string {
	if c.by == nil {
		return "gateway"
	}
	return strings.TrimSpace(c.by.ID + " " + c.by.Name)
}

// usePolicy puts a policy that the audit directory keeps in force at once, without reading the configuration again, and
// pins it: it stays, over reloads and restarts, until it is released or the configuration leads to it. Apps that it does
// not know let nobody in. The error says why nothing was changed; it is then on record too.
func (a *assembly) usePolicy(ctx context.Context, digest, why string, by *audit.Actor) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	c := change{why, by}
	return a.settleLocked(ctx, c, digest, a.pinLocked(ctx, c, digest))
}

func (a *assembly) pinLocked(ctx context.Context, c change, digest string) error {
	now := a.current()
	b, err := keptPolicy(now.config, digest)
	if err != nil {
		return err
	}
	pin := &bundle.Pin{Digest: b.Digest, Why: c.why, Who: c.who(), Since: a.opts.Now()}
	next, err := now.under(ctx, chosen{bundle: b, pin: pin, configured: now.configured, trouble: now.trouble})
	if err != nil {
		return err
	}
	if err := a.recordPolicy(ctx, c, next); err != nil {
		return err
	}
	if err := a.policies.SetPin(pin); err != nil {
		return err
	}
	a.enforceLocked(c, next)
	return nil
}

// releasePolicy ends the pin: the policy that the configuration file leads to now comes into force, with the rest of the
// running configuration left as it is.
func (a *assembly) releasePolicy(ctx context.Context, why string, by *audit.Actor) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	c := change{why, by}
	return a.settleLocked(ctx, c, "", a.releaseLocked(ctx, c))
}

var errNoPin = errors.New("no policy is pinned: the configured one is in force")

func (a *assembly) releaseLocked(ctx context.Context, c change) error {
	now := a.current()
	if now.pin == nil {
		return errNoPin
	}
	own, err := configuredPolicy(now.config, now.snapshot.Routes)
	if err != nil {
		return err
	}
	next, err := now.under(ctx, own)
	if err != nil {
		return err
	}
	if err := a.audit.KeepPolicy(own.bundle.Digest, own.bundle.Archive()); err != nil {
		return err
	}
	if err := a.recordPolicy(ctx, c, next); err != nil {
		return err
	}
	if err := a.policies.SetPin(nil); err != nil {
		return err
	}
	a.enforceLocked(c, next)
	return nil
}

// under is the same configuration with another policy.
func (f *frozen) under(ctx context.Context, c chosen) (*frozen, error) {
	engine, err := policy.Compile(ctx, c.bundle)
	if err != nil {
		return nil, err
	}
	zone, err := c.bundle.Zone()
	if err != nil {
		return nil, err
	}
	next := *f
	next.chosen, next.snapshot = c, f.snapshot.WithPolicy(engine, zone)
	return &next, nil
}

// recordPolicy puts on record that another policy comes into force, or that it is pinned or let go. Without a record it
// does not.
func (a *assembly) recordPolicy(ctx context.Context, c change, next *frozen) error {
	now := a.current()
	if now.bundle.Digest == next.bundle.Digest && (now.pin == nil) == (next.pin == nil) {
		return nil
	}
	return a.control(ctx, "policy_activated", c.by, map[string]any{"why": c.why, "policy": next.bundle.Digest, "revision": next.bundle.Revision,
		"before": now.bundle.Digest, "pinned": next.pin != nil})
}

// enforceLocked makes a recorded frozen configuration the current one.
func (a *assembly) enforceLocked(c change, next *frozen) {
	previous := a.current()
	a.activate(next)
	a.server.Swap(next.snapshot)
	previous.snapshot.Retire(next.snapshot)
	a.remember(c, next)
}

// remember notes the policy that is in force now. What cannot be noted is lacking in a list; the control log has it.
func (a *assembly) remember(c change, f *frozen) {
	err := a.policies.Note(bundle.Activation{Digest: f.bundle.Digest, Revision: f.bundle.Revision, At: a.opts.Now(), Who: c.who(), Why: c.why, Pinned: f.pin != nil})
	if err != nil {
		a.opts.Log.Error("the policy in force was not noted", "error", err)
	}
	if f.pin != nil {
		a.opts.Log.Warn("the policy is pinned: what the configuration says about it has no effect until it is released",
			"policy", f.bundle.Digest, "configured", f.configured, "by", f.pin.Who, "since", f.pin.Since, "why", f.pin.Why)
	}
	if f.trouble != nil {
		a.opts.Log.Error("the configured policy could not come into force", "error", f.trouble)
	}
}

// settleLocked tells everybody how an attempt at another policy ended.
func (a *assembly) settleLocked(ctx context.Context, c change, digest string, err error) error {
	a.notePolicy(err)
	if err == nil {
		a.opts.Log.Info("policy changed", "why", c.why, "by", c.who(), "policy", a.current().bundle.Digest)
		return nil
	}
	a.refusePolicy(ctx, c, digest, err)
	return err
}

// refusePolicy puts on record, and into the log, why a policy did not come into force.
func (a *assembly) refusePolicy(ctx context.Context, c change, digest string, err error) {
	a.control(ctx, "policy_refused", c.by, map[string]any{"why": c.why, "policy": digest, "error": clip(err.Error())})
	a.opts.Log.Error("policy was refused; the running one stays", "why", c.why, "policy", digest, "error", err)
}

// policyAttempt is how the last attempt at another policy ended.
type policyAttempt struct {
	failure error
	at      time.Time
}

func (a *assembly) notePolicy(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attempt = policyAttempt{err, a.opts.Now()}
}
