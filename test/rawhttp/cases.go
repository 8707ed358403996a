package rawhttp

import (
	"slices"
	"strings"
)

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
//	{inner length}          its length in decimal digits
//	{hostname}              the app's host without port
type Case struct {
	ID, Name string

	Raw    string      // what goes over an HTTP/1.1 connection
	Plain  bool        // Raw goes out before any TLS
	Fields []Field     // or one HTTP/2 request
	Body   []byte      // of the HTTP/2 request; nil ends it with its header
	Frames func(*Wire) // or any frames; what comes back on stream 1 is the answer
	SNI    string      // default {host}; without port
	NoSNI  bool        // the handshake names nobody
	Script string      // the app's answer, byte for byte

	Want      []Class // per answer
	Stranger  []Class // per answer without a session; default: Want, where Served and Denied become SignIn
	Anonymous bool    // only without a session
	Own       bool    // asks the gateway's own endpoints, which decide about no app and record no decision
	Ends      bool    // the client says no more on this connection
	Closes    bool    // the connection ends after the wanted answers
	Torn      bool    // the app may have got a message that never ended

	Seen   []string // in the head that reaches the app
	Unseen []string // not in any head that reaches the app, without case
	Unsaid []string // not in any answer, without case
}

// Protocol is what a case is sent over: tcp, http1 or http2.
func (c Case) Protocol() string {
	switch {
	case c.Plain:
		return "tcp"
	case c.Raw != "":
		return "http1"
	}
	return "http2"
}

// Cases are the rows of path confusion, header, smuggling, HTTP/2, host, method, cookie and redirect confusion. Their
// fixture: a person who may use /app/ of {host}, nothing else of it and nothing of {other}.
func Cases() []Case {
	return slices.Concat(paths(), queries(), headerFields(), connectionFields(), framedFields(), transferCodings(), contentLengths(), chunks(), expectations(),
		upgrades(), pipelines(), requestLines(), pseudoFields(), http2Fields(), http2Bodies(), frames(), hosts(), http2Hosts(), methods(), cookies(),
		redirects(), floods())
}

// ask is a request that both protocols can carry: to the app, with the session.
type ask struct {
	method, target string  // default GET /app/{id}
	fields         []Field // beside the host and the cookie
	body           string
	cookie         []Field // in place of the session's
}

// both are one case over each protocol. A refusal in HTTP/2 may be a reset, and says nothing about other streams.
func both(c Case, a ask) []Case {
	if a.method == "" {
		a.method = "GET"
	}
	if a.target == "" {
		a.target = "/app/{id}"
	}
	if a.cookie == nil {
		a.cookie = []Field{{"Cookie", "{cookie}"}}
	}
	one, two := c, c
	lines := []string{"Host: {host}"}
	for _, f := range slices.Concat(a.cookie, a.fields) {
		lines = append(lines, f.Name+": "+f.Value)
	}
	one.Raw = message(a.method+" "+a.target+" HTTP/1.1", lines...) + a.body
	two.Fields = pseudo(a.method, "https", "{host}", a.target)
	for _, f := range slices.Concat(a.fields, a.cookie) {
		two.Fields = append(two.Fields, Field{strings.ToLower(f.Name), f.Value})
	}
	if a.body != "" {
		two.Body = []byte(a.body)
	}
	two.Closes = false
	two.Want, two.Stranger = orReset(c.Want), orReset(c.Stranger)
	return []Case{one, two}
}

func orReset(want []Class) []Class {
	want = slices.Clone(want)
	for i := range want {
		if want[i]&Refused != 0 {
			want[i] |= Hangup
		}
	}
	return want
}

// get is a GET of the app with the session, over HTTP/1.1.
func get(target string, lines ...string) string {
	return message("GET "+target+" HTTP/1.1", append([]string{"Host: {host}", "Cookie: {cookie}"}, lines...)...)
}

// post is a POST of the app with the session, over HTTP/1.1; its body follows.
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

// What most rows want.
var (
	served    = []Class{Served}
	refused   = []Class{Refused}
	either    = []Class{Refused | Served}   // both readings are safe: one request, or none
	elsewhere = []Class{Refused | Misroute} // another host than the connection's
	kept      = []Class{Refused | Denied}   // never served
	reset     = []Class{Refused | Hangup}   // in HTTP/2
	framing   = []Class{Refused | Served | Broken | Hangup}
)

// row is a spelling and what becomes of it.
type row struct {
	id, text string
	want     []Class
}
