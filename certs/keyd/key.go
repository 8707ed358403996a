package keyd

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"sallyport/certs/internal/wire"
)

// key is one private key, bound to its purpose: nothing but sign touches the private half.
type key struct {
	KeyConfig
	id     wire.KeyID
	public []byte // SubjectPublicKeyInfo, DER
	op     wire.Op
	// sign checks the message against the purpose, then signs it. A refusal means that the key does not sign such.
	sign func(message []byte) ([]byte, error)

	signed, refused atomic.Uint64
}

// loadKeys reads every key of the configuration and reports all problems at once, each with the key's name.
func loadKeys(c *Config, now func() time.Time) ([]*key, error) {
	files, err := openKeyFiles(c.Dir)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	var keys []*key
	var errs []error
	taken := map[wire.KeyID]string{}
	for _, kc := range c.Keys {
		k, err := loadKey(c, kc, files, now)
		if err == nil && taken[k.id] != "" {
			// A key of two purposes could be made to sign for one what the other refuses.
			err = fmt.Errorf("is the same key as %q", taken[k.id])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("key %q: %w", kc.Name, err))
			continue
		}
		taken[k.id] = kc.Name
		keys = append(keys, k)
	}
	return keys, errors.Join(errs...)
}

func loadKey(c *Config, kc KeyConfig, files keyFiles, now func() time.Time) (*key, error) {
	private, err := files.load(kc.File)
	if err != nil {
		return nil, err
	}
	id, err := wire.ID(private.Public())
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	k := &key{KeyConfig: kc, id: id, public: public}
	return k, k.bind(c, private, now)
}

// bind gives the key its one operation.
func (k *key) bind(c *Config, private crypto.Signer, now func() time.Time) (err error) {
	switch k.Purpose {
	case wire.TLSServer:
		k.op = wire.OpSignTLS13Server
		k.sign, err = tlsSigner(private, serverSide)
	case wire.TLSClient:
		k.op = wire.OpSignTLS13Client
		k.sign, err = tlsSigner(private, clientSide)
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
	default:
		err = fmt.Errorf("BUG: purpose %q passed the configuration's check", k.Purpose)
	}
	return err
}
