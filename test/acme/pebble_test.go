package acme

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport/test/harness"
)

// authority is a real ACME server, Pebble, behind a door at which a test can stand.
type authority struct {
	door    *httptest.Server // what the gateway knows as the authority
	manage  string           // Pebble's own interface
	records string           // the interface of its name server
	dns     string           // the name server
	http    *http.Client
	orders  atomic.Int64 // that were made
	keepers atomic.Pointer[func(w http.ResponseWriter, r *http.Request, serve func())]
}

// acmeTools is the folder of pebble and pebble-challtestsrv: the one SALLYPORT_ACME_TOOLS names, or one they are built into.
var acmeTools = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("SALLYPORT_ACME_TOOLS"); dir != "" {
		return dir, nil
	}
	dir, err := filepath.Abs("../../.cache")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir+"/", "github.com/letsencrypt/pebble/v2/cmd/pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv")
	build.Dir, build.Env = "../tools", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building pebble: %w\n%s", err, out)
	}
	return dir, nil
})

// newAuthority starts an authority whose validations come to these ports, with certificates of that validity and Pebble's
// own variables.
func newAuthority(t *testing.T, httpPort, tlsPort int, validity time.Duration, env ...string) *authority {
	t.Helper()
	tools, err := acmeTools()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key)
	acme, manage, dns, records := local(t), local(t), local(t), local(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": acme, "managementListenAddress": manage, "certificate": cert, "privateKey": key, "httpPort": httpPort, "tlsPort": tlsPort,
		"keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1}, "domainBlocklist": []string{"blocked.corp.test"},
		"externalAccountBindingRequired": strings.Contains(t.Name(), "Bound"), "externalAccountMACKeys": map[string]string{"kid-1": eabKey},
		"profiles": map[string]any{"default": map[string]any{"description": "for tests", "validityPeriod": int(validity.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, nil, filepath.Join(tools, "pebble-challtestsrv"), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-dnsserver", dns, "-management", records,
		"-defaultIPv4", "127.0.0.1", "-defaultIPv6", "")
	background(t, append([]string{"PEBBLE_VA_NOSLEEP=1"}, env...), filepath.Join(tools, "pebble"), "-config", file, "-dnsserver", dns)
	a := &authority{manage: "https://" + manage, records: "http://" + records, dns: dns,
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
	a.open(t, "https://"+acme)
	harness.Eventually(t, time.Minute, "Pebble to answer", func() bool {
		for _, address := range []string{acme, manage, records} {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			conn.Close()
		}
		return true
	})
	return a
}

// eabKey is an external account's key.
const eabKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

func local(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)) }

// background runs a program until the end of the test.
func background(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said\n%s", filepath.Base(name), out.Bytes()[max(0, out.Len()-6000):])
		}
	})
}

// writePair writes a certificate for the server itself, which nobody verifies.
func writePair(t *testing.T, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// open puts the door before Pebble. Pebble names everything by the host that it was asked as: the door's.
func (a *authority) open(t *testing.T, behind string) {
	t.Helper()
	target, err := url.Parse(behind)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Transport: a.http.Transport, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path == "/order-plz" && r.StatusCode == http.StatusCreated { // and no nonce rejected
				a.orders.Add(1)
			}
			return nil
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		}}
	a.door = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve := func() { proxy.ServeHTTP(w, r) }
		if keeper := a.keepers.Load(); keeper != nil {
			(*keeper)(w, r, serve)
			return
		}
		serve()
	}))
	t.Cleanup(a.door.Close)
}

// keep has every request to the authority pass a keeper, who may serve it. None lets all pass.
func (a *authority) keep(keeper func(w http.ResponseWriter, r *http.Request, serve func())) {
	if keeper == nil {
		a.keepers.Store(nil)
		return
	}
	a.keepers.Store(&keeper)
}

// ask calls one of Pebble's own interfaces.
func (a *authority) ask(t *testing.T, address string, body any) []byte {
	t.Helper()
	res, err := a.http.Get(address)
	if body != nil {
		text, _ := json.Marshal(body)
		res, err = a.http.Post(address, "application/json", bytes.NewReader(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v %s", address, res.StatusCode, err, text)
	}
	return text
}

// root is the certificate that vouches for what the authority issues.
func (a *authority) root(t *testing.T) []byte { return a.ask(t, a.manage+"/roots/0", nil) }

// acmeStand is an installation that has no certificates, and an authority.
type acmeStand struct {
	*harness.Stand
	*authority
	httpPort int
}

// acmeApps are apps for which nobody has to sign in.
const acmeApps = `
  - name: wiki
    host: wiki.corp.test
    upstreams: ["ORIGIN"]
    access: { public: true, methods: [GET] }
`

// acmeSetup is what tests differ in.
type acmeSetup struct {
	apps      string        // default: acmeApps
	challenge string        // default: tls-alpn-01
	settings  string        // further lines of tls.acme
	validity  time.Duration // of certificates; default 90 days
	pebble    []string      // its variables
	slots     []string      // hosts that keyd makes keys for; default: auth and wiki
}

// newACME prepares an installation.
func newACME(t *testing.T, setup acmeSetup) *acmeStand {
	t.Helper()
	if setup.apps == "" {
		setup.apps = acmeApps
	}
	if setup.challenge == "" {
		setup.challenge = "tls-alpn-01"
	}
	if setup.validity == 0 {
		setup.validity = 90 * 24 * time.Hour
	}
	if setup.slots == nil {
		setup.slots = []string{"auth.corp.test", "wiki.corp.test"}
	}
	s := &acmeStand{Stand: harness.New(t, acmeApps, ""), httpPort: harness.FreePort(t)}
	s.authority = newAuthority(t, s.httpPort, s.Port, setup.validity, setup.pebble...)
	if err := os.Mkdir(filepath.Join(s.Dir, "acme"), 0o755); err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.door.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(s.Dir, "door.pem"), ca, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Roots().AppendCertsFromPEM(s.root(t))
	s.manageKeys(t, setup.slots)
	s.write(t, setup)
	return s
}

// manageKeys has keyd make the keys of the certificates.
func (s *acmeStand) manageKeys(t *testing.T, hosts []string) {
	t.Helper()
	file := filepath.Join(s.Dir, "keys", "keyd.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	var keys []any
	for _, k := range config["keys"].([]any) {
		if k.(map[string]any)["purpose"] != "tls-server" {
			keys = append(keys, k)
		}
	}
	for _, host := range hosts {
		keys = append(keys, map[string]any{"name": host, "purpose": "tls-server", "file": "acme-" + host + ".pem", "names": []string{host}, "managed": true})
	}
	config["keys"] = append(keys, map[string]any{"name": "acme-account", "purpose": "acme-account", "file": "acme-account.pem", "managed": true})
	if text, err = yaml.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *acmeStand) write(t *testing.T, setup acmeSetup) {
	t.Helper()
	text := fmt.Sprintf(`
domain: corp.test
listen: "127.0.0.1:%[1]d"
public_port: %[1]d
listen_http: "127.0.0.1:%[2]d"
hsts: 0s
admin: { socket: DIR/admin.sock }
tls:
  acme:
    directory: %[3]s/dir
    ca: DIR/door.pem
    terms_agreed: true
    email: ops@corp.test
    dir: DIR/acme
    challenge: %[4]s
    retry: 1s
    attempts: 50
%[5]s
audit: { dir: DIR/audit, segment_size: 4194304 }
keys: { strict: false, spawn: { binary: %[6]s/keyd, config: DIR/keys/keyd.yaml } }
state: { sqlite: DIR/state.db }
apps:%[7]s`, s.Port, s.httpPort, s.door.URL, setup.challenge, setup.settings, harness.Binaries(t), setup.apps)
	s.WriteRaw(t, strings.NewReplacer("DIR", s.Dir, "ORIGIN", s.Origin.URL, "DNS", s.dns).Replace(text))
}

// served is the certificate that the gateway shows for a host, or nil.
func (s *acmeStand) served(host string) *x509.Certificate {
	conn, err := tls.Dial("tcp", s.Address(), &tls.Config{ServerName: host, RootCAs: s.Roots()})
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// awaitAnother waits for a certificate of a host that is not old.
func (s *acmeStand) awaitAnother(t *testing.T, host string, old *x509.Certificate) *x509.Certificate {
	t.Helper()
	var now *x509.Certificate
	harness.Eventually(t, 25*time.Second, "a certificate of "+host, func() bool {
		now = s.served(host)
		return now != nil && (old == nil || !now.Equal(old))
	})
	return now
}

// run starts the gateway without waiting for anything.
func (s *acmeStand) run(t *testing.T) *harness.Process {
	t.Helper()
	p := s.StartQuietly(t, exec.Command(filepath.Join(harness.Binaries(t), "sallyport"), "run", "--config", s.Config))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the gateway said\n%s", p.Output())
		}
	})
	return p
}

// renewals is what `sallyport certificate list` says, by host.
func (s *acmeStand) renewals(t *testing.T) map[string]acmeRenewal {
	t.Helper()
	out, code := s.Sallyport(t, "certificate", "list", "--json")
	var list []acmeRenewal
	if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil {
		return nil
	}
	byHost := map[string]acmeRenewal{}
	for _, r := range list {
		byHost[r.Host] = r
	}
	return byHost
}

type acmeRenewal struct {
	Host     string
	Failures int
	Reason   string
	Error    string
	NotAfter time.Time `json:"not_after"`
	NextAt   time.Time `json:"next_at"`
	UnderWay bool      `json:"under_way"`
	Advised  bool
}
