package upstream

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func follow(t *testing.T, cfg Config, previous *Pool) *Pool {
	t.Helper()
	p, err := New(cfg, previous)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestReloadKeepsWhatIsKnownAndTheConnections(t *testing.T) {
	eachLeg(t, func(t *testing.T, lean bool) {
		apps := three(t)
		apps[0].does(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
		cfg := config(t, apps[0].URL, apps[1].URL)
		cfg.Lean = lean
		first := poolOf(t, cfg)
		first.Drain(apps[1].URL, true)
		_, before, err := outcome(first, request(t.Context(), "GET", "", false))
		if err != nil {
			t.Fatal(err)
		}
		cfg = config(t, apps[2].URL, apps[1].URL, apps[0].URL)
		cfg.Lean, cfg.Balance.Method = lean, MethodLeastOutstanding
		second := follow(t, cfg, first)
		second.Start()
		first.Close()
		second.Drain(apps[2].URL, true)
		_, after, err := outcome(second, request(t.Context(), "GET", "", false))
		if err != nil || after != before {
			t.Errorf("the connection is from %s, %v; was from %s", after, err, before)
		}
		if got := endpointAt(t, second, apps[0].URL); got.Requests != 2 || got.ID != first.Endpoints()[0].ID {
			t.Errorf("got %+v, want two requests", got)
		}
		if got := endpointAt(t, second, apps[1].URL).State; got != Draining {
			t.Errorf("the drained endpoint is %s", got)
		}
	})
}

func TestReloadThatFailsChangesNothing(t *testing.T) {
	a := newApp(t, fine)
	p := poolOf(t, config(t, a.URL))
	cfg := config(t, a.URL)
	cfg.Limits.MaxConnections = 1
	discarded := follow(t, cfg, p)
	discarded.Close()
	if got := p.view.Load().all[0].gate.limit.Load(); got != 0 {
		t.Errorf("the limit is %d", got)
	}
	mustGet(t, p, nil)
	cfg.TLS.CA = "missing.pem"
	if _, err := New(cfg, p); err == nil {
		t.Error("a missing file was accepted")
	}
}

func TestRequestsOfARemovedEndpointFinish(t *testing.T) {
	eachLeg(t, func(t *testing.T, lean bool) {
		release := make(chan struct{})
		old := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-release
			io.WriteString(w, "whole")
		})
		successor := newApp(t, fine)
		cfg := config(t, old.URL)
		cfg.Lean = lean
		first := poolOf(t, cfg)
		res, err := first.RoundTrip(request(t.Context(), "GET", "", false))
		if err != nil {
			t.Fatal(err)
		}
		second := follow(t, config(t, successor.URL), first)
		second.Start()
		first.Close()
		if states := states(second); !slices.Equal(states, []State{Healthy, Leaving}) {
			t.Errorf("the states are %v", states)
		}
		for range 3 {
			mustGet(t, second, nil)
		}
		close(release)
		if all, err := io.ReadAll(res.Body); err != nil || string(all) != "whole" {
			t.Errorf("got %q, %v", all, err)
		}
		res.Body.Close()
		if states := states(second); !slices.Equal(states, []State{Healthy}) {
			t.Errorf("in the end the states are %v", states)
		}
		if old.hits.Load() != 1 {
			t.Errorf("the removed endpoint got %d requests", old.hits.Load())
		}
	})
}

func states(p *Pool) (all []State) {
	for _, e := range p.Endpoints() {
		all = append(all, e.State)
	}
	return all
}

// Connections nobody uses any more do not stay open.
func TestClosedPoolsKeepNoConnections(t *testing.T) {
	eachLeg(t, func(t *testing.T, lean bool) {
		var open atomic.Int64
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(fine), ConnState: func(_ net.Conn, to http.ConnState) {
			switch to {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
			}
		}}
		go s.Serve(listener)
		t.Cleanup(func() { s.Close() })
		cfg := config(t, "http://"+listener.Addr().String())
		cfg.Lean = lean
		p := poolOf(t, cfg)
		load(t.Context(), p, 4, 5)
		if open.Load() == 0 {
			t.Fatal("there was no connection")
		}
		res, err := p.RoundTrip(request(t.Context(), "GET", "", false))
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		eventually(t, "all connections are closed", func() bool { return open.Load() == 0 })
	})
}

func TestDefaultsAreThoseOfTheConfiguration(t *testing.T) {
	d := Defaults()
	for _, section := range []any{&d.Balance, &d.Health, &d.Ejection, &d.Limits, &d.Retry, &d.Timeouts} {
		compareDefaults(t, section)
		if c, ok := section.(interface{ Check() error }); ok && c.Check() != nil {
			t.Error(c.Check())
		}
	}
}

// compareDefaults compares a section's fields with their default tags.
func compareDefaults(t *testing.T, section any) {
	t.Helper()
	v := reflect.ValueOf(section).Elem()
	for i := range v.NumField() {
		name, tag := v.Type().Field(i).Name, v.Type().Field(i).Tag.Get("default")
		got := strings.ReplaceAll(strings.Trim(fmt.Sprint(v.Field(i)), "[]"), " ", ",")
		if strings.HasSuffix(got, "m0s") {
			got = fmt.Sprint(v.Field(i).Int()/1e9) + "s"
		}
		if got == "" || got == "0" || got == "0s" || got == "false" {
			got = ""
		}
		if got == "1m30s" {
			got = "90s"
		}
		if got != tag {
			t.Errorf("%T.%s is %q by Defaults and %q by its tag", section, name, got, tag)
		}
	}
}
