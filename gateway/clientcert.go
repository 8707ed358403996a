package gateway

import (
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/certs"
	"sallyport/gateway/route"
	"sallyport/gateway/ui"
	"sallyport/policy"
)

// A client's certificate is a fact like any other: it is verified here and not in the handshake, so that one that does not
// count is told to the policy, is on record, and gets a page that says what to do. What apps demand, the policy refuses.

// AsksForCertificate reports whether clients of a host are asked for a certificate when they connect. They are if one of
// the host's apps wants it: which app a connection is for, nobody knows yet.
func (s *Snapshot) AsksForCertificate(host string) bool {
	host = strings.ToLower(host)
	if s.Bind.ClientCertificate { // what sessions are bound to is looked at wherever they are used
		return host == s.AuthHost || s.Routes.HasHost(host)
	}
	if host == s.AuthHost {
		return s.SignInCertificate
	}
	return slices.ContainsFunc(s.Routes.Apps(), func(app *route.App) bool { return app.Host == host && app.AsksForCertificate() })
}

// shownCert is what the certificate of a connection comes to. It never changes.
type shownCert struct {
	by    *certs.ClientAuthorities // who was asked
	until time.Time                // to be asked again

	cert     *policy.Cert // nil: it does not count
	device   *policy.Device
	problem  string
	stranger policy.Subject // who shows it and is not signed in
}

// certificate is what the client has shown on this connection, as an app may know it: nil without any, or where the app
// does not ask.
func (x *exchange) certificate(snap *Snapshot, app *App, now time.Time) *shownCert {
	if !app.AsksForCertificate() {
		return nil
	}
	return x.shown(snap, now)
}

// shown is verified again whenever the configuration has changed or time may have changed the answer: connections last.
func (x *exchange) shown(snap *Snapshot, now time.Time) *shownCert {
	if snap.ClientAuthorities == nil || x.r.TLS == nil || len(x.r.TLS.PeerCertificates) == 0 {
		return nil
	}
	had := x.conn.shown.Load()
	if had != nil && had.by == snap.ClientAuthorities && now.Before(had.until) {
		return had
	}
	made := verifyShown(snap.ClientAuthorities, x.r.TLS, now)
	x.conn.shown.Store(made)
	x.server.metrics.certificates.WithLabelValues(made.result()).Inc()
	return made
}

func (c *shownCert) result() string {
	if c.problem != "" {
		return c.problem
	}
	return "valid"
}

func verifyShown(by *certs.ClientAuthorities, state *tls.ConnectionState, now time.Time) *shownCert {
	found := by.Verify(state.PeerCertificates, now)
	made := &shownCert{by: by, until: found.Until, problem: string(found.Problem)}
	if made.problem == "" {
		made.take(found)
	}
	made.stranger = made.add(policy.Subject{Type: policy.TypeAnonymous}).Prepared()
	return made
}

// take is the certificate as the policy knows it. One that does not fit is none: half a list of names would be another
// certificate.
func (c *shownCert) take(found certs.ClientCert) {
	cert := &policy.Cert{Fingerprint: found.Fingerprint, Subject: found.Subject, Issuer: found.Issuer, Serial: found.Serial,
		DNSNames: found.DNSNames, Emails: found.Emails, URIs: found.URIs, NotAfter: found.NotAfter.UTC().Format(time.RFC3339)}
	if !cert.Fits() {
		c.problem = string(certs.ClientTooLarge)
		return
	}
	c.cert = cert
	if found.Device != "" {
		c.device = &policy.Device{ID: found.Device, Source: "certificate"}
	}
}

// add is a subject that shows the certificate.
func (c *shownCert) add(s policy.Subject) policy.Subject {
	if c != nil {
		s.Cert, s.Device, s.CertProblem = c.cert, c.device, c.problem
	}
	return s
}

// of reports whether a subject shows this certificate, as it is judged now, or none as it should.
func (c *shownCert) of(s *policy.Subject) bool {
	if c == nil {
		return s.Cert == nil && s.CertProblem == ""
	}
	return c.problem == s.CertProblem && sameCert(c.cert, s.Cert) && sameDevice(c.device, s.Device)
}

func sameCert(a, b *policy.Cert) bool {
	return a == b || a != nil && b != nil && a.Fingerprint == b.Fingerprint
}

func sameDevice(a, b *policy.Device) bool {
	return a == b || a != nil && b != nil && a.ID == b.ID
}

// lacksCertificate is the code of the shipped policy's denial.
const lacksCertificate = "client_certificate"

// deniedForCertificate reports whether a verdict refuses for the want of a client certificate alone.
func deniedForCertificate(v *policy.Verdict) bool {
	return !v.Allow && slices.ContainsFunc(v.Decision.Reasons, func(r policy.Reason) bool { return r.Code == lacksCertificate && r.Rule == "" })
}

// certificateRefusal asks whoever would else pass for a certificate. The connection ends: browsers show, or let people
// choose, a certificate only when they connect.
func (x *exchange) certificateRefusal() error {
	refusal := &Refusal{Status: http.StatusForbidden, Effect: audit.Deny, Reason: lacksCertificate, Close: true, Public: x.app.DisplayName() + " opens only for clients that show a certificate."}
	if said := x.userReasons(); len(said) > 0 {
		refusal.Public = said[0]
	}
	refusal.Page = x.certificatePage(x.app.DisplayName(), x.app.Owner, refusal.Public, x.input.Subject.CertProblem)
	return refusal
}

// demandCertificate refuses to sign people in who show no certificate, where that is configured.
func (x *exchange) demandCertificate() error {
	if !x.snap.SignInCertificate {
		return nil
	}
	shown := x.shown(x.snap, x.start)
	if shown != nil && shown.cert != nil {
		return nil
	}
	text, problem := "Signing in needs a client that shows a certificate, and yours showed none.", ""
	if shown != nil {
		text, problem = "Signing in needs a client that shows a certificate, and the one that yours showed does not count.", shown.problem
	}
	return &Refusal{Status: http.StatusForbidden, Effect: audit.Deny, Reason: lacksCertificate, Close: true, Public: text, Detail: problem,
		Page: x.certificatePage("Signing in", "", text, problem)}
}

func (x *exchange) certificatePage(what, owner, text, problem string) ui.Page {
	if owner == "" {
		owner = "your administrator"
	}
	advice := []string{"If you have a certificate, choose it when the browser asks. A browser that was told to show none remembers that: close all of its windows and open this page again.",
		"If you have none, ask " + owner + " for one and quote the reference below."}
	if problem != "" {
		advice = []string{"If you have another certificate, close all windows of the browser, open this page again and choose that one.",
			"If you have not, ask " + owner + " for a new one and quote the reference below."}
	}
	return ui.Message{Tone: ui.Refused, Label: "Client certificate", Title: what + " needs a certificate", Text: text, Advice: advice, Reference: x.id}
}
