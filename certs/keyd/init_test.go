package keyd_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

func initOptions(dir string) keyd.InitOptions {
	return keyd.InitOptions{
		Dir: dir, Domain: "corp.example", Port: 8443, Lenient: true,
		Hosts:           []string{"wiki.corp.example", "auth.corp.example", "*.apps.corp.example", "corp.example"},
		ClientAudiences: []string{"https://login.corp.example/token"},
	}
}

func TestInitMakesWhatBrowsersAccept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	res, err := keyd.Init(initOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	ca := readCertificates(t, res.CA)[0]
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if !ca.IsCA || !ca.MaxPathLenZero || !ca.PermittedDNSDomainsCritical || !slices.Equal(ca.PermittedDNSDomains, []string{"corp.example"}) ||
		len(ca.ExcludedIPRanges) != 2 || ca.KeyUsage != x509.KeyUsageCertSign {
		t.Errorf("the CA may do more than sign servers of its domain: %+v", ca)
	}
	for host, file := range res.Chains {
		leaf := readCertificates(t, file)[0]
		name := strings.Replace(host, "*", "wiki", 1)
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 398*24*time.Hour {
			t.Errorf("%s: valid for %v, browsers refuse more than 398 days", host, life)
		}
		if leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || leaf.SerialNumber.Sign() <= 0 {
			t.Errorf("%s: not a plain server certificate", host)
		}
	}
	if found, _ := filepath.Glob(res.Certificates); len(found) != 4 {
		t.Errorf("%s finds %v, want the four chains", res.Certificates, found)
	}
}

// Clients have an authority of their own: what vouches for one end of a handshake vouches for nobody at the other.
func TestInitMakesClientsForApps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	o := initOptions(dir)
	o.Clients = []string{"gateway.corp.example", strings.Repeat("long.", 12) + "corp.example"}
	res, err := keyd.Init(o)
	if err != nil {
		t.Fatal(err)
	}
	pool := func(file string) *x509.CertPool {
		roots := x509.NewCertPool()
		roots.AddCert(readCertificates(t, file)[0])
		return roots
	}
	servers, clients := pool(res.CA), pool(res.ClientCA)
	client, server := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range o.Clients {
		leaf := readCertificates(t, res.ClientChains[name])[0]
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: clients, DNSName: name, KeyUsages: client}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: clients, KeyUsages: server}); err == nil {
			t.Errorf("%s is a server too", name)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: servers, KeyUsages: client}); err == nil {
			t.Errorf("%s: the servers' authority vouches for it", name)
		}
		if want := map[bool]string{true: name}[len(name) <= 64]; leaf.Subject.CommonName != want {
			t.Errorf("%s: common name %q, want %q", name, leaf.Subject.CommonName, want)
		}
	}
	for host, file := range res.Chains {
		if _, err := readCertificates(t, file)[0].Verify(x509.VerifyOptions{Roots: clients, KeyUsages: client}); err == nil {
			t.Errorf("%s is a client too", host)
		}
	}
	if found, _ := filepath.Glob(res.Certificates); len(found) != len(o.Hosts) {
		t.Errorf("%s finds %v: client certificates are not among the servers'", res.Certificates, found)
	}
	c, err := keyd.LoadConfig(res.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range c.Keys {
		if isClient := slices.Contains(o.Clients, k.Name); isClient != (k.Purpose == "tls-client") || isClient && len(k.Names) > 0 {
			t.Errorf("got key %+v", k)
		}
	}
}

func readCertificates(t *testing.T, file string) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

func TestInitKeepsKeysToItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := keyd.Init(initOptions(dir)); err != nil {
		t.Fatal(err)
	}
	keys := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if !bytes.Contains(data, []byte("PRIVATE")) {
			return err
		}
		keys++
		if info, _ := e.Info(); info.Mode() != 0o600 || filepath.Dir(path) != filepath.Join(dir, "keys") {
			t.Errorf("%s holds a key with mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || keys != 8 {
		t.Errorf("got %d keys %v, want 4 hosts, assertion, oidc-client, checkpoint and manifest: the CA's is forgotten", keys, err)
	}
}

func TestInitOverwritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	taken := filepath.Join(dir, "keys", "assertion.pem")
	if err := os.MkdirAll(filepath.Dir(taken), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(taken, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyd.Init(initOptions(dir)); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("got %v, want an error that names %s", err, taken)
	}
	if data, _ := os.ReadFile(taken); string(data) != "precious" {
		t.Errorf("the file was overwritten with %q", data)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*")); len(found) != 1 {
		t.Errorf("a failed init left %v", found)
	}
}

func TestInitRefusesNonsense(t *testing.T) {
	for name, spoil := range map[string]func(*keyd.InitOptions){
		"no folder":        func(o *keyd.InitOptions) { o.Dir = "" },
		"no hosts":         func(o *keyd.InitOptions) { o.Hosts = nil },
		"foreign host":     func(o *keyd.InitOptions) { o.Hosts = []string{"wiki.evil.example"} },
		"host twice":       func(o *keyd.InitOptions) { o.Hosts = []string{"a.corp.example", "a.corp.example"} },
		"host with a path": func(o *keyd.InitOptions) { o.Hosts = []string{"../../x.corp.example"} },
		"bad domain":       func(o *keyd.InitOptions) { o.Domain = "Corp" },
		"foreign client":   func(o *keyd.InitOptions) { o.Clients = []string{"gateway.evil.example"} },
		"wildcard client":  func(o *keyd.InitOptions) { o.Clients = []string{"*.corp.example"} },
		"client twice":     func(o *keyd.InitOptions) { o.Clients = []string{"a.corp.example", "a.corp.example"} },
		"client and host":  func(o *keyd.InitOptions) { o.Clients = []string{"wiki.corp.example"} },
		"bad port":         func(o *keyd.InitOptions) { o.Port = 70000 },
		"bad audience":     func(o *keyd.InitOptions) { o.Audiences = []string{"http://x.corp.example"} },
		"bad issuer":       func(o *keyd.InitOptions) { o.Issuer = "corp" },
	} {
		o := initOptions(filepath.Join(t.TempDir(), "new"))
		spoil(&o)
		if _, err := keyd.Init(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Lstat(filepath.Join(filepath.Dir(o.Dir), "new")); o.Dir != "" && err == nil {
			t.Errorf("%s: left files", name)
		}
	}
}

// What init writes, run serves: through the command line, as an operator does it.
func TestInitThenRunThenStatus(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	out, err := exec.Command(keydtest.Binary(), "init", "--lenient", "--dir", dir, "--domain", "corp.example",
		"--host", "wiki.corp.example", "--host", "auth.corp.example", "--port", "8443", "--client-id", "gate",
		"--client-audience", "https://login.corp.example/token", "--allow-uid", "0").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := &keydtest.Setup{Config: filepath.Join(dir, "keyd.yaml"), Socket: filepath.Join(dir, "run", "keyd.sock")}
	s.Start(t)
	st, err := keyd.AskStatus(s.Socket)
	if err != nil || len(st.Keys) != 6 {
		t.Fatalf("got %+v %v, want six keys", st, err)
	}
	c, err := keyd.LoadConfig(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if c.Assertion.Issuer != "https://auth.corp.example:8443" || !slices.Contains(c.Assertion.Audiences, "https://wiki.corp.example:8443") ||
		c.Keys[3].ClientID != "gate" {
		t.Errorf("got %+v", c)
	}
	if out, err := exec.Command(keydtest.Binary(), "init", "--dir", dir, "--domain", "corp.example", "--host", "x.corp.example").CombinedOutput(); err == nil {
		t.Errorf("a second init succeeded: %s", out)
	}
}
