package keyd

import (
	"errors"
	"fmt"
)

// backends are where the keys of one configuration are. They stay open as long as keyd runs: a token ends its keys with its
// session, and a rotation generates and destroys.
type backends struct {
	files backend
	token backend // nil without `pkcs11`
}

// openBackends opens what c names: the key folder, and the token if there is one.
func openBackends(c *Config) (*backends, error) {
	for _, kc := range c.Keys {
		if kc.PKCS11 != "" {
			return nil, fmt.Errorf("key %q: this keyd has no PKCS #11: keyd-pkcs11 has", kc.Name)
		}
	}
	files, err := openKeyFiles(c.Dir)
	if err != nil {
		return nil, err
	}
	return &backends{files: files}, nil
}

// of returns where the key is or will be; kc.ref() and what is derived from it are its references there.
func (b *backends) of(kc KeyConfig) backend {
	if kc.PKCS11 != "" {
		return b.token
	}
	return b.files
}

func (b *backends) close() error {
	err := b.files.close()
	if b.token != nil {
		err = errors.Join(err, b.token.close())
	}
	if err != nil {
		return fmt.Errorf("closing backends: %w", err)
	}
	return nil
}

// ref is the reference of the key's first generation in its backend.
func (k *KeyConfig) ref() string {
	if k.PKCS11 != "" {
		return k.PKCS11
	}
	return k.File
}
