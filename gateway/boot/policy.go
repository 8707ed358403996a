package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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
	review     string      // digest of the review that the bundle names

	offer    offer
	approved bool // it passed the gates before: the smoke test is enough
	proven   bool // nothing is to be held against the gates
	kept     bool // it comes from an archive of the audit directory
}

// choice chooses a policy for a configuration and its apps.
type choice func(cfg *config.Config, table *route.Table) (chosen, error)

// offer is the bundle that a configuration names.
type offer struct {
	files   bundle.Files    // nil: it names none
	fetched *bundle.Fetched // nil: it is no new one of an address
	stale   error           // why the address could not be asked, or gave nothing good; files are the last good ones
}

// offered reads the bundle, or fetches it.
func offered(cfg policy.Config) (offer, error) {
	if bundle.Remote(cfg.Bundle) {
		fetched, err := bundle.Fetch(context.Background(), cfg.Bundle, string(cfg.Token), "")
		if err != nil {
			return offer{}, err
		}
		files, err := unpacked(cfg, fetched.Archive)
		return offer{files: files, fetched: fetched}, err
	}
	if cfg.Bundle == "" {
		return offer{}, nil
	}
	files, err := bundle.Read(cfg.Bundle)
	return offer{files: files}, err
}

func unpacked(cfg policy.Config, archive []byte) (bundle.Files, error) {
	files, err := bundle.Unpack(archive)
	if err != nil {
		return nil, fmt.Errorf("reading policy bundle %s: %w", cfg.Bundle, err)
	}
	return files, nil
}

// configuredPolicy chooses what the configuration leads to.
func configuredPolicy(cfg *config.Config, table *route.Table) (chosen, error) {
	o, err := offered(cfg.Policy)
	if err != nil {
		return chosen{}, &refusedPolicy{err: fmt.Errorf("policy: %w", err)}
	}
	return choose(cfg, table, o)
}

// describedPolicy is configuredPolicy for those who only describe it.
func describedPolicy(cfg *config.Config, table *route.Table) (chosen, error) {
	c, err := configuredPolicy(cfg, table)
	c.proven = true
	return c, err
}

// choose builds the policy of an offer.
func choose(cfg *config.Config, table *route.Table, o offer) (chosen, error) {
	b, err := buildPolicy(cfg.Policy, table, o.files)
	if err != nil {
		return chosen{}, &refusedPolicy{err: err}
	}
	c := chosen{bundle: b, configured: b.Digest, offer: o}
	if m, err := o.files.Manifest(); err == nil {
		c.review = m.Review()
	}
	return c, nil
}

// buildPolicy is the effective policy of a configuration with the files of its bundle.
func buildPolicy(cfg policy.Config, table *route.Table, files bundle.Files) (b *policy.Bundle, err error) {
	if files == nil {
		b, err = policy.Build(cfg, policyApps(table), enforced()...)
	} else {
		b, err = policy.BuildFrom(cfg, files, policyApps(table), enforced()...)
	}
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return b, nil
}

// policyApps are the apps as the policy knows them.
func policyApps(table *route.Table) []policy.App {
	apps := make([]policy.App, 0, len(table.Apps()))
	for _, app := range table.Apps() {
		apps = append(apps, app.Policy())
	}
	return apps
}

// prepare compiles the policy and, unless that is known to be good, holds it against the gates.
func (c *chosen) prepare(ctx context.Context, cfg *config.Config, table *route.Table, folder string) (*policy.Engine, *time.Location, error) {
	engine, err := policy.Compile(ctx, c.bundle)
	if err != nil {
		return nil, nil, &refusedPolicy{c.bundle.Digest, fmt.Errorf("policy: %w", err)}
	}
	zone, err := c.bundle.Zone()
	if err != nil {
		return nil, nil, err
	}
	if c.kept {
		folder = ""
	}
	if c.proven {
		return engine, zone, nil
	}
	g := &gated{engine: engine, config: cfg, table: table, files: c.offer.files, folder: folder}
	pass := g.pass
	if c.approved {
		pass = g.smoke
	}
	if err := pass(ctx); err != nil {
		return nil, nil, &refusedPolicy{c.bundle.Digest, err}
	}
	return engine, zone, nil
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

// first freezes the configuration of a gateway that starts. A bad bundle at an address does not keep it from starting with
// the last good one, unless an operator pinned another policy.
func (a *assembly) first() (*frozen, error) {
	f, err := freeze(a.path, a.firstPolicy)
	if _, policys := errors.AsType[*refusedPolicy](err); !policys || !bundle.Remote(f.config.Policy.Bundle) {
		return f, err
	}
	if pin, unread := a.policies.Pin(); pin != nil || unread != nil {
		return f, err
	}
	good, none := freeze(a.path, func(cfg *config.Config, table *route.Table) (chosen, error) { return a.lastGood(cfg, table, err) })
	if none != nil {
		return f, err
	}
	return good, nil
}

// firstPolicy is choosePolicy for a gateway that starts.
func (a *assembly) firstPolicy(cfg *config.Config, table *route.Table) (chosen, error) {
	if err := a.openPolicies(cfg); err != nil {
		return chosen{}, err
	}
	c, err := a.choosePolicy(cfg, table)
	c.proven = c.approved // a machine that is busy starting must not stand in the way of what served yesterday
	return c, err
}

var errNoneGood = errors.New("no good bundle of the address is kept")

// lastGood chooses the last good bundle of an address, because of what is wrong with the one that it gives now.
func (a *assembly) lastGood(cfg *config.Config, table *route.Table, wrong error) (chosen, error) {
	last, err := a.policies.LastGood(cfg.Policy.Bundle)
	if err == nil && last == nil {
		err = errNoneGood
	}
	if err != nil {
		return chosen{}, err
	}
	files, err := unpacked(cfg.Policy, last.Archive)
	if err != nil {
		return chosen{}, err
	}
	c, err := choose(cfg, table, offer{files: files, stale: wrong})
	if err != nil {
		return chosen{}, err
	}
	c.proven, err = a.passed(c.bundle.Digest)
	return c, err
}

// began notes the policy that a gateway starts with, and puts on record why it is not the one that its address gives. A
// pin that the configuration leads to has ended.
func (a *assembly) began(ctx context.Context, f *frozen) {
	c := change{why: "started"}
	a.remember(c, f)
	if refused, ok := errors.AsType[*refusedPolicy](f.offer.stale); ok {
		a.refusePolicy(ctx, c, refused.digest, refused)
	}
	if f.pin != nil {
		return
	}
	if err := a.policies.SetPin(nil); err != nil {
		a.opts.Log.Error("the pin of a policy that is configured now was not taken away", "error", err)
	}
}

// choosePolicy lets a pin go before the configuration, until both name the same policy.
func (a *assembly) choosePolicy(cfg *config.Config, table *route.Table) (chosen, error) {
	own, err := a.configuredPolicy(cfg, table)
	pin, unread := a.policies.Pin()
	if unread != nil {
		return chosen{}, &refusedPolicy{err: fmt.Errorf("policy: %w", unread)}
	}
	if pin == nil || err == nil && own.configured == pin.Digest {
		return own, err
	}
	pinned, unread := a.keptPolicy(cfg, pin.Digest)
	if unread != nil {
		return chosen{}, &refusedPolicy{pin.Digest, fmt.Errorf("the pinned policy: %w", unread)}
	}
	pinned.pin, pinned.configured, pinned.trouble = pin, own.configured, err
	return pinned, nil
}

// configuredPolicy chooses what the configuration leads to. An address that cannot be asked stands for the last good
// bundle that it gave.
func (a *assembly) configuredPolicy(cfg *config.Config, table *route.Table) (chosen, error) {
	o, err := a.offered(cfg.Policy)
	if err != nil {
		return chosen{}, &refusedPolicy{err: fmt.Errorf("policy: %w", err)}
	}
	c, err := choose(cfg, table, o)
	if err != nil {
		return c, err
	}
	c.approved, err = a.passed(c.bundle.Digest)
	return c, err
}

// offered reads the bundle that the configuration names, or asks its address for another one than the last good one.
func (a *assembly) offered(cfg policy.Config) (offer, error) {
	if !bundle.Remote(cfg.Bundle) {
		return offered(cfg)
	}
	last, err := a.policies.LastGood(cfg.Bundle)
	if err != nil {
		return offer{}, err
	}
	if last == nil {
		return offered(cfg)
	}
	fetched, err := bundle.Fetch(context.Background(), cfg.Bundle, string(cfg.Token), last.ETag)
	now := a.current()
	switch {
	case errors.Is(err, bundle.ErrUnavailable) && now != nil && now.pin == nil && now.offer.files != nil && now.config.Policy.Bundle == cfg.Bundle:
		return offer{files: now.offer.files, stale: err}, nil // newer than the last good one where that could not be kept
	case errors.Is(err, bundle.ErrUnavailable):
		files, unread := unpacked(cfg, last.Archive)
		return offer{files: files, stale: err}, unread
	case err != nil:
		return offer{}, err
	case fetched == nil:
		files, err := unpacked(cfg, last.Archive)
		return offer{files: files}, err
	}
	files, err := unpacked(cfg, fetched.Archive)
	return offer{files: files, fetched: fetched}, err
}

// passed tells policies that passed the gates: the one in force, and, for a gateway that starts, those that ever were. What
// was in force earlier passes them again with the tests that have come since.
func (a *assembly) passed(digest string) (bool, error) {
	if now := a.current(); now != nil {
		return now.bundle.Digest == digest, nil
	}
	history, err := a.policies.History()
	return slices.ContainsFunc(history, func(h bundle.Activation) bool { return h.Digest == digest }), err
}

// keptPolicy chooses a policy that the audit directory keeps, to be evaluated as the configuration says.
func (a *assembly) keptPolicy(cfg *config.Config, digest string) (chosen, error) {
	archive, err := audit.ReadPolicy(cfg.Audit.Dir, digest)
	if err != nil {
		return chosen{}, err
	}
	b, err := policy.OpenArchive(archive)
	if err != nil {
		return chosen{}, err
	}
	c := chosen{bundle: b.Under(cfg.Policy), kept: true}
	history, err := a.policies.History()
	for _, h := range history {
		if h.Digest == digest {
			c.approved, c.review = true, h.Review
		}
	}
	return c, err
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
	kept, err := a.keptPolicy(now.config, digest)
	if err != nil {
		return err
	}
	if v := now.config.Policy.Verification; !kept.approved && len(v.Keys) > 0 && v.Required {
		return errUnvouched
	}
	kept.configured, kept.trouble = now.configured, now.trouble
	return a.pinChosenLocked(ctx, c, kept)
}

var errUnvouched = errors.New("policy.verification demands a signature, and this policy was never in force: activate its signed bundle instead")

// pinChosenLocked puts a policy in force and pins it.
func (a *assembly) pinChosenLocked(ctx context.Context, c change, kept chosen) error {
	kept.pin = &bundle.Pin{Digest: kept.bundle.Digest, Why: c.why, Who: c.who(), Since: a.opts.Now()}
	next, err := a.current().under(ctx, kept)
	if err != nil {
		return err
	}
	if err := a.audit.KeepPolicy(next.bundle.Digest, next.bundle.Archive()); err != nil {
		return err
	}
	if err := a.recordPolicy(ctx, c, next); err != nil {
		return err
	}
	if err := a.policies.SetPin(kept.pin); err != nil {
		return err
	}
	a.enforceLocked(c, next)
	return nil
}

// useBundle is usePolicy for the policy that the running configuration would lead to with this bundle in place of its own.
func (a *assembly) useBundle(ctx context.Context, c change, name string, archive []byte) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.settleLocked(ctx, c, "", a.pinBundleLocked(ctx, c, name, archive))
}

func (a *assembly) pinBundleLocked(ctx context.Context, c change, name string, archive []byte) error {
	now := a.current()
	as := *now.config
	as.Policy.Bundle = name
	files, err := unpacked(as.Policy, archive)
	if err != nil {
		return err
	}
	own, err := choose(&as, now.snapshot.Routes, offer{files: files})
	if err != nil {
		return err
	}
	own.configured, own.trouble = now.configured, now.trouble
	return a.pinChosenLocked(ctx, c, own)
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
	own, err := a.configuredPolicy(now.config, now.snapshot.Routes)
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
	engine, zone, err := c.prepare(ctx, f.config, f.snapshot.Routes, folderOf(f.sources))
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
		"review": next.review, "before": now.bundle.Digest, "pinned": next.pin != nil})
}

// enforceLocked makes a recorded frozen configuration the current one.
func (a *assembly) enforceLocked(c change, next *frozen) {
	previous := a.current()
	a.activate(next)
	a.server.Swap(next.snapshot)
	previous.snapshot.Retire(next.snapshot)
	a.remember(c, next)
	select {
	case a.repoll <- struct{}{}:
	default: // it is about to look anyway
	}
}

// remember notes the policy that is in force now, and keeps its bundle. What cannot be noted is lacking in a list; the control
// log has it.
func (a *assembly) remember(c change, f *frozen) {
	err := a.policies.Note(bundle.Activation{Digest: f.bundle.Digest, Revision: f.bundle.Revision, Review: f.review, At: a.opts.Now(), Who: c.who(), Why: c.why, Pinned: f.pin != nil})
	if err != nil {
		a.opts.Log.Error("the policy in force was not noted", "error", err)
	}
	a.keepFetched(f.config.Policy.Bundle, f.offer.fetched)
	if f.offer.stale != nil {
		a.opts.Log.Error("the last good policy bundle stays in force", "error", f.offer.stale)
	}
	if f.pin != nil {
		a.opts.Log.Warn("the policy is pinned: what the configuration says about it has no effect until it is released",
			"policy", f.bundle.Digest, "configured", f.configured, "by", f.pin.Who, "since", f.pin.Since, "why", f.pin.Why)
	}
	if f.trouble != nil {
		a.opts.Log.Error("the configured policy could not come into force", "error", f.trouble)
	}
}

// keepFetched keeps a bundle for times when its address cannot be asked.
func (a *assembly) keepFetched(address string, fetched *bundle.Fetched) {
	if fetched == nil {
		return
	}
	if err := a.policies.Keep(address, fetched, a.opts.Now()); err != nil {
		a.opts.Log.Error("the policy bundle was not kept for times without its server", "error", err)
	}
}

// settleLocked tells everybody how an attempt at another policy ended.
func (a *assembly) settleLocked(ctx context.Context, c change, digest string, err error) error {
	if refused, ok := errors.AsType[*refusedPolicy](err); ok {
		digest = cmp.Or(refused.digest, digest)
	}
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
