package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// request is a request with a body that can or cannot be had again.
func request(ctx context.Context, method, body string, again bool) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, "/x", nil)
	if err != nil {
		panic(err)
	}
	req.Host = "wiki.corp.example"
	if body != "" {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		if again {
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
		}
	}
	return req
}

// echoing answers with what it got.
func echoing(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Method", r.Method)
	io.Copy(w, r.Body)
}

// outcome sends a request and reads the answer.
func outcome(p *Pool, req *http.Request) (status int, body string, err error) {
	res, err := p.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	return res.StatusCode, string(all), err
}

// What an app may have seen is sent again exactly when the method is idempotent and the body is at hand.
func TestOnlySafeRequestsAreRepeated(t *testing.T) {
	for _, bad := range []struct {
		name string
		does http.HandlerFunc
	}{{"reset", resets}, {"503", answers(503)}, {"500", answers(500)}, {"hang", hangs}} {
		for _, row := range []struct {
			method, body string
			again, want  bool
		}{
			{"GET", "", false, true}, {"HEAD", "", false, true}, {"OPTIONS", "", false, true}, {"DELETE", "", false, true}, {"TRACE", "", false, true},
			{"PUT", "whole", true, true}, {"PUT", "whole", false, false},
			{"POST", "", false, false}, {"POST", "once", true, false}, {"POST", "once", false, false}, {"PATCH", "once", true, false}, {"PURGE", "", false, false},
		} {
			t.Run(bad.name+" "+row.method, func(t *testing.T) {
				t.Parallel()
				eachLeg(t, func(t *testing.T, lean bool) {
					first, second := newApp(t, bad.does), newApp(t, echoing)
					cfg := config(t, first.URL, second.URL)
					cfg.Lean, cfg.Timeouts.Response = lean, time.Second // which the second endpoint has, too
					p := poolOf(t, cfg)
					hint := &Hint{}
					status, body, err := outcome(p, request(WithHint(t.Context(), hint), row.method, row.body, row.again))
					if good := err == nil && status == 200; good != row.want {
						t.Fatalf("got %d, %v; want it hidden: %v", status, err, row.want)
					}
					if row.want && row.method != "HEAD" && body != row.body {
						t.Errorf("the second endpoint read %q, want %q", body, row.body)
					}
					want := int64(1)
					if row.want {
						want = 2
					}
					if got := first.hits.Load() + second.hits.Load(); got != want || hint.Attempts != int(want) {
						t.Errorf("the apps saw %d requests, the hint %d, want %d", got, hint.Attempts, want)
					}
				})
			})
		}
	}
}

// LB-02: net/http repeats any request whose client sent one of these fields, when a kept connection breaks. We do not.
func TestIdempotencyKeyDoesNotMakeAPostRepeatable(t *testing.T) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		var posts atomic.Int64
		var got sync.Map
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				posts.Add(1)
				got.Store(name, r.Header.Get(name))
				resets(w, r)
			}
		})
		p := poolOf(t, config(t, a.URL))
		mustGet(t, p, nil) // the POST finds a kept connection
		req := request(t.Context(), "POST", "", false)
		req.Header.Set(name, "k")
		if _, _, err := outcome(p, req); err == nil {
			t.Fatal("a broken connection gave an answer")
		}
		if posts.Load() != 1 {
			t.Errorf("with %s the app saw %d POSTs, want 1", name, posts.Load())
		}
		if value, _ := got.Load(name); value != "k" {
			t.Errorf("the app got %s %q, want the client's", name, value)
		}
		if req.Header.Get(name) != "k" {
			t.Error("the caller's header was changed")
		}
	}
}

func TestAppsOwnErrorIsGivenWhenNobodyDoesBetter(t *testing.T) {
	a, b := newApp(t, answers(503)), newApp(t, resets)
	p := poolOf(t, config(t, a.URL, b.URL))
	for range 4 {
		if status, err := get(t.Context(), p, nil); err != nil || status != 503 {
			t.Errorf("got %d, %v; want the app's 503", status, err)
		}
	}
}

// Trying again is for going elsewhere: an app with one address is sent a request once, unless it closed the connection
// for being unused.
func TestOnlyEndpointIsAskedOnce(t *testing.T) {
	a := newApp(t, resets)
	p := poolOf(t, config(t, a.URL))
	for n := range int64(4) {
		if status, err := get(t.Context(), p, nil); err == nil {
			t.Errorf("got status %d", status)
		}
		if hits := a.hits.Load(); hits != n+1 {
			t.Fatalf("%d requests reached the app %d times", n+1, hits)
		}
	}
}

func TestRetriesKeepTheirBudget(t *testing.T) {
	a, b := newApp(t, answers(503)), newApp(t, answers(503))
	cfg := config(t, a.URL, b.URL)
	cfg.Ejection.Failures = 0
	p := poolOf(t, cfg)
	for range 500 {
		if status, err := get(t.Context(), p, nil); err != nil || status != 503 {
			t.Fatal(status, err)
		}
	}
	repeated := a.hits.Load() + b.hits.Load() - 500
	if repeated < 100 || repeated > retryFloor+100 {
		t.Errorf("500 requests were repeated %d times, want 100 to %d", repeated, retryFloor+100)
	}
}

func TestTimeouts(t *testing.T) {
	isTimeout := func(err error) bool {
		timed, ok := errors.AsType[net.Error](err)
		return ok && timed.Timeout()
	}
	eachLeg(t, func(t *testing.T, lean bool) {
		hung, good := newApp(t, hangs), newApp(t, fine)
		alone, both := config(t, hung.URL), config(t, hung.URL, good.URL)
		alone.Lean, both.Lean = lean, lean
		alone.Timeouts.Response = 100 * time.Millisecond
		if _, err := get(t.Context(), poolOf(t, alone), nil); !isTimeout(err) {
			t.Errorf("response: got %v, want a timeout", err)
		}
		alone.Timeouts.Response, alone.Timeouts.Attempt = time.Minute, 100*time.Millisecond
		if _, err := get(t.Context(), poolOf(t, alone), nil); err != errAttemptTimeout {
			t.Errorf("attempt: got %v", err)
		}
		both.Timeouts.Attempt = time.Second // for the good one's answer, too
		if status, err := get(t.Context(), poolOf(t, both), nil); err != nil || status != 200 {
			t.Errorf("attempt: got %d, %v; want the other endpoint's answer", status, err)
		}
		both.Timeouts.Total = 50 * time.Millisecond
		if _, err := get(t.Context(), poolOf(t, both), nil); err != errTotalTimeout {
			t.Errorf("total: got %v, want no further try", err)
		}
		good.does(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			time.Sleep(1500 * time.Millisecond)
			io.WriteString(w, "late")
		})
		alone = config(t, good.URL)
		alone.Lean = lean
		alone.Timeouts.Attempt, alone.Timeouts.Total = time.Second, time.Second
		if _, body, err := outcome(poolOf(t, alone), request(t.Context(), "GET", "", false)); err != nil || body != "late" {
			t.Errorf("an answer that has begun may take its time: got %q, %v", body, err)
		}
	})
}

// What the client's end of a body fails with is told as it is, and not blamed on the app.
func TestBodiesThatFailAreNotTheAppsFault(t *testing.T) {
	a := newApp(t, echoing)
	p := poolOf(t, config(t, a.URL))
	tooLarge := &http.MaxBytesError{Limit: 5}
	req := request(t.Context(), "PUT", "x", false)
	req.ContentLength = -1
	req.Body = io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 64<<10)), failing{tooLarge}))
	_, _, err := outcome(p, req)
	if got, ok := errors.AsType[*http.MaxBytesError](err); !ok || got != tooLarge {
		t.Errorf("got %v, want the body's error", err)
	}
	if got := p.Endpoints()[0]; got.Failures != 0 || got.Outstanding != 0 {
		t.Errorf("got %+v, want no failure", got)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// closing counts how often a body is closed.
type closing struct {
	io.Reader
	closed atomic.Int64
}

func (c *closing) Close() error { c.closed.Add(1); return nil }

func TestBodiesAreClosedInAnyCase(t *testing.T) {
	good := newApp(t, echoing)
	drained := poolOf(t, config(t, good.URL))
	drained.Drain(good.URL, true)
	for name, p := range map[string]*Pool{"answer": poolOf(t, config(t, good.URL)), "no connection": poolOf(t, config(t, closedPort(t))),
		"second try": poolOf(t, config(t, closedPort(t), good.URL)), "no endpoint": drained} {
		body := &closing{Reader: bytes.NewReader([]byte("kept"))}
		req := request(t.Context(), "POST", "", false)
		req.Body, req.ContentLength = body, 4
		_, got, err := outcome(p, req)
		if err == nil && got != "kept" {
			t.Errorf("%s: the app read %q", name, got)
		}
		eventually(t, name+": the body is closed", func() bool { return body.closed.Load() > 0 })
	}
}

func TestLimitsMakeRequestsWaitTheirTurn(t *testing.T) {
	eachLeg(t, func(t *testing.T, lean bool) {
		var now, most atomic.Int64
		release := make(chan struct{})
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			<-release
		})
		cfg := config(t, a.URL)
		cfg.Lean = lean
		cfg.Limits = Limits{MaxConnections: 2, MaxPending: 3, PendingTimeout: time.Minute}
		p := poolOf(t, cfg)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if status, err := get(t.Context(), p, nil); err != nil || status != 200 {
					t.Errorf("got %d, %v", status, err)
				}
			})
		}
		eventually(t, "two are there and three wait", func() bool { e := p.Endpoints()[0]; return now.Load() == 2 && e.Pending == 3 })
		if _, err := get(t.Context(), p, nil); err != ErrOverloaded {
			t.Errorf("the sixth gets %v, want ErrOverloaded", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		close(release)
		all.Wait()
		if e := p.Endpoints()[0]; most.Load() != 2 || e.Outstanding != 0 || e.Pending != 0 || e.Failures != 0 {
			t.Errorf("at most %d at once, in the end %+v", most.Load(), e)
		}
		if _, err := get(ctx, p, nil); err != context.Canceled {
			t.Errorf("got %v", err)
		}
	})
}

func TestWaitingEndsWithPatienceOrClient(t *testing.T) {
	a := newApp(t, hangs)
	cfg := config(t, a.URL)
	cfg.Limits = Limits{MaxConnections: 1, MaxPending: 3, PendingTimeout: 50 * time.Millisecond}
	p := poolOf(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() { get(ctx, p, nil) })
	eventually(t, "the endpoint is busy", func() bool { return a.hits.Load() == 1 })
	if _, err := get(t.Context(), p, nil); err != ErrOverloaded {
		t.Errorf("got %v, want ErrOverloaded", err)
	}
	p.cfg.Limits.PendingTimeout = time.Minute
	left := errors.New("the client left")
	leaving, leave := context.WithCancelCause(t.Context())
	var second sync.WaitGroup
	second.Go(func() {
		if _, err := get(leaving, p, nil); err != left {
			t.Errorf("got %v, want %v", err, left)
		}
	})
	eventually(t, "it waits", func() bool { return p.Endpoints()[0].Pending == 1 })
	leave(left)
	second.Wait()
	cancel()
	first.Wait()
	if e := p.Endpoints()[0]; e.Pending != 0 || e.Outstanding != 0 {
		t.Errorf("in the end %+v", e)
	}
}

// The gate loses nobody and admits nobody twice.
func TestGateUnderPressure(t *testing.T) {
	var g gate
	g.setLimit(3)
	limits := Limits{MaxPending: 1000, PendingTimeout: time.Minute}
	var inside, most atomic.Int64
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%4 == 0 {
					go cancel()
				}
				if g.enter(ctx, &limits) == nil {
					if n := inside.Add(1); n > most.Load() {
						most.Store(n)
					}
					inside.Add(-1)
					g.leave()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most.Load() > 3 || g.active.Load() != 0 || g.pending.Load() != 0 || len(g.line) != 0 {
		t.Errorf("at most %d inside; in the end %d active, %d pending, %d in line", most.Load(), g.active.Load(), g.pending.Load(), len(g.line))
	}
}
