package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/audit"
)

// RESP-11: informational answers are not passed on, and a flood of them ends in 502, not in the response timeout.
func TestInformationalAnswersAreBoundedAndStay(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		hint := "HTTP/1.1 103 Early Hints\r\nSet-Cookie: __Host-sallyport=evil\r\nX-Pad: " + strings.Repeat("x", 4000) + "\r\n\r\n"
		if r.URL.Path == "/few" {
			io.WriteString(conn, hint+hint+"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal")
			return
		}
		for {
			if _, err := io.WriteString(conn, hint); err != nil {
				return
			}
		}
	})
	var early atomic.Int64
	r := b.request(t, "GET", "/few", "ada", nil)
	r = r.WithContext(countEarly(r.Context(), &early))
	if status, body := answerTo(t, b.client(t, "http/1.1"), r); status != 200 || body != "final" || early.Load() != 0 {
		t.Errorf("got %d %q and %d early answers", status, body, early.Load())
	}
	if status, _ := b.get(t, "/endless"); status != http.StatusBadGateway {
		t.Errorf("an endless row of early answers got %d, want 502", status)
	}
}

// COOK-18 by another door: trailer fields are header fields that arrive late. What may not stand in the header may not
// come after the body.
func TestTrailersOfAppsAreCleaned(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/announced" {
			w.Header().Set("Trailer", "Set-Cookie, X-Checksum")
		}
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		for name, value := range map[string]string{"Set-Cookie": "__Host-sallyport=evil", "X-Checksum": "1", "X-Sallyport-User": "evil"} {
			w.Header().Set(http.TrailerPrefix+name, value)
			w.Header().Set(name, value)
		}
	})
	for _, protocol := range []string{"http/1.1", "h2"} {
		for _, path := range []string{"/announced", "/unannounced"} {
			res, err := b.client(t, protocol).Do(b.request(t, "GET", path, "ada", nil))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if string(body) != "body" || err != nil || len(res.Trailer) != 1 || res.Trailer.Get("X-Checksum") != "1" {
				t.Errorf("%s %s: body %q, trailer %v, %v", protocol, path, body, res.Trailer, err)
			}
		}
	}
}

// SMUG-41: an app that sends two answers for one request never has the second one given to the next request.
func TestSecondAnswerIsNobodys(t *testing.T) {
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	log.SetOutput(io.Discard) // net/http prints each of them
	defer log.SetOutput(os.Stderr)
	go twoAnswers(origin)
	b := newBed(t, nil)
	b.server.Swap(snapshot(t, wiki(t, "http://"+origin.Addr().String(), "staff")))
	client := b.client(t, "http/1.1")
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 32
	done := make(chan string, 16)
	for c := range cap(done) {
		go func() {
			for n := range 25 {
				path := fmt.Sprintf("/%d/%d", c, n)
				res, err := client.Do(b.request(t, "GET", path, "ada", nil))
				if err != nil {
					done <- err.Error()
					return
				}
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode == 200 && string(body) != path {
					done <- fmt.Sprintf("%s got %q", path, body)
					return
				}
			}
			done <- ""
		}()
	}
	for range cap(done) {
		if problem := <-done; problem != "" {
			t.Error(problem)
		}
	}
}

// twoAnswers is an app that answers each request with its path, and with something nobody asked for.
func twoAnswers(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			reader := bufio.NewReader(conn)
			for {
				r, err := http.ReadRequest(reader)
				if err != nil {
					return
				}
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", len(r.URL.Path), r.URL.Path)
			}
		}()
	}
}

// A client that leaves while it is decided about has one decision record, the true one, and one outcome.
func TestClientThatLeavesIsOnRecord(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	stuck := make(chan struct{})
	b.log.stuck = stuck
	r := b.request(t, "GET", "/page", "ada", nil)
	ctx, leave := context.WithCancel(r.Context())
	left := make(chan error, 1)
	go func() {
		_, err := b.client(t, "h2").Do(r.WithContext(ctx))
		left <- err
	}()
	eventually(t, "the record to be on its way", func() bool { b.log.mu.Lock(); defer b.log.mu.Unlock(); return b.log.waiting > 0 })
	leave()
	<-left
	eventually(t, "the server to notice", func() bool { b.sessions.mu.Lock(); defer b.sessions.mu.Unlock(); return b.sessions.ctx.Err() != nil })
	close(stuck)
	if d := b.log.one(t, audit.TypeDecision); d.Effect != audit.Allow {
		t.Errorf("recorded as %s %s", d.Effect, d.Reason)
	}
	if o := b.log.one(t, audit.TypeOutcome); o.Outcome.Error != audit.NotForwarded || o.Reason != "client_closed" {
		t.Errorf("outcome: %+v %s", o.Outcome, o.Reason)
	}
}

func countEarly(ctx context.Context, n *atomic.Int64) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
		n.Add(1)
		return nil
	}})
}

// Where streams are declared, an app may answer before it has read the body: nothing of the body is lost on the way, over
// either protocol.
func TestAnswerBeforeTheEndOfTheBody(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		io.WriteString(w, "begun:")
		w.(http.Flusher).Flush()
		io.Copy(w, r.Body)
	})
	app := wiki(t, b.origin, "staff")
	app.Streams.Paths = []string{"/page"}
	b.server.Swap(snapshot(t, app))
	want := strings.Repeat("body", 20_000)
	for _, protocol := range []string{"http/1.1", "h2"} {
		body, rest := io.Pipe()
		r := b.request(t, "POST", "/page", "ada", body)
		r.ContentLength = int64(len(want))
		res, err := b.client(t, protocol).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		begun := make([]byte, len("begun:"))
		if _, err := io.ReadFull(res.Body, begun); err != nil {
			t.Fatalf("%s: the answer does not begin: %v", protocol, err)
		}
		io.WriteString(rest, want)
		rest.Close()
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if string(got) != want || err != nil {
			t.Errorf("%s: %d of %d bytes came back, %v", protocol, len(got), len(want), err)
		}
	}
}
