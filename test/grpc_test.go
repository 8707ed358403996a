package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sallyport/audit"
	"sallyport/test/grpcapp"
	"sallyport/test/harness"
)

// grpcStand has a gRPC app on the host wiki for staff, and the same on payroll for finance.
func grpcStand(t *testing.T, options ...grpc.ServerOption) (*harness.Stand, *grpcapp.App) {
	t.Helper()
	app := grpcapp.Start(t, options...)
	apps := strings.ReplaceAll(harness.Apps, `["ORIGIN"]`, `["http://`+app.Address+`"]`+"\n    upstream_protocol: h2c")
	s := harness.New(t, apps, "")
	startLoud(t, s)
	return s, app
}

// startLoud starts a gateway that is heard when the test fails.
func startLoud(t *testing.T, s *harness.Stand) *harness.Process {
	t.Helper()
	gw := s.Start(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the gateway printed:\n%.8000s", gw.Output())
		}
	})
	return gw
}

// grpcSession signs a person in; the app answers browsers with nothing that they understand.
func grpcSession(t *testing.T, s *harness.Stand, label, person string, groups ...string) *http.Cookie {
	t.Helper()
	browser := s.Browser()
	s.SignIn(t, browser, label, person, groups...)
	return s.Cookie(t, browser, label)
}

// dialGRPC is a client of one of the stand's hosts.
func dialGRPC(t testing.TB, s *harness.Stand, label string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.Address(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: s.Roots(), ServerName: label + "." + harness.Domain})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// as adds the session to a call.
func as(ctx context.Context, cookie *http.Cookie) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "cookie", cookie.String())
}

// endings are the ways a call ends: all that grpc-go can do, Trailers-Only among them ("nothing said before").
var endings = map[string]func(i int) grpcapp.Wish{
	"success":      func(i int) grpcapp.Wish { return grpcapp.Wish{Answers: 1 + i%3} },
	"empty":        func(int) grpcapp.Wish { return grpcapp.Wish{} },
	"late error":   func(i int) grpcapp.Wish { return wrong(i, grpcapp.Wish{Answers: 1 + i%3}) },
	"head first":   func(i int) grpcapp.Wish { return wrong(i, grpcapp.Wish{Head: true}) },
	"nothing said": func(i int) grpcapp.Wish { return wrong(i, grpcapp.Wish{Early: true}) },
}

// wrong gives a wish one of the sixteen errors.
func wrong(i int, w grpcapp.Wish) grpcapp.Wish {
	w.Code = codes.Code(1 + i%16)
	w.Message = fmt.Sprintf("nº %d: 100%% \"ende\"\n", i)
	for n := range i % 3 {
		w.Details = append(w.Details, fmt.Sprintf("detail %d of %d", n, i))
	}
	return w
}

// Unary and streaming calls, successes and errors: each of a thousand calls of each kind keeps its messages, its status
// with details, and the app's metadata at both ends.
func TestGRPCCallsEndAsTheAppSays(t *testing.T) {
	n := rounds(t, 1000)
	s, app := grpcStand(t)
	conn, cookie := dialGRPC(t, s, "wiki"), grpcSession(t, s, "wiki", "ada", "staff")
	for _, kind := range grpcapp.Kinds {
		for name, ending := range endings {
			t.Run(kind.Method+" "+name, func(t *testing.T) {
				kept := keep(t, conn, cookie, kind, n, ending)
				t.Logf("%d of %d calls kept status and trailers", kept, n)
			})
		}
	}
	harness.Eventually(t, 2*time.Minute, "the app to be idle", func() bool { return app.Open() == 0 })
}

// keep makes n calls, some at once, and counts those of which nothing is lost.
func keep(t *testing.T, conn *grpc.ClientConn, cookie *http.Cookie, kind grpcapp.Kind, n int, ending func(int) grpcapp.Wish) int64 {
	const atOnce = 16
	var kept, next atomic.Int64
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				wish := ending(i)
				wish.ID = fmt.Sprintf("%s-%d", kind.Method, i)
				sent := messagesOf(kind, i)
				ctx, cancel := context.WithTimeout(as(t.Context(), cookie), 2*time.Minute)
				problem := compareCall(kind, wish, sent, grpcapp.Call(ctx, conn, kind, wish, sent...))
				cancel()
				if problem != "" {
					t.Errorf("call %d: %s", i, problem)
					continue
				}
				kept.Add(1)
			}
		})
	}
	group.Wait()
	return kept.Load()
}

func messagesOf(kind grpcapp.Kind, i int) (list [][]byte) {
	count := 1
	if kind.ClientStreams {
		count += i % 4
	}
	for n := range count {
		list = append(list, fmt.Appendf(nil, "%d of %d %s", n, i, strings.Repeat("x", i*37%5000)))
	}
	return list
}

// compareCall is what a client missed, or empty.
func compareCall(kind grpcapp.Kind, wish grpcapp.Wish, sent [][]byte, got grpcapp.Answer) string {
	s := status.Convert(got.Err)
	if s.Code() != wish.Code || s.Message() != wish.Message {
		return fmt.Sprintf("status %v %q, want %v %q", s.Code(), s.Message(), wish.Code, wish.Message)
	}
	var details []string
	for _, d := range s.Details() {
		if text, ok := d.(*wrapperspb.StringValue); ok {
			details = append(details, text.Value)
		}
	}
	if fmt.Sprint(details) != fmt.Sprint(wish.Details) {
		return fmt.Sprintf("details %q, want %q", details, wish.Details)
	}
	if tail := got.Tail.Get(grpcapp.TailName); len(tail) != 2 || tail[0] != wish.ID || tail[1] != "second value" {
		return fmt.Sprintf("trailer %v", got.Tail)
	}
	if tail := got.Tail.Get(grpcapp.TailName + "-bin"); len(tail) != 1 || tail[0] != "\x00\xff"+wish.ID {
		return fmt.Sprintf("binary trailer %q", tail)
	}
	// Without a message or a head before the end there is but one block of metadata.
	if head := append(got.Head.Get(grpcapp.HeadName), got.Tail.Get(grpcapp.HeadName)...); len(head) != 1 || head[0] != wish.ID {
		return fmt.Sprintf("header %v", got.Head)
	}
	want := expected(kind, wish, sent)
	if len(want) != len(got.Messages) {
		return fmt.Sprintf("%d messages, want %d", len(got.Messages), len(want))
	}
	for i := range want {
		if !bytes.Equal(want[i], got.Messages[i]) {
			return fmt.Sprintf("message %d is %.60q, want %.60q", i, got.Messages[i], want[i])
		}
	}
	return ""
}

// expected are the messages that a call is answered with.
func expected(kind grpcapp.Kind, wish grpcapp.Wish, sent [][]byte) (list [][]byte) {
	last := sent[len(sent)-1]
	switch {
	case wish.Early:
	case kind.ClientStreams && kind.ServerStreams:
		return sent
	case kind.ServerStreams:
		for range wish.Answers {
			list = append(list, last)
		}
	case wish.Code == codes.OK:
		return [][]byte{last}
	}
	return list
}

// The same over each way to an app: HTTP/2 said in advance, and agreed on in TLS.
func TestGRPCOverEachLeg(t *testing.T) {
	secure := newAppCertificate(t)
	for name, c := range map[string]struct {
		scheme, settings string
		options          []grpc.ServerOption
	}{
		"h2c":           {"http", "upstream_protocol: h2c", nil},
		"auto with TLS": {"https", "upstream_tls: { ca: " + secure.file + " }", []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&secure.pair))}},
		"h2":            {"https", "upstream_protocol: h2, upstream_tls: { ca: " + secure.file + " }", []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&secure.pair))}},
	} {
		t.Run(name, func(t *testing.T) {
			app := grpcapp.Start(t, c.options...)
			s := harness.New(t, fmt.Sprintf(`
  - { name: wiki, host: wiki.corp.test, upstreams: ["%s://%s"], %s, access: { groups: [staff] } }
`, c.scheme, app.Address, c.settings), "")
			s.Start(t)
			conn, cookie := dialGRPC(t, s, "wiki"), grpcSession(t, s, "wiki", "ada", "staff")
			for _, kind := range grpcapp.Kinds {
				for name, ending := range endings {
					const n = 20
					if kept := keep(t, conn, cookie, kind, n, ending); kept != n {
						t.Errorf("%s %s: %d of %d", kind.Method, name, kept, n)
					}
				}
			}
		})
	}
}

// Who may not is told so in a way that gRPC clients understand, and the app is not asked.
func TestGRPCRefusalsAreStatuses(t *testing.T) {
	s, app := grpcStand(t)
	cookie := grpcSession(t, s, "wiki", "ada", "staff")
	for name, c := range map[string]struct {
		label string
		ctx   context.Context
		want  codes.Code
	}{
		"without a session": {"wiki", t.Context(), codes.Unauthenticated},
		"a made-up session": {"wiki", as(t.Context(), &http.Cookie{Name: cookie.Name, Value: strings.Repeat("A", len(cookie.Value))}), codes.Unauthenticated},
		"not of the group":  {"payroll", as(t.Context(), grpcSession(t, s, "payroll", "bob", "staff")), codes.PermissionDenied},
	} {
		conn := dialGRPC(t, s, c.label)
		before := app.Calls()
		for _, kind := range grpcapp.Kinds {
			got := grpcapp.Call(c.ctx, conn, kind, grpcapp.Wish{ID: "x", Answers: 1}, []byte("one"))
			if code := status.Code(got.Err); code != c.want || status.Convert(got.Err).Message() == "" {
				t.Errorf("%s, %s: got %v, want %v", name, kind.Method, got.Err, c.want)
			}
		}
		if n := app.Calls() - before; n != 0 {
			t.Errorf("%s: %d calls reached the app", name, n)
		}
	}
}

// An app that is away or breaks off is UNAVAILABLE, never a success and never a hung call.
func TestGRPCAppThatIsAway(t *testing.T) {
	listener := refusingAddress(t)
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["http://`+listener+`"], upstream_protocol: h2c, access: { groups: [staff] } }
`, "")
	s.Start(t)
	conn, cookie := dialGRPC(t, s, "wiki"), grpcSession(t, s, "wiki", "ada", "staff")
	for _, kind := range grpcapp.Kinds {
		ctx, cancel := context.WithTimeout(as(t.Context(), cookie), 2*time.Minute)
		got := grpcapp.Call(ctx, conn, kind, grpcapp.Wish{ID: "x"}, []byte("one"))
		cancel()
		if code := status.Code(got.Err); code != codes.Unavailable {
			t.Errorf("%s: got %v", kind.Method, got.Err)
		}
		if text := fmt.Sprint(got.Err); strings.Contains(text, listener) {
			t.Errorf("%s: the status names the address: %s", kind.Method, text)
		}
	}
}

// Messages pass one by one in both directions at once, none waits for the next, and large ones pass whole.
func TestGRPCTalksInBothDirections(t *testing.T) {
	s, _ := grpcStand(t)
	conn, cookie := dialGRPC(t, s, "wiki"), grpcSession(t, s, "wiki", "ada", "staff")
	ctx, cancel := context.WithTimeout(as(t.Context(), cookie), time.Minute)
	defer cancel()
	stream, err := grpcapp.Open(ctx, conn, talk, grpcapp.Wish{ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		mustEcho(t, stream, bytes.Repeat([]byte{byte(i)}, i*37))
	}
	for range 5 {
		mustEcho(t, stream, bytes.Repeat([]byte("large"), 700_000)) // under grpc-go's 4 MiB
	}
	stream.CloseSend()
	if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err != io.EOF {
		t.Errorf("the call ended with %v", err)
	}
}

// talk is the kind of call in which both sides stream.
var talk = grpcapp.Kinds[3]

func mustEcho(t *testing.T, stream grpc.ClientStream, message []byte) {
	t.Helper()
	var reply wrapperspb.BytesValue
	if err := stream.SendMsg(wrapperspb.Bytes(message)); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&reply); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(reply.Value, message) {
		t.Fatalf("%d bytes came back as %d", len(message), len(reply.Value))
	}
}

// A client that leaves, or whose deadline passes, leaves nothing behind at the app.
func TestGRPCClientsThatLeave(t *testing.T) {
	s, app := grpcStand(t)
	conn, cookie := dialGRPC(t, s, "wiki"), grpcSession(t, s, "wiki", "ada", "staff")
	for _, kind := range grpcapp.Kinds {
		ctx, cancel := context.WithCancel(as(t.Context(), cookie))
		ended := make(chan error, 1)
		go func() {
			ended <- grpcapp.Call(ctx, conn, kind, grpcapp.Wish{ID: "x", Wait: true}, []byte("one")).Err
		}()
		harness.Eventually(t, 2*time.Minute, "the call to arrive", func() bool { return app.Open() == 1 })
		cancel()
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Errorf("%s: ended with %v", kind.Method, err)
		}
		harness.Eventually(t, 2*time.Minute, kind.Method+" to end at the app", func() bool { return app.Open() == 0 })
		ctx, cancel = context.WithTimeout(as(t.Context(), cookie), 200*time.Millisecond)
		if got := grpcapp.Call(ctx, conn, kind, grpcapp.Wish{ID: "x", Wait: true}, []byte("one")); status.Code(got.Err) != codes.DeadlineExceeded {
			t.Errorf("%s: past its deadline it ended with %v", kind.Method, got.Err)
		}
		cancel()
		harness.Eventually(t, 2*time.Minute, kind.Method+" to end at the app", func() bool { return app.Open() == 0 })
	}
}

// Calls are decided and recorded like any request, each by itself, also on one connection.
func TestGRPCCallsAreAllOnRecord(t *testing.T) {
	s, _ := grpcStand(t)
	conn, cookie := dialGRPC(t, s, "wiki"), grpcSession(t, s, "wiki", "ada", "staff")
	const n = 50
	for i := range n {
		if got := grpcapp.Call(as(t.Context(), cookie), conn, talk, wrong(i, grpcapp.Wish{ID: "x"}), []byte("one")); got.Err == nil {
			t.Fatal("a failing call succeeded")
		}
	}
	path := "/sallyport.test.Echo/Talk"
	var list []audit.Record
	harness.Eventually(t, 2*time.Minute, "all outcomes", func() bool {
		list = records(t, s)
		return count(list, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.BytesIn > 0 && r.Outcome.BytesOut > 0 }) >= n
	})
	decided := count(list, func(r audit.Record) bool {
		return r.Type == audit.TypeDecision && r.Effect == audit.Allow && bytes.Contains(r.Input, []byte(path))
	})
	if decided != n {
		t.Errorf("%d decisions for %d calls", decided, n)
	}
}
