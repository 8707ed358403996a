package test

import (
	"net/http"
	"strings"
	"testing"

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
