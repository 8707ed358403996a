//go:build pkcs11

package keyd

import (
	"crypto"
	"crypto/elliptic"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"sallyport/certs/keyd/keydtest"
)

func TestBackendSoftHSM(t *testing.T) {
	suite{
		kinds:   []keyKind{kindP256, kindP384, kindRSA2048},
		refused: append([]keyKind{kindEd25519}, oddKinds...), // PKCS #11 2.40 has no Ed25519
		open:    openSoftHSM,
	}.run(t)
}

// openSoftHSM opens the token in a folder, which it makes the first time.
func openSoftHSM(t *testing.T, dir string) backend {
	t.Helper()
	b, err := openToken(softHSM(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func softHSM(t *testing.T, dir string) *Config {
	t.Helper()
	hsm := keydtest.SoftHSM(t, dir, os.Geteuid())
	return &Config{PKCS11: PKCS11Config{
		Module: hsm.Module, Token: hsm.Token, PIN: SecretSource{File: hsm.PINFile},
		Environment: map[string]string{"SOFTHSM2_CONF": hsm.Conf}, Folders: []string{hsm.Tokens},
	}}
}

func TestTokensWithAnotherPINStayShut(t *testing.T) {
	c := softHSM(t, t.TempDir())
	if err := os.WriteFile(c.PKCS11.PIN.File, []byte("9999-9999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := openToken(c)
	if !errors.Is(err, ErrWrongSecret) {
		t.Errorf("got %v %v, want a wrong PIN", b, err)
	}
	if err != nil && strings.Contains(err.Error(), "9999") {
		t.Errorf("the error tells the PIN: %v", err)
	}
	if _, is := os.LookupEnv("SOFTHSM2_CONF"); is {
		t.Error("the module's environment stays")
	}
}

func TestWhatIsNoTokenIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, c *Config){
		"no such token":  func(t *testing.T, c *Config) { c.PKCS11.Token = "another" },
		"no such module": func(t *testing.T, c *Config) { c.PKCS11.Module = "/usr/lib/no-such.so" },
		"a module that others can write": func(t *testing.T, c *Config) {
			data, err := os.ReadFile(c.PKCS11.Module)
			if err != nil {
				t.Fatal(err)
			}
			c.PKCS11.Module = filepath.Join(t.TempDir(), "module.so")
			if err := errors.Join(os.WriteFile(c.PKCS11.Module, data, 0o700), os.Chmod(c.PKCS11.Module, 0o722)); err != nil {
				t.Fatal(err)
			}
		},
		"a module of somebody else": func(t *testing.T, c *Config) {
			c.PKCS11.Module = filepath.Join(t.TempDir(), "module.so")
			if err := errors.Join(os.WriteFile(c.PKCS11.Module, nil, 0o700), os.Chown(c.PKCS11.Module, 61003, -1)); err != nil {
				t.Fatal(err)
			}
		},
		"no module": func(t *testing.T, c *Config) {
			c.PKCS11.Module = filepath.Join(t.TempDir(), "module.so")
			if err := os.WriteFile(c.PKCS11.Module, []byte("hello"), 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"a PIN that others can read": func(t *testing.T, c *Config) { os.Chmod(c.PKCS11.PIN.File, 0o644) },
		"no PIN":                     func(t *testing.T, c *Config) { os.WriteFile(c.PKCS11.PIN.File, []byte("\n"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			c := softHSM(t, t.TempDir())
			spoil(t, c)
			if _, err := openToken(c); err == nil {
				t.Error("opened")
			}
		})
	}
}

// A token is asked for two objects that only a name holds together, and for whatever somebody put there by other means.
func TestKeysThatAreNotWhatTheySayAreRefused(t *testing.T) {
	b := openSoftHSM(t, t.TempDir()).(*keyToken)
	defer b.close()
	pair := func(label, id string, private ...*pkcs11.Attribute) {
		t.Helper()
		public, err := crypto11.NewAttributeSetWithIDAndLabel([]byte(id), []byte(label))
		if err != nil {
			t.Fatal(err)
		}
		own := public.Copy()
		own.AddIfNotPresent(private)
		if _, err := b.ctx.GenerateECDSAKeyPairWithAttributes(public, own, elliptic.P256()); err != nil {
			t.Fatal(err)
		}
	}
	pair("extractable", "1", pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
	pair("readable", "2", pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false))
	pair("twice", "3")
	pair("twice", "4")
	pair("good", "5")
	for label, want := range map[string]string{
		"extractable": "can leave the token", "readable": "gives the private key away", "twice": "2 key pairs", "none": "no key pair",
	} {
		if _, err := b.open(label); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", label, err, want)
		}
	}
	mustOpen(t, b, "good")
	if _, err := b.generate("twice", kindP256); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if err := b.destroy("twice"); err != nil {
		t.Fatal(err)
	}
	mustMake(t, b, "twice", kindP256)
}

func TestHalvesThatDoNotBelongTogetherAreRefused(t *testing.T) {
	for _, kind := range []keyKind{kindP256, kindP384, kindRSA2048} {
		one, err1 := newPrivate(kind)
		two, err2 := newPrivate(kind)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if err := prove(mixed{one, two}); err == nil {
			t.Errorf("%s: a private key is taken for that of another public one", kind)
		}
		if err := prove(one); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// mixed signs with one key and shows another.
type mixed struct {
	crypto.Signer
	shown crypto.Signer
}

func (m mixed) Public() crypto.PublicKey { return m.shown.Public() }

func TestTokenKeysShowNothingButSigning(t *testing.T) {
	b := openSoftHSM(t, t.TempDir())
	defer b.close()
	key := mustMake(t, b, "rsa", kindRSA2048)
	if _, ok := key.(crypto.Decrypter); ok {
		t.Error("a key decrypts")
	}
	if _, ok := key.(interface{ Delete() error }); ok {
		t.Error("a key deletes itself")
	}
}

func TestConfigurationWithATokenOpensBoth(t *testing.T) {
	c := softHSM(t, t.TempDir())
	c.Dir = t.TempDir()
	c.Keys = []KeyConfig{{Name: "a", File: "a.pem"}, {Name: "b", PKCS11: "b"}}
	stores, err := openBackends(c)
	if err != nil {
		t.Fatal(err)
	}
	defer stores.close()
	for _, kc := range c.Keys {
		mustMake(t, stores.of(kc), kc.ref(), kindP256)
	}
	if _, err := stores.of(c.Keys[0]).open("b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want the token's key in the token only", err)
	}
}
