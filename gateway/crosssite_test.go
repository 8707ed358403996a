package gateway

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/audit"
)

// A form on another site that posts to an app is refused for who may use the app, tells strangers nothing, and reaches
// the app only where it is admitted. The record says which fact decided.
func TestFormsOfOtherSitesAreRefusedByThePolicy(t *testing.T) {
	var reached atomic.Int64
	b := newBed(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	b.sessions.put("gil", "guests")
	post := func(site, who string) int {
		r := b.request(t, http.MethodPost, "/", who, strings.NewReader("pay=1"))
		r.Header.Set("Sec-Fetch-Site", site)
		status, _ := answerTo(t, b.client(t, "http/1.1"), r)
		return status
	}
	for _, c := range []struct {
		site, who string
		status    int
		decision  string
	}{
		{"same-origin", "ada", http.StatusOK, `"code":"allow"`},
		{"cross-site", "ada", http.StatusForbidden, `"code":"cross_site"`},
		{"same-site", "ada", http.StatusForbidden, `"code":"cross_site"`},
		{"cross-site", "gil", http.StatusForbidden, `"code":"not_listed"`},
		{"cross-site", "", http.StatusUnauthorized, `"code":"unauthenticated"`},
	} {
		if got := post(c.site, c.who); got != c.status {
			t.Errorf("%s by %q: got %d, want %d", c.site, c.who, got, c.status)
		}
		records := b.log.of(audit.TypeDecision)
		last := records[len(records)-1]
		input := last.Document.AppendJSON(nil)
		fact := `"cross_site_unsafe":` + map[bool]string{true: "false", false: "true"}[c.site == "same-origin"]
		if !strings.Contains(string(last.Decision), c.decision) || !strings.Contains(string(input), fact) {
			t.Errorf("%s by %q: got %s for %s, want %s for %s", c.site, c.who, last.Decision, input, c.decision, fact)
		}
	}
	if n := reached.Load(); n != 1 {
		t.Errorf("%d requests reached the app, want 1", n)
	}
	open := wiki(t, b.origin, "staff")
	open.CrossSite = true
	b.server.Swap(snapshot(t, open))
	if got := post("cross-site", "ada"); got != http.StatusOK || reached.Load() != 2 {
		t.Errorf("to an app that admits other sites' pages: got %d, want 200", got)
	}
}
