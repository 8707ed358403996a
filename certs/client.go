package certs

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"sallyport/certs/keyring"
)

// ClientKeys are the key process's keys, for a Client. *keyring.Client implements it.
type ClientKeys interface {
	// List returns the public side of every key.
	List(ctx context.Context) ([]keyring.Key, error)
	// TLSClient returns the signer of a key of purpose tls-client.
	TLSClient(k keyring.Key) crypto.Signer
}

// Errors of handshakes in which an app asks for a certificate, and the gateway has one that does not fit. crypto/tls
// returns them as they are. All of them end the handshake: an operator who configured a certificate does not want the
// gateway to go on as nobody.
var (
	// ErrTLS12 means that the app negotiated TLS 1.2, where a client's signature cannot be told from others.
	ErrTLS12 = errors.New("the app asks for a client certificate over TLS 1.2, and the key process signs TLS 1.3 only: enable TLS 1.3 on the app")
	// ErrNotAccepted means that the app named the authorities or signature algorithms it accepts, and ours is not one.
	ErrNotAccepted = errors.New("the app accepts no such client certificate")
	// ErrExpired means that the certificate ran out since it was loaded.
	ErrExpired = errors.New("the client certificate expired")
)

// Client is the certificate by which the gateway proves itself to an app. It is immutable: a reload loads a new one.
type Client struct {
	cert *tls.Certificate
	info Info
}

// LoadClient reads the chain in file, the gateway's own certificate first, and finds its key by public key, as Load does.
// The key must be for TLS clients: a server's never serves here, nor this one there. ctx bounds the question to the key
// process.
func LoadClient(ctx context.Context, file string, keys ClientKeys) (*Client, error) {
	chain, err := readClientChain(file)
	if err != nil {
		return nil, err
	}
	list, err := keys.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("client certificate %s: matching with keys: %w", file, err)
	}
	key, err := findKey(chain[0], list, keyring.PurposeTLSClient)
	if err != nil {
		return nil, fmt.Errorf("client certificate %s: %w", file, err)
	}
	return &Client{cert: certificate(chain, key, keys.TLSClient(key)), info: describe(file, chain[0], key)}, nil
}

// CheckClientFile reads the file as LoadClient would, without a key process to match it with.
func CheckClientFile(file string) error {
	_, err := readClientChain(file)
	return err
}

// Digest changes whenever the chain does, for whoever keeps connections that were made with it.
func (c *Client) Digest() string {
	h := sha256.New()
	for _, der := range c.cert.Certificate {
		h.Write(der)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Certificate describes what is shown.
func (c *Client) Certificate() Info { return c.info }

// GetClientCertificate is for tls.Config. It is called when an app asks for a certificate, and answers with the one there
// is or with an error; it never goes on without.
func (c *Client) GetClientCertificate(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if request.Version < tls.VersionTLS13 {
		return nil, ErrTLS12
	}
	if time.Now().After(c.info.NotAfter) {
		return nil, fmt.Errorf("%w at %s: %s", ErrExpired, c.info.NotAfter.UTC().Format(time.RFC3339), c.info.File)
	}
	// RFC 8446 §4.4.2.3: the certificate must suit the app's signature_algorithms and should its certificate_authorities.
	if err := request.SupportsCertificate(c.cert); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNotAccepted, c.info.File, err)
	}
	return c.cert, nil
}
