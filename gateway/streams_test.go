package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/canon"
	"sallyport/gateway/route"
)

// stream opens an endless answer on a bed and returns what it says from now on.
func (b *bed) stream(t *testing.T, handle string) *bufio.Reader {
	t.Helper()
	res, err := b.client(t, "http/1.1").Do(b.request(t, "GET", "/events", handle, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	lines := bufio.NewReader(res.Body)
	if line, err := lines.ReadString('\n'); line != "data: hello\n" || err != nil {
		t.Fatalf("the stream begins with %q, %v", line, err)
	}
	return lines
}

// events is an app whose answers never end by themselves.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, "data: hello\n")
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// run watches over a bed's streams until the test ends.
func (b *bed) run(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { b.server.Run(ctx) })
	t.Cleanup(func() { stop(); group.Wait() })
}

// ends waits for the end of a stream of events, which is one in proper form: browsers then ask again, and are told why not.
func ends(t *testing.T, stream *bufio.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(stream); err != nil || len(rest) > 0 {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
}

// A stream ends with its session, on its host or everywhere, and not with another's.
func TestStreamEndsWithItsSession(t *testing.T) {
	for reason, want := range map[string]string{session.Revoked: "session_revoked", session.SignedOut: "signed_out", session.Expired: "expired"} {
		b := newBed(t, events)
		stream := b.stream(t, "ada")
		b.server.SessionEnded(session.Ended{SessionID: "session of bob", Reason: reason})
		b.server.SessionEnded(session.Ended{SessionID: "session of ada", Host: "payroll.corp.test", Reason: reason})
		if open := len(b.server.streams.all()); open != 1 {
			t.Fatalf("%d streams are open, want 1", open)
		}
		b.server.SessionEnded(session.Ended{SessionID: "session of ada", Host: wikiHost, Reason: reason})
		ends(t, stream)
		if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != want {
			t.Errorf("%s: the outcome says %q, want %q", reason, got, want)
		}
	}
}

// A session that ended between the look-up and the moment from which its end finds the exchange is noticed.
func TestStreamOfASessionThatEndedMeanwhileNeverBegins(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	ada := b.sessions.known["ada"]
	looked := 0
	b.sessions.asked = func() {
		if looked++; looked == 2 {
			delete(b.sessions.known, "ada")
		}
	}
	if status, _ := b.get(t, "/events"); status != http.StatusUnauthorized {
		t.Errorf("got %d", status)
	}
	if r := b.log.one(t, audit.TypeOutcome); r.Reason != "session_revoked" || r.Session != ada.ID {
		t.Errorf("outcome: %+v", r)
	}
}

// A store that does not answer ends what it cannot vouch for, by its own name.
func TestStreamWithoutAStoreEndsHonestly(t *testing.T) {
	b := newBed(t, events)
	b.run(t)
	stream := b.stream(t, "ada")
	b.sessions.fail(session.ErrUnavailable)
	b.server.Swap(b.server.Snapshot())
	ends(t, stream)
	if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != "sessions_unavailable" {
		t.Errorf("the outcome says %q", got)
	}
}

// Re-decisions share the log's commits: many wait for it together, and none behind another.
func TestStreamsAreDecidedAgainSideBySide(t *testing.T) {
	const streams = 20
	b := newBed(t, events)
	b.run(t)
	for range streams {
		b.stream(t, "ada")
	}
	stuck := make(chan struct{})
	b.log.mu.Lock()
	b.log.stuck = stuck
	b.log.mu.Unlock()
	b.server.Swap(b.server.Snapshot())
	eventually(t, "all of them to wait for the log", func() bool {
		b.log.mu.Lock()
		defer b.log.mu.Unlock()
		return b.log.waiting == streams
	})
	close(stuck)
	eventually(t, "all of them to be on record", func() bool { return len(b.log.of(audit.TypeReevaluated)) == streams })
	if open := len(b.server.streams.all()); open != streams {
		t.Errorf("%d streams are open, want %d", open, streams)
	}
}

// A re-decision that the log refused is made again at the next tick, not half a minute later.
func TestStreamIsDecidedAgainUntilThatIsOnRecord(t *testing.T) {
	b := newBed(t, events)
	b.run(t)
	stream := b.stream(t, "ada")
	b.log.fail(errDisk)
	b.server.Swap(snapshot(t, wiki(t, "http://127.0.0.1:1", "finance")))
	eventually(t, "the re-decision to be refused", func() bool {
		list := b.server.streams.all()
		return len(list) == 1 && list[0].decided.Load() == 0
	})
	b.log.fail(nil)
	ends(t, stream)
	if r := b.log.one(t, audit.TypeReevaluated); r.Effect != audit.Deny {
		t.Errorf("decided again: %s", r.Effect)
	}
}

// What is open may outlive a failing log by ten seconds and no more; a log that recovers in between starts anew.
func TestStreamsEndWithALogThatStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		s := &Server{decisions: log, streams: newStreams(), now: time.Now}
		ctx, cancel := context.WithCancelCause(t.Context())
		s.streams.add(&exchange{server: s, ctx: ctx, cancel: cancel, req: &canon.Request{}})
		watching, stop := context.WithCancel(t.Context())
		go s.watchLog(watching)
		log.fail(errDisk)
		time.Sleep(9 * time.Second)
		log.fail(nil)
		time.Sleep(2 * time.Second)
		log.fail(errDisk)
		time.Sleep(9 * time.Second)
		if ctx.Err() != nil {
			t.Fatal("the stream ended before the grace period")
		}
		time.Sleep(3 * time.Second)
		if !errors.Is(context.Cause(ctx), ErrAuditUnavailable) {
			t.Errorf("the stream's cause is %v", context.Cause(ctx))
		}
		stop()
	})
}

// A gateway that stops ends streams at once, those included that begin at that moment, and waits for outcomes.
func TestStreamsEndWithTheGateway(t *testing.T) {
	b := newBed(t, events)
	stream := b.stream(t, "ada")
	b.server.EndStreams()
	ends(t, stream)
	if status, _ := b.get(t, "/events"); status != http.StatusServiceUnavailable {
		t.Errorf("a stream that begins then got %d", status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := b.server.EndAll(ctx); err != nil {
		t.Error(err)
	}
	for _, r := range b.log.of(audit.TypeOutcome) {
		if r.Outcome.Error != "shutdown" {
			t.Errorf("outcome %+v", r.Outcome)
		}
	}
	if n := len(b.log.of(audit.TypeOutcome)); n != 2 {
		t.Errorf("%d outcomes, want 2", n)
	}
}

// A part of an answer must not be taken for all of it: what is no stream of events breaks off.
func TestDownloadBreaksOffWithItsSession(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "data: hello\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		res, err := b.client(t, protocol).Do(b.request(t, "GET", "/report", "ada", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		lines := bufio.NewReader(res.Body)
		if line, err := lines.ReadString('\n'); line != "data: hello\n" || err != nil {
			t.Fatalf("%s: the answer begins with %q, %v", protocol, line, err)
		}
		b.server.SessionEnded(session.Ended{SessionID: "session of ada", Reason: session.Revoked})
		if rest, err := io.ReadAll(lines); err == nil {
			t.Errorf("%s: the answer ended well, with %q", protocol, rest)
		}
		if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != "session_revoked" {
			t.Errorf("%s: the outcome says %q", protocol, got)
		}
	}
}

// A client that takes nothing holds neither the app nor, for longer than the app's patience, the gateway.
func TestClientThatTakesNothingIsLeft(t *testing.T) {
	done := make(chan struct{})
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		w.Header().Set("Content-Length", strconv.Itoa(32<<20))
		io.CopyN(w, zeros{}, 32<<20)
	})
	app := wiki(t, b.origin, "staff")
	app.Timeouts.Client = 2 * time.Second
	b.server.Swap(snapshot(t, app))
	b.run(t)
	res, err := b.client(t, "http/1.1").Do(b.request(t, "GET", "/large", "ada", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	select {
	case <-done: // 32 MiB wait in the spool
	case <-time.After(2 * time.Minute):
		t.Fatal("the app is held by its client")
	}
	eventually(t, "the client to be left", func() bool { return len(b.server.streams.all()) == 0 })
	if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != "client_stalled" {
		t.Errorf("the outcome says %q", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Nothing stays open longer than the app allows, and nothing that stands still.
func TestStreamsHaveLimits(t *testing.T) {
	for want, limit := range map[string]route.Streams{"too_long": {Max: time.Second}, "idle": {Idle: time.Second}} {
		b := newBed(t, events)
		app := wiki(t, b.origin, "staff")
		app.Streams = limit
		b.server.Swap(snapshot(t, app))
		b.run(t)
		ends(t, b.stream(t, "ada"))
		if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != want {
			t.Errorf("%+v: the outcome says %q", limit, got)
		}
	}
}
