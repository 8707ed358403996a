package rawhttp

import (
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"testing"
)

// careless is the gateway that many people write first: a session check and a path prefix in front of
// httputil.ReverseProxy with a Director.
func careless(t *testing.T, origin *Origin) Target {
	upstream, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 the deprecated way is the mistake that this gateway makes
	proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Director: func(r *http.Request) {
		r.URL.Scheme, r.URL.Host = upstream.Scheme, upstream.Host
		others := r.Cookies()
		r.Header.Del("Cookie")
		for _, c := range others {
			if c.Name != "__Host-sallyport" {
				r.AddCookie(c)
			}
		}
		for _, name := range []string{"X-Sallyport-User", "X-Sallyport-Email", "X-Sallyport-Groups", "X-Sallyport-Assertion", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port"} {
			r.Header.Set(name, "gateway")
		}
		r.Header.Del("X-Forwarded-For")
	}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("__Host-sallyport")
		switch {
		case err != nil || cookie.Value != "ada" && cookie.Value != "bob":
			w.WriteHeader(http.StatusUnauthorized)
		case !strings.HasPrefix(path.Clean(r.URL.Path)+"/", "/app/"):
			w.WriteHeader(http.StatusForbidden)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return Target{
		Dialer: Dialer{Address: server.Listener.Addr().String(), Roots: roots}, Origin: origin,
		Host: "app.example.com:" + port, Other: "other.example.com:" + port, Auth: "auth.example.com:" + port,
		Session: "ada", OtherSession: "ada", Neighbour: "bob",
	}
}

// TestCasesFindTheFaultsOfACarelessGateway: a row that nothing can fail would prove nothing.
func TestCasesFindTheFaultsOfACarelessGateway(t *testing.T) {
	target := careless(t, NewOrigin(t))
	rows := map[string][]Case{}
	for _, c := range Cases() {
		rows[c.ID] = append(rows[c.ID], c)
	}
	if found := target.fault(rows["allowed"]); found != "" {
		t.Errorf("an ordinary request through an ordinary gateway: %s", found)
	}
	// What the default parts of Go leave open.
	for _, id := range []string{"PATH-03", "PATH-05", "PATH-07", "PATH-10", "PATH-11", "PATH-24", "PATH-26", "PATH-31", "PATH-43", "INJ-05", "wide", "overlong UTF-8", "control", "NUL",
		"HDR-01", "HDR-02", "HDR-03", "HDR-06", "HDR-09", "HDR-11", "HDR-12", "HDR-13", "HDR-30", "HDR-31",
		"SMUG-01", "SMUG-29", "SMUG-37", "SMUG-39", "HTTP/1.0", "H2-12", "H2-21", "H2-22", "H2-25",
		"HOST-03", "HOST-14", "METH-06", "METH-07", "COOK-06", "COOK-13", "COOK-18", "DOS-10", "DOS-11"} {
		if target.fault(rows[id]) == "" {
			t.Errorf("%s finds nothing wrong with a careless gateway", id)
		}
	}
	// What net/http's own parser withstands.
	for _, id := range []string{"SMUG-03", "SMUG-04", "SMUG-05", "SMUG-10", "SMUG-12", "SMUG-14", "SMUG-16", "HDR-21", "HDR-23",
		"H2-06", "H2-07", "H2-13", "H2-19", "TLS-05"} {
		if found := target.fault(rows[id]); found != "" {
			t.Errorf("%s finds a fault in net/http's parser: %s", id, found)
		}
	}
}

// fault is the first thing that cases find, sent with the session, or empty.
func (target Target) fault(cases []Case) string {
	for _, c := range cases {
		if c.Anonymous {
			continue
		}
		if found := target.Try(c, true).Findings; len(found) > 0 {
			return c.Name + ": " + found[0]
		}
	}
	return ""
}

func TestOriginKeepsExactBytes(t *testing.T) {
	origin := NewOrigin(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(origin.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first := "POST /a HTTP/1.1\r\nHost: x\r\nx-ODD:  y \r\nTransfer-Encoding: chunked\r\n\r\n1;ext\r\nz\r\n0\r\n\r\n"
	second := "GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
	origin.AnswerOnce("HTTP/1.1 204 No Content\r\n\r\n")
	io.WriteString(conn, first+second+"garbage\r\n\r\n")
	answers, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if want := "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 15\r\n\r\nGET /b HTTP/1.1"; string(answers) != want {
		t.Errorf("answers are %q", answers)
	}
	got := origin.Received()
	if len(got) != 3 || got[0].Raw != first || got[1].Raw != second || got[2].Raw != "garbage\r\n\r\n" || got[2].Request != nil {
		t.Errorf("received %q", got)
	}
}
