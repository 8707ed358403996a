package rawhttp

import "strings"

// Class is what a client may see; several are alternatives.
type Class uint16

const (
	Refused   Class = 1 << iota // 400, 405, 413, 414, 417, 431, 501, 505: not read in one way, or not at all
	Denied                      // 403: the policy's no
	SignIn                      // 401, or a redirect to the sign-in host
	Misroute                    // 421 or 404
	Served                      // 200: the app's own answer
	Broken                      // 502, 503, 504: the app got a request it could not answer
	Hangup                      // closed or reset without an answer
	Elsewhere                   // any 2xx to 4xx: what counts is where it leads, which is checked for every answer
)

func (c Class) String() string {
	names := []string{"refused", "denied", "sign-in", "misroute", "served", "broken", "hangup", "anything that leads nowhere else"}
	var set []string
	for i, name := range names {
		if c&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, " or ")
}

// Case is one row of the threat list as bytes. These words are replaced before sending:
//
//	{host} {other} {auth}   authorities of the app, of another app and of the sign-in, with port
//	{cookie} {value}        the session cookie and its value alone; without a session another cookie, a made-up value
//	{othercookie}           the session cookie for {other}
//	{id}                    a word that no other case has
//	{inner}                 a whole request for /admin/smuggled-{id}, with the cookie
//	{chunked inner}         the same as one chunk of a body
//	{hostname}              the app's host without port
type Case struct {
	ID, Name string

	Raw    string  // what goes over an HTTP/1.1 connection
	Plain  bool    // Raw goes out before any TLS
	Fields []Field // or one HTTP/2 request
	Body   []byte  // of the HTTP/2 request; nil ends it with its header
	SNI    string  // default {host}; without port
	Script string  // the app's answer, byte for byte

	Want      []Class // per answer
	Stranger  []Class // per answer without a session; default: Want, where Served and Denied become SignIn
	Anonymous bool    // only without a session
	Closes    bool    // the connection ends after the wanted answers
	Torn      bool    // the app may have got a message that never ended

	Seen   []string // in the head that reaches the app
	Unseen []string // not in any head that reaches the app, without case
	Unsaid []string // not in any answer, without case
}

// Cases are the rows of path confusion, header, smuggling, HTTP/2, host, method, cookie and redirect confusion. Their
// fixture: a person who may use /app/ of {host}, nothing else of it and nothing of {other}.
func Cases() []Case {
	var all []Case
	for _, section := range [][]Case{paths(), headerFields(), smuggling(), http2Cases(), hosts(), methods(), cookies(), redirects(), floods()} {
		all = append(all, section...)
	}
	return all
}

// get is a GET of the app with the session.
func get(target string, lines ...string) string {
	return message("GET "+target+" HTTP/1.1", append([]string{"Host: {host}", "Cookie: {cookie}"}, lines...)...)
}

// post is a POST of the app with the session; its body follows.
func post(body string, lines ...string) string {
	return message("POST /app/{id} HTTP/1.1", append([]string{"Host: {host}", "Cookie: {cookie}"}, lines...)...) + body
}

func message(lines string, more ...string) string {
	return strings.Join(append([]string{lines}, more...), "\r\n") + "\r\n\r\n"
}

// h2 is a GET of the app with the session over HTTP/2.
func h2(path string, more ...Field) []Field {
	return append(pseudo("GET", "https", "{host}", path), append(more, Field{"cookie", "{cookie}"})...)
}

func pseudo(method, scheme, authority, path string) []Field {
	return []Field{{":method", method}, {":scheme", scheme}, {":authority", authority}, {":path", path}}
}

func paths() []Case {
	var all []Case
	for _, row := range []struct {
		id, target string
		want       Class
	}{
		{"PATH-01", "/app/../admin/{id}", Refused},
		{"PATH-01", "/app/./../admin/{id}", Refused},
		{"PATH-02", "/app/%2e%2e/admin/{id}", Refused},
		{"PATH-03", "/app/..%2fadmin/{id}", Refused},
		{"PATH-05", "//admin/{id}", Refused},
		{"PATH-06", "/app///..//..//admin/{id}", Refused},
		{"PATH-07", "/app/..;/admin/{id}", Refused},
		{"PATH-07", "/app/x;y=z/{id}", Refused},
		{"PATH-09", `/app/..\admin\{id}`, Refused},
		{"PATH-10", "/app/..%5cadmin%5c{id}", Refused},
		{"PATH-11", "/app/%252e%252e/admin/{id}", Refused},
		{"PATH-14", "/admin/{id}%23/app/y", Denied},
		{"PATH-15", "/admin/{id}#/app/y", Refused},
		{"PATH-17", "/%61%64%6d%69%6e/{id}", Denied},
		{"PATH-22", "/admin/{id}?x=/app/public", Denied},
		{"PATH-24", "/app../admin/{id}", Refused},
		{"PATH-24", "/app%2e%2e/admin/{id}", Refused},
		{"PATH-24", "/application/{id}", Denied},
		{"PATH-26", "/admin%20/{id}", Refused},
		{"PATH-31", "https://{host}/admin/{id}", Refused},
		{"PATH-31", "http://{host}/app/{id}", Refused},
		{"PATH-33", "admin/{id}", Refused},
		{"PATH-34", "/app/%zz{id}", Refused},
		{"PATH-43", "/app/{id}?a=1;b=2&c=%zz", Refused},
		{"PATH-43", "/app/{id}?a=1;b=2", Refused},
		{"PATH-43", "/app/{id}?c=%zz", Refused},
		{"overlong UTF-8", "/app/%c0%ae%c0%ae/admin/{id}", Refused},
		{"NUL", "/app/{id}%00.png", Refused},
		{"INJ-05", "/app/{id}%0d%0aSet-Cookie:evil=1", Refused},
		{"other case", "/APP/{id}", Denied},
		{"nowhere", "/{id}", Denied},
		{"allowed", "/app/{id}", Served},
		{"allowed folder", "/app/{id}/", Served},
	} {
		all = append(all, Case{ID: row.id, Name: row.target, Raw: get(row.target), Want: []Class{row.want}})
		overH2 := row.want
		if overH2 == Refused {
			overH2 |= Hangup
		}
		all = append(all, Case{ID: row.id, Name: "h2 " + row.target, Fields: h2(row.target), Want: []Class{overH2}})
	}
	navigate := []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"}
	return append(all,
		Case{ID: "PATH-40", Raw: get("/app/{id}?a=/healthz"), Anonymous: true, Want: []Class{SignIn}},
		Case{ID: "PATH-40", Name: "navigation", Raw: get("/app/{id}?a=/healthz", navigate...), Anonymous: true, Want: []Class{SignIn}},
		Case{ID: "INJ-05", Name: "navigation", Raw: get("/app/{id}%0d%0aSet-Cookie:evil=1", navigate...), Want: []Class{Refused}, Unsaid: []string{"\nset-cookie:evil"}},
		Case{ID: "spelling", Name: "one for one path", Raw: get("/%61pp/{id}/Z%c3%bcrich%20(a'b),@:~+=&$!*?q=%c3%bc+x"), Want: []Class{Served},
			Seen: []string{"GET /app/{id}/Z%C3%BCrich%20(a'b),@:~+=&$!*?q=%c3%bc+x HTTP/1.1\r\n"}},
		Case{ID: "METH-14", Raw: "GET  /app/{id}  HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n", Want: []Class{Refused}, Closes: true},
	)
}

// claimed are fields that say who is asking, in the gateway's own words and in those of others.
var claimed = []string{"X-Sallyport-User", "X-Sallyport-Email", "X-Sallyport-Groups", "X-Sallyport-Assertion", "X-Auth-Request-User", "X-Auth-Request-Email",
	"X-Auth-Request-Groups", "X-Forwarded-User", "X-Forwarded-Email", "X-Pomerium-Jwt-Assertion", "Cf-Access-Jwt-Assertion", "X-Goog-Authenticated-User-Email",
	"X-Goog-Iap-Jwt-Assertion", "X-Amzn-Oidc-Data", "Remote-User", "X-Remote-User", "X-Webauth-User", "X-Authentik-Username"}

// relayed are fields that say where a request came from.
var relayed = []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "Forwarded", "X-Cluster-Client-Ip", "Fastly-Client-Ip"}

// lines gives each name the value.
func lines(names []string, value string, respell func(string) string) []string {
	var out []string
	for _, name := range names {
		out = append(out, respell(name)+": "+value)
	}
	return out
}

func asIs(name string) string         { return name }
func underscored(name string) string  { return strings.ReplaceAll(name, "-", "_") }
func lastUnderscore(n string) string  { i := strings.LastIndex(n, "-"); return n[:i] + "_" + n[i+1:] }
func firstUnderscore(n string) string { return strings.Replace(n, "-", "_", 1) }

func headerFields() []Case {
	served := []Class{Served}
	thrice := append(lines(claimed, "attacker", asIs), append(lines(claimed, "attacker2", strings.ToLower), lines(claimed, "attacker3", strings.ToUpper)...)...)
	return []Case{
		{ID: "HDR-01", Raw: get("/app/{id}", lines(claimed, "attacker", asIs)...), Want: served, Unseen: []string{"attacker"}},
		{ID: "HDR-02", Name: "underscores", Raw: get("/app/{id}", lines(claimed, "attacker", underscored)...), Want: served, Unseen: []string{"attacker"}},
		{ID: "HDR-02", Name: "mixed", Raw: get("/app/{id}", lines(claimed, "attacker", lastUnderscore)...), Want: served, Unseen: []string{"attacker"}},
		{ID: "HDR-02", Name: "mixed first", Raw: get("/app/{id}", lines(claimed, "attacker", firstUnderscore)...), Want: served, Unseen: []string{"attacker"}},
		{ID: "HDR-03", Raw: get("/app/{id}", thrice...), Want: served, Unseen: []string{"attacker"}},
		{ID: "HDR-06", Raw: get("/app/{id}", "Connection: close, X-Sallyport-User, X-Sallyport-Email, X-Sallyport-Groups, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Request-Id"),
			Want: served, Closes: true, Seen: []string{"\r\nX-Request-Id: "}},
		{ID: "HDR-09", Raw: get("/app/{id}", lines(relayed, "6.6.6.6", asIs)...), Want: served, Unseen: []string{"6.6.6.6"}},
		{ID: "HDR-10", Raw: get("/app/{id}", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: evil.example", "X-Forwarded-Port: 6666", "X-Forwarded-Prefix: /evil.example", "X-Forwarded-Server: evil.example"),
			Want: served, Unseen: []string{"evil.example", "6666"}},
		{ID: "HDR-11", Raw: get("/app/{id}", "X_Forwarded_For: 6.6.6.6", "X-Forwarded_Proto: evil.example"), Want: served, Unseen: []string{"6.6.6.6", "evil.example"}},
		{ID: "HDR-12", Raw: get("/app/{id}", "X-Original-URL: /admin/x", "X-Rewrite-URL: /admin/x", "X-Forwarded-Uri: /admin/x"), Want: served, Unseen: []string{"/admin/x"}},
		{ID: "HDR-13", Raw: get("/app/{id}", "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE"), Want: served, Unseen: []string{"delete"}},
		{ID: "HDR-14", Raw: get("/app/{id}", "X-Forwarded-Uri: /healthz"), Anonymous: true, Want: []Class{SignIn}},
		{ID: "HDR-15", Raw: get("/app/{id}", "User-Agent: GoogleHC/1.0"), Anonymous: true, Want: []Class{SignIn}},
		{ID: "HDR-18", Raw: get("/app/{id}", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"), Anonymous: true, Want: []Class{SignIn}},
		{ID: "HDR-19", Raw: get("/app/{id}", "Proxy-Authorization: Basic c2VjcmV0", "Keep-Alive: timeout=99", "TE: gzip", "Proxy-Connection: keep-alive", "Proxy: http://evil.example"),
			Want: served, Unseen: []string{"proxy", "keep-alive", "\nte:", "evil.example"}},
		{ID: "HDR-21", Raw: get("/app/{id}", "X-A: a\x00b"), Want: []Class{Refused}, Closes: true},
		{ID: "HDR-23", Raw: get("/app/{id}", "X-A : a"), Want: []Class{Refused}, Closes: true},
		{ID: "HDR-25", Raw: get("/app/{id}", ": a"), Want: []Class{Refused}, Closes: true},
		{ID: "HDR-30", Name: "the app's own", Raw: get("/app/{id}", "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."), Want: served,
			Seen: []string{"\r\nAuthorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.\r\n"}},
		{ID: "HDR-30", Name: "two of the gateway's", Raw: get("/app/{id}", "Sallyport-Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."),
			Want: []Class{Refused}, Stranger: []Class{SignIn}},
		{ID: "folding", Raw: get("/app/{id}", "X-A: one\r\n two", "X-B: three"), Want: served, Seen: []string{"\r\nX-A: one two\r\n", "\r\nX-B: three\r\n"}},
		{ID: "trailer", Raw: post("0\r\nX-Sallyport-User: attacker\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-Sallyport-User"), Want: []Class{Refused}, Closes: true},
		{ID: "trailer", Name: "unannounced", Raw: post("1\r\nx\r\n0\r\nX-Sallyport-User: attacker\r\n\r\n", "Transfer-Encoding: chunked"), Want: served, Closes: true},
		{ID: "expectation", Raw: post("x", "Content-Length: 1", "Expect: 200-ok"), Want: []Class{Refused}, Closes: true},
	}
}

func smuggling() []Case {
	refused, served := []Class{Refused}, []Class{Served}
	torn := []Class{Refused | Broken | Served | Hangup}
	chunked := "Transfer-Encoding: chunked"
	return []Case{
		{ID: "SMUG-01", Raw: post("0\r\n\r\n{inner}", "Content-Length: 300", chunked), Want: served, Closes: true},
		{ID: "SMUG-02", Raw: post("{chunked inner}0\r\n\r\n", chunked, "Content-Length: 4"), Want: served, Closes: true},
		{ID: "SMUG-03", Raw: post("{inner}", "Transfer-Encoding: xchunked", "Content-Length: 4"), Want: refused, Closes: true},
		{ID: "SMUG-04", Raw: post("0\r\n\r\n{inner}", "Transfer-Encoding : chunked"), Want: refused, Closes: true},
		{ID: "SMUG-05", Raw: post("0\r\n\r\n{inner}", chunked, "Transfer-Encoding: identity"), Want: refused, Closes: true},
		{ID: "SMUG-10", Raw: post("0\r\n\r\n{inner}", "Transfer-Encoding: chunked, gzip"), Want: refused, Closes: true},
		{ID: "SMUG-12", Raw: post("{inner}", "Content-Length: 0", "Content-Length: 9"), Want: refused, Closes: true},
		{ID: "SMUG-14", Raw: post("{inner}", "Content-Length: +0"), Want: refused, Closes: true},
		{ID: "SMUG-16", Raw: post("{inner}", "Content-Length:"), Want: refused, Closes: true},
		{ID: "SMUG-19", Raw: post("{inner}", "Content-Length:", "Content-Length: 5"), Want: refused, Closes: true},
		{ID: "SMUG-20", Raw: post("2;\nxx\r\n4c\r\n0\r\n\r\n{inner}\r\n0\r\n\r\n", chunked), Want: torn, Stranger: []Class{SignIn | Refused}, Torn: true, Closes: true},
		{ID: "SMUG-22", Raw: post("0x0\r\n\r\n{inner}", chunked), Want: torn, Stranger: []Class{SignIn | Refused}, Torn: true, Closes: true},
		{ID: "SMUG-23", Raw: post("10000000000000000\r\nx\r\n0\r\n\r\n{inner}", chunked), Want: torn, Stranger: []Class{SignIn | Refused}, Torn: true, Closes: true},
		{ID: "SMUG-29", Raw: post("hello", "Transfer_Encoding: chunked", "Content-Length: 5"), Want: served, Seen: []string{"\r\nContent-Length: 5\r\n"}, Unseen: []string{"transfer_encoding"}},
		{ID: "SMUG-30", Raw: get("/app/{id}", "Content-Length: 5") + "hello", Want: served, Seen: []string{"\r\nContent-Length: 5\r\n"}},
		{ID: "SMUG-33", Raw: strings.ReplaceAll(get("/app/{id}", "X-A: b"), "\r\n", "\n"), Want: []Class{Refused | Served}, Stranger: []Class{Refused | SignIn}},
		{ID: "SMUG-37", Raw: get("/app/{id}", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA") + "{inner}", Want: refused, Closes: true},
		{ID: "SMUG-39", Raw: get("/app/{id}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 1777", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") + "{inner}",
			Want: refused, Closes: true},
		{ID: "SMUG-39", Name: "the app says no", Raw: get("/app/{id}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") + "{inner}",
			Script: "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n", Want: []Class{Refused}, Stranger: []Class{SignIn}},
		{ID: "SMUG-41", Raw: get("/app/{id}"), Script: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Want: served, Unsaid: []string{"poison"}},
		{ID: "SMUG-43", Raw: get("/app/{id}1") + get("/app/{id}2") + get("/app/{id}3"), Anonymous: true, Want: []Class{SignIn, SignIn, SignIn}},
		{ID: "SMUG-44", Raw: get("/app/{id}") + message("GET /app/{id} HTTP/1.1", "Host: {host}"), Want: []Class{Served, SignIn}},
		{ID: "per request", Raw: get("/app/{id}") + get("/admin/{id}") + get("/app/{id}"), Want: []Class{Served, Denied, Served}},
		{ID: "HTTP/1.0", Raw: "POST /app/{id} HTTP/1.0\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}", Want: refused, Closes: true},
	}
}

func http2Cases() []Case {
	inner := []byte("GET /admin/smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
	refused := []Class{Refused | Hangup}
	posted := func(more ...Field) []Field {
		return append(pseudo("POST", "https", "{host}", "/app/{id}"), append(more, Field{"cookie", "{cookie}"})...)
	}
	return []Case{
		{ID: "H2-03", Fields: posted(Field{"content-length", "0"}), Body: inner, Want: []Class{Refused | Hangup | Served | Broken}, Stranger: []Class{Refused | Hangup | SignIn}, Torn: true},
		{ID: "H2-05", Fields: posted(Field{"transfer-encoding", "chunked"}), Body: append([]byte("0\r\n\r\n"), inner...), Want: refused},
		{ID: "H2-06", Fields: h2("/app/{id}", Field{"x-a", "b\r\nx-sallyport-user: attacker"}), Want: refused},
		{ID: "H2-07", Fields: h2("/app/{id}", Field{"x-a: b\r\nx-sallyport-user", "attacker"}), Want: refused},
		{ID: "H2-10", Fields: h2("admin/{id}"), Want: refused},
		{ID: "H2-12", Fields: h2("https://{other}/admin/{id}"), Want: refused},
		{ID: "H2-13", Fields: h2("/app/{id}", Field{":path", "/admin/{id}"}), Want: refused},
		{ID: "H2-13", Name: "at once", Fields: append([]Field{{":path", "/app/{id}"}}, h2("/admin/{id}")...), Want: refused},
		{ID: "H2-19", Fields: h2("/app/{id}", Field{"", "attacker"}), Want: refused},
		{ID: "H2-21", Fields: h2("/app/{id}", Field{"host", "{other}"}), Want: refused},
		{ID: "H2-22", Fields: append(pseudo("GET", "https", "{other}", "/app/{id}"), Field{"cookie", "{othercookie}"}), Want: []Class{Misroute}},
		{ID: "H2-25", Fields: append(pseudo("GET", "https", "{host}/admin", "/app/{id}"), Field{"cookie", "{cookie}"}), Want: refused},
		{ID: "H2-27", Fields: []Field{{":method", "CONNECT"}, {":authority", "{host}"}, {"cookie", "{cookie}"}}, Body: inner, Want: refused},
		{ID: "H2-27", Name: "with a path", Fields: append(pseudo("CONNECT", "https", "{host}", "/app/{id}"), Field{"cookie", "{cookie}"}), Body: inner, Want: refused},
		{ID: "H2-30", Fields: append(pseudo("GET", "https", "{host}", "/app/{id}"), Field{"cookie", "a=1"}, Field{"cookie", "{cookie}"}, Field{"cookie", "b=2"}), Want: []Class{Served},
			Seen: []string{"\r\nCookie: a=1; b=2\r\n"}},
		{ID: "HDR-02", Name: "over h2", Fields: h2("/app/{id}", Field{"x_sallyport_user", "attacker"}, Field{"x-sallyport-user", "attacker"}), Want: []Class{Served}, Unseen: []string{"attacker"}},
		{ID: "scheme", Name: "is what TLS says", Fields: append(pseudo("GET", "http", "{host}", "/app/{id}"), Field{"cookie", "{cookie}"}), Want: []Class{Served},
			Seen: []string{"\r\nX-Forwarded-Proto: https\r\n"}},
		{ID: "body", Fields: posted(), Body: inner, Want: []Class{Served}},
	}
}

func hosts() []Case {
	request := func(host string) string {
		return message("GET /app/{id} HTTP/1.1", "Host: "+host, "Cookie: {cookie}")
	}
	refused := []Class{Refused}
	return []Case{
		{ID: "HOST-01", Raw: message("GET /app/{id} HTTP/1.1", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-01", Name: "empty", Raw: request(""), Want: refused, Closes: true},
		{ID: "HOST-02", Raw: message("GET /app/{id} HTTP/1.1", "Host: {host}", "Host: {other}", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-03", Raw: request("unknown.example"), Want: []Class{Misroute}},
		{ID: "HOST-03", Name: "in the handshake", SNI: "unknown.example", Raw: request("unknown.example"), Want: []Class{Hangup}},
		{ID: "HOST-04", SNI: "{other}", Raw: message("GET /app/{id} HTTP/1.1", "Host: {other}", "Cookie: {othercookie}"), Want: []Class{Denied}},
		{ID: "HOST-04", Name: "session of another host", SNI: "{other}", Raw: message("GET /app/{id} HTTP/1.1", "Host: {other}", "Cookie: {cookie}"), Want: []Class{SignIn}},
		{ID: "HOST-08", Raw: request("{host}@evil.example"), Want: refused, Closes: true},
		{ID: "HOST-10", Raw: request("{host}, {other}"), Want: refused, Closes: true},
		{ID: "HOST-14", Raw: message("GET /app/{id} HTTP/1.1", "Host: {other}", "Cookie: {othercookie}"), Want: []Class{Misroute}},
		{ID: "HOST-14", Name: "sign-in host", Raw: request("{auth}"), Want: []Class{Misroute}},
		{ID: "TLS-05", Raw: "PROXY TCP4 6.6.6.6 7.7.7.7 1 443\r\n", Plain: true, Want: []Class{Hangup}},
		{ID: "COOK-21", Name: "no TLS", Raw: get("/app/{id}"), Plain: true, Want: []Class{Hangup | Refused}, Unsaid: []string{"set-cookie"}},
	}
}

func methods() []Case {
	request := func(line string, more ...string) string {
		return message(line, append([]string{"Host: {host}", "Cookie: {cookie}"}, more...)...)
	}
	refused := []Class{Refused}
	return []Case{
		{ID: "METH-01", Raw: request("TRACE /app/{id} HTTP/1.1", "X-A: reflected"), Want: refused, Closes: true, Unsaid: []string{"reflected"}},
		{ID: "METH-02", Raw: request("CONNECT 127.0.0.1:22 HTTP/1.1"), Want: refused, Closes: true},
		{ID: "METH-02", Name: "path", Raw: request("CONNECT /app/{id} HTTP/1.1"), Want: refused, Closes: true},
		{ID: "METH-03", Raw: message("CONNECT {host} HTTP/1.1"), Want: refused, Closes: true},
		{ID: "METH-04", Raw: request("OPTIONS /app/{id} HTTP/1.1", "Origin: https://evil.example", "Access-Control-Request-Method: DELETE"), Anonymous: true,
			Want: []Class{SignIn}, Unsaid: []string{"evil.example", "access-control-allow"}},
		{ID: "METH-06", Raw: request("OPTIONS * HTTP/1.1"), Want: refused, Closes: true},
		{ID: "METH-07", Name: "unknown", Raw: request("DEBUG /app/{id} HTTP/1.1"), Want: refused, Closes: true},
		{ID: "METH-07", Name: "lower case", Raw: request("get /app/{id} HTTP/1.1"), Want: refused, Closes: true},
	}
}

func cookies() []Case {
	request := func(lines ...string) string {
		return message("GET /app/{id} HTTP/1.1", append([]string{"Host: {host}"}, lines...)...)
	}
	const session = "__Host-sallyport"
	served := []Class{Served}
	both := []string{"\r\nCookie: a=1; b=2\r\n"}
	return []Case{
		{ID: "COOK-01", Raw: request("Cookie: a=1; {cookie}; b=2"), Want: served, Seen: both},
		{ID: "COOK-02", Raw: request("Cookie: a=1; " + session + `="{value}"; b=2`), Want: served, Seen: both},
		{ID: "COOK-03", Raw: request("Cookie: " + session + "=false; {cookie}; a=1"), Want: []Class{SignIn}},
		{ID: "COOK-04", Raw: request("Cookie: {cookie}; " + session + "=false; a=1"), Want: []Class{SignIn}},
		{ID: "COOK-05", Raw: request("Cookie: a=1", "Cookie: {cookie}", "Cookie: b=2"), Want: served, Seen: both},
		{ID: "COOK-06", Name: "other case", Raw: request("Cookie: a=1; __host-SALLYPORT={value}; {cookie}; b=2"), Want: served, Seen: both},
		{ID: "COOK-13", Raw: request("Cookie: " + strings.Repeat("a=1; ", 5000) + "{cookie}"), Want: []Class{Refused}},
		{ID: "COOK-18", Raw: get("/app/{id}"), Want: served, Unsaid: []string{session + "=evil"},
			Script: "HTTP/1.1 200 OK\r\nSet-Cookie: " + session + "=evil; Path=/; Secure\r\nSet-Cookie: =" + session + "=evil\r\nSet-Cookie: " + session + "=evil; Domain=corp.test\r\nContent-Length: 0\r\n\r\n"},
	}
}

func redirects() []Case {
	var all []Case
	for id, targets := range map[string][]string{
		"REDIR-01": {"https://evil.example", "//evil.example", "///evil.example", "https:evil.example", "https:/evil.example", "javascript:alert(1)"},
		"REDIR-02": {`/\evil.example`, `\\evil.example`, `/\/evil.example`, `/%5cevil.example`, "/%09/evil.example", "/%2f%2fevil.example"},
		"REDIR-04": {"https://{host}@evil.example/", "https://evil.example#{host}", "https://evil.example?{host}", "//{host}:x@evil.example"},
		"REDIR-06": {"https://{host}.evil.example/", "https://evil{host}/"},
	} {
		for _, target := range targets {
			query := "app=" + "{hostname}" + "&rd=" + queryEscape(target)
			start := message("GET /.sallyport/start?"+query+" HTTP/1.1", "Host: {auth}", "Accept: text/html")
			back := message("GET /.sallyport/return?code=x&"+query+" HTTP/1.1", "Host: {host}", "Accept: text/html")
			all = append(all,
				Case{ID: id, Name: "start " + target, SNI: "{auth}", Raw: start, Anonymous: true, Want: []Class{Elsewhere}, Unsaid: []string{"evil"}},
				Case{ID: id, Name: "return " + target, Raw: back, Anonymous: true, Want: []Class{Elsewhere}, Unsaid: []string{"evil"}})
			if strings.HasPrefix(target, "/") || strings.HasPrefix(target, "https:/") {
				all = append(all, Case{ID: id, Name: "path " + target, Raw: get(target, "Accept: text/html"), Anonymous: true, Want: []Class{Refused | Misroute}})
			}
		}
	}
	navigate := []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "X-Forwarded-Host: evil.example", "X-Forwarded-Prefix: //evil.example", "X-Original-URL: //evil.example"}
	return append(all, Case{ID: "REDIR-09", Raw: get("/app/{id}", navigate...), Anonymous: true, Want: []Class{SignIn}, Unsaid: []string{"evil"}})
}

// queryEscape keeps placeholders.
func queryEscape(s string) string {
	return strings.NewReplacer("%", "%25", "#", "%23", "?", "%3F", "&", "%26", `\`, "%5C", ":", "%3A", "@", "%40").Replace(s)
}

func floods() []Case {
	return []Case{
		{ID: "DOS-09", Raw: get("/app/{id}", "X-A: "+strings.Repeat("b", 2<<20)), Want: []Class{Refused | Hangup}, Closes: true},
		{ID: "DOS-10", Raw: get("/app/{id}", strings.Repeat("X-A: b\r\n", 20_000)+"X-B: c"), Want: []Class{Refused | Hangup}, Closes: true},
		{ID: "DOS-11", Raw: get("/app/{id}?" + strings.Repeat("a&", 3000) + "hidden=1"), Want: []Class{Refused}},
		{ID: "DOS-11", Name: "10001", Raw: get("/app/{id}?" + strings.Repeat("a=1&", 10_001) + "hidden=1"), Want: []Class{Refused}},
	}
}
