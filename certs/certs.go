// Package certs knows which certificate answers which handshake. Chains are files that the gateway reads; the keys
// that go with them are keyd's, found by public key, so that no configuration names a key and no mismatch can be
// configured. A Store never changes: a reload loads a new one. A Client is the same for the other end of a handshake: the
// certificate that the gateway itself shows to an app.
//
// TLS 1.3 is the only version with these certificates, because a key of the key process signs nothing else, unless its
// operator marked it for TLS 1.2 and the configuration allows that.
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

	"sallyport/certs/acme"
	"sallyport/certs/keyring"
)

// Config is `tls` in the configuration.
type Config struct {
	// Certificates are glob patterns of PEM files, each one chain: the host's certificate, then its issuers. Files are
	// public; one that holds a private key is refused. Required unless acme gets certificates.
	Certificates []string `yaml:"certificates" config:"path,single"`
	// ACME gets certificates from an authority and renews them. Default: nobody does.
	ACME *acme.Config `yaml:"acme"`
	// Default is the host whose certificate is shown to clients that name no host, or one that no certificate covers:
	// probes by address, say, which then see a server that lives. No app is served so; whatever they ask is answered with
	// a 421. Absent: they are told unrecognized_name, and nothing else.
	Default string `yaml:"default"`
	// ClientCertificates says whose client certificates count. Default: nobody's.
	ClientCertificates ClientCertificates `yaml:"client_certificates"`
	// MinVersion is the lowest TLS version that is served. With "1.2", clients that know nothing newer are served too, with
	// certificates whose keys the key process marks for it (`tls12: true`); all others get 1.3 as ever. Such a client's
	// connection shows in the clear which certificates both ends have, knows no post-quantum key exchange, and costs a
	// round trip more each time. Default "1.3".
	MinVersion string `yaml:"min_version" default:"1.3" enum:"1.3,1.2"`
}

// Check tells whether the settings make sense.
func (c Config) Check() error {
	if c.MinVersion != "" && c.MinVersion != "1.3" && c.MinVersion != "1.2" {
		return fmt.Errorf("min_version: %q is not supported: 1.3, or 1.2 for old clients", c.MinVersion)
	}
	if len(c.Certificates) == 0 && c.ACME == nil {
		return errors.New("certificates is missing, and there is no acme to get any")
	}
	if c.Default != strings.ToLower(c.Default) || strings.ContainsAny(c.Default, "*:/ ") {
		return fmt.Errorf("default: %q is no host such as wiki.corp.example, in lower case and without a port", c.Default)
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
	title     string    // what people call it
}

// Titles are the names, or, of a client's certificate that names no host, its common name.
func (i Info) Titles() []string {
	if len(i.Names) > 0 {
		return i.Names
	}
	return []string{i.title}
}

// covers reports whether the certificate is for the host.
func (i Info) covers(host string) bool { return covers(i.Names, host) }

// Store chooses certificates by name. It is immutable.
type Store struct {
	byName map[string][]*tls.Certificate // best first; wildcards under their full `*.` name
	old    map[*tls.Certificate]bool     // those that may be shown in TLS 1.2
	oldest uint16                        // TLS version
	infos  []Info
	given  []served // those that the operator provides
	unfit  []error  // why chains that were obtained are not served
	other  string   // the host that stands for names that no certificate covers; empty: none does
}

// served is a certificate of a Store.
type served struct {
	cert *tls.Certificate
	info Info
	old  bool // may be shown in TLS 1.2
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
	s := newStore(cfg)
	var errs []error
	for _, file := range files {
		one, err := s.read(file, list, keys)
		if err != nil {
			errs = append(errs, fmt.Errorf("certificate %s: %w", file, err))
			continue
		}
		s.given = append(s.given, one)
		s.add(one)
	}
	s.addObtained(cfg, list, keys)
	if len(errs) == 0 {
		errs = append(errs, cfg.checkDefault(s.infos))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.sort()
	return s, nil
}

func newStore(cfg Config) *Store {
	return &Store{byName: map[string][]*tls.Certificate{}, old: map[*tls.Certificate]bool{}, oldest: cfg.oldest(), other: cfg.Default}
}

func (s *Store) sort() {
	for _, candidates := range s.byName {
		slices.SortStableFunc(candidates, better)
	}
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

// read makes what the store serves of one file.
func (s *Store) read(file string, list []keyring.Key, keys Keys) (served, error) {
	chain, err := readChain(file)
	if err != nil {
		return served{}, err
	}
	if err := checkServerChain(chain, time.Now()); err != nil {
		return served{}, err
	}
	key, err := findServerKey(chain[0], list)
	if err != nil {
		return served{}, err
	}
	return served{certificate(chain, key, keys.TLSServer(key)), describe(file, chain[0], key), key.TLS12 && s.oldest == tls.VersionTLS12}, nil
}

func (s *Store) add(one served) {
	s.old[one.cert] = one.old
	for _, name := range one.info.Names {
		s.byName[name] = append(s.byName[name], one.cert)
	}
	s.infos = append(s.infos, one.info)
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
		Algorithm: leaf.PublicKeyAlgorithm.String(), title: title(leaf),
	}
	for _, name := range leaf.DNSNames {
		if name = strings.ToLower(name); !slices.Contains(info.Names, name) {
			info.Names = append(info.Names, name)
		}
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

// GetCertificate is for tls.Config. A name that no certificate covers, and a client that sends none, gets the default
// host's certificate. Where there is no default it is answered with the alert unrecognized_name (RFC 6066 §3), which is
// what crypto/tls makes of the nil certificate returned here, provided that tls.Config.Certificates is empty.
//
// Of several certificates the best is chosen that the client can verify: one for the very name before a wildcard's.
func (s *Store) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	candidates := s.candidates(strings.ToLower(hello.ServerName))
	if len(candidates) == 0 && s.other != "" {
		asked := *hello
		asked.ServerName = s.other // or none of its certificates would seem to suit
		hello, candidates = &asked, s.candidates(s.other)
	}
	if candidates = s.forVersion(hello, candidates); len(candidates) == 0 {
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

// candidates are the certificates for the very name, and then those of a wildcard that stands for it, each best first.
func (s *Store) candidates(name string) []*tls.Certificate {
	_, parent, below := strings.Cut(name, ".")
	if !below {
		return s.byName[name]
	}
	return slices.Concat(s.byName[name], s.byName["*."+parent]) // RFC 9525 §6.3: a wildcard stands for exactly one label
}

// Covers reports whether a certificate is for the host. That of the default host counts for nobody else.
func (s *Store) Covers(host string) bool { return len(s.candidates(host)) > 0 }

// Certificates describes what is served, ordered by file.
func (s *Store) Certificates() []Info { return slices.Clone(s.infos) }
