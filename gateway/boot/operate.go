package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/authn/session"
	"sallyport/gateway/admin"
)

// operated is the running gateway as operators see it.
type operated struct{ *assembly }

var _ admin.Gateway = operated{}

// Reload puts the configuration file into effect.
func (o operated) Reload(ctx context.Context) error { return o.reload(ctx, "operator") }

// Status describes the gateway as it is now.
func (o operated) Status(ctx context.Context) admin.Status {
	f := o.current()
	s := admin.Status{
		Version: o.opts.Version, Started: o.started, Ready: true,
		Config: admin.ConfigStatus{Path: o.path, Digest: f.sources.Digest, Loaded: f.loaded},
		Policy: admin.PolicyStatus{Digest: f.bundle.Digest, Revision: f.bundle.Revision},
		Keys:   admin.KeyStatus{Mode: f.keyMode(), Ready: true},
		Audit:  admin.AuditStatus{Healthy: true, Decisions: o.audit.Decisions().Records(), Control: o.audit.Control().Records()},
	}
	o.mu.Lock()
	if o.failure != nil {
		s.Config.Error, s.Config.Failed = o.failure.Error(), o.failedAt
	}
	o.mu.Unlock()
	if err := o.keys.Ready(); err != nil {
		s.Keys.Ready, s.Keys.Why = false, err.Error()
		s.Ready, s.Why = false, err.Error()
	}
	if err := o.audit.Healthy(); err != nil {
		s.Audit.Healthy, s.Audit.Why = false, err.Error()
		s.Ready, s.Why = false, err.Error()
	}
	if list, err := o.sessions.List(ctx, session.Filter{}); err == nil {
		s.Session.Active = len(list)
	} else {
		s.Ready, s.Why = false, err.Error()
	}
	o.describe(f, &s)
	return s
}

// describe adds what follows from the configuration: certificates, providers, upstreams.
func (o operated) describe(f *frozen, s *admin.Status) {
	for _, c := range f.certs.Certificates() {
		s.Certificates = append(s.Certificates, admin.Certificate{File: c.File, Names: c.Names, NotAfter: c.NotAfter, Key: c.Key})
	}
	for _, p := range f.providers {
		provider := admin.Provider{Name: p.Name(), Ready: true}
		if err := p.Ready(); err != nil {
			provider.Ready, provider.Why = false, err.Error()
		}
		s.Providers = append(s.Providers, provider)
	}
	for _, app := range f.snapshot.Routes.Apps() {
		for _, e := range f.snapshot.Endpoints()[string(app.Name)] {
			s.Upstreams = append(s.Upstreams, admin.Upstream{App: string(app.Name), URL: e.Address, Serving: e.InService, Open: e.Outstanding,
				Requests: e.Requests, Failures: e.Failures})
		}
	}
}

// Backup returns a consistent copy of the state, already unlinked: closing it is all the cleaning up there is.
func (o operated) Backup(ctx context.Context) (*os.File, error) {
	folder, err := os.MkdirTemp(filepath.Dir(o.current().config.State.SQLite), ".backup-*")
	if err != nil {
		return nil, err
	}
	copied := filepath.Join(folder, "state.db")
	if err := o.store.Backup(ctx, copied); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	file, err := os.Open(copied)
	return file, errors.Join(err, os.RemoveAll(folder))
}

// registerGauges adds the metrics that are read off the parts when somebody asks.
func (a *assembly) registerGauges() {
	gauge := func(name, help string, value func() float64) {
		a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	truth := func(ok bool) float64 {
		if ok {
			return 1
		}
		return 0
	}
	gauge("sallyport_config_last_reload_success", "1 when the configuration in effect is the newest that was read, 0 after a refused reload.", func() float64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return truth(a.failure == nil)
	})
	gauge("sallyport_audit_healthy", "1 while the audit log can be written.", func() float64 { return truth(a.audit.Healthy() == nil) })
	gauge("sallyport_keys_ready", "1 while the key process is connected.", func() float64 { return truth(a.keys.Ready() == nil) })
	gauge("sallyport_certificate_expiry_seconds", "Unix time at which the first certificate expires.", func() float64 {
		first := 0.0
		for _, c := range a.current().certs.Certificates() {
			if at := float64(c.NotAfter.Unix()); first == 0 || at < first {
				first = at
			}
		}
		return first
	})
}
