package acme

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	rfc8555 "github.com/mholt/acmez/v3/acme"

	"sallyport/certs/keyring"
)

const (
	accountFile = "account.json"
	// maxHMAC bounds the file of an external account's key, in bytes.
	maxHMAC = 4 << 10
	// patience is how long an order waits for a key process that restarts.
	patience = 20 * time.Second
	// askKeysEvery is how often it asks meanwhile.
	askKeysEvery = 500 * time.Millisecond
)

// errKeys is a failure of the key process, or its refusal.
var errKeys = errors.New("the key process")

// account returns the account at the authority; a new one is made at most once.
func (r *Renewer) account(ctx context.Context) (rfc8555.Account, error) {
	r.accounting.Lock()
	defer r.accounting.Unlock()
	key, err := r.accountKey(ctx)
	if err != nil {
		return rfc8555.Account{}, err
	}
	account := rfc8555.Account{PrivateKey: &accountSigner{r.keys.ACMEAccount(key)}}
	var kept accountMemory
	if err := r.folder.load(accountFile, &kept); err != nil {
		r.log.Warn("the account's file cannot be used; the authority is asked for the account", "error", err)
	}
	if kept.Directory == r.cfg.Directory && kept.Key == key.ID && kept.Location != "" {
		account.Location = kept.Location
		return account, nil
	}
	account, err = r.register(ctx, account)
	if err != nil {
		return account, fmt.Errorf("making an account: %w", err)
	}
	return account, r.folder.store(accountFile, accountMemory{r.cfg.Directory, key.ID, account.Location})
}

func (r *Renewer) accountKey(ctx context.Context) (keyring.Key, error) {
	list, err := r.keys.List(ctx)
	if err != nil {
		return keyring.Key{}, fmt.Errorf("%w: %w", errKeys, err)
	}
	i := slices.IndexFunc(list, func(k keyring.Key) bool { return k.Name == r.cfg.Account && k.Purpose == keyring.PurposeACME })
	if i < 0 {
		return keyring.Key{}, fmt.Errorf("%w holds no key %q for acme-account", errKeys, r.cfg.Account)
	}
	return list[i], nil
}

// register returns the account that the key has with the authority, or makes it one.
func (r *Renewer) register(ctx context.Context, account rfc8555.Account) (rfc8555.Account, error) {
	existing, err := r.client.GetAccount(ctx, account)
	if err == nil {
		return existing, nil
	}
	if problem, ok := errors.AsType[rfc8555.Problem](err); !ok || problem.Type != rfc8555.ProblemTypeAccountDoesNotExist {
		return account, err
	}
	account.TermsOfServiceAgreed = r.cfg.TermsAgreed
	if r.cfg.Email != "" {
		account.Contact = []string{"mailto:" + r.cfg.Email}
	}
	if eab := r.cfg.EAB; eab != nil {
		key, err := readHMAC(eab.HMACFile)
		if err != nil {
			return account, err
		}
		if err := account.SetExternalAccountBinding(ctx, r.client, rfc8555.EAB{KeyID: eab.KeyID, MACKey: key}); err != nil {
			return account, fmt.Errorf("binding the account: %w", err)
		}
	}
	return r.client.NewAccount(ctx, account)
}

// readHMAC reads an external account's key. Errors say nothing of its content.
func readHMAC(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading eab.hmac_file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxHMAC))
	defer clear(text)
	if err != nil {
		return "", fmt.Errorf("reading eab.hmac_file: %w", err)
	}
	return strings.TrimRight(strings.TrimSpace(string(text)), "="), nil
}

// forgetAccount is for an authority that does not know the account any more.
func (r *Renewer) forgetAccount(err error) {
	if problem, ok := errors.AsType[rfc8555.Problem](err); ok && problem.Type == rfc8555.ProblemTypeAccountDoesNotExist {
		r.accounting.Lock()
		defer r.accounting.Unlock()
		if err := r.folder.store(accountFile, accountMemory{}); err != nil {
			r.log.Error("the account was not forgotten", "error", err)
		}
	}
}

// accountSigner tries again while keyd restarts, so that an order is not lost over it.
type accountSigner struct{ key crypto.Signer }

func (s *accountSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s *accountSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.key.Sign(rand, digest, opts)
	for end := time.Now().Add(patience); errors.Is(err, keyring.ErrUnavailable) && time.Now().Before(end); {
		time.Sleep(askKeysEvery)
		signature, err = s.key.Sign(rand, digest, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeys, err)
	}
	return signature, nil
}
