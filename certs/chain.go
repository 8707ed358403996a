package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"sallyport/certs/keyring"
)

const (
	maxFile  = 1 << 20 // bytes
	maxChain = 10      // certificates
)

// readChain reads one PEM file: certificates only, the host's first.
func readChain(file string) ([]*x509.Certificate, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	defer clear(data) // should it be a key after all, it does not stay
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return parseChain(data)
}

func parseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if strings.Contains(block.Type, "PRIVATE KEY") {
			clear(block.Bytes)
			return nil, errors.New("holds a private key: those belong to the key process, where the gateway cannot read them")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM block %q, want only certificates", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if chain = append(chain, cert); len(chain) > maxChain {
			return nil, fmt.Errorf("holds more than %d certificates", maxChain)
		}
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return nil, errors.New("ends in something that is not PEM")
	}
	if len(chain) == 0 {
		return nil, errors.New("holds no certificate in PEM")
	}
	return chain, nil
}

// readClientChain reads and checks the file of a client certificate.
func readClientChain(file string) ([]*x509.Certificate, error) {
	chain, err := readChain(file)
	if err == nil {
		err = checkClientChain(chain, time.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("client certificate %s: %w", file, err)
	}
	return chain, nil
}

// checkServerChain tells whether clients will accept the chain of a host, given that they trust its last issuer.
func checkServerChain(chain []*x509.Certificate, now time.Time) error {
	leaf := chain[0]
	switch {
	case len(leaf.DNSNames) == 0:
		return errors.New("names no host: the first certificate must be the host's own, with DNS names")
	case leaf.IsCA:
		return errors.New("the first certificate is an authority's; it must be the host's own")
	case !madeFor(leaf, x509.ExtKeyUsageServerAuth):
		return errors.New("not made for TLS servers (extended key usage)")
	}
	return checkChain(chain, now)
}

// checkClientChain is checkServerChain for the gateway's own certificate towards apps, which need not name a host.
func checkClientChain(chain []*x509.Certificate, now time.Time) error {
	leaf := chain[0]
	switch {
	case leaf.IsCA:
		return errors.New("the first certificate is an authority's; it must be the gateway's own")
	case !madeFor(leaf, x509.ExtKeyUsageClientAuth):
		return errors.New("not made for TLS clients (extended key usage)")
	}
	return checkChain(chain, now)
}

// madeFor reports whether the certificate may be used so: RFC 5280 §4.2.1.12, where no extension means no limit.
func madeFor(c *x509.Certificate, usage x509.ExtKeyUsage) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, usage) ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// checkChain tells whether all certificates are valid now, each signed by the next.
func checkChain(chain []*x509.Certificate, now time.Time) error {
	for i, c := range chain {
		if now.After(c.NotAfter) {
			return fmt.Errorf("expired: %q was valid until %s", title(c), c.NotAfter.UTC().Format(time.RFC3339))
		}
		if now.Before(c.NotBefore) {
			return fmt.Errorf("not yet valid: %q is valid from %s", title(c), c.NotBefore.UTC().Format(time.RFC3339))
		}
		if i+1 < len(chain) {
			if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
				return fmt.Errorf("not a chain: %q is not signed by the next, %q: %w", title(c), title(chain[i+1]), err)
			}
		}
	}
	return nil
}

// title is what people call a certificate.
func title(c *x509.Certificate) string {
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return c.Subject.String()
}

// ErrNoKey means that a chain has no key that may serve it. The key process may get one yet.
var ErrNoKey = errors.New("the key process holds no key for it")

// findServerKey returns the key process's key for a host's certificate. The key must be for every name in the
// certificate: keyd's operator says which names a key is for, not whoever obtains a certificate.
func findServerKey(leaf *x509.Certificate, list []keyring.Key) (keyring.Key, error) {
	key, err := findKey(leaf, list, keyring.PurposeTLSServer)
	if err != nil {
		return key, err
	}
	for _, name := range leaf.DNSNames {
		if !covers(key.Names, strings.ToLower(name)) {
			return key, fmt.Errorf("%w: it names %s, which its key %q is not for (%s)", ErrNoKey, name, key.Name, strings.Join(key.Names, ", "))
		}
	}
	return key, nil
}

// findKey returns the key process's key for the certificate, which must be of that purpose.
func findKey(leaf *x509.Certificate, list []keyring.Key, purpose keyring.Purpose) (keyring.Key, error) {
	i := slices.IndexFunc(list, func(k keyring.Key) bool { return samePublic(k.Public, leaf.PublicKey) })
	if i < 0 {
		return keyring.Key{}, ErrNoKey
	}
	if key := list[i]; key.Purpose != purpose {
		return key, fmt.Errorf("its key %q is for %s, not for %s", key.Name, key.Purpose, purpose)
	}
	return list[i], nil
}

// covers reports whether name, itself perhaps a wildcard, is one of names or below one of their wildcards.
func covers(names []string, name string) bool {
	_, parent, _ := strings.Cut(name, ".")
	return slices.Contains(names, name) || slices.Contains(names, "*."+parent)
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// schemes is how the key process signs with a key, so that crypto/tls agrees on nothing else.
func schemes(pub crypto.PublicKey) []tls.SignatureScheme {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P384() {
			return []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}
		}
		return []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	case ed25519.PublicKey:
		return []tls.SignatureScheme{tls.Ed25519}
	default:
		return []tls.SignatureScheme{tls.PSSWithSHA256}
	}
}
