package browser_test

import (
	"bytes"
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

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(binaries.dir)
	os.Exit(code)
}

func TestDemoStartsAgainOnItsFolder(t *testing.T) {
	dir := filepath.Join(shortTempDir(t), "demo")
	first := startDemo(t, "--listen", "127.0.0.1:0", "--dir", dir)
	ca := readFile(t, filepath.Join(dir, "keyd", "public", "ca.pem"))
	first.stop(t)

	again := startDemo(t, "--listen", "127.0.0.1:"+first.port, "--dir", dir)
	if !bytes.Equal(ca, readFile(t, filepath.Join(dir, "keyd", "public", "ca.pem"))) {
		t.Error("a second start made another CA, which nobody trusts")
	}
	if starts := again.query(t, "--log", "control", "--code", "started"); len(starts) != 2 {
		t.Errorf("the log knows %d starts, want 2", len(starts))
	}
	again.stop(t)

	elsewhere := runDemo(t, "--listen", "127.0.0.1:0", "--dir", dir)
	if err := elsewhere.wait(t); err == nil || !strings.Contains(elsewhere.output.String(), "was made for port "+first.port) {
		t.Errorf("the folder on another port: %v, and the demo said:\n%s", err, elsewhere.output)
	}
}

func TestDemoNamesATakenPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	d := runDemo(t, "--listen", listener.Addr().String())
	if err := d.wait(t); err == nil || !strings.Contains(d.output.String(), listener.Addr().String()+" cannot be used") {
		t.Errorf("a taken port: %v, and the demo said:\n%s", err, d.output)
	}
}

func TestTemporaryDemoLeavesNothing(t *testing.T) {
	temp := shortTempDir(t)
	t.Setenv("TMPDIR", temp)
	d := startDemo(t, "--listen", "127.0.0.1:0")
	if left := children(t, temp); len(left) != 1 {
		t.Errorf("while it runs there are %q, want its one folder", left)
	}
	d.stop(t)
	if left := children(t, temp); len(left) != 0 {
		t.Errorf("the demo left %q", left)
	}
}

func TestDemoEndsWithItsGateway(t *testing.T) {
	d := startDemo(t, "--listen", "127.0.0.1:0", "--dir", filepath.Join(shortTempDir(t), "demo"))
	gateway := d.processes(t)["sallyport"]
	if gateway == 0 {
		t.Fatal("no gateway is running")
	}
	if err := syscall.Kill(gateway, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(t); err == nil || !strings.Contains(d.output.String(), "demo: the gateway: signal: killed") {
		t.Errorf("the gateway was killed: %v, and the demo said:\n%s", err, d.output)
	}
	d.leavesNobody(t)
}

func TestKilledDemoTakesItsProgramsAlong(t *testing.T) {
	d := startDemo(t, "--listen", "127.0.0.1:0", "--dir", filepath.Join(shortTempDir(t), "demo"))
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.wait(t) // killed, as it should be
	d.leavesNobody(t)
}

// demo is a running bin/demo.
type demo struct {
	dir, bin string
	port     string
	cmd      *exec.Cmd
	output   *transcript
	ended    chan struct{}
	err      error // how it ended; after ended is closed
}

// runDemo starts the demo with its own folder of programs.
func runDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	d := &demo{bin: build(t), output: newTranscript(), ended: make(chan struct{})}
	d.cmd = exec.Command(filepath.Join(d.bin, "demo"), append(args, "--no-browser")...)
	d.cmd.Stdout, d.cmd.Stderr = d.output, d.output
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.err = d.cmd.Wait(); close(d.ended) }()
	t.Cleanup(func() {
		d.cmd.Process.Signal(syscall.SIGTERM)
		<-d.ended
		if t.Failed() {
			t.Logf("the demo said:\n%s", d.output)
		}
	})
	return d
}

// startDemo also waits until the demo says that everything answers.
func startDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	d := runDemo(t, args...)
	portal := d.output.wait(t, d.ended, regexp.MustCompile(`https://auth\.sallyport\.localhost:\d+`))
	address, err := url.Parse(portal)
	if err != nil {
		t.Fatal(err)
	}
	d.port = address.Port()
	config := d.output.wait(t, d.ended, regexp.MustCompile(`--config \S+ audit query`))
	d.dir = filepath.Dir(strings.Fields(config)[1])
	return d
}

var binaries struct {
	once sync.Once
	dir  string
	err  error
}

// build makes the programs once for all tests, in one folder as make build does.
func build(t *testing.T) string {
	t.Helper()
	binaries.once.Do(func() {
		if binaries.dir, binaries.err = os.MkdirTemp("", "sallyport-bin-"); binaries.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", binaries.dir+"/", "./cmd/...")
		cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			binaries.err = fmt.Errorf("building the programs: %w\n%s", err, out)
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return binaries.dir
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
	d.configure(t, regexp.MustCompile(`(host: payroll\.sallyport\.localhost\n\s+upstreams: )\[.*\]`), fmt.Sprintf(`${1}["http://%s"]`, dead))
}

// silenceInspect gives inspect a package of its own that wants a device which nobody has, and says nothing about it.
func (d *demo) silenceInspect(t *testing.T) {
	t.Helper()
	rego := filepath.Join(d.dir, "rego")
	if err := os.Mkdir(rego, 0o755); err != nil {
		t.Fatal(err)
	}
	const silent = `package sallyport.app["inspect"]

default decision := {"allow": false}

decision := {"allow": true} if {
	input.subject.type == "user"
	input.subject.device.managed
	input.subject.device.source == "corp-laptops"
}
`
	if err := os.WriteFile(filepath.Join(rego, "inspect.rego"), []byte(silent), 0o644); err != nil {
		t.Fatal(err)
	}
	d.configure(t, regexp.MustCompile(`(?m)^apps:`), "policy: { bundle: rego }\napps:")
}

// configure changes the configuration and puts it into force.
func (d *demo) configure(t *testing.T, old *regexp.Regexp, replacement string) {
	t.Helper()
	path := filepath.Join(d.dir, "sallyport.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := old.ReplaceAll(config, []byte(replacement))
	if bytes.Equal(changed, config) {
		t.Fatalf("the demo's configuration has no %v to change", old)
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	d.sallyport(t, "reload")
}

// stop is Ctrl-C: the demo ends well and leaves nobody running.
func (d *demo) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(t); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	d.leavesNobody(t)
}

// wait returns how the demo ended.
func (d *demo) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-d.ended:
		return d.err
	case <-time.After(2 * time.Minute):
		t.Fatal("the demo runs on")
		return nil
	}
}

// processes are the gateway and the key process of this demo, found by their configuration.
func (d *demo) processes(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, name := range children(t, "/proc") {
		var pid int
		if _, err := fmt.Sscan(name, &pid); err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", name, "cmdline"))
		if err != nil || !bytes.Contains(line, []byte(d.dir+"/")) { // gone meanwhile, or another's
			continue
		}
		program, _, _ := strings.Cut(string(line), "\x00")
		if filepath.Dir(program) == d.bin {
			found[filepath.Base(program)] = pid
		}
	}
	delete(found, "demo")
	return found
}

// leavesNobody waits for the demo's programs to end.
func (d *demo) leavesNobody(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for len(d.processes(t)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("the demo has ended and left %v", d.processes(t))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func children(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
