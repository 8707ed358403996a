package gateway

import (
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/cache"
	"sallyport/gateway/route"
	"sallyport/gateway/signin"
	"sallyport/gateway/units"
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
		case <-time.After(2 * time.Minute):
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

// DOS-19: a client that sends a byte now and then, never pausing for long, holds no room for ever.
func TestClientThatSendsTooSlowlyTimesOut(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	app := wiki(t, b.origin, "staff")
	app.Timeouts.Client, app.Timeouts.UploadRate = 2*time.Second, 1<<10
	b.server.Swap(snapshot(t, app))
	for _, protocol := range []string{"http/1.1", "h2"} {
		body, rest := io.Pipe()
		var sending sync.WaitGroup
		sending.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if _, err := io.WriteString(rest, "x"); err != nil {
					return
				}
			}
		})
		res, err := b.client(t, protocol).Do(b.request(t, "POST", "/page", "ada", body))
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		res.Body.Close()
		body.Close()
		sending.Wait()
		if res.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%s: got %d, want 408", protocol, res.StatusCode)
		}
	}
}

// The deadline of a body follows from what has come of it.
func TestLastByte(t *testing.T) {
	began := time.Now()
	for _, tt := range []struct {
		client time.Duration
		rate   units.Bytes
		got    int64
		after  time.Duration // 0: never
	}{
		{time.Minute, 1 << 10, 0, time.Minute},
		{time.Minute, 1 << 10, 59, time.Minute},
		{time.Minute, 1 << 10, 10 << 10, 70 * time.Second},
		{time.Minute, 1, math.MaxInt64, time.Minute + 1<<30*time.Second},
		{time.Minute, 0, 59, 0},
	} {
		until, bounded := lastByte(began, tt.got, route.Timeouts{Client: tt.client, UploadRate: tt.rate})
		if bounded != (tt.after > 0) || bounded && until.Sub(began) != tt.after {
			t.Errorf("%d bytes at %d a second: got %v %t, want %v", tt.got, tt.rate, until.Sub(began), bounded, tt.after)
		}
	}
}

// DOS-19: the form with which people sign out comes in time, whoever sends it.
func TestOwnFormsComeInTime(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	b.server.answering = time.Second
	for _, protocol := range []string{"http/1.1", "h2"} {
		body, rest := io.Pipe()
		go io.WriteString(rest, "scope=")
		r := b.request(t, "POST", signin.SignOutPath, "", body)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := b.client(t, protocol).Do(r)
		if err == nil {
			res.Body.Close()
		}
		rest.CloseWithError(io.ErrClosedPipe)
		eventually(t, "the request to be over", func() bool { return b.server.open.Load() == 0 })
	}
}

// Over HTTP/2 too a request without a body is one without: the app gets none, and the cache may answer it.
func TestRequestsWithoutBodyStayWithoutOne(t *testing.T) {
	var framed atomic.Int64
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 || r.TransferEncoding != nil {
			framed.Add(1)
		}
		w.Header().Set("Cache-Control", "max-age=600")
	})
	stored := cache.New(cache.NewMemory(1<<20), cache.Options{})
	t.Cleanup(stored.Close)
	b.server.cache = stored
	app := wiki(t, b.origin, "staff")
	app.Cache.Enabled = true
	next := snapshot(t, app)
	if err := next.Connect(nil, Behind{Cache: stored}); err != nil {
		t.Fatal(err)
	}
	b.server.Swap(next)
	for _, protocol := range []string{"http/1.1", "h2"} {
		for _, method := range []string{"GET", "GET", "POST", "DELETE"} {
			answerTo(t, b.client(t, protocol), b.request(t, method, "/"+protocol[:2], "ada", nil))
		}
	}
	answerTo(t, b.client(t, "h2"), b.request(t, "POST", "/empty", "ada", io.MultiReader()))
	if n := framed.Load(); n > 0 {
		t.Errorf("%d requests got a body on their way", n)
	}
	eventually(t, "all outcomes", func() bool { return len(b.log.of(audit.TypeOutcome)) == 9 })
	hits := 0
	for _, r := range b.log.of(audit.TypeOutcome) {
		if r.Outcome.Cache == string(cache.Hit) {
			hits++
		}
	}
	if hits != 2 {
		t.Errorf("%d answers came from the cache, want 2", hits)
	}
}

// A body that is malformed is the client's fault, also where it goes through to the app as it comes.
func TestMalformedBodyIsTheClients(t *testing.T) {
	for _, path := range []string{"/page", "/live"} {
		b := newBed(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
		app := wiki(t, b.origin, "staff")
		app.Streams.Paths = []string{"/live"}
		b.server.Swap(snapshot(t, app))
		client := b.dial(t)
		io.WriteString(client, "POST "+path+" HTTP/1.1\r\nHost: "+wikiHost+"\r\nTransfer-Encoding: chunked\r\nCookie: __Host-sallyport=ada\r\n\r\nno number\r\n")
		if got, _ := io.ReadAll(client); !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
			t.Errorf("%s: got %q", path, got)
		}
	}
}
