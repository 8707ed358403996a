package rawhttp

import (
	"bytes"
	"strings"

	"golang.org/x/net/http2"
)

// http2Inner is a request of HTTP/1.1 in places where a careless gateway lets it become one.
var http2Inner = []byte("GET /admin/smuggled HTTP/1.1\r\nHost: x\r\n\r\n")

// pseudoFields are control data that is missing, twice there, out of place or more than it says: RFC 9113 §8.3.
func pseudoFields() (all []Case) {
	cookie := Field{"cookie", "{cookie}"}
	bad := func(id, name string, fields ...Field) {
		all = append(all, Case{ID: id, Name: name, Fields: append(fields, cookie), Want: reset})
	}
	plain := pseudo("GET", "https", "{host}", "/app/{id}")
	m, s, a, p := plain[0], plain[1], plain[2], plain[3]
	bad("H2-10", "no slash", m, s, a, Field{":path", "admin/{id}"})
	bad("H2-10", "no slash, allowed", m, s, a, Field{":path", "app/{id}"})
	bad("H2-10", "empty", m, s, a, Field{":path", ""})
	bad("H2-10", "asterisk", m, s, a, Field{":path", "*"})
	bad("H2-10", "query alone", m, s, a, Field{":path", "?/app/{id}"})
	bad("H2-12", "another host", m, s, a, Field{":path", "https://{other}/admin/{id}"})
	bad("H2-12", "this host", m, s, a, Field{":path", "https://{host}/app/{id}"})
	bad("H2-12", "http", m, s, a, Field{":path", "http://127.0.0.1/app/{id}"})
	bad("H2-12", "authority", m, s, a, Field{":path", "{host}"})
	bad("H2-12", "at another", m, s, a, Field{":path", "@{other}/app/{id}"})
	bad("H2-13", "path", m, s, a, p, Field{":path", "/admin/{id}"})
	bad("H2-13", "path, the other first", m, s, a, Field{":path", "/admin/{id}"}, p)
	bad("H2-13", "the same path", m, s, a, p, p)
	bad("H2-13", "method", m, Field{":method", "POST"}, s, a, p)
	bad("H2-13", "authority", m, s, a, Field{":authority", "{other}"}, p)
	bad("H2-13", "scheme", m, s, Field{":scheme", "http"}, a, p)
	bad("H2-14", "no method", s, a, p)
	bad("H2-14", "no scheme", m, a, p)
	bad("H2-14", "no path", m, s, a)
	bad("H2-14", "no authority", m, s, p)
	bad("H2-14", "nothing")
	bad("H2-14", "empty method", Field{":method", ""}, s, a, p)
	bad("H2-14", "empty scheme", m, Field{":scheme", ""}, a, p)
	bad("H2-14", "empty authority", m, s, Field{":authority", ""}, p)
	bad("H2-15", "behind a field", m, s, a, Field{"x-a", "b"}, p)
	bad("H2-15", "all behind", append([]Field{{"x-a", "b"}}, plain...)...)
	bad("H2-16", "unknown", append(plain, Field{":foo", "bar"})...)
	bad("H2-16", "of an answer", append(plain, Field{":status", "200"})...)
	bad("H2-16", "protocol", append(plain, Field{":protocol", "websocket"})...)
	bad("H2-16", "empty pseudo name", append(plain, Field{":", "x"})...)
	bad("H2-16", "capital", m, s, a, Field{":Path", "/app/{id}"})
	for _, method := range []string{"GET /admin/{id} HTTP/1.1\r\nHost: {host}\r\n\r\nGET", "GET\r\nX-A: b", "GET ", " GET", "GET\t", "G\x00ET", "GET\n", "GET /admin"} {
		bad("H2-11", "method "+method, Field{":method", method}, s, a, p)
	}
	for _, path := range []string{"/app/{id} HTTP/1.1\r\nX-Sallyport-User: attacker\r\n\r\nGET /admin/smuggled", "/app/{id}\r\nHost: {other}", "/app/{id} x", "/app/{id}\n", "/app/{id}\t", "/app/{id}\x00", "/app/{id}\r", " /app/{id}", "/app/{id}#", "/app/{id}\x7f", "/app/{id}?a=b\r\nX: y", "/app/{id}\xff"} {
		bad("H2-11", "path "+path, m, s, a, Field{":path", path})
	}
	for _, scheme := range []string{"ftp", "HTTPS ", "https, http", "http://evil.example/?", "https\r\nX-A: b", "javascript", "https://{other}/admin?x="} {
		bad("H2-11", "scheme "+scheme, m, Field{":scheme", scheme}, a, p)
	}
	for _, authority := range []string{"{host}\r\nX-A: b", "{host}\n", "{host}\x00", "{host} ", "{host}\t"} {
		bad("H2-11", "authority "+authority, m, s, Field{":authority", authority}, p)
	}
	connect := func(name string, fields ...Field) {
		all = append(all, Case{ID: "H2-27", Name: name, Fields: append(fields, cookie), Body: http2Inner, Want: reset})
	}
	tunnel := Field{":method", "CONNECT"}
	connect("authority alone", tunnel, a)
	connect("with a path", tunnel, s, a, p)
	connect("to a port of ours", tunnel, Field{":authority", "127.0.0.1:22"})
	connect("with a length", tunnel, a, Field{"content-length", "41"})
	connect("extended", tunnel, s, a, p, Field{":protocol", "websocket"}, Field{"sec-websocket-version", "13"})
	connect("extended without a path", tunnel, a, Field{":protocol", "connect-udp"})
	return append(all,
		Case{ID: "scheme", Name: "is what TLS says", Fields: append(pseudo("GET", "http", "{host}", "/app/{id}"), cookie), Want: []Class{Served | Refused}, Stranger: []Class{SignIn | Refused}, Seen: []string{"\r\nX-Forwarded-Proto: https\r\n"}},
		Case{ID: "H2-14", Name: "host in place of authority", Fields: []Field{m, s, p, {"host", "{host}"}, cookie}, Want: []Class{Served | Refused}, Stranger: []Class{SignIn | Refused}},
	)
}

// http2Fields are fields that HTTP/2 cannot carry, or that become others in HTTP/1.1: RFC 9113 §8.2.
func http2Fields() (all []Case) {
	bad := func(id, name, value string) {
		all = append(all, Case{ID: id, Name: name + ": " + value, Fields: h2("/app/{id}", Field{name, value}), Want: reset})
	}
	for _, value := range []string{"b\r\nx-sallyport-user: attacker", "b\nx-sallyport-user: attacker", "b\rx-sallyport-user: attacker", "b\x00", "b\r\n\r\n{inner}", "\r\n", "b\r\nTransfer-Encoding: chunked", "\x01", "\x7f", "b\r\n x"} {
		bad("H2-06", "x-a", value)
		bad("H2-06", "cookie", value)
		bad("H2-06", "user-agent", value)
	}
	for _, name := range []string{"x-a: b\r\nx-sallyport-user", "x-a:b", "x-a ", " x-a", "x-a\t", "x a", "x-a\x00", "x-a\n", "X-A", "Cookie", "Content-Length", "Host", "x-\xc3\xa4", "x/a", "x(a)", "x-a\r\n\r\nGET /admin/smuggled HTTP/1.1\r\nx", "transfer-encoding ", "transfer-encoding\r", "transfer-encoding:"} {
		bad("H2-07", name, "attacker")
	}
	bad("H2-19", "", "attacker")
	for _, f := range []Field{{"connection", "close"}, {"connection", "keep-alive"}, {"connection", "x-sallyport-user"}, {"proxy-connection", "keep-alive"}, {"keep-alive", "timeout=5"}, {"upgrade", "h2c"}, {"upgrade", "websocket"}, {"te", "gzip"}, {"te", "trailers, gzip"},
		{"transfer-encoding", "chunked"}, {"transfer-encoding", "identity"}, {"transfer-encoding", ""}, {"transfer-encoding", "trailers"}} {
		bad("H2-05", f.Name, f.Value)
	}
	for _, f := range []Field{{"http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"}, {"proxy", "http://attacker"}, {"transfer_encoding", "attacker"}, {"te", "trailers"}, {"trailer", ""}} {
		all = append(all, Case{ID: "HDR-19", Name: "over HTTP/2: " + f.Name, Fields: h2("/app/{id}", f), Want: []Class{Served | Refused | Hangup}, Stranger: []Class{SignIn | Refused | Hangup}, Unseen: []string{"attacker", "\nhttp2-settings:", "\nte:"}})
	}
	return all
}

// http2Bodies are bodies whose length is said in two ways: RFC 9113 §8.1.1.
func http2Bodies() (all []Case) {
	posted := func(more ...Field) []Field {
		return append(pseudo("POST", "https", "{host}", "/app/{id}"), append(more, Field{"cookie", "{cookie}"})...)
	}
	torn := []Class{Refused | Hangup | Served | Broken}
	for _, length := range []string{"0", "1", "40", "42", "100000", "9223372036854775807"} {
		all = append(all, Case{ID: "H2-03", Name: "says " + length, Fields: posted(Field{"content-length", length}), Body: http2Inner, Want: torn, Stranger: []Class{Refused | Hangup | SignIn}, Torn: true})
	}
	for _, length := range []string{"+41", "-1", "0x29", "41, 41", "", " 41", "41 ", "4 1", "four", "18446744073709551657"} {
		all = append(all, Case{ID: "H2-03", Name: "says '" + length + "'", Fields: posted(Field{"content-length", length}), Body: http2Inner, Want: torn, Stranger: []Class{Refused | Hangup | SignIn}, Torn: true})
	}
	return append(all,
		Case{ID: "H2-03", Name: "two lengths", Fields: posted(Field{"content-length", "0"}, Field{"content-length", "41"}), Body: http2Inner, Want: torn, Stranger: []Class{Refused | Hangup | SignIn}, Torn: true},
		Case{ID: "H2-03", Name: "a length and no body", Fields: h2("/app/{id}", Field{"content-length", "5"}), Want: torn, Stranger: []Class{Refused | Hangup | SignIn}, Torn: true},
		Case{ID: "H2-05", Name: "and a body", Fields: posted(Field{"transfer-encoding", "chunked"}), Body: append([]byte("0\r\n\r\n"), http2Inner...), Want: reset},
		Case{ID: "body", Fields: posted(), Body: http2Inner, Want: served},
		Case{ID: "body", Name: "with its length", Fields: posted(Field{"content-length", "41"}), Body: http2Inner, Want: served, Seen: []string{"\r\nContent-Length: 41\r\n"}},
		Case{ID: "body", Name: "of GET", Fields: h2("/app/{id}"), Body: http2Inner, Want: []Class{Served | Refused}, Stranger: []Class{SignIn | Refused}},
	)
}

// frames are connections that break HTTP/2's rules below its messages. After each the gateway has to be there for others.
func frames() (all []Case) {
	any := []Class{Refused | Hangup | Served | Broken}
	stranger := []Class{Refused | Hangup | SignIn}
	bad := func(id, name string, act func(w *Wire)) {
		all = append(all, Case{ID: id, Name: name, Frames: act, Want: any, Stranger: stranger, Torn: true, Unseen: []string{"attacker"}})
	}
	whole := http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream
	opened := http2.FlagHeadersEndHeaders
	post := append(pseudo("POST", "https", "{host}", "/app/{id}"), Field{"cookie", "{cookie}"})
	trailers := func(fields ...Field) func(w *Wire) {
		return func(w *Wire) {
			w.Headers(1, opened, post...)
			w.Frame(http2.FrameData, 0, 1, []byte("hello"))
			w.Headers(1, whole, fields...)
		}
	}
	bad("trailer", "identity", trailers(Field{"x-sallyport-user", "attacker"}))
	bad("trailer", "pseudo field", trailers(Field{":path", "/admin/attacker"}))
	bad("trailer", "length", trailers(Field{"content-length", "500"}))
	bad("trailer", "coding", trailers(Field{"transfer-encoding", "chunked"}))
	bad("trailer", "line ends", trailers(Field{"x-a", "b\r\nx-sallyport-user: attacker"}))
	bad("trailer", "host", trailers(Field{"host", "attacker.example"}))
	bad("H2-40", "data on a stream that is not open", func(w *Wire) { w.Frame(http2.FrameData, http2.FlagDataEndStream, 1, http2Inner) })
	bad("H2-40", "data on stream 0", func(w *Wire) { w.Frame(http2.FrameData, 0, 0, http2Inner) })
	bad("H2-40", "headers on stream 0", func(w *Wire) { w.Headers(0, whole, h2("/app/{id}")...) })
	bad("H2-40", "headers on an even stream", func(w *Wire) { w.Headers(2, whole, h2("/app/{id}")...) })
	bad("H2-40", "a stream that was closed", func(w *Wire) { w.Headers(3, whole, h2("/app/{id}")...); w.Headers(1, whole, h2("/admin/{id}")...) })
	bad("H2-40", "headers twice", func(w *Wire) { w.Headers(1, opened, post...); w.Headers(1, opened, h2("/admin/{id}")...) })
	bad("H2-40", "data behind the end", func(w *Wire) { w.Headers(1, whole, h2("/app/{id}")...); w.Frame(http2.FrameData, 0, 1, http2Inner) })
	bad("H2-40", "padding longer than its frame", func(w *Wire) {
		w.Headers(1, opened, post...)
		w.Frame(http2.FrameData, http2.FlagDataPadded|http2.FlagDataEndStream, 1, []byte("\xffhello"))
	})
	bad("H2-40", "padding and nothing else", func(w *Wire) { w.Frame(http2.FrameHeaders, whole|http2.FlagHeadersPadded, 1, []byte{0xff}) })
	bad("H2-40", "a promise", func(w *Wire) { w.Frame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, []byte{0, 0, 0, 2}) })
	bad("H2-40", "a window of nothing", func(w *Wire) { w.Headers(1, opened, post...); w.Frame(http2.FrameWindowUpdate, 0, 1, make([]byte, 4)) })
	bad("H2-40", "a window beyond its limit", func(w *Wire) {
		w.Frame(http2.FrameWindowUpdate, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff})
		w.Frame(http2.FrameWindowUpdate, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff})
	})
	bad("H2-40", "settings of half a length", func(w *Wire) { w.Frame(http2.FrameSettings, 0, 0, []byte{0, 4, 0}) })
	bad("H2-40", "settings on a stream", func(w *Wire) { w.Frame(http2.FrameSettings, 0, 1, nil) })
	bad("H2-40", "settings of a window too large", func(w *Wire) { w.Frame(http2.FrameSettings, 0, 0, []byte{0, 4, 0xff, 0xff, 0xff, 0xff}) })
	bad("H2-40", "settings of a frame too small", func(w *Wire) { w.Frame(http2.FrameSettings, 0, 0, []byte{0, 5, 0, 0, 0, 1}) })
	bad("H2-40", "settings that push", func(w *Wire) { w.Frame(http2.FrameSettings, 0, 0, []byte{0, 2, 0, 0, 0, 2}) })
	bad("H2-40", "a ping of 7 bytes", func(w *Wire) { w.Frame(http2.FramePing, 0, 0, make([]byte, 7)) })
	bad("H2-40", "a reset of nothing", func(w *Wire) { w.Frame(http2.FrameRSTStream, 0, 1, make([]byte, 4)) })
	bad("H2-40", "a stream that depends on itself", func(w *Wire) {
		w.Frame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 1, 0})
		w.Headers(1, whole, h2("/app/{id}")...)
	})
	bad("H2-40", "a frame that nobody knows", func(w *Wire) { w.Frame(0xee, 0xff, 1, http2Inner); w.Headers(1, whole, h2("/app/{id}")...) })
	bad("H2-40", "a frame of 1 MiB", func(w *Wire) {
		w.Headers(1, opened, post...)
		w.Frame(http2.FrameData, http2.FlagDataEndStream, 1, make([]byte, 1<<20))
	})
	bad("H2-40", "a farewell, and a request", func(w *Wire) {
		w.Frame(http2.FrameGoAway, 0, 0, make([]byte, 8))
		w.Headers(1, whole, h2("/app/{id}")...)
	})
	bad("H2-41", "a continuation of nothing", func(w *Wire) {
		w.Frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, w.Block(h2("/app/{id}")...))
	})
	bad("H2-41", "data between headers and continuation", func(w *Wire) {
		w.Headers(1, 0, post...)
		w.Frame(http2.FrameData, http2.FlagDataEndStream, 1, http2Inner)
	})
	bad("H2-41", "another stream's continuation", func(w *Wire) {
		w.Headers(1, 0, post...)
		w.Frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, nil)
	})
	bad("H2-41", "a field that begins anew in its continuation", func(w *Wire) {
		w.Headers(1, http2.FlagHeadersEndStream, h2("/app/{id}")...)
		w.Frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, w.Block(Field{":path", "/admin/{id}"}))
	})
	bad("DOS-02", "continuations without an end", func(w *Wire) {
		w.Headers(1, 0, post...)
		for range 256 {
			if w.Frame(http2.FrameContinuation, 0, 1, w.Block(Field{"x-a", strings.Repeat("b", 16<<10-100)})) != nil {
				return
			}
		}
	})
	bad("DOS-02", "empty continuations", func(w *Wire) {
		w.Headers(1, 0, post...)
		for range 20_000 {
			if w.Frame(http2.FrameContinuation, 0, 1, nil) != nil {
				return
			}
		}
	})
	compressed := func(name string, block ...byte) {
		bad("H2-42", name, func(w *Wire) { w.Frame(http2.FrameHeaders, whole, 1, block) })
	}
	compressed("an index of nothing", 0x80)
	compressed("an index beyond the table", 0xff, 0xff, 0xff, 0xff, 0x0f)
	compressed("a table too large", 0x3f, 0xff, 0xff, 0xff, 0x7f)
	compressed("a number without an end", 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	compressed("a text beyond the end", 0x40, 0x7f, 0xff, 0x01, 'x')
	compressed("an end of text that is coded", 0x40, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, 'x')
	compressed("a bomb", append(append([]byte{0x40, 0x01, 'a', 0x7f, 0x81, 0x1e}, bytes.Repeat([]byte{'b'}, 4000)...), bytes.Repeat([]byte{0xbe}, 12_000)...)...)
	compressed("no fields at all")
	return all
}
