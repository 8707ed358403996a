package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sallyport/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every no has the form that its reader understands, the reference that its record has, and nothing of its cause.
func TestRefusalSpeaksToItsReader(t *testing.T) {
	page := func(r *http.Request) { r.Header.Set("Accept", "text/html") }
	frame := func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Set("Sec-Fetch-Dest", "iframe")
	}
	for name, c := range map[string]struct {
		method, path, handle string
		reader               func(*http.Request)
		status               int
		kind, says           string
		effect               audit.Effect
	}{
		"a program without a session":  {"GET", "/page", "", nil, 401, "application/json", `"error":"unauthenticated"`, audit.Deny},
		"a person inside a frame":      {"GET", "/page", "", frame, 401, "text/html", "Open in a new tab", audit.Deny},
		"a form without a session":     {"POST", "/page", "", page, 401, "text/html", "You are not signed in any more", audit.Deny},
		"a program that may not":       {"GET", "/page", "bob", nil, 403, "application/json", `"error":"policy"`, audit.Deny},
		"a person who may not":         {"GET", "/page", "bob", page, 403, "text/html", "bob@corp.test", audit.Deny},
		"an ambiguous path":            {"GET", "/a//b", "ada", nil, 400, "application/json", `"error":"empty_segment"`, audit.Reject},
		"an ambiguous path, a person":  {"GET", "/a//b", "ada", page, 400, "application/json", `"error":"empty_segment"`, audit.Reject},
		"a HEAD by a program":          {"HEAD", "/page", "bob", nil, 403, "application/json", "", audit.Deny},
		"an app that gives no answer":  {"GET", "/none", "ada", nil, 502, "application/json", `"error":"upstream_failed"`, audit.Allow},
		"the same, asked by a person":  {"GET", "/none", "ada", page, 502, "text/html", "not answering", audit.Allow},
		"our own place, by a stranger": {"GET", "/.sallyport/nothing", "", nil, 404, "application/json", `"error":"not_found"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			b.sessions.put("bob", "finance")
			r := b.request(t, c.method, c.path, c.handle, nil)
			if c.reader != nil {
				c.reader(r)
			}
			res, err := b.client(t, "http/1.1").Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != c.status || !strings.HasPrefix(res.Header.Get("Content-Type"), c.kind) || !strings.Contains(string(body), c.says) {
				t.Errorf("got %d %s: %.2000s", res.StatusCode, res.Header.Get("Content-Type"), body)
			}
			if (res.StatusCode == 401) != (res.Header.Get("WWW-Authenticate") != "") && c.kind == "application/json" {
				t.Errorf("WWW-Authenticate is %q", res.Header.Get("WWW-Authenticate"))
			}
			if strings.Contains(string(body), b.origin) || strings.Contains(string(body), "127.0.0.1") {
				t.Errorf("the answer names the app's address: %s", body)
			}
			if c.method == "HEAD" && len(body) > 0 {
				t.Errorf("HEAD has the body %q", body)
			}
			if c.effect == "" {
				if n := len(b.log.of(audit.TypeDecision)); n > 0 {
					t.Errorf("%d decision records", n)
				}
				return
			}
			record := b.log.one(t, audit.TypeDecision)
			if record.Effect != c.effect || record.RequestID == "" || res.Header.Get("X-Request-Id") != record.RequestID {
				t.Errorf("recorded as %s of %s, answered as %s", record.Effect, record.RequestID, res.Header.Get("X-Request-Id"))
			}
			if c.kind == "application/json" && c.method != "HEAD" {
				var told struct{ Reference string }
				if err := json.Unmarshal(body, &told); err != nil || told.Reference != record.RequestID {
					t.Errorf("the reference is %q, the record's %q, %v", told.Reference, record.RequestID, err)
				}
			}
		})
	}
}

// While nothing can be recorded there is one answer to everything, with a reference, and the connection ends.
func TestRefusalWhileNothingCanBeRecorded(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	b.log.fail(errDisk)
	for _, path := range []string{"/page", "/a//b", "/.sallyport/signout"} {
		for _, handle := range []string{"ada", ""} {
			res, err := b.client(t, "http/1.1").Do(b.request(t, "GET", path, handle, nil))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 503 || !res.Close || res.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"error":"audit_unavailable"`) ||
				!strings.Contains(string(body), res.Header.Get("X-Request-Id")) || strings.Contains(string(body), "no space") {
				t.Errorf("%s as %q got %d %v: %s", path, handle, res.StatusCode, res.Header, body)
			}
		}
	}
}
