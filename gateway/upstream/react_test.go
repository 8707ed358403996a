package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

var methods = []Method{MethodPeakEWMA, MethodRoundRobin, MethodLeastOutstanding}

// Equal endpoints get about equal shares, real connections and their noise included.
func TestEqualEndpointsShareTheLoad(t *testing.T) {
	for _, method := range methods {
		apps := three(t)
		cfg := config(t, urls(apps)...)
		cfg.Balance.Method = method
		p := poolOf(t, cfg)
		if failed := load(t.Context(), p, 8, 75); failed > 0 {
			t.Errorf("%s: %d requests failed", method, failed)
		}
		for _, e := range p.Endpoints() {
			if e.Requests < 60 || method == MethodRoundRobin && e.Requests != 200 {
				t.Errorf("%s: an endpoint got %d of 600 requests", method, e.Requests)
			}
		}
	}
}

// A slow upload is the client's doing: it says nothing about the endpoint.
func TestSlowUploadsAreNotTheEndpointsSilence(t *testing.T) {
	a := newApp(t, echoing)
	p := poolOf(t, config(t, a.URL))
	var all sync.WaitGroup
	var ends []*io.PipeWriter
	for range 2 * stallCount {
		r, w := io.Pipe()
		ends = append(ends, w)
		req := request(t.Context(), "POST", "", false)
		req.Body, req.ContentLength = r, 4
		all.Go(func() {
			if status, body, err := outcome(p, req); err != nil || status != 200 || body != "slow" {
				t.Errorf("got %d %q, %v", status, body, err)
			}
		})
	}
	eventually(t, "all uploads have begun", func() bool { return p.Endpoints()[0].Outstanding == 2*stallCount })
	if e := p.at(0); e.silence(p.clock.nanos()+int64(time.Hour)) != 0 || e.stalled(p.clock.nanos()+int64(time.Hour)) {
		t.Error("the endpoint counts as silent")
	}
	for _, w := range ends {
		io.WriteString(w, "slow")
		w.Close()
	}
	all.Wait()
	if got := p.Endpoints()[0].Latency; got != 0 {
		t.Errorf("the uploads count as a latency of %v", got)
	}
}

// An endpoint that turns bad is left within 20 requests, and nobody who can be spared sees it.
func TestBadEndpointIsLeft(t *testing.T) {
	for name, turn := range map[string]func(a *app){
		"refuses":     func(a *app) { a.Listener.Close(); a.CloseClientConnections() },
		"resets":      func(a *app) { a.does(resets) },
		"answers 500": func(a *app) { a.does(answers(500)) },
		"answers 503": func(a *app) { a.does(answers(503)) },
	} {
		for _, method := range methods {
			t.Run(fmt.Sprint(name, " ", method), func(t *testing.T) {
				eachLeg(t, func(t *testing.T, lean bool) {
					apps := three(t)
					cfg := config(t, urls(apps)...)
					cfg.Balance.Method, cfg.Lean = method, lean
					cfg.Ejection.Time = time.Minute
					cfg.Ejection.MaxTime = time.Minute
					p := poolOf(t, cfg)
					if failed := load(t.Context(), p, 4, 25); failed > 0 {
						t.Fatalf("%d requests failed while all was well", failed)
					}
					turn(apps[0])
					before := endpointAt(t, p, apps[0].URL).Requests
					if failed := load(t.Context(), p, 8, 25); failed > 0 {
						t.Errorf("%d of 200 requests failed that could have been sent elsewhere", failed)
					}
					if asked := endpointAt(t, p, apps[0].URL).Requests - before; asked > 20 {
						t.Errorf("the bad endpoint was asked %d times", asked)
					}
				})
			})
		}
	}
}

func TestSlowEndpointIsLeft(t *testing.T) {
	apps := three(t)
	cfg := config(t, urls(apps)...)
	cfg.Balance.Method = MethodPeakEWMA
	p := poolOf(t, cfg)
	load(t.Context(), p, 4, 25)
	apps[0].does(slow(400 * time.Millisecond))
	before := endpointAt(t, p, apps[0].URL).Requests
	if failed := load(t.Context(), p, 8, 100); failed > 0 {
		t.Errorf("%d requests failed", failed)
	}
	if asked := endpointAt(t, p, apps[0].URL).Requests - before; asked > 20 {
		t.Errorf("the slow endpoint was asked %d times", asked)
	}
}

// An endpoint that accepts and never answers has nothing to be measured by, and with timeouts.attempt unset nothing fails
// for long.
func TestHungEndpointIsLeft(t *testing.T) {
	for _, method := range methods {
		t.Run(string(method), func(t *testing.T) {
			apps := three(t)
			cfg := config(t, urls(apps)...)
			cfg.Balance.Method = method
			cfg.Timeouts.Response = 2 * time.Second // for the others, too
			p := poolOf(t, cfg)
			load(t.Context(), p, 4, 25)
			apps[0].does(hangs)
			before := endpointAt(t, p, apps[0].URL).Requests
			if failed := load(t.Context(), p, 12, 100); failed > 0 {
				t.Errorf("%d GETs failed that could have been sent elsewhere", failed)
			}
			if asked := endpointAt(t, p, apps[0].URL).Requests - before; asked > 20 {
				t.Errorf("the hung endpoint was asked %d times", asked)
			}
		})
	}
}

// Killing one of three endpoints under load fails no idempotent request.
func TestKillingOneOfThreeUnderLoadFailsNothing(t *testing.T) {
	eachLeg(t, func(t *testing.T, lean bool) {
		apps := three(t)
		cfg := config(t, urls(apps)...)
		cfg.Balance.Method, cfg.Lean = MethodPeakEWMA, lean
		p := poolOf(t, cfg)
		var killing sync.WaitGroup
		killing.Go(func() {
			for apps[0].hits.Load()+apps[1].hits.Load()+apps[2].hits.Load() < 600 {
				time.Sleep(time.Millisecond)
			}
			apps[0].Listener.Close()
			apps[0].CloseClientConnections()
		})
		if failed := load(t.Context(), p, 32, 50); failed > 0 {
			t.Errorf("%d of 1600 requests failed", failed)
		}
		killing.Wait()
		if got := endpointAt(t, p, apps[0].URL); got.State != Ejected || got.LastError == "" {
			t.Errorf("the killed endpoint is %s, last error %q", got.State, got.LastError)
		}
	})
}

func TestEjectedEndpointIsProbedAndComesBack(t *testing.T) {
	clock := &fakeTime{}
	apps := three(t)
	cfg := config(t, urls(apps)...)
	cfg.Now, cfg.Balance.SlowStart = clock.now, 10*time.Second
	p := poolOf(t, cfg)
	apps[0].does(answers(503))
	for range 30 {
		mustGet(t, p, nil)
	}
	if got := endpointAt(t, p, apps[0].URL); got.State != Ejected || got.Requests != 5 {
		t.Fatalf("after 5 failures it is %s with %d requests", got.State, got.Requests)
	}
	clock.advance(cfg.Ejection.Time)
	if got := endpointAt(t, p, apps[0].URL).State; got != HalfOpen {
		t.Fatalf("when the time is over it is %s", got)
	}
	for range 6 {
		mustGet(t, p, nil)
	}
	if got := endpointAt(t, p, apps[0].URL); got.State != Ejected || got.Requests != 6 {
		t.Fatalf("after a failed probe it is %s with %d requests, want one more", got.State, got.Requests)
	}
	clock.advance(cfg.Ejection.Time)
	if got := endpointAt(t, p, apps[0].URL).State; got != Ejected {
		t.Fatalf("the second time out is not longer: %s", got)
	}
	apps[0].does(fine)
	clock.advance(cfg.Ejection.Time)
	for range 6 {
		mustGet(t, p, nil)
	}
	if got := endpointAt(t, p, apps[0].URL).State; got != SlowStart {
		t.Fatalf("after a successful probe it is %s", got)
	}
	clock.advance(10 * time.Second)
	if got := endpointAt(t, p, apps[0].URL).State; got != Healthy {
		t.Fatalf("in the end it is %s", got)
	}
}

// A POST cannot be repeated, so it is not what an ejected endpoint is probed with while there are others.
func TestProbesAreRequestsThatCanBeRepeated(t *testing.T) {
	clock := &fakeTime{}
	p := paper(t, MethodRoundRobin, clock.now, 1, 1)
	rules := p.cfg.Ejection
	p.at(0).breaker.open(p.clock.nanos(), &rules)
	clock.advance(rules.Time)
	post := func() *endpoint {
		x := exchange{pool: p, view: p.view.Load(), ctx: context.Background(), now: p.clock.nanos()}
		return x.choose(lastResort)
	}
	for range 10 {
		if post() == p.at(0) {
			t.Fatal("a POST is the probe")
		}
	}
	clock.advance(rules.Time)
	if !slices.Contains([]*endpoint{post(), post()}, p.at(0)) {
		t.Error("with nobody else to probe it for long, POSTs do not either")
	}
}

func TestEjectionsKeepTheirShare(t *testing.T) {
	for endpoints, want := range map[int]int{1: 0, 2: 1, 3: 1, 4: 2, 7: 3} {
		var apps []string
		for range endpoints {
			apps = append(apps, newApp(t, answers(503)).URL)
		}
		p := poolOf(t, config(t, apps...))
		for range 30 * endpoints {
			if status, err := get(t.Context(), p, nil); err != nil || status != 503 {
				t.Fatalf("with %d endpoints got %d, %v; want the app's own 503", endpoints, status, err)
			}
		}
		out := 0
		for _, e := range p.Endpoints() {
			if e.State == Ejected {
				out++
			}
		}
		if out != want {
			t.Errorf("%d of %d failing endpoints are ejected, want %d", out, endpoints, want)
		}
	}
}

func TestShareOfFailuresEjects(t *testing.T) {
	apps := []*app{newApp(t, fine), newApp(t, fine)}
	cfg := config(t, urls(apps)...)
	p := poolOf(t, cfg)
	n := 0
	half := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n%2 == 0 {
			w.WriteHeader(502)
		}
	})
	apps[0].does(half)
	for range 60 {
		mustGet(t, p, nil)
	}
	if got := endpointAt(t, p, apps[0].URL).State; got != Ejected {
		t.Errorf("an endpoint that fails every other request is %s", got)
	}
}

// When the client leaves, or does not read to the end, that is nobody's failure.
func TestClientsWhoLeaveAreNoFailures(t *testing.T) {
	eachLeg(t, func(t *testing.T, lean bool) {
		a := newApp(t, hangs)
		cfg := config(t, a.URL)
		cfg.Lean = lean
		p := poolOf(t, cfg)
		for range 10 {
			ctx, cancel := context.WithCancelCause(t.Context())
			left := fmt.Errorf("the client left")
			done := make(chan error, 1)
			hits := a.hits.Load()
			go func() { _, err := get(ctx, p, nil); done <- err }()
			eventually(t, "the app is asked", func() bool { return a.hits.Load() > hits })
			cancel(left)
			if err := <-done; err != left {
				t.Errorf("got %v, want the context's cause", err)
			}
		}
		a.does(func(w http.ResponseWriter, r *http.Request) {
			chunk := make([]byte, 1<<20)
			for range 16 {
				w.Write(chunk)
			}
		})
		for range 10 {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "/x", nil)
			req.Host = "wiki.corp.example"
			res, err := p.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Read(make([]byte, 10))
			res.Body.Close()
		}
		if got := p.Endpoints()[0]; got.Failures != 0 || got.Outstanding != 0 || got.State != Healthy {
			t.Errorf("got %+v, want no failures and nothing under way", got)
		}
	})
}

func TestAnswersThatBreakOffAreFailures(t *testing.T) {
	eachLeg(t, func(t *testing.T, lean bool) {
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("half"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		cfg := config(t, a.URL)
		cfg.Lean = lean
		p := poolOf(t, cfg)
		if _, err := get(t.Context(), p, nil); err == nil {
			t.Fatal("half an answer passes for a whole one")
		}
		if got := p.Endpoints()[0]; got.Failures != 1 || got.Outstanding != 0 {
			t.Errorf("got %+v, want one failure", got)
		}
	})
}

func TestHealthChecksTakeEndpointsOutAndBack(t *testing.T) {
	type seen struct{ agent, host, path, cookies string }
	var mu sync.Mutex
	var checks []seen
	well := true
	health := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		checks = append(checks, seen{r.UserAgent(), r.Host, r.RequestURI, r.Header.Get("Cookie") + r.Header.Get("X-Sallyport-User")})
		if !well {
			w.WriteHeader(404)
		}
	}
	apps := []*app{newApp(t, health), newApp(t, fine)}
	cfg := config(t, urls(apps)...)
	cfg.Health = Health{Path: "/healthz?deep=1", Interval: 20 * time.Millisecond, Timeout: 2 * time.Second, Rise: 2, Fall: 3, Host: "check.example"}
	p := poolOf(t, cfg)
	p.Start()
	state := func() State { return endpointAt(t, p, apps[0].URL).State }
	set := func(to bool) { mu.Lock(); defer mu.Unlock(); well = to; checks = nil }
	eventually(t, "checks run", func() bool { mu.Lock(); defer mu.Unlock(); return len(checks) > 2 })
	set(false)
	eventually(t, "it is unhealthy", func() bool { return state() == Unhealthy })
	mu.Lock()
	if len(checks) < 3 || checks[0] != (seen{"sallyport-health", "check.example", "/healthz?deep=1", ""}) {
		t.Errorf("checks were %+v", checks)
	}
	mu.Unlock()
	for range 20 {
		mustGet(t, p, nil)
	}
	set(true)
	eventually(t, "it is healthy", func() bool { return state() == Healthy })
}

// With all found down there is nobody to ask, and that is known at once.
func TestAllDownIsKnownAtOnce(t *testing.T) {
	a := newApp(t, answers(500))
	cfg := config(t, a.URL)
	cfg.Health = Health{Path: "/", Interval: 20 * time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3, Status: []int{200}}
	p := poolOf(t, cfg)
	p.Start()
	eventually(t, "it is unhealthy", func() bool { return p.Endpoints()[0].State == Unhealthy })
	if _, err := get(t.Context(), p, nil); err != ErrNoEndpoint {
		t.Errorf("got %v, want ErrNoEndpoint", err)
	}
}

func TestTCPHealthChecks(t *testing.T) {
	a := newApp(t, fine)
	cfg := config(t, a.URL)
	cfg.Health = Health{Type: HealthTCP, Interval: 20 * time.Millisecond, Timeout: time.Second, Rise: 1, Fall: 2}
	p := poolOf(t, cfg)
	p.Start()
	a.Listener.Close()
	eventually(t, "it is unhealthy", func() bool { return p.Endpoints()[0].State == Unhealthy })
	if got := p.Endpoints()[0].LastError; got != "health_connect" {
		t.Errorf("the last error is %q", got)
	}
	if got := a.hits.Load(); got != 0 {
		t.Errorf("the app got %d requests", got)
	}
}
