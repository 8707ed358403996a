package test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/test/harness"
)

// candidate writes a configuration beside the one in force, with other access to the payroll, and returns its name.
func candidate(t *testing.T, s *harness.Stand, payroll string) string {
	t.Helper()
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "access: { groups: [finance] }", "access: "+payroll, 1)
	if changed == string(text) {
		t.Fatal("the configuration has no access of the payroll to change")
	}
	name := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(name, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// tried is what policy shadow status prints.
type tried struct {
	Running   bool
	Candidate string
	Active    string
	Compared  uint64
	Dropped   uint64
	Clean     bool
	Changes   map[string]uint64

	Differences []struct {
		App, Change      string
		Requests, People int
		Examples         []struct {
			Record string
			Person struct{ ID, Name string }
		}
	}
}

func shadowStatus(a *auditor) (s tried) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.must("policy", "shadow", "status", "--json")), &s); err != nil {
		a.t.Fatal(err)
	}
	return s
}

// compared waits until as many decisions were compared.
func compared(a *auditor, want uint64) (s tried) {
	a.t.Helper()
	harness.Eventually(a.t, 20*time.Second, "the comparison", func() bool {
		s = shadowStatus(a)
		return s.Compared >= want
	})
	return s
}

// control is the control log's records of a code.
func control(t *testing.T, s *harness.Stand, code string) (list []audit.Record) {
	t.Helper()
	for _, r := range readLog(t, s, audit.ControlLog, audit.Filter{}) {
		if r.Code == code {
			list = append(list, r)
		}
	}
	return list
}

// A candidate is compared on live traffic, nobody's answer changes by it, what differs is on record and in status, and it
// is promoted only when clean.
func TestShadowFindsWhoseAccessWouldChange(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	a := newAuditor(t, s)
	if out, code := a.run("policy", "shadow", "promote"); code != 1 || !strings.Contains(out, "no candidate policy") {
		t.Errorf("promoting nothing: exit %d: %s", code, out)
	}
	next := candidate(t, s, "{ groups: [finance, staff] }")
	a.must("policy", "shadow", "start", next, "--why", "staff may see the payroll")
	if out, code := a.run("policy", "shadow", "start", next); code != 1 || !strings.Contains(out, "already") {
		t.Errorf("a second candidate: exit %d: %s", code, out)
	}
	if out, code := a.run("policy", "shadow", "promote"); code != 1 || !strings.Contains(out, "nothing was compared") {
		t.Errorf("promoting before anything was compared: exit %d: %s", code, out)
	}
	visit(t, s, 5) // ends with a no of the payroll
	decided := decisionsByRequest(t, records(t, s))
	var judged uint64
	var denied audit.Record
	for _, r := range decided {
		if r.Effect != audit.Reject {
			judged++
		}
		if r.App == "payroll" && r.Session != "" {
			denied = r
		}
	}
	got := compared(a, judged)
	if got.Compared != judged || got.Dropped != 0 || got.Clean || got.Changes["gained"] != 1 || len(got.Differences) != 1 {
		t.Fatalf("of %d decisions the status is %+v", judged, got)
	}
	if d := got.Differences[0]; d.App != "payroll" || d.Change != "gained" || d.Requests != 1 || d.People != 1 ||
		d.Examples[0].Record != denied.ID || d.Examples[0].Person.Name == "" {
		t.Errorf("the difference is %+v, want record %s", d, denied.ID)
	}
	if out := a.must("status"); !strings.Contains(out, "tried beside it: sha256:") {
		t.Errorf("status does not say that a candidate is tried:\n%s", out)
	}
	if out := a.must("policy", "shadow", "status"); !strings.Contains(out, "gained") || !strings.Contains(out, denied.ID) {
		t.Errorf("people are told %s", out)
	}
	found := control(t, s, "shadow_difference")
	if len(found) != 1 || !strings.Contains(string(found[0].Detail), denied.ID) || !strings.Contains(string(found[0].Detail), `"change":"gained"`) {
		t.Errorf("on record are %+v", found)
	}
	if out, code := a.run("policy", "shadow", "promote"); code != 1 || !strings.Contains(out, "access would have differed") {
		t.Errorf("promoting what is not clean: exit %d: %s", code, out)
	}

	a.must("policy", "shadow", "promote", "--force", "--why", "that is what we want")
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ines", "staff")
	if status, _ := harness.Get(t, browser, s.URL("payroll", "/salaries")); status != http.StatusOK {
		t.Errorf("after the promotion the payroll answers %d", status)
	}
	if got := shadowStatus(a); got.Running {
		t.Errorf("the trial goes on: %+v", got)
	}
	stopped := control(t, s, "shadow_stopped")
	if len(stopped) != 1 || !strings.Contains(string(stopped[0].Detail), `"promoted":true`) || !strings.Contains(string(stopped[0].Detail), `"gained":1`) ||
		stopped[0].Actor.Kind != "os" {
		t.Errorf("the end is on record as %+v", stopped)
	}
	recomputeAll(t, s, 2)
}

// A trial lasts over a reload, says when it counts against another policy, and a clean candidate is promoted.
func TestCleanCandidateIsPromoted(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	a := newAuditor(t, s)
	next := candidate(t, s, "{ id: money, groups: [finance] }")
	a.must("policy", "shadow", "start", next)
	visit(t, s, 3)
	before := compared(a, 5)
	if !before.Clean || before.Changes["reason_only"] == 0 {
		t.Errorf("another name of a rule: %+v", before)
	}

	s.Write(t, strings.Replace(harness.Apps, "access: { groups: [staff] }", "access: { groups: [staff, guests] }", 1))
	a.must("reload")
	visit(t, s, 3)
	harness.Eventually(t, 2*time.Minute, "counting to start over", func() bool {
		now := shadowStatus(a)
		return now.Running && now.Active != before.Active && now.Compared >= 5
	})
	if got := control(t, s, "shadow_summary"); len(got) != 1 || !strings.Contains(string(got[0].Detail), before.Active) {
		t.Errorf("what was counted before the reload is on record as %+v", got)
	}
	if !strings.Contains(p.Output(), "counting starts over") {
		t.Error("nobody is told that counting starts over")
	}
	a.must("policy", "shadow", "promote", "--why", "clean")
	if out := a.must("status", "--json"); !strings.Contains(out, `"digest": "`+before.Candidate+`"`) {
		t.Errorf("after the promotion status says %s", out)
	}
}

// A candidate that does not compile, or is no policy, never starts; the one who asks is told why.
func TestBrokenCandidatesAreNotTried(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	a := newAuditor(t, s)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "own.rego"), []byte("package sallyport.app[\"wiki\"]\n\ndecision := {"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := a.run("policy", "shadow", "start", folder); code == 0 || !strings.Contains(out, "own.rego") {
		t.Errorf("exit %d: %s", code, out)
	}
	if got := shadowStatus(a); got.Running {
		t.Errorf("it is tried all the same: %+v", got)
	}
}

// A gateway that is stopped while a candidate is tried stops as ever.
func TestTrialDoesNotHoldUpAStop(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	p := s.Start(t)
	a := newAuditor(t, s)
	a.must("policy", "shadow", "start", candidate(t, s, "{ groups: [staff] }"))
	visit(t, s, 1)
	p.Signal(syscall.SIGTERM)
	if err := p.Stop(); err != nil {
		t.Errorf("%v\n%s", err, p.Output())
	}
}
