// Package browser_test has Chromium do with the demo what people do: the real programs, real certificates that the browser
// trusts because it was told of their CA, and pages that are looked at. The stories are in scenarios.mjs.
package browser_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestDemoInABrowser plays the scenarios one after another on one demo, as on one working day.
// SALLYPORT_SCREENSHOTS names a folder for the pictures; by default they are thrown away.
func TestDemoInABrowser(t *testing.T) {
	needTools(t)
	d := startDemo(t)
	browser := newBrowser(t, d)

	t.Run("staff member works and is refused payroll", func(t *testing.T) {
		var refusal struct{ Reference, Why string }
		browser.play(t, "staff", &refusal)
		if !strings.Contains(refusal.Why, "finance") {
			t.Errorf("the page explains the refusal with %q, which does not say who may", refusal.Why)
		}
		denied := d.query(t, "--request-id", refusal.Reference)
		if len(denied) != 1 || denied[0].Effect != "deny" || denied[0].App != "payroll" || denied[0].Input.Subject.Email != "ines@harbour.example" {
			t.Errorf("the reference of the page leads to %+v, want one deny of ines at payroll", denied)
		}
		allowed := d.query(t, "--user", "ines@harbour.example", "--app", "wiki", "--effect", "allow")
		if len(allowed) == 0 || allowed[0].Input.Resource.Path != "/p/first-day" {
			t.Errorf("ines' visits of the wiki in the log: %+v, want them to start with /p/first-day", allowed)
		}
	})
	t.Run("portal and payroll go by groups", func(t *testing.T) { browser.play(t, "groups", nil) })
	t.Run("tabs opened at once all come back", func(t *testing.T) { browser.play(t, "tabs", nil) })
	t.Run("sign-out ends everything", func(t *testing.T) {
		var result struct{ StreamClosedAfterMilliseconds int }
		browser.play(t, "signOut", &result)
		t.Logf("the open WebSocket closed %d ms after the sign-out", result.StreamClosedAfterMilliseconds)
	})
	t.Run("pages need no scripts", func(t *testing.T) { browser.play(t, "withoutScripts", nil) })
	t.Run("problems are told plainly", func(t *testing.T) { browser.play(t, "problems", nil) })
	t.Run("app that does not answer", func(t *testing.T) {
		d.breakPayroll(t)
		var told struct{ Reference string }
		browser.play(t, "unavailable", &told)
		if found := d.query(t, "--request-id", told.Reference); len(found) != 1 || found[0].Effect != "allow" {
			t.Errorf("the reference of the page leads to %+v, want the one allow", found)
		}
	})
	d.stop(t)
}

func needTools(t *testing.T) {
	t.Helper()
	const advice = "run `make test`, which installs what the tests need"
	for _, tool := range []string{"node", "certutil"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: %s", tool, advice)
		}
	}
	for _, module := range []string{"playwright-core", "axe-core"} {
		if _, err := os.Stat(filepath.Join("node_modules", module)); err != nil {
			t.Fatalf("%s is not installed: %s", module, advice)
		}
	}
	if chromium() == "" {
		t.Fatalf("there is no Chromium: %s", advice)
	}
}

func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// demo is a running bin/demo.
type demo struct {
	dir, bin string
	port     string
	cmd      *exec.Cmd
	output   *transcript
}

// startDemo builds the programs into one folder, as make build does, and starts the demo on a free port.
func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{dir: filepath.Join(shortTempDir(t), "demo"), bin: t.TempDir(), output: newTranscript()}
	build := exec.Command("go", "build", "-trimpath", "-o", d.bin+"/", "./cmd/...")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	d.cmd = exec.Command(filepath.Join(d.bin, "demo"), "--listen", "127.0.0.1:0", "--dir", d.dir, "--no-browser")
	d.cmd.Stdout, d.cmd.Stderr = d.output, d.output
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { d.cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		d.cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("the demo said:\n%s", d.output)
		}
	})
	portal := d.output.wait(t, regexp.MustCompile(`https://auth\.sallyport\.localhost:\d+`))
	d.output.wait(t, regexp.MustCompile(`audit query`))
	address, err := url.Parse(portal)
	if err != nil {
		t.Fatal(err)
	}
	d.port = address.Port()
	return d
}

// shortTempDir is short enough for the path of a Unix socket, which t.TempDir of a long test name may not be.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// record is what the tests read of a decision.
type record struct {
	App, Effect, Reason string
	Input               struct {
		Subject  struct{ Email string }
		Resource struct{ Path string }
	}
}

// query is `sallyport audit query`.
func (d *demo) query(t *testing.T, filter ...string) []record {
	t.Helper()
	var records []record
	for line := range bytes.Lines(d.sallyport(t, append([]string{"audit", "query", "--json"}, filter...)...)) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("audit query printed %q: %v", line, err)
		}
		records = append(records, r)
	}
	return records
}

func (d *demo) sallyport(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(filepath.Join(d.bin, "sallyport"), append([]string{"--config", filepath.Join(d.dir, "sallyport.yaml")}, args...)...)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sallyport %s: %v\n%s", strings.Join(args, " "), err, &errors)
	}
	return out
}

// breakPayroll points payroll at a port where nobody listens, as an operator would.
func (d *demo) breakPayroll(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := listener.Addr().String()
	listener.Close()
	path := filepath.Join(d.dir, "sallyport.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	payroll := regexp.MustCompile(`(host: payroll\.sallyport\.localhost\n\s+upstreams: )\[.*\]`)
	changed := payroll.ReplaceAll(config, fmt.Appendf(nil, `${1}["http://%s"]`, dead))
	if bytes.Equal(changed, config) {
		t.Fatal("the demo's configuration has no upstream of payroll to change")
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	d.sallyport(t, "reload")
}

// stop is Ctrl-C: the demo ends well and leaves nothing running.
func (d *demo) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		connection, err := net.Dial("tcp", "127.0.0.1:"+d.port)
		if err != nil && d.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return
		}
		if err == nil {
			connection.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal("the demo runs on 20 s after Ctrl-C")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// browser plays scenarios in Chromium.
type browser struct{ settings map[string]any }

// newBrowser prepares a home folder whose certificate store trusts the demo's CA.
func newBrowser(t *testing.T, d *demo) *browser {
	t.Helper()
	home := t.TempDir()
	database := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(database, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password"},
		{"-A", "-t", "C,,", "-n", "sallyport-demo", "-i", filepath.Join(d.dir, "keyd", "public", "ca.pem")},
	} {
		if out, err := exec.Command("certutil", append([]string{"-d", "sql:" + database}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
	}
	pictures := os.Getenv("SALLYPORT_SCREENSHOTS")
	if pictures == "" {
		pictures = t.TempDir()
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	pictures, err := filepath.Abs(pictures)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{map[string]any{"port": d.port, "chromium": chromium(), "home": home, "screenshots": pictures}}
}

// play runs one scenario and reads what it returns into result.
func (b *browser) play(t *testing.T, scenario string, result any) {
	t.Helper()
	settings, err := json.Marshal(b.settings)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "drive.mjs", scenario)
	cmd.Stdin = bytes.NewReader(settings)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scenario %s: %v\n%s", scenario, err, &errors)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(out, result); err != nil {
		t.Fatalf("scenario %s returned %q: %v", scenario, out, err)
	}
}

// transcript keeps what a program prints and lets tests wait for words.
type transcript struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func newTranscript() *transcript { return &transcript{grown: make(chan struct{})} }

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.grown)
	t.grown = make(chan struct{})
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// wait returns the first match, as soon as there is one.
func (t *transcript) wait(tb testing.TB, words *regexp.Regexp) string {
	tb.Helper()
	patience := time.After(60 * time.Second)
	for {
		t.mu.Lock()
		found, grown := words.FindString(t.text.String()), t.grown
		t.mu.Unlock()
		if found != "" {
			return found
		}
		select {
		case <-grown:
		case <-patience:
			tb.Fatalf("waited for %q, and the program said:\n%s", words, t)
		}
	}
}
