package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sallyport/audit"
	"sallyport/test/grpcapp"
	"sallyport/test/harness"
)

// endedWithin is how soon what somebody has open ends when they may not have it any more: five seconds are promised, a busy
// machine gets more.
const endedWithin = 15 * time.Second

// openStand has an app for everything that stays open, and a gRPC app.
type openStand struct {
	*harness.Stand
	app     *spoolApp
	calls   *grpcapp.App
	browser *http.Client
	apps    string
}

func newOpenStand(t *testing.T) *openStand {
	t.Helper()
	o := &openStand{app: newSpoolApp(t), calls: grpcapp.Start(t)}
	origin := harness.NewOrigin(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/download", o.app.download)
	mux.HandleFunc("/download/", o.app.download)
	mux.HandleFunc("/upload/", o.app.upload)
	mux.HandleFunc("/events/", func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/events"
		origin.Handler().ServeHTTP(w, r)
	})
	mux.Handle("/", origin.Handler())
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	o.apps = `
  - { name: wiki, host: wiki.corp.test, upstreams: ["` + server.URL + `"], access: { groups: [GROUP] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["http://` + o.calls.Address + `"], upstream_protocol: h2c, access: { groups: [GROUP] } }
`
	o.Stand = harness.New(t, strings.ReplaceAll(o.apps, "GROUP", "staff"), "")
	startLoud(t, o.Stand)
	o.browser = o.Browser()
	o.SignIn(t, o.browser, "wiki", "ada", "staff")
	harness.Get(t, o.browser, o.URL("payroll", "/"))
	return o
}

// opened is one exchange that would go on for long. Its end returns how it ended: nil when it ended as it ought to.
type opened struct {
	path string
	end  func() error
}

// ends is end with an end.
func (x opened) ends() error {
	result := make(chan error, 1)
	go func() { result <- x.end() }()
	select {
	case err := <-result:
		return err
	case <-time.After(time.Minute):
		return errors.New("the client was not told")
	}
}

// openAll opens everything that can stay open, over both protocols.
func (o *openStand) openAll(t *testing.T) (list []opened) {
	t.Helper()
	list = append(list, o.openSocket(t), o.openCall(t, "Talk"), o.openCall(t, "Download"), o.openSlowDownload(t))
	for _, client := range clients(o.Stand) {
		client.Timeout = 0
		list = append(list, o.openEvents(t, client), o.openDownload(t, client), o.openUpload(t, client))
	}
	return list
}

// openSocket is a WebSocket, which ends with the close code that means "policy" (RFC 6455 §7.4.1).
func (o *openStand) openSocket(t *testing.T) opened {
	conn := dialEcho(t, o.Stand, o.browser)
	if got := echo(t, conn, "hello"); got != "hello" {
		t.Fatalf("the socket said %q", got)
	}
	return opened{"/echo", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			return fmt.Errorf("the socket ended with %w", err)
		}
		return nil
	}}
}

// openCall is a gRPC call, which ends with PERMISSION_DENIED.
func (o *openStand) openCall(t *testing.T, method string) opened {
	kind := grpcapp.Kinds[1]
	if method == talk.Method {
		kind = talk
	}
	stream, err := grpcapp.Open(as(t.Context(), o.Cookie(t, o.browser, "payroll")), dialGRPC(t, o.Stand, "payroll"), kind, grpcapp.Wish{ID: "x", Answers: 1, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	if kind == talk {
		mustEcho(t, stream, []byte("hello"))
	} else {
		if err := stream.SendMsg(wrapperspb.Bytes([]byte("hello"))); err != nil {
			t.Fatal(err)
		}
		stream.CloseSend()
		if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
			t.Fatal(err)
		}
	}
	return opened{"/sallyport.test.Echo/" + method, func() error {
		if err := grpcapp.Hear(stream).Err; status.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("the call %s ended with %w", method, err)
		}
		return nil
	}}
}

// openEvents is a stream of server-sent events, which ends as if the app had ended it: browsers ask again, and are told
// why not.
func (o *openStand) openEvents(t *testing.T, client *http.Client) opened {
	path := "/events/" + protocolOf(client)
	res, err := client.Do(request(t, http.MethodGet, o.URL("wiki", path), o.Cookie(t, o.browser, "wiki"), nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || lines.Text() != "data: 1" {
		t.Fatalf("the first event is %q, %v", lines.Text(), lines.Err())
	}
	return opened{path, func() error {
		for lines.Scan() {
		}
		if lines.Err() != nil {
			return fmt.Errorf("events over %s ended with %w", protocolOf(client), lines.Err())
		}
		return nil
	}}
}

// openDownload is an answer that waits in the spool for a client which takes its time. What it has is no whole answer, and
// it must see that.
func (o *openStand) openDownload(t *testing.T, client *http.Client) opened {
	path := "/download/" + protocolOf(client)
	res, err := client.Do(request(t, http.MethodGet, o.URL("wiki", fmt.Sprintf("%s?seed=1&n=%d", path, spooledAnswer)), o.Cookie(t, o.browser, "wiki"), nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	check := &pattern{seed: 1}
	if _, err := io.CopyN(check, res.Body, 100_000); err != nil {
		t.Fatal(err)
	}
	return opened{path, func() error { return brokenOff(io.Copy(check, res.Body)) }}
}

// spooledAnswer is more than the kernel and HTTP/2's windows hold.
const spooledAnswer = 64 << 20

func brokenOff(n int64, err error) error {
	if err == nil {
		return errors.New("a download that was cut looks whole")
	}
	if n >= spooledAnswer-100_000 {
		return errors.New("the download went on to its end")
	}
	if errors.Is(err, errAnother) {
		return err
	}
	return nil
}

// openSlowDownload is one whose client takes nothing at all.
func (o *openStand) openSlowDownload(t *testing.T) opened {
	c := dialSlow(t, o.Stand, 7)
	res, err := c.ask(o.Cookie(t, o.browser, "wiki"), hostOf(o.Stand, "wiki"), spooledAnswer, "")
	if err != nil {
		t.Fatal(err)
	}
	return opened{"/download", func() error { return brokenOff(io.Copy(&pattern{seed: 7}, res.Body)) }}
}

// openUpload is a request whose body is still on its way. The client is told no, or cut off, which says the same.
func (o *openStand) openUpload(t *testing.T, client *http.Client) opened {
	path := "/upload/" + protocolOf(client)
	body, more := io.Pipe() // which the client closes, as a client of net/http must be able to
	t.Cleanup(func() { more.Close() })
	status := make(chan int, 1)
	go func() {
		res, err := client.Do(request(t, http.MethodPost, o.URL("wiki", path), o.Cookie(t, o.browser, "wiki"), body))
		if err != nil {
			status <- 0
			return
		}
		drain(res)
		status <- res.StatusCode
	}()
	if _, err := more.Write(make([]byte, 100_000)); err != nil { // returns when it was taken
		t.Fatal(err)
	}
	return opened{path, func() error {
		if code := <-status; code != 0 && code != http.StatusUnauthorized && code != http.StatusForbidden {
			return fmt.Errorf("the upload got %d", code)
		}
		return nil
	}}
}

func protocolOf(client *http.Client) string {
	if transport, ok := client.Transport.(*http.Transport); ok && transport.ForceAttemptHTTP2 {
		return "h2"
	}
	return "h1"
}

// causes are the ways in which somebody loses what they have open.
var causes = map[string]struct {
	code string
	lose func(t *testing.T, o *openStand)
}{
	"a revocation": {"session_revoked", func(t *testing.T, o *openStand) { revoke(t, o.Stand, "ada") }},
	"signing out":  {"signed_out", func(t *testing.T, o *openStand) { o.signOut(t) }},
	"a policy": {"policy_changed", func(t *testing.T, o *openStand) {
		o.Write(t, strings.ReplaceAll(o.apps, "GROUP", "board"))
		if out, code := o.Sallyport(t, "reload"); code != 0 {
			t.Fatalf("reload exits with %d: %s", code, out)
		}
	}},
}

func (o *openStand) signOut(t *testing.T) {
	t.Helper()
	req := request(t, http.MethodPost, o.URL("auth", "/.sallyport/signout"), nil, nil)
	req.Header.Set("Origin", o.URL("auth", ""))
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := o.browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if drain(res); res.StatusCode != http.StatusOK {
		t.Fatalf("signing out got %d", res.StatusCode)
	}
}

// WS-04, REV-01: whatever somebody has open ends within five seconds of the moment from which they may not have it, each
// in the way of its protocol, and the closing is on record with its reason.
func TestRevokedPeopleLoseWhatTheyHaveOpen(t *testing.T) {
	for name, cause := range causes {
		t.Run(name, func(t *testing.T) {
			o := newOpenStand(t)
			open := o.openAll(t)
			harness.Eventually(t, 2*time.Minute, "all decisions", func() bool {
				allowed, _ := byPath(t, o.Stand)
				return !slices.ContainsFunc(open, func(x opened) bool { return !allowed[x.path] })
			})
			cause.lose(t, o)
			lost := time.Now()
			var outcomes map[string]string
			defer func() {
				if t.Failed() {
					t.Logf("%d were open, and ended: %v", len(open), outcomes)
				}
			}()
			harness.Eventually(t, 3*endedWithin, "all outcomes", func() bool {
				_, outcomes = byPath(t, o.Stand)
				return !slices.ContainsFunc(open, func(x opened) bool { return outcomes[x.path] == "" })
			})
			if took := time.Since(lost); took > endedWithin {
				t.Errorf("it took %s", took)
			}
			for _, x := range open {
				if err := x.ends(); err != nil {
					t.Errorf("%s: %v", x.path, err)
				}
				if code := outcomes[x.path]; code != cause.code {
					t.Errorf("%s: the outcome says %q, want %q", x.path, code, cause.code)
				}
			}
			harness.Eventually(t, 2*time.Minute, "the apps to be free", func() bool { return o.calls.Open() == 0 })
		})
	}
}

// byPath is what is on record of requests, by their path: that they were allowed, and how they broke off if they did.
func byPath(t *testing.T, s *harness.Stand) (allowed map[string]bool, outcomes map[string]string) {
	t.Helper()
	allowed, outcomes = map[string]bool{}, map[string]string{}
	paths := map[string]string{} // by record id
	for _, r := range records(t, s) {
		switch {
		case r.Type == audit.TypeDecision && r.Effect == audit.Allow:
			var input struct {
				Resource struct {
					Path string `json:"path"`
				} `json:"resource"`
			}
			if err := json.Unmarshal(r.Input, &input); err != nil {
				t.Fatal(err)
			}
			paths[r.ID] = input.Resource.Path
			allowed[input.Resource.Path] = true
		case r.Outcome != nil && r.Outcome.Error == audit.NotForwarded:
			outcomes[paths[r.Outcome.Of]] = r.Reason
		case r.Outcome != nil && r.Outcome.Error != "":
			outcomes[paths[r.Outcome.Of]] = r.Outcome.Error
		}
	}
	return allowed, outcomes
}

// What people may still have stays open when others lose theirs, and when a reload changes nothing for them.
func TestRevokedPeopleLoseNothingOfOthers(t *testing.T) {
	o := newOpenStand(t)
	other := o.Browser()
	o.SignIn(t, other, "wiki", "bob", "staff")
	socket := dialEcho(t, o.Stand, other)
	conn := dialEcho(t, o.Stand, o.browser)
	revoke(t, o.Stand, "ada")
	mustEnd(t, conn)
	if got := echo(t, socket, "still here"); got != "still here" {
		t.Errorf("the other socket said %q", got)
	}
	if out, code := o.Sallyport(t, "reload"); code != 0 {
		t.Fatalf("reload exits with %d: %s", code, out)
	}
	if got := echo(t, socket, "and now"); got != "and now" {
		t.Errorf("the other socket said %q", got)
	}
}

// An exchange that stays open is decided again every so often, by itself, and each time is on record.
func TestRevokedByTheNextDecision(t *testing.T) {
	o := newOpenStand(t)
	edit(t, o.Stand, "domain: corp.test", "reauthorize: 1s\ndomain: corp.test")
	if out, code := o.Sallyport(t, "reload"); code != 0 {
		t.Fatalf("reload exits with %d: %s", code, out)
	}
	conn := dialEcho(t, o.Stand, o.browser)
	harness.Eventually(t, 2*time.Minute, "three re-decisions", func() bool {
		return count(records(t, o.Stand), func(r audit.Record) bool { return r.Type == audit.TypeReevaluated && r.Effect == audit.Allow }) >= 3
	})
	if got := echo(t, conn, "still here"); got != "still here" {
		t.Errorf("the socket said %q", got)
	}
}
