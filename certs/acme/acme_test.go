package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rfc8555 "github.com/mholt/acmez/v3/acme"

	"sallyport/certs/keyring"
)

// noKeys is a key process that refuses.
type noKeys struct{}

func (noKeys) List(context.Context) ([]keyring.Key, error) { return nil, nil }
func (noKeys) ACMEAccount(keyring.Key) crypto.Signer       { return nil }
func (noKeys) Adopt(context.Context, keyring.Key) error    { return keyring.ErrRefused }
func (noKeys) MakeCSR(context.Context, string, []string) (keyring.Key, []byte, error) {
	return keyring.Key{}, nil, keyring.ErrRefused
}

func good(dir string) *Config {
	return &Config{Directory: "https://ca.example/dir", TermsAgreed: true, Challenge: TLSALPN01, Dir: dir, Account: "acme-account", Retry: time.Minute, Attempts: 8,
		DNS: DNS{Timeout: time.Minute, Propagation: time.Minute}}
}

func renewer(t *testing.T, cfg *Config, now func() time.Time, events *[]Event) *Renewer {
	t.Helper()
	r, err := New(cfg, []string{"wiki.corp.example"}, Options{Keys: noKeys{}, Now: now, Log: slog.New(slog.DiscardHandler),
		Install: func(context.Context) error { return nil }, Record: func(_ context.Context, e Event) { *events = append(*events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	if err := good("/x").Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(c *Config){
		"not an https address":      func(c *Config) { c.Directory = "ftp://ca.example" },
		"http is for loopback only": func(c *Config) { c.Directory = "http://ca.example/dir" },
		"must be true":              func(c *Config) { c.TermsAgreed = false },
		"not one e-mail address":    func(c *Config) { c.Email = "a@b,mailto:c@d" },
		"wildcards need":            func(c *Config) { c.Hosts = []string{"*.corp.example"} },
		"not a DNS name":            func(c *Config) { c.Hosts = []string{"../etc"} },
		"name of a key":             func(c *Config) { c.Slots = map[string]string{"wiki.corp.example": "a b"} },
		"from 1s to 24h":            func(c *Config) { c.Retry = 0 },
		"from 1 to 100":             func(c *Config) { c.Attempts = 0 },
		"command is missing":        func(c *Config) { c.Challenge = DNS01 },
		"not an absolute path":      func(c *Config) { c.Challenge, c.DNS.Command = DNS01, []string{"hook"} },
		"not an IP address and port": func(c *Config) {
			c.Challenge, c.DNS.Command, c.DNS.Resolvers = DNS01, []string{"/hook"}, []string{"dns"}
		},
	} {
		c := good("/x")
		spoil(c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// What is known of a host follows from files: a folder that others can write decides nothing.
func TestFolderOfOthersIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := New(good(dir), nil, Options{Keys: noKeys{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("accepted")
	}
}

// An authority that names addresses elsewhere, redirects there, or answers without end leads nowhere.
func TestAuthorityIsHeldToItsHost(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the authority led us inside") }))
	defer inside.Close()
	ca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, inside.URL+"/latest/meta-data", http.StatusFound)
		case "/near":
			http.Redirect(w, r, "/dir", http.StatusFound)
		case "/endless":
			for range maxAnswer/1024 + 2 {
				w.Write(make([]byte, 1024))
			}
		}
	}))
	defer ca.Close()
	cfg := good(t.TempDir())
	cfg.Directory = ca.URL + "/dir"
	web, err := newHTTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer web.CloseIdleConnections()
	for path, want := range map[string]string{ca.URL + "/away": "not on the host", inside.URL + "/x": "not on the host", ca.URL + "/near": "", ca.URL + "/endless": "too large"} {
		res, err := web.Get(path)
		if err == nil {
			_, err = (&http.Response{Body: res.Body}).Body.Read(make([]byte, 1))
			for err == nil {
				_, err = res.Body.Read(make([]byte, 64<<10))
			}
			res.Body.Close()
			if err.Error() == "EOF" {
				err = nil
			}
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"0": time.Second, "120": 2 * time.Minute, "99999999": maxRetryAfter, "Mon, 31 Dec 2029 00:00:00 GMT": time.Second, "Tue, 01 Jan 2030 00:01:00 GMT": time.Minute,
		"soon": 0, "-5": 0,
	} {
		if got, ok := parseRetryAfter(text, now); got != want || ok != (want > 0) {
			t.Errorf("%q: got %s %t, want %s", text, got, ok, want)
		}
	}
}

// The authority's words become a page, a handshake and a program's arguments only if they are what was asked for.
func TestChallengesAreForWhatWasAskedFor(t *testing.T) {
	authz := func(host, token string) rfc8555.Authorization {
		return rfc8555.Authorization{Identifier: rfc8555.Identifier{Type: "dns", Value: host}, Challenges: []rfc8555.Challenge{{Type: DNS01, Token: token}}}
	}
	const token = "abcdefghijklmnopqrstuvwxyz"
	if c, err := challengeOf(authz("corp.example", token), "*.corp.example", DNS01); err != nil || c.Identifier.Value != "corp.example" {
		t.Errorf("got %v %v", c, err)
	}
	for name, a := range map[string]rfc8555.Authorization{
		"another host": authz("bank.example", token), "an option": authz("--help", token), "a path": authz("corp.example", "../../../../../../../../../etc"),
		"short": authz("corp.example", "abc"), "a line": authz("corp.example", token+"\n"),
	} {
		if _, err := challengeOf(a, "corp.example", DNS01); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := challengeOf(authz("corp.example", token), "corp.example", HTTP01); err == nil {
		t.Error("a challenge that is not offered was found")
	}
}

// Pages are there for the host and the time of their challenge, and nothing else is.
func TestOnlyChallengesUnderWayAreAnswered(t *testing.T) {
	r := renewer(t, good(t.TempDir()), time.Now, new([]Event))
	const token = "abcdefghijklmnopqrstuvwxyz"
	cleanup, err := r.present(t.Context(), rfc8555.Challenge{Type: HTTP01, Token: token, KeyAuthorization: token + ".x", Identifier: rfc8555.Identifier{Value: "wiki.corp.example"}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, host, path string) bool {
		w := httptest.NewRecorder()
		answered := r.ServeHTTP(w, httptest.NewRequest(method, "http://"+host+path, nil))
		return answered && w.Body.String() == token+".x"
	}
	if !ask("GET", "wiki.corp.example:80", challengePath+token) {
		t.Error("the challenge is not answered")
	}
	for _, other := range [][3]string{{"GET", "pay.corp.example", challengePath + token}, {"POST", "wiki.corp.example", challengePath + token},
		{"GET", "wiki.corp.example", challengePath}, {"GET", "wiki.corp.example", challengePath + token + "/x"}, {"GET", "wiki.corp.example", "/" + token}} {
		if ask(other[0], other[1], other[2]) {
			t.Errorf("%q is answered", other)
		}
	}
	if err := cleanup(); err != nil || ask("GET", "wiki.corp.example", challengePath+token) {
		t.Errorf("after its time the challenge is answered, %v", err)
	}
}

// What the operator's program prints is bounded and quoted, its time is, and its environment is empty.
func TestProgramForDNSIsHeldInBounds(t *testing.T) {
	cfg := good(t.TempDir())
	cfg.Challenge = DNS01
	r := renewer(t, cfg, time.Now, new([]Event))
	t.Setenv("SALLYPORT_SECRET", "of the gateway")
	for script, want := range map[string]string{
		`test "$(env | grep -c SECRET)" = 0 && test "$2" = name`: "",
		`printf 'no \033[31m'; exit 7`:                           `exit status 7: "no \x1b[31m"`,
		`head -c 100000 /dev/zero | tr '\0' x; exit 1`:           strings.Repeat("x", 100),
	} {
		cfg.DNS.Command = []string{"/bin/sh", "-c", script, "hook"}
		err := r.hook(t.Context(), "present", "name", "value")
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || len(err.Error()) > 2*maxOutput) {
			t.Errorf("%s: got %v, want %q", script, err, want)
		}
	}
	cfg.DNS.Command, cfg.DNS.Timeout = []string{"/bin/sh", "-c", "sleep 1000 & sleep 1000"}, time.Second
	if err := r.hook(t.Context(), "present", "name", "value"); err == nil || !strings.Contains(err.Error(), "longer than 1s") {
		t.Errorf("got %v, want its time to be over", err)
	}
}

// self makes a chain of one.
func self(t *testing.T, key *ecdsa.PrivateKey, notBefore, notAfter time.Time, hosts ...string) chain {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(notBefore.Unix()), DNSNames: hosts, NotBefore: notBefore, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return chain{cert}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestChainsMustBeWhatWasAskedFor(t *testing.T) {
	now, key, other := time.Now(), newKey(t), newKey(t)
	from, to := now.Add(-time.Hour), now.Add(time.Hour)
	forClients := self(t, key, from, to, "wiki.corp.example")
	forClients.leaf().ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if err := self(t, key, from, to, "wiki.corp.example").check("wiki.corp.example", key.Public(), now); err != nil {
		t.Error(err)
	}
	for want, c := range map[string]chain{
		"another key": self(t, other, from, to, "wiki.corp.example"), "alone": self(t, key, from, to, "wiki.corp.example", "bank.example"),
		"not for": nil, "expired": self(t, key, from, now.Add(-time.Minute), "wiki.corp.example"),
		"not valid before": self(t, key, now.Add(time.Minute), to, "wiki.corp.example"), "not for TLS servers": forClients,
		"an authority that expired": append(self(t, key, from, to, "wiki.corp.example"), self(t, key, from, now.Add(-time.Minute), "ca.example")...),
		"not a chain":               append(self(t, key, from, to, "wiki.corp.example"), self(t, other, from, to, "ca.example")...),
	} {
		if want == "an authority that expired" {
			want = "expired"
		}
		if want == "not for" {
			want, c = "not for wiki", self(t, key, from, to, "bank.example")
		}
		if err := c.check("wiki.corp.example", key.Public(), now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Attempts are bounded, apart, and remembered: a gateway that is restarted all the time asks no more often.
func TestFailuresAreApartAcrossRestarts(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	ca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	defer ca.Close()
	cfg := good(dir)
	cfg.Directory = ca.URL + "/dir"
	var events []Event
	for range 400 { // restarts, one every five minutes
		r := renewer(t, cfg, func() time.Time { return now }, &events)
		due, _ := r.due()
		for _, h := range due {
			r.tend(t.Context(), h)
			if again, _ := r.due(); len(again) > 0 {
				t.Fatal("after a failure there is another attempt at once")
			}
		}
		now = now.Add(5 * time.Minute)
	}
	if len(events) < 6 || len(events) > 2*cfg.Attempts {
		t.Errorf("%d attempts in 33 hours of restarts, want at most %d a day, and some", len(events), cfg.Attempts)
	}
	for _, e := range events {
		if e.Outcome != Failed || e.Reason != "keys" {
			t.Fatalf("got %+v", e)
		}
	}
}

// The authority's advice counts for its certificate, is kept within the certificate's life, and is not followed in circles.
func TestAdviceOnRenewal(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	end := start.Add(90 * day)
	leaf := self(t, newKey(t), start, end, "wiki.corp.example")
	r := renewer(t, good(t.TempDir()), func() time.Time { return start }, new([]Event))
	own := start.Add(60 * day)
	at := func(change func(m *memory)) time.Time {
		h := &host{name: "wiki.corp.example", chain: leaf, memory: memory{Directory: r.cfg.Directory, RenewAt: own, Obtained: start}}
		change(&h.memory)
		return r.attemptAt(h)
	}
	advised := func(selected time.Time) advice { return advice{Serial: serialOf(leaf.leaf()), Selected: selected} }
	for name, tt := range map[string]struct {
		change func(m *memory)
		want   time.Time
	}{
		"none":                 {func(*memory) {}, own},
		"sooner":               {func(m *memory) { m.Advice = advised(start.Add(day)) }, start.Add(day)},
		"later":                {func(m *memory) { m.Advice = advised(start.Add(70 * day)) }, start.Add(70 * day)},
		"much too late":        {func(m *memory) { m.Advice = advised(end.Add(day)) }, start.Add(81 * day)},
		"of an old one":        {func(m *memory) { m.Advice = advice{Serial: "ff", Selected: start} }, own},
		"at once, once":        {func(m *memory) { m.Advice = advised(start.Add(-day)) }, start},
		"at once, third time":  {func(m *memory) { m.Advice, m.Early = advised(start.Add(-day)), 3 }, start.Add(4 * time.Minute)},
		"revoked":              {func(m *memory) { m.Advice, m.Revoked = advised(start.Add(70*day)), true }, time.Time{}},
		"of another authority": {func(m *memory) { m.Directory = "https://other.example" }, time.Time{}},
		"while it fails":       {func(m *memory) { m.Revoked, m.RetryAt = true, start.Add(time.Hour) }, start.Add(time.Hour)},
	} {
		if got := at(tt.change); !got.Equal(tt.want) {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
	for range 100 {
		if got := fallback(leaf.leaf()); got.After(start.Add(60*day)) || got.Before(start.Add(57*day)) {
			t.Fatalf("without advice a certificate of 90 days is renewed at %s", got)
		}
	}
}

// Memory that cannot be read is no reason to ask at once.
func TestDamagedMemoryBeginsSlowly(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	if err := os.WriteFile(filepath.Join(dir, "wiki.corp.example.json"), []byte(`{"attempts": [`), 0o644); err != nil {
		t.Fatal(err)
	}
	r := renewer(t, good(dir), func() time.Time { return now }, new([]Event))
	if due, next := r.due(); len(due) > 0 || next < 30*time.Second {
		t.Errorf("due %v, next in %s", due, next)
	}
}

func TestReasonsAreFewWords(t *testing.T) {
	for want, err := range map[string]error{
		"rateLimited": fmt.Errorf("x: %w", rfc8555.Problem{Type: rfc8555.ProblemTypeRateLimited}), "refused": rfc8555.Problem{Type: "about:blank"},
		"key_refused": fmt.Errorf("%w: %w", errKeys, keyring.ErrRefused), "keys": errKeys, "dns_program": errHook, "chain": errChain,
		"timeout": context.DeadlineExceeded, "other": errors.New("x"),
	} {
		if got := reasonOf(err); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
	if got := reasonOf(rfc8555.Problem{Type: rfc8555.ProblemTypeNamespace + "made up"}); got != "refused" {
		t.Errorf("a word of the authority's own became %q", got)
	}
}

func TestOnlyARestartChangesTheAuthority(t *testing.T) {
	a, b := good("/x"), good("/x")
	a.EAB, b.EAB = &EAB{KeyID: "k"}, &EAB{KeyID: "k"}
	b.Hosts = []string{"wiki.corp.example"}
	if a.Restart(b) || (*Config)(nil).Restart(nil) {
		t.Error("hosts need a restart")
	}
	if b.EAB.KeyID = "other"; !a.Restart(b) || !a.Restart(nil) || !(*Config)(nil).Restart(a) {
		t.Error("the account can change, or come and go, without one")
	}
}

// A chain that cannot be put into effect at once, because the key process is away, say, is there already: it is tried
// again soon, also after a restart, and the authority is not asked for another one.
func TestChainThatWaitsComesIntoEffect(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var events []Event
	away := true
	start := func() *Renewer {
		r := renewer(t, good(dir), func() time.Time { return now }, &events)
		r.opts.Install = func(context.Context) error {
			if away {
				return keyring.ErrUnavailable
			}
			return nil
		}
		return r
	}
	r := start()
	h := r.all()[0]
	got := self(t, newKey(t), now, now.Add(90*day), h.name)
	if err := r.folder.write(fileOf(h.name)+".pem", got.pem()); err != nil {
		t.Fatal(err)
	}
	r.succeeded(h, got, false, Issued)
	if err := r.install(t.Context(), h); !errors.Is(err, keyring.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	h.memory.Advice = advice{Serial: serialOf(got.leaf()), AskAgainAt: now.Add(90 * day)} // nobody is asked in this test
	if err := r.remember(h); err != nil {
		t.Fatal(err)
	}
	if next := r.Status()[0].NextAt; next.After(now.Add(r.cfg.Retry)) {
		t.Errorf("tried again at %s, %s after the failure", next, next.Sub(now))
	}
	now = now.Add(2 * time.Minute)
	r.tend(t.Context(), h)
	away, now = false, now.Add(time.Hour)
	r = start() // another gateway
	r.tend(t.Context(), r.all()[0])
	if len(events) != 3 || events[0].Outcome != Failed || events[1].Outcome != Failed || events[2].Outcome != Issued {
		t.Fatalf("got %+v, want two failures and the certificate", events)
	}
	if s := r.Status()[0]; s.Failures > 0 || s.NextAt.Before(now.Add(50*day)) {
		t.Errorf("afterwards: %+v", s)
	}
}

// What would keep the gateway from starting, or from ever getting a certificate, is found before.
func TestWhatSettingsNameMustBeThere(t *testing.T) {
	hosts := []string{"auth.corp.example", "wiki.corp.example"}
	if err := good(t.TempDir()).CheckFiles(hosts); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(c *Config){
		"opening tls.acme.dir":    func(c *Config) { c.Dir = filepath.Join(c.Dir, "none") },
		"reading ca":              func(c *Config) { c.CA = filepath.Join(c.Dir, "none") },
		"reading eab.hmac_file":   func(c *Config) { c.EAB = &EAB{KeyID: "k", HMACFile: filepath.Join(c.Dir, "none")} },
		"dns.command":             func(c *Config) { c.Challenge, c.DNS.Command = DNS01, []string{filepath.Join(c.Dir, "none")} },
		"each host needs its own": func(c *Config) { c.Slots = map[string]string{"auth.corp.example": "wiki.corp.example"} },
	} {
		c := good(t.TempDir())
		spoil(c)
		if err := c.CheckFiles(hosts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// An order whose request is damaged is not taken to the authority again and again.
func TestDamagedRequestIsMadeAnew(t *testing.T) {
	r := renewer(t, good(t.TempDir()), time.Now, new([]Event))
	h := r.all()[0]
	h.memory.Order = &order{Directory: r.cfg.Directory, Key: "k", CSR: []byte("damaged"), URL: "https://ca.example/order/1"}
	if err := r.prepare(t.Context(), h); !errors.Is(err, keyring.ErrRefused) { // what this key process says to a new one
		t.Errorf("got %v, want another key to be asked for", err)
	}
}

// accountKeys is a key process with an account's key, which signs nothing that anybody could verify.
type accountKeys struct {
	noKeys
	key *ecdsa.PrivateKey
}

func (k accountKeys) List(context.Context) ([]keyring.Key, error) {
	return []keyring.Key{{Name: "acme-account", ID: "account", Purpose: keyring.PurposeACME, Public: k.key.Public()}}, nil
}

func (k accountKeys) ACMEAccount(keyring.Key) crypto.Signer { return k }
func (k accountKeys) Public() crypto.PublicKey              { return k.key.Public() }
func (accountKeys) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 64), nil
}

// Who waits for something to do is woken when it can be done, and not while the host is still held.
func TestRevocationWakesForAnotherCertificate(t *testing.T) {
	var ca *httptest.Server
	ca = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Replay-Nonce", "n")
		if req.URL.Path == "/dir" {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"newNonce": "%[1]s/nonce", "newAccount": "%[1]s/account", "newOrder": "%[1]s/order", "revokeCert": "%[1]s/revoke"}`, ca.URL)
		}
	}))
	defer ca.Close()
	now, cfg := time.Now(), good(t.TempDir())
	cfg.Directory = ca.URL + "/dir"
	r := renewer(t, cfg, time.Now, new([]Event))
	r.keys = accountKeys{key: newKey(t)}
	if err := r.folder.store(accountFile, accountMemory{cfg.Directory, "account", ca.URL + "/account/1"}); err != nil {
		t.Fatal(err)
	}
	h := r.all()[0]
	h.chain = self(t, newKey(t), now.Add(-time.Hour), now.Add(90*day), h.name)
	for range 300 { // it is a race
		h.memory = memory{Directory: cfg.Directory, RenewAt: now.Add(60 * day), Advice: advice{Serial: serialOf(h.chain.leaf()), AskAgainAt: now.Add(day)}}
		select { // of the time before
		case <-r.wake:
		default:
		}
		woken := make(chan int)
		go func() {
			<-r.wake
			due, _ := r.due()
			woken <- len(due)
		}()
		if err := r.Revoke(t.Context(), h.name, "superseded"); err != nil {
			t.Fatal(err)
		}
		if n := <-woken; n != 1 {
			t.Fatal("woken, there was nothing to do, and nobody wakes again")
		}
	}
}
