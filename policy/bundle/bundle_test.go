package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	opa "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/keys"
)

const module = "package sallyport.app[\"wiki\"]\n\ndefault decision := {\"allow\": false}\n"

func files() Files {
	return Files{
		"wiki.rego":        []byte(module),
		"corp/data.json":   []byte(`{ "b": 1, "a": [true, null, 1.5] }`),
		"tables/wiki.yaml": []byte("cases: []\n"),
		ManifestName:       []byte(`{"revision": "9f3ecde", "roots": [""]}`),
	}
}

// bundled is files() as they come out of an archive.
func bundled(t testing.TB) Files {
	t.Helper()
	packed, err := files().Pack()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pair is a key of each kind.
func pair(t testing.TB, algorithm string) (private, public string) {
	t.Helper()
	var signer, vouching any
	switch algorithm[:2] {
	case "HS":
		return "a secret of thirty-two bytes or so", "a secret of thirty-two bytes or so"
	case "RS", "PS":
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		signer, vouching = key, &key.PublicKey
	case "ES":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, vouching = key, &key.PublicKey
	default:
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, vouching = private, public
	}
	a, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKIXPublicKey(vouching)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: a})), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

func trust(id, algorithm, public string) *Verification {
	return &Verification{Keys: []Key{{ID: id, Algorithm: algorithm, Key: Secret(public)}}, Required: true}
}

func signed(t testing.TB, f Files, key SigningKey) Files {
	t.Helper()
	if err := f.Sign(key); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSignedBundlesVerify(t *testing.T) {
	for _, algorithm := range []string{"ES256", "EdDSA", "HS256"} {
		private, public := pair(t, algorithm)
		f := signed(t, bundled(t), SigningKey{ID: "ci", Algorithm: algorithm, Private: private})
		if err := f.Verify(trust("ci", algorithm, public)); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if err := f.Verify(trust("other", algorithm, public)); !errors.Is(err, ErrSignature) {
			t.Errorf("%s, a key of another name: %v", algorithm, err)
		}
		_, stranger := pair(t, algorithm)
		if err := f.Verify(trust("ci", algorithm, stranger)); !errors.Is(err, ErrSignature) && algorithm != "HS256" {
			t.Errorf("%s, another key: %v", algorithm, err)
		}
	}
}

// One thing changed at a time: each is noticed.
func TestATamperedBundleIsNotVerified(t *testing.T) {
	private, public := pair(t, "ES256")
	key, trusted := SigningKey{ID: "ci", Algorithm: "ES256", Private: private}, trust("ci", "ES256", public)
	good := signed(t, bundled(t), key)
	for _, name := range slices.Sorted(maps.Keys(good)) {
		changed, gone := maps.Clone(good), maps.Clone(good)
		changed[name] = append(bytes.Clone(good[name][:len(good[name])-1]), ' ', 'x')
		if err := changed.Verify(trusted); err == nil {
			t.Errorf("%s changed, and it is verified", name)
		}
		delete(gone, name)
		if err := gone.Verify(trusted); !errors.Is(err, ErrSignature) {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	more := maps.Clone(good)
	more["more.rego"] = []byte("package more")
	if err := more.Verify(trusted); !errors.Is(err, ErrSignature) {
		t.Errorf("one more file: %v", err)
	}
	for name, text := range map[string]string{
		"no token": `{"signatures": []}`, "two tokens": twice(t, good), "no JSON": `{`, "a plugin": `{"plugin": "mine", "signatures": ["a.b.c"]}`,
		"no signature": unsignedToken(t, good),
	} {
		f := maps.Clone(good)
		f[SignaturesName] = []byte(text)
		if err := f.Verify(trusted); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func twice(t *testing.T, f Files) string {
	t.Helper()
	var config opa.SignaturesConfig
	if err := json.Unmarshal(f[SignaturesName], &config); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(opa.SignaturesConfig{Signatures: []string{config.Signatures[0], config.Signatures[0]}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// unsignedToken is the token with alg none (RFC 8725 §2.1).
func unsignedToken(t *testing.T, f Files) string {
	t.Helper()
	var config opa.SignaturesConfig
	if err := json.Unmarshal(f[SignaturesName], &config); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(config.Signatures[0], ".")
	return fmt.Sprintf(`{"signatures": ["eyJhbGciOiJub25lIiwia2lkIjoiY2kifQ.%s."]}`, parts[1])
}

func TestASignatureIsRequiredOnceThereAreKeys(t *testing.T) {
	_, public := pair(t, "ES256")
	demanding := trust("ci", "ES256", public)
	if err := bundled(t).Verify(demanding); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
	lenient := *demanding
	lenient.Required = false
	if err := bundled(t).Verify(&lenient); err != nil {
		t.Errorf("no signature, none required: %v", err)
	}
	other, _ := pair(t, "ES256")
	if err := signed(t, bundled(t), SigningKey{ID: "ci", Algorithm: "ES256", Private: other}).Verify(&lenient); !errors.Is(err, ErrSignature) {
		t.Errorf("a wrong signature, none required: %v", err)
	}
	if err := bundled(t).Verify(&Verification{Required: true}); err != nil {
		t.Errorf("no keys: %v", err)
	}
	missing := &Verification{Keys: []Key{{ID: "ci", Algorithm: "ES256", File: filepath.Join(t.TempDir(), "gone.pem")}}}
	if err := signed(t, bundled(t), SigningKey{ID: "ci", Algorithm: "ES256", Private: other}).Verify(missing); err == nil || errors.Is(err, ErrSignature) {
		t.Errorf("no key file: %v", err)
	}
}

func TestScopeCounts(t *testing.T) {
	private, public := pair(t, "ES256")
	f := signed(t, bundled(t), SigningKey{ID: "ci", Algorithm: "ES256", Private: private, Scope: "gateway"})
	trusted := trust("ci", "ES256", public)
	if err := f.Verify(trusted); !errors.Is(err, ErrSignature) {
		t.Errorf("no scope wanted: %v", err)
	}
	trusted.Scope = "gateway"
	if err := f.Verify(trusted); err != nil {
		t.Error(err)
	}
}

// Two files of one MD5 or SHA-1 can be made: one to be signed, one to be served.
func TestWeakDigestsProveNothing(t *testing.T) {
	for _, algorithm := range []string{"MD5", "SHA-1"} {
		f := bundled(t)
		if err := f.verifyFiles(map[string]opa.FileInfo{"wiki.rego": {Name: "wiki.rego", Algorithm: algorithm}}); !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), algorithm) {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}

// What we sign, Open Policy Agent's own reader accepts.
func TestOpenPolicyAgentVerifiesOurs(t *testing.T) {
	private, public := pair(t, "RS256")
	packed, err := signed(t, bundled(t), SigningKey{ID: "ci", Private: private}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	read := func(public string) error {
		config := opa.NewVerificationConfig(map[string]*keys.Config{"ci": {Key: public, Algorithm: "RS256"}}, "", "", nil)
		b, err := opa.NewCustomReader(opa.NewTarballLoaderWithBaseURL(bytes.NewReader(packed), "")).WithBundleVerificationConfig(config).Read()
		if err == nil && (b.Manifest.Revision != "9f3ecde" || len(b.Modules) != 1) {
			t.Errorf("read %+v", b.Manifest)
		}
		return err
	}
	if err := read(public); err != nil {
		t.Error(err)
	}
	_, stranger := pair(t, "RS256")
	if read(stranger) == nil {
		t.Error("another key, and it is verified")
	}
}

// What Open Policy Agent signs, we accept.
func TestWeVerifyOpenPolicyAgents(t *testing.T) {
	private, public := pair(t, "ES256")
	b, err := opa.NewCustomReader(opa.NewTarballLoaderWithBaseURL(bytes.NewReader(must(t, bundled(t).Pack)), "")).Read()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.GenerateSignature(opa.NewSigningConfig(private, "ES256", ""), "ci", false); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := opa.NewWriter(&packed).UseModulePath(true).Write(b); err != nil {
		t.Fatal(err)
	}
	f, err := Unpack(packed.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(trust("ci", "ES256", public)); err != nil {
		t.Error(err)
	}
	f["wiki.rego"] = append(f["wiki.rego"], '\n')
	if err := f.Verify(trust("ci", "ES256", public)); !errors.Is(err, ErrSignature) {
		t.Errorf("changed: %v", err)
	}
}

func must(t *testing.T, f func() ([]byte, error)) []byte {
	t.Helper()
	b, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPackingIsTheSameEachTime(t *testing.T) {
	if !bytes.Equal(must(t, bundled(t).Pack), must(t, bundled(t).Pack)) {
		t.Error("two archives of the same files differ")
	}
}

func TestTheManifestNamesTheReview(t *testing.T) {
	f := Files{}
	m := &Manifest{Revision: "abc"}
	m.SetReview("sha256:e0")
	if err := f.SetManifest(m); err != nil {
		t.Fatal(err)
	}
	read, err := f.Manifest()
	if err != nil || read.Revision != "abc" || read.Review() != "sha256:e0" {
		t.Errorf("got %+v, %v", read, err)
	}
	if err := f.SetManifest(&Manifest{Revision: "a b"}); err == nil {
		t.Error("a revision with a blank")
	}
}

// POL-06: a folder somebody is writing to is refused.
func TestPOL06HalfABundleIsRefused(t *testing.T) {
	first := Files{"a.rego": []byte("package a")}
	for name, second := range map[string]Files{
		"changed": {"a.rego": []byte("package b")},
		"gone":    {},
		"new":     {"a.rego": []byte("package a"), "b.rego": nil},
		"renamed": {"b.rego": []byte("package a")},
	} {
		readings := []Files{first, second}
		_, err := readTwice("x", func(string) (Files, error) {
			defer func() { readings = readings[1:] }()
			return readings[0], nil
		})
		if err != errUnstable {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "policy"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestAPinStaysUntilItIsTakenAway(t *testing.T) {
	s := openStore(t)
	if pin, err := s.Pin(); pin != nil || err != nil {
		t.Errorf("a new store: %v, %v", pin, err)
	}
	want := Pin{Digest: "sha256:aa", Why: "it was good", Who: "uid:7", Since: time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)}
	if err := s.SetPin(&want); err != nil {
		t.Fatal(err)
	}
	if pin, err := s.Pin(); err != nil || *pin != want {
		t.Errorf("got %+v, %v", pin, err)
	}
	for range 2 {
		if err := s.SetPin(nil); err != nil {
			t.Fatal(err)
		}
	}
	if pin, err := s.Pin(); pin != nil || err != nil {
		t.Errorf("taken away: %v, %v", pin, err)
	}
	if err := s.root.WriteFile(pinFile, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pin(); err == nil {
		t.Error("half a pin is no pin at all")
	}
}

func TestRollingBackLeadsBackStepByStep(t *testing.T) {
	s := openStore(t)
	note := func(digest string, pinned bool) {
		t.Helper()
		if err := s.Note(Activation{Digest: digest, Pinned: pinned}); err != nil {
			t.Fatal(err)
		}
	}
	for _, digest := range []string{"a", "a", "b", "c"} {
		note(digest, false)
	}
	for _, step := range []struct{ active, before string }{{"c", "b"}, {"b", "a"}, {"a", ""}} {
		history, err := s.History()
		if err != nil {
			t.Fatal(err)
		}
		if got := Before(history, step.active); got != step.before {
			t.Errorf("before %s was %q, want %q", step.active, got, step.before)
		}
		note(step.before, true)
	}
	for range maxHistory {
		note("x", true)
		note("y", true)
	}
	if history, err := s.History(); err != nil || len(history) != maxHistory {
		t.Errorf("%d activations, %v", len(history), err)
	}
	if got := Before(nil, "a"); got != "" {
		t.Errorf("before anything: %q", got)
	}
}

func TestTheLastGoodBundleIsKeptWhole(t *testing.T) {
	s := openStore(t)
	const address = "https://policies.corp.example/b.tar.gz"
	for _, archive := range []string{"one", "two"} {
		if err := s.Keep(address, &Fetched{Archive: []byte(archive), ETag: `"` + archive + `"`}, time.Now()); err != nil {
			t.Fatal(err)
		}
		last, err := s.LastGood(address)
		if err != nil || last == nil || string(last.Archive) != archive || last.ETag != `"`+archive+`"` {
			t.Fatalf("got %+v, %v", last, err)
		}
	}
	if last, err := s.LastGood("https://elsewhere.example/"); last != nil || err != nil {
		t.Errorf("of another address: %+v, %v", last, err)
	}
	entries, err := os.ReadDir(s.root.Name())
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "last-") {
			if err := s.root.WriteFile(e.Name(), []byte("tw"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last, err := s.LastGood(address); last != nil || err != nil {
		t.Errorf("half a bundle: %+v, %v", last, err)
	}
}
