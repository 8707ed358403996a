package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"
)

// written is what a request looks like on the wire, or why it is refused.
func written(req *http.Request) (string, error) {
	mem := newMemConn(strings.NewReader("HTTP/1.1 204 x\r\n\r\n"))
	lean := &Transport{Dial: mem.dial}
	_, err := lean.RoundTrip(req)
	return mem.written.String(), err
}

// byNetHTTP is the same by net/http.
func byNetHTTP(req *http.Request) (string, error) {
	var b bytes.Buffer
	err := req.Write(&b)
	return b.String(), err
}

// read is a request as the app reads it.
type read struct {
	Method, Target, Host string
	Header               http.Header
	Length               int64
	Body, Rest           string
}

func readBack(t testing.TB, wire string) read {
	t.Helper()
	br := bufio.NewReader(strings.NewReader(wire))
	r, err := http.ReadRequest(br)
	if err != nil {
		t.Fatalf("%q cannot be read: %v", wire, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(br)
	return read{r.Method, r.RequestURI, r.Host, r.Header, r.ContentLength, string(body), string(rest)}
}

func TestRequestsAreWrittenLikeNetHTTPDoes(t *testing.T) {
	for name, change := range map[string]func(r *http.Request){
		"GET":                 func(*http.Request) {},
		"no method":           func(r *http.Request) { r.Method = "" },
		"own method":          func(r *http.Request) { r.Method = "PROPFIND" },
		"HEAD":                func(r *http.Request) { r.Method = "HEAD" },
		"POST without body":   func(r *http.Request) { r.Method = "POST" },
		"PUT with NoBody":     func(r *http.Request) { r.Method, r.Body = "PUT", http.NoBody },
		"PATCH without body":  func(r *http.Request) { r.Method = "PATCH" },
		"DELETE without body": func(r *http.Request) { r.Method = "DELETE" },
		"POST":                func(r *http.Request) { r.Method = "POST"; setBody(r, "hello") },
		"GET with body":       func(r *http.Request) { setBody(r, "hello") },
		"body of 64 KiB":      func(r *http.Request) { r.Method = "POST"; setBody(r, strings.Repeat("x", maxBody)) },
		"no path":             func(r *http.Request) { r.URL = &url.URL{Scheme: "http", Host: "app.example"} },
		"escaped path":        func(r *http.Request) { r.URL = &url.URL{Path: "/a b/ü%", RawQuery: "q=a+b%20&c"} },
		"raw path":            func(r *http.Request) { r.URL = &url.URL{Path: "/a/b", RawPath: "/a%2Fb"} },
		"raw path that lies":  func(r *http.Request) { r.URL = &url.URL{Path: "/a/b", RawPath: "/c"} },
		"two slashes":         func(r *http.Request) { r.URL = &url.URL{Path: "//evil.example/"} },
		"empty query":         func(r *http.Request) { r.URL = &url.URL{Path: "/a", ForceQuery: true} },
		"fragment":            func(r *http.Request) { r.URL = &url.URL{Path: "/a", Fragment: "b"} },
		"asterisk":            func(r *http.Request) { r.Method, r.URL = "OPTIONS", &url.URL{Path: "*"} },
		"host of the URL":     func(r *http.Request) { r.Host = "" },
		"host with port":      func(r *http.Request) { r.Host = "wiki.corp.example:8443" },
		"host in IPv6":        func(r *http.Request) { r.Host = "[2001:db8::1]:80" },
		"host with zone":      func(r *http.Request) { r.Host = "[fe80::1%25en0]:80" },
		"host in Unicode":     func(r *http.Request) { r.Host = "zürich.example" },
		"fields": func(r *http.Request) {
			r.Header = http.Header{"X-A": {"1", "2"}, "Accept": {"*/*"}, "X-Empty": {""}, "X-None": nil}
		},
		"white space":             func(r *http.Request) { r.Header.Set("X-A", " \t b c\t ") },
		"obsolete text":           func(r *http.Request) { r.Header.Set("X-A", "\xe4\xff") },
		"user agent":              func(r *http.Request) { r.Header["User-Agent"] = []string{"one", "two"} },
		"user agent with space":   func(r *http.Request) { r.Header.Set("User-Agent", " one ") },
		"fields said elsewhere":   func(r *http.Request) { r.Header = http.Header{"Host": {"evil"}, "Content-Length": {"99"}} },
		"names that are not ours": func(r *http.Request) { r.Header = http.Header{"x-lower": {"1"}, "X_Y": {"2"}} },
	} {
		t.Run(name, func(t *testing.T) {
			req := func() *http.Request {
				r := request(t, "GET", "/a?b=c", "")
				r.Header = http.Header{"User-Agent": {""}}
				change(r)
				if _, set := r.Header["User-Agent"]; !set {
					r.Header["User-Agent"] = []string{""}
				}
				if r.URL.Host == "" {
					r.URL.Scheme, r.URL.Host = "http", "app.example"
				}
				return r
			}
			got, err := written(req())
			if err != nil {
				t.Fatal(err)
			}
			want, err := byNetHTTP(req())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(readBack(t, want), readBack(t, got)); diff != "" {
				t.Errorf("net/http (-), http1 (+):\n%s", diff)
			}
			if strings.Contains(strings.ToLower(got), "connection:") {
				t.Errorf("says something about the connection: %q", got)
			}
		})
	}
}

func setBody(r *http.Request, body string) {
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	r.ContentLength = int64(len(body))
}

func TestUserAgentIsNeverMadeUp(t *testing.T) {
	if got, err := written(request(t, "GET", "/", "")); err != nil || strings.Contains(got, "User-Agent") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRequestsThatCouldBeMisreadAreRefused(t *testing.T) {
	for name, change := range map[string]func(r *http.Request){
		"no URL":                   func(r *http.Request) { r.URL = nil },
		"method with space":        func(r *http.Request) { r.Method = "GET /evil" },
		"method with line":         func(r *http.Request) { r.Method = "GET\r\nX: y" },
		"CONNECT":                  func(r *http.Request) { r.Method = "CONNECT" },
		"query with space":         func(r *http.Request) { r.URL.RawQuery = "a b" },
		"query with line":          func(r *http.Request) { r.URL.RawQuery = "a\r\nX: y" },
		"query with fragment":      func(r *http.Request) { r.URL.RawQuery = "a#b" },
		"query with DEL":           func(r *http.Request) { r.URL.RawQuery = "a\x7f" },
		"query not ASCII":          func(r *http.Request) { r.URL.RawQuery = "ä" },
		"relative path":            func(r *http.Request) { r.URL.Path = "a" },
		"absolute target":          func(r *http.Request) { r.URL.Opaque = "//evil.example/a" },
		"opaque with line":         func(r *http.Request) { r.URL.Opaque = "/a HTTP/1.1\r\nX: y" },
		"asterisk":                 func(r *http.Request) { r.URL.Path = "*" },
		"no host":                  func(r *http.Request) { r.Host, r.URL.Host = "", "" },
		"host with line":           func(r *http.Request) { r.Host = "a\r\nX: y" },
		"host with path":           func(r *http.Request) { r.Host = "a/b" },
		"host with space":          func(r *http.Request) { r.Host = "a b" },
		"name with line":           func(r *http.Request) { r.Header["X\r\nY"] = []string{"a"} },
		"name with colon":          func(r *http.Request) { r.Header["X: y"] = []string{"a"} },
		"name with space":          func(r *http.Request) { r.Header["Content-Length "] = []string{"5"} },
		"no name":                  func(r *http.Request) { r.Header[""] = []string{"a"} },
		"value with line":          func(r *http.Request) { r.Header["X"] = []string{"a\r\nY: b"} },
		"value with LF":            func(r *http.Request) { r.Header["X"] = []string{"a\n"} },
		"value with CR":            func(r *http.Request) { r.Header["X"] = []string{"a\rb"} },
		"value with NUL":           func(r *http.Request) { r.Header["X"] = []string{"a", "a\x00b"} },
		"agent with line":          func(r *http.Request) { r.Header["User-Agent"] = []string{"a\r\nY: b"} },
		"host in other spelling":   func(r *http.Request) { r.Header["host"] = []string{"evil"} },
		"length in other spelling": func(r *http.Request) { r.Header["CONTENT-length"] = []string{"5"} },
		"agent in other spelling":  func(r *http.Request) { r.Header["user-Agent"] = []string{"5"} },
		"encoding":                 func(r *http.Request) { r.Header["Transfer-Encoding"] = []string{"chunked"} },
		"encoding in lower case":   func(r *http.Request) { r.Header["transfer-encoding"] = []string{"chunked"} },
		"encoding of the request":  func(r *http.Request) { r.TransferEncoding = []string{"chunked"} },
		"connection":               func(r *http.Request) { r.Header["Connection"] = []string{"keep-alive"} },
		"connection in lower case": func(r *http.Request) { r.Header["connection"] = []string{"close"} },
		"keep-alive":               func(r *http.Request) { r.Header["Keep-Alive"] = []string{"timeout=5"} },
		"proxy-connection":         func(r *http.Request) { r.Header["proxy-connection"] = []string{"close"} },
		"upgrade":                  func(r *http.Request) { r.Header["Upgrade"] = []string{"h2c"} },
		"expect":                   func(r *http.Request) { r.Header["Expect"] = []string{"100-continue"} },
		"te":                       func(r *http.Request) { r.Header["te"] = []string{"trailers"} },
		"trailer":                  func(r *http.Request) { r.Header["Trailer"] = []string{"X"} },
		"trailers":                 func(r *http.Request) { r.Trailer = http.Header{"X": nil} },
		"close":                    func(r *http.Request) { r.Close = true },
		"length without body":      func(r *http.Request) { r.ContentLength = 5 },
		"length -1 without body":   func(r *http.Request) { r.ContentLength = -1 },
		"body of unknown length":   func(r *http.Request) { setBody(r, "hello"); r.ContentLength = -1 },
		"body of length 0":         func(r *http.Request) { setBody(r, "hello"); r.ContentLength = 0 },
		"body that is not at hand": func(r *http.Request) { setBody(r, "hello"); r.GetBody = nil },
		"large body":               func(r *http.Request) { setBody(r, strings.Repeat("x", maxBody+1)) },
		"body longer than it says": func(r *http.Request) { setBody(r, "hello"); r.ContentLength = 4 },
		"body shorter than it is":  func(r *http.Request) { setBody(r, "hello"); r.ContentLength = 6 },
	} {
		req := request(t, "GET", "/a", "")
		change(req)
		body := &closable{ReadCloser: req.Body}
		if req.Body != nil {
			req.Body = body
		}
		got, err := written(req)
		if err == nil || stageOf(t, err) != Unsent || got != "" {
			t.Errorf("%s: %v; written was %q", name, err, got)
		}
		if req.Body != nil && !body.closed {
			t.Errorf("%s: the body is left open", name)
		}
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: the error has lines: %v", name, err)
		}
	}
}

type closable struct {
	io.ReadCloser
	closed bool
}

func (c *closable) Close() error { c.closed = true; return c.ReadCloser.Close() }

func TestBodyThatFailsIsTheCallersError(t *testing.T) {
	req := request(t, "POST", "/", "hello")
	tooLarge := &http.MaxBytesError{Limit: 3}
	req.Body = io.NopCloser(io.MultiReader(strings.NewReader("hel"), failingReader{tooLarge}))
	got, err := written(req)
	if found, is := errors.AsType[*http.MaxBytesError](err); !is || found != tooLarge || got != "" || stageOf(t, err) != Unsent {
		t.Errorf("%v; written was %q", err, got)
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestRequestIsNotChanged(t *testing.T) {
	req := request(t, "POST", "/a?b", "hello")
	req.Header.Set("X", " y ")
	before := req.Clone(t.Context())
	if _, err := written(req); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.Header, req.Header); diff != "" || *before.URL != *req.URL || before.Method != req.Method || before.Host != req.Host {
		t.Error("the request was changed", diff)
	}
}

// FuzzRequest: what is written reads back as what was meant, and as what net/http writes; nothing is left over.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/a/b", "", "q=1", "wiki.corp.example", "X-A", "b", "")
	f.Add("POST", "/a b", "/a%20b", "", "[::1]:80", "Content-Type", "text/plain", "hello")
	f.Add("GET", "/", "", "a b\r\n", "a\r\nb", "Transfer-Encoding", "chunked", "0\r\n\r\n")
	f.Add("OPTIONS", "*", "", "", "zürich.example", "content-length", "5", "")
	f.Add("PUT", "//x", "", "#", "[fe80::1%25a]:1", "User-Agent", " x\t", "")
	f.Fuzz(func(t *testing.T, method, path, rawPath, query, host, name, value, body string) {
		build := func() *http.Request {
			r := &http.Request{Method: method, Host: host, URL: &url.URL{Scheme: "http", Host: "app.example", Path: path, RawPath: rawPath, RawQuery: query},
				Header: http.Header{"User-Agent": {""}}}
			r.Header[name] = []string{value}
			if body != "" {
				setBody(r, body)
			}
			return r
		}
		wire, err := written(build())
		if err != nil {
			if wire != "" {
				t.Fatalf("refused (%v) after %q was written", err, wire)
			}
			return
		}
		req, got := build(), readBack(t, wire)
		if method == "" {
			method = "GET"
		}
		if got.Method != method || got.Target != req.URL.RequestURI() || got.Body != body || got.Rest != "" {
			t.Fatalf("%q reads as %+v", wire, got)
		}
		if !isOurs(name) {
			want := http.Header{http.CanonicalHeaderKey(name): {strings.Trim(value, " \t")}}
			if diff := cmp.Diff(want, withoutLength(got.Header)); diff != "" {
				t.Fatalf("%q:\n%s", wire, diff)
			}
		}
		standard, err := byNetHTTP(build())
		if err != nil {
			t.Fatalf("net/http refuses what was written as %q: %v", wire, err)
		}
		if diff := cmp.Diff(readBack(t, standard), got); diff != "" {
			t.Fatalf("net/http (-), http1 (+):\n%s", diff)
		}
		if !httpguts.ValidHostHeader(got.Host) {
			t.Fatalf("host %q", got.Host)
		}
	})
}

func withoutLength(h http.Header) http.Header {
	h = h.Clone()
	h.Del("Content-Length")
	return h
}
