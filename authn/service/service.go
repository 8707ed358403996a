// Package service knows the programs that prove themselves by a client certificate.
package service

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sallyport/authn"
)

// Account is one program. Its identity is "certificate|<name>", of kind service.
type Account struct {
	// Name identifies the program in records and policies: lower-case letters, digits and hyphens. Required.
	Name string `yaml:"name" config:"required"`
	// Certificate says which client certificates are the program's; what is set must all hold. They must count by
	// tls.client_certificates besides.
	Certificate Certificate `yaml:"certificate"`
	// Groups are the groups that the program is in. Default: none.
	Groups []string `yaml:"groups" config:"single"`
}

// Certificate selects client certificates.
type Certificate struct {
	// URI is a URI that the certificate names, such as spiffe://corp.example/backup.
	URI string `yaml:"uri"`
	// DNSName is a DNS name that the certificate is for.
	DNSName string `yaml:"dns_name"`
	// Subject is the certificate's subject, as RFC 4514 writes it.
	Subject string `yaml:"subject"`
	// Fingerprint is the SHA-256 of the certificate, in hexadecimal.
	Fingerprint string `yaml:"fingerprint"`
}

var (
	nameForm        = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	fingerprintForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Check refuses an account that everybody or nobody could be.
func (a Account) Check() error {
	if !nameForm.MatchString(a.Name) {
		return fmt.Errorf("name %q: want lower-case letters, digits and inner hyphens, at most 63", a.Name)
	}
	if a.Certificate == (Certificate{}) {
		return errors.New("certificate: say which: uri, dns_name, subject or fingerprint")
	}
	if f := a.Certificate.Fingerprint; f != "" && !fingerprintForm.MatchString(plain(f)) {
		return fmt.Errorf("certificate: fingerprint %q: want the SHA-256 in hexadecimal", f)
	}
	return nil
}

// Accounts are the service accounts of a configuration.
type Accounts struct {
	list []Account
	who  map[string]*authn.Identity // by name
}

// Provider stands for the identity provider in the identities of service accounts.
const Provider = "certificate"

// ErrAmbiguous: a certificate is that of several accounts.
var ErrAmbiguous = errors.New("the certificate is that of several service accounts")

// New readies accounts that were checked.
func New(list []Account) (*Accounts, error) {
	a := &Accounts{who: make(map[string]*authn.Identity, len(list))}
	for _, account := range list {
		if a.who[account.Name] != nil {
			return nil, fmt.Errorf("service account %s is there twice", account.Name)
		}
		who, err := authn.New(authn.Identity{Kind: authn.Service, Provider: Provider, Subject: account.Name, Name: account.Name, Groups: account.Groups})
		if err != nil {
			return nil, fmt.Errorf("service account %s: %w", account.Name, err)
		}
		account.Certificate.Fingerprint = plain(account.Certificate.Fingerprint)
		a.who[account.Name], a.list = who, append(a.list, account)
	}
	return a, nil
}

// All are the accounts' identities, by name.
func (a *Accounts) All() map[string]*authn.Identity { return a.who }

// Shown is a client certificate that was verified.
type Shown struct {
	Fingerprint string // SHA-256, lower-case hexadecimal
	Subject     string // RFC 4514
	DNSNames    []string
	URIs        []string
}

// Find returns the name of the account that a certificate is of; empty: of none. ErrAmbiguous when it is of several: which
// of them asks, nobody could tell.
func (a *Accounts) Find(c Shown) (name string, err error) {
	for i := range a.list {
		if !a.list[i].Certificate.is(c) {
			continue
		}
		if name != "" {
			return "", ErrAmbiguous
		}
		name = a.list[i].Name
	}
	return name, nil
}

// is reports whether all that is said holds. A DNS name is one that the certificate has, not one that it covers.
func (s Certificate) is(c Shown) bool {
	return s != (Certificate{}) &&
		(s.URI == "" || slices.Contains(c.URIs, s.URI)) &&
		(s.DNSName == "" || slices.ContainsFunc(c.DNSNames, func(name string) bool { return strings.EqualFold(name, s.DNSName) })) &&
		(s.Subject == "" || c.Subject == s.Subject) &&
		(s.Fingerprint == "" || c.Fingerprint == s.Fingerprint)
}

// plain is a fingerprint without the colons and capitals that tools print.
func plain(fingerprint string) string {
	return strings.ToLower(strings.ReplaceAll(fingerprint, ":", ""))
}
