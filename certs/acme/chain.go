package acme

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	rfc8555 "github.com/mholt/acmez/v3/acme"
)

// maxChain bounds a chain, in certificates.
const maxChain = 10

// chain is a certificate with its issuers.
type chain []*x509.Certificate

func (c chain) leaf() *x509.Certificate { return c[0] }

// pem is the chain as a file.
func (c chain) pem() []byte {
	var text []byte
	for _, cert := range c {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return text
}

// parseChain reads certificates and accepts nothing else.
func parseChain(text []byte) (chain, error) {
	var c chain
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("holds something that is not a certificate in PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if c = append(c, cert); len(c) > maxChain {
			return nil, fmt.Errorf("holds more than %d certificates", maxChain)
		}
		text = rest
	}
	if len(c) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return c, nil
}

// check tells whether the chain is what was asked for, and will be served: for this host alone and for servers, with this
// key, valid now, each certificate signed by the next. The zero time is one at which everything is valid.
func (c chain) check(host string, key crypto.PublicKey, now time.Time) error {
	leaf := c.leaf()
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(key):
		return errors.New("the certificate is for another key than the one that was certified")
	case len(leaf.DNSNames) != 1 || !strings.EqualFold(leaf.DNSNames[0], host):
		return fmt.Errorf("the certificate is for %q, not for %s alone", leaf.DNSNames, host)
	case leaf.IsCA:
		return errors.New("the certificate is an authority's")
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("the certificate is not for TLS servers")
	}
	if !now.IsZero() {
		for _, cert := range c {
			if err := validAt(cert, now); err != nil {
				return err
			}
		}
	}
	for i, cert := range c[:len(c)-1] {
		if err := cert.CheckSignatureFrom(c[i+1]); err != nil {
			return fmt.Errorf("not a chain: %w", err)
		}
	}
	return nil
}

func validAt(cert *x509.Certificate, now time.Time) error {
	switch {
	case !cert.NotAfter.After(now):
		return fmt.Errorf("the certificate of %q expired at %s", cert.Subject, cert.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("the certificate of %q is not valid before %s", cert.Subject, cert.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// pick chooses among the chains that the authority offers for one certificate.
func pick(offered []rfc8555.Certificate, preferred string) (chain, error) {
	var chains []chain
	for _, o := range offered {
		c, err := parseChain(o.ChainPEM)
		if err != nil {
			return nil, fmt.Errorf("the authority's chain %w", err)
		}
		chains = append(chains, c)
	}
	if len(chains) == 0 {
		return nil, errors.New("the authority offers no chain")
	}
	i := slices.IndexFunc(chains, func(c chain) bool { return preferred != "" && c[len(c)-1].Issuer.CommonName == preferred })
	return chains[max(i, 0)], nil
}
