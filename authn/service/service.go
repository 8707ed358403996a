// Package service knows the programs that prove themselves by a client certificate.
package service

import (
	"errors"
	"fmt"
	"regexp"
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

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Check refuses an account that everybody or nobody could be.
func (a Account) Check() error {
	if !nameForm.MatchString(a.Name) {
		return fmt.Errorf("name %q: want lower-case letters, digits and inner hyphens, at most 63", a.Name)
	}
	if a.Certificate == (Certificate{}) {
		return errors.New("certificate: say which: uri, dns_name, subject or fingerprint")
	}
	return nil
}
