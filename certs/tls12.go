package certs

import (
	"crypto/tls"
	"slices"
	"strings"
)

// oldest is the version in `min_version`, as crypto/tls counts.
func (c Config) oldest() uint16 {
	if c.MinVersion == "1.2" {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// Concerns says, a line each, what the settings cost, whatever the certificates are.
func (c Config) Concerns() []string {
	if c.oldest() == tls.VersionTLS13 {
		return nil
	}
	return []string{"tls.min_version is 1.2: with clients that know nothing newer, whoever listens sees the certificates of both ends, recorded traffic is open " +
		"to quantum computers, and each connection takes a round trip more; only certificates whose keys have tls12: true in keyd.yaml are shown to them."}
}

// MinVersion is the lowest version in which this client may be answered: TLS 1.2 if the client knows nothing newer, the
// configuration allows it, and the key of a certificate for the name is marked for it in the key process. Otherwise it is TLS
// 1.3, so that crypto/tls refuses such a client with the alert protocol_version.
func (s *Store) MinVersion(hello *tls.ClientHelloInfo) uint16 {
	name := strings.ToLower(hello.ServerName)
	if len(s.candidates(name)) == 0 {
		name = s.other
	}
	if !knows13(hello) && slices.ContainsFunc(s.candidates(name), s.serves12) {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// CipherSuites12 are the suites of TLS 1.2 that are served: ephemeral keys and authenticated encryption, and not RSA key
// exchange, which would ask the key process to decrypt (RFC 9325 §4.2). TLS 1.3 has no others.
func CipherSuites12() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// serves12 tells whether a certificate may be shown in TLS 1.2.
func (s *Store) serves12(c *tls.Certificate) bool { return s.old[c] }

// forVersion leaves of the candidates those whose keys sign in the version that the client will get.
func (s *Store) forVersion(hello *tls.ClientHelloInfo, candidates []*tls.Certificate) []*tls.Certificate {
	if knows13(hello) {
		return candidates
	}
	return slices.DeleteFunc(slices.Clone(candidates), func(c *tls.Certificate) bool { return !s.serves12(c) })
}

// knows13 tells whether the client speaks TLS 1.3: then it gets that.
func knows13(hello *tls.ClientHelloInfo) bool {
	return slices.Contains(hello.SupportedVersions, tls.VersionTLS13)
}
