// Package boot builds a gateway from its configuration and runs it.
//
// The parts are made in reading order, each from what stands above it, and released in reverse. Check, Run and every
// reload go through the same freeze (freeze.go), so that what check accepts is what runs. Tests hand in another file
// layer, clock or listener.
package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"sallyport/audit"
	"sallyport/audit/search"
	"sallyport/audit/sink"
	"sallyport/authn/oidc"
	"sallyport/authn/personal"
	"sallyport/authn/session"
	"sallyport/authn/session/sqlite"
	"sallyport/authn/token"
	"sallyport/certs/acme"
	"sallyport/certs/keyring"
	"sallyport/gateway"
	"sallyport/gateway/admin"
	"sallyport/gateway/cache"
	"sallyport/gateway/config"
	"sallyport/gateway/listen"
	"sallyport/gateway/shield"
	"sallyport/gateway/spool"
	"sallyport/gateway/ui"
	"sallyport/policy/bundle"
)

// Options are what the surroundings hand in; the zero value serves.
type Options struct {
	Version string
	Log     *slog.Logger
	Now     func() time.Time
	// AuditFiles replaces the file layer of the audit log.
	AuditFiles audit.FileSystem
	// Listener replaces the one that the configuration names; the address it has is then not bound.
	Listener net.Listener
	// WrapDecisions puts something between the pipeline and the decision log.
	WrapDecisions func(gateway.Decisions) gateway.Decisions
	// Ready is called once connections are accepted.
	Ready func()
}

func (o *Options) fill() {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.WrapDecisions == nil {
		o.WrapDecisions = func(d gateway.Decisions) gateway.Decisions { return d }
	}
	if o.Ready == nil {
		o.Ready = func() {}
	}
}

// assembly is a gateway being built or running.
type assembly struct {
	opts    Options
	path    string
	started time.Time
	release []func() error // in the order in which the parts were made

	inherited listen.Sockets

	metrics  *prometheus.Registry
	audit    *audit.Audit
	files    audit.FileSystem // of the audit directory, for those who read beside the log
	sinks    *sink.Sinks
	indexed  []search.Named // the logs, as the searchable copy reads them
	index    *search.Copy   // nil: there is none
	keys     *keyring.Client
	store    *sqlite.Store
	sessions *session.Keeper
	tokens   *personal.Keeper
	recheck  *rechecking
	minter   *token.Minter
	rotation rotation
	cache    *cache.Cache // nil: no memory for one
	spool    *spool.Spooler
	shield   *shield.Shield
	policies *bundle.Store // opened with the first configuration
	repoll   chan struct{} // the configuration changed
	rekeyed  chan struct{} // the key process holds other keys
	acme     *acme.Renewer // nil: no certificates are obtained
	server   *gateway.Server
	doors    map[string]*listen.Guard // by the setting that opens it

	shadowing shadowing
	memo      memoWatch

	group *errgroup.Group // what runs beside the listeners
	ctx   context.Context

	reloading sync.Mutex // one reload at a time
	watch     *config.Watch

	mu        sync.Mutex
	active    *frozen
	failure   error // of the last reload
	failedAt  time.Time
	attempt   policyAttempt
	providers map[string]*provider // that run
}

// provider is an identity provider whose discovery runs in the background, once its configuration is in effect.
type provider struct {
	*oidc.Provider
	cfg    oidc.Config
	among  oidc.Standing      // what other providers and links make of it
	secret oidc.Secret        // what stood in cfg's file
	stop   context.CancelFunc // nil: not started
}

// heapFloor is memory that is reserved and never touched, so never resident. The collector runs when the heap has doubled:
// beside this, garbage of as many bytes may gather first, where ten would set it off several times a second. It is worth
// 3 to 4 % of a request's time, and bounded, which a higher GOGC is not when the cache is full.
const heapFloor = 64 << 20

// Run serves the configuration at path until ctx ends, then drains and stops. The error says what could not be built,
// or which part failed.
func Run(ctx context.Context, path string, opts Options) (err error) {
	opts.fill()
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	// From the first moment, and for good: an early or late SIGHUP would otherwise end the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	a := &assembly{opts: opts, path: path, started: opts.Now(), metrics: prometheus.NewRegistry(), providers: map[string]*provider{}, doors: map[string]*listen.Guard{}, repoll: make(chan struct{}, 1), rekeyed: make(chan struct{}, 1)}
	// Background work ends after the listeners are drained, not with ctx: what is being answered still needs it.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	a.group, a.ctx = errgroup.WithContext(background)
	defer func() {
		stopBackground()
		err = errors.Join(err, a.group.Wait(), a.close())
	}()
	if err := a.inherit(); err != nil {
		return err
	}
	listeners, err := a.build(ctx)
	if err != nil {
		return err
	}
	a.control(ctx, "started", nil, map[string]any{"version": opts.Version, "config": a.active.sources.Digest, "policy": a.active.bundle.Digest,
		"keys": a.active.keyMode()})
	opts.Log.Info("gateway is serving", "listen", listeners.address(), "domain", a.active.config.Domain, "apps", len(a.active.config.Apps))
	opts.Ready()
	err = listeners.serve(a.ctx, ctx, hangup)
	a.control(context.WithoutCancel(ctx), "stopped", nil, nil)
	return err
}

// inherit takes the sockets that a service manager kept for us, before any child process could inherit them too.
func (a *assembly) inherit() (err error) {
	if a.inherited, err = listen.Inherited(); err != nil {
		return err
	}
	if a.opts.Listener != nil {
		a.inherited.HTTPS = a.opts.Listener
	}
	a.onClose(func() error { return ignoreClosed(a.inherited.Close()) })
	return nil
}

// build makes every part, in reading order.
func (a *assembly) build(ctx context.Context) (*listeners, error) {
	frozen, err := a.first()
	if err != nil {
		return nil, err
	}
	cfg := frozen.config
	a.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := a.openAudit(cfg); err != nil {
		return nil, err
	}
	if err := a.openKeys(ctx, cfg); err != nil {
		return nil, err
	}
	if err := a.openSinks(cfg); err != nil {
		return nil, err
	}
	if err := a.openSearch(ctx, cfg); err != nil {
		return nil, err
	}
	if err := a.keepAudit(ctx, cfg); err != nil {
		return nil, err
	}
	if err := a.keepKeyLog(cfg); err != nil {
		return nil, err
	}
	if err := a.openSessions(ctx, cfg); err != nil {
		return nil, err
	}
	a.openRecheck()
	a.openTokens(cfg)
	if err := a.openAssertions(ctx, cfg); err != nil {
		return nil, err
	}
	if err := a.openStores(cfg); err != nil {
		return nil, err
	}
	if err := a.connect(ctx, frozen, nil); err != nil {
		return nil, err
	}
	window := audit.NewWindow(a.audit.Decisions())
	a.group.Go(func() error { return window.Run(a.ctx) })
	a.server = gateway.New(gateway.Options{
		Decisions: a.opts.WrapDecisions(a.audit.Decisions()), Window: window, Sessions: a.sessions, Personal: a.tokens, Recheck: a.recheck, Assertions: a.minter, Control: recorder{a.audit.Control()}, Custody: a.sessions, Forms: a.sessions,
		Portal: gateway.Portal{Sessions: a.sessions, Tokens: a.tokens},
		Cache:  a.cache, Spool: a.spool, Shield: a.shield, Connecting: cfg.Limits.Connections, ClientKeys: func() []byte { return *a.rotation.clientKeys.Load() },
		KeysLife: func() time.Duration { return time.Duration(a.rotation.keysLife.Load()) },
		Pages:    ui.New(ui.Options{}), Metrics: a.metrics, Log: a.opts.Log, Now: a.opts.Now,
	}, frozen.snapshot)
	a.guardDoors(cfg)
	a.onClose(func() error { a.server.Snapshot().Retire(nil); return nil })
	a.sessions.OnEnd(a.server.SessionEnded)
	a.runTokens()
	a.group.Go(func() error { return a.server.Run(a.ctx) })
	a.activate(frozen)
	a.began(ctx, frozen)
	if err := a.openACME(cfg); err != nil { // before anything that reloads: another configuration may have other hosts
		return nil, err
	}
	a.group.Go(func() error { return a.pollPolicy(a.ctx) })
	a.group.Go(func() error { return a.rotateTickets(a.ctx) })
	a.group.Go(func() error { return a.watchExpiry(a.ctx) })
	a.group.Go(func() error { return a.followKeys(a.ctx) })
	a.registerGauges()
	if err := a.openAdmin(cfg); err != nil {
		return nil, err
	}
	if err := a.watchFiles(); err != nil {
		return nil, err
	}
	doors, err := a.listen(cfg)
	if err == nil {
		a.runACME()
	}
	return doors, err
}

func (a *assembly) openKeys(ctx context.Context, cfg *config.Config) (err error) {
	a.keys, err = keyring.Open(ctx, cfg.Keys, a.opts.Log)
	if err != nil {
		return fmt.Errorf("reaching the key process: %w", err)
	}
	a.onClose(a.keys.Close)
	a.keys.OnChange(a.noteKeys)
	return nil
}

func (a *assembly) openSessions(ctx context.Context, cfg *config.Config) (err error) {
	a.store, err = sqlite.Open(ctx, cfg.State.SQLite)
	if err != nil {
		return fmt.Errorf("opening the state: %w", err)
	}
	a.onClose(a.store.Close)
	a.sessions, err = session.NewKeeper(cfg.Session, a.store, a.opts.Now, a.opts.Log)
	if err != nil {
		return err
	}
	a.group.Go(func() error { return a.sessions.Run(a.ctx) })
	return nil
}

// openAssertions readies the key that vouches to apps, and follows all keys from then on.
func (a *assembly) openAssertions(ctx context.Context, cfg *config.Config) (err error) {
	signer, err := a.signer(ctx, func(k keyring.Key) bool { return k.Purpose == keyring.PurposeAssertion })
	if err != nil {
		return fmt.Errorf("the key that vouches to apps: %w", err)
	}
	a.minter, err = token.NewMinter(token.MinterConfig{Issuer: cfg.AuthOrigin(), Signer: signer, Now: a.opts.Now})
	if err != nil {
		return err
	}
	return a.tendKeys()
}

// openStores readies what stands between apps and clients: stored answers, and bodies that wait.
func (a *assembly) openStores(cfg *config.Config) (err error) {
	if a.spool, err = spool.New(cfg.Spool); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	a.onClose(a.spool.Close)
	a.shield = shield.New(cfg.Shield)
	if cfg.Cache.Memory == 0 {
		return nil
	}
	a.cache = cache.New(cache.NewMemory(int64(cfg.Cache.Memory)), cache.Options{MaxEntry: int64(cfg.Cache.MaxEntry), Filling: int64(cfg.Cache.Memory) / 4, Now: a.opts.Now})
	a.onClose(func() error { a.cache.Close(); return nil })
	return nil
}

// signer finds a JWT key of the key process by what it is for: the gateway's configuration names no key.
func (a *assembly) signer(ctx context.Context, wanted func(keyring.Key) bool) (*rotating, error) {
	keys, err := a.keys.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if wanted(k) {
			return newRotating(a.keys, k.Name)
		}
	}
	return nil, errors.New("keyd holds none")
}

func (a *assembly) openAdmin(cfg *config.Config) error {
	server, err := admin.Open(cfg.Admin, admin.Options{Gateway: operated{a}, Sessions: a.sessions, People: a.sessions, Tokens: a.tokens, Control: a.audit.Control(), Auditing: auditing{a}, Policies: policies{a}, Shadowing: shadows{a}, Renewing: renewing{a}, Metrics: a.metrics, Log: a.opts.Log})
	if err != nil {
		return fmt.Errorf("opening the admin socket: %w", err)
	}
	a.group.Go(func() error { return server.Run(a.ctx) })
	return nil
}

func (a *assembly) onClose(f func() error) { a.release = append(a.release, f) }

func (a *assembly) close() error {
	var errs []error
	for i := len(a.release) - 1; i >= 0; i-- {
		errs = append(errs, a.release[i]())
	}
	return errors.Join(errs...)
}

// control writes what the gateway itself did. What it records has happened or is about to; a log that cannot be
// written is reported and, for a change, stops it (see reload).
func (a *assembly) control(ctx context.Context, code string, actor *audit.Actor, detail any) error {
	record := &audit.Record{Type: audit.TypeControl, Code: code, Actor: actor}
	if actor == nil {
		record.Actor = &audit.Actor{Kind: "gateway", ID: fmt.Sprintf("pid:%d", os.Getpid())}
	}
	if detail != nil {
		text, err := json.Marshal(detail)
		if err != nil {
			return fmt.Errorf("describing %s: %w", code, err)
		}
		record.Detail = text
	}
	if _, err := a.audit.Control().Append(ctx, record); err != nil {
		a.opts.Log.Error("control record not written", "code", code, "error", err)
		return fmt.Errorf("recording %s: %w", code, err)
	}
	return nil
}
