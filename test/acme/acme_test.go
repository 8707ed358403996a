// Package acme gets certificates from a real authority, Pebble, with the real gateway and key process.
package acme

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/test/harness"
	"sallyport/test/memscan"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.RemoveBinaries()
	os.Exit(code)
}

// A gateway that starts without any certificate gets one for each host, by each of the challenges, from an authority that
// rejects nonces and fails now and then; and holds no private key after.
func TestCertificatesByEveryChallenge(t *testing.T) {
	for challenge, settings := range map[string]string{
		"http-01": "", "tls-alpn-01": "", "dns-01": "    dns: { command: [DIR/hook], resolvers: [DNS], timeout: 10s, propagation: 20s }",
	} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			s := newACME(t, acmeSetup{challenge: challenge, settings: settings, pebble: []string{"PEBBLE_WFE_NONCEREJECT=20", "PEBBLE_AUTHZREUSE=50"}})
			s.writeHook(t)
			s.keep(func(w http.ResponseWriter, r *http.Request, serve func()) {
				if rand.N(20) == 0 {
					http.Error(w, "an unlucky moment", http.StatusInternalServerError)
					return
				}
				serve()
			})
			gw := s.run(t)
			for _, host := range []string{"auth.corp.test", "wiki.corp.test"} {
				leaf := s.awaitAnother(t, host, nil)
				if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != host {
					t.Errorf("the certificate of %s is for %q: want one for each host", host, leaf.DNSNames)
				}
			}
			if status, body := harness.Get(t, s.Browser(), s.URL("wiki", "/")); status != http.StatusOK {
				t.Errorf("the wiki answers %d: %s", status, body)
			}
			s.holdsNoKey(t, gw)
			s.onRecord(t, "certificate_issued", `"host":"wiki.corp.test"`)
		})
	}
}

// writeHook is an operator's program for DNS. It fails when its environment is not empty.
func (s *acmeStand) writeHook(t *testing.T) {
	t.Helper()
	host, port, _ := strings.Cut(strings.TrimPrefix(s.records, "http://"), ":")
	text := fmt.Sprintf(`#!/bin/bash
for name in $(compgen -e); do
	case $name in PATH|PWD|SHLVL|_|OLDPWD) ;; *) echo "the environment has $name" >&2; exit 3 ;; esac
done
case $1 in
present) path=/set-txt body="{\"host\":\"$2.\",\"value\":\"$3\"}" ;;
cleanup) path=/clear-txt body="{\"host\":\"$2.\"}" ;;
esac
exec 3<>/dev/tcp/%s/%s
printf 'POST %%s HTTP/1.0\r\nContent-Length: %%d\r\n\r\n%%s' "$path" "${#body}" "$body" >&3
read -r _ status _ <&3
[ "$status" = 200 ]
`, host, port)
	if err := os.WriteFile(filepath.Join(s.Dir, "hook"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// holdsNoKey looks for the keys of account and certificates in the gateway's memory, and in its files.
func (s *acmeStand) holdsNoKey(t *testing.T, gw *harness.Process) {
	t.Helper()
	secrets, err := memscan.Files(filepath.Join(s.Dir, "keys", "keys", "acme-*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) < 3 {
		t.Fatalf("%d keys were made, want the account's and one for each host", len(secrets))
	}
	finds, err := memscan.Process(gw.Pid(), secrets)
	if err != nil {
		t.Fatal(err)
	}
	if len(finds) > 0 {
		t.Errorf("KEY-01: the gateway holds %s", finds[0])
	}
	files, err := filepath.Glob(filepath.Join(s.Dir, "acme", "*"))
	if err != nil || len(files) < 4 {
		t.Errorf("the folder has %q %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(text), "PRIVATE") {
			t.Errorf("%s: %v, or it holds a private key", file, err)
		}
	}
}

// onRecord waits for a control record of a code whose line has the text.
func (s *acmeStand) onRecord(t *testing.T, code, text string) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, "a record of "+code, func() bool {
		out, _ := s.Sallyport(t, "audit", "query", "--log", "control", "--code", code, "--json")
		return strings.Contains(out, text)
	})
}

// Certificates of a minute's life are renewed while connections that were made with the old one go on.
func TestRenewalKeepsConnections(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{validity: 12 * time.Second})
	s.run(t)
	old := s.awaitAnother(t, "wiki.corp.test", nil)
	conn, err := tls.Dial("tcp", s.Address(), &tls.Config{ServerName: "wiki.corp.test", RootCAs: s.Roots(), NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.awaitAnother(t, "wiki.corp.test", old)
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: wiki.corp.test:%d\r\nConnection: close\r\n\r\n", s.Port)
	answer := make([]byte, 15)
	if _, err := conn.Read(answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		t.Errorf("on the old connection: %q %v", answer, err)
	}
	s.onRecord(t, "certificate_renewed", "wiki.corp.test")
}

// A gateway that is killed between the end of an order and its certificate finishes that order when it is back, with the
// same key, and makes no other one.
func TestOrderOutlivesTheGateway(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{settings: "    hosts: wiki.corp.test"})
	reached, killed := make(chan struct{}), make(chan struct{})
	s.keep(func(w http.ResponseWriter, r *http.Request, serve func()) {
		if strings.HasPrefix(r.URL.Path, "/certZ/") {
			reached <- struct{}{}
			<-killed
			return
		}
		serve()
	})
	gw := s.run(t)
	<-reached
	s.keep(nil)
	gw.Kill()
	close(killed)
	before, err := os.ReadFile(filepath.Join(s.Dir, "acme", "wiki.corp.test.json"))
	if err != nil || !strings.Contains(string(before), `"csr"`) {
		t.Fatalf("the order is not on disk: %v %s", err, before)
	}
	s.run(t)
	leaf := s.awaitAnother(t, "wiki.corp.test", nil)
	if n := s.orders.Load(); n != 1 {
		t.Errorf("%d orders were made, want the first one finished", n)
	}
	if keys, err := filepath.Glob(filepath.Join(s.Dir, "keys", "keys", "acme-wiki*.pem")); len(keys) != 1 {
		t.Errorf("keyd has the keys %q %v of %s, want one", keys, err, leaf.DNSNames)
	}
}

// A gateway whose authority is away starts, says so, keeps to what the authority asks for, and gets its certificates later.
func TestDirectoryDownAtStart(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{})
	var asked atomic.Int64
	s.keep(func(w http.ResponseWriter, r *http.Request, _ func()) {
		asked.Add(1)
		w.Header().Set("Retry-After", "5")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"come back \u001b[31mlater","status":503}`)
	})
	s.run(t)
	var failing acmeRenewal
	harness.Eventually(t, 25*time.Second, "a failure", func() bool {
		failing = s.renewals(t)["wiki.corp.test"]
		return failing.Failures > 0
	})
	if failing.Reason != "rateLimited" || time.Until(failing.NextAt) < time.Second {
		t.Errorf("got %+v, want the authority's reason, and the time that it asked for", failing)
	}
	s.onRecord(t, "certificate_failed", `"reason":"rateLimited"`)
	s.keep(nil)
	s.awaitAnother(t, "wiki.corp.test", nil)
	if n := asked.Load(); n > 40 {
		t.Errorf("the authority was asked %d times while it was away", n)
	}
}

// Operators renew and revoke; another certificate follows a revocation. What is done is on record with who did it.
func TestOperatorsRenewAndRevoke(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{})
	s.run(t)
	first := s.awaitAnother(t, "wiki.corp.test", nil)
	if out, code := s.Sallyport(t, "certificate", "renew", "wiki.corp.test"); code != 0 {
		t.Fatalf("renew: %d %s", code, out)
	}
	second := s.awaitAnother(t, "wiki.corp.test", first)
	if out, code := s.Sallyport(t, "certificate", "revoke", "wiki.corp.test", "--reason", "superseded"); code != 0 {
		t.Fatalf("revoke: %d %s", code, out)
	}
	status := string(s.ask(t, fmt.Sprintf("%s/cert-status-by-serial/%x", s.manage, second.SerialNumber), nil))
	if !strings.Contains(status, `"Revoked"`) || !strings.Contains(status, `"Reason": 4`) {
		t.Errorf("the authority says %s, want it revoked", status)
	}
	third := s.awaitAnother(t, "wiki.corp.test", second)
	if third.Equal(first) || string(third.RawSubjectPublicKeyInfo) == string(second.RawSubjectPublicKeyInfo) {
		t.Error("after the revocation the key is the same")
	}
	if out, code := s.Sallyport(t, "certificate", "renew", "evil.example"); code != 1 || !strings.Contains(out, "evil.example") {
		t.Errorf("another name: %d %s, want a refusal", code, out)
	}
	s.onRecord(t, "certificate_revoke", `"reason":"superseded"`)
	s.onRecord(t, "certificate_renew", `"id":"uid:`)
}

// A host that the key process makes no keys for gets no certificate, and holds up no other one.
func TestKeydRefusesNamesThatAreNotItsOwn(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{slots: []string{"auth.corp.test"}})
	s.run(t)
	s.awaitAnother(t, "auth.corp.test", nil)
	harness.Eventually(t, 25*time.Second, "a failure", func() bool { return s.renewals(t)["wiki.corp.test"].Reason == "key_refused" })
	if n := s.orders.Load(); n != 1 {
		t.Errorf("%d orders were made, want none for a name without a key", n)
	}
}

// A key process that dies in the middle of an order costs nothing but time.
func TestKeydDiesDuringAnOrder(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{settings: "    hosts: wiki.corp.test"})
	var gw *harness.Process
	var once sync.Once
	started := make(chan struct{})
	s.keep(func(w http.ResponseWriter, r *http.Request, serve func()) {
		if strings.HasPrefix(r.URL.Path, "/authZ/") {
			once.Do(func() {
				<-started
				killKeyd(t, gw.Pid())
			})
		}
		serve()
	})
	gw = s.run(t)
	close(started)
	s.awaitAnother(t, "wiki.corp.test", nil)
	if n := s.orders.Load(); n != 1 {
		t.Errorf("%d orders were made, want one", n)
	}
}

// killKeyd kills the child of a gateway.
func killKeyd(t *testing.T, gateway int) {
	out, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", gateway, gateway))
	for _, task := range tasks(gateway) {
		more, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", gateway, task))
		out = append(out, more...)
	}
	for child := range strings.FieldsSeq(string(out)) {
		if pid, convErr := strconv.Atoi(child); convErr == nil {
			syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
	t.Errorf("the gateway has no child: %v", err)
}

func tasks(pid int) (names []string) {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The authority's word makes a certificate be replaced long before its time (RFC 9773), once.
func TestAuthorityAdvisesEarlyRenewal(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{settings: "    hosts: wiki.corp.test"})
	gw := s.run(t)
	old := s.awaitAnother(t, "wiki.corp.test", nil)
	harness.Eventually(t, 25*time.Second, "the authority's advice", func() bool { return s.renewals(t)["wiki.corp.test"].Advised })
	if err := gw.Stop(); err != nil {
		t.Error(err)
	}
	now := time.Now().UTC()
	window := fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`, now.Add(-2*time.Hour).Format(time.RFC3339), now.Add(-time.Hour).Format(time.RFC3339))
	s.ask(t, s.manage+"/set-renewal-info/", map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: old.Raw})), "ARIResponse": window})
	s.forgetAdvice(t, "wiki.corp.test")
	s.run(t)
	s.awaitAnother(t, "wiki.corp.test", old)
	if n := s.orders.Load(); n != 2 {
		t.Errorf("%d orders were made, want two", n)
	}
}

// forgetAdvice makes it time to ask the authority again.
func (s *acmeStand) forgetAdvice(t *testing.T, host string) {
	t.Helper()
	file := filepath.Join(s.Dir, "acme", host+".json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var memory map[string]any
	if err := json.Unmarshal(text, &memory); err != nil {
		t.Fatal(err)
	}
	delete(memory, "advice")
	text, err = json.Marshal(memory)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A connection that was made for a challenge carries no request, and one for no challenge is not made.
func TestNoRequestComesOverAChallenge(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{settings: "    hosts: wiki.corp.test"})
	asked := make(chan []byte, 1)
	s.keep(func(w http.ResponseWriter, r *http.Request, serve func()) {
		if strings.HasPrefix(r.URL.Path, "/chalZ/") { // the challenge is ready now
			select {
			case asked <- s.overChallenge():
			default:
			}
		}
		serve()
	})
	s.run(t)
	if got := <-asked; len(got) > 0 {
		t.Errorf("over acme-tls/1 the gateway answers %q", got)
	}
	s.awaitAnother(t, "wiki.corp.test", nil)
	if conn, err := s.dialChallenge(); err == nil {
		conn.Close()
		t.Error("without a challenge under way there is a handshake for one")
	}
}

func (s *acmeStand) dialChallenge() (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", s.Address(), &tls.Config{ServerName: "wiki.corp.test", NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
}

// overChallenge asks for a page over a connection that was made for a challenge, and returns what came.
func (s *acmeStand) overChallenge() []byte {
	conn, err := s.dialChallenge()
	if err != nil {
		return []byte("no connection: " + err.Error())
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: wiki.corp.test:%d\r\n\r\n", s.Port)
	got, _ := io.ReadAll(conn)
	return got
}

// An account that is bound to one with the authority needs a key that nobody sees again.
func TestAccountsAreBound(t *testing.T) {
	t.Parallel()
	s := newACME(t, acmeSetup{settings: "    hosts: wiki.corp.test\n    eab: { key_id: kid-1, hmac_file: DIR/hmac }"})
	if err := os.WriteFile(filepath.Join(s.Dir, "hmac"), []byte(eabKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gw := s.run(t)
	s.awaitAnother(t, "wiki.corp.test", nil)
	if strings.Contains(gw.Output(), eabKey[:16]) {
		t.Error("the log shows the external account's key")
	}
}
