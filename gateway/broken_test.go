package gateway

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/gateway/cache"
)

// A small answer that breaks off is broken off, so that nobody takes a part of it for all.
func TestSmallAnswerThatBreaksOffIsNone(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na part")
		conn.Close()
	})
	for n, protocol := range []string{"http/1.1", "h2"} {
		res, err := b.client(t, protocol).Do(b.request(t, "POST", "/page", "ada", nil))
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: the answer ended well", protocol)
		}
		eventually(t, "the outcome", func() bool { return strings.Count(b.printed.String(), "msg=request") == n+1 })
	}
	if o := b.log.one(t, audit.TypeOutcome); o.Outcome.Error != "upstream_broke_off" {
		t.Errorf("outcome: %+v", o.Outcome)
	}
}

// What no address got is not forwarded, and its record says so.
func TestRefusedConnectionsAreNotForwarded(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	b := newBed(t, nil)
	b.server.Swap(snapshot(t, wiki(t, "http://"+closed.Addr().String(), "staff")))
	if status, _ := b.get(t, "/page"); status != http.StatusBadGateway {
		t.Errorf("got %d, want 502", status)
	}
	if o := b.log.one(t, audit.TypeOutcome); o.Outcome.Error != audit.NotForwarded || o.Reason != "upstream_failed" {
		t.Errorf("outcome: %+v %s", o.Outcome, o.Reason)
	}
}

// Where the operator says that answers depend on nobody, the app is told nothing by which people could be told apart.
func TestIdentityFreePathsNameNobody(t *testing.T) {
	seen := make(chan http.Header, 1)
	b := newBed(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	app := wiki(t, b.origin, "staff")
	app.Cache = cache.Rules{IdentityFree: true}
	b.server.Swap(snapshot(t, app))
	r := b.request(t, "GET", "/page", "ada", nil)
	r.Header.Set("Authorization", "Bearer the app's")
	r.AddCookie(&http.Cookie{Name: "app", Value: "ada's"})
	answerTo(t, b.client(t, "http/1.1"), r)
	header := <-seen
	for name := range header {
		if strings.HasPrefix(name, "X-Sallyport-") || name == "Cookie" || name == "Authorization" || name == "X-Forwarded-For" {
			t.Errorf("the app was told %s: %s", name, header.Get(name))
		}
	}
}
