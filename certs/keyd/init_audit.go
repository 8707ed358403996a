package keyd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport/certs/internal/wire"
)

// trustFile is what Init calls the file of verifier keys.
const trustFile = "audit-trust.txt"

// checkBase fills in and checks Base.
func (o *InitOptions) checkBase() error {
	if o.Base == "" {
		o.Base = o.Domain + "/audit"
	}
	if !validBase(o.Base + "/decision") {
		return fmt.Errorf("origin %q is not a name such as corp.example/audit", o.Base)
	}
	return nil
}

// auditKeys makes the keys of the audit log: Ed25519, with the state that says that nothing was signed yet.
type auditKeys struct {
	set        *fileSet
	dir, state string // of keyd.yaml and keys, and state_dir
	keyDir     string // default: keys in dir
	base       string
	vault      *vault   // nil: plain files
	trust      []string // verifier keys
}

func (a *auditKeys) makeCheckpoint() error {
	origins := []string{a.base + "/decision", a.base + "/control"}
	for _, origin := range origins {
		a.set.file(filepath.Join(a.state, stateFile(origin)), newLogState(origin).encode(), 0o600)
	}
	return a.makeKey("checkpoint.pem", origins...)
}

func (a *auditKeys) makeManifest() error { return a.makeKey("manifest.pem", a.base+"/manifest") }

func (a *auditKeys) makeKey(file string, names ...string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	data, err := encodeKey(a.vault, file, private)
	if err != nil {
		return err
	}
	if a.keyDir == "" {
		a.keyDir = filepath.Join(a.dir, "keys")
	}
	a.set.file(filepath.Join(a.keyDir, file), data, 0o600)
	for _, name := range names {
		line, err := verifierKey(name, public)
		if err != nil {
			return err
		}
		a.trust = append(a.trust, line)
	}
	return nil
}

func (a *auditKeys) trustFile() []byte {
	return fmt.Appendf(nil, "# Whom to believe about the audit log. Hand this to whoever checks it, by a way that the gateway's machine has no part in.\n"+
		"# keyd trust prints it anew.\n%s\n", strings.Join(a.trust, "\n"))
}

// extend completes what an earlier Init made: keys, their state, and their lines in keyd.yaml.
func (o *InitOptions) extend() (*InitResult, error) {
	if len(o.Hosts)+len(o.Clients) > 0 {
		return nil, fmt.Errorf("%s has a keyd.yaml, to which no hosts or clients can be added", o.Dir)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Base == "" && !validHost(o.Domain) {
		return nil, fmt.Errorf("domain %q is not a lower-case DNS name", o.Domain)
	}
	if err := o.checkBase(); err != nil {
		return nil, err
	}
	res := &InitResult{Config: filepath.Join(dir, "keyd.yaml")}
	c, err := LoadConfig(res.Config)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkOurs(c.Dir), checkOurs(c.StateDir), checkOurs(res.Config)); err != nil {
		return nil, err
	}
	if o.Public == "" {
		o.Public = filepath.Join(dir, "public")
	}
	res.Socket = c.Listen
	stores, err := openBackends(c)
	if err != nil {
		return nil, err
	}
	defer stores.close()
	a := &auditKeys{set: &fileSet{}, dir: dir, state: c.StateDir, keyDir: c.Dir, base: o.Base, vault: stores.files.vault}
	missing, err := a.makeMissing(c)
	if err != nil {
		return nil, err
	}
	extended, err := o.extendConfig(res.Config, missing)
	if err != nil {
		return nil, err
	}
	if len(missing) == 2 {
		res.Trust = filepath.Join(o.Public, trustFile)
		a.set.file(res.Trust, a.trustFile(), 0o644)
		a.set.folder(o.Public, 0o755)
	}
	a.set.folder(c.Dir, 0o700)
	a.set.folder(c.StateDir, 0o700)
	fresh := res.Config + ".new"
	a.set.file(fresh, extended, 0o644)
	if err := a.set.write(); err != nil {
		return nil, err
	}
	// Last: where keyd.yaml names the keys, the rest is.
	return res, errors.Join(os.Rename(fresh, res.Config), syncFolder(dir))
}

// checkOurs demands our own file or folder: what another user than keyd's makes there, keyd refuses to read.
func checkOurs(path string) error {
	info, err := os.Stat(path)
	if err == nil && ownerOf(info) != os.Geteuid() {
		err = fmt.Errorf("%s belongs to uid %d: run this as that user, not as uid %d", path, ownerOf(info), os.Geteuid())
	}
	return err
}

// makeMissing makes the keys whose purpose c has no key for, and names the purposes.
func (a *auditKeys) makeMissing(c *Config) (missing []wire.Purpose, err error) {
	has := func(p wire.Purpose) bool {
		return slices.ContainsFunc(c.Keys, func(k KeyConfig) bool { return k.Purpose == p })
	}
	if !has(wire.Checkpoints) {
		missing, err = append(missing, wire.Checkpoints), a.makeCheckpoint()
	}
	if err == nil && !has(wire.Manifests) {
		missing, err = append(missing, wire.Manifests), a.makeManifest()
	}
	if err == nil && len(missing) == 0 {
		err = errors.New("keyd.yaml exists and lacks nothing; a new set of keys takes a new folder")
	}
	return missing, err
}

// extendConfig puts the keys in front of the others, and reads the result: it must differ from the old configuration in
// nothing else.
func (o *InitOptions) extendConfig(path string, purposes []wire.Purpose) ([]byte, error) {
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	entries, err := o.auditEntries(purposes)
	if err != nil {
		return nil, err
	}
	byHand := fmt.Errorf("%s is written in a way that cannot be extended; add by hand, under keys, and make the keys:\n%s", path, entries)
	extended, ok := insertKeys(old, entries)
	if !ok {
		return nil, byHand
	}
	before, err := parseConfig(old)
	if err != nil {
		return nil, err
	}
	after, err := parseConfig(extended)
	if err != nil {
		return nil, fmt.Errorf("%s with the new keys: %w", path, err)
	}
	after.Keys = slices.DeleteFunc(after.Keys, func(k KeyConfig) bool { return slices.Contains(purposes, k.Purpose) })
	if !reflect.DeepEqual(before, after) {
		return nil, byHand
	}
	return extended, nil
}

// auditEntries are the keys' entries as a new keyd.yaml has them.
func (o *InitOptions) auditEntries(purposes []wire.Purpose) ([]byte, error) {
	t, err := parseTemplate()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, p := range purposes {
		if err := t.ExecuteTemplate(&b, string(p), o); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// insertKeys puts entries, written two spaces deep, before the first item of `keys`, as deep as that is.
func insertKeys(config, entries []byte) ([]byte, bool) {
	var root yaml.Node
	if err := yaml.Unmarshal(config, &root); err != nil {
		return nil, false
	}
	keys := child(root.Content[0], "keys")
	if keys == nil || keys.Kind != yaml.SequenceNode || keys.Style&yaml.FlowStyle != 0 {
		return nil, false
	}
	depth := strings.Repeat(" ", keys.Column-1)
	var b bytes.Buffer
	n := 0
	for line := range bytes.Lines(config) {
		if n++; n == keys.Line {
			for entry := range bytes.Lines(entries) {
				b.WriteString(depth)
				b.Write(bytes.TrimPrefix(entry, []byte("  ")))
			}
		}
		b.Write(line)
	}
	return b.Bytes(), n >= keys.Line
}
