package keyd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sallyport/certs/internal/wire"
)

// key is one private key, bound to its purpose: nothing but sign touches the private half.
type key struct {
	KeyConfig
	id     wire.KeyID
	public []byte // SubjectPublicKeyInfo, DER
	op     wire.Op
	quick  bool // to sign with: fifty microseconds, in this process
	// sign checks the message against the purpose, then signs it. A refusal means that the key does not sign such, a
	// conflict that a checkpoint does not grow from the last.
	sign   func(message []byte) ([]byte, error)
	sign12 func(message []byte) ([]byte, error) // op 10, of a tls-server key that is marked for TLS 1.2
	logs   ledgers                              // of a checkpoint key
	turns  *rate.Limiter                        // each request takes one, see usualRate

	signed, refused atomic.Uint64
}

// newKey binds a private key to what the configuration says of it. Logs are those of a checkpoint key.
func newKey(c *Config, kc KeyConfig, private crypto.Signer, logs ledgers, now func() time.Time) (*key, error) {
	id, err := wire.ID(private.Public())
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	_, quick := private.(*ecdsa.PrivateKey)
	k := &key{KeyConfig: kc, id: id, public: public, quick: quick, turns: kc.limiter(), logs: logs}
	return k, k.bind(c, private, now)
}

// bind gives the key its one operation, or the one of TLS 1.2 besides.
func (k *key) bind(c *Config, private crypto.Signer, now func() time.Time) (err error) {
	switch k.Purpose {
	case wire.TLSServer:
		k.op = wire.OpSignTLS13Server
		if k.sign, err = tlsSigner(private, serverSide.check); err == nil && k.TLS12 {
			k.sign12, err = tls12Signer(private)
		}
	case wire.TLSClient:
		k.op = wire.OpSignTLS13Client
		k.sign, err = tlsSigner(private, clientSide.check)
	case wire.Assertion:
		k.op = wire.OpSignAssertion
		k.sign, err = jwtSigner(private, func(input []byte) error {
			return checkAssertion(&c.Assertion, k.id.String(), now(), input)
		})
	case wire.OIDCClient:
		k.op = wire.OpSignClientAssertion
		k.sign, err = jwtSigner(private, func(input []byte) error {
			return checkClientAssertion(k.ClientID, k.Audiences, k.id.String(), now(), input)
		})
	case wire.ACMEAccount:
		k.op = wire.OpSignACMEAccount
		k.sign, err = acmeSigner(private)
	case wire.Manifests:
		k.op = wire.OpSignManifest
		k.sign, err = manifestSigner(k.Origins[0], private)
	case wire.Checkpoints:
		k.op = wire.OpSignCheckpoint
		k.sign = k.logs.sign
		_, err = newNoteSigner(k.Origins[0], private)
	default:
		err = fmt.Errorf("BUG: purpose %q passed the configuration's check", k.Purpose)
	}
	return err
}

// signer is how the key serves op; nil if it is for another.
func (k *key) signer(op wire.Op) func(message []byte) ([]byte, error) {
	switch op {
	case k.op:
		return k.sign
	case wire.OpSignTLS12Server:
		return k.sign12
	}
	return nil
}

// origins are the names under which the key signs notes; nil if it signs none.
func (k *key) origins() ([]wire.Origin, error) {
	if k.op != wire.OpSignCheckpoint && k.op != wire.OpSignManifest {
		return nil, nil
	}
	public, err := x509.ParsePKIXPublicKey(k.public)
	if err != nil {
		return nil, err
	}
	if k.op == wire.OpSignCheckpoint {
		return k.logs.describe(public)
	}
	lines, err := verifierKeys(k.Origins[0], 1, public)
	return []wire.Origin{{Base: k.Origins[0], InUse: k.Origins[0], VerifierKeys: lines}}, err
}

// notes says how far the key has signed under each name.
func (k *key) notes() []wire.NoteStatus {
	origins, err := k.origins()
	if err != nil {
		return []wire.NoteStatus{{Problem: err.Error()}}
	}
	list := k.logs.status()
	if k.op == wire.OpSignManifest {
		list = []wire.NoteStatus{{Name: k.Origins[0]}}
	}
	for i, o := range origins {
		if n := len(o.VerifierKeys); n > 0 {
			list[i].VerifierKey = o.VerifierKeys[n-1]
		}
	}
	return list
}
