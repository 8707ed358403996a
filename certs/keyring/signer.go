package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"sallyport/certs/internal/wire"
)

// Purpose is the one thing a key is for.
type Purpose = wire.Purpose

// The purposes of keys.
const (
	PurposeTLSServer  = wire.TLSServer   // server side of TLS 1.3 handshakes
	PurposeTLSClient  = wire.TLSClient   // client side of TLS 1.3 handshakes: the gateway towards its apps
	PurposeAssertion  = wire.Assertion   // the gateway's word to an app about who is asking
	PurposeOIDCClient = wire.OIDCClient  // private_key_jwt at an identity provider
	PurposeCheckpoint = wire.Checkpoints // states of the audit logs, each a continuation of the last
	PurposeManifest   = wire.Manifests   // manifests of evidence bundles
	PurposeACME       = wire.ACMEAccount // requests to a certificate authority
)

// Key is the public side of one of keyd's keys.
type Key struct {
	Name     string           // what keyd's operator calls it
	Purpose  Purpose          // the one thing it signs
	ID       string           // RFC 7638 thumbprint, base64url: a JWT's kid
	Public   crypto.PublicKey // *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey
	Names    []string         // DNS names that a TLS key is for; `*.` stands for one label
	ClientID string           // OAuth client that an oidc-client key authenticates
	Origins  []Origin         // names under which a checkpoint or manifest key signs
	TLS12    bool             // a tls-server key that serves TLS 1.2 too

	// Generation tells keys of one name apart, from 1. Current is the one to make new signatures with; those with a greater
	// generation will be, and those with a smaller one were, until Retires.
	Generation int
	Current    bool
	Since      time.Time     // when it was announced, became the current one or began to retire; zero of a first generation
	Retires    time.Time     // when it is destroyed; zero while that is not decided
	Announce   time.Duration // for how long a successor is in the list before it signs; 0: there is none like that
}

// Origin is a name under which a key signs notes.
type Origin = wire.Origin

func parseList(body []byte) ([]Key, error) {
	var list wire.List
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("reading keyd's keys: %w", err)
	}
	var keys []Key
	for _, k := range list.Keys {
		pub, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			return nil, fmt.Errorf("reading keyd's key %q: %w", k.Name, err)
		}
		id, err := wire.ID(pub)
		if err != nil {
			return nil, fmt.Errorf("reading keyd's key %q: %w", k.Name, err)
		}
		keys = append(keys, Key{
			Name: k.Name, Purpose: k.Purpose, ID: id.String(), Public: pub, Names: k.Names, ClientID: k.ClientID, Origins: k.Origins, TLS12: k.TLS12,
			Generation: k.Generation, Current: k.Current, Since: k.Since, Retires: k.Retires, Announce: time.Duration(k.Announce) * time.Second,
		})
	}
	return keys, nil
}

// TLSServer returns the signer of a key of purpose tls-server, for tls.Certificate.PrivateKey. It implements
// crypto.MessageSigner, through which crypto/tls hands over whole messages; keyd signs those of a TLS 1.3 server's
// CertificateVerify, and of a TLS 1.2 server's key exchange if the key is marked for it, and refuses all others. Its Sign, which takes a digest, always fails: a digest says nothing about
// what is signed.
//
// The signer names its key by the public half. A keyd that comes back with another key of the same name refuses.
func (c *Client) TLSServer(k Key) crypto.Signer { return newTLSSigner(c, k, wire.OpSignTLS13Server) }

// TLSClient is TLSServer for a key of purpose tls-client: keyd signs the CertificateVerify messages of TLS 1.3 clients
// with it, and no others.
func (c *Client) TLSClient(k Key) crypto.Signer { return newTLSSigner(c, k, wire.OpSignTLS13Client) }

type tlsSigner struct {
	client *Client
	key    Key
	op     wire.Op
	id     wire.KeyID
	err    error // why there is no id
}

var _ crypto.MessageSigner = (*tlsSigner)(nil)

// newTLSSigner makes the key's id once: each handshake needs it.
func newTLSSigner(c *Client, k Key, op wire.Op) *tlsSigner {
	id, err := wire.ID(k.Public)
	return &tlsSigner{c, k, op, id, err}
}

func (s *tlsSigner) Public() crypto.PublicKey { return s.key.Public }

func (s *tlsSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("keyring: keys of the key process sign messages, never digests")
}

// SignMessage has no context to obey; the request's own deadline bounds it.
func (s *tlsSigner) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := errors.Join(s.err, checkOptions(s.key.Public, opts)); err != nil {
		return nil, err
	}
	return s.client.request(context.Background(), s.opFor(message), wire.SignBody(s.id, message))
}

// checkOptions refuses what keyd would sign in another way than asked: hash and padding follow from the key.
func checkOptions(pub crypto.PublicKey, opts crypto.SignerOpts) error {
	want := crypto.SHA256
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P384() {
			want = crypto.SHA384
		}
	case ed25519.PublicKey:
		want = 0
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); !ok || pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != want.Size() {
			return errors.New("keyring: RSA keys sign with PSS and a salt as long as the hash")
		}
	}
	if got := opts.HashFunc(); got != want {
		return fmt.Errorf("keyring: this key signs with %v, not %v", want, got)
	}
	return nil
}

// Assertion returns the signer of the current key of that name, whose purpose is assertion or oidc-client. After a change
// of keys (OnChange) it still signs until the key is destroyed; ask anew for the one to use then.
func (c *Client) Assertion(name string) (*AssertionSigner, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.keys {
		switch {
		case k.Name != name || !k.Current:
		case k.Purpose == PurposeAssertion:
			return &AssertionSigner{c, k, wire.OpSignAssertion}, nil
		case k.Purpose == PurposeOIDCClient:
			return &AssertionSigner{c, k, wire.OpSignClientAssertion}, nil
		default:
			return nil, fmt.Errorf("keyd's key %q is for %s: it signs no assertions", name, k.Purpose)
		}
	}
	return nil, fmt.Errorf("keyd has no key %q", name)
}

// AssertionOf returns the signer of one key, of purpose assertion or oidc-client, whichever generation it is.
func (c *Client) AssertionOf(k Key) *AssertionSigner {
	op := wire.OpSignAssertion
	if k.Purpose == PurposeOIDCClient {
		op = wire.OpSignClientAssertion
	}
	return &AssertionSigner{c, k, op}
}

// AssertionSigner signs JWTs with ES256. keyd parses each and refuses what its configuration does not allow.
type AssertionSigner struct {
	client *Client
	key    Key
	op     wire.Op
}

// KeyID is the `kid` that the JWT's header must carry.
func (s *AssertionSigner) KeyID() string { return s.key.ID }

// Public is the key that verifies, a *ecdsa.PublicKey on P-256.
func (s *AssertionSigner) Public() crypto.PublicKey { return s.key.Public }

// SignJWT signs a JWS signing input (RFC 7515 §5.1) and returns r ‖ s, 64 bytes. Its header must be exactly alg ES256,
// kid KeyID and typ JWT; iat must be the present and exp at most five minutes later. ErrRefused says what is wrong.
func (s *AssertionSigner) SignJWT(ctx context.Context, signingInput []byte) ([]byte, error) {
	id, err := wire.ID(s.key.Public)
	if err != nil {
		return nil, err
	}
	return s.client.request(ctx, s.op, wire.SignBody(id, signingInput))
}
