package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/audit"
	"sallyport/test/harness"
)

// A reload that forbids what is open ends it, on record: the new verdict names the first decision and the new policy. What
// the new policy still allows goes on, on record too.
func TestOperatorForbidsWhatIsOpen(t *testing.T) {
	s := harness.New(t, appsOne, "")
	s.Start(t)
	ada, bob := s.Browser(), s.Browser()
	s.SignIn(t, ada, "wiki", "ada", "staff")
	s.SignIn(t, bob, "wiki", "bob", "staff", "finance")
	forbidden, allowed := dialEcho(t, s, ada), dialEcho(t, s, bob)
	echo(t, forbidden, "one")
	echo(t, allowed, "one")
	s.Write(t, appsTwo) // the wiki is for finance now
	if out, code := s.Sallyport(t, "reload"); code != 0 {
		t.Fatalf("reload exits with %d: %s", code, out)
	}
	mustEnd(t, forbidden)
	ended := waitForOutcome(t, s, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "policy_changed" })
	again := waitForOutcome(t, s, func(r audit.Record) bool { return r.Type == audit.TypeReevaluated && r.RequestID == ended.RequestID })
	first := decisionsByRequest(t, records(t, s))[ended.RequestID]
	var detail struct {
		Of      string
		Changed map[string]any
	}
	if err := json.Unmarshal(again.Detail, &detail); err != nil {
		t.Fatal(err)
	}
	if again.Effect != audit.Deny || detail.Of != first.ID || ended.Outcome.Of != first.ID || again.Policy.Digest == first.Policy.Digest || detail.Changed["context"] == nil {
		t.Errorf("decided %s %s, again %s of %s under %s, changed %v", first.ID, first.Policy.Digest, again.Effect, detail.Of, again.Policy.Digest, detail.Changed)
	}
	if got := echo(t, allowed, "two"); got != "two" {
		t.Errorf("what is still allowed says %q", got)
	}
	waitForOutcome(t, s, func(r audit.Record) bool { return r.Type == audit.TypeReevaluated && r.Effect == audit.Allow })
}

// An app that is removed, or moves to another path, does not live on in what is open.
func TestOperatorMovesAnApp(t *testing.T) {
	for name, after := range map[string]string{
		"removed": `
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], access: { groups: [finance] } }
`,
		"moved": `
  - { name: wiki, host: wiki.corp.test, path: /elsewhere/, upstreams: ["ORIGIN"], access: { groups: [staff] } }
`,
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.New(t, appsOne, "")
			s.Start(t)
			browser := s.Browser()
			s.SignIn(t, browser, "wiki", "ada", "staff")
			socket := dialEcho(t, s, browser)
			s.Write(t, after)
			if out, code := s.Sallyport(t, "reload"); code != 0 {
				t.Fatalf("reload exits with %d: %s", code, out)
			}
			mustEnd(t, socket)
			waitForOutcome(t, s, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "policy_changed" })
		})
	}
}

// WS-04: signing out ends what the person has open, everywhere or in one app, and says so.
func TestOperatorSeesSignOutsEndStreams(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff", "finance")
	harness.Get(t, browser, s.URL("payroll", "/"))
	for _, from := range []string{"wiki", "auth"} {
		harness.Get(t, browser, s.URL("wiki", "/"))
		socket := dialEcho(t, s, browser)
		req := request(t, http.MethodPost, s.URL(from, "/.sallyport/signout"), nil, nil)
		req.Header.Set("Origin", s.URL(from, ""))
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		res, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		drain(res)
		if res.StatusCode != http.StatusOK {
			t.Fatalf("signing out of %s got %d", from, res.StatusCode)
		}
		out := time.Now()
		mustEnd(t, socket)
		if took := time.Since(out); took > revocationFelt {
			t.Errorf("the socket lived %s after the sign-out of %s", took, from)
		}
		waitForOutcome(t, s, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "signed_out" })
	}
}

// SIGTERM: what can finish finishes, streams end, outcomes and the stop are on record, and the exit code is 0.
func TestOperatorStopsTheGateway(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(asked)
			<-release
		}
		io.WriteString(w, "finished")
	}))
	defer origin.Close()
	s := harness.New(t, strings.Replace(harness.Apps, "ORIGIN", origin.URL, 1), "")
	gw := s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "payroll", "ada", "staff", "finance")
	harness.Get(t, browser, s.URL("wiki", "/"))
	client := &http.Client{Transport: s.Transport()}
	events := openEvents(t, s, client, browser)
	answer := make(chan string, 1)
	req := request(t, http.MethodGet, s.URL("wiki", "/slow"), s.Cookie(t, browser, "wiki"), nil)
	go func() {
		res, err := client.Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		answer <- string(body)
	}()
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- gw.Stop() }()
	if err := drain(events); err != nil {
		t.Errorf("an event stream did not end as such: %v", err)
	}
	close(release)
	if got := <-answer; got != "finished" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("the gateway ended with %v:\n%s", err, gw.Output())
	}
	control := readLog(t, s, audit.ControlLog, audit.Filter{Type: audit.TypeControl})
	if last := control[len(control)-1]; last.Code != "stopped" {
		t.Errorf("the last control record is %q", last.Code)
	}
	list := records(t, s)
	allows := count(list, func(r audit.Record) bool { return r.Type == audit.TypeDecision && r.Effect == audit.Allow })
	if outcomes := count(list, func(r audit.Record) bool { return r.Type == audit.TypeOutcome }); outcomes != allows {
		t.Errorf("%d allows and %d outcomes", allows, outcomes)
	}
	if count(list, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "shutdown" }) != 1 {
		t.Error("no outcome says that the stream ended by the stop")
	}
}

// openEvents begins an endless answer and waits for its first event.
func openEvents(t *testing.T, s *harness.Stand, client *http.Client, browser *http.Client) *http.Response {
	t.Helper()
	res, err := client.Do(request(t, http.MethodGet, s.URL("payroll", "/events"), s.Cookie(t, browser, "payroll"), nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, len("data: 1"))); err != nil {
		t.Fatal(err)
	}
	return res
}

// The same with many sockets, whose connections net/http no longer knows: each has its outcome.
func TestOperatorStopsAGatewayWithManySockets(t *testing.T) {
	const sockets = 40
	s := harness.New(t, harness.Apps, "")
	gw := s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	var open []*websocket.Conn
	for range sockets {
		open = append(open, dialEcho(t, s, browser))
	}
	if err := gw.Stop(); err != nil {
		t.Errorf("the gateway ended with %v:\n%s", err, gw.Output())
	}
	for _, socket := range open {
		mustEnd(t, socket)
	}
	if n := count(records(t, s), func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Error == "shutdown" }); n != sockets {
		t.Errorf("%d of %d sockets have their outcome", n, sockets)
	}
}

// SIGHUP reloads and does nothing else, at any moment: at the start, many at once, under load, at the end.
func TestOperatorHangsUpAtEveryMoment(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	cmd := exec.Command(filepath.Join(harness.Binaries(t), "sallyport"), "run", "--config", s.Config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	signals := make(chan struct{})
	go func() {
		defer close(signals)
		for range 100 {
			// The very first moments belong to the runtime: a program that has not asked for a signal dies by it.
			if _, err := os.Stat(filepath.Join(s.Dir, "audit", "lock")); err == nil {
				cmd.Process.Signal(syscall.SIGHUP)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	harness.Eventually(t, 2*time.Minute, "the gateway to answer", func() bool {
		select {
		case err := <-exited:
			t.Fatalf("the gateway ended: %v", err)
		default:
		}
		return !handshakeFails(t, s)
	})
	cookie := session(t, s, "wiki", "ada", "staff")
	client := &http.Client{Transport: s.Transport()}
	for n := range 100 {
		if res, body := send(t, client, http.MethodGet, s.URL("wiki", fmt.Sprintf("/%d", n)), cookie, nil); res.StatusCode != http.StatusOK {
			t.Fatalf("request %d got %d %s", n, res.StatusCode, body)
		}
	}
	<-signals
	cmd.Process.Signal(syscall.SIGTERM)
	for range 100 {
		cmd.Process.Signal(syscall.SIGHUP)
	}
	if err := <-exited; err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	if n := len(readLog(t, s, audit.ControlLog, audit.Filter{Type: audit.TypeControl})); n < 3 {
		t.Errorf("%d control records", n)
	}
}

// CFG-03: a configuration that is gone, is a folder, or cannot be read leaves the running one as it is and says so.
func TestOperatorLosesTheConfiguration(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	gw := s.Start(t)
	cookie := session(t, s, "wiki", "ada", "staff")
	client := &http.Client{Transport: s.Transport()}
	good, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"deleted":    func() error { return nil },
		"a folder":   func() error { return os.Mkdir(s.Config, 0o700) },
		"empty":      func() error { return os.WriteFile(s.Config, nil, 0o600) },
		"not text":   func() error { return os.WriteFile(s.Config, []byte{0xff, 0, 1}, 0o600) },
		"half of it": func() error { return os.WriteFile(s.Config, good[:len(good)/2], 0o600) },
		"a loop":     func() error { return os.Symlink(filepath.Base(s.Config), s.Config) },
	} {
		if err := os.RemoveAll(s.Config); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		before := strings.Count(gw.Output(), "not reloaded")
		gw.Signal(syscall.SIGHUP)
		harness.Eventually(t, 2*time.Minute, name+" to be refused", func() bool { return strings.Count(gw.Output(), "not reloaded") > before })
		if res, _ := send(t, client, http.MethodGet, s.URL("wiki", "/page"), cookie, nil); res.StatusCode != http.StatusOK {
			t.Errorf("%s: a request got %d", name, res.StatusCode)
		}
	}
	if err := os.RemoveAll(s.Config); err != nil {
		t.Fatal(err)
	}
	s.WriteRaw(t, string(good))
	harness.Eventually(t, 2*time.Minute, "the good file to count again", func() bool {
		out, code := s.Sallyport(t, "status")
		return code == 0 && !strings.Contains(out, "last reload")
	})
	refused := readLog(t, s, audit.ControlLog, audit.Filter{})
	if n := count(refused, func(r audit.Record) bool { return r.Code == "config_refused" }); n < 6 {
		t.Errorf("%d refusals are on record", n)
	}
}

// CFG-03: what needs a restart is refused by name, all of it at once.
func TestOperatorChangesWhatNeedsARestart(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(s.Dir, "original.yaml") // which names the socket of the running gateway
	if err := os.WriteFile(original, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"admin":       {s.Dir + "/admin.sock", s.Dir + "/other.sock"},
		"audit":       {"segment_size: 4194304", "segment_size: 8388608"},
		"keys":        {"keys: { strict: false,", "keys: { uid: 7, strict: false,"},
		"listen":      {fmt.Sprintf(`listen: "127.0.0.1:%d"`, s.Port), `listen: "127.0.0.1:1"`},
		"listen_http": {"hsts: 0s", `listen_http: "127.0.0.1:2"`},
		"public_port": {fmt.Sprintf("public_port: %d", s.Port), "public_port: 1"},
		"state":       {s.Dir + "/state.db", s.Dir + "/other.db"},
	} {
		if strings.Count(string(text), change[0]) != 1 {
			t.Fatalf("%s: %q is not in the configuration once", name, change[0])
		}
		s.WriteRaw(t, strings.Replace(string(text), change[0], change[1], 1))
		out, code := s.Sallyport(t, "--config", original, "reload")
		if code != 1 || !strings.Contains(out, name+" cannot change in a running gateway") {
			t.Errorf("%s: exit %d: %s", name, code, out)
		}
	}
}

// A reload disturbs no sign-in that is under way, also where the client's secret is a file.
func TestOperatorReloadsDuringASignIn(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	secret := filepath.Join(s.Dir, "secret")
	if err := os.WriteFile(secret, []byte("a secret of the test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, s, `client_secret: "a secret of the test"`, "client_secret_file: "+secret)
	s.Start(t)
	if status, body := s.SignIn(t, s.Browser(), "wiki", "ada", "staff"); status != http.StatusOK {
		t.Fatalf("sign-in ended with %d: %.2000s", status, body)
	}
	discovered := s.Provider.Calls("discovery")
	if out, code := s.Sallyport(t, "reload"); code != 0 {
		t.Fatalf("reload exits with %d: %s", code, out)
	}
	if status, body := s.SignIn(t, s.Browser(), "wiki", "bob", "staff"); status != http.StatusOK {
		t.Errorf("sign-in after the reload ended with %d: %.2000s", status, body)
	}
	if n := s.Provider.Calls("discovery"); n != discovered {
		t.Errorf("the provider was discovered anew: %d times", n-discovered)
	}
	if err := os.WriteFile(secret, []byte("not the secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := s.Sallyport(t, "reload"); code != 0 {
		t.Fatalf("reload exits with %d: %s", code, out)
	}
	harness.Eventually(t, 2*time.Minute, "the new provider to be discovered", func() bool { return s.Provider.Calls("discovery") > discovered })
	if status, _ := s.SignIn(t, s.Browser(), "wiki", "cleo", "staff"); status == http.StatusOK {
		t.Error("the replaced secret is not the one in use")
	}
}

// The command line without a gateway says so; the log can still be read, and the reading is on record.
func TestOperatorWithoutAGateway(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	gw := s.Start(t)
	session(t, s, "wiki", "ada", "staff")
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"status"}, {"reload"}, {"session", "list"}, {"session", "revoke", "--user", "ada@corp.test"}, {"backup", filepath.Join(s.Dir, "copy.db")}} {
		if out, code := s.Sallyport(t, args...); code != 2 || !strings.Contains(out, "admin.sock") {
			t.Errorf("%v without a gateway: exit %d: %s", args, code, out)
		}
	}
	if out, code := s.Sallyport(t, "audit", "query", "--effect", "allow"); code != 0 || !strings.Contains(out, "ada@corp.test") {
		t.Errorf("audit query without a gateway: exit %d: %s", code, out)
	}
	control := readLog(t, s, audit.ControlLog, audit.Filter{})
	if last := control[len(control)-1]; last.Code != "log_read" || last.Actor == nil {
		t.Errorf("the last control record is %+v", last)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "copy.db")); err == nil {
		t.Error("a backup that failed left a file")
	}
}

// Another account reaches neither the socket nor, past its mode, the gateway behind it.
func TestOperatorOfAnotherAccountIsRefused(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	public, err := os.MkdirTemp("", "sallyport-public-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(public) })
	socket := filepath.Join(public, "admin.sock")
	edit(t, s, s.Dir+"/admin.sock", socket)
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(harness.Binaries(t), "sallyport"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"sallyport.yaml": text, "sallyport": program} {
		if err := os.WriteFile(filepath.Join(public, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(public, 0o755); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	stranger := func() (string, int) {
		cmd := exec.Command(filepath.Join(public, "sallyport"), "--config", filepath.Join(public, "sallyport.yaml"), "status")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61003, Gid: 61003}}
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := stranger(); code != 2 || !strings.Contains(out, "permission denied") {
		t.Errorf("exit %d: %s", code, out)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if out, code := stranger(); code == 0 || !strings.Contains(out, "may not operate the gateway") {
		t.Errorf("past the mode: exit %d: %s", code, out)
	}
	control := readLog(t, s, audit.ControlLog, audit.Filter{Code: "admin_refused"})
	if last := control[len(control)-1]; last.Code != "admin_refused" || !strings.Contains(last.Actor.ID, "61003") {
		t.Errorf("the last control record is %+v by %+v", last, last.Actor)
	}
}

// mustEnd waits for the end of a socket on which nobody speaks.
func mustEnd(t *testing.T, socket *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, _, err := socket.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the socket did not end: %v", err)
	}
}
