package test

import (
	"net/http"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/test/harness"
)

func TestPersonSignsInOpensOneAppAndIsRefusedAnother(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	gw := s.Start(t)
	browser := s.Browser()
	status, body := s.SignIn(t, browser, "wiki", "ada", "staff")
	if status != http.StatusOK || !strings.Contains(body, "hello from /") {
		t.Fatalf("wiki answered %d:\n%s\n%s", status, body, gw.Output())
	}
	status, body = harness.Get(t, browser, s.URL("payroll", "/"))
	if status != http.StatusForbidden {
		t.Fatalf("payroll answered %d:\n%s", status, body)
	}
	for _, seen := range s.Origin.Seen() {
		if strings.HasPrefix(seen.Host, "payroll.") {
			t.Errorf("payroll saw %s %s", seen.Method, seen.Target)
		}
	}
}

// A deny is the policy's: it can be recomputed from its record. What no policy was asked about is a reject, though
// strangers cannot tell the two apart.
func TestEveryDenyCanBeRecomputed(t *testing.T) {
	s := harness.New(t, strings.Replace(harness.Apps, "access: { groups: [staff] }", `path: /app/
    access: { groups: [staff] }`, 1), "")
	s.Start(t)
	stranger := &http.Client{Transport: s.Transport(), CheckRedirect: stay}
	for _, path := range []string{"/app/", "/elsewhere"} {
		if status, _ := harness.Get(t, stranger, s.URL("wiki", path)); status != http.StatusUnauthorized {
			t.Errorf("%s answered a stranger %d, want 401", path, status)
		}
	}
	effects := map[audit.Effect]int{}
	for _, r := range records(t, s) {
		effects[r.Effect]++
	}
	if effects[audit.Deny] != 1 || effects[audit.Reject] != 1 {
		t.Errorf("recorded %v, want one deny and one reject", effects)
	}
	recomputeAll(t, s, 1)
}
