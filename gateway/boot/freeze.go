package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/oidc"
	"sallyport/authn/session"
	"sallyport/authn/token"
	"sallyport/certs"
	"sallyport/certs/keyring"
	"sallyport/gateway"
	"sallyport/gateway/config"
	"sallyport/gateway/route"
	"sallyport/gateway/signin"
	"sallyport/gateway/spool"
	"sallyport/policy"
	"sallyport/policy/bundle"
)

// frozen is a configuration with everything that follows from it alone, and later what was connected for it.
type frozen struct {
	config  *config.Config
	sources config.Sources
	chosen

	loaded time.Time

	snapshot   *gateway.Snapshot
	certs      *certs.Store
	shown      []certs.Info // what the gateway itself shows to apps, once for each that has a client_certificate
	handshakes *handshakes
	providers  []*provider // in configuration order
}

// Check builds everything that the configuration at path leads to without starting, binding or writing anything, and
// returns what is wrong. It runs the code that Run and every reload run.
func Check(path string) (*config.Config, error) {
	f, err := freeze(path, configuredPolicy)
	if err != nil {
		return nil, err
	}
	return f.config, f.checkParts()
}

// Policy returns the configuration at path and the policy that follows from it, for those who explain them. Nothing is
// connected.
func Policy(ctx context.Context, path string) (*config.Config, *policy.Engine, error) {
	f, err := freeze(path, describedPolicy)
	if err != nil {
		return nil, nil, err
	}
	return f.config, f.snapshot.Policy, nil
}

// freeze loads a configuration and compiles the policy that is chosen for it.
func freeze(path string, choose choice) (*frozen, error) {
	cfg, sources, err := config.Load[config.Config](path, os.LookupEnv)
	f := &frozen{config: cfg, sources: sources, loaded: time.Now()}
	if err != nil {
		return f, err
	}
	table, err := route.NewTable(cfg.Apps)
	if err != nil {
		return f, err
	}
	if f.chosen, err = choose(cfg, table); err != nil {
		return f, err
	}
	engine, zone, err := f.chosen.prepare(context.Background(), cfg, table, folderOf(sources))
	if err != nil {
		return f, err
	}
	f.snapshot = &gateway.Snapshot{Routes: table, Policy: engine, Zone: zone, PolicyHeaders: cfg.Policy.Headers, AuthHost: cfg.AuthHost(), PublicPort: cfg.Port(),
		Reauthorize: cfg.Reauthorize, Requests: cfg.Limits.Request, Limits: cfg.Limits.Config, TransportSecurity: cfg.HSTS, FormOrigins: []string{cfg.AuthOrigin()}}
	return f, f.locate()
}

// ReviewPolicy returns the policy and apps of a configuration as reviewers have it: without secrets, certificates or the
// environment it would run in. Rego, unless empty, is read in place of policy.bundle.
func ReviewPolicy(path, rego string) (*config.Config, *policy.Bundle, error) {
	cfg, err := config.FindPolicy(path, os.LookupEnv)
	if err != nil {
		return nil, nil, err
	}
	if rego != "" {
		cfg.Policy.Bundle = rego
	}
	return reviewed(cfg)
}

// ReviewProposal is ReviewPolicy of a configuration that somebody else wrote. It is given nothing that the reviewer has:
// references in it are not looked up, and it sends nobody anywhere: an address is only asked that the configuration at own,
// the reviewer's, names too, and with what that one says.
func ReviewProposal(path, own string) (*config.Config, *policy.Bundle, error) {
	cfg, err := config.ProposedPolicy(path)
	if err != nil {
		return nil, nil, err
	}
	if address := cfg.Policy.Bundle; bundle.Remote(address) {
		mine, err := config.FindPolicy(own, os.LookupEnv)
		if err != nil || mine.Policy.Bundle != address || sameFile(path, own) {
			return nil, nil, fmt.Errorf("policy: the bundle is at %s, which only your own configuration (--config) can have asked: "+
				"fetch it and name the file or folder", address)
		}
		cfg.Policy.Token, cfg.Policy.Verification = mine.Policy.Token, mine.Policy.Verification
	}
	return reviewed(cfg)
}

// sameFile reports whether two names are of one file: the reviewer's own configuration may be the one that is proposed.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return true
	}
	y, err := os.Stat(b)
	return err != nil || os.SameFile(x, y)
}

func reviewed(cfg *config.Config) (*config.Config, *policy.Bundle, error) {
	table, err := route.NewTable(cfg.Apps)
	if err != nil {
		return nil, nil, err
	}
	if !strings.HasPrefix(cfg.Policy.Bundle, "http://") {
		cfg.Policy.Verification = bundle.Verification{}
	}
	o, err := offered(cfg.Policy)
	if err != nil {
		return nil, nil, fmt.Errorf("policy: %w", err)
	}
	b, err := buildPolicy(cfg.Policy, table, o.files)
	return cfg, b, err
}

// checkParts makes, and drops, what freeze leaves to connect because it lives on from reload to reload.
func (f *frozen) checkParts() error {
	var errs []error
	standings := oidc.Stand(f.config.Identity.Providers, f.config.Identity.Links)
	for _, p := range f.config.Identity.Providers {
		_, err := oidc.New(p, oidc.Options{RedirectURL: signin.CallbackURL(f.config.AuthOrigin(), p.Name), Assertion: unusedSigner{}, Among: standings[p.Name]})
		errs = append(errs, err)
	}
	_, certificates := certs.CheckFiles(f.config.TLS)
	_, err := certs.LoadClientAuthorities(f.config.TLS.ClientCertificates, nil, time.Now())
	errs = append(errs, err)
	if obtained := f.config.TLS.ACME; obtained != nil {
		errs = append(errs, obtained.CheckFiles(acmeHosts(f.config)))
	}
	errs = append(errs, f.checkMachines())
	errs = append(errs, f.snapshot.Connect(nil, gateway.Behind{Own: f.config.Own(), ClientCertificate: checkClientCertificate}), certificates, checkSpool(f.config.Spool), checkSinks(f.config))
	f.snapshot.Retire(&gateway.Snapshot{})
	return errors.Join(errs...)
}

// checkClientCertificate stands for the matching of a certificate with its key.
func checkClientCertificate(file string) (*certs.Client, error) {
	return nil, certs.CheckClientFile(file)
}

func checkSpool(cfg spool.Config) error {
	s, err := spool.New(cfg)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return s.Close()
}

// unusedSigner stands for the client's key where it is only checked that one is asked for.
type unusedSigner struct{ token.Signer }

// connect gives a frozen configuration its running parts: certificates matched to keys, providers, upstream pools. Those
// of the previous one that did not change are kept.
func (a *assembly) connect(ctx context.Context, f *frozen, previous *frozen) (err error) {
	if f.certs, err = certs.Load(ctx, f.config.TLS, a.keys); err != nil {
		return err
	}
	f.handshakes = newHandshakes(f.certs)
	if err := f.askForCertificates(previous, a.opts.Now()); err != nil {
		return err
	}
	if err := a.knowMachines(f, previous); err != nil {
		return err
	}
	if f.providers, err = a.providersFor(ctx, f.config); err != nil {
		return err
	}
	var providers []*oidc.Provider
	for _, p := range f.providers {
		providers = append(providers, p.Provider)
	}
	f.snapshot.SignIn = signin.New(signin.Options{AuthOrigin: f.config.AuthOrigin(), Providers: providers, Sessions: a.sessions,
		Apps: f.app, Record: recorder{a.audit.Control()}, Log: a.opts.Log, Now: a.opts.Now})
	var old *gateway.Snapshot
	if previous != nil {
		old = previous.snapshot
	}
	if err := f.snapshot.Connect(old, gateway.Behind{Cache: a.cache, Log: a.opts.Log, Own: f.config.Own(), ClientCertificate: func(file string) (*certs.Client, error) {
		client, err := certs.LoadClient(ctx, file, a.keys)
		if err == nil {
			f.shown = append(f.shown, client.Certificate())
		}
		return client, err
	}}); err != nil {
		return err
	}
	a.warnAbout(ctx, f)
	return a.audit.KeepPolicy(f.bundle.Digest, f.bundle.Archive())
}

// warnAbout says which hosts will not work because the key process or the certificates were not told of them: sooner
// than the first person who tries.
func (a *assembly) warnAbout(ctx context.Context, f *frozen) {
	nobody := &session.Session{ID: "start", Identity: &authn.Identity{Kind: authn.Service, Provider: "sallyport", Subject: "start"}}
	for _, app := range f.snapshot.Routes.Apps() {
		if !app.NeedsAssertion() {
			continue
		}
		if _, err := a.minter.Assertion(ctx, nobody, f.snapshot.Origin(app.Host)); err != nil {
			a.opts.Log.Warn("people cannot be vouched for to an app: is its origin among assertion.audiences in keyd.yaml?",
				"app", app.Name, "origin", f.snapshot.Origin(app.Host), "error", err)
		}
	}
	for _, host := range notObtained(f.config) {
		if !f.certs.Covers(host) {
			a.opts.Log.Warn("no certificate is for this host", "host", host)
		}
	}
}

// app is an app as the sign-in knows it.
func (f *frozen) app(host string) (signin.App, bool) {
	if !f.snapshot.Routes.HasHost(host) {
		return signin.App{}, false
	}
	found := f.snapshot.Routes.Match(host, "/")
	app := signin.App{Name: host, Host: host, Origin: f.snapshot.Origin(host)}
	if found != nil {
		app.Name, app.Title = string(found.Name), found.DisplayName()
	}
	app.Providers = f.providersOn(host)
	return app, true
}

// providersOn are the providers at which people of some app of a host sign in, in the order of its apps; nil: all of them.
// Which of them one app takes, it says with each sign-in.
func (f *frozen) providersOn(host string) (names []string) {
	for _, app := range f.snapshot.Routes.Apps() {
		if app.Host != host {
			continue
		}
		if len(app.Providers) == 0 {
			return nil
		}
		for _, name := range app.Providers {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// providersFor returns the providers of a configuration, in its order: running ones whose settings did not change, new
// ones for the rest. New ones begin to discover at once, which they may do in vain for a while.
func (a *assembly) providersFor(ctx context.Context, cfg *config.Config) ([]*provider, error) {
	var list []*provider
	standings := oidc.Stand(cfg.Identity.Providers, cfg.Identity.Links)
	for _, pc := range cfg.Identity.Providers {
		secret, among := secretOf(pc), standings[pc.Name]
		if running := a.providers[pc.Name]; running != nil && reflect.DeepEqual(running.cfg, pc) && reflect.DeepEqual(running.among, among) && running.secret == secret {
			list = append(list, running)
			continue
		}
		opts := oidc.Options{RedirectURL: signin.CallbackURL(cfg.AuthOrigin(), pc.Name), Log: a.opts.Log, Now: a.opts.Now, Among: among}
		if pc.SignsAssertions() {
			signer, err := a.signer(ctx, func(k keyring.Key) bool { return k.Purpose == keyring.PurposeOIDCClient && k.ClientID == pc.ClientID })
			if err != nil {
				return nil, fmt.Errorf("identity provider %s: the key of client %q: %w", pc.Name, pc.ClientID, err)
			}
			opts.Assertion = signer
		}
		made, err := oidc.New(pc, opts)
		if err != nil {
			return nil, fmt.Errorf("identity provider %s: %w", pc.Name, err)
		}
		list = append(list, &provider{Provider: made, cfg: pc, among: among, secret: secret})
	}
	return list, nil
}

// secretOf is what stands in a provider's client_secret_file; what is wrong with the file, oidc.New tells.
func secretOf(cfg oidc.Config) oidc.Secret {
	if cfg.ClientSecretFile == "" {
		return ""
	}
	text, err := os.ReadFile(cfg.ClientSecretFile)
	if err != nil {
		return ""
	}
	return oidc.Secret(text)
}

// keyMode names how the key process is reached, for status and records.
func (f *frozen) keyMode() string {
	if f.config.Keys.Spawn != nil {
		return "child process (development)"
	}
	return "socket"
}

// recorder lets the sign-in write control records.
type recorder struct{ log *audit.Log }

func (r recorder) Record(ctx context.Context, record *audit.Record) error {
	_, err := r.log.Append(ctx, record)
	return err
}
