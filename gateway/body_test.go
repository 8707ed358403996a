package gateway

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
)

// An app is asked when all of a body is there, not before: a slow upload holds nobody but the gateway.
func TestAppIsAskedWhenTheBodyIsThere(t *testing.T) {
	var asked atomic.Int64
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(body)) || r.Header.Get("Expect") != "" {
			t.Errorf("the app read %d of %d bytes, %v; Expect: %q", len(body), r.ContentLength, err, r.Header.Get("Expect"))
		}
		w.Write(body)
	})
	for _, protocol := range []string{"http/1.1", "h2"} {
		asked.Store(0)
		body, rest := io.Pipe()
		r := b.request(t, "POST", "/page", "ada", body)
		r.Header.Set("Expect", "100-continue")
		answered := make(chan string, 1)
		go func() {
			res, err := b.client(t, protocol).Do(r)
			if err != nil {
				answered <- err.Error()
				return
			}
			defer res.Body.Close()
			got, _ := io.ReadAll(res.Body)
			answered <- string(got)
		}()
		io.WriteString(rest, "slow ")
		if asked.Load() != 0 {
			t.Errorf("%s: the app was asked before the body was there", protocol)
		}
		io.WriteString(rest, "upload")
		rest.Close()
		if got := <-answered; got != "slow upload" {
			t.Errorf("%s: got %q", protocol, got)
		}
	}
}

// REV-02: an upload that is waited for ends with its session, and never reaches the app.
func TestUploadEndsWithItsSession(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
		body, rest := io.Pipe()
		ended := make(chan int, 1)
		go func() {
			res, err := b.client(t, protocol).Do(b.request(t, "POST", "/page", "ada", body))
			if err != nil {
				ended <- 0
				return
			}
			res.Body.Close()
			ended <- res.StatusCode
		}()
		io.WriteString(rest, "a part")
		eventually(t, "the upload to be open", func() bool { return len(b.server.streams.all()) == 1 })
		b.server.SessionEnded(session.Ended{SessionID: "session of ada", Reason: session.Revoked})
		select {
		case status := <-ended:
			if status != http.StatusUnauthorized && status != 0 {
				t.Errorf("%s: got %d", protocol, status)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the upload goes on", protocol)
		}
		rest.CloseWithError(io.ErrClosedPipe)
		if got := b.log.one(t, audit.TypeOutcome); got.Reason != "session_revoked" || got.Outcome.Error != audit.NotForwarded {
			t.Errorf("%s: outcome %q %+v", protocol, got.Reason, got.Outcome)
		}
	}
}

// A client that stops sending is told so, and its record says why.
func TestClientThatSendsNothingMoreTimesOut(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	app := wiki(t, b.origin, "staff")
	app.Timeouts.Client = time.Second
	b.server.Swap(snapshot(t, app))
	for _, protocol := range []string{"http/1.1", "h2"} {
		body, rest := io.Pipe()
		go io.WriteString(rest, "a part")
		res, err := b.client(t, protocol).Do(b.request(t, "POST", "/page", "ada", body))
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		res.Body.Close()
		rest.CloseWithError(io.ErrClosedPipe)
		if res.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%s: got %d, want 408", protocol, res.StatusCode)
		}
	}
	if n := strings.Count(b.printed.String(), "reason=body_timeout"); n != 2 {
		t.Errorf("%d of 2 are logged as timeouts: %s", n, b.printed.String())
	}
}
