package gateway

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/policy"
)

// exportsPolicy lets staff do everything, and strangers look; exports count against two rates.
const exportsPolicy = `package sallyport.app["wiki"]

decision := {
	"allow": true,
	"reasons": [{"code": "allow", "rule": "exports"}],
	"obligations": [
		{"type": "rate_limit", "requests": 3, "per_s": 3600},
		{"type": "rate_limit", "requests": 2, "per_s": 1800},
		{"type": "rate_limit", "requests": 100, "per_s": 60, "class": "all"},
	],
} if {
	startswith(input.resource.path, "/export/")
} else := {"allow": true, "obligations": [{"type": "rate_limit", "requests": 100, "per_s": 60, "class": "all"}]}
`

// Rates that a policy demands hold all together, for each person by themselves, and for what the policy counts in them.
func TestRateLimitsOfThePolicyHold(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	app := wiki(t, b.origin, "staff")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "wiki.rego"), []byte(exportsPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle, err := policy.Build(policy.Config{Bundle: dir, Memo: true}, []policy.App{app.Policy()}, policy.RateLimit)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.Compile(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	b.server.Swap(b.server.Snapshot().WithPolicy(engine, time.UTC))
	b.sessions.put("ben", "sales")
	for _, c := range []struct {
		path, who string
		status    int
	}{
		{"/export/a", "ada", 204}, {"/export/b", "ada", 204}, {"/export/c", "ada", 429}, {"/", "ada", 204},
		{"/export/a", "ben", 204}, {"/export/a", "", 204}, {"/export/b", "ben", 204}, {"/export/b", "ben", 429},
	} {
		response, err := b.client(t, "http/1.1").Do(b.request(t, http.MethodGet, c.path, c.who, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Error(err)
		}
		response.Body.Close()
		if response.StatusCode != c.status || (response.Header.Get("Retry-After") != "") != (c.status == 429) {
			t.Errorf("%s by %q: got %d, Retry-After %q; want %d", c.path, c.who, response.StatusCode, response.Header.Get("Retry-After"), c.status)
		}
	}
	if n := len(b.log.of(audit.TypeDecision)); n == 0 {
		t.Error("nothing is on record")
	}
}
