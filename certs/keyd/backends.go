package keyd

import (
	"errors"
	"fmt"
)

// backends are where the keys of one configuration are. They stay open as long as keyd runs: a token ends its keys with its
// session, and a rotation generates and destroys.
type backends struct {
	files *keyFiles
	token backend // nil without `pkcs11`
}

// openBackends opens what c names: the key folder, and the token if there is one. It may ask for passphrase and PIN, and
// loads the token's module: call it before keyd is confined to its folders.
func openBackends(c *Config) (*backends, error) {
	files, err := openKeyFiles(c.Dir)
	if err != nil {
		return nil, err
	}
	b := &backends{files: files}
	if err := b.unlock(c); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if c.PKCS11.used() {
		if b.token, err = openToken(c); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

// unlock opens the key folder if it is encrypted. Whether it is, the folder says; a configuration that knows a passphrase
// does not take plain keys.
func (b *backends) unlock(c *Config) error {
	encrypted, err := b.files.encrypted()
	switch {
	case err != nil:
		return fmt.Errorf("opening key folder: %w", err)
	case !encrypted && c.Passphrase != SecretSource{}:
		return fmt.Errorf("%s is not encrypted, though keyd.yaml has a passphrase: run keyd encrypt", c.Dir)
	case !encrypted:
		return nil
	}
	passphrase, err := c.secret(c.Passphrase, "passphrase of "+c.Dir)
	if err != nil {
		return err
	}
	defer clear(passphrase)
	if err := b.files.unlock(passphrase); err != nil {
		return fmt.Errorf("opening %s: %w", c.Dir, err)
	}
	return nil
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
