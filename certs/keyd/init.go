package keyd

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"sallyport/certs/internal/wire"
)

// InitOptions say what Init creates. Only Dir, Domain and Hosts are required; where keyd.yaml exists, Dir and Domain or Base.
type InitOptions struct {
	// Dir becomes the folder of keyd.yaml, keys/, state/ and, by default, public/. It may exist.
	Dir string
	// Public is the folder for what the gateway and browsers read: ca.pem, and certs/ with one chain per host. It must
	// not lie under a folder that the gateway cannot enter. Default: Dir/public.
	Public string
	// Domain is all that the development CA may vouch for, subdomains included.
	Domain string
	// Hosts get one TLS key and one certificate each: names in Domain; `*.` may stand for one label.
	Hosts []string
	// Clients get one key of purpose tls-client and one certificate each, by which the gateway proves itself to apps that
	// ask for one: names in Domain, other than Hosts. Another development CA vouches for them, so that what browsers
	// trust vouches for no client, and what apps trust for no server. Default: none.
	Clients []string
	// Port is part of the default issuer and audiences. Default: 443, which an origin does not show.
	Port int
	// Issuer of assertions. Default: https://auth.Domain, with Port.
	Issuer string
	// Audiences of assertions. Default: the origin of each host.
	Audiences []string
	// ClientID at the identity provider. Default: sallyport.
	ClientID string
	// ClientAudiences are what client assertions may be addressed to, usually the provider's token endpoint and its
	// issuer. Default: none, so that the key signs nothing until keyd.yaml names some.
	ClientAudiences []string
	// Base begins the origins of the audit logs, Base/decision and Base/control, and the name under which evidence is
	// signed, Base/manifest. Default: Domain/audit. The gateway's audit.origin must be the same.
	Base string
	// Listen is keyd's socket. Default: Dir/run/keyd.sock, and Init then makes the folder.
	Listen string
	// AllowUIDs may ask for signatures. Default: the caller's own.
	AllowUIDs []uint32
	// Passphrase encrypts the key files. Init wipes it. Default: none, they are plain. Where keyd.yaml exists, the key folder
	// says whether they are.
	Passphrase []byte
	// PassphraseFrom is what keyd.yaml says about it. Default: nothing, keyd asks on its terminal.
	PassphraseFrom SecretSource
	// Lenient writes `strict: false`, for demos and development: there keyd is root or a person's process, whose memory
	// cannot be locked.
	Lenient bool
	// Now is the clock of the certificates. Default: time.Now.
	Now func() time.Time

	vault *vault // of Passphrase
}

// InitResult says where things are.
type InitResult struct {
	Config       string            // keyd.yaml
	Socket       string            // where keyd will listen
	CA           string            // the development CA's certificate, for browsers to trust
	Certificates string            // glob of the chains, for the gateway's tls.certificates
	ClientKeys   string            // JSON Web Key Set to register with the identity provider, for private_key_jwt
	Chains       map[string]string // chain file by host
	ClientCA     string            // the CA of the client certificates, for apps to trust; empty without Clients
	ClientChains map[string]string // chain file by client, for the gateway
	Trust        string            // verifier keys of checkpoints and manifests, for whoever checks the audit log
}

// leafLife is the validity of a leaf: Chromium refuses more than 398 days.
const leafLife = 397 * 24 * time.Hour

// Init makes a working set of keys, certificates and configuration. It overwrites nothing: if one of its files exists
// it fails before it writes any. On failure it removes what it wrote.
//
// Where keyd.yaml exists and lacks a checkpoint or a manifest key, Init makes those, with the state that a checkpoint key
// needs, and adds them to keyd.yaml, of which every other line stays. No hosts may be named then.
//
// A development CA's private key signs the leaves and is then forgotten; no file ever holds it. Another host means
// another CA, and a CA that browsers were told to trust can be stolen from nobody.
func Init(o InitOptions) (*InitResult, error) {
	defer clear(o.Passphrase)
	create := o.create
	if o.exists() {
		create = o.extend
	}
	res, err := create()
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	return res, nil
}

func (o *InitOptions) exists() bool {
	_, err := os.Lstat(filepath.Join(o.Dir, "keyd.yaml"))
	return err == nil && o.Dir != ""
}

func (o *InitOptions) create() (*InitResult, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	files, res, err := o.make()
	if err != nil {
		return nil, err
	}
	return res, files.write()
}

// complete fills in defaults and checks the rest.
func (o *InitOptions) complete() (err error) {
	if o.Dir == "" || len(o.Hosts) == 0 {
		return errors.New("a folder and at least one host are needed")
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if !validHost(o.Domain) {
		return fmt.Errorf("domain %q is not a lower-case DNS name", o.Domain)
	}
	if err := errors.Join(o.checkNames(), o.checkPassphrase()); err != nil {
		return err
	}
	if err := o.checkBase(); err != nil {
		return err
	}
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("port %d is none", o.Port)
	}
	if o.Public == "" {
		o.Public = filepath.Join(o.Dir, "public")
	}
	if o.Issuer == "" {
		o.Issuer = o.origin("auth." + o.Domain)
	}
	if o.Audiences == nil {
		for _, h := range o.Hosts {
			o.Audiences = append(o.Audiences, o.origin(h))
		}
	}
	for _, a := range o.Audiences {
		if !Audience(a).valid() {
			return fmt.Errorf("audience %q is not an origin", a)
		}
	}
	if o.ClientID == "" {
		o.ClientID = "sallyport"
	}
	if o.Listen == "" {
		o.Listen = filepath.Join(o.Dir, "run", "keyd.sock")
	}
	if o.AllowUIDs == nil {
		o.AllowUIDs = []uint32{uint32(os.Geteuid())}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// checkNames demands names in the domain, each once: a key has one purpose.
func (o *InitOptions) checkNames() error {
	inDomain := func(name string) bool {
		return validHost(name) && (name == o.Domain || strings.HasSuffix(name, "."+o.Domain))
	}
	for i, h := range o.Hosts {
		if !inDomain(strings.TrimPrefix(h, "*.")) {
			return fmt.Errorf("host %q is not a lower-case DNS name in %s", h, o.Domain)
		}
		if slices.Contains(o.Hosts[:i], h) {
			return fmt.Errorf("host %q is named twice", h)
		}
	}
	for i, c := range o.Clients {
		if !inDomain(c) {
			return fmt.Errorf("client %q is not a lower-case DNS name in %s", c, o.Domain)
		}
		if slices.Contains(o.Clients[:i], c) || slices.Contains(o.Hosts, c) {
			return fmt.Errorf("client %q is named twice", c)
		}
	}
	return nil
}

// checkPassphrase demands one that is not guessed at once.
func (o *InitOptions) checkPassphrase() error {
	if o.Passphrase != nil && len(o.Passphrase) < minPassphrase {
		return fmt.Errorf("the passphrase has less than %d bytes", minPassphrase)
	}
	if o.Passphrase == nil && (o.PassphraseFrom != SecretSource{}) {
		return errors.New("keyd.yaml would name a passphrase that encrypts nothing")
	}
	return o.PassphraseFrom.check()
}

func (o *InitOptions) origin(host string) string {
	if o.Port == 0 || o.Port == 443 {
		return "https://" + host
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(o.Port))
}

//go:embed keyd.yaml.tmpl
var configTemplate string

// make creates everything in memory.
func (o *InitOptions) make() (*fileSet, *InitResult, error) {
	res := &InitResult{
		Config:       filepath.Join(o.Dir, "keyd.yaml"),
		Socket:       o.Listen,
		CA:           filepath.Join(o.Public, "ca.pem"),
		Certificates: filepath.Join(o.Public, "certs", "*.pem"),
		ClientKeys:   filepath.Join(o.Public, "oidc-client.jwks.json"),
		Trust:        filepath.Join(o.Public, trustFile),
		Chains:       map[string]string{},
		ClientChains: map[string]string{},
	}
	set := &fileSet{}
	set.folder(o.Dir, 0o755)
	set.folder(filepath.Join(o.Dir, "keys"), 0o700)
	set.folder(filepath.Join(o.Dir, "state"), 0o700)
	if o.Passphrase != nil {
		o.vault = newVault()
		defer o.vault.wipe()
		set.file(filepath.Join(o.Dir, "keys", masterFile), o.vault.sealMaster(o.Passphrase, usualCost()), 0o600)
	}
	if filepath.Dir(o.Listen) == filepath.Join(o.Dir, "run") {
		set.folder(filepath.Dir(o.Listen), 0o750)
	}
	set.folder(o.Public, 0o755)
	set.folder(filepath.Join(o.Public, "certs"), 0o755)

	if err := o.issue(set, x509.ExtKeyUsageServerAuth, res.CA, "certs", o.Hosts, res.Chains); err != nil {
		return nil, nil, err
	}
	if len(o.Clients) > 0 {
		res.ClientCA = filepath.Join(o.Public, "client-ca.pem")
		set.folder(filepath.Join(o.Public, "clients"), 0o755)
		if err := o.issue(set, x509.ExtKeyUsageClientAuth, res.ClientCA, "clients", o.Clients, res.ClientChains); err != nil {
			return nil, nil, err
		}
	}
	if _, err := o.addKey(set, "assertion"); err != nil {
		return nil, nil, err
	}
	client, err := o.addKey(set, "oidc-client")
	if err != nil {
		return nil, nil, err
	}
	keySet, err := publicKeySet(client)
	if err != nil {
		return nil, nil, err
	}
	set.file(res.ClientKeys, keySet, 0o644)
	audit := &auditKeys{set: set, dir: o.Dir, state: filepath.Join(o.Dir, "state"), base: o.Base, vault: o.vault}
	if err := errors.Join(audit.makeCheckpoint(), audit.makeManifest()); err != nil {
		return nil, nil, err
	}
	set.file(res.Trust, audit.trustFile(), 0o644)
	config, err := o.config()
	if err != nil {
		return nil, nil, err
	}
	set.file(res.Config, config, 0o644) // last: where it is, the rest is
	return set, res, nil
}

// issue makes an authority for one usage, and a key and a chain in folder for each name.
func (o *InitOptions) issue(set *fileSet, usage x509.ExtKeyUsage, caFile, folder string, names []string, chains map[string]string) error {
	ca, err := newAuthority(o.Domain, usage, o.Now())
	if err != nil {
		return err
	}
	set.file(caFile, pemBlock("CERTIFICATE", ca.cert.Raw), 0o644)
	for _, name := range names {
		public, err := o.addKey(set, fileName(name))
		if err != nil {
			return err
		}
		leaf, err := ca.leaf(name, public)
		if err != nil {
			return err
		}
		chains[name] = filepath.Join(o.Public, folder, fileName(name)+".pem")
		set.file(chains[name], append(pemBlock("CERTIFICATE", leaf), pemBlock("CERTIFICATE", ca.cert.Raw)...), 0o644)
	}
	return nil
}

// addKey makes a key on P-256 and returns its public half.
func (o *InitOptions) addKey(set *fileSet, name string) (crypto.PublicKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	data, err := encodeKey(o.vault, name+".pem", private)
	if err != nil {
		return nil, err
	}
	set.file(filepath.Join(o.Dir, "keys", name+".pem"), data, 0o600)
	return private.Public(), nil
}

// publicKeySet is the JSON Web Key Set (RFC 7517 §5) of one P-256 key.
func publicKeySet(public crypto.PublicKey) ([]byte, error) {
	id, err := wire.ID(public)
	if err != nil {
		return nil, err
	}
	point, err := public.(*ecdsa.PublicKey).Bytes() // 0x04, X, Y
	if err != nil {
		return nil, err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return json.MarshalIndent(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id.String(), "x": b64(point[1:33]), "y": b64(point[33:]),
	}}}, "", "  ")
}

// fileName is a host as a file name: a wildcard is spelled out, so that globs and shells leave it alone.
func fileName(host string) string { return strings.Replace(host, "*.", "wildcard.", 1) }

func parseTemplate() (*template.Template, error) {
	return template.New("keyd.yaml").Funcs(template.FuncMap{"file": fileName}).Parse(configTemplate)
}

// config writes keyd.yaml, and reads it back: what Init leaves behind is what keyd accepts.
func (o *InitOptions) config() ([]byte, error) {
	t, err := parseTemplate()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, o); err != nil {
		return nil, err
	}
	if _, err := parseConfig(b.Bytes()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// fileSet is what Init is about to write.
type fileSet struct {
	folders []folder
	files   []file
}

type folder struct {
	path string
	mode fs.FileMode
}

type file struct {
	path string
	data []byte
	mode fs.FileMode
}

func (s *fileSet) folder(path string, mode fs.FileMode) {
	s.folders = append(s.folders, folder{path, mode})
}

func (s *fileSet) file(path string, data []byte, mode fs.FileMode) {
	s.files = append(s.files, file{path, data, mode})
}

// write puts the set on disk, durably, or leaves nothing of it behind.
func (s *fileSet) write() (err error) {
	for _, f := range s.files {
		if _, err := os.Lstat(f.path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists, and nothing is overwritten", f.path)
		}
	}
	var made []string
	defer func() {
		for i := len(made) - 1; err != nil && i >= 0; i-- {
			os.Remove(made[i])
		}
	}()
	for _, d := range s.folders {
		created, err := d.create()
		if err != nil {
			return err
		}
		if created {
			made = append(made, d.path)
		}
	}
	for _, f := range s.files {
		if err := f.create(); err != nil {
			return err
		}
		made = append(made, f.path)
	}
	for _, d := range s.folders {
		if err := syncFolder(d.path); err != nil {
			return err
		}
	}
	return nil
}

// create makes the folder with its parents; one that exists stays as it is.
func (d folder) create() (created bool, err error) {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
		return false, err
	}
	if err := os.Mkdir(d.path, d.mode); errors.Is(err, fs.ErrExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, os.Chmod(d.path, d.mode) // whatever the umask
}

func (f file) create() error {
	h, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return err
	}
	_, err = h.Write(f.data)
	return errors.Join(err, h.Chmod(f.mode), h.Sync(), h.Close())
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
