package canon

import (
	"bufio"
	"crypto/tls"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

const host = "app.example.test"

// received is a request as net/http hands it to a handler: read from the wire, with what the connection adds.
func received(t testing.TB, wire string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		t.Fatalf("net/http refused %q: %v", wire, err)
	}
	r.TLS = &tls.ConnectionState{ServerName: host}
	return r
}

// get is an ordinary GET with more header lines.
func get(t testing.TB, target string, lines ...string) *http.Request {
	t.Helper()
	head := append([]string{"GET / HTTP/1.1", "Host: " + host}, lines...)
	r := received(t, strings.Join(head, "\r\n")+"\r\n\r\n")
	r.RequestURI = target
	return r
}

// strictRules relax nothing and have the default limits.
var strictRules = NewRules(Limits{}, nil)

func parse(r *http.Request, rules *Rules) (*Request, error) {
	return Parse(netip.MustParseAddrPort("192.0.2.7:40000"), r, rules)
}

// refusal parses and wants a Reject.
func refusal(t *testing.T, r *http.Request, want Reason) *Reject {
	t.Helper()
	q, err := parse(r, strictRules)
	if err == nil {
		t.Fatalf("accepted as %s %s?%s, want refused as %s", q.Method, q.EscapedPath, q.Query, want)
	}
	reject := err.(*Reject)
	if reject.Reason != string(want) {
		t.Fatalf("refused as %q, want %s", reject, want)
	}
	return reject
}

// accepted parses and wants no error.
func accepted(t testing.TB, r *http.Request) *Request {
	t.Helper()
	q, err := parse(r, strictRules)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return q
}

const browserRequest = "GET /app/tickets/4711?tab=history&page=2 HTTP/1.1\r\n" +
	"Host: app.example.test\r\n" +
	"Connection: keep-alive\r\n" +
	"sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n" +
	"sec-ch-ua-mobile: ?0\r\n" +
	"sec-ch-ua-platform: \"Linux\"\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
	"Sec-Fetch-Site: same-origin\r\n" +
	"Sec-Fetch-Mode: navigate\r\n" +
	"Sec-Fetch-User: ?1\r\n" +
	"Sec-Fetch-Dest: document\r\n" +
	"Referer: https://app.example.test/app/tickets\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en;q=0.9\r\n" +
	"Cookie: theme=dark; __Host-sallyport=Zm9vYmFyYmF6cXV4; csrftoken=8c1f\r\n" +
	"\r\n"

func TestBrowserRequestIsReadWhole(t *testing.T) {
	q := accepted(t, received(t, browserRequest))
	if q.Path != "/app/tickets/4711" || q.EscapedPath != q.Path || q.Query != "tab=history&page=2" {
		t.Errorf("target is %q %q ?%q", q.Path, q.EscapedPath, q.Query)
	}
	if len(q.Params()) != 2 || q.Params()[1] != (Param{"page", "2"}) {
		t.Errorf("params %q", q.Params())
	}
	if q.Host != host || q.Authority != host || q.SNI != host || q.Peer.String() != "192.0.2.7:40000" {
		t.Errorf("host %q, authority %q, sni %q, peer %v", q.Host, q.Authority, q.SNI, q.Peer)
	}
	if handle, ok := q.Handle(); !ok || handle != "Zm9vYmFyYmF6cXV4" {
		t.Errorf("handle is %q, %v", handle, ok)
	}
	if got := q.Header.Get("Cookie"); got != "theme=dark; csrftoken=8c1f" {
		t.Errorf("cookies for the app are %q", got)
	}
	if q.Header["Connection"] != nil || q.Header.Get("Referer") == "" {
		t.Errorf("header is %v", q.Header)
	}
	if navigation, framed := q.Navigation(); !navigation || framed {
		t.Errorf("navigation is %v, framed %v", navigation, framed)
	}
}

func BenchmarkParseBrowserRequest(b *testing.B) {
	r := received(b, browserRequest)
	peer := netip.MustParseAddrPort("192.0.2.7:40000")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(peer, r, strictRules); err != nil {
			b.Fatal(err)
		}
	}
}
