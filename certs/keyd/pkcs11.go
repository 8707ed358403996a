//go:build pkcs11

package keyd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

const (
	// tokenSessions bounds the signatures that are made at once: a session serves one. One more holds the login.
	tokenSessions = 64
	// tokenPatience is how long a signature waits for a session: the gateway waits no longer for keyd.
	tokenPatience = 5 * time.Second
)

// keyToken is the PKCS #11 backend. References are labels. A key is a private object and its public half under one label and
// one random id; private keys are made in the token and never leave it.
type keyToken struct {
	ctx     *crypto11.Context
	shut    func() error
	folders []string
	turn    sync.Mutex // held while keys come and go: a token knows no unique labels, the lock of state_dir keeps others away
}

var _ backend = (*keyToken)(nil)

// openToken loads the module and logs in.
func openToken(c *Config) (backend, error) {
	p := &c.PKCS11
	if err := p.checkModule(); err != nil {
		return nil, fmt.Errorf("pkcs11: module %w", err)
	}
	pin, err := c.secret(p.PIN, "PIN of token "+p.Token)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: %w", err)
	}
	defer clear(pin)
	defer setEnvironment(p.Environment)()
	config := &crypto11.Config{
		Path: p.Module, TokenLabel: p.Token, MaxSessions: tokenSessions, PoolWaitTimeout: tokenPatience,
		Pin: unsafe.String(&pin[0], len(pin)), // gone with the bytes: a string of its own could not be wiped
	}
	ctx, err := crypto11.Configure(config)
	config.Pin = ""
	if err != nil {
		return nil, fmt.Errorf("pkcs11: token %s: %w", p.Token, loginError(err))
	}
	return &keyToken{ctx: ctx, shut: sync.OnceValue(ctx.Close), folders: p.Folders}, nil
}

// checkModule demands a library that nobody else could have put there: its code runs beside all keys.
func (p *PKCS11Config) checkModule() error {
	path, err := filepath.EvalSymlinks(p.Module)
	if err != nil {
		return err
	}
	for ; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		forbidden := os.FileMode(0o022)
		if info.IsDir() && info.Mode()&os.ModeSticky != 0 {
			forbidden = 0 // nobody can replace another's file there
		}
		if err := checkOwnedInfo(info, forbidden); err != nil {
			return fmt.Errorf("%s %w", path, err)
		}
		if path == "/" {
			return nil
		}
	}
}

// loginError recognises a PIN that must not be tried again.
func loginError(err error) error {
	code, ok := errors.AsType[pkcs11.Error](err)
	wrong := []pkcs11.Error{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED}
	if ok && slices.Contains(wrong, code) {
		return fmt.Errorf("%w: %w", ErrWrongSecret, err)
	}
	return err
}

// setEnvironment sets variables, for C code too, and returns what takes them back.
func setEnvironment(variables map[string]string) (restore func()) {
	var undo []func()
	for name, value := range variables {
		if before, was := os.LookupEnv(name); was {
			undo = append(undo, func() { os.Setenv(name, before) })
		} else {
			undo = append(undo, func() { os.Unsetenv(name) })
		}
		os.Setenv(name, value)
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}

func (t *keyToken) close() error { return t.shut() }

// open finds the one key pair of a label.
func (t *keyToken) open(label string) (crypto.Signer, error) {
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	pairs, err := t.ctx.FindKeyPairs(nil, []byte(label))
	if err != nil {
		return nil, fmt.Errorf("looking for %q in the token: %w", label, err)
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("the token has no key pair %q: %w", label, fs.ErrNotExist)
	}
	if len(pairs) > 1 {
		return nil, fmt.Errorf("the token has %d key pairs %q: which one is meant?", len(pairs), label)
	}
	key, err := t.admit(pairs[0])
	if err != nil {
		return nil, fmt.Errorf("key pair %q: %w", label, err)
	}
	return key, nil
}

// tokenKey can sign, and hides what else a token's key can do.
type tokenKey struct{ signer crypto.Signer }

func (k tokenKey) Public() crypto.PublicKey { return k.signer.Public() }

func (k tokenKey) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.signer.Sign(r, digest, opts)
	if err != nil {
		return nil, fmt.Errorf("the token does not sign: %w", err)
	}
	return sig, nil
}

// admit accepts a key that cannot leave the token and that is the private half of what it says is the public one: the two
// are separate objects, found by id and label.
func (t *keyToken) admit(pair crypto11.Signer) (crypto.Signer, error) {
	for _, want := range []struct {
		attribute crypto11.AttributeType
		value     bool
		otherwise string
	}{
		{crypto11.CkaSensitive, true, "the token gives the private key away (CKA_SENSITIVE is false)"},
		{crypto11.CkaExtractable, false, "the private key can leave the token (CKA_EXTRACTABLE is true)"},
	} {
		a, err := t.ctx.GetAttribute(pair, want.attribute)
		if err != nil {
			return nil, fmt.Errorf("asking what the private key is: %w", err)
		}
		if a == nil || len(a.Value) != 1 || (a.Value[0] != 0) != want.value {
			return nil, errors.New(want.otherwise)
		}
	}
	return tokenKey{pair}, prove(pair)
}

// prove makes the two halves of a key match.
func prove(pair crypto.Signer) error {
	digest := sha256.Sum256([]byte("sallyport keyd: do these two belong together?"))
	pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	var opts crypto.SignerOpts = crypto.SHA256
	var verify func(sig []byte) bool
	switch public := pair.Public().(type) {
	case *ecdsa.PublicKey:
		verify = func(sig []byte) bool { return ecdsa.VerifyASN1(public, digest[:], sig) }
	case *rsa.PublicKey:
		opts = pss
		verify = func(sig []byte) bool { return rsa.VerifyPSS(public, crypto.SHA256, digest[:], sig, pss) == nil }
	default:
		return fmt.Errorf("unsupported kind of key %T", public)
	}
	sig, err := pair.Sign(rand.Reader, digest[:], opts)
	if err != nil {
		return fmt.Errorf("the token does not sign: %w", err)
	}
	if !verify(sig) {
		return errors.New("the private key is not that of the public one")
	}
	return nil
}

// generate makes a key pair inside the token.
func (t *keyToken) generate(label string, kind keyKind) (crypto.Signer, error) {
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	t.turn.Lock()
	defer t.turn.Unlock()
	taken, err := t.ctx.FindPrivateKeys(nil, []byte(label))
	if err != nil {
		return nil, fmt.Errorf("looking for %q in the token: %w", label, err)
	}
	if len(taken) > 0 {
		return nil, fmt.Errorf("a key %q in the token: %w", label, fs.ErrExist)
	}
	pair, err := t.makePair(label, kind)
	if err != nil {
		return nil, fmt.Errorf("generating %q in the token: %w", label, err)
	}
	key, err := t.admit(pair)
	if err := errors.Join(err, t.sync()); err != nil {
		return nil, errors.Join(fmt.Errorf("generating %q in the token: %w", label, err), pair.Delete())
	}
	return key, nil
}

// makePair asks for a key that signs and does nothing else.
func (t *keyToken) makePair(label string, kind keyKind) (crypto11.Signer, error) {
	id := make([]byte, 16)
	rand.Read(id)
	public, err := crypto11.NewAttributeSetWithIDAndLabel(id, []byte(label))
	if err != nil {
		return nil, err
	}
	private := public.Copy()
	is := func(attribute uint, value bool) *pkcs11.Attribute { return pkcs11.NewAttribute(attribute, value) }
	private.AddIfNotPresent([]*pkcs11.Attribute{
		is(pkcs11.CKA_PRIVATE, true), is(pkcs11.CKA_SENSITIVE, true), is(pkcs11.CKA_EXTRACTABLE, false), is(pkcs11.CKA_SIGN, true),
	})
	switch kind {
	case kindP256:
		return t.ctx.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P256())
	case kindP384:
		return t.ctx.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P384())
	case kindRSA2048:
		public.AddIfNotPresent([]*pkcs11.Attribute{is(pkcs11.CKA_ENCRYPT, false)})
		private.AddIfNotPresent([]*pkcs11.Attribute{is(pkcs11.CKA_DECRYPT, false), is(pkcs11.CKA_UNWRAP, false)})
		return t.ctx.GenerateRSAKeyPairWithAttributes(public, private, 2048)
	}
	return nil, fmt.Errorf("tokens make no keys of kind %s", kind)
}

// destroy deletes every private key of a label, with its public half.
func (t *keyToken) destroy(label string) error {
	if err := checkLabel(label); err != nil {
		return err
	}
	t.turn.Lock()
	defer t.turn.Unlock()
	if err := t.delete(label); err != nil {
		return fmt.Errorf("destroying %q in the token: %w", label, err)
	}
	return t.sync()
}

func (t *keyToken) delete(label string) error {
	pairs, err := t.ctx.FindKeyPairs(nil, []byte(label))
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if err := p.Delete(); err != nil {
			return err
		}
	}
	// One that lost its public half is found in another way. That there is none to delete beside it is then an error of
	// Delete's, and what counts is that the private half is gone.
	alone, err := t.ctx.FindPrivateKeys(nil, []byte(label))
	if err != nil || len(alone) == 0 {
		return err
	}
	for _, k := range alone {
		if d, ok := k.(interface{ Delete() error }); ok {
			err = errors.Join(err, d.Delete())
		}
	}
	left, e := t.ctx.FindPrivateKeys(nil, []byte(label))
	if len(left) == 0 {
		return e
	}
	return fmt.Errorf("%d private keys are still there: %w", len(left), err)
}

// sync makes what a module in software wrote to its folders durable; SoftHSM itself does not. A token of hardware has none.
func (t *keyToken) sync() error {
	var errs []error
	for _, folder := range t.folders {
		errs = append(errs, syncTree(folder))
	}
	return errors.Join(errs...)
}

func syncTree(folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
