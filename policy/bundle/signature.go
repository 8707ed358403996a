package bundle

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	opa "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/keys"
	"github.com/open-policy-agent/opa/v1/util"
)

// Verification says whose signatures on a policy bundle count. Signatures are Open Policy Agent's: .signatures.json, as
// `opa build --signing-key` and `sallyport policy build --sign` write it.
type Verification struct {
	// Keys are the keys of which one must have signed the bundle. Default: none, and nothing is verified.
	Keys []Key `yaml:"keys"`

	// Scope is the scope that a signature must state. Default: none.
	Scope string `yaml:"scope"`

	// Required refuses bundles without a signature as soon as there are keys; without it, only a wrong signature is
	// refused. Default true.
	Required bool `yaml:"required" default:"true"`
}

// Key is a key that vouches for bundles.
type Key struct {
	// ID is what signatures call the key (kid, or keyid). Required.
	ID string `yaml:"id" config:"required"`

	// Algorithm is the signature's. Default RS256.
	Algorithm string `yaml:"algorithm" default:"RS256" enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA,HS256,HS384,HS512"`

	// File holds the public key or certificate in PEM; for the algorithms HS… the secret itself. File or key is required.
	File string `yaml:"file" config:"path"`

	// Key is the same, in place: a public key, or a reference such as ${file:…} to a secret.
	Key Secret `yaml:"key"`
}

// Secret is a text that is not printed.
type Secret string

// String hides the text.
func (Secret) String() string { return "[redacted]" }

// GoString hides the text.
func (Secret) GoString() string { return "[redacted]" }

// MarshalText hides the text.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Check refuses a key that is not there, or twice.
func (k *Key) Check() error {
	if (k.File == "") == (k.Key == "") {
		return errors.New("a key is given by file or by key")
	}
	return nil
}

// Check refuses two keys of one name.
func (v *Verification) Check() error {
	seen := map[string]bool{}
	for _, k := range v.Keys {
		if seen[k.ID] {
			return fmt.Errorf("two keys are called %q", k.ID)
		}
		seen[k.ID] = true
	}
	return nil
}

// ErrSignature says that nobody who counts vouches for a bundle as it is.
var ErrSignature = errors.New("the bundle's signature is not good")

// Verify holds the files against their signature: each must be named by it, with its digest, and each that it names must be
// there. Its errors are ErrSignature, or tell why a key cannot be read.
func (f Files) Verify(v *Verification) error {
	if len(v.Keys) == 0 {
		return nil
	}
	text, signed := f[SignaturesName]
	if !signed && !v.Required {
		return nil
	}
	if !signed {
		return fmt.Errorf("%w: it has none, and policy.verification demands one", ErrSignature)
	}
	trusted, err := v.keys()
	if err != nil {
		return err
	}
	var config opa.SignaturesConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSignature, SignaturesName, err)
	}
	if config.Plugin != "" && config.Plugin != "_default" {
		return fmt.Errorf("%w: it was made by the plugin %q", ErrSignature, config.Plugin)
	}
	named, err := opa.VerifyBundleSignature(config, opa.NewVerificationConfig(trusted, "", v.Scope, nil))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return f.verifyFiles(named)
}

func (f Files) verifyFiles(named map[string]opa.FileInfo) error {
	rest := make(map[string]opa.FileInfo, len(named))
	for name, info := range named {
		info.Name = strings.TrimPrefix(name, "/")
		if weak[info.Algorithm] {
			return fmt.Errorf("%w: %s is named by its %s, which proves nothing", ErrSignature, name, info.Algorithm)
		}
		rest[info.Name] = info
	}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name == SignaturesName {
			continue
		}
		if err := opa.VerifyBundleFile(name, *bytes.NewBuffer(f[name]), rest); err != nil {
			return fmt.Errorf("%w: %w", ErrSignature, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		if kept(name) && !hidden(name) {
			return fmt.Errorf("%w: %s is signed and is not there", ErrSignature, name)
		}
	}
	return nil
}

// weak are the hash functions that Open Policy Agent allows and for which two files of one digest can be made.
var weak = map[string]bool{"MD5": true, "SHA-1": true}

func (v *Verification) keys() (map[string]*keys.Config, error) {
	trusted := make(map[string]*keys.Config, len(v.Keys))
	for _, k := range v.Keys {
		text := string(k.Key)
		if k.File != "" {
			content, err := os.ReadFile(k.File)
			if err != nil {
				return nil, fmt.Errorf("reading the key %q of policy.verification: %w", k.ID, err)
			}
			text = string(content)
		}
		trusted[k.ID] = &keys.Config{Key: text, Algorithm: k.Algorithm}
	}
	return trusted, nil
}

// SigningKey signs bundles.
type SigningKey struct {
	ID        string // what verifiers call the key
	Algorithm string // as in Key; RS256 when empty
	Private   string // in PEM; for the algorithms HS… the secret itself
	Scope     string
}

// Sign adds a signature over all files, in place of one that is there.
func (f Files) Sign(key SigningKey) error {
	var infos []opa.FileInfo
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name == SignaturesName {
			continue
		}
		digest, err := fileDigest(name, f[name])
		if err != nil {
			return fmt.Errorf("signing policy bundle: %s: %w", name, err)
		}
		infos = append(infos, opa.NewFile(name, digest, opa.SHA256.String()))
	}
	token, err := signedToken(infos, key)
	if err != nil {
		return fmt.Errorf("signing policy bundle: %w", err)
	}
	text, err := json.MarshalIndent(opa.SignaturesConfig{Signatures: []string{token}}, "", "  ")
	if err == nil {
		f[SignaturesName] = append(text, '\n')
	}
	return err
}

// fileDigest is of what a document says, not of how it is written, as Open Policy Agent has it.
func fileDigest(name string, content []byte) (string, error) {
	hasher, err := opa.NewSignatureHasher(opa.SHA256)
	if err != nil {
		return "", err
	}
	var value any = content
	if opa.IsStructuredDoc(name) {
		value = nil
		if err := util.Unmarshal(content, &value); err != nil {
			return "", err
		}
	}
	sum, err := hasher.HashFile(value)
	return hex.EncodeToString(sum), err
}

func signedToken(infos []opa.FileInfo, key SigningKey) (string, error) {
	config := opa.NewSigningConfig(key.Private, key.Algorithm, "")
	if key.Scope == "" {
		return opa.GenerateSignedToken(infos, config, key.ID)
	}
	claims, err := os.CreateTemp("", "sallyport-claims-*.json")
	if err != nil {
		return "", err
	}
	defer os.Remove(claims.Name())
	err = json.NewEncoder(claims).Encode(map[string]string{"scope": key.Scope, "keyid": key.ID})
	if err = errors.Join(err, claims.Close()); err != nil {
		return "", err
	}
	config.ClaimsPath = claims.Name()
	return opa.GenerateSignedToken(infos, config, key.ID)
}
