package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"sallyport/audit"
	"sallyport/gateway/admin"
)

// operated is the running gateway as operators see it.
type operated struct{ *assembly }

var _ admin.Gateway = operated{}

// Reload puts the configuration file into effect.
func (o operated) Reload(ctx context.Context, by *audit.Actor) error {
	return o.reload(ctx, change{"operator", by})
}

// Status describes the gateway as it is now.
func (o operated) Status(ctx context.Context) admin.Status {
	f := o.current()
	s := admin.Status{
		Version: o.opts.Version, Started: o.started, Ready: true,
		Config: admin.ConfigStatus{Path: o.path, Digest: f.sources.Digest, Loaded: f.loaded},
		Policy: o.policyStatus(f),
		Keys:   admin.KeyStatus{Mode: f.keyMode(), Ready: true},
		Audit:  o.auditStatus(),
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
	active, err := o.sessions.Count(ctx)
	if err != nil {
		s.Ready, s.Why = false, err.Error()
	}
	s.Session.Active = active
	o.describe(f, &s)
	held := o.spool.Stats()
	s.Spool = admin.SpoolStatus{Bodies: held.Bodies, Memory: held.Memory, Disk: held.Disk, Stalled: held.Stalled}
	s.Cache = o.cacheStatus()
	return s
}

func (o operated) auditStatus() admin.AuditStatus {
	s := admin.AuditStatus{Healthy: true, Decisions: o.audit.Decisions().Records(), Control: o.audit.Control().Records()}
	_, decisions := o.audit.Checkpoint(audit.DecisionLog)
	_, control := o.audit.Checkpoint(audit.ControlLog)
	s.SignedDecisions, s.SignedControl = decisions.Size, control.Size
	for _, lag := range o.sinks.Lags() {
		s.Sinks = append(s.Sinks, admin.SinkStatus{Name: lag.Name, Lag: lag.Records, Delivered: lag.Delivered, Failing: lag.Failing, Error: lag.Error})
	}
	return s
}

// describe adds what follows from the configuration: certificates, providers, upstreams.
func (o operated) describe(f *frozen, s *admin.Status) {
	now := o.opts.Now()
	for _, c := range f.certificates() {
		s.Certificates = append(s.Certificates, admin.Certificate{File: c.File, Names: c.Titles(), NotAfter: c.NotAfter, Key: c.Key,
			DaysLeft: c.DaysLeft(now), State: string(c.State(now))})
	}
	s.ClientAuthorities = f.clientAuthorities(now)
	for _, p := range f.providers {
		provider := admin.Provider{Name: p.Name(), Ready: true}
		if err := p.Ready(); err != nil {
			provider.Ready, provider.Why = false, err.Error()
		} else if why := o.recheck.standing(p.Name()); why != "" {
			provider.Ready, provider.Why = false, why
		}
		s.Providers = append(s.Providers, provider)
	}
	s.Upstreams = o.Upstreams()
	s.Renewals = renewing(o).Renewals()
}

// AppHosts are the hosts of all apps, by the apps' names.
func (o operated) AppHosts() map[string]string {
	hosts := make(map[string]string)
	for _, app := range o.current().snapshot.Routes.Apps() {
		hosts[string(app.Name)] = app.Host
	}
	return hosts
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
