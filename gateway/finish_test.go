package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport/audit"
	"sallyport/authn/session"
)

// SUP-04: a panic of a stage is a recorded 500 that arrives, on both protocols, and the connection's end in HTTP/1.1.
func TestPanicIsARecordedAnswer(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
		b.sessions.asked = func() { panic("a slip") }
		res, err := b.client(t, protocol).Do(b.request(t, "GET", "/page", "ada", nil))
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), "internal_error") || strings.Contains(string(body), "slip") {
			t.Errorf("%s: got %d %s", protocol, res.StatusCode, body)
		}
		if protocol == "http/1.1" && !res.Close {
			t.Error("the connection is kept")
		}
		if r := b.log.one(t, audit.TypeDecision); r.Effect != audit.Reject || r.Reason != "internal_error" {
			t.Errorf("%s: recorded as %s %s", protocol, r.Effect, r.Reason)
		}
		if printed := b.printed.String(); !strings.Contains(printed, "a slip") || !strings.Contains(printed, "finish_test.go") {
			t.Errorf("%s: the log does not say where it happened: %s", protocol, printed)
		}
	}
}

// A panic after the answer began cuts the connection: half an answer must not look like a whole one.
func TestPanicInsideAnAnswerCutsIt(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	res, err := b.client(t, "http/1.1").Do(b.request(t, "GET", "/page", "ada", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the answer %q ended well", body)
	}
	if r := b.log.one(t, audit.TypeOutcome); r.Outcome.Status != 200 || r.Outcome.Error != "upstream_broke_off" || r.Outcome.BytesOut != 4 {
		t.Errorf("outcome: %+v", r.Outcome)
	}
}

// AUD-14: a request that was allowed and never forwarded has an outcome that says so.
func TestAllowWithoutForwardingHasItsOutcome(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	b.server.assertions = brokenAssertions{}
	if status, _ := b.get(t, "/page"); status != http.StatusServiceUnavailable {
		t.Errorf("got %d", status)
	}
	if r := b.log.one(t, audit.TypeOutcome); r.Outcome.Error != audit.NotForwarded || r.Reason != "assertion_unavailable" || r.Outcome.Status != 503 {
		t.Errorf("outcome: %+v %s", r.Outcome, r.Reason)
	}
}

// The same holds for a request for which there was nobody to ask.
func TestRequestForNobodyWasNotForwarded(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	if !b.server.Snapshot().Pool("wiki").Drain(b.origin, true) {
		t.Fatal("the address is not known")
	}
	if status, _ := b.get(t, "/page"); status != http.StatusServiceUnavailable {
		t.Errorf("got %d", status)
	}
	if r := b.log.one(t, audit.TypeOutcome); r.Outcome.Error != audit.NotForwarded || r.Reason != "no_endpoint" {
		t.Errorf("outcome: %+v %s", r.Outcome, r.Reason)
	}
}

type brokenAssertions struct{ noAssertions }

func (brokenAssertions) Assertion(context.Context, *session.Session, string) (string, error) {
	return "", errDisk
}

// AUD-14: counters agree with the log, whatever became of a request after its decision.
func TestCountersAgreeWithTheLog(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}
		io.Copy(io.Discard, r.Body)
	})
	b.sessions.put("bob", "finance")
	client := b.client(t, "http/1.1")
	for _, r := range []*http.Request{
		b.request(t, "GET", "/page", "ada", nil),
		b.request(t, "GET", "/broken", "ada", nil),
		b.request(t, "GET", "/a//b", "ada", nil),
		b.request(t, "GET", "/page", "bob", nil),
		b.request(t, "GET", "/page", "", nil),
		b.request(t, "POST", "/page", "ada", io.MultiReader(strings.NewReader(strings.Repeat("x", 2<<20)))),
	} {
		answerTo(t, client, r)
	}
	b.log.fail(errDisk)
	answerTo(t, client, b.request(t, "GET", "/page", "ada", nil))
	want := map[string]float64{"unrecorded": 1}
	for _, r := range b.log.of(audit.TypeDecision) {
		want[string(r.Effect)]++
	}
	got := map[string]float64{}
	page := httptest.NewRecorder()
	promhttp.HandlerFor(b.metrics, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for _, m := range regexp.MustCompile(`sallyport_requests_total{app=".*",effect="(.*)"} (\d+)`).FindAllStringSubmatch(page.Body.String(), -1) {
		if n, err := strconv.ParseFloat(m[2], 64); err == nil && n > 0 {
			got[m[1]] += n
		}
	}
	if g, w := asJSON(t, got), asJSON(t, want); g != w {
		t.Errorf("counted %s, recorded %s", g, w)
	}
	if allows, outcomes := len(b.log.of(audit.TypeDecision)), len(b.log.of(audit.TypeOutcome)); allows != 6 || outcomes != 3 {
		t.Errorf("%d decisions and %d outcomes, want 6 and 3", allows, outcomes)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
