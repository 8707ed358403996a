package http1

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// outcome is what somebody who asks gets to see.
type outcome struct {
	Failed   string // "", "head" or "body"
	Status   string
	Proto    string
	Header   http.Header
	Length   int64
	Encoding []string
	Close    bool
	Body     string
	Trailer  http.Header
}

// outcomeOf asks, and reads the answer to its end.
func outcomeOf(rt http.RoundTripper, req *http.Request) (o outcome, err error) {
	res, err := rt.RoundTrip(req)
	if err != nil {
		return outcome{Failed: "head"}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return outcome{Failed: "body"}, err
	}
	return outcome{"", res.Status, res.Proto, res.Header, res.ContentLength, res.TransferEncoding, res.Close, string(body), res.Trailer}, nil
}

// agree compares the two. What http.Transport refuses is refused; what it accepts is the same, or refused for a reason.
func agree(t testing.TB, lean, standard outcome, stricter string) {
	t.Helper()
	switch {
	case stricter != "" && standard.Failed != "":
		t.Errorf("http.Transport refuses it as well: strike the reason %q", stricter)
	case stricter != "" && lean.Failed == "":
		t.Errorf("accepted; it should be refused: %s", stricter)
	case stricter != "":
	case standard.Failed != "" && lean.Failed == "":
		t.Errorf("accepted as %+v; http.Transport refuses it", lean)
	case standard.Failed == "head" && lean.Failed != "head":
		t.Errorf("http.Transport refuses the head, http1 only the body")
	case standard.Failed == "":
		if diff := cmp.Diff(standard, lean); diff != "" {
			t.Errorf("http.Transport (-) and http1 (+) differ:\n%s", diff)
		}
	}
}

// standardTransport is an http.Transport as the gateway uses it.
func standardTransport(t testing.TB, dial func(context.Context) (net.Conn, error)) *http.Transport {
	standard := &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		ResponseHeaderTimeout: 20 * time.Second, MaxResponseHeaderBytes: defaultMaxHead, DisableCompression: true, ReadBufferSize: readSize,
	}
	t.Cleanup(standard.CloseIdleConnections)
	return standard
}

// TestAnswersAreJudgedLikeHTTPTransport sends every answer to both, on a fresh and on a used connection, with the
// connection open and closed behind it, in reads of several sizes. Whatever it was, the next request to the app gets its
// own answer.
func TestAnswersAreJudgedLikeHTTPTransport(t *testing.T) {
	if len(answerCases) < 120 {
		t.Errorf("only %d answers", len(answerCases))
	}
	for _, c := range answerCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{0, 1, 3, 1000} {
				if size > 0 && size < 1000 && len(c.raw) > 30<<10 {
					continue // a read a byte of two megabytes shows nothing more
				}
				for _, closes := range []bool{true, false} {
					for _, used := range []bool{false, true} {
						if closes || !c.stalls {
							c.run(t, size, closes, used)
						}
					}
				}
			}
		})
	}
}

func (c *answerCase) run(t *testing.T, size int, closes, used bool) {
	t.Helper()
	origin := newOrigin(t, func(conn net.Conn, _ *http.Request) {
		send(conn, c.raw)
		if closes {
			conn.Close()
		}
	})
	dial := split(origin.plain, size)
	lean := origin.transport(t)
	lean.Dial = dial
	legs := []http.RoundTripper{lean, standardTransport(t, dial)}
	var outcomes [2]outcome
	var errs [2]error
	for i, leg := range legs {
		if used {
			unharmed(t, leg, "/before")
		}
		outcomes[i], errs[i] = outcomeOf(leg, request(t, c.method, "/case", ""))
	}
	before := t.Failed()
	agree(t, outcomes[0], outcomes[1], c.stricter)
	unharmed(t, lean, "/next?"+fmt.Sprint(size))
	if t.Failed() && !before {
		t.Errorf("reads of %d, closes %v, used %v: http1 says %v, http.Transport %v", size, closes, used, errs[0], errs[1])
	}
}

// TestTruncatedAnswersAreJudgedLikeHTTPTransport ends ordinary answers after each byte.
func TestTruncatedAnswersAreJudgedLikeHTTPTransport(t *testing.T) {
	for _, name := range []string{"length", "chunked in pieces", "trailers", "until the end", "HTTP/1.0", "103", "folded value", "whole head with LF", "SMUG-41 second answer"} {
		raw := rawAnswer(t, name)
		for end := range len(raw) {
			c := answerCase{raw: raw[:end]}
			c.run(t, 0, true, false)
			if t.Failed() {
				t.Fatalf("%s, ended after %q", name, raw[:end])
			}
		}
	}
}

func rawAnswer(t testing.TB, name string) string {
	t.Helper()
	for _, c := range answerCases {
		if c.name == name {
			return c.raw
		}
	}
	t.Fatalf("no answer is named %q", name)
	return ""
}

// TestResetAnswersAreNeverTakenForWhole resets the connection after each byte: no body of known framing may pass as whole
// before it is.
func TestResetAnswersAreNeverTakenForWhole(t *testing.T) {
	for _, name := range []string{"length", "chunked in pieces", "trailers"} {
		raw := rawAnswer(t, name)
		for end := range len(raw) {
			origin := newOrigin(t, func(conn net.Conn, _ *http.Request) {
				send(conn, raw[:end])
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			})
			lean := origin.transport(t)
			if got, err := outcomeOf(lean, request(t, "GET", "/case", "")); err == nil {
				t.Fatalf("%s, reset after %q: accepted as %+v", name, raw[:end], got)
			}
			unharmed(t, lean, "/next")
		}
	}
}
