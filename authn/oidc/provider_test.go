package oidc

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/fakeidp"
)

// OIDC-13: an issuer that differs in one character is another issuer.
func TestOIDC13DiscoveryOfAnotherIssuerIsRefused(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := newProvider(t, configFor(idp), Options{})
	idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["issuer"] = idp.Issuer + "/" }})
	wantCode(t, p.Discover(t.Context()), DiscoveryMismatch)
	wantCode(t, p.Ready(), DiscoveryMismatch)
	_, err := p.AuthCodeURL(t.Context(), p.NewFlow())
	wantCode(t, err, DiscoveryMismatch)

	idp.Do(fakeidp.Script{})
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
}

func TestIssuerThatChangesLaterKeepsWhatWasDiscovered(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["issuer"] = "https://evil.example" }})
	wantCode(t, p.Discover(t.Context()), DiscoveryMismatch)
	mustSignIn(t, p)
}

func TestDiscoveryWithUnsafeEndpointsOrAlgorithmsIsRefused(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	for name, change := range map[string]func(map[string]any){
		"token endpoint in the clear": func(d map[string]any) { d["token_endpoint"] = "http://login.example/token" },
		"no jwks_uri":                 func(d map[string]any) { delete(d, "jwks_uri") },
		"relative endpoint":           func(d map[string]any) { d["authorization_endpoint"] = "/authorize" },
		"javascript endpoint":         func(d map[string]any) { d["authorization_endpoint"] = "javascript:alert(1)" },
		"only symmetric algorithms":   func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"HS256", "none"} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t, configFor(idp), Options{})
			idp.Do(fakeidp.Script{Discovery: change})
			wantCode(t, p.Discover(t.Context()), DiscoveryInvalid)
		})
	}
}

// OIDC-15: whatever an endpoint answers, the call ends and memory stays bounded.
func TestOIDC15HostileAnswersFailClosed(t *testing.T) {
	bomb := compressed(t, 32<<20)
	answers := map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request)
		want  []Code
	}{
		"HTML": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html><body>Welcome")
		}, []Code{ProviderInvalidAnswer}},
		"100 MB": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "104857600")
			io.WriteString(w, `{"access_token":"`)
		}, []Code{ProviderInvalidAnswer}},
		"never ends": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"access_token":"`)
			for block := bytes.Repeat([]byte("a"), 64<<10); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, []Code{ProviderInvalidAnswer}},
		"stalls": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"access_token":"`)
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, []Code{ProviderInvalidAnswer, ProviderUnreachable}},
		"says nothing": {func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, []Code{ProviderUnreachable}},
		"gzip bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb)
		}, []Code{ProviderInvalidAnswer}},
		"overloaded": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, []Code{ProviderUnreachable}},
		"redirect elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost.evil.example/", http.StatusTemporaryRedirect)
		}, []Code{ProviderInvalidAnswer}},
		"success with an error code": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"error":"server_error","access_token":"access-1"}`)
		}, []Code{ProviderInvalidAnswer}},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			idp := fakeidp.Start(t, testClient)
			hostile := func(w http.ResponseWriter, r *http.Request) bool { answer.serve(w, r); return true }
			p := discoveredProvider(t, idp, nil)
			if slices.Contains(answer.want, ProviderUnreachable) { // some of these wait for the deadline
				p.client.Timeout = time.Second
			}

			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			idp.Do(fakeidp.Script{Token: hostile})
			_, err := signIn(t, p)
			wantOneOf(t, "token endpoint", err, answer.want...)
			idp.Do(fakeidp.Script{JWKS: hostile})
			_, err = signIn(t, p)
			wantOneOf(t, "jwks", err, append(answer.want, TokenInvalid)...)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 48<<20 {
				t.Errorf("%d MiB were allocated", grown>>20)
			}
		})
	}
}

// compressed is so many zeros as gzip.
func compressed(t *testing.T, size int) []byte {
	t.Helper()
	var small bytes.Buffer
	z := gzip.NewWriter(&small)
	if _, err := z.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return small.Bytes()
}

func wantOneOf(t *testing.T, where string, err error, codes ...Code) {
	t.Helper()
	failure, ok := errors.AsType[*Failure](err)
	if !ok {
		t.Fatalf("%s: got %v, want a failure", where, err)
	}
	for _, code := range codes {
		if failure.Code == code {
			wantCode(t, err, code)
			return
		}
	}
	t.Errorf("%s: got %v, want one of %v", where, failure, codes)
}

func TestHostileDiscoveryFailsClosed(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"HTML":      func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"endless":   func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, endless{}) },
		"null":      func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "null") },
		"not found": http.NotFound,
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://evil.example/", http.StatusFound)
		},
		"in circles": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(serve)
			defer server.Close()
			p := newProvider(t, Config{Name: "corp", Issuer: server.URL, ClientID: "c", ClientSecret: "s3cret"}, Options{})
			err := p.Discover(t.Context())
			wantOneOf(t, "discovery", err, ProviderInvalidAnswer, DiscoveryMismatch)
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestProviderThatIsDownAtStartAndLaterIsUsedAsSoonAsItAnswers(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	idp.Do(fakeidp.Script{Down: true})
	p := newProvider(t, configFor(idp), Options{})
	p.pace = pace{first: time.Millisecond, most: 5 * time.Millisecond, refresh: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})

	eventually(t, "degraded", func() bool { return idp.Calls("discovery") == 0 && p.Ready() != nil })
	_, err := p.AuthCodeURL(t.Context(), p.NewFlow())
	wantCode(t, err, ProviderUnreachable)
	if text := p.Ready().Error(); !strings.Contains(text, `"corp"`) || !strings.Contains(text, "since 20") {
		t.Errorf("Ready says %q: want who and since when", text)
	}

	idp.Do(fakeidp.Script{})
	eventually(t, "ready", func() bool { return p.Ready() == nil })
	mustSignIn(t, p)

	f := p.NewFlow()
	cb := visit(t, p, f)
	idp.Do(fakeidp.Script{Down: true})
	_, err = p.Finish(t.Context(), f, cb)
	wantCode(t, err, ProviderUnreachable)
	wantCode(t, p.Ready(), ProviderUnreachable)
	if _, err := p.AuthCodeURL(t.Context(), p.NewFlow()); err != nil {
		t.Errorf("the browser may still find the provider: %v", err)
	}

	idp.Do(fakeidp.Script{})
	eventually(t, "ready again", func() bool { return p.Ready() == nil })
}

func TestPaceDoublesUpToAMinuteAndJitters(t *testing.T) {
	for failures, want := range []time.Duration{time.Hour, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute} {
		seen := map[time.Duration]bool{}
		for range 50 {
			d := defaultPace.delay(failures)
			if seen[d] = true; d < want*3/4 || d > want*5/4+1 {
				t.Errorf("after %d failures: %s, want %s ± a quarter", failures, d, want)
			}
		}
		if len(seen) < 10 {
			t.Errorf("after %d failures the delays hardly differ", failures)
		}
	}
	if d := defaultPace.delay(1 << 30); d > 75*time.Second {
		t.Errorf("after many failures: %s", d)
	}
}

// Split DNS: the name is kept for TLS and Host, only the address changes.
func TestConnectDialsElsewhereUnderTheSameName(t *testing.T) {
	idp := fakeidp.StartTLS(t, testClient)
	_, port, err := net.SplitHostPort(idp.Server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	issuer := "https://example.com:" + port // the test certificate holds this name
	idp.Issuer = issuer
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp.Server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, connect := range []string{"127.0.0.1", "127.0.0.1:" + port} {
		p := discoveredProvider(t, idp, func(c *Config) { c.Connect, c.CA = connect, ca })
		mustSignIn(t, p)
	}
	cfg := configFor(idp)
	cfg.Connect = "127.0.0.1"
	wantCode(t, newProvider(t, cfg, Options{}).Discover(t.Context()), ProviderUnreachable) // not vouched for
}

func TestConfigurationMistakesAreNamed(t *testing.T) {
	good := Config{Name: "corp", Issuer: "https://login.example", ClientID: "c", ClientSecret: "s", Skew: time.Minute}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"name":                func(c *Config) { c.Name = "Corp|x" },
		"groups_endpoint":     func(c *Config) { c.GroupsEndpoint = "http://graph.example" },
		"offline_access":      func(c *Config) { c.OfflineAccess = "sometimes" },
		"context class":       func(c *Config) { c.MFA.ACR = []string{""} },
		"https://":            func(c *Config) { c.Issuer = "http://login.example" },
		"nothing after it":    func(c *Config) { c.Issuer = "https://login.example?x=1" },
		"client_id":           func(c *Config) { c.ClientID = "" },
		"skew":                func(c *Config) { c.Skew = time.Hour },
		"both set":            func(c *Config) { c.ClientSecretFile = "/x" },
		"uses no client":      func(c *Config) { c.ClientAuth = PrivateKeyJWT },
		"needs client_secret": func(c *Config) { c.ClientAuth, c.ClientSecret = ClientSecretPost, "" },
		"trust_email":         func(c *Config) { c.TrustEmail = true },
		"email_domains":       func(c *Config) { c.EmailDomains = []string{"*.example"} },
		"connect":             func(c *Config) { c.Connect = "https://10.0.0.1" },
		"loopback only":       func(c *Config) { c.Issuer, c.Connect = "http://localhost:9", "10.0.0.1" },
	} {
		cfg := good
		change(&cfg)
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check: %v, want it to speak of %q", err, want)
		}
	}
	for _, loopback := range []string{"http://localhost:8000", "http://127.0.0.1:1", "http://[::1]:2"} {
		cfg := good
		cfg.Issuer = loopback
		if err := cfg.Check(); err != nil {
			t.Errorf("issuer %s: %v", loopback, err)
		}
	}
}

func TestSecretComesFromAFileAndNeverShows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(testClient.Secret+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, func(c *Config) { c.ClientSecret, c.ClientSecretFile = "", file })
	mustSignIn(t, p)

	var log bytes.Buffer
	cfg := configFor(idp)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", cfg, "secret", cfg.ClientSecret)
	fmt.Fprintf(&log, "%v %+v %#v %s", cfg, cfg, cfg, cfg.ClientSecret)
	if strings.Contains(log.String(), "s3cret") || !strings.Contains(log.String(), "[redacted]") {
		t.Errorf("the secret shows: %s", log.String())
	}
	_, err := New(Config{Name: "corp", Issuer: "https://login.example", ClientID: "c", ClientSecretFile: file + ".absent"}, Options{})
	if err == nil {
		t.Error("a secret file that is absent is no error")
	}
}

// A person who comes while the gateway starts is not shown a problem that is over before the page is read.
func TestSignInWaitsForTheFirstLook(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := newProvider(t, configFor(idp), Options{})
	first := make(chan error)
	go func() {
		_, err := p.AuthCodeURL(t.Context(), p.NewFlow())
		first <- err
	}()
	eventually(t, "somebody asks", func() bool { return len(p.wake) == 1 })
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Errorf("the one who came first: %v", err)
	}
}
