package boot

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/certs"
	"sallyport/gateway"
	"sallyport/gateway/admin"
)

// askForCertificates loads the authorities of clients, and asks clients for certificates where an app wants them.
func (f *frozen) askForCertificates(previous *frozen, now time.Time) error {
	var before *certs.ClientAuthorities
	if previous != nil {
		before = previous.snapshot.ClientAuthorities
	}
	cfg := f.config.TLS.ClientCertificates
	authorities, err := certs.LoadClientAuthorities(cfg, before, now)
	if err != nil {
		return err
	}
	f.snapshot.ClientAuthorities, f.snapshot.SignInCertificate = authorities, cfg.SignIn
	if authorities != nil {
		f.handshakes.ask(authorities, f.snapshot)
	}
	return nil
}

// ask makes the handshakes of hosts that want certificates. What is shown is verified with each request, not here: see
// gateway.Snapshot. Such a handshake is made anew for every connection: who resumes a session has shown nothing but a
// ticket, of a time when the key was at hand.
func (h *handshakes) ask(authorities *certs.ClientAuthorities, snapshot *gateway.Snapshot) {
	h.asks, h.asking = snapshot.AsksForCertificate, h.usual.Clone()
	h.asking.ClientAuth, h.asking.ClientCAs = tls.RequestClientCert, authorities.Names()
	h.asking.SessionTicketsDisabled = true
}

// clientAuthorities describes the authorities for status.
func (f *frozen) clientAuthorities(now time.Time) []admin.ClientAuthority {
	list := []admin.ClientAuthority{}
	for _, i := range f.snapshot.ClientAuthorities.Infos() {
		list = append(list, admin.ClientAuthority{File: i.File, Subject: i.Subject, NotAfter: i.NotAfter, Revocation: i.Revocation,
			NextUpdate: i.NextUpdate, Revoked: i.Revoked, Counts: i.Counts(now)})
	}
	return list
}

var (
	clientAuthorityNotAfter = prometheus.NewDesc("sallyport_client_authority_not_after_seconds",
		"Unix time at which an authority of client certificates expires.", []string{"file", "subject"}, nil)
	revocationNextUpdate = prometheus.NewDesc("sallyport_revocation_list_next_update_seconds",
		"Unix time after which the certificates of an authority do not count without a newer revocation list.", []string{"file", "subject"}, nil)
	clientAuthorityCounts = prometheus.NewDesc("sallyport_client_authority_counts",
		"1 while the client certificates of an authority count, 0 once it or its revocation list has expired.", []string{"file", "subject"}, nil)
)

// collectClientAuthorities reads for how long the authorities and their lists last.
func (c collector) collectClientAuthorities(gauge func(d *prometheus.Desc, value float64, labels ...string)) {
	now := c.opts.Now()
	for _, i := range c.current().snapshot.ClientAuthorities.Infos() {
		labels := []string{strings.ToValidUTF8(i.File, "?"), strings.ToValidUTF8(i.Subject, "?")}
		gauge(clientAuthorityNotAfter, float64(i.NotAfter.Unix()), labels...)
		gauge(clientAuthorityCounts, truth(i.Counts(now)), labels...)
		if i.Revocation != "" {
			gauge(revocationNextUpdate, float64(i.NextUpdate.Unix()), strings.ToValidUTF8(i.Revocation, "?"), labels[1])
		}
	}
}
