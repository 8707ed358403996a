package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/gateway/shadow"
	"sallyport/policy"
	"sallyport/policy/review"
)

// try has the bed's decisions compared with a policy that lets other groups in, until the test ends.
func (b *bed) try(t testing.TB, groups ...string) *shadow.Trial {
	t.Helper()
	trial := shadow.New(shadow.Config{
		Candidate: snapshot(t, wiki(t, b.origin, groups...)).Policy,
		Active:    func() *policy.Engine { return b.server.Snapshot().Policy },
		Record:    func(context.Context, string, any) error { return nil },
		Log:       slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { trial.Run(ctx) })
	t.Cleanup(func() { b.server.Try(nil); stop(); run.Wait() })
	b.server.Try(trial)
	return trial
}

// Every recorded decision is compared, allowed or denied, of whomever, and nobody's answer changes. Under the race detector
// this holds the inputs to what a trial needs: nobody touches them once they are decided.
func TestTrialHearsOfEveryDecision(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	b.sessions.put("gil", "guests")
	trial := b.try(t, "staff", "guests")
	const rounds = 8
	var clients sync.WaitGroup
	for _, handle := range []string{"ada", "gil", ""} {
		clients.Go(func() {
			client := b.client(t, "h2")
			for range rounds {
				for _, body := range []string{"", "text"} {
					method := "GET"
					if body != "" {
						method = "POST"
					}
					res, err := client.Do(b.request(t, method, "/page?v=1", handle, strings.NewReader(body)))
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
					if allowed := res.StatusCode == http.StatusOK; allowed != (handle == "ada") {
						t.Errorf("%q gets %d", handle, res.StatusCode)
					}
				}
			}
		})
	}
	clients.Wait()
	eventually(t, "the comparison", func() bool { return trial.Report().Compared == 3*2*rounds })
	r := trial.Report()
	if r.Changes[review.Gained] != 2*rounds || r.Dropped != 0 || len(r.Differences) != 1 {
		t.Errorf("got %+v, want what gil would gain", r)
	}
	if got := len(b.log.of(audit.TypeDecision)); got != 3*2*rounds {
		t.Errorf("%d decisions are on record", got)
	}
}

// Without a trial, and after one, nothing is offered.
func TestTrialEnds(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	trial := b.try(t, "staff")
	b.server.Try(nil)
	b.get(t, "/")
	if r := trial.Report(); r.Compared != 0 || r.Dropped != 0 {
		t.Errorf("got %+v", r)
	}
}

// forgetful acknowledges records and keeps nothing but their input in writing, as a log would.
type forgetful struct {
	memoryLog
	size atomic.Int64
}

func (l *forgetful) Append(_ context.Context, r *audit.Record) (audit.Receipt, error) {
	if r.Document != nil {
		l.size.Add(int64(len(r.Document.AppendJSON(nil))))
	}
	return audit.Receipt{ID: "record"}, nil
}

func (l *forgetful) Post(ctx context.Context, r *audit.Record) error {
	_, err := l.Append(ctx, r)
	return err
}

// loopback is a connection that nothing is read from.
type loopback struct{ net.Conn }

func (loopback) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }

// BenchmarkTrial asks for a page with and without a candidate beside the policy in force, in turns of the same run, and
// tells what the trial adds to the processor time of the whole process, its own work included: overhead-% is of a
// gateway without TLS, client or durable log, and so more than that of a real one; extra-ns is a request's share.
func BenchmarkTrial(b *testing.B) {
	bed := newBed(b, func(http.ResponseWriter, *http.Request) {})
	bed.server.decisions = &forgetful{}
	ctx := bed.server.connections.context(b.Context(), loopback{})
	ask := func() {
		r := bed.request(b, "GET", "/page", "ada", nil).WithContext(ctx)
		r.RequestURI, r.RemoteAddr, r.TLS = "/page", "127.0.0.1:40000", &tls.ConnectionState{ServerName: wikiHost}
		w := httptest.NewRecorder()
		if bed.server.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Fatalf("got %d: %s", w.Code, w.Body)
		}
	}
	trial := bed.try(b, "staff")
	for range 1000 {
		ask()
	}
	const turn = 1000
	var alone, tried time.Duration
	var requests int64
	for b.Loop() {
		bed.server.Try(nil)
		alone += processorTime(b, func() {
			for range turn {
				ask()
			}
		})
		bed.server.Try(trial)
		tried += processorTime(b, func() {
			for range turn {
				ask()
			}
		})
		requests += turn
	}
	b.ReportMetric(100*(float64(tried)/float64(alone)-1), "overhead-%")
	b.ReportMetric(float64(tried-alone)/float64(requests), "extra-ns/request")
	b.ReportMetric(float64(alone)/float64(requests), "alone-ns/request")
	b.ReportMetric(float64(trial.Report().Dropped)/float64(requests), "dropped/request")
}

// processorTime is what f takes of all processors.
func processorTime(b *testing.B, f func()) time.Duration {
	before := processors(b)
	f()
	return processors(b) - before
}

func processors(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
