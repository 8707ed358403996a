package http1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func stageOf(t testing.TB, err error) Stage {
	t.Helper()
	e, isOurs := err.(*Error)
	if !isOurs {
		t.Fatalf("the error is %T: %v", err, err)
	}
	return e.Stage
}

func TestErrorsTellHowFarTheRequestCame(t *testing.T) {
	refused := &Transport{Dial: func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }}
	_, err := refused.RoundTrip(request(t, "GET", "/", ""))
	if stageOf(t, err) != Unsent || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	for name, want := range map[string]Stage{"nothing": Unanswered, "half a status line": Broken, "half a field": Broken,
		"RESP-13 SSH banner": Broken, "interim, then nothing": Broken, "101": Broken, "RESP-10 a head of 300 KiB": Broken} {
		raw := rawAnswer(t, name)
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, raw); c.Close() })
		if _, err := origin.transport(t).RoundTrip(request(t, "GET", "/case", "")); stageOf(t, err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	mem := newMemConn(strings.NewReader(""))
	mem.fail = func(int) (int, error) { return 0, syscall.EPIPE }
	lean := &Transport{Dial: mem.dial}
	if _, err := lean.RoundTrip(request(t, "POST", "/", "x")); stageOf(t, err) != Unsent || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("nothing written: %v", err)
	}
}

// TestLB02RequestsAreRepeatedOnlyWhenSafe: the app takes a request on a kept connection and closes without an answer.
func TestLB02RequestsAreRepeatedOnlyWhenSafe(t *testing.T) {
	for method, want := range map[string]int64{"GET": 2, "HEAD": 2, "OPTIONS": 2, "TRACE": 2, "POST": 1, "PUT": 1, "DELETE": 1, "PATCH": 1, "PURGE": 1} {
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { c.Close() })
		lean := origin.transport(t)
		unharmed(t, lean, "/before")
		before := origin.requests.Load()
		req := request(t, method, "/case", "")
		req.Header.Set("Idempotency-Key", "1") // a client's word
		_, err := lean.RoundTrip(req)
		wantStage := Stale
		if want == 2 {
			wantStage = Unanswered // by a fresh connection
		}
		if stageOf(t, err) != wantStage {
			t.Errorf("%s: %v", method, err)
		}
		if n := origin.requests.Load() - before; n != want {
			t.Errorf("%s: the app saw %d requests, want %d", method, n, want)
		}
		unharmed(t, lean, "/next")
	}
}

func TestRequestIsNotRepeatedAfterTheBeginningOfAnAnswer(t *testing.T) {
	for _, raw := range []string{"H", "HTTP/1.1 100 Continue\r\n\r\n", ok} {
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, raw); c.Close() })
		lean := origin.transport(t)
		unharmed(t, lean, "/before")
		if _, err := lean.RoundTrip(request(t, "GET", "/case", "")); stageOf(t, err) != Broken {
			t.Errorf("after %q: %v", raw, err)
		}
		if n := origin.requests.Load(); n != 2 {
			t.Errorf("after %q: the app saw %d requests", raw, n)
		}
	}
}

func TestBodyIsRepeatedWhole(t *testing.T) {
	var bodies []string
	var mu sync.Mutex
	origin := newOrigin(t, func(c net.Conn, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if bodies = append(bodies, string(body)); len(bodies) == 1 {
			c.Close()
			return
		}
		send(c, ok+hello)
	})
	lean := origin.transport(t)
	unharmed(t, lean, "/before")
	if o, err := outcomeOf(lean, request(t, "GET", "/case", "query")); err != nil || o.Body != "hello" {
		t.Error(o, err)
	}
	if fmt.Sprint(bodies) != "[query query]" {
		t.Errorf("the app read %q", bodies)
	}
}

// TestEarlyAnswerIsRead: the app answers and closes before it has read the request.
func TestEarlyAnswerIsRead(t *testing.T) {
	mem := newMemConn(strings.NewReader("HTTP/1.1 413 Too Large\r\n" + hello))
	mem.fail = func(n int) (int, error) { return n / 2, syscall.EPIPE }
	lean := &Transport{Dial: mem.dial}
	res, err := lean.RoundTrip(request(t, "POST", "/", strings.Repeat("x", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); res.StatusCode != 413 || string(body) != "hello" || err != nil {
		t.Error(res.Status, body, err)
	}
	res.Body.Close()
	if len(lean.idle.conns) != 0 {
		t.Error("the connection is kept, with half a request in it")
	}
	mem = newMemConn(strings.NewReader(""))
	mem.fail = func(n int) (int, error) { return n / 2, syscall.EPIPE }
	lean = &Transport{Dial: mem.dial}
	if _, err := lean.RoundTrip(request(t, "POST", "/", "x")); stageOf(t, err) != Unanswered || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("without an answer: %v", err)
	}
}

func TestResponseTimeout(t *testing.T) {
	origin := newOrigin(t, func(c net.Conn, r *http.Request) {
		send(c, r.URL.Query().Get("first"))
	})
	lean := origin.transport(t)
	lean.ResponseTimeout = time.Second // ordinary requests have to do with it, too
	for first, want := range map[string]Stage{"": Unanswered, "HTTP": Broken} {
		unharmed(t, lean, "/before") // on a kept connection, too, and then it is not repeated
		before := origin.requests.Load()
		_, err := lean.RoundTrip(request(t, "GET", "/case?first="+first, ""))
		if timed, is := errors.AsType[net.Error](err); !is || !timed.Timeout() || stageOf(t, err) != want {
			t.Errorf("after %q: %v", first, err)
		}
		if n := origin.requests.Load() - before; n != 1 {
			t.Errorf("after %q: %d requests", first, n)
		}
		unharmed(t, lean, "/next")
	}
}

// TestResponseTimeoutEndsWithTheHead: a body may take longer, and the next request has its own time.
func TestResponseTimeoutEndsWithTheHead(t *testing.T) {
	for _, head := range []string{"Content-Length: 5\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\n"} {
		proceed := make(chan bool)
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) {
			send(c, ok+head+"he")
			<-proceed
			send(c, "llo")
			if strings.Contains(head, "chunked") {
				send(c, "\r\n0\r\n\r\n")
			}
		})
		lean := origin.transport(t)
		lean.ResponseTimeout = time.Second // ordinary requests have to do with it, too
		res, err := lean.RoundTrip(request(t, "GET", "/case", ""))
		if err != nil {
			t.Fatal(err)
		}
		elapsed := time.NewTimer(1500 * time.Millisecond)
		<-elapsed.C
		close(proceed)
		if body, err := io.ReadAll(res.Body); string(body) != "hello" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
		res.Body.Close()
		unharmed(t, lean, "/next")
		if n := origin.accepted.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	}
}

var errWhy = errors.New("session revoked")

func TestContextInterruptsWaitingForTheHead(t *testing.T) {
	for _, used := range []bool{false, true} {
		asked := make(chan bool, 1)
		origin := newOrigin(t, func(net.Conn, *http.Request) { asked <- true })
		lean := origin.transport(t)
		if used {
			unharmed(t, lean, "/before")
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-asked; cancel(errWhy) }()
		_, err := lean.RoundTrip(request(t, "GET", "/case", "").WithContext(ctx))
		if !errors.Is(err, context.Canceled) || !errors.Is(err, errWhy) || stageOf(t, err) != Unanswered {
			t.Errorf("%v", err)
		}
		eventually(t, "the app sees it closed", func() bool { return origin.open() == 0 })
		unharmed(t, lean, "/next")
	}
}

func TestContextInterruptsTheBody(t *testing.T) {
	for _, head := range []string{"Content-Length: 50000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nffff\r\n", "Connection: close\r\n\r\n"} {
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, ok+head+"hello") })
		lean := origin.transport(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		res, err := lean.RoundTrip(request(t, "GET", "/case", "").WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 5)
		if _, err := io.ReadFull(res.Body, first); err != nil {
			t.Fatal(err)
		}
		go cancel(errWhy)
		for range 2 { // the error stays
			if _, err := res.Body.Read(first); !errors.Is(err, context.Canceled) || !errors.Is(err, errWhy) {
				t.Errorf("%v", err)
			}
		}
		eventually(t, "the app sees it closed", func() bool { return origin.open() == 0 })
		res.Body.Close()
		unharmed(t, lean, "/next")
	}
}

// TestInterruptionIsNotUndone: the context ends while a deadline is being set.
func TestInterruptionIsNotUndone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	inner := &deadlined{}
	x := &exchange{t: &Transport{ResponseTimeout: time.Hour}, c: &conn{inner: inner, deadline: time.Now()}, ctx: ctx}
	inner.whenSet = func() {
		if ctx.Err() == nil {
			cancel()
			x.interrupt() // before the one that is being set takes effect
		}
	}
	for _, set := range []func(){x.limit, x.unlimit} {
		if set(); !inner.deadline.Before(time.Now()) || inner.deadline.IsZero() {
			t.Errorf("the deadline is %v", inner.deadline)
		}
	}
}

type deadlined struct {
	net.Conn
	deadline time.Time
	whenSet  func()
}

func (d *deadlined) SetDeadline(when time.Time) error {
	d.whenSet()
	d.deadline = when
	return nil
}

// TestContextEndsABodyThatIsThere: nothing of it has to be waited for.
func TestContextEndsABodyThatIsThere(t *testing.T) {
	origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, ok+hello) })
	lean := origin.transport(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	res, err := lean.RoundTrip(request(t, "GET", "/case", "").WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	cancel(errWhy)
	eventually(t, "the exchange is interrupted", res.Body.(*exchange).interrupted.Load)
	if n, err := res.Body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errWhy) {
		t.Errorf("%d bytes, %v", n, err)
	}
	res.Body.Close()
	unharmed(t, lean, "/next")
}

func TestContextThatIsOverSendsNothing(t *testing.T) {
	origin := newOrigin(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	_, err := origin.transport(t).RoundTrip(request(t, "GET", "/", "").WithContext(ctx))
	if stageOf(t, err) != Unsent || !errors.Is(err, context.DeadlineExceeded) || !err.(*Error).Timeout() || origin.accepted.Load() != 0 {
		t.Errorf("%v, %d connections", err, origin.accepted.Load())
	}
}

func TestContextInterruptsConnecting(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	lean := &Transport{Dial: func(ctx context.Context) (net.Conn, error) { cancel(errWhy); <-ctx.Done(); return nil, ctx.Err() }}
	_, err := lean.RoundTrip(request(t, "GET", "/", "").WithContext(ctx))
	if stageOf(t, err) != Unsent || !errors.Is(err, errWhy) {
		t.Errorf("%v", err)
	}
	lean = &Transport{ConnectTimeout: 1, Dial: func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }}
	_, err = lean.RoundTrip(request(t, "GET", "/", ""))
	if stageOf(t, err) != Unsent || !err.(*Error).Timeout() {
		t.Errorf("%v", err)
	}
}

// TestContextOfOneRequestDoesNotReachTheNext races the end of contexts against the end of answers: every answer is the
// right one, and no request suffers from another's end.
func TestContextOfOneRequestDoesNotReachTheNext(t *testing.T) {
	origin := newOrigin(t, nil)
	lean := origin.transport(t)
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i := range 400 {
				target := fmt.Sprintf("/%d/%d", worker, i)
				ctx, cancel := context.WithCancelCause(t.Context())
				doomed := i%2 == 0
				if doomed {
					time.AfterFunc(time.Duration(rand.IntN(300))*time.Microsecond, func() { cancel(errWhy) })
				}
				got, err := get(t, withContext{lean, ctx}, target)
				if err == nil && got != target || err != nil && (!doomed || !errors.Is(err, errWhy)) {
					t.Errorf("%s got %q, %v", target, got, err)
				}
				cancel(nil)
			}
		})
	}
	wait.Wait()
}

type withContext struct {
	http.RoundTripper
	ctx context.Context
}

func (w withContext) RoundTrip(r *http.Request) (*http.Response, error) {
	return w.RoundTripper.RoundTrip(r.WithContext(w.ctx))
}

// TestManyAtOnceGetTheirOwnAnswers mixes ends of every kind.
func TestManyAtOnceGetTheirOwnAnswers(t *testing.T) {
	origin := newOrigin(t, func(c net.Conn, r *http.Request) {
		id := r.URL.Query().Get("id")
		switch rand.IntN(4) {
		case 0:
			send(c, ok+"Transfer-Encoding: chunked\r\n\r\n"+fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(id), id))
		case 1:
			send(c, ok+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(id), id)+evil)
		case 2:
			send(c, ok+"\r\n"+id)
			c.Close()
		default:
			send(c, ok+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(id), id))
		}
	})
	lean := origin.transport(t)
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf("%d.%d", worker, i)
				got, err := get(t, lean, "/case?id="+id)
				if got != id || err != nil {
					t.Errorf("%s got %q, %v", id, got, err)
				}
			}
		})
	}
	wait.Wait()
}

func TestBodyClosedEarlyClosesTheConnection(t *testing.T) {
	long := strings.Repeat("x", 50000)
	for head, kept := range map[string]bool{
		"Content-Length: 5\r\n\r\nhello":                            true, // is all there
		"Content-Length: 50000\r\n\r\n" + long:                      false,
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n": false,
		"\r\nhello": false,
		"Content-Length: 5\r\n\r\nhello" + strings.Repeat("\r\n", 1) + evil: false,
	} {
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, ok+head) })
		lean := origin.transport(t)
		res, err := lean.RoundTrip(request(t, "GET", "/case", ""))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if _, err := res.Body.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
			t.Errorf("reading a closed body: %v", err)
		}
		if got := len(lean.idle.conns) == 1; got != kept {
			t.Errorf("%.40q: kept is %v", head, got)
		}
		unharmed(t, lean, "/next")
	}
}

func TestBodyMayBeClosedWhileItIsRead(t *testing.T) {
	origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, ok+"Content-Length: 50\r\n\r\nhello") })
	lean := origin.transport(t)
	res, err := lean.RoundTrip(request(t, "GET", "/case", ""))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, res.Body)
		done <- err
	}()
	x := res.Body.(*exchange)
	eventually(t, "the body is being read", func() bool {
		if x.mu.TryLock() {
			x.mu.Unlock()
			return false
		}
		return true
	})
	res.Body.Close()
	if err := <-done; err == nil {
		t.Error("the body counts as whole")
	}
	unharmed(t, lean, "/next")
}

// TestLateCloseDoesNotReachTheNextExchange: the connection has gone on.
func TestLateCloseDoesNotReachTheNextExchange(t *testing.T) {
	proceed := make(chan bool)
	origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, ok+hello[:len(hello)-2]); <-proceed; send(c, "lo") })
	lean := origin.transport(t)
	first, err := lean.RoundTrip(request(t, "GET", "/first", ""))
	if err != nil {
		t.Fatal(err)
	}
	io.ReadAll(first.Body)
	second, err := lean.RoundTrip(request(t, "GET", "/case", ""))
	if err != nil {
		t.Fatal(err)
	}
	first.Body.Close()
	if n, err := first.Body.Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("a late read got %d bytes, %v", n, err)
	}
	close(proceed)
	if body, err := io.ReadAll(second.Body); string(body) != "hello" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	second.Body.Close()
	if n := origin.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestBodiesAreWrittenWhole(t *testing.T) {
	for _, name := range []string{"length", "chunked", "until the end", "a body of 100 KB", "chunks of 100 KB", "a body of one buffer"} {
		raw := rawAnswer(t, name)
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) {
			if send(c, raw); name == "until the end" {
				c.Close()
			}
		})
		lean := origin.transport(t)
		want, err := outcomeOf(lean, request(t, "GET", "/case", ""))
		if err != nil {
			t.Fatal(err)
		}
		res, err := lean.RoundTrip(request(t, "GET", "/case", ""))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		n, err := res.Body.(io.WriterTo).WriteTo(&got)
		if got.String() != want.Body || n != int64(got.Len()) || err != nil {
			t.Errorf("%s: %d bytes of %d, %v", name, n, len(want.Body), err)
		}
		res.Body.Close()
		unharmed(t, lean, "/next")
	}
}

func TestWriterThatFails(t *testing.T) {
	origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, rawAnswer(t, "a body of 100 KB")) })
	lean := origin.transport(t)
	for _, limit := range []int{0, 100, 50000} {
		res, err := lean.RoundTrip(request(t, "GET", "/case", ""))
		if err != nil {
			t.Fatal(err)
		}
		w := &failing{left: limit}
		if n, err := io.Copy(w, res.Body); n != int64(limit) || !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%d bytes, %v", n, err)
		}
		res.Body.Close()
		unharmed(t, lean, "/next")
	}
}

// failing takes so many bytes.
type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	if f.left -= n; n < len(p) {
		return n, syscall.EPIPE
	}
	return n, nil
}

// TestRESP13SomethingElseIsNotWaitedFor: it has no end of a head to wait for.
func TestRESP13SomethingElseIsNotWaitedFor(t *testing.T) {
	for _, raw := range []string{"SSH-2.0-OpenSSH_9.2p1\r\n", "\x15\x03\x01", "HTTP/2", "{"} {
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) { send(c, raw) })
		if _, err := origin.transport(t).RoundTrip(request(t, "GET", "/case", "")); stageOf(t, err) != Broken || err.(*Error).Timeout() {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// TestRESP10EndlessHeadsAreBounded: the app goes on until the connection is closed.
func TestRESP10EndlessHeadsAreBounded(t *testing.T) {
	for name, piece := range map[string]string{
		"RESP-10 fields": "X-Many: " + strings.Repeat("x", 1000) + "\r\n", "RESP-10 a field": strings.Repeat("x", 1000),
		"RESP-11 interim": "\r\nHTTP/1.1 103 x\r\nX: " + strings.Repeat("x", 100) + "\r\n",
	} {
		sent := make(chan int, 1)
		origin := newOrigin(t, func(c net.Conn, _ *http.Request) {
			n, _ := io.WriteString(c, "HTTP/1.1 103 OK\r\nX: ")
			for {
				more, err := io.WriteString(c, piece)
				if n += more; err != nil {
					sent <- n
					return
				}
			}
		})
		lean := origin.transport(t)
		if _, err := lean.RoundTrip(request(t, "GET", "/case", "")); stageOf(t, err) != Broken {
			t.Errorf("%s: %v", name, err)
		}
		<-sent // the connection is closed, whatever the sockets took in
		unharmed(t, lean, "/next")
	}
}
