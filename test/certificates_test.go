package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/certs/keyd/keydtest"
	"sallyport/test/harness"
)

// handshakeWithin is how long a handshake may take that has to end, one way or the other.
const handshakeWithin = time.Minute

// addKey gives keyd a key for hosts, in its folder and configuration. A keyd that runs has it when it reads them again.
func addKey(t *testing.T, s *harness.Stand, name string, private crypto.Signer, hosts ...string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(s.Dir, "keys")
	text, err := os.ReadFile(filepath.Join(folder, "keyd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	entry := fmt.Sprintf("keys:\n  - { name: %s, purpose: tls-server, file: %s.pem, names: [%s] }\n", name, name, strings.Join(hosts, ", "))
	err = errors.Join(
		os.WriteFile(filepath.Join(folder, "keys", name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(filepath.Join(folder, "keyd.yaml"), bytes.Replace(text, []byte("keys:\n"), []byte(entry), 1), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// chain is a certificate in PEM that the stand's clients trust from now on, valid for so long.
func chain(t *testing.T, s *harness.Stand, private crypto.Signer, valid time.Duration, hosts ...string) []byte {
	t.Helper()
	c := keydtest.SelfSigned(t, private, hosts, time.Now().Add(-time.Hour), time.Now().Add(valid))
	s.Roots().AddCert(c)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// chainFile is where the gateway reads the chain of a host.
func chainFile(s *harness.Stand, label string) string {
	return filepath.Join(s.Dir, "keys", "public", "certs", label+"."+harness.Domain+".pem")
}

// install replaces a file by rename.
func install(t *testing.T, file string, content []byte) {
	t.Helper()
	next := filepath.Join(t.TempDir(), "next")
	if err := errors.Join(os.WriteFile(next, content, 0o644), os.Rename(next, file)); err != nil {
		t.Fatal(err)
	}
}

func newEC(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ask makes a connection of its own, asks host for a page there and returns what became of both.
func ask(s *harness.Stand, config *tls.Config, host string) (state tls.ConnectionState, status int, err error) {
	config = config.Clone()
	if config.RootCAs == nil {
		config.RootCAs = s.Roots()
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: handshakeWithin}, "tcp", s.Address(), config)
	if err != nil {
		return state, 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(handshakeWithin))
	fmt.Fprintf(c, "GET /page HTTP/1.1\r\nHost: %s:%d\r\nConnection: close\r\n\r\n", host, s.Port)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return c.ConnectionState(), 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return c.ConnectionState(), res.StatusCode, errors.Join(err, res.Body.Close())
}

const wikiHost = "wiki." + harness.Domain

// leads reports whether the answer leads a stranger to the sign-in: the app's host was reached.
func leads(status int) bool {
	return status == http.StatusSeeOther || status == http.StatusFound || status == http.StatusUnauthorized
}

// shows reports whether new handshakes with a host get this chain.
func shows(t *testing.T, s *harness.Stand, host string, chain []byte) bool {
	t.Helper()
	state, _, err := ask(s, &tls.Config{ServerName: host}, host)
	if err != nil {
		t.Errorf("while certificates are replaced: %v", err)
		return true
	}
	block, _ := pem.Decode(chain)
	return bytes.Equal(state.PeerCertificates[0].Raw, block.Bytes)
}

// KEY-12: certificates and keys are replaced, in each of the ways there are, and mismatched pairs offered in between, while
// clients come and go. No handshake fails, what is open stays open, and tickets of the chain before resume nothing.
func TestKEY12CertificatesAreReplacedUnderLoad(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	first, err := os.ReadFile(chainFile(s, "wiki"))
	if err != nil {
		t.Fatal(err)
	}
	other := newEC(t)
	addKey(t, s, "wiki2", other, wikiHost)
	second := chain(t, s, other, 300*24*time.Hour, wikiHost)
	foreign := chain(t, s, newEC(t), 300*24*time.Hour, wikiHost)
	gw := s.Start(t)

	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	open := openOnHTTP2(t, s, browser)
	load := startVisitors(s)
	defer load.stop()
	use := []func(){
		func() {},
		func() { gw.Signal(syscall.SIGHUP) },
		func() {
			if out, code := s.Sallyport(t, "reload"); code != 0 {
				t.Errorf("reload: %s", out)
			}
		},
	}
	for n := range rounds(t, 6) {
		wallet := tls.NewLRUClientSessionCache(1)
		visit := func() bool {
			state, _, err := ask(s, &tls.Config{ServerName: wikiHost, ClientSessionCache: wallet}, wikiHost)
			if err != nil {
				t.Errorf("round %d: %v", n, err)
			}
			return state.DidResume
		}
		visit()
		next := [][]byte{second, first}[n%2]
		install(t, chainFile(s, "wiki"), next)
		use[n%len(use)]()
		harness.Eventually(t, 2*time.Minute, "the new chain", func() bool { return shows(t, s, wikiHost, next) })
		if visit() {
			t.Errorf("round %d: a ticket of the chain before resumes", n)
		}
		harness.Eventually(t, 2*time.Minute, "new tickets to resume", visit)

		install(t, chainFile(s, "wiki"), foreign)
		harness.Eventually(t, 2*time.Minute, "the mismatched pair to be refused", func() bool {
			out, _ := s.Sallyport(t, "status")
			return strings.Contains(out, "the key process holds no key for it")
		})
		if !shows(t, s, wikiHost, next) {
			t.Errorf("round %d: a mismatched pair is shown", n)
		}
		install(t, chainFile(s, "wiki"), next)
		harness.Eventually(t, 2*time.Minute, "the good pair", func() bool {
			out, _ := s.Sallyport(t, "status")
			return !strings.Contains(out, "last reload")
		})
		open.goesOn(t)
	}
	load.stop()
	if load.failed.Load() > 0 || load.good.Load() == 0 {
		t.Errorf("%d handshakes failed and %d succeeded, the last one: %v", load.failed.Load(), load.good.Load(), load.why.Load())
	}
	if n := open.connections(); n != 1 {
		t.Errorf("%d connections were made where one was open", n)
	}
}

// visitors connect, ask and leave, over and over.
type visitors struct {
	good, failed atomic.Int64
	why          atomic.Value
	stop         func()
}

func startVisitors(s *harness.Stand) *visitors {
	v := &visitors{}
	var running sync.WaitGroup
	quit := make(chan struct{})
	for range 3 {
		running.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				if _, status, err := ask(s, &tls.Config{ServerName: wikiHost}, wikiHost); err != nil || !leads(status) {
					v.failed.Add(1)
					v.why.Store(fmt.Sprintf("%d %v", status, err))
				} else {
					v.good.Add(1)
				}
			}
		})
	}
	v.stop = sync.OnceFunc(func() {
		close(quit)
		running.Wait()
	})
	return v
}

// standing is an HTTP/2 connection with a stream on it that never ends.
type standing struct {
	client *http.Client
	stream *http.Response
	url    string
	dialed *atomic.Int64
}

func openOnHTTP2(t *testing.T, s *harness.Stand, browser *http.Client) *standing {
	t.Helper()
	transport := s.Transport()
	transport.ForceAttemptHTTP2 = true
	open := &standing{url: s.URL("wiki", "/page"), dialed: new(atomic.Int64), client: &http.Client{Transport: transport, Jar: browser.Jar}}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		open.dialed.Add(1)
		return dial(ctx, network, address)
	}
	res, err := open.client.Get(s.URL("wiki", "/events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.ProtoMajor != 2 || res.StatusCode != http.StatusOK {
		t.Fatalf("got %s %s", res.Proto, res.Status)
	}
	open.stream = res
	return open
}

// goesOn checks that the stream brings news and that others open beside it.
func (o *standing) goesOn(t *testing.T) {
	t.Helper()
	if _, err := io.ReadFull(o.stream.Body, make([]byte, 64)); err != nil {
		t.Errorf("the open stream: %v", err)
	}
	if status, _ := harness.Get(t, o.client, o.url); status != http.StatusOK {
		t.Errorf("on the open connection: got %d", status)
	}
}

func (o *standing) connections() int64 { return o.dialed.Load() }

// A chain may be there before its key: once keyd has the key, the chain is served without another word.
func TestACertificateWaitsForItsKey(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	gw := s.Start(t)
	private := newEC(t)
	next := chain(t, s, private, 300*24*time.Hour, wikiHost)
	install(t, chainFile(s, "wiki"), next)
	harness.Eventually(t, 2*time.Minute, "the chain to be refused", func() bool {
		out, _ := s.Sallyport(t, "status")
		return strings.Contains(out, "the key process holds no key for it")
	})
	addKey(t, s, "wiki2", private, wikiHost)
	syscall.Kill(onlyChild(t, gw), syscall.SIGHUP)
	harness.Eventually(t, 2*time.Minute, "the new chain", func() bool { return shows(t, s, wikiHost, next) })
	harness.Eventually(t, 2*time.Minute, "status to be well", func() bool {
		out, code := s.Sallyport(t, "status")
		return code == 0 && !strings.Contains(out, "last reload")
	})
}

// HOST-14, TLS-04: what a client says of names and protocols decides what it gets; none of it leads to an app under another
// name.
func TestHandshakeEdges(t *testing.T) {
	type want struct {
		status int // 0: the handshake fails
		alert  string
	}
	misdirected, app := want{status: http.StatusMisdirectedRequest}, want{status: -1}
	unknown := want{alert: "unrecognized name"}
	for name, tt := range map[string]struct {
		extra string
		want  map[[2]string]want // by SNI and Host
	}{
		"without a default": {"", map[[2]string]want{
			{wikiHost, wikiHost}:              app,
			{"WIKI.Corp.Test", wikiHost}:      app,
			{wikiHost, "WIKI.Corp.Test"}:      app,
			{wikiHost, "payroll.corp.test"}:   misdirected,
			{"payroll.corp.test", wikiHost}:   misdirected,
			{"", wikiHost}:                    unknown,
			{"unknown.corp.test", wikiHost}:   unknown,
			{"corp.test", "corp.test"}:        unknown,
			{"a.wiki.corp.test", wikiHost}:    unknown,
			{"*.corp.test", wikiHost}:         unknown,
			{"public.corp.test", wikiHost}:    misdirected,
			{"public.corp.test", "corp.test"}: misdirected,
		}},
		"with a default": {", default: wiki.corp.test", map[[2]string]want{
			{wikiHost, wikiHost}:                       app,
			{"payroll.corp.test", "payroll.corp.test"}: app,
			{"", wikiHost}:                             misdirected,
			{"", "payroll.corp.test"}:                  misdirected,
			{"", ""}:                                   {status: http.StatusBadRequest},
			{"unknown.corp.test", wikiHost}:            misdirected,
			{"unknown.corp.test", "unknown.corp.test"}: misdirected,
			{wikiHost, "unknown.corp.test"}:            misdirected,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.New(t, harness.Apps, "")
			edit(t, s, `/keys/public/certs/*.pem"`, `/keys/public/certs/*.pem"`+tt.extra)
			s.Start(t)
			for c, want := range tt.want {
				_, status, err := ask(s, &tls.Config{ServerName: c[0], InsecureSkipVerify: true}, c[1])
				switch {
				case want.status == 0:
					if err == nil || !strings.Contains(err.Error(), want.alert) {
						t.Errorf("%q: got %d and %v, want the alert %q", c, status, err, want.alert)
					}
				case err != nil:
					t.Errorf("%q: %v", c, err)
				case want.status > 0 && status != want.status || want.status < 0 && !leads(status):
					t.Errorf("%q: got %d, want %d", c, status, want.status)
				}
			}
			if seen := s.Origin.Seen(); len(seen) > 0 {
				t.Errorf("an app was asked: %+v", seen)
			}
			for sni, want := range map[string]string{"wiki.corp.test.": "no peer certificate available", "127.0.0.1": "CN"} {
				out := openssl(s, "-servername", sni)
				if refused := strings.Contains(out, "no peer certificate available"); refused != (tt.extra == "" || want != "CN") {
					t.Errorf("openssl with SNI %s says:\n%s", sni, out)
				}
			}
			protocols(t, s)
		})
	}
}

// protocols offers lists of protocols, in the client's order.
func protocols(t *testing.T, s *harness.Stand) {
	t.Helper()
	for offer, want := range map[string]string{"": "", "http/1.1": "http/1.1", "h2": "h2", "http/1.1 h2": "h2", "h3 spdy/1 http/1.1": "http/1.1", "h3": "alert", "acme-tls/1 h3": "alert", "H2": "alert"} {
		c, err := tls.Dial("tcp", s.Address(), &tls.Config{ServerName: wikiHost, RootCAs: s.Roots(), NextProtos: strings.Fields(offer)})
		if err != nil {
			if want != "alert" || !strings.Contains(err.Error(), "no application protocol") {
				t.Errorf("%q: %v, want %q", offer, err, want)
			}
			continue
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("%q: got %q, want %q", offer, got, want)
		}
		c.Close()
	}
}

// openssl makes a handshake and returns what it says about it.
func openssl(s *harness.Stand, args ...string) string {
	cmd := exec.Command("openssl", append([]string{"s_client", "-connect", s.Address(), "-ign_eof"}, args...)...)
	cmd.Stdin = strings.NewReader("GET / HTTP/1.0\r\n\r\n")
	out, _ := cmd.CombinedOutput() // the exit code says whether the handshake succeeded, as the text does
	return string(out)
}

// A host with two kinds of certificate is reached by clients of either kind, and by none that can verify neither.
func TestSeveralCertificatesForOneName(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	slow := newRSA(t)
	addKey(t, s, "wiki-rsa", slow, wikiHost)
	install(t, chainFile(s, "wiki-rsa"), chain(t, s, slow, 390*24*time.Hour, wikiHost))
	s.Start(t)
	for algorithms, want := range map[string]string{
		"":                                  "ECDSA",
		"ECDSA+SHA256:RSA-PSS+SHA256":       "ECDSA",
		"RSA-PSS+SHA256:ECDSA+SHA256":       "ECDSA",
		"RSA-PSS+SHA256":                    "RSA-PSS",
		"RSA-PSS+SHA256:RSA+SHA256":         "RSA-PSS",
		"ECDSA+SHA384:RSA-PSS+SHA256":       "RSA-PSS",
		"ed25519":                           "",
		"ECDSA+SHA384":                      "",
		"RSA+SHA256:RSA-PSS+SHA512:ed25519": "",
		"RSA+SHA256":                        "",
	} {
		args := []string{"-servername", wikiHost}
		if algorithms != "" {
			args = append(args, "-sigalgs", algorithms)
		}
		out := openssl(s, args...)
		got := ""
		if _, rest, ok := strings.Cut(out, "Peer signature type: "); ok {
			got, _, _ = strings.Cut(rest, "\n")
		}
		if got != want {
			t.Errorf("%q: got a signature by %q, want %q:\n%s", algorithms, got, want, out)
		}
	}
}

// Recorded handshakes are safe from quantum computers wherever the client's are.
func TestKeyExchangeIsPostQuantum(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	for name, tt := range map[string]struct {
		offers []tls.CurveID
		want   tls.CurveID
	}{
		"a client of today":     {nil, tls.X25519MLKEM768},
		"nothing else":          {[]tls.CurveID{tls.X25519MLKEM768}, tls.X25519MLKEM768},
		"in another order":      {[]tls.CurveID{tls.CurveP256, tls.X25519, tls.X25519MLKEM768}, tls.X25519MLKEM768},
		"a client of last year": {[]tls.CurveID{tls.X25519, tls.CurveP256}, tls.X25519},
		"an old client":         {[]tls.CurveID{tls.CurveP256}, tls.CurveP256},
	} {
		state, status, err := ask(s, &tls.Config{ServerName: wikiHost, CurvePreferences: tt.offers}, wikiHost)
		if err != nil || !leads(status) || state.CurveID != tt.want || state.Version != tls.VersionTLS13 {
			t.Errorf("%s: got %d, %v and %v, want %v", name, status, state.CurveID, err, tt.want)
		}
	}
}

// KEY-10, KEY-12: a session resumes on its host only, not without keyd, and not with the gateway's next process.
func TestSessionsAreResumedOnTheirHostOnly(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	service := newKeyService(t, s, 61001)
	service.start(t)
	edit(t, s, fmt.Sprintf("keys: { strict: false, spawn: { binary: %s/keyd, config: %s } }", harness.Binaries(t), filepath.Join(s.Dir, "keys", "keyd.yaml")),
		fmt.Sprintf("keys: { socket: %s, uid: %d, strict: true }", service.socket, service.account))
	edit(t, s, s.Dir+"/keys/public/certs/*.pem", service.certificates)
	gw := s.Start(t)
	wallet := anyHost{tls.NewLRUClientSessionCache(1)}
	visit := func(host string) (resumed bool, err error) {
		state, _, err := ask(s, &tls.Config{ServerName: host, ClientSessionCache: wallet, InsecureSkipVerify: true}, host)
		return state.DidResume, err
	}
	for _, step := range []struct {
		host    string
		resumes bool
	}{{wikiHost, false}, {wikiHost, true}, {"payroll.corp.test", false}, {wikiHost, false}, {wikiHost, true}} {
		if resumed, err := visit(step.host); err != nil || resumed != step.resumes {
			t.Errorf("at %s: got resumed %v and %v, want %v", step.host, resumed, err, step.resumes)
		}
	}

	service.stop(t)
	harness.Eventually(t, 2*time.Minute, "the gateway to notice", func() bool { _, code := s.Sallyport(t, "status"); return code == 1 })
	if resumed, err := visit(wikiHost); err == nil {
		t.Errorf("a connection was made without keyd, resumed: %v", resumed)
	}
	newcomersWait(t, s, service, visit)

	if _, err := visit(wikiHost); err != nil {
		t.Fatal(err)
	}
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	if resumed, err := visit(wikiHost); err != nil || resumed {
		t.Errorf("after a restart: got resumed %v and %v", resumed, err)
	}
}

// newcomersWait checks that who comes while keyd restarts is served when it is back, and no sooner.
func newcomersWait(t *testing.T, s *harness.Stand, service *keyService, visit func(string) (bool, error)) {
	t.Helper()
	harness.Eventually(t, 2*time.Minute, "a newcomer to be served by a keyd that was away as it came", func() bool {
		served := make(chan error, 1)
		go func() { _, err := visit(wikiHost); served <- err }()
		s.Sallyport(t, "status") // takes longer than a refusal
		select {
		case <-served:
			return false // at once, or because this machine is so slow
		default:
		}
		service.start(t)
		err := <-served
		if err != nil {
			service.stop(t)
			harness.Eventually(t, 2*time.Minute, "the gateway to notice", func() bool { _, code := s.Sallyport(t, "status"); return code == 1 })
		}
		return err == nil
	})
}

// anyHost is a client's memory of sessions that takes all hosts for one.
type anyHost struct{ tls.ClientSessionCache }

func (a anyHost) Get(string) (*tls.ClientSessionState, bool) { return a.ClientSessionCache.Get("") }
func (a anyHost) Put(_ string, session *tls.ClientSessionState) {
	a.ClientSessionCache.Put("", session)
}

// A certificate that expires soon is seen in every place where somebody may look.
func TestExpiryIsSeen(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	probes := withProbes(t, s)
	private := newEC(t)
	addKey(t, s, "wiki2", private, wikiHost)
	file := chainFile(s, "wiki")
	soon := chain(t, s, private, 10*24*time.Hour+time.Hour, wikiHost)
	install(t, file, soon)
	gw := s.Start(t)
	out, code := s.Sallyport(t, "status", "--json")
	var status struct {
		Certificates []struct {
			File, State string
			DaysLeft    int `json:"days_left"`
		}
	}
	if err := json.Unmarshal([]byte(out), &status); code != 0 || err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	at := slices.IndexFunc(status.Certificates, func(c struct {
		File, State string
		DaysLeft    int `json:"days_left"`
	}) bool {
		return c.File == file
	})
	if at < 0 || status.Certificates[at].State != "expires_soon" || status.Certificates[at].DaysLeft != 10 {
		t.Errorf("status says %+v", status.Certificates)
	}
	if out, _ := s.Sallyport(t, "status"); !strings.Contains(out, "EXPIRES IN 10 DAYS") {
		t.Errorf("status says %s", out)
	}
	if out, code := s.Sallyport(t, "check"); code != 0 || !strings.Contains(out, "warning: "+file+" expires in 10 days") {
		t.Errorf("check says, with %d: %s", code, out)
	}
	block, _ := pem.Decode(soon)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("sallyport_certificate_not_after_seconds{file=%q,name=%q}", file, wikiHost)
	if got := gauge(t, probes, regexp.QuoteMeta(name)); got != float64(leaf.NotAfter.Unix()) {
		t.Errorf("%s: got %f, want %d", name, got, leaf.NotAfter.Unix())
	}
	if got := gauge(t, probes, "sallyport_certificate_expiry_seconds"); got != float64(leaf.NotAfter.Unix()) {
		t.Errorf("the first to expire: got %f, want %d", got, leaf.NotAfter.Unix())
	}
	harness.Eventually(t, 2*time.Minute, "a warning", func() bool { return strings.Contains(gw.Output(), "a certificate expires") })
}
