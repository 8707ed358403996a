package keyd

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// PKCS11Config is a token: a hardware security module, a card, or SoftHSM. It needs keyd-pkcs11, which is keyd built with
// cgo (`make keyd-pkcs11`): a module is a C library, and is loaded into the process that signs.
//
// Tokens hold ECDSA keys on P-256 and P-384 and RSA keys. Notes are signed with Ed25519, for which PKCS #11 2.40 has no
// mechanism: keys of purpose checkpoint and manifest stay files.
type PKCS11Config struct {
	// Module is the path of the library, such as /usr/lib/softhsm/libsofthsm2.so: absolute, and nobody but root and keyd's
	// user can write it. Required.
	Module string `yaml:"module"`
	// Token is the token's label. Required.
	Token string `yaml:"token"`
	// PIN is the user's. Absent: keyd asks on its terminal.
	PIN SecretSource `yaml:"pin"`
	// Environment is set while the module starts, such as SOFTHSM2_CONF. keyd itself has none.
	Environment map[string]string `yaml:"environment"`
	// Folders are those that the module reads and writes while keyd runs, such as SoftHSM's token folder. Modules reach no
	// network: keyd has none.
	Folders []string `yaml:"folders"`
}

// used reports whether there is a token.
func (p *PKCS11Config) used() bool {
	return p.Module != "" || p.Token != "" || len(p.Environment) > 0 || len(p.Folders) > 0 || p.PIN != SecretSource{}
}

func (p *PKCS11Config) check() error {
	switch {
	case !p.used():
		return nil
	case !filepath.IsAbs(p.Module):
		return errors.New("module must be an absolute path")
	case p.Token == "":
		return errors.New("token is missing: the label of the token")
	}
	for name := range p.Environment {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.HasPrefix(name, "LD_") {
			return fmt.Errorf("environment: %q cannot be set", name)
		}
	}
	for _, f := range p.Folders {
		if !filepath.IsAbs(f) || filepath.Clean(f) == "/" {
			return fmt.Errorf("folders: %q is not an absolute path", f)
		}
	}
	if err := p.PIN.check(); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	return nil
}

// checkLabel accepts what a key in a token may be called: the letters of a key's name.
func checkLabel(label string) error {
	if label == "" || len(label) > 128 || strings.Trim(label, nameBytes) != "" || strings.Trim(label, ".") == "" {
		return fmt.Errorf("%q is no label of a key: 1 to 128 letters, digits, '.', '-', '_' or '*'", label)
	}
	return nil
}

// checkBackends checks what says where keys are.
func (c *Config) checkBackends(fail func(line int, format string, args ...any), at lines) {
	if err := c.Passphrase.check(); err != nil {
		fail(at.of("passphrase"), "passphrase: %w", err)
	}
	if err := c.PKCS11.check(); err != nil {
		fail(at.of("pkcs11"), "pkcs11: %w", err)
	}
	for i, k := range c.Keys {
		if k.PKCS11 == "" {
			continue
		}
		if err := checkLabel(k.PKCS11); err != nil {
			fail(at.of("keys", i), "key %q: %w", k.Name, err)
		}
		if !c.PKCS11.used() {
			fail(at.of("keys", i), "key %q: pkcs11 must say, beside keys, in which token the key is", k.Name)
		}
	}
}
