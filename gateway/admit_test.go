package gateway

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/audit"
)

// What browsers send of themselves is served: characters they leave as they are in paths and queries, cookies with bytes
// that are no cookie's, ports and capitals in Host.
func TestOrdinaryRequestsOfBrowsersAreServed(t *testing.T) {
	asked := make(chan string, 1)
	b := newBed(t, func(_ http.ResponseWriter, r *http.Request) { asked <- r.RequestURI })
	conn := b.dial(t)
	answers := bufio.NewReader(conn)
	const cookie = "Cookie: __Host-sallyport=ada"
	for _, row := range []struct{ id, head, forwarded string }{
		{"quotes and brackets in the path", "GET /a'b|c[0]{1}^`\" HTTP/1.1\r\nHost: wiki.corp.test", "/a'b%7Cc%5B0%5D%7B1%7D%5E%60%22"},
		{"the same in the query", "GET /?q='|[]{}^`\"\\<>*!~()&&=&a[]=1&a[]=2&u=https://x.test/?y HTTP/1.1\r\nHost: wiki.corp.test", "/?q='|[]{}^`\"\\<>*!~()&&=&a[]=1&a[]=2&u=https://x.test/?y"},
		{"escapes in the query", "GET /?q=%E6%9D%B1%20%25%3B%00+x HTTP/1.1\r\nHost: wiki.corp.test", "/?q=%E6%9D%B1%20%25%3B%00+x"},
		{"empty query", "GET /x? HTTP/1.1\r\nHost: wiki.corp.test", "/x"},
		{"a port and capitals", "GET /x HTTP/1.1\r\nHost: WIKI.corp.test:8443", "/x"},
		{"odd cookies", "GET /x HTTP/1.1\r\nHost: wiki.corp.test\r\nCookie: j={\"a\":[1,2]}; b=\xe4\xb8\xad; =c; d; e=\"x y\", z", "/x"},
		{"bytes beyond ASCII in a field", "GET /x HTTP/1.1\r\nHost: wiki.corp.test\r\nX-Name: J\xc3\xbcrgen \xfc", "/x"},
		{"settings that ask to upgrade", "GET /x HTTP/1.1\r\nHost: wiki.corp.test\r\nUpgrade-Insecure-Requests: 1\r\nTE: trailers\r\nDNT: 1\r\nPriority: u=0, i", "/x"},
		{"no length of a body that is none", "GET /x HTTP/1.1\r\nHost: wiki.corp.test\r\nContent-Length: 0", "/x"},
	} {
		io.WriteString(conn, row.head+"\r\n"+cookie+"\r\n\r\n")
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("%s: %v", row.id, err)
		}
		io.Copy(io.Discard, res.Body)
		if res.StatusCode != 200 {
			t.Fatalf("%s: status %d", row.id, res.StatusCode)
		}
		if got := <-asked; got != row.forwarded {
			t.Errorf("%s: the app was asked for %s, want %s", row.id, got, row.forwarded)
		}
	}
}

// What leaves doubt reaches no app, through net/http as it is.
func TestDoubtfulRequestsReachNoApp(t *testing.T) {
	var asked atomic.Int64
	b := newBed(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	const host = "\r\nHost: wiki.corp.test"
	for _, row := range []struct{ id, head string }{
		{"PATH-15", "GET /x#/y HTTP/1.1" + host},
		{"PATH-31", "GET https://wiki.corp.test/x HTTP/1.1" + host},
		{"PATH-31 another authority", "GET https://other.corp.test/x HTTP/1.1" + host},
		{"PATH-33", "GET x HTTP/1.1" + host},
		{"METH-01", "TRACE /x HTTP/1.1" + host},
		{"METH-02", "CONNECT 127.0.0.1:22 HTTP/1.1" + host},
		{"METH-14", "GET  /x HTTP/1.1" + host},
		{"METH-14 at the end", "GET /x HTTP/1.1 " + host},
		{"a tab", "GET\t/x HTTP/1.1" + host},
		{"lower-case method", "get /x HTTP/1.1" + host},
		{"HTTP/1.0", "GET /x HTTP/1.0" + host},
		{"HTTP/1.2", "GET /x HTTP/1.2" + host},
		{"HTTP/2 by name", "GET /x HTTP/2.0" + host},
		{"HDR-21", "GET /x HTTP/1.1" + host + "\r\nX-A: a\x00b"},
		{"HDR-21 bare CR", "GET /x HTTP/1.1" + host + "\r\nX-A: a\rb"},
		{"HDR-21 escape", "GET /x HTTP/1.1" + host + "\r\nX-A: a\x1bb"},
		{"HDR-23", "GET /x HTTP/1.1" + host + "\r\nX-A : a"},
		{"HDR-25", "GET /x HTTP/1.1" + host + "\r\n: a"},
		{"no colon", "GET /x HTTP/1.1" + host + "\r\nX-A"},
		{"a name with a control byte", "GET /x HTTP/1.1" + host + "\r\nX\x01A: b"},
		{"folding before any field", "GET /x HTTP/1.1\r\n X-A: b" + host},
		{"HOST-01", "GET /x HTTP/1.1"},
		{"HOST-02", "GET /x HTTP/1.1" + host + host},
		{"HOST-08", "GET /x HTTP/1.1\r\nHost: wiki.corp.test@evil.example"},
		{"HOST-10", "GET /x HTTP/1.1\r\nHost: wiki.corp.test, other"},
		{"HOST-14", "GET /x HTTP/1.1\r\nHost: other.corp.test"},
		{"final dot", "GET /x HTTP/1.1\r\nHost: wiki.corp.test."},
		{"port out of range", "GET /x HTTP/1.1\r\nHost: wiki.corp.test:65536"},
		{"empty Host", "GET /x HTTP/1.1\r\nHost:"},
		{"SMUG-03", "POST /x HTTP/1.1" + host + "\r\nTransfer-Encoding: xchunked\r\nContent-Length: 5"},
		{"SMUG-05", "POST /x HTTP/1.1" + host + "\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity"},
		{"SMUG-10", "POST /x HTTP/1.1" + host + "\r\nTransfer-Encoding: chunked, gzip"},
		{"chunked twice", "POST /x HTTP/1.1" + host + "\r\nTransfer-Encoding: chunked, chunked"},
		{"identity", "POST /x HTTP/1.1" + host + "\r\nTransfer-Encoding: identity"},
		{"SMUG-12", "POST /x HTTP/1.1" + host + "\r\nContent-Length: 0\r\nContent-Length: 1"},
		{"a list of lengths", "POST /x HTTP/1.1" + host + "\r\nContent-Length: 0, 0"},
		{"SMUG-14", "POST /x HTTP/1.1" + host + "\r\nContent-Length: +0"},
		{"leading zeros", "POST /x HTTP/1.1" + host + "\r\nContent-Length: 00"},
		{"negative", "POST /x HTTP/1.1" + host + "\r\nContent-Length: -1"},
		{"hexadecimal", "POST /x HTTP/1.1" + host + "\r\nContent-Length: 0x0"},
		{"SMUG-16", "POST /x HTTP/1.1" + host + "\r\nContent-Length:"},
		{"SMUG-37", "GET /x HTTP/1.1" + host + "\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"},
		{"expectation", "POST /x HTTP/1.1" + host + "\r\nContent-Length: 0\r\nExpect: 200-ok"},
		{"announced trailer", "POST /x HTTP/1.1" + host + "\r\nTransfer-Encoding: chunked\r\nTrailer: X-A"},
		{"two types", "POST /x HTTP/1.1" + host + "\r\nContent-Length: 0\r\nContent-Type: a/b\r\nContent-Type: c/d"},
	} {
		conn := b.dial(t)
		io.WriteString(conn, row.head+"\r\nCookie: __Host-sallyport=ada\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil && res.StatusCode < 400 {
			t.Errorf("%s: status %d", row.id, res.StatusCode)
		}
		conn.Close()
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the app was asked %d times", n)
	}
}

// A connection without a server name is nobody's: HOST-14 from the other side.
func TestConnectionWithoutANameIsMisdirected(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	conn, err := tls.Dial("tcp", b.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if res := askRaw(t, conn, bufio.NewReader(conn), "/x", "Cookie: __Host-sallyport=ada\r\n"); res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("status %d", res.StatusCode)
	}
}

// INJ-08: what is kept of a refused request is short and printable, whatever it held, and no query.
func TestRefusedRequestIsRecordedCappedAndEscaped(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
	conn := b.dial(t)
	askRaw(t, conn, bufio.NewReader(conn), "/\"\xe2\x80\xae%1b[31m/../"+strings.Repeat("x", 8000)+"?token=s3cret", "")
	record := b.log.one(t, audit.TypeDecision)
	var kept struct{ Target, Why string }
	if err := json.Unmarshal(record.Detail, &kept); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"target": kept.Target, "why": kept.Why} {
		if len(text) > 4200 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Contains(text, "s3cret") {
			t.Errorf("%s holds %d bytes: %.100q", name, len(text), text)
		}
	}
	if !strings.HasPrefix(kept.Target, `/\"\u202e%1b[31m/../x`) {
		t.Errorf("target is %.60q", kept.Target)
	}
}
