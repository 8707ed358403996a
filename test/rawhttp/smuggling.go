package rawhttp

import "strings"

const chunked = "Transfer-Encoding: chunked"

// transferCodings are spellings of Transfer-Encoding that some servers take for chunked and others do not: the lists of
// James Kettle's "HTTP Desync Attacks", of the HTTP Garden and of later advisories.
func transferCodings() []Case {
	all := []Case{
		{ID: "SMUG-01", Raw: post("0\r\n\r\n{inner}", "Content-Length: 300", chunked), Want: served, Closes: true},
		{ID: "SMUG-01", Name: "length behind", Raw: post("0\r\n\r\n{inner}", chunked, "Content-Length: 300"), Want: served, Closes: true},
		{ID: "SMUG-01", Name: "length of none", Raw: post("0\r\n\r\n{inner}", "Content-Length: 0", chunked), Want: either, Stranger: []Class{Refused | SignIn}, Closes: true},
		{ID: "SMUG-02", Raw: post("{chunked inner}0\r\n\r\n", chunked, "Content-Length: 4"), Want: served, Closes: true},
		{ID: "SMUG-02", Name: "length first", Raw: post("{chunked inner}0\r\n\r\n", "Content-Length: 4", chunked), Want: served, Closes: true},
		{ID: "chunked", Name: "capitals", Raw: post("0\r\n\r\n{inner}", "Transfer-Encoding: CHUNKED"), Want: either, Stranger: []Class{Refused | SignIn}, Closes: true},
		{ID: "chunked", Name: "no blank", Raw: post("0\r\n\r\n{inner}", "Transfer-Encoding:chunked"), Want: either, Stranger: []Class{Refused | SignIn}, Closes: true},
		{ID: "chunked", Name: "a tab", Raw: post("0\r\n\r\n{inner}", "Transfer-Encoding:\tchunked\t"), Want: either, Stranger: []Class{Refused | SignIn}, Closes: true},
		{ID: "HTTP/1.0", Raw: "POST /app/{id} HTTP/1.0\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}", Want: refused, Closes: true},
		{ID: "HTTP/1.0", Name: "plain", Raw: "GET /app/{id} HTTP/1.0\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n", Want: either, Stranger: []Class{Refused | SignIn}, Closes: true},
	}
	for _, r := range []row{
		{"SMUG-03", "Transfer-Encoding: xchunked", nil}, {"SMUG-03", "Transfer-Encoding: cow", nil}, {"SMUG-03", "Transfer-Encoding: chunkedx", nil}, {"SMUG-03", "Transfer-Encoding: chunk", nil},
		{"SMUG-03", "Transfer-Encoding: \"chunked\"", nil}, {"SMUG-03", "Transfer-Encoding: 'chunked'", nil}, {"SMUG-03", "Transfer-Encoding: chunked;q=1", nil}, {"SMUG-03", "Transfer-Encoding: chunked chunked", nil},
		{"SMUG-03", "Transfer-Encoding: \x0bchunked", nil}, {"SMUG-03", "Transfer-Encoding: \x00chunked", nil}, {"SMUG-03", "Transfer-Encoding: chunked\x00", nil}, {"SMUG-03", "Transfer-Encoding: chunked\x0c", nil},
		{"SMUG-03", "Transfer-Encoding: chun\u212aed", nil}, {"SMUG-03", "Transfer-Encoding: \xa0chunked", nil}, {"SMUG-03", "Transfer-Encoding: \xff\xfechunked", nil}, {"SMUG-03", "Transfer-Encoding: {chunked}", nil},
		{"SMUG-03", "Transfer-Encoding:", nil}, {"SMUG-03", "Transfer-Encoding: ,", nil},
		{"SMUG-04", "Transfer-Encoding : chunked", nil}, {"SMUG-04", "Transfer-Encoding\t: chunked", nil}, {"SMUG-04", "Transfer-Encoding\x00: chunked", nil}, {"SMUG-04", "Transfer Encoding: chunked", nil},
		{"SMUG-04", "Transfer-Encoding\x0b: chunked", nil}, {"SMUG-04", "Transfer-Encoding\r\n : chunked", nil}, {"SMUG-04", "Transfer-Encoding\n: chunked", nil}, {"SMUG-04", "\x00Transfer-Encoding: chunked", nil},
		{"SMUG-05", chunked + "\r\nTransfer-Encoding: identity", nil}, {"SMUG-05", "Transfer-Encoding: identity\r\n" + chunked, nil}, {"SMUG-05", chunked + "\r\nTransfer-Encoding: x", nil}, {"SMUG-05", chunked + "\r\ntransfer-encoding: chunked", nil},
		{"SMUG-05", chunked + "\r\nTransfer-Encoding:", nil}, {"SMUG-05", "Transfer-Encoding: identity", nil}, {"SMUG-05", "Transfer-Encoding: identity, chunked", nil}, {"SMUG-05", "Transfer-Encoding: chunked, identity", nil},
		{"SMUG-10", "Transfer-Encoding: chunked, gzip", nil}, {"SMUG-10", "Transfer-Encoding: gzip, chunked", nil}, {"SMUG-10", "Transfer-Encoding: chunked, chunked", nil}, {"SMUG-10", "Transfer-Encoding: chunked,", nil}, {"SMUG-10", "Transfer-Encoding: ,chunked", nil},
		{"SMUG-10", "Transfer-Encoding: deflate", nil}, {"SMUG-10", "Transfer-Encoding: gzip\r\n" + chunked, nil}, {"SMUG-10", "Transfer-Encoding: trailers, chunked", nil},
		{"SMUG-33", "X-A: b\rTransfer-Encoding: chunked", nil},
	} {
		for _, length := range []string{"", "Content-Length: 4\r\n"} {
			all = append(all, Case{ID: r.id, Name: r.text + ", " + length, Raw: post("0\r\n\r\n{inner}", length+r.text), Want: refused, Closes: true})
		}
	}
	for _, text := range []string{"Transfer-Encoding:\r\n chunked", "Transfer-Encoding: chunked\r\n ", "X-A: b\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\n x", "Foo: bar\r\n Transfer-Encoding: chunked"} {
		all = append(all, Case{ID: "folding", Name: "coding " + text, Raw: post("0\r\n\r\n{inner}", text, "Content-Length: 5"), Want: either, Stranger: []Class{Refused | SignIn}, Closes: !strings.HasPrefix(text, "Foo"), Torn: true})
	}
	return append(all,
		Case{ID: "SMUG-29", Raw: post("hello", "Transfer_Encoding: chunked", "Content-Length: 5"), Want: served, Seen: []string{"\r\nContent-Length: 5\r\n"}, Unseen: []string{"transfer_encoding"}},
		Case{ID: "SMUG-29", Name: "length", Raw: post("hello", "Content_Length: 500", "Content-Length: 5"), Want: served, Seen: []string{"\r\nContent-Length: 5\r\n"}, Unseen: []string{"content_length"}},
		Case{ID: "SMUG-29", Name: "dots", Raw: post("hello", "Transfer.Encoding: chunked", "Content.Length: 500", "Content-Length: 5"), Want: served, Seen: []string{"\r\nContent-Length: 5\r\n"}, Unseen: []string{"encoding: chunked"}},
	)
}

// contentLengths are lengths that are read in more than one way.
func contentLengths() (all []Case) {
	for _, r := range []row{
		{"SMUG-12", "Content-Length: 0\r\nContent-Length: 9", refused}, {"SMUG-12", "Content-Length: 9\r\nContent-Length: 0", refused}, {"SMUG-12", "Content-Length: 5, 6", refused}, {"SMUG-12", "Content-Length: 0, 5", refused},
		{"SMUG-12", "Content-Length: 5\r\ncontent-length: 05", refused},
		{"SMUG-14", "Content-Length: +0", refused}, {"SMUG-14", "Content-Length: -0", refused}, {"SMUG-14", "Content-Length: +5", refused}, {"SMUG-14", "Content-Length: -5", refused}, {"SMUG-14", "Content-Length: 0x5", refused},
		{"SMUG-14", "Content-Length: 5;", refused}, {"SMUG-14", "Content-Length: 5 5", refused}, {"SMUG-14", "Content-Length: 5.0", refused}, {"SMUG-14", "Content-Length: 5e0", refused}, {"SMUG-14", "Content-Length: 5_0", refused}, {"SMUG-14", "Content-Length: 5\x0b", refused},
		{"SMUG-14", "Content-Length: \x0b5", refused}, {"SMUG-14", "Content-Length: 5\x00", refused}, {"SMUG-14", "Content-Length: \uff15", refused}, {"SMUG-14", "Content-Length: \"5\"", refused}, {"SMUG-14", "Content-Length: five", refused}, {"SMUG-14", "Content-Length: 5\xa0", refused},
		{"SMUG-14", "Content-Length: 18446744073709551621", refused}, {"SMUG-14", "Content-Length: 9223372036854775808", refused}, {"SMUG-14", "Content-Length: 4294967301999999999999", refused}, {"SMUG-14", "Content-Length: 5\r\n 0", refused},
		{"SMUG-14", "Content-Length: 0b101", refused}, {"SMUG-14", "Content-Length: 0o5", refused}, {"SMUG-14", "Content-Length: 5,", refused}, {"SMUG-14", "Content-Length: ,5", refused}, {"SMUG-14", "Content-Length: \xc2\xb2", refused},
		{"SMUG-16", "Content-Length:", refused}, {"SMUG-16", "Content-Length: ", refused}, {"SMUG-16", "Content-Length: \t", refused},
		{"SMUG-19", "Content-Length:\r\nContent-Length: 5", refused}, {"SMUG-19", "Content-Length: 5\r\nContent-Length:", refused},
		{"SMUG-04", "Content-Length : 5", refused}, {"SMUG-04", "Content-Length\t: 5", refused}, {"SMUG-04", "Content Length: 5", refused}, {"SMUG-04", "Content-Length\x00: 5", refused},
	} {
		all = append(all, Case{ID: r.id, Name: r.text, Raw: post("{inner}", r.text), Want: r.want, Closes: true})
	}
	two := []Class{Served, Denied}
	return append(all,
		Case{ID: "SMUG-30", Raw: get("/app/{id}", "Content-Length: 5") + "hello", Want: served, Seen: []string{"\r\nContent-Length: 5\r\n"}},
		Case{ID: "SMUG-30", Name: "a request inside", Raw: get("/app/{id}", "Content-Length: {inner length}") + "{inner}", Want: served, Seen: []string{"\r\nContent-Length: {inner length}\r\n"}},
		Case{ID: "SMUG-30", Name: "chunked", Raw: get("/app/{id}", chunked) + "{chunked inner}0\r\n\r\n{inner}", Want: served, Closes: true},
		Case{ID: "SMUG-30", Name: "of HEAD", Raw: strings.Replace(get("/app/{id}", "Content-Length: {inner length}"), "GET", "HEAD", 1) + "{inner}", Want: either, Stranger: []Class{Refused | SignIn}},
		Case{ID: "SMUG-30", Name: "of DELETE", Raw: strings.Replace(get("/app/{id}", "Content-Length: {inner length}"), "GET", "DELETE", 1) + "{inner}", Want: served},
		Case{ID: "SMUG-30", Name: "of OPTIONS", Raw: strings.Replace(get("/app/{id}", "Content-Length: {inner length}"), "GET", "OPTIONS", 1) + "{inner}", Want: served},
		Case{ID: "length", Name: "leading zeros", Raw: post("hello", "Content-Length: 0005"), Want: either, Stranger: []Class{Refused | SignIn}, Seen: []string{"\r\nContent-Length: 5\r\n"}},
		Case{ID: "length", Name: "twice the same", Raw: post("hello", "Content-Length: 5", "Content-Length: 5"), Want: either, Stranger: []Class{Refused | SignIn}, Seen: []string{"\r\nContent-Length: 5\r\n"}},
		Case{ID: "length", Name: "a list of the same", Raw: post("hello", "Content-Length: 5, 5"), Want: either, Stranger: []Class{Refused | SignIn}, Seen: []string{"\r\nContent-Length: 5\r\n"}},
		Case{ID: "length", Name: "none", Raw: post("{inner}"), Want: two, Stranger: []Class{SignIn, SignIn | Hangup}},
		Case{ID: "length", Name: "of none, and another request", Raw: post("{inner}", "Content-Length: 0"), Want: two, Stranger: []Class{SignIn, SignIn | Hangup}},
	)
}

// chunks are malformed chunks: RFC 9112 §7.1.
func chunks() []Case {
	bad := func(id, name, body string) Case {
		return Case{ID: id, Name: name, Raw: post(body, chunked), Want: framing, Stranger: []Class{SignIn | Refused | Hangup}, Torn: true, Closes: true, Ends: true}
	}
	tail := "0\r\n\r\n{inner}"
	return []Case{
		bad("SMUG-20", "", "2;\nxx\r\n4c\r\n0\r\n\r\n{inner}\r\n0\r\n\r\n"), bad("SMUG-20", "bare LF behind the size", "5\nhello\r\n"+tail), bad("SMUG-20", "bare LF behind the data", "5\r\nhello\n"+tail),
		bad("SMUG-20", "bare CR behind the size", "5\rhello\r\n"+tail), bad("SMUG-20", "LF at the end", "0\n\n{inner}"), bad("SMUG-20", "CR in an extension", "5;a=\r\r\nhello\r\n"+tail), bad("SMUG-20", "a chunk in a quoted extension", "5;a=\"\r\n0\r\n\r\n{inner}\"\r\nhello\r\n0\r\n\r\n"),
		bad("SMUG-20", "NUL in an extension", "5;a=\x00\r\nhello\r\n"+tail), bad("SMUG-20", "an endless extension", "5;"+strings.Repeat("a", 70_000)+"\r\nhello\r\n"+tail), bad("SMUG-20", "many extensions", strings.Repeat("1;"+strings.Repeat("a", 100)+"\r\nx\r\n", 400)+tail),
		bad("SMUG-20", "LF in the trailer", "5\r\nhello\r\n0\r\nX-A: b\nX-B: c\r\n\r\n{inner}"),
		bad("SMUG-22", "", "0x0\r\n\r\n{inner}"), bad("SMUG-22", "plus", "+0\r\n\r\n{inner}"), bad("SMUG-22", "minus", "-0\r\n\r\n{inner}"), bad("SMUG-22", "minus one", "-1\r\n\r\n{inner}"), bad("SMUG-22", "underscore", "0_5\r\nhello\r\n"+tail),
		bad("SMUG-22", "no size", "\r\nhello\r\n"+tail), bad("SMUG-22", "extension alone", ";a\r\nhello\r\n"+tail), bad("SMUG-22", "blank first", " 5\r\nhello\r\n"+tail), bad("SMUG-22", "no digit", "g\r\nhello\r\n"+tail), bad("SMUG-22", "decimal point", "5.0\r\nhello\r\n"+tail),
		bad("SMUG-22", "tab and text", "5\thello\r\n"+tail), bad("SMUG-22", "two numbers", "5 5\r\nhello\r\n"+tail), bad("SMUG-22", "full width", "\uff15\r\nhello\r\n"+tail),
		bad("SMUG-23", "", "10000000000000000\r\nx\r\n"+tail), bad("SMUG-23", "all ones", "ffffffffffffffff\r\nx\r\n"+tail), bad("SMUG-23", "negative as signed", "8000000000000000\r\nx\r\n"+tail), bad("SMUG-23", "zeros before", "00000000000000000\r\n\r\n{inner}"),
		bad("SMUG-23", "wraps to five", "100000000000000005\r\nhello\r\n"+tail), bad("SMUG-23", "32 bits", "100000005\r\nhello\r\n"+tail),
		bad("SMUG-23", "too much data", "5\r\nhelloXX\r\n"+tail), bad("SMUG-23", "too little data", "6\r\nhello\r\n"+tail), bad("SMUG-23", "no CRLF behind the data", "5\r\nhello"+tail), bad("SMUG-23", "a request in place of a chunk", "{inner}"),
		{ID: "chunked", Name: "two chunks", Raw: post("5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n{inner}", chunked), Want: served, Closes: true},
	}
}

// expectations are how a client asks whether to send its body, which proxies and servers may both answer.
func expectations() (all []Case) {
	for _, expect := range []string{"200-ok", "100-continue, 200-ok", "200-ok, 100-continue", "y 100-continue", "100-continue;q=1", "100_continue", "100-continue\r\nExpect: 200-ok"} {
		all = append(all, Case{ID: "expectation", Name: expect, Raw: post("x", "Content-Length: 1", "Expect: "+expect), Want: refused, Closes: true})
		all = append(all, Case{ID: "expectation", Name: expect + " and a request", Raw: get("/app/{id}", "Expect: "+expect) + "{inner}", Want: refused, Closes: true})
	}
	for _, expect := range []string{"100-continue", "100-CONTINUE"} {
		all = append(all, Case{ID: "expectation", Name: expect, Raw: post("hello", "Content-Length: 5", "Expect: "+expect), Want: served})
		all = append(all, Case{ID: "expectation", Name: expect + " without a body", Raw: get("/app/{id}", "Expect: "+expect), Want: either, Stranger: []Class{Refused | SignIn}})
		all = append(all, Case{ID: "expectation", Name: expect + " of HEAD", Raw: message("HEAD /app/{id} HTTP/1.1", "Host: {host}", "Cookie: {cookie}", "Content-Length: {inner length}", "Expect: "+expect) + "{inner}", Want: either, Stranger: []Class{Refused | SignIn}})
	}
	return append(all, Case{ID: "expectation", Name: "folded", Raw: post("hello", "Content-Length: 5", "Expect:\r\n 100-continue"), Want: either, Stranger: []Class{Refused | SignIn}})
}

// upgrades are wishes to speak something else than was decided on.
func upgrades() (all []Case) {
	for _, u := range []struct{ id, text string }{
		{"SMUG-37", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"}, {"SMUG-37", "Connection: Upgrade\r\nUpgrade: h2c"}, {"SMUG-37", "Upgrade: h2c"}, {"SMUG-37", "Connection: upgrade\r\nUpgrade: H2C"},
		{"SMUG-37", "Connection: Upgrade\r\nUpgrade: websocket, h2c"}, {"SMUG-37", "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket"}, {"SMUG-37", "Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1"}, {"SMUG-37", "Connection: Upgrade\r\nUpgrade: h2"},
		{"SMUG-37", "Connection: Upgrade\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1"}, {"SMUG-37", "Connection: Upgrade\r\nUpgrade:"},
		{"SMUG-39", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 1777\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, {"SMUG-39", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"},
		{"SMUG-39", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short"}, {"SMUG-39", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
		{"SMUG-39", "Connection: close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
		{"SMUG-39", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
		{"SMUG-39", "Connection: Upgrade\r\nUpgrade: websocket/13\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
	} {
		all = append(all, Case{ID: u.id, Name: u.text, Raw: get("/app/{id}", u.text) + "{inner}", Want: refused, Closes: true})
	}
	shake := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	no := func(name, script string, want ...Class) Case {
		return Case{ID: "SMUG-39", Name: name, Raw: get("/app/{id}", shake...) + "{inner}", Script: script, Want: want, Stranger: []Class{SignIn}, Unsaid: []string{"smuggled"}}
	}
	return append(all,
		no("the app says no", "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n", Refused),
		no("the app says yes to something else", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", Broken),
		no("the app says yes without a key", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Broken),
		no("the app says 200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Served),
		Case{ID: "SMUG-39", Name: "with a body", Raw: get("/app/{id}", append(shake, "Content-Length: {inner length}")...) + "{inner}", Want: refused, Closes: true},
		Case{ID: "SMUG-39", Name: "by POST", Raw: post("{inner}", append(shake, "Content-Length: 0")...), Want: refused, Closes: true},
		Case{ID: "SMUG-37", Name: "settings alone", Raw: get("/app/{id}", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), Want: either, Stranger: []Class{Refused | SignIn}, Unseen: []string{"http2-settings"}},
	)
}

// pipelines are several requests on a connection, each with its own decision, and answers that nobody asked for.
func pipelines() []Case {
	anonymous := message("GET /app/{id} HTTP/1.1", "Host: {host}")
	return []Case{
		{ID: "SMUG-41", Raw: get("/app/{id}"), Script: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Want: served, Unsaid: []string{"poison"}},
		{ID: "SMUG-41", Name: "of two", Raw: get("/app/{id}") + get("/app/{id}"), Script: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Want: []Class{Served, Served}, Unsaid: []string{"poison"}},
		{ID: "SMUG-41", Name: "to HEAD", Raw: strings.Replace(get("/app/{id}"), "GET", "HEAD", 1), Script: "HTTP/1.1 200 OK\r\nContent-Length: 45\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Want: served, Unsaid: []string{"poison"}},
		{ID: "SMUG-41", Name: "behind 204", Raw: get("/app/{id}"), Script: "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison", Want: []Class{Elsewhere | Broken}, Stranger: []Class{SignIn}, Unsaid: []string{"poison"}},
		{ID: "RESP-01", Name: "two framings", Raw: get("/app/{id}"), Script: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Want: []Class{Served | Broken}, Stranger: []Class{SignIn}, Unsaid: []string{"poison"}},
		{ID: "RESP-02", Name: "CR in a field", Raw: get("/app/{id}"), Script: "HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok", Want: []Class{Served | Broken}, Stranger: []Class{SignIn}, Unsaid: []string{"evil"}},
		{ID: "RESP-03", Name: "NUL in a field", Raw: get("/app/{id}"), Script: "HTTP/1.1 200 OK\r\nX-A: b\x00Set-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok", Want: []Class{Served | Broken}, Stranger: []Class{SignIn}, Unsaid: []string{"evil"}},
		{ID: "RESP-10", Name: "an endless head", Raw: get("/app/{id}"), Script: "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("b", 2<<20) + "\r\nContent-Length: 2\r\n\r\nok", Want: []Class{Broken}, Stranger: []Class{SignIn}},
		{ID: "RESP-13", Name: "another protocol", Raw: get("/app/{id}"), Script: "SSH-2.0-OpenSSH_9.9\r\n", Want: []Class{Broken}, Stranger: []Class{SignIn}, Unsaid: []string{"ssh", "127.0.0.1:"}},
		{ID: "SSRF-01", Raw: get("/app/{id}"), Script: "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", Want: []Class{Elsewhere}, Stranger: []Class{SignIn}},
		{ID: "SMUG-43", Raw: get("/app/{id}1") + get("/app/{id}2") + get("/app/{id}3"), Anonymous: true, Want: []Class{SignIn, SignIn, SignIn}},
		{ID: "SMUG-44", Raw: get("/app/{id}") + anonymous, Want: []Class{Served, SignIn}},
		{ID: "SMUG-44", Name: "and back", Raw: get("/app/{id}") + anonymous + get("/app/{id}"), Want: []Class{Served, SignIn, Served}},
		{ID: "SMUG-44", Name: "other host", Raw: get("/app/{id}") + message("GET /app/{id} HTTP/1.1", "Host: {other}", "Cookie: {othercookie}"), Want: []Class{Served, Misroute}},
		{ID: "per request", Raw: get("/app/{id}") + get("/admin/{id}") + get("/app/{id}"), Want: []Class{Served, Denied, Served}},
		{ID: "per request", Name: "behind an ambiguous one", Raw: get("/app/../admin/{id}") + get("/app/{id}"), Want: []Class{Refused, Served}},
	}
}

// requestLines are first lines that are not of HTTP/1.1, or only nearly so.
func requestLines() (all []Case) {
	rest := "\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n"
	for _, line := range []string{
		"GET  /app/{id}  HTTP/1.1", "GET  /app/{id} HTTP/1.1", "GET /app/{id}  HTTP/1.1", "GET\t/app/{id}\tHTTP/1.1", "GET /app/{id} HTTP/1.1 ", "GET /app/{id}\x0bHTTP/1.1", "GET /app/{id} HTTP/1.1 x", "GET /app/{id} x HTTP/1.1", " GET /app/{id} HTTP/1.1",
		"GET /app/{id}", "GET /app/{id} ", "/app/{id} HTTP/1.1", "GET HTTP/1.1", "GET  HTTP/1.1", "/app/{id}", "GET /app/{id} HTTP/", "GET /app/{id} HTTP/1", "GET /app/{id} HTTP/1.", "GET /app/{id} HTTP/.1",
		"GET /app/{id} http/1.1", "GET /app/{id} HTTP/1.2", "GET /app/{id} HTTP/1.10", "GET /app/{id} HTTP/01.1", "GET /app/{id} HTTP/2.0", "GET /app/{id} HTTP/3.0", "GET /app/{id} HTTP/0.9", "GET /app/{id} HTTP/1.1a", "GET /app/{id} HTTP/+1.1", "GET /app/{id} HTTP/1,1",
		"GET /app/{id} ICAP/1.1", "GET /app/{id} HTTPS/1.1", "GET /app/{id} HTTP /1.1", "GET\x00 /app/{id} HTTP/1.1", "G\x00ET /app/{id} HTTP/1.1", "GET /app/{id}\x00 HTTP/1.1", "GET /app/\x01{id} HTTP/1.1", "GET /app/\x7f{id} HTTP/1.1", "GET /app/{id}\t HTTP/1.1", "GET /app/a {id} HTTP/1.1",
		"GET /app/{id} HTTP/1.1\r", "\x16\x03\x01 /app/{id} HTTP/1.1", "GE\xc5\xa4 /app/{id} HTTP/1.1", "G(E)T /app/{id} HTTP/1.1", "\"GET\" /app/{id} HTTP/1.1", "GET, /app/{id} HTTP/1.1", "GET: /app/{id} HTTP/1.1",
	} {
		all = append(all, Case{ID: "METH-14", Name: line, Raw: line + rest, Want: refused, Closes: true})
	}
	return append(all,
		Case{ID: "METH-14", Name: "empty line first", Raw: "\r\n" + get("/app/{id}"), Want: either, Stranger: []Class{Refused | SignIn}},
		Case{ID: "METH-14", Name: "HTTP/2's preface", Raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Want: []Class{Refused | Hangup}, Closes: true},
		Case{ID: "METH-14", Name: "half a request", Raw: "GET /app/{id} HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\n", Want: []Class{Refused | SignIn | Hangup}, Ends: true},
		Case{ID: "SMUG-33", Raw: strings.ReplaceAll(get("/app/{id}", "X-A: b"), "\r\n", "\n"), Want: either, Stranger: []Class{Refused | SignIn}},
		Case{ID: "SMUG-33", Name: "one line", Raw: strings.Replace(get("/app/{id}", "X-A: b", "X-B: c"), "X-A: b\r\n", "X-A: b\n", 1), Want: either, Stranger: []Class{Refused | SignIn}},
		Case{ID: "SMUG-33", Name: "the last", Raw: strings.TrimSuffix(get("/app/{id}"), "\r\n\r\n") + "\n\n", Want: either, Stranger: []Class{Refused | SignIn}},
		Case{ID: "SMUG-33", Name: "CR alone", Raw: strings.ReplaceAll(get("/app/{id}", "X-A: b"), "\r\n", "\r") + "\r\n\r\n", Want: refused, Closes: true},
		Case{ID: "SMUG-33", Name: "LF CR", Raw: strings.ReplaceAll(get("/app/{id}", "X-A: b"), "\r\n", "\n\r") + "\r\n\r\n", Want: refused, Closes: true},
		Case{ID: "SMUG-33", Name: "LF CR LF in the middle", Raw: "GET /app/{id} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nX-A: b\n\r\n{inner}", Want: []Class{Served | Refused, Denied | Hangup}, Stranger: []Class{SignIn | Refused, SignIn | Hangup | Denied}},
	)
}
