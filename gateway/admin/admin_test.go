package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/session"
)

// TestMain is also the program that other accounts run: it asks a gateway for its status and prints what it gets.
func TestMain(m *testing.M) {
	if socket := os.Getenv("ADMIN_TEST_SOCKET"); socket != "" {
		os.Exit(askStatus(socket))
	}
	goleak.VerifyTestMain(m)
}

func askStatus(socket string) int {
	if os.Getenv("ADMIN_TEST_DISCLOSE") != "" {
		return askToDisclose(socket)
	}
	status, err := NewClient(socket).Status(context.Background())
	if err != nil {
		fmt.Print("refused: ", err)
		return 1
	}
	fmt.Print("version ", status.Version)
	return 0
}

// house is a gateway with its sessions and its log, in the order things happen to it.
type house struct {
	mu        sync.Mutex
	events    []string
	records   []audit.Record
	reloadErr error
	recordErr error
	ready     bool
}

func (h *house) did(event string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event)
}

func (h *house) Status(context.Context) Status {
	return Status{Version: "1.2.3", Ready: h.ready, Why: "no policy"}
}

func (h *house) Reload(context.Context, *audit.Actor) error {
	h.did("reload")
	return h.reloadErr
}

func (h *house) Backup(context.Context) (*os.File, error) {
	h.did("backup")
	f, err := os.CreateTemp("", "backup")
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteString("the state"); err != nil {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, errors.Join(err, os.Remove(f.Name()))
}

func (h *house) Purge(_ context.Context, what Purge) (Purged, error) {
	if what.App == "gone" {
		return Purged{}, fmt.Errorf("%w app %q", ErrUnknown, what.App)
	}
	h.did(fmt.Sprintf("purge %+v", what))
	return Purged{Entries: 3, Bytes: 4096}, nil
}

func (h *house) AppHosts() map[string]string {
	return map[string]string{"wiki": "wiki.corp.example", "docs": "wiki.corp.example", "pay": "pay.corp.example"}
}

func (h *house) Upstreams() []Upstream {
	return []Upstream{{App: "wiki", ID: "a1", URL: "http://10.0.0.5", Serving: true, State: "healthy"}}
}

func (h *house) Drain(_ context.Context, what Drain) error {
	if what.App != "wiki" {
		return fmt.Errorf("%w app %q", ErrUnknown, what.App)
	}
	h.did(fmt.Sprintf("drain %+v", what))
	return nil
}

func (h *house) List(_ context.Context, f session.Filter) ([]session.Session, error) {
	if f.Email != "ada@corp.example" {
		return nil, nil
	}
	return []session.Session{{ID: "s1", Identity: &authn.Identity{Provider: "corp", Subject: "7", Email: f.Email}}}, nil
}

func (h *house) Revoke(ctx context.Context, f session.Filter) ([]session.Session, error) {
	if f == (session.Filter{}) {
		return nil, session.ErrEmptyFilter
	}
	h.did(fmt.Sprintf("revoke %s older than %v", f.Email, f.OlderThan))
	return h.List(ctx, f)
}

func (h *house) Append(_ context.Context, r *audit.Record) (audit.Receipt, error) {
	if h.recordErr != nil {
		return audit.Receipt{}, h.recordErr
	}
	h.did("record " + r.Code)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records = append(h.records, *r)
	return audit.Receipt{}, nil
}

func (h *house) options() Options {
	return Options{Gateway: h, Sessions: h, People: h, Tokens: houseTokens{h}, Control: h, Auditing: h, Policies: h, Shadowing: h, Renewing: h, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
}

func (h *house) check(t *testing.T, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if diff := cmp.Diff(want, h.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	h.events = nil
}

// start runs a server on a socket that every account can get at, as far as folders go.
func start(t *testing.T, h *house, cfg Config) (socket string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg.Socket = filepath.Join(dir, "admin.sock")
	server, err := Open(cfg, h.options())
	if err != nil {
		t.Fatal(err)
	}
	serve(t, server)
	return cfg.Socket
}

func serve(t *testing.T, server *Server) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func client(t *testing.T, socket string) *Client {
	c := NewClient(socket)
	t.Cleanup(c.Close)
	return c
}

func TestCallsAreOnRecordBeforeTheyTakeEffect(t *testing.T) {
	h := &house{}
	c := client(t, start(t, h, Config{}))
	if err := c.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	h.check(t, "record reload", "reload")

	ended, err := c.Revoke(t.Context(), Filter{Email: "ada@corp.example", OlderThan: 60})
	if err != nil || len(ended) != 1 || ended[0].ID != "s1" || ended[0].Subject != "corp|7" {
		t.Errorf("revoked %+v, %v", ended, err)
	}
	h.check(t, "record sessions_revoke", "revoke ada@corp.example older than 1m0s", "record sessions_revoked")

	if err := c.AnnounceRead(t.Context(), Reading{Command: "query", Log: "decision", Filter: map[string]string{"user": "ada"}}); err != nil {
		t.Error(err)
	}
	h.check(t, "record log_read")

	var copied bytes.Buffer
	if err := c.Backup(t.Context(), &copied); err != nil || copied.String() != "the state" {
		t.Errorf("copied %q, %v", &copied, err)
	}
	h.check(t, "record backup", "backup")

	details := []string{"", `{"email":"ada@corp.example","older_than_s":60}`, `{"count":1,"sessions":["s1"]}`,
		`{"command":"query","log":"decision","filter":{"user":"ada"}}`, ""}
	for i, r := range h.records {
		if r.Type != audit.TypeControl || r.Actor == nil || r.Actor.ID != fmt.Sprintf("uid:%d", os.Getuid()) || r.Actor.Kind != "os" {
			t.Errorf("record %d is %+v by %+v", i, r, r.Actor)
		}
		if string(r.Detail) != details[i] {
			t.Errorf("record %d has detail %s, want %s", i, r.Detail, details[i])
		}
	}
}

func TestAFailedReloadIsOnRecordAndTellsWhy(t *testing.T) {
	h := &house{reloadErr: errors.New("a.yaml:3:1: bad\na.yaml:4:1: worse")}
	err := client(t, start(t, h, Config{})).Reload(t.Context())
	refused, ok := errors.AsType[*Refused](err)
	if !ok || refused.Text != h.reloadErr.Error() || refused.Status != http.StatusUnprocessableEntity {
		t.Errorf("got %v", err)
	}
	h.check(t, "record reload", "reload", "record reload_failed")
}

func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	h := &house{recordErr: errors.New("disk full")}
	c := client(t, start(t, h, Config{}))
	_, revokeErr := c.Revoke(t.Context(), Filter{All: true})
	for name, err := range map[string]error{
		"reload": c.Reload(t.Context()), "revoke": revokeErr, "announce": c.AnnounceRead(t.Context(), Reading{}), "backup": c.Backup(t.Context(), io.Discard),
	} {
		if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: got %v, want 503", name, err)
		}
	}
	h.check(t)
}

func TestRevokingNothingInParticularIsRefusedAndOnRecord(t *testing.T) {
	h := &house{}
	_, err := client(t, start(t, h, Config{})).Revoke(t.Context(), Filter{})
	if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusBadRequest {
		t.Errorf("got %v, want 400", err)
	}
	h.check(t, "record sessions_revoke", "record sessions_revoke_failed")
}

// ask sends a raw request over the socket.
func ask(t *testing.T, socket, method, path, contentType, body string) (status int, text string) {
	t.Helper()
	return askAs(t, socket, http.Header{}, method, path, contentType, body)
}

// askAs sends a raw request with these header fields, of which Host is one.
func askAs(t *testing.T, socket string, who http.Header, method, path, contentType, body string) (status int, text string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://sallyport"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = who.Clone()
	if host := who.Get("Host"); host != "" {
		request.Host = host
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// ADM-02: neither a form, nor text that happens to be JSON, nor a GET has an effect.
func TestADM02_OnlyWellFormedCallsHaveAnEffect(t *testing.T) {
	h := &house{}
	socket := start(t, h, Config{})
	for name, row := range map[string]struct {
		method, path, contentType, body string
		status                          int
	}{
		"GET of an effect":    {"GET", "/v1/reload", "", "", 405},
		"form":                {"POST", "/v1/reload", "application/x-www-form-urlencoded", "{}", 415},
		"text that is JSON":   {"POST", "/v1/reload", "text/plain", "{}", 415},
		"no type":             {"POST", "/v1/reload", "", "{}", 415},
		"no body":             {"POST", "/v1/reload", "application/json", "", 400},
		"unknown field":       {"POST", "/v1/sessions/revoke", "application/json", `{"al":true}`, 400},
		"two values":          {"POST", "/v1/sessions/revoke", "application/json", `{"all":true}{}`, 400},
		"too large":           {"POST", "/v1/audit/read", "application/json", `{"command":"` + strings.Repeat("x", maxBody) + `"}`, 400},
		"unknown path":        {"GET", "/v1/shutdown", "", "", 404},
		"metrics":             {"GET", "/metrics", "", "", 404},
		"unknown list filter": {"GET", "/v1/sessions?all=true", "", "", 400},
	} {
		if status, text := ask(t, socket, row.method, row.path, row.contentType, row.body); status != row.status {
			t.Errorf("%s: got %d %s, want %d", name, status, text, row.status)
		}
	}
	h.check(t)
}

// ADM-02: an operator may have forwarded the socket to a port of a machine with a browser. No page gets anything done or
// told there, whatever it says, and that it asked is on record. The same calls by a program pass: what refuses them is
// that a page asks.
func TestADM02_NoWebPageOperatesTheGateway(t *testing.T) {
	h := &house{}
	socket := start(t, h, Config{})
	for name, page := range map[string]http.Header{
		"another site":         {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
		"a sibling":            {"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://wiki.corp.example"}},
		"an old browser":       {"Origin": {"https://evil.example"}},
		"a sandboxed frame":    {"Origin": {"null"}},
		"a forwarded port":     {"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://localhost:9000"}, "Host": {"localhost:9000"}},
		"the address bar":      {"Sec-Fetch-Site": {"none"}, "Host": {"127.0.0.1:9000"}},
		"a name that leads in": {"Host": {"evil.example:9000"}},
		"a name without a dot": {"Host": {"sallyport:9000"}},
	} {
		for _, call := range []struct{ method, path, body string }{
			{"POST", "/v1/reload", "{}"}, {"POST", "/v1/sessions/revoke", `{"all":true}`}, {"POST", "/v1/backup", "{}"},
			{"GET", "/v1/status", ""}, {"GET", "/v1/sessions", ""}, {"OPTIONS", "/v1/reload", ""},
		} {
			status, text := askAs(t, socket, page, call.method, call.path, "application/json", call.body)
			if status != http.StatusForbidden || strings.Contains(text, "1.2.3") {
				t.Errorf("%s, %s %s: got %d %s", name, call.method, call.path, status, text)
			}
			h.check(t, "record admin_refused")
		}
	}
	for name, program := range map[string]http.Header{"the command line": {}, "curl": {"Host": {"localhost"}}} {
		if status, text := askAs(t, socket, program, "POST", "/v1/reload", "application/json", "{}"); status != http.StatusOK {
			t.Errorf("%s: got %d %s", name, status, text)
		}
		h.check(t, "record reload", "reload")
	}
}

// runAs asks for the status as another account.
func runAs(t *testing.T, socket string, uid, gid uint32, groups ...uint32) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test starts programs as other accounts: it runs as root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(socket), "other")
	if err := exec.CommandContext(t.Context(), "install", "-m", "0755", self, program).Run(); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program)
	command.Env = []string{"ADMIN_TEST_SOCKET=" + socket, "ADMIN_TEST_DISCLOSE=" + os.Getenv("ADMIN_TEST_DISCLOSE")}
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	out, err := command.Output()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return string(out)
}

// ADM-02, ADM-06: the kernel says who is calling, and what is not for that account is refused, on record.
func TestOnlyRootAndTheGroupMayOperate(t *testing.T) {
	const operators = 54321
	h := &house{}
	socket := start(t, h, Config{Group: "54321"})
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o660 || info.Sys().(*syscall.Stat_t).Gid != operators {
		t.Errorf("the socket has mode %v and group %d", info.Mode(), info.Sys().(*syscall.Stat_t).Gid)
	}
	if got := runAs(t, socket, 65534, operators); got != "version 1.2.3" {
		t.Errorf("primary group: %s", got)
	}
	if got := runAs(t, socket, 65534, 65534, 1, 2, operators); got != "version 1.2.3" {
		t.Errorf("supplementary group: %s", got)
	}
	if got := runAs(t, socket, 65534, 65534, 1, 2); !strings.Contains(got, "may not operate the gateway: dial unix") {
		t.Errorf("stranger at the file's mode: %s", got)
	}
	h.check(t)

	// The mode of a file is easily changed: the account is what counts.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := runAs(t, socket, 65534, 65534, 1, 2); !strings.Contains(got, "may not operate the gateway: root") {
		t.Errorf("stranger: %s", got)
	}
	h.check(t, "record admin_refused")
	if r := h.records[0]; r.Actor.ID != "uid:65534" || r.Actor.Name != "nobody" || string(r.Detail) != `{"method":"GET","path":"/v1/status"}` {
		t.Errorf("recorded %s by %+v", r.Detail, r.Actor)
	}
}

func TestWithoutAGroupNoGroupMayOperate(t *testing.T) {
	h := &house{}
	socket := start(t, h, Config{})
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := runAs(t, socket, 65534, 0, 0); !strings.Contains(got, "may not operate") {
		t.Errorf("a member of root's group: %s", got)
	}
}

func TestASocketLeftBehindIsReplacedAndALiveOneIsNot(t *testing.T) {
	h := &house{}
	path := filepath.Join(t.TempDir(), "admin.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Socket: path}, h.options()); err == nil || !strings.Contains(err.Error(), "another gateway answers") {
		t.Errorf("beside a live socket: %v", err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	server, err := Open(Config{Socket: path}, h.options())
	if err != nil {
		t.Fatal(err)
	}
	serve(t, server)
	if _, err := client(t, path).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheSocketIsGoneAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "admin.sock")
	server, err := Open(Config{Socket: path}, (&house{}).options())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNoGateway) {
		t.Errorf("got %v, want that no gateway is running", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnsafePlacesForTheSocketAreRefused(t *testing.T) {
	for name, prepare := range map[string]func(dir string) error{
		"is writable by others":      func(dir string) error { return os.Chmod(dir, 0o777) },
		"writable by others (mode 0": func(dir string) error { return os.Chmod(dir, 0o1777) },
		"(mode 0770)":                func(dir string) error { return os.Chmod(dir, 0o770) },
		"belongs to another account": func(dir string) error { return os.Chown(dir, 65534, 65534) },
		"exists and is not a socket": func(dir string) error { return os.WriteFile(filepath.Join(dir, "admin.sock"), nil, 0o600) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Config{Socket: filepath.Join(dir, "admin.sock")}, (&house{}).options())
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

func TestDBG01_TheListenerIsForLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:9901", ":9901", "[::]:9901", "10.0.0.1:9901", "localhost:9901", "example.com:80", "127.0.0.1"} {
		cfg := Config{Socket: filepath.Join(t.TempDir(), "admin.sock"), Listen: address}
		if _, err := Open(cfg, (&house{}).options()); err == nil {
			t.Errorf("%s was accepted", address)
		}
	}
}

func TestDBG01_TheListenerHasHealthReadinessAndMetricsOnly(t *testing.T) {
	h := &house{}
	options := h.options()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "doors"}))
	options.Metrics = registry
	server, err := Open(Config{Socket: filepath.Join(t.TempDir(), "admin.sock"), Listen: "127.0.0.1:0"}, options)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, server)
	address := server.probes.listener.Addr().String()
	for _, row := range []struct {
		method, path, host string
		status             int
		text               string
	}{
		{"GET", "/healthz", "", 200, "ok\n"},
		{"GET", "/readyz", "", 503, "not ready: no policy\n"},
		{"GET", "/metrics", "localhost:9901", 200, "# HELP doors \n# TYPE doors gauge\ndoors 0\n"},
		{"GET", "/metrics", "evil.example", 421, "misdirected request\n"},
		{"POST", "/healthz", "", 405, ""},
		{"GET", "/", "", 404, ""},
		{"GET", "/debug/pprof/", "", 404, ""},
		{"GET", "/debug/vars", "", 404, ""},
		{"GET", "/config", "", 404, ""},
		{"GET", "/v1/status", "", 404, ""},
		{"POST", "/v1/reload", "", 404, ""},
	} {
		status, text := get(t, address, row.method, row.path, row.host)
		if status != row.status || (row.text != "" && text != row.text) {
			t.Errorf("%s %s for %q: got %d %q, want %d %q", row.method, row.path, row.host, status, text, row.status, row.text)
		}
	}
	h.check(t)
}

func get(t *testing.T, address, method, path, host string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

func TestStatusIsStableJSON(t *testing.T) {
	status, text := ask(t, start(t, &house{}, Config{}), "GET", "/v1/status", "", "")
	want := `{"version":"1.2.3","started":"0001-01-01T00:00:00Z","ready":false,"why":"no policy",` +
		`"config":{"path":"","digest":"","loaded":"0001-01-01T00:00:00Z"},"policy":{"digest":""},"keys":{"mode":"","ready":false},` +
		`"audit":{"healthy":false,"decisions":0,"control":0,"signed_decisions":0,"signed_control":0,"sinks":[]},"sessions":{"active":0},"cache":{"enabled":false,"entries":0,"bytes":0,"hits":0,"misses":0},"spool":{"bodies":0,"memory_bytes":0,"disk_bytes":0,"stalled":0},"certificates":[],"renewals":[],"client_authorities":null,"providers":[],"upstreams":[]}` + "\n"
	if status != http.StatusOK || text != want {
		t.Errorf("got %d\n%s\nwant\n%s", status, text, want)
	}
}
