package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowApp answers when it is told to, and with what it is told.
type slowApp struct {
	b      *bed
	heads  chan []string      // the fields of the next answer
	bodies chan io.ReadCloser // its body
	length int64
}

func newSlowApp(b *bed) *slowApp {
	s := &slowApp{b: b, heads: make(chan []string), bodies: make(chan io.ReadCloser), length: -1}
	b.does(func(r *http.Request) (*http.Response, error) {
		select {
		case fields := <-s.heads:
			res := b.response(r, 200, "", fields...)
			delete(res.Header, "Content-Length")
			res.ContentLength, res.Body = s.length, cancelled(r.Context(), <-s.bodies)
			return res, nil
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	})
	return s
}

// cancelled is a body that fails when its request is cancelled, as those of net/http do.
func cancelled(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	if pipe, ok := body.(*io.PipeReader); ok {
		context.AfterFunc(ctx, func() { pipe.CloseWithError(context.Cause(ctx)) })
	}
	return body
}

// going starts a request and returns what will come of it.
func (b *bed) going(ctx context.Context, person string, fields ...string) <-chan answer {
	done := make(chan answer, 1)
	v := &Viewer{App: "wiki", URL: testURL, Person: person, Rule: b.rule, IdentityHeaders: isIdentity}
	r := b.request(v, "GET", fields...)
	r = r.WithContext(WithViewer(ctx, v))
	go func() {
		res, err := b.leg.RoundTrip(r)
		if err != nil {
			done <- answer{err: err, result: v.Result}
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		done <- answer{res, string(body), err, v.Result}
	}()
	return done
}

// waiting polls until so many requests wait for or read flights.
func (b *bed) waiting(n int) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%d users of flights", n), func() bool {
		b.cache.flightsMu.Lock()
		defer b.cache.flightsMu.Unlock()
		users := 0
		for f := range b.cache.live {
			users += f.users
		}
		return users == n
	})
}

func TestRequestsForTheSameShareOneFlight(t *testing.T) {
	b := newBed(t, Rule{Shared: true}, Options{})
	app := newSlowApp(b)
	var all []<-chan answer
	for i := range 20 {
		all = append(all, b.going(t.Context(), fmt.Sprint("person", i)))
	}
	b.waiting(20)
	app.heads <- []string{"Cache-Control: public, max-age=60"}
	r, w := io.Pipe()
	app.bodies <- r
	for range 100 {
		io.WriteString(w, strings.Repeat("x", 1000))
	}
	w.Close()
	hits := 0
	for _, done := range all {
		a := <-done
		if a.err != nil || len(a.body) != 100_000 {
			t.Errorf("%d bytes, %v", len(a.body), a.err)
		}
		if a.result == Hit && strings.Contains(a.Header.Get("Cache-Status"), "collapsed") {
			hits++
		}
	}
	if hits != 19 || b.asked() != 1 {
		t.Errorf("%d of 20 waited for one answer; the app was asked %d times", hits, b.asked())
	}
}

// A reader sees bytes as they arrive, not when all is there.
func TestFlightsStream(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	app := newSlowApp(b)
	v := &Viewer{App: "wiki", URL: testURL, Person: "ann", Rule: b.rule}
	go func() { app.heads <- []string{"Cache-Control: max-age=60"} }()
	r, w := io.Pipe()
	go func() { app.bodies <- r }()
	res, err := b.leg.RoundTrip(b.request(v, "GET"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"one", "two"} {
		io.WriteString(w, part)
		got := make([]byte, 3)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != part {
			t.Fatalf("%q, %v", got, err)
		}
	}
	w.Close()
	res.Body.Close()
}

// CACHE-19: whoever waited for an answer that turns out to be somebody's own sees nothing of it.
func TestWaitersNeverSeeWhatIsNotForThem(t *testing.T) {
	for name, fields := range map[string][]string{
		"private":     {"Cache-Control: private, max-age=60"},
		"max-age":     {"Cache-Control: max-age=60"},
		"no-store":    {"Cache-Control: public, no-store"},
		"Set-Cookie":  {"Cache-Control: public, max-age=60", "Set-Cookie: sid=ann"},
		"Vary":        {"Cache-Control: public, max-age=60", "Vary: X-Sallyport-User"},
		"Vary: Foo":   {"Cache-Control: public, max-age=60", "Vary: Foo"},
		"not fresh":   {"Cache-Control: public, max-age=0", `Etag: "a"`},
		"no validity": nil,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, Rule{Shared: true}, Options{})
			app := newSlowApp(b)
			ann := b.going(t.Context(), "ann", "Foo: ann")
			b.waiting(1)
			bob := b.going(t.Context(), "bob", "Foo: bob")
			b.waiting(2)
			app.heads <- fields
			app.bodies <- io.NopCloser(strings.NewReader("ann's"))
			if a := <-ann; a.body != "ann's" {
				t.Fatalf("ann got %v", a)
			}
			app.heads <- fields
			app.bodies <- io.NopCloser(strings.NewReader("bob's"))
			if a := <-bob; a.body != "bob's" || a.result != Miss {
				t.Errorf("bob got %v", a)
			}
		})
	}
}

// After an answer that was for one alone, requests do not queue for the next.
func TestRequestsDoNotWaitWhereWaitingWasInVain(t *testing.T) {
	b := newBed(t, Rule{Shared: true}, Options{})
	b.says(200, "ann's", "Cache-Control: max-age=0")
	b.as("ann", "GET")
	app := newSlowApp(b)
	ann, bob := b.going(t.Context(), "ann"), b.going(t.Context(), "bob")
	eventually(t, "both have reached the app", func() bool { return b.asked() == 3 })
	for range 2 {
		app.heads <- nil
		app.bodies <- http.NoBody
	}
	<-ann
	<-bob
}

func TestRequestsWithCredentialsShareNoFlight(t *testing.T) {
	b := newBed(t, Rule{Shared: true}, Options{})
	app := newSlowApp(b)
	ann, bob := b.going(t.Context(), "ann", "Cookie: a=b"), b.going(t.Context(), "bob", "Cookie: a=c")
	eventually(t, "both have reached the app", func() bool { return b.asked() == 2 })
	for range 2 {
		app.heads <- []string{"Cache-Control: public, max-age=60"}
		app.bodies <- http.NoBody
	}
	<-ann
	<-bob
}

func TestLeaderLeavesAndTheOthersGetTheirAnswer(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	app := newSlowApp(b)
	ctx, leave := context.WithCancelCause(t.Context())
	leader := b.going(ctx, "ann")
	b.waiting(1)
	waiter := b.going(t.Context(), "ann")
	b.waiting(2)
	gone := errors.New("revoked")
	leave(gone)
	if a := <-leader; !errors.Is(a.err, gone) {
		t.Errorf("the leader got %v", a)
	}
	app.heads <- []string{"Cache-Control: max-age=60"}
	app.bodies <- io.NopCloser(strings.NewReader("body"))
	if a := <-waiter; a.body != "body" || b.asked() != 1 {
		t.Errorf("the waiter got %v; asked %d", a, b.asked())
	}
}

func TestLeaderLeavesAlone(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	newSlowApp(b)
	ctx, leave := context.WithCancel(t.Context())
	leader := b.going(ctx, "ann")
	b.waiting(1)
	leave()
	if a := <-leader; !errors.Is(a.err, context.Canceled) {
		t.Errorf("%v", a)
	}
	eventually(t, "the request to the app is over", func() bool { return b.flying() == 0 })
}

func (b *bed) flying() int {
	b.cache.flightsMu.Lock()
	defer b.cache.flightsMu.Unlock()
	return len(b.cache.live) + len(b.cache.flights)
}

func TestWaiterLeaves(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	app := newSlowApp(b)
	leader := b.going(t.Context(), "ann")
	b.waiting(1)
	ctx, leave := context.WithCancel(t.Context())
	waiter := b.going(ctx, "ann")
	b.waiting(2)
	leave()
	if a := <-waiter; !errors.Is(a.err, context.Canceled) {
		t.Errorf("the waiter got %v", a)
	}
	app.heads <- []string{"Cache-Control: max-age=60"}
	app.bodies <- io.NopCloser(strings.NewReader("body"))
	if a := <-leader; a.body != "body" {
		t.Errorf("the leader got %v", a)
	}
}

// Nobody who stops reading keeps others from theirs, and revocation frees a reader that waits for bytes.
func TestSlowReaderStallsNobody(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	app := newSlowApp(b)
	ctx, revoke := context.WithCancelCause(t.Context())
	slow := b.readerAfter(ctx, app)
	fast := b.going(t.Context(), "ann")
	b.waiting(2)
	r, w := io.Pipe()
	app.bodies <- r
	body := strings.Repeat("x", 4<<20)
	io.WriteString(w, body)
	revoked := errors.New("revoked")
	got := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, (<-slow).Body)
		got <- err
	}()
	revoke(revoked)
	if err := <-got; !errors.Is(err, revoked) {
		t.Errorf("the slow reader got %v", err)
	}
	w.Close()
	if a := <-fast; a.body != body {
		t.Errorf("the fast reader got %d bytes, %v", len(a.body), a.err)
	}
}

// readerAfter starts a leader whose answer's head has come, and returns the answer with its body unread.
func (b *bed) readerAfter(ctx context.Context, app *slowApp) <-chan *http.Response {
	v := &Viewer{App: "wiki", URL: testURL, Person: "ann", Rule: b.rule}
	got := make(chan *http.Response, 1)
	go func() {
		res, err := b.leg.RoundTrip(b.request(v, "GET").WithContext(WithViewer(ctx, v)))
		if err != nil {
			b.t.Error(err)
		}
		got <- res
	}()
	b.waiting(1)
	app.heads <- []string{"Cache-Control: max-age=60"}
	return got
}

// What turns out to be too large is passed on whole to everyone who is reading, at a bounded distance, and not stored.
func TestTooLargeIsPassedOnAndNotStored(t *testing.T) {
	b := newBed(t, Rule{}, Options{MaxEntry: 64 << 10})
	app := newSlowApp(b)
	first, second := b.going(t.Context(), "ann"), b.going(t.Context(), "ann")
	b.waiting(2)
	app.heads <- []string{"Cache-Control: max-age=60"}
	r, w := io.Pipe()
	app.bodies <- r
	body := bytes.Repeat([]byte("0123456789"), 1<<19)
	go func() {
		w.Write(body[:10])
		// Both read before it turns out.
		b.waiting(2)
		w.Write(body[10:])
		w.Close()
	}()
	for _, done := range []<-chan answer{first, second} {
		select {
		case a := <-done:
			if a.err != nil || a.body != string(body) {
				t.Errorf("%d bytes, %v", len(a.body), a.err)
			}
		case app.heads <- nil: // it came too late to read along, and asked for itself
			app.bodies <- io.NopCloser(bytes.NewReader(body))
			if a := <-done; a.body != string(body) {
				t.Errorf("%d bytes, %v", len(a.body), a.err)
			}
		}
	}
	if s := b.cache.Stats().Apps["wiki"]; s.Entries != 0 || b.cache.filling.Load() != 0 {
		t.Errorf("held %+v, filling %d", s, b.cache.filling.Load())
	}
}

func TestKnownToBeTooLargeIsNotHeld(t *testing.T) {
	b := newBed(t, Rule{}, Options{MaxEntry: 10})
	b.says(200, "eleven byte", "Cache-Control: max-age=60")
	for range 2 {
		if a := b.get(); a.result != Miss || a.body != "eleven byte" || strings.Contains(a.Header.Get("Cache-Status"), "stored") {
			t.Errorf("%v", a)
		}
	}
	b.says(200, "ten  bytes", "Cache-Control: max-age=60")
	b.get()
	if a := b.get(); a.result != Hit {
		t.Errorf("as large as may be: %v", a)
	}
}

// An answer that finds the memory for arriving ones used up passes through.
func TestArrivingAnswersAreBounded(t *testing.T) {
	b := newBed(t, Rule{}, Options{Filling: 1000})
	b.says(200, strings.Repeat("x", 2000), "Cache-Control: max-age=60")
	for range 2 {
		if a := b.get(); a.result != Miss || len(a.body) != 2000 || a.err != nil {
			t.Errorf("%v", a.err)
		}
	}
	b.says(200, strings.Repeat("x", 500), "Cache-Control: max-age=60")
	b.get()
	if a := b.get(); a.result != Hit || b.cache.filling.Load() != 0 {
		t.Errorf("%s, filling %d", a.result, b.cache.filling.Load())
	}
}

// What nobody waits for any more is still stored if it comes soon.
func TestAnswerIsStoredAfterItsReaderLeft(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	app := newSlowApp(b)
	got := b.readerAfter(t.Context(), app)
	r, w := io.Pipe()
	app.bodies <- r
	(<-got).Body.Close()
	b.waiting(0)
	io.WriteString(w, "body")
	w.Close()
	eventually(t, "it is stored", func() bool { return b.flying() == 0 })
	if a := b.get(); a.result != Hit || a.body != "body" {
		t.Errorf("%v", a)
	}
}

// A person who changed something does not get an answer that was asked for before.
func TestRequestAfterAChangeJoinsNoOlderFlight(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	app := newSlowApp(b)
	before := b.going(t.Context(), "ann")
	b.waiting(1)
	b.cache.appOf("wiki").invalidate(testURL) // as a POST would
	after := b.going(t.Context(), "ann")
	eventually(t, "the app is asked again", func() bool { return b.asked() == 2 })
	for range 2 {
		app.heads <- []string{"Cache-Control: max-age=60"}
		app.bodies <- io.NopCloser(strings.NewReader("body"))
	}
	<-before
	<-after
	eventually(t, "nothing is on its way", func() bool { return b.flying() == 0 })
	if a := b.cache.Stats().Apps["wiki"]; a.Stored != 1 {
		t.Errorf("%d answers were stored, one was overtaken", a.Stored)
	}
}

func TestClosingEndsFlights(t *testing.T) {
	b := newBed(t, Rule{}, Options{})
	newSlowApp(b)
	waiting := b.going(t.Context(), "ann")
	b.waiting(1)
	b.cache.Close()
	if a := <-waiting; !errors.Is(a.err, errShutdown) {
		t.Errorf("%v", a)
	}
	b.says(200, "body", "Cache-Control: max-age=60")
	if a := b.get(); a.body != "body" || a.result != Bypass {
		t.Errorf("afterwards: %v", a)
	}
}

// Refreshes run within their bound, and outlive the request that started them.
func TestRefreshOutlivesItsRequest(t *testing.T) {
	b := newBed(t, Rule{}, Options{Refreshes: 1})
	b.says(200, "one", "Cache-Control: max-age=10, stale-while-revalidate=60")
	b.get()
	b.as("bob", "GET")
	b.wait(time.Minute)
	app := newSlowApp(b)
	ctx, leave := context.WithCancel(t.Context())
	if a := <-b.going(ctx, "ann"); a.result != Stale {
		t.Fatalf("%v", a)
	}
	leave()
	if a := <-b.going(t.Context(), "bob"); a.result != Stale {
		t.Fatalf("%v", a)
	}
	eventually(t, "ann's refresh reached the app", func() bool { return b.asked() == 3 })
	app.heads <- []string{"Cache-Control: max-age=10, stale-while-revalidate=60"}
	app.bodies <- io.NopCloser(strings.NewReader("two"))
	eventually(t, "it is stored for ann", func() bool { return b.get().body == "two" })
	if b.asked() != 3 {
		t.Errorf("bob's refresh ran beyond the bound: asked %d", b.asked())
	}
}

func TestManyPeopleAtOnce(t *testing.T) {
	b := newBed(t, Rule{Shared: true}, Options{})
	b.does(func(r *http.Request) (*http.Response, error) {
		kind := "max-age=60"
		if strings.Contains(r.URL.Path, "shared") {
			kind = "public, max-age=60"
		}
		return b.response(r, 200, r.Header.Get("X-Who")+r.URL.Path, "Cache-Control: "+kind), nil
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			who := fmt.Sprint("p", i%4)
			for j := range 300 {
				path := fmt.Sprintf("/%d", j%7)
				if j%2 == 0 {
					path = "/shared" + path
				}
				v := &Viewer{App: "wiki", URL: "https://wiki.corp.example" + path, Person: who, Rule: b.rule}
				a := b.send(v, "GET", "X-Who: "+who)
				if a.err != nil || !strings.HasSuffix(a.body, path) || !strings.Contains(path, "shared") && !strings.HasPrefix(a.body, who) {
					t.Errorf("%s asked for %s and got %v", who, path, a)
				}
				if j%50 == 0 {
					b.cache.Purge(Pattern{Prefix: "https://wiki.corp.example/shared/"})
				}
			}
		})
	}
	wg.Wait()
}
