package boot

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"sallyport/gateway/config"
	"sallyport/gateway/shield"
)

// reload reads the configuration again and puts it into effect as a whole, or returns why it did not and leaves the
// running one untouched. The change is on record before it takes effect, the failure after.
func (a *assembly) reload(ctx context.Context, c change) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	next, err := a.prepare(ctx)
	if err == nil {
		err = a.recordReload(ctx, c, next)
	}
	a.noteReload(err)
	if err != nil {
		if next != nil {
			next.snapshot.Retire(a.current().snapshot)
		}
		a.refuseReload(ctx, c, err)
		return err
	}
	a.enforceLocked(c, next)
	if err := a.sinks.Apply(next.config.Sinks); err != nil { // a file that was there a moment ago: the old sinks go on
		a.opts.Log.Error("audit sinks were not changed", "error", err)
	}
	a.opts.Log.Info("configuration reloaded", "why", c.why, "policy", next.bundle.Digest)
	return nil
}

// recordReload puts on record what a configuration changes, before it does.
func (a *assembly) recordReload(ctx context.Context, c change, next *frozen) error {
	now := a.current()
	err := a.control(ctx, "config_changed", c.by, map[string]any{"why": c.why, "config": next.sources.Digest, "policy": next.bundle.Digest,
		"before": map[string]string{"config": now.sources.Digest, "policy": now.bundle.Digest}})
	if err == nil {
		err = a.recordPolicy(ctx, c, next)
	}
	if err == nil && next.pin == nil && now.pin != nil { // the configuration leads to the pinned policy now
		err = a.policies.SetPin(nil)
	}
	return err
}

// refuseReload puts on record why a configuration did not come into force, and that it was for its policy if it was.
func (a *assembly) refuseReload(ctx context.Context, c change, err error) {
	a.control(ctx, "config_refused", c.by, map[string]any{"why": c.why, "error": clip(err.Error())})
	if refused, ok := errors.AsType[*refusedPolicy](err); ok {
		a.refusePolicy(ctx, c, refused.digest, err)
	}
	a.opts.Log.Error("configuration was not reloaded; the running one stays", "why", c.why, "error", err)
}

// maxReason bounds what a record says of a refused configuration; stderr and status say it all.
const maxReason = 8 << 10

func clip(text string) string { return text[:min(len(text), maxReason)] }

// prepare goes all the way up to the change itself.
func (a *assembly) prepare(ctx context.Context) (*frozen, error) {
	next, err := freeze(a.path, a.choosePolicy)
	if err != nil {
		return nil, err
	}
	if next.trouble != nil { // pinned or not: what is configured must be good
		return nil, next.trouble
	}
	if err := needsRestart(a.current().config, next.config); err != nil {
		return nil, err
	}
	if err := checkSpool(next.config.Spool); err != nil {
		return nil, err
	}
	if err := checkSinks(next.config); err != nil {
		return nil, err
	}
	return next, a.connect(ctx, next, a.current())
}

// needsRestart refuses, by name, changes that only a restart can make.
func needsRestart(old, next *config.Config) error {
	var names []string
	for name, changed := range map[string]bool{
		"listen": old.Listen != next.Listen, "listen_http": old.ListenHTTP != next.ListenHTTP,
		"domain": old.Domain != next.Domain, "public_port": old.PublicPort != next.PublicPort,
		"admin": old.Admin != next.Admin, "audit": old.Audit != next.Audit, "state": old.State != next.State,
		"cache": old.Cache != next.Cache, "proxy_protocol": !reflect.DeepEqual(old.ProxyProtocol, next.ProxyProtocol),
		"limits.connections": old.Limits.Connections != next.Limits.Connections,
		"policy.store":       policyStore(old) != policyStore(next),
		"keys":               !reflect.DeepEqual(old.Keys, next.Keys),
		"tls.acme":           old.TLS.ACME.Restart(next.TLS.ACME),
	} {
		if changed {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("%s cannot change in a running gateway: restart it, or put the old value back", strings.Join(names, ", "))
}

// activate makes a connected configuration the current one, and its providers the ones that run.
func (a *assembly) activate(f *frozen) {
	a.sessions.Configure(f.config.Session) // checked with the rest of the configuration
	a.recheck.follow(f)
	a.tokens.Configure(f.config.Identity.PersonalTokens)
	if err := a.spool.Configure(f.config.Spool); err != nil {
		a.opts.Log.Error("the spool keeps its settings", "error", err) // its folder was usable a moment ago
	}
	a.shield.Configure(f.config.Shield)
	a.followHosts(f.config)
	a.mu.Lock()
	defer a.mu.Unlock()
	previous := a.active
	a.active = f
	if previous != nil && previous.handshakes != f.handshakes {
		previous.handshakes.retire()
	}
	a.watchMemoLocked(f.snapshot.Policy)
	running := map[string]*provider{}
	for _, p := range f.providers {
		if p.stop == nil {
			a.start(p)
		}
		running[p.cfg.Name] = p
	}
	for name, old := range a.providers {
		if running[name] != old {
			old.stop()
		}
	}
	a.providers = running
	if a.watch != nil {
		a.watch.Follow(f.watched())
	}
}

func (a *assembly) start(p *provider) {
	var ctx context.Context
	ctx, p.stop = context.WithCancel(a.ctx)
	a.group.Go(func() error { return p.Run(ctx) })
}

func (a *assembly) current() *frozen {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.active
}

func (a *assembly) noteReload(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failure, a.failedAt = err, a.opts.Now()
	if _, policys := errors.AsType[*refusedPolicy](err); policys || err == nil {
		a.attempt = policyAttempt{err, a.opts.Now()}
	}
}

// watched are the files whose replacement by rename is a reload: the configuration, what it refers to, certificates and
// a policy archive. A policy folder is not among them: half a copy must never become active.
func (f *frozen) watched() []string {
	files := append([]string(nil), f.sources.Files...)
	files = append(files, f.config.TLS.Certificates...)
	files = append(files, f.config.TLS.ClientCertificates.Authorities...)
	files = append(files, f.config.TLS.ClientCertificates.Revocation...)
	files = append(files, databases(f.config)...)
	files = append(files, issuerFiles(f.config)...)
	for _, app := range f.config.Apps {
		if app.Shield.Mode != shield.Off {
			files = append(files, app.Shield.Rules...)
		}
		for _, file := range []string{app.UpstreamTLS.CA, app.UpstreamTLS.ClientCertificate} {
			if file != "" {
				files = append(files, file)
			}
		}
	}
	if bundle := f.config.Policy.Bundle; strings.HasSuffix(bundle, ".tar") || strings.HasSuffix(bundle, ".tar.gz") || strings.HasSuffix(bundle, ".tgz") {
		files = append(files, bundle)
	}
	return files
}

// watchFiles reloads when watched files change, until the gateway stops.
func (a *assembly) watchFiles() error {
	watch, err := config.NewWatch(a.active.watched())
	if err != nil {
		return err
	}
	a.watch = watch
	a.onClose(watch.Close)
	a.group.Go(func() error {
		watch.Run(a.ctx, func() {
			a.reload(a.ctx, change{why: "a watched file changed"}) // its failure is on record, in status and on stderr
			watch.Follow(a.current().watched())
		})
		return nil
	})
	return nil
}
