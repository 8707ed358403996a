package boot

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/audit"
	"sallyport/authn/personal"
	"sallyport/authn/recheck"
	"sallyport/authn/session"
	"sallyport/gateway"
)

// rechecking lets the providers of the configuration in effect speak of the people who are signed in.
type rechecking struct {
	*recheck.Rechecker
	log       *audit.Log
	providers atomic.Pointer[map[string]recheck.Provider]
}

// openRecheck comes before everything that looks sessions up.
func (a *assembly) openRecheck() {
	a.recheck = &rechecking{log: a.audit.Control()}
	a.recheck.providers.Store(&map[string]recheck.Provider{})
	a.recheck.Rechecker = recheck.New(recheck.Config{
		Sessions: a.sessions, Provider: a.recheck.provider, Limits: a.sessions.Limits,
		Ended: a.recheck.ended, Renewed: a.recheck.renewed,
		Settled: func(id string) { a.server.SessionRechecked(id) },
		Now:     a.opts.Now, Log: a.opts.Log,
	})
	a.metrics.MustRegister(recheckResults{a.recheck})
	a.group.Go(func() error { return a.recheck.Run(a.ctx) })
}

// follow makes the providers of a configuration the ones that are asked. Sessions of others end with their next request.
func (r *rechecking) follow(f *frozen) {
	providers := map[string]recheck.Provider{}
	for _, p := range f.providers {
		providers[p.Name()] = p.Provider
	}
	r.providers.Store(&providers)
}

func (r *rechecking) provider(name string) recheck.Provider { return (*r.providers.Load())[name] }

// owners are the people whose personal tokens count: those of a provider that is gone, or of an account that was linked or
// parted since, count no more than their sessions.
type owners struct {
	personal.People
	*rechecking
}

// Person implements personal.People.
func (o owners) Person(ctx context.Context, subject string) (session.Person, error) {
	p, err := o.People.Person(ctx, subject)
	if err == nil && !o.Knows(p.Identity) {
		return session.Person{}, session.ErrNoPerson
	}
	return p, err
}

// Current implements gateway.Rechecker.
func (r *rechecking) Current(ctx context.Context, s *session.Session) (*session.Session, error) {
	s, err := r.Rechecker.Current(ctx, s)
	return s, passByProvider(err)
}

// Look implements gateway.Rechecker.
func (r *rechecking) Look(s *session.Session) (*session.Session, error) {
	s, err := r.Rechecker.Look(s)
	return s, passByProvider(err)
}

func passByProvider(err error) error {
	if errors.Is(err, recheck.ErrBrowser) {
		return gateway.ErrPassByProvider
	}
	return err
}

// The codes of the control records.
const (
	codeSessionEnded   = "session_ended"   // reason: see package recheck
	codeSessionRenewed = "session_renewed" // what the provider says of the person has changed
)

func (r *rechecking) ended(ctx context.Context, s *session.Session, reason string) error {
	return r.record(ctx, s, codeSessionEnded, reason, struct {
		Provider string `json:"provider"`
	}{s.Identity.Provider})
}

func (r *rechecking) renewed(ctx context.Context, s *session.Session, c recheck.Change) error {
	return r.record(ctx, s, codeSessionRenewed, "", struct {
		Provider string `json:"provider"`
		recheck.Change
	}{s.Identity.Provider, c})
}

func (r *rechecking) record(ctx context.Context, s *session.Session, code, reason string, detail any) error {
	text, err := json.Marshal(detail)
	if err != nil {
		panic("BUG: detail of a control record: " + err.Error())
	}
	who := s.Identity
	_, err = r.log.Append(ctx, &audit.Record{Type: audit.TypeControl, Code: code, Reason: reason, Session: s.ID, Detail: text,
		Actor: &audit.Actor{Kind: string(who.Kind), ID: who.ID(), Name: who.Email}})
	return err
}

var (
	sessionRechecks = prometheus.NewDesc("sallyport_session_rechecks_total", "Times that a provider was to speak of the person of a session again, by what came of it.", []string{"result"}, nil)
	rechecksFailing = prometheus.NewDesc("sallyport_session_rechecks_failing_since_seconds", "Unix time since which a provider cannot be asked about people who are signed in; absent while it can.", []string{"provider"}, nil)
)

// recheckResults reads the counts off when somebody asks.
type recheckResults struct{ *rechecking }

// Describe implements prometheus.Collector.
func (r recheckResults) Describe(out chan<- *prometheus.Desc) {
	out <- sessionRechecks
	out <- rechecksFailing
}

// Collect implements prometheus.Collector.
func (r recheckResults) Collect(out chan<- prometheus.Metric) {
	n := r.Results()
	for result, count := range map[string]int64{"unchanged": n.Unchanged, "changed": n.Changed, "elsewhere": n.Elsewhere,
		"ended": n.Ended, "browser": n.Browser, "failed": n.Failed} {
		out <- prometheus.MustNewConstMetric(sessionRechecks, prometheus.CounterValue, float64(count), result)
	}
	for provider, since := range r.Away() {
		out <- prometheus.MustNewConstMetric(rechecksFailing, prometheus.GaugeValue, float64(since.Unix()), provider)
	}
}

// standing is what keeps a provider from speaking of the people who are signed in, or empty.
func (r *rechecking) standing(provider string) string {
	since, away := r.Away()[provider]
	if !away {
		return ""
	}
	return "cannot be asked about the people who are signed in since " + since.UTC().Format(time.RFC3339)
}
