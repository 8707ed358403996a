package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// ClientProblem is why a client's certificate does not count: a fixed code.
type ClientProblem string

// The problems of client certificates.
const (
	ClientExpired          ClientProblem = "expired"                 // it, or an authority between it and a trusted one
	ClientNotYetValid      ClientProblem = "not_yet_valid"           // likewise
	ClientUnknownAuthority ClientProblem = "unknown_authority"       // no chain leads to a trusted authority
	ClientNotForClients    ClientProblem = "not_for_clients"         // it is for something else than clients of TLS, or an authority's
	ClientRevoked          ClientProblem = "revoked"                 // it, or an authority between
	ClientListExpired      ClientProblem = "revocation_list_expired" // the list of one of its issuers is past its next update
	ClientListMissing      ClientProblem = "revocation_list_missing" // one of its issuers has no list, and lists are demanded
	ClientTooLarge         ClientProblem = "too_large"               // more than anybody needs, or than fits a record
	ClientInvalid          ClientProblem = "invalid"                 // anything else, such as a name that its authority may not give
)

// Bounds of what a client may show. Certificates of people and devices are 1 to 2 KiB, and their chains two or three long.
const (
	maxShown      = 5        // certificates
	maxShownBytes = 32 << 10 // of all together
)

// ClientCert is what a client has shown. Either there is a Problem, and the rest says nothing, or there is none.
type ClientCert struct {
	Problem ClientProblem
	// Until is when it has to be verified again; until then the answer stays the same.
	Until time.Time

	Fingerprint     string // SHA-256 of the DER form, hexadecimal
	Subject, Issuer string // RFC 4514
	Serial          string // hexadecimal
	DNSNames        []string
	Emails          []string
	URIs            []string
	NotAfter        time.Time
	Device          string // the id of the device that it names; empty: none
}

// Verify judges the certificates that a client has shown, its own first, at a time. There must be one.
//
// The chain is built here and not by crypto/tls so that a certificate that does not count is an answer, which is recorded,
// and no broken handshake: all that crypto/tls has made sure of is that the client has the key of the first.
func (a *ClientAuthorities) Verify(shown []*x509.Certificate, now time.Time) ClientCert {
	if problem := a.problem(shown, now); problem != "" {
		return ClientCert{Problem: problem, Until: a.until(shown, now)}
	}
	c := shown[0]
	made := ClientCert{Until: a.until(shown, now), Subject: nameOf(c.RawSubject), Issuer: nameOf(c.RawIssuer), Serial: c.SerialNumber.Text(16),
		DNSNames: c.DNSNames, Emails: c.EmailAddresses, NotAfter: c.NotAfter, Device: a.device(c)}
	sum := sha256.Sum256(c.Raw)
	made.Fingerprint = hex.EncodeToString(sum[:])
	for _, u := range c.URIs {
		made.URIs = append(made.URIs, u.String())
	}
	return made
}

func (a *ClientAuthorities) problem(shown []*x509.Certificate, now time.Time) ClientProblem {
	size := 0
	for _, c := range shown {
		size += len(c.Raw)
	}
	c := shown[0]
	switch {
	case len(shown) > maxShown || size > maxShownBytes:
		return ClientTooLarge
	case !forClients(c):
		return ClientNotForClients
	case now.Before(c.NotBefore):
		return ClientNotYetValid
	}
	between := a.between.Clone()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	chains, err := c.Verify(x509.VerifyOptions{Roots: a.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return problemOf(err, now)
	}
	return a.revokedIn(chains, now)
}

// forClients reports whether a certificate says that it is for clients of TLS. Saying nothing is not enough: what was made
// for anything was not made for this. RFC 8446 §4.4.2.4: the key must be one that signs.
func forClients(c *x509.Certificate) bool {
	says := false
	for _, usage := range c.ExtKeyUsage {
		says = says || usage == x509.ExtKeyUsageClientAuth
	}
	return says && !c.IsCA && (c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageDigitalSignature != 0)
}

// problemOf is what kept a chain from being built.
func problemOf(err error, now time.Time) ClientProblem {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			if invalid.Cert != nil && now.Before(invalid.Cert.NotBefore) {
				return ClientNotYetValid
			}
			return ClientExpired
		case x509.IncompatibleUsage:
			return ClientNotForClients
		}
		return ClientInvalid
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return ClientUnknownAuthority
	}
	return ClientInvalid
}

// revokedIn is empty if one of the chains is whole: nothing in it is revoked, and that is known. Trust in the last of a
// chain is the operator's to take back.
func (a *ClientAuthorities) revokedIn(chains [][]*x509.Certificate, now time.Time) (worst ClientProblem) {
	if !a.revocation {
		return ""
	}
	for _, chain := range chains {
		problem := a.revokedOf(chain, now)
		if problem == "" {
			return ""
		}
		if worst != ClientRevoked {
			worst = problem
		}
	}
	return worst
}

func (a *ClientAuthorities) revokedOf(chain []*x509.Certificate, now time.Time) ClientProblem {
	for i, c := range chain[:len(chain)-1] {
		list := a.listOf(chain[i+1])
		if list == nil {
			return ClientListMissing
		}
		if _, revoked := list.revoked[string(c.SerialNumber.Bytes())]; revoked {
			return ClientRevoked
		}
		if now.After(list.until) {
			return ClientListExpired
		}
	}
	return ""
}

// listOf is the list of an issuer: its certificate may be one that the client has sent, of a known name and key.
func (a *ClientAuthorities) listOf(issuer *x509.Certificate) *revocationList {
	for _, one := range a.all {
		if sameIssuer(one.certificate, issuer) {
			return one.list
		}
	}
	return nil
}

// until is the first moment from now on at which anything begins or ends that an answer can depend on.
func (a *ClientAuthorities) until(shown []*x509.Certificate, now time.Time) time.Time {
	first := now.Add(verifiedFor)
	look := func(at time.Time) {
		if !at.Before(now) && at.Before(first) {
			first = at
		}
	}
	for _, c := range shown {
		look(c.NotBefore)
		look(c.NotAfter)
	}
	for _, one := range a.all {
		look(one.certificate.NotAfter)
		if one.list != nil {
			look(one.list.until)
		}
	}
	return first
}

// verifiedFor bounds how long an answer is kept, whatever else: clocks are set.
const verifiedFor = time.Minute

func parseName(raw []byte) (sequence pkix.RDNSequence, err error) {
	rest, err := asn1.Unmarshal(raw, &sequence)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	return sequence, err
}
