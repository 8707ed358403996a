package canon

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/gateway/headers"
)

func TestQueryIsForwardedAsDecided(t *testing.T) {
	for _, row := range []struct {
		id, query string
		want      Reason
	}{
		{"PATH-43 semicolon", "a=1;b=2&c=3", QuerySeparator},
		{"PATH-43 escape", "a=1&c=%zz", BadEscape},
		{"PATH-15", "a=1#/app/", TargetBytes},
		{"raw blank", "a=1 2", TargetBytes},
		{"raw control", "a=1\x01", TargetBytes},
		{"raw UTF-8", "q=東", TargetBytes},
		{"latin-1", "q=%e9", BadUTF8},
		{"DOS-11", strings.Repeat("a&", 10_000) + "hidden=1", TargetTooLong},
		{"DOS-11 within the length", strings.Repeat("a&", 1000) + "hidden=1", TooManyParams},
		{"long", "q=" + strings.Repeat("a", 8<<10), TargetTooLong},
	} {
		t.Run(row.id, func(t *testing.T) { refusal(t, get(t, "/app/q?"+row.query), row.want) })
	}
	q := accepted(t, get(t, "/app/q?text=a%0D%0Ab+c&&f[]=1&f[]=%3B&flag&=v&u=%E6%9D%B1?/"))
	if q.Query != "text=a%0D%0Ab+c&&f[]=1&f[]=%3B&flag&=v&u=%E6%9D%B1?/" {
		t.Errorf("query changed to %q", q.Query)
	}
	want := []Param{{"text", "a\r\nb c"}, {"f[]", "1"}, {"f[]", ";"}, {"flag", ""}, {"", "v"}, {"u", "東?/"}}
	if !slices.Equal(q.Params(), want) {
		t.Errorf("params are %q, want %q", q.Params(), want)
	}
}

func TestHostIsOneNameAndTheHandshakesName(t *testing.T) {
	for _, row := range []struct {
		id, host, sni string
		want          Reason
	}{
		{"HOST-01", "", host, BadAuthority},
		{"HOST-08", "app.example.test@evil.example", host, BadAuthority},
		{"HOST-10", "a, b", host, BadAuthority},
		{"HOST-14", "other.example.test", host, Misdirected},
		{"HOST-14 no sni", host, "", Misdirected},
		{"H2-25 path", "app.example.test/admin", host, BadAuthority},
		{"final dot", "app.example.test.", host, BadAuthority},
		{"empty label", "app..example.test", host, BadAuthority},
		{"address", "127.0.0.1", "", Misdirected},
		{"IPv6", "[::1]", "", BadAuthority},
		{"encoded", "app%2eexample.test", host, BadAuthority},
		{"port zero", "app.example.test:0", host, BadAuthority},
		{"port letters", "app.example.test:https", host, BadAuthority},
		{"empty port", "app.example.test:", host, BadAuthority},
		{"two ports", "app.example.test:1:2", host, BadAuthority},
		{"long port", "app.example.test:99999", host, BadAuthority},
		{"beyond ASCII", "äpp.example.test", host, BadAuthority},
		{"kelvin", "\u212aiosk.example.test", "kiosk.example.test", BadAuthority},
		{"long label", strings.Repeat("a", 64) + ".test", host, BadAuthority},
		{"long", strings.Repeat("a.", 127) + "test", host, BadAuthority},
	} {
		t.Run(row.id, func(t *testing.T) {
			r := get(t, "/")
			r.Host, r.TLS.ServerName = row.host, row.sni
			refusal(t, r, row.want)
		})
	}
	r := get(t, "/")
	r.Host, r.TLS.ServerName = "APP.example.test:8443", "App.Example.test"
	if q := accepted(t, r); q.Host != host || q.Authority != host+":8443" || q.SNI != host {
		t.Errorf("host %q, authority %q, sni %q", q.Host, q.Authority, q.SNI)
	}
}

func TestHTTP2RequestsAreOneMessage(t *testing.T) {
	for _, row := range []struct {
		id   string
		edit func(*http.Request)
		want Reason
	}{
		{"H2-21", func(r *http.Request) { r.Header["Host"] = []string{"other.example.test"} }, BadAuthority},
		{"two host fields", func(r *http.Request) { r.Header["Host"] = []string{host, host} }, BadAuthority},
		{"H2-22", func(r *http.Request) { r.Host = "other.example.test" }, Misdirected},
		{"H2-05", func(r *http.Request) { r.Header["Transfer-Encoding"] = []string{"chunked"} }, BadFraming},
		{"connection", func(r *http.Request) { r.Header["Connection"] = []string{"close"} }, BadFraming},
		{"H2-10", func(r *http.Request) { r.RequestURI = "admin/x" }, TargetForm},
		{"H2-12", func(r *http.Request) { r.RequestURI = "https://app.example.test/admin/x" }, TargetForm},
		{"H2-27", func(r *http.Request) { r.Method, r.RequestURI = "CONNECT", host }, MethodNotAllowed},
		{"scheme http", func(r *http.Request) { r.TLS = nil }, BadAuthority},
	} {
		t.Run(row.id, func(t *testing.T) {
			r := get(t, "/app/")
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
			row.edit(r)
			refusal(t, r, row.want)
		})
	}
	r := get(t, "/app/", "Host-Only: x")
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header["Host"] = []string{host}
	if q := accepted(t, r); q.Protocol != "HTTP/2.0" || q.Header["Host"] != nil {
		t.Errorf("protocol %q, header %v", q.Protocol, q.Header)
	}
}

func TestMethodsAreKnownByName(t *testing.T) {
	for method, want := range map[string]Reason{
		"TRACE": MethodNotAllowed, "TRACK": MethodNotAllowed, "CONNECT": MethodNotAllowed, // METH-01, METH-02
		"get": BadMethod, "Get": BadMethod, "GETX": BadMethod, "DEBUG": BadMethod, "PURGE": BadMethod, "PRI": BadMethod, "": BadMethod,
	} {
		r := get(t, "/app/")
		r.Method = method
		reject := refusal(t, r, want)
		if wantStatus := map[Reason]int{MethodNotAllowed: 405, BadMethod: 501}[want]; reject.Status != wantStatus || !reject.Close {
			t.Errorf("%s: status %d, close %v", method, reject.Status, reject.Close)
		}
	}
	r := get(t, "*") // METH-06
	r.Method = "OPTIONS"
	refusal(t, r, MethodNotAllowed)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "MKCOL"} {
		r := get(t, "/app/")
		r.Method = method
		accepted(t, r)
	}
}

func TestFramingLeavesNoDoubt(t *testing.T) {
	post := "POST /app/ HTTP/1.1\r\nHost: " + host + "\r\n"
	for _, row := range []struct {
		id, wire string
		want     Reason
	}{
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: " + host + "\r\n\r\n", BadProtocol},
		{"trailer", post + "Transfer-Encoding: chunked\r\nTrailer: X-Sallyport-User\r\n\r\n0\r\nX-Sallyport-User: root\r\n\r\n", HasTrailer},
		{"expectation", post + "Content-Length: 1\r\nExpect: 200-ok\r\n\r\nx", BadExpect},
		{"SMUG-37", "GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", BadUpgrade},
	} {
		t.Run(row.id, func(t *testing.T) {
			if reject := refusal(t, received(t, row.wire), row.want); !reject.Close {
				t.Error("the connection stays open")
			}
		})
	}
	q := accepted(t, received(t, post+"Transfer_Encoding: chunked\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello")) // SMUG-29
	if q.ContentLength != 5 || len(q.Header) != 2 || q.Header.Get("Expect") == "" {                                            // and the User-Agent that is none
		t.Errorf("length %d, header %v", q.ContentLength, q.Header)
	}
	q = accepted(t, received(t, strings.Replace(post, "POST", "GET", 1)+"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")) // SMUG-30
	if q.ContentLength != -1 || q.Header["Transfer-Encoding"] != nil || !q.Close {
		t.Errorf("length %d, header %v", q.ContentLength, q.Header)
	}
	q = accepted(t, received(t, post+"Transfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n0\r\n\r\n")) // SMUG-01
	if q.ContentLength != -1 || !q.Close {
		t.Errorf("length %d, close %v: the rest of the connection would be read", q.ContentLength, q.Close)
	}
	folded := accepted(t, received(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\nX-A: one\r\n two\r\n\r\n")) // RFC 9112 §5.2
	if got := folded.Header.Get("X-A"); got != "one two" {
		t.Errorf("a folded line reads %q", got)
	}
}

func TestOnlyWholeWebSocketHandshakesUpgrade(t *testing.T) {
	handshake := []string{"Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	q := accepted(t, get(t, "/ws", handshake...))
	if q.Upgrade != "websocket" || q.Header["Upgrade"] != nil || q.Header["Connection"] != nil || q.Header.Get("Sec-Websocket-Key") == "" {
		t.Errorf("upgrade %q, header %v", q.Upgrade, q.Header)
	}
	for id, change := range map[string][2]string{
		"SMUG-39 version":    {"Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 1777"},
		"no version":         {"Sec-WebSocket-Version: 13", "X-A: b"},
		"short key":          {"dGhlIHNhbXBsZSBub25jZQ==", "dGhl"},
		"no connection":      {"Connection: keep-alive, Upgrade", "Connection: keep-alive"},
		"several":            {"Upgrade: websocket", "Upgrade: websocket, h2c"},
		"other protocol":     {"Upgrade: websocket", "Upgrade: TLS/1.0"},
		"empty":              {"Upgrade: websocket", "Upgrade:"},
		"body":               {"Connection: keep-alive, Upgrade", "Connection: keep-alive, Upgrade\r\nContent-Length: 5"},
		"chunked body":       {"Connection: keep-alive, Upgrade", "Connection: keep-alive, Upgrade\r\nTransfer-Encoding: chunked"},
		"waits for continue": {"Connection: keep-alive, Upgrade", "Connection: keep-alive, Upgrade\r\nExpect: 100-continue"},
	} {
		t.Run(id, func(t *testing.T) {
			head := strings.Replace(strings.Join(handshake, "\r\n"), change[0], change[1], 1)
			if reject := refusal(t, get(t, "/ws", head), BadUpgrade); !reject.Close {
				t.Error("the connection stays open")
			}
		})
	}
	post := get(t, "/ws", handshake...)
	post.Method = "POST"
	refusal(t, post, BadUpgrade)
}

func TestFieldsThatAreReadAreThereOnce(t *testing.T) {
	for _, line := range []string{"Authorization: Bearer tok", "Content-Type: text/plain", "Origin: https://evil.example", "Range: bytes=0-1",
		"Sec-Fetch-Site: same-origin", "User-Agent: x"} {
		refusal(t, get(t, "/", line, strings.ToLower(line)), RepeatedField)
		accepted(t, get(t, "/", line))
	}
	accepted(t, get(t, "/", "Accept: a", "Accept: b", "Cookie: a=1", "Cookie: b=2", "Via: a", "Via: b"))
}

// HDR-06, WS-03: what a request is judged by cannot be declared a matter of one connection, whatever the spelling.
func TestConnectionTakesAwayNothingThatIsJudged(t *testing.T) {
	facts := []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Content-Type: text/plain", "User-Agent: x",
		"Referer: https://evil.example/", "Range: bytes=0-1", "Authorization: Basic YTpi", "X-Requested-With: x", "If-None-Match: *", "Content-Encoding: gzip",
		"Cache-Control: no-cache", "Destination: /b", "Accept: text/html"}
	for _, fact := range facts {
		name, _, _ := strings.Cut(fact, ":")
		for _, line := range []string{"Connection: " + name, "Connection: keep-alive,\t" + strings.ToLower(name) + " ,close", "Connection: close\r\nCONNECTION: ," + strings.ToUpper(name)} {
			r := get(t, "/", line, fact)
			if took := headers.FromClient(r.Header)[http.CanonicalHeaderKey(name)]; len(took) != 0 && took[0] != "" {
				t.Errorf("%q takes nothing away: the test shows nothing", line)
			}
			refusal(t, r, BadConnection)
		}
	}
	all := get(t, "/", "Connection: Origin, Sec-Fetch-Site", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
	all.Method = "POST"
	refusal(t, all, BadConnection)
	for _, line := range []string{"Connection: close, X-Auth-Request-User, X-Forwarded-For", "Connection: TE", "Connection: X-A", "Connection: Content-Length, Host",
		`Connection: "Origin"`, "Connection: Origin;x"} {
		q := accepted(t, get(t, "/", line, "Origin: https://evil.example", "X-A: 1"))
		if q.Origin() != "https://evil.example" {
			t.Errorf("%q takes away the origin", line)
		}
	}
}

// SMUG-14, H2-03: the length that is written is the one that is read.
func TestContentLengthHasOneReading(t *testing.T) {
	refusal(t, received(t, "POST / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 007\r\n\r\n1234567"), BadFraming)
	accepted(t, received(t, "POST / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 7\r\n\r\n1234567"))
	accepted(t, received(t, "POST / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 0\r\n\r\n"))
	for _, length := range [][]string{{"5", "6"}, {"0", "0"}, {"5"}, {"+0"}, {"x"}, {""}, {"0, 0"}} {
		r := get(t, "/") // as HTTP/2 hands over a request without DATA frames
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
		r.Header["Content-Length"] = length
		refusal(t, r, BadFraming)
	}
}

func TestHeaderIsBounded(t *testing.T) {
	refusal(t, get(t, "/", slices.Repeat([]string{"X-A: b"}, 257)...), HeaderTooLarge) // DOS-10
	refusal(t, get(t, "/", "X-A: "+strings.Repeat("b", 64<<10)), HeaderTooLarge)       // DOS-09
	accepted(t, get(t, "/", slices.Repeat([]string{"X-A: b"}, 200)...))
}

func TestCookiesOfTheGatewayStayWithTheGateway(t *testing.T) {
	for _, row := range []struct {
		id     string
		fields []string
		handle string // empty: none, or none that can be told
		theirs string
	}{
		{"none", []string{"a=1; b=2"}, "", "a=1; b=2"},
		{"COOK-01", []string{"a=1; __Host-sallyport=real; b=2"}, "real", "a=1; b=2"},
		{"COOK-02", []string{`a=1; __Host-sallyport="real"; b="x y"`}, "real", `a=1; b="x y"`},
		{"COOK-03", []string{"__Host-sallyport=false; a=1; __Host-sallyport=real"}, "", "a=1"},
		{"COOK-04", []string{"__Host-sallyport=real; a=1; __Host-sallyport=false"}, "", "a=1"},
		{"twice the same", []string{"__Host-sallyport=real; a=1; __Host-sallyport=real"}, "real", "a=1"},
		{"COOK-05", []string{"a=1", "__Host-sallyport=real", "b=2"}, "real", "a=1; b=2"},
		{"COOK-05 two values", []string{"__Host-sallyport=false; a=1", "__Host-sallyport=real; b=2"}, "", "a=1; b=2"},
		{"several fields", []string{"a=1", "b=2"}, "", "a=1; b=2"},
		{"session alone", []string{"__Host-sallyport=real"}, "real", ""},
		{"other case", []string{"__host-Sallyport=real; a=1"}, "", "a=1"},
		{"blank before =", []string{"__Host-sallyport =real; a=1"}, "", "a=1"},
		{"quoted name", []string{`"__Host-sallyport"=real; a=1`}, "", "a=1"},
		{"nameless", []string{"=__Host-sallyport=real; a=1"}, "", "a=1"},
		{"comma", []string{"a=1, __Host-sallyport=real; b=2"}, "", "b=2"},
		{"inside quotes", []string{`a="1; __Host-sallyport=real"; b=2`}, `real"`, `a="1; b=2`},
		{"sign-in", []string{"__Host-sallyport-flow-1=f; a=1; __Host-sallyport-back-2=b"}, "", "a=1"},
		{"empty value", []string{"__Host-sallyport=; a=1"}, "", "a=1"},
		{"odd bytes", []string{`d={"x":1}; __Host-sallyport=real; é=1;c`}, "real", `d={"x":1}; é=1; c`},
	} {
		t.Run(row.id, func(t *testing.T) {
			var lines []string
			for _, field := range row.fields {
				lines = append(lines, "Cookie: "+field)
			}
			r := get(t, "/", lines...)
			q := accepted(t, r)
			if handle, ok := q.Handle(); handle != row.handle || ok != (row.handle != "") {
				t.Errorf("handle is %q, %v of %q, want %q", handle, ok, q.Handles, row.handle)
			}
			if got := strings.Join(q.Header["Cookie"], "|"); got != row.theirs {
				t.Errorf("the app gets %q, want %q", got, row.theirs)
			}
			if !slices.Equal(r.Header["Cookie"], row.fields) {
				t.Errorf("the request itself was changed to %q", r.Header["Cookie"])
			}
		})
	}
}

func TestThousandsOfCookiesAreRefusedQuickly(t *testing.T) { // COOK-13
	start := time.Now()
	refusal(t, get(t, "/", "Cookie: "+strings.Repeat("a=1; ", 5000)), TooManyCookies)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestCookieNamedByConnectionIsStillOurs(t *testing.T) {
	q := accepted(t, get(t, "/", "Connection: Cookie", "Cookie: a=1; __Host-sallyport=real"))
	if handle, ok := q.Handle(); !ok || handle != "real" || q.Header["Cookie"] != nil {
		t.Errorf("handle %q %v, app gets %q", handle, ok, q.Header["Cookie"])
	}
}

func TestOneGatewayCredentialPerRequest(t *testing.T) {
	const cookie = "Cookie: __Host-sallyport=real"
	for _, row := range []struct {
		id    string
		lines []string
		want  Reason
	}{
		{"twice", []string{"Sallyport-Authorization: Bearer a", "Sallyport-Authorization: Bearer a"}, TwoCredentials},
		{"beside a session", []string{"Sallyport-Authorization: Bearer a", cookie}, TwoCredentials},
		{"other scheme", []string{"Sallyport-Authorization: Basic a"}, BadCredential},
		{"no token", []string{"Sallyport-Authorization: Bearer"}, BadCredential},
		{"empty", []string{"Sallyport-Authorization:"}, BadCredential},
		{"two tokens", []string{"Sallyport-Authorization: Bearer a, b"}, BadCredential},
		{"padding inside", []string{"Sallyport-Authorization: Bearer a=b"}, BadCredential},
	} {
		t.Run(row.id, func(t *testing.T) { refusal(t, get(t, "/", row.lines...), row.want) })
	}
	q := accepted(t, get(t, "/", "Sallyport-Authorization: bearer eyJh.eyJz.c2ln-_~+/==", "Authorization: Bearer app"))
	if q.Token != "eyJh.eyJz.c2ln-_~+/==" || q.Header["Sallyport-Authorization"] != nil {
		t.Errorf("token %q, header %v", q.Token, q.Header)
	}
	if q.Header.Get("Authorization") != "Bearer app" { // HDR-30: the app's, untouched
		t.Errorf("the app's Authorization is %q", q.Header.Get("Authorization"))
	}
}

func TestAuthorizationIsClaimedWhole(t *testing.T) {
	basic := func(pair string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	}
	for _, row := range []struct {
		id    string
		lines []string
		token string
		want  Reason
	}{
		{"none", nil, "", ""},
		{"HDR-31", []string{"Authorization: Bearer tok"}, "tok", ""},
		{"git", []string{basic("ada:tok")}, "tok", ""},
		{"git with a colon", []string{basic("ada:t:k")}, "", BadCredential},
		{"no password", []string{basic("ada")}, "", BadCredential},
		{"not base64", []string{"Authorization: Basic ?"}, "", BadCredential},
		{"other scheme", []string{"Authorization: Negotiate abc"}, "", BadCredential},
		{"HDR-30", []string{"Authorization: Bearer tok", "Cookie: __Host-sallyport=real"}, "", TwoCredentials},
		{"two names", []string{"Authorization: Bearer tok", "Sallyport-Authorization: Bearer tok"}, "tok", TwoCredentials},
	} {
		t.Run(row.id, func(t *testing.T) {
			q := accepted(t, get(t, "/", row.lines...))
			err := q.ClaimAuthorization()
			if reject, refused := err.(*Reject); refused != (row.want != "") || refused && reject.Reason != string(row.want) {
				t.Errorf("error is %v, want %q", err, row.want)
			}
			if q.Token != row.token || q.Header["Authorization"] != nil {
				t.Errorf("token %q, header %v", q.Token, q.Header)
			}
		})
	}
}

func TestNavigationsAreTopLevelPages(t *testing.T) {
	fetch := func(mode, dest string) []string {
		return []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: " + mode, "Sec-Fetch-Dest: " + dest, "Accept: text/html"}
	}
	for _, row := range []struct {
		id, method         string
		lines              []string
		navigation, framed bool
	}{
		{"link", "GET", fetch("navigate", "document"), true, false},
		{"head", "HEAD", fetch("navigate", "document"), true, false},
		{"page fetched by a service worker", "GET", fetch("navigate", "empty"), true, false},
		{"frame", "GET", fetch("navigate", "iframe"), true, true},
		{"object", "GET", fetch("navigate", "object"), true, true},
		{"form", "POST", fetch("navigate", "document"), false, false},
		{"fetch", "GET", fetch("cors", "empty"), false, false},
		{"image", "GET", fetch("no-cors", "image"), false, false},
		{"worker", "GET", fetch("same-origin", "worker"), false, false},
		{"unknown destination", "GET", fetch("navigate", "surprise"), false, false},
		{"preflight", "OPTIONS", []string{"Origin: https://evil.example", "Accept: text/html"}, false, false}, // METH-04
		{"old browser", "GET", []string{"Accept: text/html,application/xhtml+xml;q=0.9"}, true, false},
		{"script in an old browser", "GET", []string{"Accept: text/html, */*", "X-Requested-With: XMLHttpRequest"}, false, false},
		{"htmx in an old browser", "GET", []string{"Accept: text/html", "HX-Request: true"}, false, false},
		{"curl", "GET", []string{"Accept: */*"}, false, false},
		{"no accept", "GET", nil, false, false},
		{"program with a credential", "GET", []string{"Accept: text/html", "Authorization: Bearer x"}, false, false},
		{"program with a token", "GET", []string{"Accept: text/html", "Sallyport-Authorization: Bearer x"}, false, false},
	} {
		t.Run(row.id, func(t *testing.T) {
			r := get(t, "/", row.lines...)
			r.Method = row.method
			navigation, framed := accepted(t, r).Navigation()
			if navigation != row.navigation || framed != row.framed {
				t.Errorf("got %v, framed %v; want %v, %v", navigation, framed, row.navigation, row.framed)
			}
		})
	}
}

func TestStatusFollowsReason(t *testing.T) {
	for reason, want := range map[Reason]string{
		DotSegment: "400 false", Misdirected: "421 false", TargetTooLong: "414 false", HeaderTooLarge: "431 true",
		BadFraming: "400 true", BadProtocol: "505 true", BadExpect: "417 true",
	} {
		e := reject(reason, "")
		if got := fmt.Sprint(e.Status, e.Close); got != want || e.Error() != string(reason) {
			t.Errorf("%s: got %s, want %s", e, got, want)
		}
	}
}
