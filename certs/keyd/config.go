package keyd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport/certs/internal/wire"
)

// Config is keyd.yaml. Unknown fields are errors. Relative paths are relative to the file's folder.
type Config struct {
	// User is whom keyd runs as when root starts it: a name or a number. It is that before it reads a key or makes the
	// socket, so that keys, state_dir and the socket's folder are this user's. Started by somebody else, keyd must be that
	// user already. Absent: whoever started it, and with `strict` not root.
	User string `yaml:"user"`
	// Group is the only group of that process, name or number: the one of the socket's folder. Default: the user's own.
	Group string `yaml:"group"`
	// Strict makes keyd refuse to start where one of its protections does not hold, and name them all; see `keyd status`.
	// With false it warns in its log, and runs. Default true.
	Strict bool `yaml:"strict"`
	// Dir is the folder of the key files. It belongs to keyd's user or root, and nobody else can write it. Required.
	Dir string `yaml:"dir"`
	// StateDir is the folder that keyd writes: the lock that keeps a second keyd away from the same keys, and a file for
	// each log with the last checkpoint signed, without which nothing more is signed for it. It must exist and belong to
	// keyd's user. Never restore it from a backup: see `keyd new-epoch`. Required.
	StateDir string `yaml:"state_dir"`
	// Listen is the path of the Unix socket. Its folder belongs to keyd's user or root, has mode 0700 or 0750, and its
	// group is the one that may reach the socket. Required, except for a child (`keyd run --fd`), which ignores it.
	Listen string `yaml:"listen"`
	// AllowUIDs are the users whose processes may ask for signatures: the gateway's. Root and keyd's own user may
	// always look (`list`, `status`), and sign only if they are listed. Required, except for a child.
	AllowUIDs []uint32 `yaml:"allow_uids"`
	// Keys are the private keys. At least one.
	Keys []KeyConfig `yaml:"keys"`
	// Assertion limits what keys of purpose `assertion` sign. Required if there is one.
	Assertion AssertionConfig `yaml:"assertion"`
	// Passphrase opens Dir if its keys are encrypted (`keyd init --encrypt`, `keyd encrypt`). Absent: keyd asks on its
	// terminal if they are. Where it is present, plain keys are refused.
	Passphrase SecretSource `yaml:"passphrase"`
	// PKCS11 is the token that holds the keys which name a label in it. Default: none.
	PKCS11 PKCS11Config `yaml:"pkcs11"`

	credentials string // systemd's folder of them; empty: none
}

// KeyConfig is one private key.
type KeyConfig struct {
	// Name is what people call the key in logs and `keyd status`: unique, letters, digits, '.', '-', '_' and '*'.
	Name string `yaml:"name"`
	// Purpose is `tls-server`, `tls-client` (the gateway's certificate towards apps), `assertion`, `oidc-client`,
	// `checkpoint` (states of the audit logs), `manifest` (manifests of evidence bundles) or `acme-account` (requests to a
	// certificate authority). A key has one, for life.
	Purpose wire.Purpose `yaml:"purpose"`
	// File is the key's file under Dir: PEM, PKCS #8 or as `keyd encrypt` writes it, mode 0600 or 0400, owned by keyd's user.
	File string `yaml:"file"`
	// PKCS11 is, instead of File, the label of a key pair in the token that the configuration's `pkcs11` names.
	PKCS11 string `yaml:"pkcs11"`
	// Managed makes keyd make the key: an acme-account key when keyd first starts, and a tls-server key for each
	// certificate that the gateway asks for, named after File as wiki.pem, wiki.2.pem and so on. Default false.
	Managed bool `yaml:"managed"`
	// Kind is that of a managed key: p256, p384 or rsa2048. Default p256.
	Kind keyKind `yaml:"kind"`
	// Rotate says when another key follows: by schedule, or, if it is {}, on command. Absent: never.
	Rotate *RotateConfig `yaml:"rotate"`
	// Names are the DNS names that a tls-server key is for; `*.` stands for one label. A gateway refuses to use the
	// key with a certificate for another name. Required for tls-server, refused otherwise.
	Names []string `yaml:"names"`
	// TLS12 lets a tls-server key sign in TLS 1.2 too, for clients that know nothing newer; the gateway's `tls.min_version`
	// must allow it as well. The key is ECDSA or RSA. Default false.
	TLS12 bool `yaml:"tls12"`
	// Rate bounds the requests that this key answers. Default: by purpose, see PROTOCOL.md.
	Rate RateConfig `yaml:"rate"`
	// ClientID is the OAuth client that an oidc-client key authenticates: `iss` and `sub`. Required for oidc-client.
	ClientID string `yaml:"client_id"`
	// Audiences are the values, compared byte by byte, that `aud` may have in what an oidc-client key signs: the
	// provider's token endpoint, its issuer, or both. Absent: the key signs nothing.
	Audiences []string `yaml:"audiences"`
	// Origins are the logs that a checkpoint key signs for, such as corp.example/audit/decision, or the one name that a
	// manifest key signs under: parts of letters, digits, '.', '-' and '_' between slashes, of which the last is no number.
	// No two keys share one. Required for both, refused otherwise.
	Origins []string `yaml:"origins"`
}

// AssertionConfig limits the gateway's assertions to apps.
type AssertionConfig struct {
	// Issuer is the only `iss`: the origin of the sign-in host, such as https://auth.corp.example:8443.
	Issuer string `yaml:"issuer"`
	// Audiences are the origins of the apps, exact or with one leading wildcard label.
	Audiences []Audience `yaml:"audiences"`
}

// maxConfig bounds keyd.yaml, in bytes.
const maxConfig = 1 << 20

// LoadConfig reads and checks the file. Every error names the file, and the line where there is one. A file that
// others than its owner can write, or that belongs to neither root nor keyd's user, is refused. For root, keyd's user is
// the one that the file names: it says nothing about anybody else's rights.
func LoadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("reading configuration: %s is larger than %d bytes", path, maxConfig)
	}
	c, err := parseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.checkFile(f); err != nil {
		return nil, fmt.Errorf("reading configuration: %s %w", path, err)
	}
	for _, p := range []*string{&c.Dir, &c.StateDir, &c.Listen, &c.Passphrase.File, &c.PKCS11.PIN.File} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return c, nil
}

// checkFile demands of keyd.yaml what checkOwned does of other files.
func (c *Config) checkFile(f *os.File) error {
	err := checkOwned(f, 0o022)
	if err == nil || os.Geteuid() != 0 || c.User == "" {
		return err
	}
	uid, _, idErr := c.identity()
	if idErr != nil {
		return idErr
	}
	info, statErr := f.Stat()
	if statErr != nil {
		return statErr
	}
	if ownerOf(info) != uid || info.Mode().Perm()&0o022 != 0 {
		return err
	}
	return nil
}

// parseConfig decodes strictly and checks what can be checked without touching a key.
func parseConfig(data []byte) (*Config, error) {
	d := yaml.NewDecoder(strings.NewReader(string(data)))
	d.KnownFields(true)
	c := Config{Strict: true}
	if err := d.Decode(&c); err != nil {
		return nil, yamlError(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, yamlError(err)
	}
	return &c, c.check(lines{root.Content[0]})
}

// yamlError drops Go's type names from the decoder's message, and keeps its line numbers.
func yamlError(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	}
	t, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return err
	}
	var list []error
	for _, s := range t.Errors {
		if i := strings.Index(s, " not found in type "); i >= 0 {
			s = s[:i] + " is not known"
		}
		list = append(list, errors.New(s))
	}
	return errors.Join(list...)
}

// check gathers all problems, each with its line.
func (c *Config) check(at lines) error {
	var errs []error
	fail := func(line int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...)))
	}
	if c.Dir == "" {
		fail(at.of(), "dir is missing")
	}
	if c.StateDir == "" {
		fail(at.of(), "state_dir is missing")
	}
	if len(c.Keys) == 0 {
		fail(at.of("keys"), "keys is missing: a key process without keys serves nobody")
	}
	seen, origins := map[string]bool{}, map[string]bool{}
	for i, k := range c.Keys {
		if err := k.check(); err != nil {
			fail(at.of("keys", i), "key %q: %w", k.Name, err)
		}
		if seen[k.Name] {
			fail(at.of("keys", i), "key %q: the name is taken", k.Name)
		}
		seen[k.Name] = true
		for _, o := range k.Origins {
			if origins[o] {
				fail(at.of("keys", i), "key %q: the origin %q is taken", k.Name, o)
			}
			origins[o] = true
		}
	}
	c.checkBackends(fail, at)
	asserts := slices.ContainsFunc(c.Keys, func(k KeyConfig) bool { return k.Purpose == wire.Assertion })
	if asserts && (!strings.HasPrefix(c.Assertion.Issuer, "https://") || len(c.Assertion.Audiences) == 0) {
		fail(at.of("assertion"), "assertion: issuer and audiences are needed by the assertion key")
	}
	return errors.Join(errs...)
}

// nameBytes are the bytes of a key's name: safe in logs, tables and file names.
const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*"

// purposes lists what a key can be for, in errors.
const purposes = "tls-server, tls-client, assertion, oidc-client, checkpoint, manifest or acme-account"

func (k *KeyConfig) check() error {
	if k.Name == "" || len(k.Name) > 255 || strings.Trim(k.Name, nameBytes) != "" {
		return errors.New("name must be 1 to 255 letters, digits, '.', '-', '_' or '*'")
	}
	if (k.File == "") == (k.PKCS11 == "") {
		return errors.New("either file or pkcs11 must say where the key is")
	}
	isServer, isClient := k.Purpose == wire.TLSServer, k.Purpose == wire.OIDCClient
	signsLogs, signsManifests := k.Purpose == wire.Checkpoints, k.Purpose == wire.Manifests
	switch {
	case k.Purpose == "":
		return errors.New("purpose is missing: " + purposes)
	case !isServer && !isClient && !signsLogs && !signsManifests && k.Purpose != wire.TLSClient && k.Purpose != wire.Assertion &&
		k.Purpose != wire.ACMEAccount:
		return fmt.Errorf("purpose %q is not known: %s", k.Purpose, purposes)
	case isServer != (len(k.Names) > 0):
		return errors.New("names belong to a tls-server key, which needs at least one")
	case k.TLS12 && !isServer:
		return errors.New("tls12 belongs to a tls-server key")
	case isClient != (k.ClientID != ""):
		return errors.New("client_id belongs to an oidc-client key, which needs it")
	case !isClient && len(k.Audiences) > 0:
		return errors.New("audiences here belong to an oidc-client key; assertion keys obey `assertion`")
	case (signsLogs || signsManifests) != (len(k.Origins) > 0):
		return errors.New("origins belong to a checkpoint or manifest key, which needs them")
	case signsManifests && len(k.Origins) != 1:
		return errors.New("a manifest key has one origin")
	}
	if err := k.Rate.check(); err != nil {
		return err
	}
	if err := k.checkGenerations(); err != nil {
		return err
	}
	for _, o := range k.Origins {
		if !validBase(o) {
			return fmt.Errorf("origin %q is not a name such as corp.example/audit/decision", o)
		}
	}
	for _, n := range k.Names {
		if !validHost(strings.TrimPrefix(n, "*.")) {
			return fmt.Errorf("%q is not a lower-case DNS name", n)
		}
	}
	return nil
}

// validBase accepts an origin that is nobody's later epoch: those are called <origin>/2, <origin>/3…
func validBase(origin string) bool {
	last := origin[strings.LastIndex(origin, "/")+1:]
	return wire.ValidOrigin(origin) && len(origin) <= maxBase && strings.Trim(last, "0123456789") != ""
}

// maxBase leaves room for the number of an epoch, in bytes.
const maxBase = 180

// lines finds where a setting stands in the file.
type lines struct{ root *yaml.Node }

// of returns the line of the value at path (names and indexes), or of the deepest part of it that exists.
func (l lines) of(path ...any) int {
	n := l.root
	for _, step := range path {
		next := child(n, step)
		if next == nil {
			break
		}
		n = next
	}
	return n.Line
}

func child(n *yaml.Node, step any) *yaml.Node {
	switch step := step.(type) {
	case int:
		if n.Kind == yaml.SequenceNode && step < len(n.Content) {
			return n.Content[step]
		}
	case string:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1]
			}
		}
	}
	return nil
}
