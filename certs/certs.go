// Package certs knows which certificate answers which handshake. Chains are files that the gateway reads; the keys
// that go with them are keyd's, found by public key, so that no configuration names a key and no mismatch can be
// configured. A Store never changes: a reload loads a new one. A Client is the same for the other end of a handshake: the
// certificate that the gateway itself shows to an app.
//
// TLS 1.3 is the only version with these certificates, because a key of the key process signs nothing else.
package certs

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/certs/keyring"
)

// Config is `tls` in the configuration.
type Config struct {
	// Certificates are glob patterns of PEM files, each one chain: the host's certificate, then its issuers. Files are
	// public; one that holds a private key is refused. Required.
	Certificates []string `yaml:"certificates" config:"path,single,required"`
	// MinVersion is the lowest TLS version that is served. Default and only value: "1.3".
	MinVersion string `yaml:"min_version" default:"1.3" enum:"1.3"`
}

// Check tells whether the settings make sense.
func (c Config) Check() error {
	if c.MinVersion != "" && c.MinVersion != "1.3" {
		return fmt.Errorf("min_version: %q is not supported; TLS 1.3 is the only version served", c.MinVersion)
	}
	if len(c.Certificates) == 0 {
		return errors.New("certificates is missing")
	}
	return nil
}

// Keys are the key process's keys. *keyring.Client implements it.
type Keys interface {
	// List returns the public side of every key.
	List(ctx context.Context) ([]keyring.Key, error)
	// TLSServer returns the signer of a key of purpose tls-server.
	TLSServer(k keyring.Key) crypto.Signer
}

// Info describes a certificate of a Store or a Client.
type Info struct {
	File      string    // where it came from
	Names     []string  // DNS names, lower case; `*.` stands for one label
	NotBefore time.Time // start of validity
	NotAfter  time.Time // end of validity
	Key       string    // name of its key in the key process
	Algorithm string    // ECDSA, Ed25519 or RSA
}

// Store chooses certificates by name. It is immutable.
type Store struct {
	byName map[string][]*tls.Certificate // best first; wildcards under their full `*.` name
	infos  []Info
}

// Load reads every file that the patterns name and finds its key. It is all or nothing: the error names every file
// that cannot be used and says why. ctx bounds the question to the key process.
func Load(ctx context.Context, cfg Config, keys Keys) (*Store, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	files, err := expand(cfg.Certificates)
	if err != nil {
		return nil, err
	}
	list, err := keys.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("matching certificates with keys: %w", err)
	}
	s := &Store{byName: map[string][]*tls.Certificate{}}
	var errs []error
	for _, file := range files {
		if err := s.add(file, list, keys); err != nil {
			errs = append(errs, fmt.Errorf("certificate %s: %w", file, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, candidates := range s.byName {
		slices.SortStableFunc(candidates, better)
	}
	return s, nil
}

// expand resolves the patterns. A pattern without files is an error: what was meant to be served is not there.
func expand(patterns []string) ([]string, error) {
	var files []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("certificates %q: %w", p, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("certificates %q: no file is there", p)
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// add takes one file into the store.
func (s *Store) add(file string, list []keyring.Key, keys Keys) error {
	chain, err := readChain(file)
	if err != nil {
		return err
	}
	if err := checkServerChain(chain, time.Now()); err != nil {
		return err
	}
	key, err := findServerKey(chain[0], list)
	if err != nil {
		return err
	}
	cert := certificate(chain, key, keys.TLSServer(key))
	info := describe(file, chain[0], key)
	for _, name := range info.Names {
		s.byName[name] = append(s.byName[name], cert)
	}
	s.infos = append(s.infos, info)
	return nil
}

// certificate is a chain as crypto/tls takes it, with the signer of its key.
func certificate(chain []*x509.Certificate, key keyring.Key, signer crypto.Signer) *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: signer, Leaf: chain[0], SupportedSignatureAlgorithms: schemes(key.Public)}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

func describe(file string, leaf *x509.Certificate, key keyring.Key) Info {
	info := Info{
		File: file, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Key: key.Name,
		Algorithm: leaf.PublicKeyAlgorithm.String(),
	}
	for _, name := range leaf.DNSNames {
		info.Names = append(info.Names, strings.ToLower(name))
	}
	return info
}

// better orders the candidates of one name: anything before RSA, whose signatures cost the key process twenty times
// more, and of the same kind the one that lasts longer.
func better(a, b *tls.Certificate) int {
	rsaLast := func(c *tls.Certificate) int {
		if c.Leaf.PublicKeyAlgorithm == x509.RSA {
			return 1
		}
		return 0
	}
	if d := rsaLast(a) - rsaLast(b); d != 0 {
		return d
	}
	return b.Leaf.NotAfter.Compare(a.Leaf.NotAfter)
}

// GetCertificate is for tls.Config. A name that no certificate covers, and a client that sends none, is answered with
// the alert unrecognized_name (RFC 6066 §3): there is no default certificate. That alert is what crypto/tls makes of
// the nil certificate returned here, provided that tls.Config.Certificates is empty.
func (s *Store) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	candidates := s.byName[name]
	if candidates == nil {
		// RFC 9525 §6.3: a wildcard stands for exactly one label.
		if _, parent, ok := strings.Cut(name, "."); ok {
			candidates = s.byName["*."+parent]
		}
	}
	if len(candidates) == 0 {
		return nil, nil
	}
	if len(candidates) > 1 {
		for _, c := range candidates {
			if hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
	}
	return candidates[0], nil // nothing to choose from: crypto/tls says what does not fit
}

// Certificates describes what is served, ordered by file.
func (s *Store) Certificates() []Info { return slices.Clone(s.infos) }
