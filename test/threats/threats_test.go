// Package threats holds the real gateway against the threat list as exact bytes: the rows of path confusion, headers,
// smuggling, HTTP/2, hosts, methods, cookies and redirects (package rawhttp has them), and the same requests against two
// real back ends.
//
//	go test ./test/threats -run 'TestThreats/PATH-01/http2/session'
package threats

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/test/harness"
	"sallyport/test/rawhttp"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.RemoveBinaries()
	os.Exit(code)
}

// guarded is the fixture of the threat list's rows: ada may use /app/ and nothing else.
const guarded = `
  - name: wiki
    host: wiki.corp.test
    upstreams: ["RAW"]
    access: [{ paths: ["/app/"], groups: [staff] }]
  - name: payroll
    host: payroll.corp.test
    upstreams: ["RAW"]
    access: { groups: [finance] }
`

// unlimited lets one address ask as often as these tests do, and has a record of each.
const unlimited = `
limits:
  strangers: 100000/s
  strangers_total: 100000/s
  strangers_records: 100000/s
  sign_in: { address: 100000/s, total: 100000/s }
`

// TestThreats sends every row to the real gateway over TLS, with and without a session. What a row demands of answers,
// of the app and of the next person's requests is looked at after each; what it demands of the audit log at the end,
// when the log is complete.
func TestThreats(t *testing.T) {
	origin := rawhttp.NewOrigin(t)
	s := harness.New(t, replaceRaw(guarded, origin.URL), unlimited)
	gateway := s.Start(t)
	done := rawhttp.Run(t, target(t, s, origin), rawhttp.Cases())
	if err := gateway.Stop(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	t.Run("records", func(t *testing.T) { checkRecords(t, s, done) })
	if said := gateway.Output(); strings.Contains(said, "panic") {
		t.Errorf("SUP-04: the gateway said:\n%s", said)
	} else if t.Failed() {
		t.Logf("the gateway said:\n%.20000s", said)
	}
}

// target is a stand as the cases see it: ada and bob are signed in.
func target(t *testing.T, s *harness.Stand, origin *rawhttp.Origin) rawhttp.Target {
	t.Helper()
	provider, err := url.Parse(s.Provider.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	return rawhttp.Target{
		Dialer: rawhttp.Dialer{Address: s.Address(), Roots: s.Roots()}, Origin: origin,
		Host: authority(s, "wiki"), Other: authority(s, "payroll"), Auth: authority(s, "auth"),
		Provider: net.JoinHostPort(provider.Hostname(), provider.Port()),
		Session:  signIn(t, s, "wiki", "ada"), OtherSession: signIn(t, s, "payroll", "ada"), Neighbour: signIn(t, s, "wiki", "bob"),
	}
}

func authority(s *harness.Stand, label string) string {
	return fmt.Sprintf("%s.%s:%d", label, harness.Domain, s.Port)
}

// signIn is the value of a new session's cookie.
func signIn(t *testing.T, s *harness.Stand, label, person string) string {
	t.Helper()
	browser := s.Browser()
	s.SignIn(t, browser, label, person, "staff")
	return s.Cookie(t, browser, label).Value
}

// journal is the decision log of a gateway that has ended.
type journal struct {
	decisions map[string]audit.Record // by request
	outcomes  map[string]bool         // requests whose end is on record
	malformed uint64                  // requests that ended in net/http's parser
	text      strings.Builder         // all of it
}

func readJournal(t *testing.T, s *harness.Stand) *journal {
	t.Helper()
	reader, err := audit.OpenReader(filepath.Join(s.Dir, "audit"), audit.DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	j := &journal{decisions: map[string]audit.Record{}, outcomes: map[string]bool{}}
	seq := uint64(0)
	for entry, err := range reader.All(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		r := *entry.Record
		if r.Seq != seq {
			t.Fatalf("record %d has seq %d", seq, r.Seq)
		}
		seq++
		j.text.Write(entry.Raw)
		switch r.Type {
		case audit.TypeDecision:
			if _, twice := j.decisions[r.RequestID]; twice {
				t.Errorf("request %s was decided on twice", r.RequestID)
			}
			j.decisions[r.RequestID] = r
		case audit.TypeOutcome:
			j.outcomes[r.RequestID] = true
		case audit.TypeWindow:
			var window audit.WindowDetail
			if err := json.Unmarshal(r.Detail, &window); err != nil {
				t.Fatal(err)
			}
			for _, row := range window.Rows {
				if row.Reason == "malformed_request" {
					j.malformed += row.Count
				}
			}
		}
	}
	return j
}

// checkRecords wants, of each answer and of each request that reached the app, the one record that it stands for.
func checkRecords(t *testing.T, s *harness.Stand, done []rawhttp.Outcome) {
	j := readJournal(t, s)
	unhandled := uint64(0)
	for _, o := range done {
		name := fmt.Sprintf("%s/%s %.60q, signed in %v", o.Case.ID, o.Case.Protocol(), o.Case.Name, o.Signed)
		for _, m := range o.Received {
			if m.Request == nil {
				continue
			}
			r, found := j.decisions[m.Request.Header.Get("X-Request-Id")]
			if !found || r.Effect != audit.Allow || r.App != "wiki" || !j.outcomes[r.RequestID] {
				t.Errorf("%s: the app received %.80q, and the record of it is %+v, its end on record %v", name, m, r, j.outcomes[r.RequestID])
			}
		}
		if o.Case.Own {
			continue
		}
		for _, a := range o.Answers {
			id := a.Header.Get("X-Request-Id")
			if id == "" {
				if a.Status == http.StatusBadRequest && o.Case.Protocol() == "http1" {
					unhandled++
				}
				continue
			}
			if wrong := unlike(j.decisions[id], a, o.Signed); wrong != "" {
				t.Errorf("%s: %v has a record of %s", name, a, wrong)
			}
		}
	}
	if j.malformed < unhandled {
		t.Errorf("%d requests were refused by the parser, and windows count %d", unhandled, j.malformed)
	}
	if strings.Contains(j.text.String(), `"ip":"6.6.6.6"`) || strings.Contains(j.text.String(), `"peer":"6.6.6.6`) {
		t.Error("TLS-05, HDR-09: a client is on record as 6.6.6.6")
	}
	t.Logf("%d cases were sent, %d decisions are on record, and %d requests that were none", len(done), len(j.decisions), j.malformed)
}

// unlike says what a decision record says that an answer does not.
func unlike(r audit.Record, a rawhttp.Answer, signed bool) string {
	effect := map[int]audit.Effect{http.StatusOK: audit.Allow, http.StatusBadGateway: audit.Allow, http.StatusForbidden: audit.Deny, http.StatusUnauthorized: audit.Deny, http.StatusFound: audit.Deny}[a.Status]
	if effect == "" {
		effect = audit.Reject
	}
	unrouted := !signed && r.Effect == audit.Reject && r.Reason == "no_route" // strangers are told the same everywhere
	switch {
	case r.ID == "":
		return "nothing"
	case r.Reason == "" && r.Effect != audit.Allow:
		return "no reason"
	case r.Effect != effect && !unrouted && a.Status < 300 == (r.Effect == audit.Allow) && r.Reason != "bad_token":
		return fmt.Sprintf("%s by %s, want %s", r.Effect, r.Reason, effect)
	}
	return ""
}

func replaceRaw(apps, address string) string { return strings.ReplaceAll(apps, "RAW", address) }
