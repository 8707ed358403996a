package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/gateway/canon"
	"sallyport/gateway/route"
	"sallyport/gateway/signin"
	"sallyport/gateway/upstream"
)

// relaxedTargets are spellings below /r/ as clients send them, and as everybody reads them from then on.
var relaxedTargets = map[string]string{
	"/r/group%2fproject/issues?a=1;b=2": "/r/group%2Fproject/issues",
	"/r/100%25":                         "/r/100%25",
	"/r/job/feature%252Flogin":          "/r/job/feature%252Flogin",
	"/r/a//b//":                         "/r/a//b//",
	"/r/page;v=1/%c3%bc%20x":            "/r/page;v=1/%C3%BC%20x",
	"/r/a%3Bb":                          "/r/a%3Bb",
}

// A relaxed spelling is one text for the record, the app and the way back from the sign-in, whatever carries it.
func TestRelaxedSpellingsReachTheAppAsDecided(t *testing.T) {
	for name, edit := range map[string]func(*route.App){
		"lean":     func(a *route.App) { a.UpstreamTransport = route.TransportLean },
		"standard": func(a *route.App) { a.UpstreamTransport = route.TransportStandard },
		"h2c":      func(a *route.App) { a.UpstreamProtocol = upstream.ProtocolH2C },
		"stripped": func(a *route.App) { a.StripPrefix = "/r" },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, nil)
			asked := make(chan string, 1)
			app := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.RequestURI }))
			app.Config.Protocols = new(http.Protocols)
			app.Config.Protocols.SetHTTP1(true)
			app.Config.Protocols.SetUnencryptedHTTP2(true)
			app.Start()
			t.Cleanup(app.Close)
			relaxing := wiki(t, app.URL, "staff")
			relaxing.Relax = []canon.Relaxation{{Paths: []canon.Folder{"/r/"},
				Allow: []canon.Spelling{canon.EncodedSlash, canon.DoubleSlash, canon.PathSemicolon, canon.Percent, canon.SemicolonInQuery}}}
			edit(&relaxing)
			b.server.Swap(snapshot(t, relaxing))
			conn := b.dial(t)
			answers := bufio.NewReader(conn)
			for target, escaped := range relaxedTargets {
				path, query, _ := strings.Cut(target, "?")
				if query != "" {
					query = "?" + query
				}
				if res := askRaw(t, conn, answers, path+query, "Cookie: __Host-sallyport=ada\r\n"); res.StatusCode != 200 {
					t.Fatalf("%s: status %d", target, res.StatusCode)
				}
				if got, want := <-asked, strings.TrimPrefix(escaped, relaxing.StripPrefix)+query; got != want {
					t.Errorf("%s: the app was asked for %s, want %s", target, got, want)
				}
				if back := escaped + query; signin.Target(back) != back {
					t.Errorf("%s: the sign-in returns to %q", target, signin.Target(back))
				}
			}
			for _, hostile := range []string{"/r/..%2fadmin", "/r/%252e%252e/admin", "/r/..;/admin", "/r/x%2f..%2f..%2fadmin", "/s/a%2fb", "/r%2fb", "//r/"} {
				if res := askRaw(t, conn, answers, hostile, "Cookie: __Host-sallyport=ada\r\n"); res.StatusCode != 400 {
					t.Errorf("%s: status %d, want 400", hostile, res.StatusCode)
				}
			}
			if len(asked) > 0 {
				t.Errorf("the app was asked for %s", <-asked)
			}
		})
	}
}

// askRaw sends a GET as it is and returns the answer, without its body.
func askRaw(t *testing.T, conn io.Writer, answers *bufio.Reader, target, fields string) *http.Response {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, wikiHost, fields); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}

// A limit of limits.request holds for the requests that begin after the reload which sets it.
func TestRequestLimitsChangeWithASwap(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	many := "/?" + strings.Repeat("a&", 20)
	if status, _ := b.get(t, many); status != 200 {
		t.Fatalf("status %d with the defaults", status)
	}
	next := snapshot(t, wiki(t, b.origin, "staff"))
	next.Requests = canon.Limits{Params: 16}
	if err := next.Connect(nil, Behind{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Retire(&Snapshot{}) })
	b.server.Swap(next)
	if status, _ := b.get(t, many); status != http.StatusBadRequest {
		t.Errorf("status %d with a limit of 16 parameters, want 400", status)
	}
	if list := b.log.of(audit.TypeDecision); list[len(list)-1].Reason != string(canon.TooManyParams) {
		t.Errorf("recorded as %s", list[len(list)-1].Reason)
	}
}
