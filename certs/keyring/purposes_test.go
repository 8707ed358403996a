package keyring_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"
	"testing"

	"sallyport/certs/keyd/keydtest"
	"sallyport/certs/keyring"
)

// keyOf is keyd's key of that name.
func keyOf(t *testing.T, c *keyring.Client, name string) keyring.Key {
	t.Helper()
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("keyd has no key %q", name)
	return keyring.Key{}
}

// An account's signatures are ES256 as RFC 7518 §3.4 has it, of SHA-256 digests and nothing else.
func TestAccountsSignDigests(t *testing.T) {
	account := keydtest.Key{Name: "account", Purpose: "acme-account", Private: p256(t)}
	s := keydtest.Make(t, 0, []int{0}, append(keys(t), account)...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	signer := c.ACMEAccount(keyOf(t, c, "account"))
	digest := sha256.Sum256([]byte("protected.payload"))
	sig, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || len(sig) != 64 {
		t.Fatalf("got %d bytes, %v", len(sig), err)
	}
	public := signer.Public().(*ecdsa.PublicKey)
	if !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the signature does not verify")
	}
	if _, err := signer.Sign(rand.Reader, digest[:20], crypto.SHA1); err == nil {
		t.Error("a SHA-1 digest is signed")
	}
	if _, err := signer.Sign(rand.Reader, []byte("protected.payload"), crypto.SHA256); err == nil {
		t.Error("what is no digest is signed")
	}
	for _, other := range []string{"wiki", "says", "login", "mutual"} {
		if _, err := c.ACMEAccount(keyOf(t, c, other)).Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, keyring.ErrRefused) {
			t.Errorf("with the key %s: got %v, want %v", other, err, keyring.ErrRefused)
		}
	}
}

// Who asks too often is told so by an error of its own: trying again later helps.
func TestKeyThatIsAskedTooOftenIsLimited(t *testing.T) {
	limited := keydtest.Key{Name: "limited", Purpose: "tls-server", Private: p256(t), Hosts: []string{"limited.corp.example"}, Rate: 1}
	s := keydtest.Make(t, 0, []int{0}, append(keys(t), limited)...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	signer := c.TLSServer(keyOf(t, c, "limited")).(crypto.MessageSigner)
	for range 1000 {
		_, err := signer.SignMessage(rand.Reader, certificateVerify, crypto.SHA256)
		if err == nil {
			continue
		}
		if !errors.Is(err, keyring.ErrLimited) || errors.Is(err, keyring.ErrRefused) {
			t.Errorf("got %v, want %v", err, keyring.ErrLimited)
		}
		return
	}
	t.Error("a thousand signatures were made at one a second")
}

// The signing log comes in parts, which follow on each other.
func TestSigningLogIsRead(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, keys(t)...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	digest := sha256.Sum256([]byte("anything"))
	wiki := keyOf(t, c, "wiki")
	for range 3 {
		c.ACMEAccount(wiki).Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	l, err := c.SigningLog(t.Context(), 1)
	if err != nil || l.Boot == "" || l.Oldest != 1 || len(l.Entries) < 2 || l.Entries[0].Seq != 2 {
		t.Fatalf("got %+v %v", l, err)
	}
	if r := l.Entries[0].Refusal; r == nil || r.Code != "wrong_purpose" || r.Key != "wiki" || r.Op != "sign_acme_account" {
		t.Errorf("got %+v", r)
	}
	if st, err := c.Status(context.Background()); err != nil || st.Alarms != 3 {
		t.Errorf("got %d alarms, %v", st.Alarms, err)
	}
}
