package jwks

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/authn/remote"
	"sallyport/test/fakeidp"
)

// bed is an issuer, a set of its keys and a clock that only the test moves.
type bed struct {
	*Set
	idp *fakeidp.Provider
	now atomic.Pointer[time.Time]
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{idp: fakeidp.Start(t, fakeidp.Client{ID: "c"})}
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	b.now.Store(&start)
	b.Set = New(Config{Issuer: b.idp.Issuer, URL: b.idp.Issuer + "/jwks", Client: client(t, b.idp.Issuer), Now: b.clock})
	return b
}

func client(t *testing.T, issuer string) *http.Client {
	t.Helper()
	base, err := url.Parse(issuer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.NewClient(remote.Config{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func (b *bed) clock() time.Time { return *b.now.Load() }

func (b *bed) wait(d time.Duration) {
	later := b.clock().Add(d)
	b.now.Store(&later)
}

// idle waits for the fetch under way, so that a count of calls is final.
func (b *bed) idle(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	running := b.current
	b.mu.Unlock()
	if running != nil {
		<-running.done
	}
}

func (b *bed) wantKey(t *testing.T, k *fakeidp.Key) {
	t.Helper()
	got, err := b.Key(t.Context(), k.ID, k.Method.Alg())
	if err != nil || !sameKey(got, k.Private.Public()) {
		t.Fatalf("got %v (%v), want the key %s", got, err, k.ID)
	}
}

func (b *bed) wantError(t *testing.T, kid, alg string, want error) {
	t.Helper()
	if got, err := b.Key(t.Context(), kid, alg); !errors.Is(err, want) || got != nil {
		t.Fatalf("key %.20q for %s: got %v, %v; want %v", kid, alg, got, err, want)
	}
}

func TestKnownKeysCostNoCall(t *testing.T) {
	b := newBed(t)
	key := b.idp.Keys()[0]
	for range 1000 {
		b.wantKey(t, key)
	}
	if n := b.idp.Calls("jwks"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Key(ctx, key.ID, "ES256") }); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

func TestConcurrentLookupsShareOneFetch(t *testing.T) {
	b := newBed(t)
	entered, release := make(chan bool, 100), make(chan bool)
	b.idp.Do(fakeidp.Script{JWKS: func(http.ResponseWriter, *http.Request) bool { entered <- true; <-release; return false }})
	key := b.idp.Keys()[0]
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := b.Key(t.Context(), key.ID, "ES256"); err != nil {
				t.Errorf("look-up: %v", err)
			}
		})
	}
	<-entered
	close(release)
	all.Wait()
	if n := b.idp.Calls("jwks"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// JWT-36: a new key works at once when nobody asked for an unknown one, and after 30 s in any case.
func TestJWT36NewKeyWorksWithin30Seconds(t *testing.T) {
	b := newBed(t)
	b.wantKey(t, b.idp.Keys()[0])
	b.idp.Rotate()
	b.wantKey(t, b.idp.Keys()[0])

	b.idp.Rotate() // right after an unknown key was looked for
	b.wantError(t, b.idp.Keys()[0].ID, "ES256", ErrUnknownKey)
	b.wait(UnknownKey)
	b.wantKey(t, b.idp.Keys()[0])
}

// JWT-36: 1000 random key ids per second, for five minutes, cost one call per 30 s beside the regular ones.
func TestJWT36UnknownKeysCostOneCallPer30Seconds(t *testing.T) {
	b := newBed(t)
	b.wantKey(t, b.idp.Keys()[0])
	const seconds = 300
	for range seconds {
		for range 1000 {
			b.wantError(t, rand.Text(), "ES256", ErrUnknownKey)
		}
		b.wait(time.Second)
	}
	b.idle(t)
	if n, most := b.idp.Calls("jwks"), 1+seconds/30+1; n > most {
		t.Errorf("%d calls in %d s, want at most %d", n, seconds, most)
	}
	b.wantKey(t, b.idp.Keys()[0])
}

// JWT-36: a key that the issuer withdraws is refused when the keys are older than five minutes, however rarely it is used.
func TestJWT36WithdrawnKeyIsRefusedAfterFiveMinutes(t *testing.T) {
	for name, use := range map[string]func(*bed, *fakeidp.Key){
		"used all the time": func(b *bed, k *fakeidp.Key) {
			for range 5 {
				b.wait(time.Minute)
				_, _ = b.Key(t.Context(), k.ID, "ES256")
			}
		},
		"never used between": func(b *bed, _ *fakeidp.Key) { b.wait(Refresh) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			old := b.idp.Keys()[0]
			b.wantKey(t, old)
			b.idp.Rotate()
			b.wantKey(t, old) // within the bound
			use(b, old)
			b.idle(t)
			b.wantError(t, old.ID, "ES256", ErrUnknownKey)
		})
	}
}

func TestEmptySetWithdrawsAllKeys(t *testing.T) {
	b := newBed(t)
	old := b.idp.Keys()[0]
	b.wantKey(t, old)
	b.idp.UseKeys()
	b.wait(Refresh)
	b.wantError(t, old.ID, "ES256", ErrUnknownKey)
}

func TestOutageIsToleratedForADay(t *testing.T) {
	b := newBed(t)
	key := b.idp.Keys()[0]
	b.wantKey(t, key)
	b.idp.Do(fakeidp.Script{Down: true})
	for range 23 {
		b.wait(time.Hour)
		b.wantKey(t, key)
	}
	b.wantError(t, "another", "ES256", ErrUnavailable) // it may exist: nobody knows
	b.wait(time.Hour)
	b.wantError(t, key.ID, "ES256", ErrUnavailable)
	b.idp.Do(fakeidp.Script{})
	b.wait(Retry)
	b.wantKey(t, key)
}

func TestOutageCostsOneCallPer30SecondsAndNobodyWaitsTwice(t *testing.T) {
	b := newBed(t)
	key := b.idp.Keys()[0]
	b.wantKey(t, key)
	b.wait(Refresh)
	var tried atomic.Int32
	b.idp.Do(fakeidp.Script{JWKS: func(w http.ResponseWriter, _ *http.Request) bool {
		tried.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}})
	for range 120 {
		b.wantKey(t, key)
		b.idle(t)
		b.wait(time.Second)
	}
	if n := tried.Load(); n < 3 || n > 5 {
		t.Errorf("%d calls in two minutes of outage, want one per 30 s", n)
	}

	stall := make(chan bool)
	b.idp.Do(fakeidp.Script{JWKS: func(http.ResponseWriter, *http.Request) bool { <-stall; return false }})
	b.wait(Retry)
	b.wantKey(t, key) // while the call hangs
	close(stall)
	b.idle(t)
}

func TestLookupThatIsGivenUpDoesNotCancelTheFetch(t *testing.T) {
	b := newBed(t)
	entered, release := make(chan bool), make(chan bool)
	b.idp.Do(fakeidp.Script{JWKS: func(http.ResponseWriter, *http.Request) bool { entered <- true; <-release; return false }})
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	key := b.idp.Keys()[0]
	go func() { _, err := b.Key(ctx, key.ID, "ES256"); given <- err }()
	<-entered
	cancel()
	if err := <-given; !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want unavailable because given up", err)
	}
	close(release)
	b.wantKey(t, key)
	if n := b.idp.Calls("jwks"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// JWT-39: equal key ids of two issuers are two keys.
func TestJWT39SetsOfTwoIssuersNeverMix(t *testing.T) {
	one, other := newBed(t), newBed(t)
	keys := [2]*fakeidp.Key{fakeidp.NewKey("ES256"), fakeidp.NewKey("ES256")}
	keys[0].ID, keys[1].ID = "same", "same"
	one.idp.UseKeys(keys[0])
	other.idp.UseKeys(keys[1])
	one.wantKey(t, keys[0])
	other.wantKey(t, keys[1])
	token := keys[0].Sign(jwt.MapClaims{"sub": "x"})
	if _, err := other.VerifySignature(t.Context(), token); !errors.Is(err, ErrSignature) {
		t.Errorf("the other issuer's set: %v, want %v", err, ErrSignature)
	}
	if _, err := one.VerifySignature(t.Context(), token); err != nil {
		t.Errorf("the issuer's own set: %v", err)
	}
}

func TestEveryAlgorithmHasItsKindOfKey(t *testing.T) {
	b := newBed(t)
	all := map[string]*fakeidp.Key{}
	var published []*fakeidp.Key
	for _, alg := range Algorithms() {
		all[alg] = fakeidp.NewKey(alg)
		published = append(published, all[alg])
	}
	b.idp.UseKeys(published...)
	for alg, key := range all {
		b.wantKey(t, key)
		payload, err := b.VerifySignature(t.Context(), key.Sign(jwt.MapClaims{"sub": alg}))
		if err != nil || !bytes.Contains(payload, []byte(alg)) {
			t.Errorf("%s: %s, %v", alg, payload, err)
		}
		for _, other := range append(Algorithms(), "none", "HS256", "HS512", "nOnE", "") {
			if other != alg { // JWT-30: the algorithm is the key's
				b.wantError(t, key.ID, other, ErrUnknownKey)
			}
		}
	}
}

func TestKeysThatMustNotVerifyAreLeftOut(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := fakeidp.NewKey("ES256")
	change := func(members map[string]any) map[string]any {
		j := good.JWK()
		for name, value := range members {
			if j[name] = value; value == nil {
				delete(j, name)
			}
		}
		return j
	}
	weak := &fakeidp.Key{ID: "weak", Method: jwt.SigningMethodRS256, Private: small}
	for name, tc := range map[string]struct {
		jwk  map[string]any
		alg  string
		used bool
	}{
		"as it should be":    {change(nil), "ES256", true},
		"alg not stated":     {change(map[string]any{"alg": nil}), "ES256", true},
		"use not stated":     {change(map[string]any{"use": nil}), "ES256", true},
		"bad certificate":    {change(map[string]any{"x5c": []string{"AAAA"}, "x5u": "http://evil.example/"}), "ES256", true},
		"for encryption":     {change(map[string]any{"use": "enc"}), "ES256", false},
		"ops for wrapping":   {change(map[string]any{"key_ops": []string{"wrapKey"}}), "ES256", false},
		"alg of another":     {change(map[string]any{"alg": "ES384"}), "ES256", false},
		"alg of another, it": {change(map[string]any{"alg": "ES384"}), "ES384", false},
		"alg is symmetric":   {change(map[string]any{"alg": "HS256"}), "ES256", false},
		"symmetric":          {map[string]any{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": good.ID}, "HS256", false},
		"not on the curve":   {change(map[string]any{"x": change(nil)["y"]}), "ES256", false},
		"unknown curve":      {change(map[string]any{"crv": "secp256k1"}), "ES256", false},
		"unknown kind":       {change(map[string]any{"kty": "PQ"}), "ES256", false},
		"RSA of 1024 bits":   {weak.JWK(), "RS256", false},
		"kid is no text":     {change(map[string]any{"kid": 7}), "ES256", false},
		"kid of a megabyte":  {change(map[string]any{"kid": string(bytes.Repeat([]byte("k"), 500_000))}), "ES256", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			set, err := json.Marshal(map[string]any{"keys": []any{tc.jwk, map[string]any{"kty": "??"}, nil, 7}})
			if err != nil {
				t.Fatal(err)
			}
			b.idp.Do(fakeidp.Script{JWKS: func(w http.ResponseWriter, _ *http.Request) bool { w.Write(set); return true }})
			kid, _ := tc.jwk["kid"].(string)
			if kid == "" {
				kid = good.ID
			}
			got, err := b.Key(t.Context(), kid, tc.alg)
			if used := err == nil; used != tc.used {
				t.Errorf("got %v, %v; want it used: %v", got, err, tc.used)
			}
			if err != nil && !errors.Is(err, ErrUnknownKey) {
				t.Errorf("got %v, want %v", err, ErrUnknownKey)
			}
		})
	}
}

// OpenID Connect Core §10.1: without a key id there must be no choice.
func TestTokenWithoutKeyIDNeedsTheOnlyKey(t *testing.T) {
	b := newBed(t)
	one, other, third := fakeidp.NewKey("ES256"), fakeidp.NewKey("RS256"), fakeidp.NewKey("ES256")
	b.idp.UseKeys(one, other)
	if got, err := b.Key(t.Context(), "", "ES256"); err != nil || !sameKey(got, one.Private.Public()) {
		t.Errorf("the only ES256 key: %v", err)
	}
	b.idp.UseKeys(one, other, third)
	b.wait(Refresh)
	b.wantError(t, "", "ES256", ErrUnknownKey)

	third.ID = one.ID // two keys of one name: neither
	b.idp.UseKeys(one, third)
	b.wait(Refresh)
	b.wantError(t, one.ID, "ES256", ErrUnknownKey)
	b.idp.UseKeys(one, one) // one key listed twice
	b.wait(Refresh)
	b.wantKey(t, one)
}

// OIDC-15 for keys: whatever the issuer answers, the old keys stay in use and memory stays bounded.
func TestMalformedHugeAndSlowSetsAreOutages(t *testing.T) {
	many := func(n int) string {
		var set bytes.Buffer
		set.WriteString(`{"keys":[`)
		for i := range n {
			if i > 0 {
				set.WriteByte(',')
			}
			j, err := json.Marshal(fakeidp.NewKey("ES256").JWK())
			if err != nil {
				t.Fatal(err)
			}
			set.Write(j)
		}
		return set.String() + `]}`
	}
	for name, serve := range map[string]http.HandlerFunc{
		"HTML":       func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"null":       func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "null") },
		"no keys":    func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"key":[]}`) },
		"keys null":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":null}`) },
		"keys text":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":"x"}`) },
		"half":       func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":[`) },
		"nothing":    func(http.ResponseWriter, *http.Request) {},
		"too many":   func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, many(MaxKeys+1)) },
		"endless":    func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, endless{}) },
		"not found":  http.NotFound,
		"overloaded": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"gzip": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte{31, 139})
		},
		"created": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, `{"keys":[]}`)
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://evil.example/jwks", http.StatusFound)
		},
		"cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"cut half way": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"keys":[`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			hostile := fakeidp.Script{JWKS: func(w http.ResponseWriter, r *http.Request) bool { serve(w, r); return true }}
			key := b.idp.Keys()[0]
			b.idp.Do(hostile)
			b.wantError(t, key.ID, "ES256", ErrUnavailable)
			b.idp.Do(fakeidp.Script{})
			b.wait(Retry)
			b.wantKey(t, key)
			b.idp.Do(hostile)
			b.wait(Refresh)
			b.wantKey(t, key)
		})
	}
	t.Run("as many as there may be", func(t *testing.T) {
		b := newBed(t)
		set := many(MaxKeys)
		b.idp.Do(fakeidp.Script{JWKS: func(w http.ResponseWriter, _ *http.Request) bool { io.WriteString(w, set); return true }})
		b.wantError(t, "none of them", "ES256", ErrUnknownKey)
	})
	t.Run("a drip", func(t *testing.T) {
		b := newBed(t)
		b.cfg.Client.Timeout = time.Second
		b.idp.Do(fakeidp.Script{JWKS: func(w http.ResponseWriter, r *http.Request) bool {
			for tick := time.NewTicker(50 * time.Millisecond); ; {
				select {
				case <-tick.C:
					fmt.Fprint(w, " ")
					w.(http.Flusher).Flush()
				case <-r.Context().Done():
					return true
				}
			}
		}})
		b.wantError(t, "x", "ES256", ErrUnavailable)
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte(" "), len(p))), nil }

func TestSetFindsItsKeysByTheIssuersDiscovery(t *testing.T) {
	b := newBed(t)
	b.cfg.URL = ""
	key := b.idp.Keys()[0]
	b.wantKey(t, key)

	elsewhere := newBed(t)
	b.idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["jwks_uri"] = elsewhere.idp.Issuer + "/jwks" }})
	b.wait(Refresh)
	b.wantKey(t, elsewhere.idp.Keys()[0])
	b.wantError(t, key.ID, "ES256", ErrUnknownKey)

	for name, change := range map[string]func(map[string]any){
		"another issuer": func(d map[string]any) { d["issuer"] = b.idp.Issuer + "/" },
		"case of issuer": func(d map[string]any) { d["Issuer"] = d["issuer"]; delete(d, "issuer") },
		"in the clear":   func(d map[string]any) { d["jwks_uri"] = "http://keys.example/" },
		"no address":     func(d map[string]any) { delete(d, "jwks_uri") },
		"a file":         func(d map[string]any) { d["jwks_uri"] = "file:///etc/passwd" },
	} {
		t.Run(name, func(t *testing.T) {
			bad := newBed(t)
			bad.cfg.URL = ""
			bad.idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["issuer"] = bad.idp.Issuer; change(d) }})
			bad.wantError(t, bad.idp.Keys()[0].ID, "ES256", ErrUnavailable)
		})
	}
}

// JWT-01, JWT-03, JWT-05, JWT-06, JWT-08, JWT-11, JWT-14, JWT-30: what a token says about how to verify it is not followed.
func TestForgedSignaturesAreRefused(t *testing.T) {
	b := newBed(t)
	rsaKey, edKey := fakeidp.NewKey("RS256"), fakeidp.NewKey("EdDSA")
	good, evil := b.idp.Keys()[0], fakeidp.NewKey("ES256")
	b.idp.UseKeys(good, rsaKey, edKey)
	trap := newBed(t)
	claims := jwt.MapClaims{"sub": "root"}
	signed := good.Sign(claims)
	unsigned := signed[:bytes.LastIndexByte([]byte(signed), '.')+1]
	evilAs := func(header map[string]any) string {
		header["kid"] = good.ID
		return fakeidp.SignWith(jwt.SigningMethodES256, header, claims, evil.Private)
	}
	for name, token := range map[string]string{
		"JWT-01 none":              fakeidp.Sign(jwt.SigningMethodNone, good.ID, claims, jwt.UnsafeAllowNoneSignatureType),
		"JWT-03 no signature":      unsigned,
		"JWT-05 jwk in the header": evilAs(map[string]any{"jwk": evil.JWK()}),
		"JWT-06 jku":               evilAs(map[string]any{"jku": trap.idp.Issuer + "/jwks"}),
		"JWT-06 x5u":               evilAs(map[string]any{"x5u": trap.idp.Issuer + "/jwks"}),
		"JWT-06 x5c":               evilAs(map[string]any{"x5c": []string{"AAAA"}}),
		"JWT-06 kid is a URL":      fakeidp.Sign(jwt.SigningMethodES256, trap.idp.Issuer+"/jwks", claims, evil.Private),
		"JWT-08 100,000 dots":      string(bytes.Repeat([]byte("."), 100_000)),
		"JWT-14 r = s = 0":         unsigned + string(bytes.Repeat([]byte("A"), 86)),
		"JWT-30 as HMAC":           fakeidp.Sign(jwt.SigningMethodHS256, good.ID, claims, []byte("secret")),
		"other kind of key":        fakeidp.Sign(jwt.SigningMethodES256, rsaKey.ID, claims, evil.Private),
		"kid of another key":       fakeidp.Sign(jwt.SigningMethodES256, edKey.ID, claims, good.Private),
	} {
		if payload, err := b.VerifySignature(t.Context(), token); err == nil {
			t.Errorf("%s: verified %s", name, payload)
		}
	}
	if _, err := b.VerifySignature(t.Context(), signed); err != nil {
		t.Errorf("JWT-19, the control: %v", err)
	}
	if n := trap.idp.Calls("jwks"); n != 0 {
		t.Errorf("%d calls to an address out of a token", n)
	}
}

// Every parsed set holds public keys only, of kinds that some algorithm verifies by.
func FuzzParse(f *testing.F) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		set, err := json.Marshal(map[string]any{"keys": []any{fakeidp.NewKey(alg).JWK()}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(set)
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQ","e":"AQAB","d":"AQ"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := parse(body)
		if err != nil && keys != nil {
			t.Fatal("keys beside an error")
		}
		for kid, all := range keys {
			for _, k := range all {
				switch k.public.(type) {
				case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
				default:
					t.Fatalf("%q: %T", kid, k.public)
				}
				if !slices.ContainsFunc(Algorithms(), k.verifies) {
					t.Fatalf("%q: no algorithm verifies by this %T", kid, k.public)
				}
			}
		}
	})
}

func BenchmarkKnownKey(b *testing.B) {
	idp := fakeidp.Start(b, fakeidp.Client{ID: "c"})
	set := New(Config{Issuer: idp.Issuer, URL: idp.Issuer + "/jwks", Client: http.DefaultClient})
	kid := idp.Keys()[0].ID
	var key crypto.PublicKey
	for b.Loop() {
		var err error
		if key, err = set.Key(context.Background(), kid, "ES256"); err != nil {
			b.Fatal(err)
		}
	}
	_ = key
}
