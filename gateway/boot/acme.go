package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/certs/acme"
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
)

// acmeHosts are the hosts that get a certificate by ACME: those that are listed, or all that are served.
func acmeHosts(cfg *config.Config) []string {
	switch {
	case cfg.TLS.ACME == nil:
		return nil
	case len(cfg.TLS.ACME.Hosts) > 0:
		return cfg.TLS.ACME.Hosts
	}
	return hostsOf(cfg)
}

// notObtained are the hosts that only a certificate of the operator's can be for.
func notObtained(cfg *config.Config) []string {
	obtained := acmeHosts(cfg)
	return slices.DeleteFunc(hostsOf(cfg), func(host string) bool {
		_, parent, _ := strings.Cut(host, ".")
		return slices.Contains(obtained, host) || slices.Contains(obtained, "*."+parent)
	})
}

// openACME readies the certificates that are obtained. They are asked for once the doors are open: the authority comes
// through them.
func (a *assembly) openACME(cfg *config.Config) (err error) {
	if cfg.TLS.ACME == nil {
		return nil
	}
	a.acme, err = acme.New(cfg.TLS.ACME, acmeHosts(cfg), acme.Options{
		Keys: a.keys, Install: a.installCertificates, Agent: "sallyport/" + a.opts.Version, Now: a.opts.Now, Log: a.opts.Log,
		Record: a.recordCertificate,
	})
	if err != nil {
		return err
	}
	a.onClose(a.acme.Close)
	for _, err := range a.active.certs.Unfit() {
		a.opts.Log.Warn("a certificate that was obtained is not served", "error", err)
	}
	return nil
}

// recordCertificate puts an attempt on record; that it could not be is reported there.
func (a *assembly) recordCertificate(ctx context.Context, e acme.Event) {
	switch e.Outcome {
	case acme.Issued:
		a.control(ctx, "certificate_issued", nil, e)
	case acme.Renewed:
		a.control(ctx, "certificate_renewed", nil, e)
	default:
		a.control(ctx, "certificate_failed", nil, e)
	}
}

// runACME keeps the certificates that are obtained.
func (a *assembly) runACME() {
	if a.acme != nil {
		a.group.Go(func() error { return a.acme.Run(a.ctx) })
	}
}

// installCertificates has the chains that were obtained served as they are now. Connections that are open go on with the
// ones they have.
func (a *assembly) installCertificates(ctx context.Context) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	now := a.current()
	store, err := now.certs.WithObtained(ctx, now.config.TLS, a.keys)
	if err != nil {
		return err
	}
	next := *now
	next.certs, next.handshakes = store, newHandshakes(store)
	if authorities := next.snapshot.ClientAuthorities; authorities != nil {
		next.handshakes.ask(authorities, next.snapshot)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active = &next
	now.handshakes.retire()
	return nil
}

// followHosts has certificates obtained for the hosts of a new configuration.
func (a *assembly) followHosts(cfg *config.Config) {
	if a.acme == nil {
		return
	}
	if err := a.acme.SetHosts(acmeHosts(cfg)); err != nil {
		a.opts.Log.Error("certificates are obtained for the old hosts", "error", err)
	}
}

// challenge answers the handshake by which an authority is shown that a host is ours; nil stands for any other. Behind it
// is nothing: net/http closes a connection whose protocol it does not know, before it reads from it.
func (a *assembly) challenge(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if a.acme == nil {
		return nil, nil
	}
	return a.acme.Handshake(hello)
}

// answersChallenge answers the request by which an authority is shown that a host is ours, and reports whether it was one.
func (a *assembly) answersChallenge(w http.ResponseWriter, r *http.Request) bool {
	return a.acme != nil && a.acme.ServeHTTP(w, r)
}

// renewing are the certificates that are obtained, as operators see them.
type renewing struct{ *assembly }

var _ admin.Renewing = renewing{}

// Renewals describes each certificate.
func (r renewing) Renewals() []admin.Renewal {
	if r.acme == nil {
		return nil
	}
	var list []admin.Renewal
	for _, s := range r.acme.Status() {
		list = append(list, admin.Renewal{Host: s.Host, Key: s.Slot, NotAfter: s.NotAfter, RenewAt: s.RenewAt, Advised: s.Advised, NextAt: s.NextAt,
			Failures: s.Failures, Failed: s.FailedAt, Reason: s.Reason, Error: s.Why, UnderWay: s.UnderWay})
	}
	return list
}

// RenewCertificate replaces a certificate now.
func (r renewing) RenewCertificate(ctx context.Context, what admin.Renew) error {
	return r.operateACME(func(of *acme.Renewer) error { return of.Renew(ctx, what.Host) })
}

// RevokeCertificate has a certificate revoked.
func (r renewing) RevokeCertificate(ctx context.Context, what admin.Revocation) error {
	return r.operateACME(func(of *acme.Renewer) error { return of.Revoke(ctx, what.Host, what.Reason) })
}

func (r renewing) operateACME(do func(*acme.Renewer) error) error {
	if r.acme == nil {
		return fmt.Errorf("%w host: tls.acme is not configured", admin.ErrUnknown)
	}
	err := do(r.acme)
	if errors.Is(err, acme.ErrUnknown) || errors.Is(err, acme.ErrReason) {
		return fmt.Errorf("%w host or reason: %w", admin.ErrUnknown, err)
	}
	return err
}

var (
	acmeFailures = prometheus.NewDesc("sallyport_acme_failures", "Attempts in a row that got no certificate for a host.", []string{"host"}, nil)
	acmeFailed   = prometheus.NewDesc("sallyport_acme_last_failure_seconds", "Unix time of the last attempt for a host, while attempts fail, by why it did.", []string{"host", "reason"}, nil)
	acmeNext     = prometheus.NewDesc("sallyport_acme_next_attempt_seconds", "Unix time at which a host's certificate is asked for next; 0 for now.", []string{"host"}, nil)
)

// collectRenewals reads how the certificates that are obtained are doing.
func (c collector) collectRenewals(gauge func(d *prometheus.Desc, value float64, labels ...string)) {
	for _, r := range renewing(c.operated).Renewals() {
		gauge(acmeFailures, float64(r.Failures), r.Host)
		if r.Failures > 0 {
			gauge(acmeFailed, float64(r.Failed.Unix()), r.Host, r.Reason)
		}
		gauge(acmeNext, float64(max(r.NextAt.Unix(), 0)), r.Host)
	}
}
