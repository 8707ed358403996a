package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/audit"
	"sallyport/test/harness"
)

// revocationFelt is how soon a revocation must end what is open: two seconds are promised, a busy machine gets more.
const revocationFelt = 10 * time.Second

func TestStreamWebSocketEchoesAndEndsWithItsSession(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	browser := s.Browser()
	if status, body := s.SignIn(t, browser, "wiki", "ada", "staff"); status != http.StatusOK {
		t.Fatalf("sign-in ended with %d: %s", status, body)
	}
	conn := dialEcho(t, s, browser)
	for i := range 20 {
		want := fmt.Sprintf("message %d %s", i, strings.Repeat("x", i*100))
		if got := echo(t, conn, want); got != want {
			t.Fatalf("sent %q, got %q", want, got)
		}
	}
	revoked := revoke(t, s, "ada")
	_, _, err := conn.Read(t.Context())
	if err == nil {
		t.Fatal("the socket still speaks after the revocation")
	}
	if took := time.Since(revoked); took > revocationFelt {
		t.Errorf("the socket lived %s after the revocation", took)
	}
	outcome := waitForOutcome(t, s, func(e audit.Record) bool { return e.Outcome != nil && e.Outcome.Error == "session_revoked" })
	if outcome.Outcome.BytesIn == 0 || outcome.Outcome.BytesOut == 0 || outcome.Outcome.DurationNS == 0 {
		t.Errorf("the outcome says too little: %+v", outcome.Outcome)
	}
}

func TestStreamEventsArriveOneByOneAndEndWithTheirSession(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	browser.Timeout = 0
	res, err := browser.Get(s.URL("wiki", "/events"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	first := time.Now()
	for n := 1; n <= 40; n++ {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", n) || !lines.Scan() {
			t.Fatalf("event %d: got %q, %v", n, lines.Text(), lines.Err())
		}
	}
	// The app sends one event each 50 ms: buffered, all would arrive at once.
	if spread := time.Since(first); spread < 200*time.Millisecond {
		t.Errorf("forty events arrived within %s of each other", spread)
	}
	revoked := revoke(t, s, "ada")
	for lines.Scan() {
		if time.Since(revoked) > revocationFelt {
			t.Fatal("events still arrive after the revocation")
		}
	}
	if status, _ := harness.Get(t, &http.Client{Transport: s.Transport(), Jar: browser.Jar, CheckRedirect: stay}, s.URL("wiki", "/")); status != http.StatusUnauthorized {
		t.Errorf("the revoked session got %d, want 401", status)
	}
}

func TestStreamForeignPagesCannotOpenWebSockets(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Start(t)
	browser := s.Browser()
	s.SignIn(t, browser, "wiki", "ada", "staff")
	for origin, want := range map[string]int{"https://evil.example": 403, "null": 403, s.URL("wiki", ""): 101, s.URL("payroll", ""): 403} {
		if status := handshake(t, s, browser, origin); status != want {
			t.Errorf("WS-03: origin %s got %d, want %d", origin, status, want)
		}
	}
	if status := handshake(t, s, &http.Client{Jar: s.Browser().Jar}, s.URL("wiki", "")); status != 401 {
		t.Errorf("WS-01: without a session: got %d, want 401", status)
	}
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func handshake(t *testing.T, s *harness.Stand, browser *http.Client, origin string) int {
	t.Helper()
	conn, res, err := websocket.Dial(t.Context(), s.URL("wiki", "/echo"), &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: s.Transport(), Jar: browser.Jar}, HTTPHeader: http.Header{"Origin": {origin}}})
	if err == nil {
		conn.CloseNow()
	}
	if res == nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

func dialEcho(t *testing.T, s *harness.Stand, browser *http.Client) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, s.URL("wiki", "/echo"), &websocket.DialOptions{HTTPClient: &http.Client{Transport: s.Transport(), Jar: browser.Jar}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func echo(t *testing.T, conn *websocket.Conn, message string) string {
	t.Helper()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
		t.Fatal(err)
	}
	_, got, err := conn.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// revoke ends a person's sessions as an operator does and returns when that was acknowledged.
func revoke(t *testing.T, s *harness.Stand, person string) time.Time {
	t.Helper()
	if out, code := s.Sallyport(t, "session", "revoke", "--user", person+"@corp.test"); code != 0 {
		t.Fatalf("session revoke: exit %d: %s", code, out)
	}
	return time.Now()
}

func waitForOutcome(t *testing.T, s *harness.Stand, is func(audit.Record) bool) (found audit.Record) {
	t.Helper()
	harness.Eventually(t, 2*time.Minute, "the outcome record", func() bool {
		for _, r := range records(t, s) {
			if is(r) {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// drain reads an answer to its end.
func drain(res *http.Response) error {
	defer res.Body.Close()
	_, err := io.Copy(io.Discard, res.Body)
	return err
}

func readAll(t *testing.T, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
