package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/gateway/route"
)

// What has no body arrives as it was said, over every pair of protocols and transports.
func TestAnswersWithoutBody(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	for _, transport := range []route.Transport{route.TransportLean, route.TransportStandard} {
		app := wiki(t, b.origin, "staff")
		app.UpstreamTransport = transport
		b.server.Swap(snapshot(t, app))
		for _, protocol := range []string{"http/1.1", "h2"} {
			client := b.client(t, protocol)
			for _, method := range []string{"GET", "HEAD", "POST"} {
				for path, want := range map[string]int{"/200": 200, "/204": 204, "/304": 304, "/500": 500} {
					res, err := client.Do(b.request(t, method, path, "ada", nil))
					if err != nil {
						t.Errorf("%s %s %s %s: %v", transport, protocol, method, path, err)
						continue
					}
					body, err := io.ReadAll(res.Body)
					res.Body.Close()
					if res.StatusCode != want || len(body) > 0 || err != nil {
						t.Errorf("%s %s %s %s: got %d %q, %v", transport, protocol, method, path, res.StatusCode, body, err)
					}
				}
			}
		}
	}
}

// keeper is a client's side that fails and keeps what it was to write, as net/http may over HTTP/2 when a stream ends.
type keeper struct {
	http.ResponseWriter
	kept []byte
}

func (k *keeper) Write(p []byte) (int, error)        { k.kept = p; return 0, errors.New("stream closed") }
func (*keeper) SetWriteDeadline(time.Time) error     { return nil }
func (*keeper) Flush()                               {}
func (k *keeper) lentAgain(pool *bufferPool) (n int) { return lent(pool, k.kept) }

// lent is how often a pool lends the array under p.
func lent(pool *bufferPool, p []byte) (n int) {
	for range 100 {
		if b := pool.Get(); &b[0] == &p[0] {
			n++
		}
	}
	return n
}

// Invariant 14: a buffer from which net/http may yet send, because a write of it failed, is not lent to the next exchange.
func TestBufferOfAFailedWriteIsNotLentAgain(t *testing.T) {
	b := newBed(t, nil)
	for name, length := range map[string]int64{"small": copyBufferSize, "long": -1} {
		client := &keeper{ResponseWriter: httptest.NewRecorder()}
		ctx, cancel := context.WithCancelCause(t.Context())
		snap := b.server.Snapshot()
		x := &exchange{server: b.server, snap: snap, app: snap.apps["wiki"], w: &response{ResponseWriter: client}, ctx: ctx, cancel: cancel}
		func() {
			defer func() { recover() }()
			x.relayBody(&http.Response{StatusCode: 200, ContentLength: length, Body: io.NopCloser(io.LimitReader(zeros{}, copyBufferSize))})
		}()
		if len(client.kept) == 0 {
			t.Fatalf("%s: nothing was written", name)
		}
		if n := client.lentAgain(b.server.buffers); n > 0 {
			t.Errorf("%s: lent again", name)
		}
		cancel(nil)
	}
}

// A field of the trailer that the head has too arrives as both said it, in its place, and once.
func TestTrailerWithANameOfTheHead(t *testing.T) {
	b := newBed(t, nil)
	app := wiki(t, rawApp(t, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Sum: head\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: tail\r\nX-More: 1\r\n\r\n")), "staff")
	b.server.Swap(snapshot(t, app))
	for _, protocol := range []string{"http/1.1", "h2"} {
		res, err := b.client(t, protocol).Do(b.request(t, "GET", "/page", "ada", nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		head, tail := fmt.Sprint(res.Header["X-Sum"]), fmt.Sprint(res.Trailer["X-Sum"], res.Trailer["X-More"])
		if string(body) != "ok" || err != nil || head != "[head]" || tail != "[tail] [1]" {
			t.Errorf("%s: %q %v, head %s, trailer %s", protocol, body, err, head, tail)
		}
	}
}

// A declared stream comes as it is said, whatever length it announced.
func TestDeclaredStreamOfKnownLengthIsNotHeldBack(t *testing.T) {
	more := make(chan struct{})
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
		io.WriteString(w, "other")
	})
	app := wiki(t, b.origin, "staff")
	app.Streams.Paths = []string{"/live/"}
	b.server.Swap(snapshot(t, app))
	res, err := b.client(t, "http/1.1").Do(b.request(t, "GET", "/live/1", "ada", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, first); string(first) != "first" || err != nil {
		t.Fatalf("got %q, %v", first, err)
	}
	close(more)
	if rest, err := io.ReadAll(res.Body); string(rest) != "other" || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
}

// A call whose app breaks off ends with a status, and its outcome says what happened.
func TestCallThatTheAppBrokeOffIsOnRecord(t *testing.T) {
	b := newBed(t, nil)
	app := wiki(t, rawApp(t, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/grpc\r\n\r\n5\r\npart")), "staff")
	b.server.Swap(snapshot(t, app))
	res, err := b.client(t, "h2").Do(b.request(t, "GET", "/page", "ada", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err != nil || res.Trailer.Get("Grpc-Status") != "14" {
		t.Errorf("the call ended with %v, %v", res.Trailer, err)
	}
	if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != "upstream_broke_off" {
		t.Errorf("the outcome says %q", got)
	}
}
