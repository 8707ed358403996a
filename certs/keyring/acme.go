package keyring

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"io"

	"sallyport/certs/internal/wire"
)

// ACMEAccount returns the signer of a key of purpose acme-account, for the ACME library. Unlike all other keys it signs
// digests: SHA-256, ES256. Its signatures are r ‖ s, 64 bytes, as RFC 7518 §3.4 has them and the library expects of keys
// that are not in memory; that is not what crypto.Signer promises for ECDSA, so that it is good for nothing else.
func (c *Client) ACMEAccount(k Key) crypto.Signer { return &accountSigner{c, k} }

type accountSigner struct {
	client *Client
	key    Key
}

func (s *accountSigner) Public() crypto.PublicKey { return s.key.Public }

// Sign has no context to obey; the request's own deadline bounds it.
func (s *accountSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("keyring: accounts' keys sign SHA-256 digests only")
	}
	id, err := wire.ID(s.key.Public)
	if err != nil {
		return nil, err
	}
	return s.client.request(context.Background(), wire.OpSignACMEAccount, wire.SignBody(id, digest))
}
