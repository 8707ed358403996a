package test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/test/harness"
)

// auditor is somebody who checks an installation's log.
type auditor struct {
	*harness.Stand
	t     *testing.T
	trust string // the trust file
}

func newAuditor(t *testing.T, s *harness.Stand) *auditor {
	a := &auditor{s, t, filepath.Join(t.TempDir(), "trust.txt")}
	out, code := a.run("audit", "trust")
	if code != 0 {
		t.Fatalf("audit trust: exit %d: %s", code, out)
	}
	if err := os.WriteFile(a.trust, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// run runs the command line and returns what it prints and its exit code.
func (a *auditor) run(args ...string) (string, int) {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), filepath.Join(harness.Binaries(a.t), "sallyport"), append([]string{"--config", a.Config}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		a.t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return out.String() + errOut.String(), code
	}
	return out.String(), 0
}

// must runs a command that succeeds.
func (a *auditor) must(args ...string) string {
	a.t.Helper()
	out, code := a.run(args...)
	if code != 0 {
		a.t.Fatalf("sallyport %s: exit %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// copy is the audit directory as it is now, somewhere else.
func (a *auditor) copy() string {
	a.t.Helper()
	to := filepath.Join(a.t.TempDir(), "copy")
	if out, err := exec.CommandContext(a.t.Context(), "cp", "-a", filepath.Join(a.Dir, "audit"), to).CombinedOutput(); err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
	return to
}

// verify checks a path and returns the report's text and the exit code.
func (a *auditor) verify(path string, more ...string) (string, int) {
	a.t.Helper()
	return a.run(append([]string{"audit", "verify", path, "--trust", a.trust}, more...)...)
}

// wants checks a path and the exit code.
func (a *auditor) wants(want int, path string, more ...string) string {
	a.t.Helper()
	out, code := a.verify(path, more...)
	if code != want {
		a.t.Fatalf("verifying %s: exit %d, want %d:\n%s", path, code, want, out)
	}
	return out
}

// visit makes some traffic: pages that are served, and one that is refused.
func visit(t *testing.T, s *harness.Stand, pages int) {
	t.Helper()
	browser := s.Browser()
	if status, body := s.SignIn(t, browser, "wiki", "ines", "staff"); status != http.StatusOK {
		t.Fatalf("got %d: %s", status, body)
	}
	for range pages {
		if status, _ := harness.Get(t, browser, s.URL("wiki", "/page?v=7&token=geheim")); status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
	}
	if status, _ := harness.Get(t, browser, s.URL("payroll", "/salaries")); status != http.StatusForbidden {
		t.Fatalf("payroll: got %d", status)
	}
}

// The log of a gateway that was stopped is signed to its last record, complete, and every decision follows from its input;
// a copy of a running one passes too, up to the last second.
func TestAuditorVerifiesWithoutTheOperator(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	visit(t, s, 20)
	a := newAuditor(t, s)
	if out, code := a.verify(a.copy(), "--rederive"); code != 0 && code != 5 {
		t.Fatalf("a running gateway's copy: exit %d:\n%s", code, out)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	a.wants(0, a.copy(), "--rederive")

	// What is verified in place is on record first.
	a.wants(0, filepath.Join(a.Dir, "audit"))
	if out := a.must("audit", "query", "--log", "control", "--code", "log_read", "--json"); !strings.Contains(out, `"command":"verify"`) {
		t.Errorf("the reads on record are %s", out)
	}
}

// Copies that are made beside a busy gateway are whole, however often: none looks cut off.
func TestCopiesOfABusyGatewayPass(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	visit(t, s, 1)
	a := newAuditor(t, s)
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop()
	for range 4 {
		browser := s.Browser()
		s.SignIn(t, browser, "wiki", "ines", "staff")
		busy.Go(func() {
			for ctx.Err() == nil {
				if res, err := browser.Get(s.URL("wiki", "/page")); err == nil {
					drain(res)
				}
			}
		})
	}
	for range 10 {
		copied := filepath.Join(t.TempDir(), "copy")
		a.must("audit", "copy", "--out", copied)
		if out, code := a.verify(copied); code != 0 && code != 5 {
			t.Fatalf("exit %d:\n%s", code, out)
		}
	}
}

// AUD-06: a log that was put back to an older state is found by a receipt, and by the key process: no gateway serves it.
func TestRollbackIsFound(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	visit(t, s, 5)
	a := newAuditor(t, s)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	yesterday := a.copy()

	p = s.Start(t)
	visit(t, s, 5)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	receipt := filepath.Join(t.TempDir(), "receipt")
	if err := os.WriteFile(receipt, []byte(a.must("audit", "receipt")), 0o600); err != nil {
		t.Fatal(err)
	}
	a.wants(0, a.copy(), "--receipt", receipt)
	a.wants(0, yesterday)
	if out := a.wants(1, yesterday, "--receipt", receipt); !strings.HasPrefix(out, "TAMPERED") {
		t.Errorf("the report begins otherwise: %s", out)
	}

	// Put back in place, the key process knows better.
	dir := filepath.Join(s.Dir, "audit")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(yesterday, dir); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(harness.Binaries(t), "sallyport"), "run", "--config", s.Config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "new-epoch") {
		t.Fatalf("a gateway on yesterday's log: %v\n%s", err, out)
	}

	// The operator of the key process accepts the loss, and everybody can see it.
	keyd := exec.CommandContext(t.Context(), filepath.Join(harness.Binaries(t), "keyd"), "new-epoch", "--config", filepath.Join(s.Dir, "keys", "keyd.yaml"), "--log", "decision")
	if out, err := keyd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	keyd = exec.CommandContext(t.Context(), filepath.Join(harness.Binaries(t), "keyd"), "new-epoch", "--config", filepath.Join(s.Dir, "keys", "keyd.yaml"), "--log", "control")
	if out, err := keyd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p = s.Start(t)
	visit(t, s, 5)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	b := newAuditor(t, s) // with the keys of the new origin
	if out := b.wants(5, b.copy()); !strings.Contains(out, "opened after a loss") {
		t.Errorf("the report does not name the loss: %s", out)
	}
	if out, code := b.verify(b.copy(), "--receipt", receipt); code != 1 {
		t.Errorf("the new epoch against a receipt of the lost one: exit %d:\n%s", code, out)
	}
}

// An evidence bundle is verified by itself, and nobody can take a record out of it, or change one.
func TestEvidenceBundle(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	visit(t, s, 20)
	a := newAuditor(t, s)
	file := filepath.Join(t.TempDir(), "evidence.zip")
	harness.Eventually(t, 2*time.Minute, "the last record to be signed", func() bool {
		if _, code := a.run("audit", "bundle", "--out", file, "--where", `app == "payroll"`, "--for", "the auditor"); code == 1 {
			return false // nothing is signed yet
		}
		out, code := a.verify(file, "--rederive", "--json")
		var report struct {
			Bundle struct{ Matching uint64 }
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
			t.Fatalf("exit %d, %v: %s", code, err, out)
		}
		return report.Bundle.Matching >= 1
	})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	only := filepath.Join(t.TempDir(), "only.zip")
	a.must("audit", "bundle", "--out", only, "--where", `app == "payroll"`, "--only-matching", "--log", "decision")
	a.wants(0, only)
	if text := unzipped(t, only); strings.Contains(text, `"app":"wiki"`) {
		t.Error("the contents of other records are in a bundle of matching ones only")
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(whole) / 3, len(whole) / 2, len(whole) - 100} {
		changed := bytes.Clone(whole)
		changed[at] ^= 1
		altered := filepath.Join(t.TempDir(), "altered.zip")
		if err := os.WriteFile(altered, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := a.verify(altered); code != 1 && code != 4 {
			t.Errorf("a bit turned at %d: exit %d: %s", at, code, out)
		}
	}
}

func unzipped(t *testing.T, file string) string {
	t.Helper()
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var text bytes.Buffer
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := text.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	return text.String()
}

// A proof says of one record that it is in the log, to whoever has the keys and nothing else.
func TestProofOfOneRecord(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	visit(t, s, 3)
	a := newAuditor(t, s)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	var r audit.Record
	if err := json.Unmarshal([]byte(a.must("audit", "query", "--app", "payroll", "--limit", "1", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	proof := filepath.Join(t.TempDir(), "record.tlog-proof")
	a.must("audit", "prove", r.ID, "--out", proof)
	if out := a.wants(0, proof); !strings.Contains(out, r.ID) {
		t.Errorf("the report does not name the record: %s", out)
	}
	text, err := os.ReadFile(proof)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(proof, bytes.Replace(text, []byte("index "), []byte("index 1"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	a.wants(1, proof)
}

// Exports name nobody unless that is asked for, and that is on record.
func TestExportsRedactUnlessAsked(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	visit(t, s, 3)
	a := newAuditor(t, s)
	for _, format := range []string{"jsonl", "csv", "ocsf", "cef", "syslog"} {
		for _, log := range []string{"decision", "control"} {
			out := a.must("audit", "export", "--format", format, "--log", log)
			for _, personal := range []string{"ines@corp.test", "Go-http-client", "v=7", `"ip":"127.`, "src=127."} {
				if strings.Contains(out, personal) {
					t.Errorf("%s of the %s log discloses %s", format, log, personal)
				}
			}
			if out == "" {
				t.Errorf("%s of the %s log is empty", format, log)
			}
		}
		disclosed := a.must("audit", "export", "--format", format, "--disclose")
		if !strings.Contains(disclosed, "ines@corp.test") || strings.Contains(disclosed, "geheim") {
			t.Errorf("%s disclosed lacks the address, or holds a token: %.2000s", format, disclosed)
		}
	}
	if out := a.must("audit", "query", "--log", "control", "--code", "log_read", "--json", "--where", `time >= "2020-01-01"`); strings.Count(out, `"disclose":true`) != 5 {
		t.Errorf("the reads on record are %s", out)
	}
	now := time.Now().Format(time.RFC3339)
	if again := a.must("audit", "export", "--format", "ocsf", "--to", now); again != a.must("audit", "export", "--format", "ocsf", "--to", now) {
		t.Error("the same export twice differs")
	}
	resumed(t, a)
}

// resumed exports in parts, on standard output and to a file, and wants what one export of all would have written.
func resumed(t *testing.T, a *auditor) {
	t.Helper()
	cursor, file, other := filepath.Join(t.TempDir(), "cursor"), filepath.Join(t.TempDir(), "all.csv"), filepath.Join(t.TempDir(), "other")
	first := a.must("audit", "export", "--resume", cursor)
	if rest := a.must("audit", "export", "--resume", cursor); first == "" || rest != "" {
		t.Errorf("what was resumed is %q", rest)
	}
	for range 3 {
		visit(t, a.Stand, 2)
		a.must("audit", "export", "--format", "csv", "--resume", other, "--out", file)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if whole := a.must("audit", "export", "--format", "csv"); !strings.HasPrefix(whole, string(got)) || strings.Count(string(got), "\r\n") < 12 {
		t.Errorf("the parts are\n%s\nthe whole is\n%s", got, whole)
	}
	if out, code := a.run("audit", "export", "--format", "jsonl", "--resume", other, "--out", file); code != 2 || !strings.Contains(out, "other arguments") {
		t.Errorf("another export under the same name: exit %d: %s", code, out)
	}
}

// Another implementation reads the folder that is written for monitors, and finds the tree that is signed.
func TestTesseraAgreesWithThePublishedLog(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	visit(t, s, 300) // more than one tile
	a := newAuditor(t, s)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	trust, err := os.ReadFile(a.trust)
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range []string{"decision", "control"} {
		folder, origin := t.TempDir(), "corp.test/audit/"+log
		a.must("audit", "tiles", "--log", log, "--out", folder)
		a.must("audit", "tiles", "--log", log, "--out", folder) // and nothing is new
		if out, err := fsck(t, folder, origin, vkey(t, string(trust), origin)); err != nil {
			t.Errorf("%s: %v\n%s", log, err, out)
		}
		bundle := filepath.Join(folder, "tile", "entries")
		if !spoil(t, bundle) {
			t.Fatalf("there are no entry bundles in %s", bundle)
		}
		if out, err := fsck(t, folder, origin, vkey(t, string(trust), origin)); err == nil {
			t.Errorf("%s with a bit turned passes:\n%s", log, out)
		}
	}
}

// vkey is the verifier key of an origin in a trust file.
func vkey(t *testing.T, trust, origin string) string {
	t.Helper()
	for line := range strings.Lines(trust) {
		if strings.HasPrefix(line, origin+"+") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("no key of %s in %s", origin, trust)
	return ""
}

// fsck has Tessera check a folder.
func fsck(t *testing.T, folder, origin, key string) (string, error) {
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run", "^TestFolder$", ".")
	cmd.Dir = "tessera"
	cmd.Env = append(os.Environ(), "TILES="+folder, "ORIGIN="+origin, "VKEY="+key)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// spoil turns a bit of the first file below a folder.
func spoil(t *testing.T, folder string) (done bool) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || done {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		content[len(content)/2] ^= 1
		done = true
		return os.WriteFile(path, content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// What a sink ships arrives in order and complete, also across a restart of the gateway and outages of the receiver; what
// is slow about it is not felt by requests.
func TestSinkShipsEverythingOnce(t *testing.T) {
	lake := newLake(t)
	s := harness.New(t, harness.Apps, `
sinks:
  - { name: lake, type: http, url: "`+lake.URL+`/ingest", format: jsonl, disclose: true, log: decision, batch_wait: 100ms }
`)
	p := s.Start(t)
	visit(t, s, 10)
	lake.away.Store(true)
	visit(t, s, 10)
	a := newAuditor(t, s)
	harness.Eventually(t, 2*time.Minute, "status to say that the sink fails", func() bool {
		out := a.must("status", "--json")
		return strings.Contains(out, `"failing_since"`) && strings.Contains(out, `"lake"`)
	})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	lake.away.Store(false)
	p = s.Start(t)
	visit(t, s, 10)
	want := strings.Count(a.must("audit", "export", "--disclose"), "\n")
	harness.Eventually(t, 2*time.Minute, "everything to arrive", func() bool { return lake.received() >= want })
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	lake.check(t, want)
}

// lake receives records over HTTP.
type lake struct {
	*httptest.Server
	away atomic.Bool

	mu  sync.Mutex
	got []audit.Record
}

func newLake(t *testing.T) *lake {
	l := &lake{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.away.Load() {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		lines := bufio.NewScanner(r.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var one audit.Record
			if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			l.got = append(l.got, one)
		}
	}))
	t.Cleanup(l.Close)
	return l
}

// received is how many different records have arrived.
func (l *lake) received() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	seqs := map[uint64]bool{}
	for _, r := range l.got {
		seqs[r.Seq] = true
	}
	return len(seqs)
}

// check wants every record, each new one in its place.
func (l *lake) check(t *testing.T, want int) {
	t.Helper()
	next := uint64(0)
	for _, r := range l.got {
		if r.Seq > next {
			t.Fatalf("record %d arrived when %d was next", r.Seq, next)
		}
		next = max(next, r.Seq+1)
	}
	if next < uint64(want) {
		t.Errorf("%d records arrived, %d were exported", next, want)
	}
}

// Queries through the searchable copy and without it find the same, and the newest where that is asked.
func TestQueryFindsTheSameWithAndWithoutTheCopy(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	visit(t, s, 20)
	a := newAuditor(t, s)
	a.must("audit", "reindex")
	queries := [][]string{
		{"--user", "ines@corp.test"}, {"--app", "payroll"}, {"--where", `effect == "deny" && path.startsWith("/sal")`},
		{"--where", `status >= 200 && type == "outcome"`, "--limit", "3"}, {"--limit", "5"}, {"--where", `"staff" in groups`, "--limit", "2"},
	}
	var with []string
	for _, q := range queries {
		with = append(with, a.must(append([]string{"audit", "query", "--json"}, q...)...))
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.Dir, "audit", "search")); err != nil {
		t.Fatal(err)
	}
	for i, q := range queries {
		without := a.must(append([]string{"audit", "query", "--json"}, q...)...)
		if without != with[i] || without == "" {
			t.Errorf("%q: with the copy %.500s\nwithout %.500s", q, with[i], without)
		}
	}
}

// What a reviewer finds goes on record, and the next report shows it.
func TestAccessIsReviewed(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	visit(t, s, 3)
	a := newAuditor(t, s)
	a.must("audit", "review", "--person", "corp|ines", "--app", "wiki", "--decision", "revoke", "--note", "left the team")
	for _, kind := range []string{"access-review", "unused", "summary", "controls"} {
		for _, format := range []string{"html", "csv", "json"} {
			out := a.must("audit", "report", kind, "--format", format)
			if out == "" || strings.Contains(out, "ines@corp.test") {
				t.Errorf("%s as %s is empty, or discloses: %.1000s", kind, format, out)
			}
			if kind == "access-review" && (!strings.Contains(out, "left the team") || !strings.Contains(out, "corp|ines")) {
				t.Errorf("%s as %s does not show the review: %.2000s", kind, format, out)
			}
		}
	}
	if out := a.must("audit", "report", "access-review", "--disclose", "--format", "csv"); !strings.Contains(out, "ines@corp.test") {
		t.Errorf("disclosed: %.2000s", out)
	}
}
