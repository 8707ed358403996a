package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	rfc8555 "github.com/mholt/acmez/v3/acme"
)

// challengePath is where RFC 8555 §8.3 has the authority look.
const challengePath = "/.well-known/acme-challenge/"

// token is RFC 8555 §8.1: base64url, at least 128 bits.
var token = regexp.MustCompile(`^[A-Za-z0-9_-]{22,256}$`)

// underWay are the answers to challenges that the authority may ask for now. What is not in here is answered as if there
// were no authority in the world.
type underWay struct {
	mu         sync.Mutex
	pages      map[string]page             // by token
	handshakes map[string]*tls.Certificate // by host
}

type page struct{ host, text string }

// serveHTTP answers http-01 and reports whether the request was one.
func (u *underWay) serveHTTP(w http.ResponseWriter, r *http.Request) bool {
	name, ok := strings.CutPrefix(r.URL.Path, challengePath)
	if !ok || r.Method != http.MethodGet {
		return false
	}
	u.mu.Lock()
	p, ok := u.pages[name]
	u.mu.Unlock()
	if !ok || !strings.EqualFold(stripPort(r.Host), p.host) {
		return false
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, p.text)
	return true
}

// handshake answers tls-alpn-01 (RFC 8737 §3). The connection ends with it: nothing speaks acme-tls/1 behind.
func (u *underWay) handshake(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acmez.ACMETLS1Protocol {
		return nil, nil
	}
	u.mu.Lock()
	certificate := u.handshakes[strings.ToLower(hello.ServerName)]
	u.mu.Unlock()
	if certificate == nil {
		return nil, errors.New("no challenge is under way for this name")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{*certificate}, NextProtos: []string{acmez.ACMETLS1Protocol},
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true, // RFC 8737 §4: 1.2 or higher
	}, nil
}

// challengeOf returns the challenge of the configured type for an authorization of a host. The authority names the host
// and the token: both go into a page, a handshake or the arguments of a program, so they must be what was asked for.
func challengeOf(authz rfc8555.Authorization, host, kind string) (rfc8555.Challenge, error) {
	base := strings.TrimPrefix(host, "*.")
	if authz.Identifier.Type != "dns" || authz.Identifier.Value != base {
		return rfc8555.Challenge{}, fmt.Errorf("the authority wants to be shown %.100q, which was not asked for", authz.Identifier.Value)
	}
	i := slices.IndexFunc(authz.Challenges, func(c rfc8555.Challenge) bool { return c.Type == kind })
	if i < 0 {
		return rfc8555.Challenge{}, fmt.Errorf("the authority does not offer the challenge %s for %s", kind, host)
	}
	c := authz.Challenges[i]
	if !token.MatchString(c.Token) {
		return c, fmt.Errorf("the authority's token %.100q is none", c.Token)
	}
	c.Identifier = rfc8555.Identifier{Type: "dns", Value: base}
	return c, nil
}

// present readies the answer to a challenge and returns what takes it back.
func (r *Renewer) present(ctx context.Context, c rfc8555.Challenge) (cleanup func() error, err error) {
	host := c.Identifier.Value
	switch c.Type {
	case HTTP01:
		r.underWay.mu.Lock()
		defer r.underWay.mu.Unlock()
		r.underWay.pages[c.Token] = page{host, c.KeyAuthorization}
		return func() error {
			r.underWay.mu.Lock()
			defer r.underWay.mu.Unlock()
			delete(r.underWay.pages, c.Token)
			return nil
		}, nil
	case TLSALPN01:
		// The certificate is signed with a key of the moment, which is good for nothing else: no client trusts it, and keyd
		// signs no certificates.
		certificate, err := acmez.TLSALPN01ChallengeCert(c)
		if err != nil {
			return nil, fmt.Errorf("making the challenge's certificate: %w", err)
		}
		r.underWay.mu.Lock()
		defer r.underWay.mu.Unlock()
		r.underWay.handshakes[host] = certificate
		return func() error {
			r.underWay.mu.Lock()
			defer r.underWay.mu.Unlock()
			delete(r.underWay.handshakes, host)
			return nil
		}, nil
	}
	return r.presentDNS(ctx, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
}
