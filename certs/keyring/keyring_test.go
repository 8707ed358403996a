package keyring_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/certs/keyd/keydtest"
	"sallyport/certs/keyring"
)

func TestMain(m *testing.M) { keydtest.Main(m, map[string]func([]string) error{"connect": connect}) }

var quiet = slog.New(slog.DiscardHandler)

var certificateVerify = []byte(strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00" + strings.Repeat("h", 32))

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keys(t testing.TB) []keydtest.Key {
	return []keydtest.Key{
		{Name: "wiki", Purpose: "tls-server", Private: p256(t), Hosts: []string{"wiki.corp.example"}},
		{Name: "says", Purpose: "assertion", Private: p256(t)},
		{Name: "login", Purpose: "oidc-client", Private: p256(t), ClientID: "sallyport", Audience: "https://login.example/token"},
		{Name: "mutual", Purpose: "tls-client", Private: p256(t)},
	}
}

func open(t testing.TB, cfg keyring.Config) *keyring.Client {
	t.Helper()
	c, err := keyring.Open(context.Background(), cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// signer returns the one TLS signer.
func signer(t testing.TB, c *keyring.Client) crypto.MessageSigner {
	t.Helper()
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if k.Purpose == keyring.PurposeTLSServer {
			return c.TLSServer(k).(crypto.MessageSigner)
		}
	}
	t.Fatal("no TLS key")
	return nil
}

func sign(s crypto.MessageSigner) error {
	_, err := s.SignMessage(nil, certificateVerify, crypto.SHA256)
	return err
}

func TestListShowsPublicSides(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket, Strict: true})
	list, err := c.List(t.Context())
	if err != nil || len(list) != len(all) {
		t.Fatalf("got %v %v", list, err)
	}
	for i, k := range list {
		if k.Name != all[i].Name || string(k.Purpose) != all[i].Purpose || k.ClientID != all[i].ClientID ||
			!all[i].Private.Public().(*ecdsa.PublicKey).Equal(k.Public) {
			t.Errorf("got %+v, want %+v", k, all[i])
		}
	}
}

func TestSignerSignsWholeMessagesOnly(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	key := signer(t, open(t, keyring.Config{Socket: s.Socket}))
	digest := sha256.Sum256(certificateVerify)

	sig, err := key.SignMessage(nil, certificateVerify, crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Errorf("got %x %v, want a signature", sig, err)
	}
	if sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err == nil {
		t.Errorf("a digest was signed: %x", sig)
	}
	if _, err := key.SignMessage(nil, []byte("hello"), crypto.SHA256); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("got %v, want %v", err, keyring.ErrRefused)
	}
	for name, opts := range map[string]crypto.SignerOpts{
		"another hash": crypto.SHA384, "no hash": crypto.Hash(0),
		"PSS with another hash": &rsa.PSSOptions{Hash: crypto.SHA512},
	} {
		if _, err := key.SignMessage(nil, certificateVerify, opts); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// KEY-05: a key signs for its own end of a handshake, whichever signer a confused or hostile gateway makes of it.
func TestKEY05NoEndSignsForTheOther(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	messages := map[keyring.Purpose][]byte{
		keyring.PurposeTLSServer: certificateVerify,
		keyring.PurposeTLSClient: bytes.Replace(certificateVerify, []byte("server"), []byte("client"), 1),
	}
	signed := 0
	for _, k := range list {
		for purpose, signer := range map[keyring.Purpose]crypto.Signer{keyring.PurposeTLSServer: c.TLSServer(k), keyring.PurposeTLSClient: c.TLSClient(k)} {
			for kind, message := range messages {
				sig, err := signer.(crypto.MessageSigner).SignMessage(nil, message, crypto.SHA256)
				if right := k.Purpose == purpose && purpose == kind; right != (err == nil) || !right && !errors.Is(err, keyring.ErrRefused) {
					t.Errorf("key for %s, signer for %s, message for %s: got %x %v", k.Purpose, purpose, kind, sig, err)
				}
				digest := sha256.Sum256(message)
				if err == nil && ecdsa.VerifyASN1(k.Public.(*ecdsa.PublicKey), digest[:], sig) {
					signed++
				}
				if sig, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256); err == nil {
					t.Errorf("key for %s, signer for %s: a digest was signed: %x", k.Purpose, purpose, sig)
				}
			}
		}
	}
	if signed != 2 {
		t.Errorf("%d signatures verify, want one for each end", signed)
	}
}

// KEY-05: x509 hands whole messages to a crypto.MessageSigner; a TLS key must not become a certificate authority.
func TestKEY05NoCertificates(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	key := signer(t, open(t, keyring.Config{Socket: s.Socket}))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	if der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err == nil {
		t.Errorf("made a certificate: %x", der)
	}
	if der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err == nil {
		t.Errorf("made a certificate request: %x", der)
	}
}

func jwt(t testing.TB, kid, iss, sub, aud string) []byte {
	t.Helper()
	now := time.Now().Unix()
	e := base64.RawURLEncoding.EncodeToString
	return []byte(e(fmt.Appendf(nil, `{"alg":"ES256","typ":"JWT","kid":%q}`, kid)) + "." +
		e(fmt.Appendf(nil, `{"iss":%q,"sub":%q,"aud":%q,"jti":"1","iat":%d,"exp":%d}`, iss, sub, aud, now, now+60)))
}

func TestAssertionSigners(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	for _, tt := range []struct{ name, iss, sub, aud string }{
		{"says", "https://auth.corp.example", "corp|alice", "https://wiki.corp.example"},
		{"login", "sallyport", "sallyport", "https://login.example/token"},
	} {
		a, err := c.Assertion(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		input := jwt(t, a.KeyID(), tt.iss, tt.sub, tt.aud)
		sig, err := a.SignJWT(t.Context(), input)
		if err != nil || len(sig) != 64 {
			t.Fatalf("%s: got %d bytes %v, want 64", tt.name, len(sig), err)
		}
		digest := sha256.Sum256(input)
		r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
		if !ecdsa.Verify(a.Public().(*ecdsa.PublicKey), digest[:], r, s) {
			t.Errorf("%s: the signature does not verify", tt.name)
		}
		if _, err := a.SignJWT(t.Context(), jwt(t, a.KeyID(), tt.iss, tt.sub, "https://evil.example")); !errors.Is(err, keyring.ErrRefused) {
			t.Errorf("%s: a foreign audience: got %v, want %v", tt.name, err, keyring.ErrRefused)
		}
	}
	for _, name := range []string{"wiki", "nobody", ""} {
		if _, err := c.Assertion(name); err == nil {
			t.Errorf("%q signs assertions", name)
		}
	}
}

func TestManyRequestsAtOnce(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, keys(t)...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	key := signer(t, c)
	digest := sha256.Sum256(certificateVerify)
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			sig, err := key.SignMessage(nil, certificateVerify, crypto.SHA256)
			if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], sig) {
				t.Errorf("got %x %v", sig, err)
			}
			if _, err := c.List(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	st, err := c.Status(t.Context())
	if err != nil || st.Connections != 1 || st.Keys[0].Signed != 500 {
		t.Errorf("got %+v %v, want 500 signatures over one connection", st, err)
	}
}

// KEY-08: the gateway does not speak to a socket on which a stranger listens.
func TestKEY08StrangersKeydIsNotSpokenTo(t *testing.T) {
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, keys(t)...)
	s.Start(t)
	if c, err := keyring.Open(t.Context(), keyring.Config{Socket: s.Socket, UID: keydtest.StrangerUID}, quiet); err == nil {
		c.Close()
		t.Error("connected to a keyd of another user")
	} else if !strings.Contains(err.Error(), "uid 61001") {
		t.Errorf("got %v, want the uid named", err)
	}
	open(t, keyring.Config{Socket: s.Socket, UID: keydtest.KeydUID})
}

func TestStrictRefusesSpawn(t *testing.T) {
	spawn := &keyring.Spawn{Binary: keydtest.Binary(), Config: "keyd.yaml"}
	for name, cfg := range map[string]keyring.Config{
		"strict and spawn": {Strict: true, Spawn: spawn},
		"socket and spawn": {Socket: "/run/x", Spawn: spawn},
		"neither":          {Strict: true},
		"no config":        {Spawn: &keyring.Spawn{}},
		"negative uid":     {Socket: "/run/x", UID: -1},
	} {
		if c, err := keyring.Open(t.Context(), cfg, quiet); err == nil {
			c.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	err := keyring.Config{Strict: true, Spawn: spawn}.Check()
	if err == nil || !strings.Contains(err.Error(), "strict") {
		t.Errorf("got %v, want an error about strict", err)
	}
}

func TestOpenSaysWhyThereIsNoKeyd(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), time.Second) // one attempt on the busiest machine
	defer stop()
	if _, err := keyring.Open(ctx, keyring.Config{Socket: "/nowhere/keyd.sock"}, quiet); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

func TestOpenWaitsForAKeydThatStarts(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, keys(t)...)
	opened := make(chan error, 1)
	go func() {
		c, err := keyring.Open(context.Background(), keyring.Config{Socket: s.Socket}, quiet)
		if err == nil {
			defer c.Close()
		}
		opened <- err
	}()
	s.Start(t)
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// KEY-10: a keyd that is killed takes no key with it and nothing else takes over; the next one serves the same signer.
func TestKEY10Restart(t *testing.T) {
	t.Parallel()
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	p := s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	key := signer(t, c)
	p.Kill()
	began := time.Now()
	if err := sign(key); !errors.Is(err, keyring.ErrUnavailable) {
		t.Errorf("without a keyd: got %v, want %v", err, keyring.ErrUnavailable)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("failing took %v, want about 6s", took)
	}
	if err := c.Ready(); !errors.Is(err, keyring.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, keyring.ErrUnavailable)
	}
	p = s.Start(t)
	keydtest.Eventually(t, "the client is back", c.Ready)
	if err := sign(key); err != nil {
		t.Errorf("after a restart: %v", err)
	}

	// Another key under the same name is another key.
	p.Kill()
	all[0].Private = p256(t)
	s.WriteKey(t, all[0])
	s.Start(t)
	keydtest.Eventually(t, "the client is back", c.Ready)
	if err := sign(key); !errors.Is(err, keyring.ErrRefused) || !strings.Contains(err.Error(), "unknown_key") {
		t.Errorf("after the key was replaced: got %v, want unknown_key", err)
	}
	if err := sign(signer(t, c)); err != nil {
		t.Errorf("the new key: %v", err)
	}
}

// A request that is under way when keyd dies is sent again to the next keyd.
func TestRestartWithinTheDeadlineIsNotNoticed(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, keys(t)...)
	p := s.Start(t)
	key := signer(t, open(t, keyring.Config{Socket: s.Socket}))
	p.Stop(t)
	result := make(chan error, 1)
	go func() { result <- sign(key) }()
	p.Kill()
	s.Start(t)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// KEY-10: a hung keyd fails requests within their deadline, says so, and is spoken to again when it wakes.
func TestKEY10Hang(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, keys(t)...)
	p := s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	key := signer(t, c)
	p.Stop(t)
	var wg sync.WaitGroup
	began := time.Now()
	for range 300 { // more than may wait at once
		wg.Go(func() {
			if err := sign(key); !errors.Is(err, keyring.ErrUnavailable) {
				t.Errorf("got %v, want %v", err, keyring.ErrUnavailable)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > time.Minute {
		t.Errorf("failing took %v, want about 6s", took)
	}
	keydtest.Eventually(t, "the client says that it is not ready", func() error {
		if c.Ready() == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	p.Signal(t, syscall.SIGCONT)
	keydtest.Eventually(t, "signatures come back", func() error { return sign(key) })
}

// A hang is noticed although nobody asks for anything.
func TestKEY10HangOfAnIdleKeydIsNoticed(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, keys(t)...)
	p := s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	p.Stop(t)
	keydtest.Eventually(t, "the client says that it is not ready", func() error {
		if c.Ready() == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	p.Signal(t, syscall.SIGCONT)
	keydtest.Eventually(t, "the client is ready", c.Ready)
}

// connect is a program that opens a client as the user it runs as.
func connect(args []string) error {
	cfg := keyring.Config{Socket: args[0], UID: os.Geteuid(), Strict: args[1] == "strict"}
	c, err := keyring.Open(context.Background(), cfg, quiet)
	if err != nil {
		return err
	}
	return c.Close()
}

func TestStrictRefusesAKeydOfOurOwnUser(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.KeydUID}, keys(t)...)
	s.Start(t)
	if out, err := keydtest.As(t, keydtest.KeydUID, "connect", s.Socket, "strict").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("strict forbids")) {
		t.Errorf("strict: got %v %s", err, out)
	}
	if out, err := keydtest.As(t, keydtest.KeydUID, "connect", s.Socket, "relaxed").CombinedOutput(); err != nil {
		t.Errorf("not strict: got %v %s", err, out)
	}
}

func TestChildIsRestartedAndEndsWithUs(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, nil, keys(t)...)
	c := open(t, keyring.Config{Spawn: &keyring.Spawn{Binary: keydtest.Binary(), Config: s.Config}})
	key := signer(t, c)
	child, err := c.Status(t.Context())
	if err != nil || child.Mode != "child" {
		t.Fatalf("got mode %q %v, want child", child.Mode, err)
	}
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		if err := syscall.Kill(child.PID, how); err != nil {
			t.Fatal(err)
		}
		before := child.PID
		keydtest.Eventually(t, "a new child signs", func() error {
			if child, err = c.Status(t.Context()); err != nil {
				return err
			}
			if child.PID == before {
				return errors.New("the old child answers")
			}
			return sign(key)
		})
	}
	c.Close()
	if err := syscall.Kill(child.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child is still there: %v", err)
	}
	if err := sign(key); err == nil {
		t.Error("a closed client signed")
	}
}

// A child that cannot start is tried again with growing pauses, not in a tight loop.
func TestChildRestartsAreBounded(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, nil, keys(t)...)
	counter := filepath.Join(s.Dir, "starts")
	script := filepath.Join(s.Dir, "keyd.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho start >> "+counter+"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
	defer stop()
	_, err := keyring.Open(ctx, keyring.Config{Spawn: &keyring.Spawn{Binary: script, Config: s.Config}}, quiet)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v, want the exit status", err)
	}
	starts, err := os.ReadFile(counter)
	if n := bytes.Count(starts, []byte("\n")); err != nil || n < 2 || n > 12 {
		t.Errorf("%d starts in 4 s (%v), want 2 to 12", n, err)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, keys(t)...)
	s.Start(t)
	before := goleak.IgnoreCurrent()
	c, err := keyring.Open(t.Context(), keyring.Config{Socket: s.Socket}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := sign(signer(t, c)); err != nil {
		t.Error(err)
	}
	c.Close()
	goleak.VerifyNone(t, before)
}
