package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// canned answers at once: what is measured is the pool.
type canned struct{ res *http.Response }

func (c canned) RoundTrip(*http.Request) (*http.Response, error) {
	res := *c.res
	return &res, nil
}

// BenchmarkOverhead is a request through a pool of three whose connections cost nothing, and what that costs without a pool.
func BenchmarkOverhead(b *testing.B) {
	answer := canned{&http.Response{StatusCode: 200, Body: http.NoBody}}
	send := func(b *testing.B, via http.RoundTripper, req *http.Request) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				res, err := via.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				res.Body.Close()
			}
		})
	}
	b.Run("without", func(b *testing.B) {
		t := new(http.Transport)
		t.RegisterProtocol("canned", answer)
		req := request(b.Context(), "GET", "", false)
		req.URL.Scheme, req.URL.Host = "canned", "app"
		send(b, t, req)
	})
	for _, method := range []Method{MethodPeakEWMA, MethodRoundRobin, MethodLeastOutstanding, MethodHash} {
		b.Run(string(method), func(b *testing.B) {
			p := paper(b, method, nil, 1, 1, 1)
			for _, e := range p.view.Load().all {
				e.legs.scheme = "canned"
				e.legs.http1.RegisterProtocol("canned", answer)
			}
			send(b, p, request(WithHint(b.Context(), &Hint{Key: "k"}), "GET", "", false))
		})
	}
}

// BenchmarkRequest is a request to a real app and its answer.
func BenchmarkRequest(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(fine))
	defer s.Close()
	at, err := url.Parse(s.URL)
	if err != nil {
		b.Fatal(err)
	}
	bare := request(b.Context(), "GET", "", false)
	bare.URL.Scheme, bare.URL.Host = "http", at.Host
	exchange := func(b *testing.B, via http.RoundTripper, req *http.Request) {
		b.ReportAllocs()
		for b.Loop() {
			res, err := via.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	for name, lean := range map[string]bool{"nethttp": false, "lean": true} {
		cfg := Defaults(Address{URL: URL{*at}, Weight: 1})
		cfg.Lean = lean
		p, err := New(cfg, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer p.Close()
		legs := p.view.Load().all[0].legs
		var without http.RoundTripper = legs.http1
		if lean {
			without = legs.lean
		}
		b.Run(name+"/without", func(b *testing.B) { exchange(b, without, bare) })
		b.Run(name+"/pool", func(b *testing.B) { exchange(b, p, request(b.Context(), "GET", "", false)) })
	}
}
