package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/authn"
	"sallyport/authn/session"
)

const (
	issuer = "https://auth.corp.example:8443"
	wiki   = "https://wiki.corp.example:8443"
)

// signer is a key that would live in the key process.
type signer struct {
	id     string
	key    crypto.Signer
	calls  atomic.Int64
	down   atomic.Bool
	before func(ctx context.Context) error
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id: "assertion-1", key: key}
}

func (s *signer) KeyID() string            { return s.id }
func (s *signer) Public() crypto.PublicKey { return s.key.Public() }

func (s *signer) SignJWT(ctx context.Context, input []byte) ([]byte, error) {
	s.calls.Add(1)
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return nil, err
		}
	}
	if s.down.Load() {
		return nil, errors.New("key process is gone")
	}
	digest := sha256.Sum256(input)
	r, q, err := ecdsa.Sign(rand.Reader, s.key.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		return nil, err
	}
	return append(r.FillBytes(make([]byte, 32)), q.FillBytes(make([]byte, 32))...), nil
}

func newMinter(t testing.TB, s *signer) *Minter {
	t.Helper()
	m, err := NewMinter(MinterConfig{Issuer: issuer, Signer: s})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func alice(version int64) *session.Session {
	return &session.Session{ID: "s1", Version: version, Identity: &authn.Identity{
		Kind: authn.User, Provider: "corp", Subject: "alice-1", Email: "alice@corp.example", EmailVerified: true,
		Groups: []string{"a,b", "staff"},
	}}
}

func mint(t testing.TB, m *Minter, s *session.Session, audience string) string {
	t.Helper()
	token, err := m.Assertion(t.Context(), s, audience)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// An app verifies an assertion with nothing but the published document.
func TestAppVerifiesAnAssertionByTheKeySet(t *testing.T) {
	s, retired := newSigner(t), newSigner(t)
	retired.id = "assertion-0"
	m, err := NewMinter(MinterConfig{Issuer: issuer, Signer: s, Further: []Signer{retired}})
	if err != nil {
		t.Fatal(err)
	}
	var claims Claims
	parsed, err := jwt.ParseWithClaims(mint(t, m, alice(1), wiki), &claims, keyFrom(t, m.JWKS()),
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithAudience(wiki), jwt.WithIssuedAt(), jwt.WithExpirationRequired())
	if err != nil {
		t.Fatal(err)
	}
	if claims.Subject != "corp|alice-1" || claims.Email != "alice@corp.example" || fmt.Sprint(claims.Groups) != "[a,b staff]" || len(claims.Groups) != 2 {
		t.Errorf("claims %+v", claims)
	}
	if lifetime := claims.ExpiresAt.Sub(claims.IssuedAt.Time); lifetime != time.Minute {
		t.Errorf("lifetime %s, want a minute", lifetime)
	}
	if parsed.Header["kid"] != "assertion-1" || parsed.Header["typ"] != "JWT" || claims.ID != "" {
		t.Errorf("header %v, jti %q: want our key id, and no jti since assertions are reused", parsed.Header, claims.ID)
	}
}

// keyFrom reads a JWKS the way an app's library would.
func keyFrom(t *testing.T, document []byte) jwt.Keyfunc {
	t.Helper()
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(document, &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("key set %s (%v): want two keys", document, err)
	}
	return func(token *jwt.Token) (any, error) {
		for _, k := range set.Keys {
			if k["kid"] == token.Header["kid"] && k["kty"] == "EC" && k["crv"] == "P-256" && k["use"] == "sig" && k["alg"] == "ES256" {
				return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, coordinate(t, k["x"]), coordinate(t, k["y"])))
			}
		}
		return nil, errors.New("no such key")
	}
}

func coordinate(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != 32 {
		t.Fatalf("coordinate %q: want 32 bytes (RFC 7518 §6.2.1.2)", text)
	}
	return raw
}

func TestNobodysGroupsAreAnEmptyList(t *testing.T) {
	s := alice(1)
	s.Identity.Groups = nil
	payload := strings.Split(mint(t, newMinter(t, newSigner(t)), s, wiki), ".")[1]
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || !strings.Contains(string(raw), `"groups":[]`) {
		t.Errorf("payload %s (%v): want an empty list of groups", raw, err)
	}
}

func TestAssertionIsReusedUntilTwentySecondsRemain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		m := newMinter(t, s)
		first := mint(t, m, alice(1), wiki)
		time.Sleep(39 * time.Second)
		if mint(t, m, alice(1), wiki) != first || s.calls.Load() != 1 {
			t.Error("after 39 s: want the same assertion")
		}
		time.Sleep(time.Second)
		if mint(t, m, alice(1), wiki) == first || s.calls.Load() != 2 {
			t.Error("after 40 s: want a new assertion")
		}
	})
}

func TestAssertionIsReusedForSameSessionAppAndVersionOnly(t *testing.T) {
	m := newMinter(t, newSigner(t))
	other := alice(1)
	other.ID = "s2"
	seen := map[string]bool{}
	for _, token := range []string{
		mint(t, m, alice(1), wiki), mint(t, m, alice(2), wiki), mint(t, m, alice(1), "https://payroll.corp.example"), mint(t, m, other, wiki),
	} {
		seen[token] = true
	}
	if len(seen) != 4 || !seen[mint(t, m, alice(1), wiki)] {
		t.Errorf("got %d assertions, want four that are each reused", len(seen))
	}
}

// A reload, or a memory that forgot, makes a program anew under the same name: what apps are told of it is never what they
// were told before.
func TestAssertionOfAProgramMadeAnewIsNew(t *testing.T) {
	s, retired, now := newSigner(t), newSigner(t), time.Now()
	retired.id = "assertion-0"
	m, err := NewMinter(MinterConfig{Issuer: issuer, Signer: s, Further: []Signer{retired}})
	if err != nil {
		t.Fatal(err)
	}
	told := func(group string) string {
		who, err := authn.New(authn.Identity{Kind: authn.Service, Provider: "certificate", Subject: "backup", Groups: []string{group}})
		if err != nil {
			t.Fatal(err)
		}
		return mint(t, m, session.ForMachine("certificate_backup", who, now), wiki)
	}
	was := told("operators")
	var claims Claims
	if _, err := jwt.ParseWithClaims(told("nobodies"), &claims, keyFrom(t, m.JWKS())); err != nil || claims.Groups[0] != "nobodies" {
		t.Errorf("told %v, %v", claims.Groups, err)
	}
	if _, err := jwt.ParseWithClaims(was, &claims, keyFrom(t, m.JWKS())); err != nil || claims.Groups[0] != "operators" {
		t.Errorf("told before %v, %v", claims.Groups, err)
	}
}

func TestManyRequestsShareOneSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		release := make(chan struct{})
		s.before = func(context.Context) error { <-release; return nil }
		m := newMinter(t, s)
		var running sync.WaitGroup
		for range 100 {
			running.Go(func() { mint(t, m, alice(1), wiki) })
		}
		synctest.Wait()
		close(release)
		running.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d signatures, want one", n)
		}
	})
}

func TestWaiterGivesUpWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		s.before = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		m := newMinter(t, s)
		var running sync.WaitGroup
		running.Go(func() {
			if _, err := m.Assertion(t.Context(), alice(1), wiki); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a hanging key: got %v", err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.Assertion(ctx, alice(1), wiki); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the request's own end", err)
		}
		running.Wait()
	})
}

// Without the key process an assertion is used to its end, and then there is none.
func TestKeyProcessGoneFailsWhenTheAssertionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		m := newMinter(t, s)
		first := mint(t, m, alice(1), wiki)
		s.down.Store(true)
		time.Sleep(57 * time.Second)
		if mint(t, m, alice(1), wiki) != first {
			t.Error("after 57 s: want the assertion that there is")
		}
		time.Sleep(2 * time.Second)
		if token, err := m.Assertion(t.Context(), alice(1), wiki); err == nil {
			t.Errorf("after 59 s: got %q, want an error", token)
		}
		if _, err := m.Assertion(t.Context(), alice(2), wiki); err == nil {
			t.Error("an assertion that was never signed was handed out")
		}
		s.down.Store(false)
		if mint(t, m, alice(1), wiki) == first {
			t.Error("key process is back: want a new assertion")
		}
	})
}

// Nobody who holds a usable assertion waits for the key process.
func TestHangingKeyProcessDelaysOneRequestAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t)
		m := newMinter(t, s)
		first := mint(t, m, alice(1), wiki)
		s.before = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		time.Sleep(45 * time.Second)
		var running sync.WaitGroup
		running.Go(func() { mint(t, m, alice(1), wiki) })
		synctest.Wait()
		begin := time.Now()
		if mint(t, m, alice(1), wiki) != first || time.Since(begin) != 0 {
			t.Errorf("waited %s for an assertion that was there", time.Since(begin))
		}
		running.Wait()
	})
}

func TestMemoryIsBounded(t *testing.T) {
	s := newSigner(t)
	m, err := NewMinter(MinterConfig{Issuer: issuer, Signer: s, Capacity: 20})
	if err != nil {
		t.Fatal(err)
	}
	kept := alice(1)
	first := mint(t, m, kept, wiki)
	for i := range 500 {
		other := alice(1)
		other.ID = fmt.Sprint("other-", i)
		mint(t, m, other, wiki)
		if mint(t, m, kept, wiki) != first {
			t.Fatal("an assertion in use was forgotten")
		}
	}
	count := 0
	for _, g := range []*generation{m.recent.Load(), m.older.Load()} {
		g.entries.Range(func(any, any) bool { count++; return true })
	}
	if count > 20 {
		t.Errorf("%d assertions are remembered, want at most 20", count)
	}
}

func TestKeysThatAreNotP256AreRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{p384, rsaKey} {
		if _, err := NewMinter(MinterConfig{Issuer: issuer, Signer: &signer{key: key}}); err == nil {
			t.Errorf("%T was accepted", key)
		}
	}
	if _, err := NewMinter(MinterConfig{Signer: newSigner(t)}); err == nil {
		t.Error("no issuer is no error")
	}
}

// asn1Signer answers in the form that JWS does not use.
type asn1Signer struct{ *signer }

func (s asn1Signer) SignJWT(_ context.Context, input []byte) ([]byte, error) {
	digest := sha256.Sum256(input)
	return s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func TestSignatureOfTheWrongFormIsRefused(t *testing.T) {
	if token, err := Sign(t.Context(), asn1Signer{newSigner(t)}, jwt.RegisteredClaims{}); err == nil {
		t.Errorf("got %q, want an error", token)
	}
}

func BenchmarkAssertionReused(b *testing.B) {
	m := newMinter(b, newSigner(b))
	s := alice(1)
	ctx := context.Background()
	if _, err := m.Assertion(ctx, s, wiki); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Assertion(ctx, s, wiki); err != nil {
			b.Fatal(err)
		}
	}
}
