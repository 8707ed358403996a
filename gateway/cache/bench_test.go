package cache

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// benchApp answers at once with 1 KiB and the dozen fields of an ordinary answer.
func benchApp(control string) http.RoundTripper {
	body := strings.Repeat("x", 1<<10)
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		h := header("Cache-Control: "+control, "Content-Type: text/html; charset=utf-8", `Etag: "abc"`, "Date: Fri, 01 May 2026 12:00:00 GMT",
			"Last-Modified: Fri, 01 May 2026 10:00:00 GMT", "Content-Length: 1024", "X-Frame-Options: deny", "X-Content-Type-Options: nosniff",
			"Content-Security-Policy: default-src 'self'", "Referrer-Policy: no-referrer", "Vary: Accept-Encoding", "X-Request-Id: 1")
		return &http.Response{StatusCode: 200, Header: h, ContentLength: 1 << 10, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})
}

func benchmark(b *testing.B, control string, parallel bool) {
	c := New(NewMemory(64<<20), Options{})
	defer c.Close()
	leg := c.For(benchApp(control))
	v := Viewer{App: "wiki", URL: testURL, Person: "corp|ann", Rule: Rule{Enabled: true, Shared: true}, IdentityHeaders: isIdentity}
	h := header("Accept-Encoding: gzip, br", "Accept: text/html", "User-Agent: bench", "X-Sallyport-User: ann")
	visit := func(r *http.Request) {
		res, err := leg.RoundTrip(r)
		if err != nil {
			b.Error(err)
			return
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	request := func() *http.Request {
		mine := v
		r, _ := http.NewRequestWithContext(WithViewer(b.Context(), &mine), "GET", testURL, nil)
		r.Header = h
		return r
	}
	visit(request())
	b.ReportAllocs()
	b.SetBytes(1 << 10)
	if parallel {
		b.RunParallel(func(pb *testing.PB) {
			for r := request(); pb.Next(); {
				visit(r)
			}
		})
		return
	}
	for r := request(); b.Loop(); {
		visit(r)
	}
}

func BenchmarkHit(b *testing.B)         { benchmark(b, "public, max-age=31536000", false) }
func BenchmarkHitParallel(b *testing.B) { benchmark(b, "public, max-age=31536000", true) }
func BenchmarkMissStored(b *testing.B)  { benchmark(b, "public, max-age=0", false) }
func BenchmarkMiss(b *testing.B)        { benchmark(b, "no-store", false) }
