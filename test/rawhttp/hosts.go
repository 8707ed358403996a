package rawhttp

import "strings"

// hosts are names that lead to another app, or to none.
func hosts() (all []Case) {
	request := func(host string) string {
		return message("GET /app/{id} HTTP/1.1", "Host: "+host, "Cookie: {cookie}")
	}
	all = []Case{
		{ID: "HOST-01", Raw: message("GET /app/{id} HTTP/1.1", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-01", Name: "empty", Raw: request(""), Want: refused, Closes: true},
		{ID: "HOST-01", Name: "blank", Raw: request(" \t"), Want: refused, Closes: true},
		{ID: "HOST-01", Name: "in a field of another name", Raw: message("GET /app/{id} HTTP/1.1", "X-Forwarded-Host: {host}", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-02", Raw: message("GET /app/{id} HTTP/1.1", "Host: {host}", "Host: {other}", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-02", Name: "the other first", Raw: message("GET /app/{id} HTTP/1.1", "Host: {other}", "Host: {host}", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-02", Name: "the same", Raw: message("GET /app/{id} HTTP/1.1", "Host: {host}", "Host: {host}", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-02", Name: "another case", Raw: message("GET /app/{id} HTTP/1.1", "Host: {host}", "hOST: {other}", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-02", Name: "an empty one", Raw: message("GET /app/{id} HTTP/1.1", "Host:", "Host: {host}", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-02", Name: "behind the cookie", Raw: message("GET /app/{id} HTTP/1.1", "Host: {host}", "Cookie: {cookie}", "Host: {other}"), Want: refused, Closes: true},
		{ID: "HOST-02", Name: "with a blank", Raw: message("GET /app/{id} HTTP/1.1", "Host : {other}", "Host: {host}", "Cookie: {cookie}"), Want: refused, Closes: true},
		{ID: "HOST-02", Name: "underscored", Raw: message("GET /app/{id} HTTP/1.1", "Host: {host}", "Host_: {other}", "Cookie: {cookie}"), Want: served, Unseen: []string{"{other}"}},
		{ID: "HOST-02", Name: "absolute form of another", Raw: message("GET https://{other}/app/{id} HTTP/1.1", "Host: {host}", "Cookie: {cookie}"), Want: elsewhere},
		{ID: "HOST-02", Name: "absolute form, Host of another", Raw: message("GET https://{host}/app/{id} HTTP/1.1", "Host: {other}", "Cookie: {cookie}"), Want: refused},
		{ID: "HOST-03", Name: "in the handshake", SNI: "unknown.example", Raw: request("unknown.example"), Want: []Class{Hangup}},
		{ID: "HOST-03", Name: "in the handshake only", SNI: "unknown.example", Raw: request("{host}"), Want: []Class{Hangup}},
		{ID: "HOST-03", Name: "no name in the handshake", NoSNI: true, Raw: request("{host}"), Want: []Class{Hangup | Misroute}},
		{ID: "HOST-04", SNI: "{other}", Raw: message("GET /app/{id} HTTP/1.1", "Host: {other}", "Cookie: {othercookie}"), Want: []Class{Denied}},
		{ID: "HOST-04", Name: "session of another host", SNI: "{other}", Raw: message("GET /app/{id} HTTP/1.1", "Host: {other}", "Cookie: {cookie}"), Want: []Class{SignIn}},
		{ID: "HOST-04", Name: "both sessions", SNI: "{other}", Raw: message("GET /app/{id} HTTP/1.1", "Host: {other}", "Cookie: {cookie}; {othercookie}"), Want: []Class{SignIn | Denied}},
		{ID: "HOST-14", Raw: message("GET /app/{id} HTTP/1.1", "Host: {other}", "Cookie: {othercookie}"), Want: []Class{Misroute}},
		{ID: "HOST-14", Name: "the other way", SNI: "{other}", Raw: request("{host}"), Want: []Class{Misroute}},
		{ID: "HOST-14", Name: "sign-in host", Raw: request("{auth}"), Want: []Class{Misroute}},
		{ID: "HOST-14", Name: "from the sign-in host", SNI: "{auth}", Raw: request("{host}"), Want: []Class{Misroute}},
		{ID: "TLS-05", Raw: "PROXY TCP4 6.6.6.6 7.7.7.7 1 443\r\n", Plain: true, Want: []Class{Hangup}},
		{ID: "TLS-05", Name: "IPv6", Raw: "PROXY TCP6 ::ffff:6.6.6.6 ::1 1 443\r\n", Plain: true, Want: []Class{Hangup}},
		{ID: "TLS-05", Name: "unknown", Raw: "PROXY UNKNOWN\r\n", Plain: true, Want: []Class{Hangup}},
		{ID: "TLS-05", Name: "version 2", Raw: "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x06\x06\x06\x06\x07\x07\x07\x07\x00\x01\x01\xbb", Plain: true, Want: []Class{Hangup}},
		{ID: "TLS-05", Name: "inside TLS", Raw: "PROXY TCP4 6.6.6.6 7.7.7.7 1 443\r\n" + get("/app/{id}"), Want: refused, Closes: true},
		{ID: "TLS-05", Name: "and a request", Raw: "PROXY TCP4 6.6.6.6 7.7.7.7 1 443\r\n" + get("/app/{id}"), Plain: true, Want: []Class{Hangup}},
		{ID: "COOK-21", Name: "no TLS", Raw: get("/app/{id}"), Plain: true, Want: []Class{Hangup | Refused}, Unsaid: []string{"set-cookie"}},
		{ID: "COOK-21", Name: "HTTP/2 without TLS", Raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", Plain: true, Want: []Class{Hangup | Refused}, Unsaid: []string{"set-cookie"}},
	}
	for _, r := range hostSpellings() {
		all = append(all, Case{ID: r.id, Name: r.text, Raw: request(r.text), Want: r.want})
	}
	return all
}

// hostSpellings are what may stand for a host in HTTP/1.1 and HTTP/2.
func hostSpellings() []row {
	rows := []row{
		{"HOST-03", "unknown.example", []Class{Misroute}}, {"HOST-03", "localhost", elsewhere}, {"HOST-03", "127.0.0.1", elsewhere}, {"HOST-03", "[::1]", elsewhere}, {"HOST-03", "evil.{hostname}", elsewhere}, {"HOST-03", "{hostname}.evil.example", elsewhere},
		{"HOST-03", "evil{hostname}", elsewhere}, {"HOST-03", "corp.test", elsewhere}, {"HOST-03", "*.corp.test", elsewhere}, {"HOST-03", "wiki", elsewhere}, {"HOST-03", "2130706433", elsewhere}, {"HOST-03", "xn--wiki.corp.test", elsewhere}, {"HOST-03", "{hostname}..", elsewhere},
		{"HOST-03", "{hostname}.", elsewhere}, {"HOST-03", ".{hostname}", elsewhere}, {"HOST-03", "wiki..corp.test", elsewhere}, {"HOST-03", "_", elsewhere},
		{"HOST-08", "{host}@evil.example", refused}, {"HOST-08", "evil.example@{host}", refused}, {"HOST-08", "user:password@{host}", refused}, {"HOST-08", "{hostname}:443@evil.example", refused}, {"HOST-08", "@{host}", refused}, {"HOST-08", "{host}@", refused},
		{"HOST-08", "[::1]@{host}", refused}, {"HOST-08", "[{hostname}]", refused}, {"HOST-08", "[::1%25lo]", refused}, {"HOST-08", "[{host}", refused}, {"HOST-08", "{host}]", refused}, {"HOST-08", "[::1", refused},
		{"HOST-10", "{host}, {other}", refused}, {"HOST-10", "{host},{other}", refused}, {"HOST-10", "{host} {other}", refused}, {"HOST-10", "{host};{other}", refused}, {"HOST-10", "{host}/admin", refused}, {"HOST-10", "{host}?x", refused}, {"HOST-10", "{host}#x", refused},
		{"HOST-10", `{host}\evil`, refused}, {"HOST-10", "https://{host}", refused}, {"HOST-10", "//{host}", refused}, {"HOST-10", "{hostname}%00", refused}, {"HOST-10", "{hostname}%2eevil", refused}, {"HOST-10", "{hostname}%0d%0aX: y", refused}, {"HOST-10", `"{host}"`, refused},
		{"HOST-10", "<script>", refused}, {"HOST-10", "{hostname}:", refused}, {"HOST-10", "{hostname}:0", refused}, {"HOST-10", "{hostname}:99999", refused}, {"HOST-10", "{hostname}:-1", refused}, {"HOST-10", "{hostname}:443:443", refused}, {"HOST-10", "{hostname}:x", refused},
		{"HOST-10", "{hostname}:443evil.example", refused}, {"HOST-10", "{hostname}:443/evil", refused}, {"HOST-10", "{hostname}: 443", refused}, {"HOST-10", "{hostname} :443", refused}, {"HOST-10", ":443", refused}, {"HOST-10", "{hostname}:0443", refused}, {"HOST-10", "{hostname}:+443", refused},
		{"HOST-10", "w\u0456ki.corp.test", refused}, {"HOST-10", "wiki\u3002corp\u3002test", refused}, {"HOST-10", "wi\u212ai.corp.test", refused}, {"HOST-10", "wiki\u00ad.corp.test", refused}, {"HOST-10", "\uff57iki.corp.test", refused}, {"HOST-10", "wiki.corp.test\u200b", refused},
		{"HOST-10", strings.Repeat("a", 64) + ".corp.test", elsewhere}, {"HOST-10", strings.Repeat("a.", 150) + "corp.test", elsewhere}, {"HOST-10", strings.Repeat("a", 20_000), elsewhere},
		{"host", "WIKI.corp.TEST", served}, {"host", "{hostname}", served}, {"host", "{hostname}:443", []Class{Served | Refused | Misroute}},
	}
	return rows
}

// http2Hosts are the same in the pseudo field and beside it.
func http2Hosts() (all []Case) {
	for _, r := range hostSpellings() {
		all = append(all, Case{ID: r.id, Name: ":authority " + r.text, Fields: append(pseudo("GET", "https", r.text, "/app/{id}"), Field{"cookie", "{cookie}"}), Want: orReset(r.want)})
	}
	return append(all,
		Case{ID: "H2-21", Fields: h2("/app/{id}", Field{"host", "{other}"}), Want: reset},
		Case{ID: "H2-21", Name: "the other way", Fields: append(pseudo("GET", "https", "{other}", "/app/{id}"), Field{"host", "{host}"}, Field{"cookie", "{cookie}"}), Want: []Class{Refused | Hangup | Misroute}},
		Case{ID: "H2-21", Name: "two", Fields: h2("/app/{id}", Field{"host", "{host}"}, Field{"host", "{other}"}), Want: reset},
		Case{ID: "H2-21", Name: "two that agree", Fields: h2("/app/{id}", Field{"host", "{host}"}, Field{"host", "{host}"}), Want: reset},
		Case{ID: "H2-21", Name: "the same", Fields: h2("/app/{id}", Field{"host", "{host}"}), Want: []Class{Served | Refused}, Stranger: []Class{SignIn | Refused}},
		Case{ID: "H2-21", Name: "empty", Fields: h2("/app/{id}", Field{"host", ""}), Want: reset},
		Case{ID: "H2-21", Name: "evil", Fields: h2("/app/{id}", Field{"host", "evil.example"}), Want: reset},
		Case{ID: "H2-22", Fields: append(pseudo("GET", "https", "{other}", "/app/{id}"), Field{"cookie", "{othercookie}"}), Want: []Class{Misroute}},
		Case{ID: "H2-22", Name: "sign-in host", Fields: append(pseudo("GET", "https", "{auth}", "/"), Field{"cookie", "{cookie}"}), Want: []Class{Misroute}},
		Case{ID: "H2-22", Name: "by host alone", Fields: []Field{{":method", "GET"}, {":scheme", "https"}, {":path", "/app/{id}"}, {"host", "{other}"}, {"cookie", "{othercookie}"}}, Want: []Class{Misroute | Refused | Hangup}},
		Case{ID: "H2-25", Fields: append(pseudo("GET", "https", "{host}/admin", "/app/{id}"), Field{"cookie", "{cookie}"}), Want: reset},
	)
}

// methods are what none of our apps is to be asked.
func methods() (all []Case) {
	for _, r := range []row{
		{"METH-01", "TRACE", refused}, {"METH-01", "TRACK", refused}, {"METH-02", "CONNECT", refused},
		{"METH-07", "DEBUG", refused}, {"METH-07", "get", refused}, {"METH-07", "Get", refused}, {"METH-07", "PURGE", refused}, {"METH-07", "BAN", refused}, {"METH-07", "LINK", refused}, {"METH-07", "PRI", refused}, {"METH-07", "GETS", refused}, {"METH-07", "INDEX", refused},
		{"METH-07", "RFC_METHOD", refused}, {"METH-07", "M-SEARCH", refused}, {"METH-07", strings.Repeat("A", 8000), refused}, {"METH-07", "!", refused},
		{"method", "POST", served}, {"method", "PUT", served}, {"method", "PATCH", served}, {"method", "DELETE", served}, {"method", "PROPFIND", served},
	} {
		body := ""
		var fields []Field
		if r.want[0] == Served {
			body, fields = "hello", []Field{{"Content-Length", "5"}}
		}
		c := Case{ID: r.id, Name: r.text[:min(len(r.text), 20)], Want: r.want, Closes: r.want[0] == Refused, Unsaid: []string{"reflected"}}
		all = append(all, both(c, ask{method: r.text, fields: append(fields, Field{"X-A", "reflected"}), body: body})...)
	}
	line := func(id, line string, more ...string) Case {
		return Case{ID: id, Name: line, Raw: message(line, append([]string{"Host: {host}", "Cookie: {cookie}"}, more...)...), Want: refused, Closes: true}
	}
	preflight := []Field{{"Origin", "https://evil.example"}, {"Access-Control-Request-Method", "DELETE"}, {"Access-Control-Request-Headers", "X-Sallyport-User, Authorization"}}
	all = append(all,
		line("METH-02", "CONNECT 127.0.0.1:22 HTTP/1.1"), line("METH-02", "CONNECT /app/{id} HTTP/1.1"), line("METH-02", "CONNECT {host} HTTP/1.1"), line("METH-02", "CONNECT https://{host}/app/{id} HTTP/1.1"), line("METH-02", "CONNECT * HTTP/1.1"),
		line("METH-02", "CONNECT {host} HTTP/1.1", "Content-Length: 5"), line("METH-02", "CONNECT {host} HTTP/1.1", chunked), line("METH-02", "connect {host} HTTP/1.1"), line("METH-06", "OPTIONS * HTTP/1.1"), line("METH-06", "GET * HTTP/1.1"), line("METH-01", "TRACE * HTTP/1.1"),
		Case{ID: "METH-03", Raw: message("CONNECT {host} HTTP/1.1"), Want: refused, Closes: true},
	)
	c := Case{ID: "METH-04", Anonymous: true, Want: []Class{SignIn}, Unsaid: []string{"evil.example", "access-control-allow"}}
	all = append(all, both(c, ask{method: "OPTIONS", fields: preflight})...)
	c.Name = "private network"
	all = append(all, both(c, ask{method: "OPTIONS", fields: append(preflight, Field{"Access-Control-Request-Private-Network", "true"})})...)
	c.Name, preflight = "null", []Field{{"Origin", "null"}, {"Access-Control-Request-Method", "GET"}}
	return append(all, both(c, ask{method: "OPTIONS", fields: preflight})...)
}
