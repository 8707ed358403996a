package rawhttp

import (
	"fmt"
	"slices"
	"strings"
)

// claimed are fields that say who is asking, in the gateway's own words and in those of others.
var claimed = []string{"X-Sallyport-User", "X-Sallyport-Email", "X-Sallyport-Groups", "X-Sallyport-Assertion", "X-Sallyport-Anything", "X-Auth-Request-User", "X-Auth-Request-Email",
	"X-Auth-Request-Groups", "X-Auth-Request-Access-Token", "X-Auth-User", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
	"X-Pomerium-Jwt-Assertion", "X-Pomerium-Claim-Email", "Cf-Access-Jwt-Assertion", "Cf-Access-Authenticated-User-Email", "X-Goog-Authenticated-User-Email", "X-Goog-Iap-Jwt-Assertion", "X-Amzn-Oidc-Data",
	"X-Amzn-Oidc-Identity", "X-Ms-Client-Principal", "Remote-User", "Remote-Groups", "X-Remote-User", "X-Webauth-User", "X-Authentik-Username", "X-Vouch-User", "X-User", "X-Email", "X-Groups",
	"Tailscale-User-Login", "Teleport-Jwt-Assertion", "Client-Cert", "Ssl-Client-Cert", "X-Ssl-Client-Dn", "X-Client-Cert", "X-Authenticated-User"}

// relayed are fields that say where a request came from.
var relayed = []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "Forwarded", "X-Cluster-Client-Ip", "Fastly-Client-Ip", "Client-Ip", "X-Original-Forwarded-For",
	"X-Forwarded", "Forwarded-For", "X-Azure-Clientip", "Fly-Client-Ip", "X-Envoy-External-Address", "Via", "X-Originating-Ip", "X-ProxyUser-Ip"}

// directing are fields by which frameworks take another host, path or method than the request line's.
var directing = map[string][]string{
	"HDR-10": {"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Scheme", "X-Forwarded-Ssl", "X-Forwarded-Path", "X-Host", "X-Original-Host",
		"X-Http-Host-Override", "Front-End-Https", "X-Scheme", "X-Url-Scheme", "X-Forwarded-Protocol"},
	"HDR-12": {"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Uri", "X-Original-Uri", "X-Original-Path", "X-Rewrite-Path", "X-Envoy-Original-Path", "X-Accel-Redirect", "X-Sendfile-Type", "X-Middleware-Subrequest",
		"X-Middleware-Rewrite", "X-Http-Destinationurl", "X-Url-Path"},
	"HDR-13": {"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Method", "X-Forwarded-Method"},
}

func each(names []string, value string, respell func(string) string) (fields []Field) {
	for _, name := range names {
		fields = append(fields, Field{respell(name), value})
	}
	return fields
}

func asIs(name string) string         { return name }
func underscored(name string) string  { return strings.ReplaceAll(name, "-", "_") }
func lastUnderscore(n string) string  { i := strings.LastIndex(n, "-"); return n[:i] + "_" + n[i+1:] }
func firstUnderscore(n string) string { return strings.Replace(n, "-", "_", 1) }
func dotted(name string) string       { return strings.ReplaceAll(name, "-", ".") }
func tilded(name string) string       { return strings.ReplaceAll(name, "-", "~") }
func banged(name string) string       { return name + "!" }
func swapped(name string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, name)
}

// headerFields are what clients say and apps believe.
func headerFields() (all []Case) {
	hyphenated := slices.DeleteFunc(slices.Clone(claimed), func(n string) bool { return !strings.Contains(n, "-") })
	for _, spelling := range []struct {
		id, name string
		fields   []Field
	}{
		{"HDR-01", "as they are", each(claimed, "attacker", asIs)},
		{"HDR-01", "capitals", each(claimed, "attacker", swapped)},
		{"HDR-01", "empty beside", append(each(claimed, "", asIs), each(claimed, "attacker", asIs)...)},
		{"HDR-02", "underscores", each(hyphenated, "attacker", underscored)},
		{"HDR-02", "last underscored", each(hyphenated, "attacker", lastUnderscore)},
		{"HDR-02", "first underscored", each(hyphenated, "attacker", firstUnderscore)},
		{"HDR-02", "dots", each(hyphenated, "attacker", dotted)},
		{"HDR-02", "tildes", each(hyphenated, "attacker", tilded)},
		{"HDR-02", "with a sign behind", each(hyphenated, "attacker", banged)},
		{"HDR-03", "three times", slices.Concat(each(claimed, "attacker", asIs), each(claimed, "attacker2", strings.ToLower), each(claimed, "attacker3", strings.ToUpper))},
		{"HDR-09", "as they are", each(relayed, "attacker-6.6.6.6", asIs)},
		{"HDR-09", "lists", each(relayed, "127.0.0.1, attacker, 10.0.0.1", asIs)},
		{"HDR-09", "twice", append(each(relayed, "attacker", asIs), each(relayed, "attacker", strings.ToLower)...)},
		{"HDR-09", "RFC 7239", []Field{{"Forwarded", `for="[::1]:attacker";host=attacker;proto=http`}}},
		{"HDR-11", "underscores", append(each(relayed[:4], "attacker", underscored), Field{"X-Forwarded_Proto", "attacker"})},
		{"HDR-11", "more underscores", []Field{{"X_Forwarded_Host", "attacker"}, {"X_Forwarded-For", "attacker"}, {"X_Real_IP", "attacker"}}},
		{"HDR-10", "as they are", each(directing["HDR-10"], "attacker.example", asIs)},
		{"HDR-12", "as they are", each(directing["HDR-12"], "/admin/attacker", asIs)},
		{"HDR-12", "underscores", each(directing["HDR-12"], "/admin/attacker", underscored)},
		{"HDR-13", "as they are", each(directing["HDR-13"], "ATTACKER", asIs)},
		{"HDR-13", "underscores", each(directing["HDR-13"], "ATTACKER", underscored)},
		{"HDR-19", "one connection's", []Field{{"Proxy-Authorization", "Basic attacker"}, {"Proxy-Authenticate", "attacker"}, {"Proxy", "http://attacker.example"}}},
		{"SMUG-29", "names of framing", []Field{{"Transfer_Encoding", "attacker"}, {"Content_Length", "5, attacker"}, {"Transfer.Encoding", "attacker"}, {"Content-Length!", "attacker"}}},
	} {
		all = append(all, both(Case{ID: spelling.id, Name: spelling.name, Want: served, Unseen: []string{"attacker"}}, ask{fields: spelling.fields})...)
	}
	for id, names := range directing { // one at a time too: an override that is alone may be treated differently
		for _, name := range names {
			all = append(all, both(Case{ID: id, Name: name, Want: served, Unseen: []string{"attacker"}}, ask{fields: []Field{{name, "attacker"}}})...)
		}
	}
	for _, c := range []struct {
		id     string
		fields []Field
	}{
		{"HDR-14", []Field{{"X-Forwarded-Uri", "/healthz"}}}, {"HDR-14", []Field{{"X-Original-Url", "/.sallyport/jwks.json"}}}, {"HDR-14", []Field{{"X-Forwarded-Path", "/healthz"}, {"X-Forwarded-Method", "OPTIONS"}}},
		{"HDR-15", []Field{{"User-Agent", "GoogleHC/1.0"}}}, {"HDR-15", []Field{{"User-Agent", "kube-probe/1.30"}}}, {"HDR-15", []Field{{"User-Agent", "ELB-HealthChecker/2.0"}}}, {"HDR-15", []Field{{"X-Health-Check", "1"}}},
		{"HDR-18", []Field{{"X-Forwarded-For", "127.0.0.1"}, {"X-Forwarded-Proto", "http"}}}, {"HDR-18", []Field{{"X-Forwarded-Host", "{other}"}}}, {"HDR-18", []Field{{"X-Real-Ip", "127.0.0.1"}, {"Client-Ip", "::1"}}},
		{"HDR-18", []Field{{"X-Sallyport-User", "corp|ada"}}}, {"HDR-18", []Field{{"Authorization", "Basic YWRhOmFkYQ=="}}}, {"HDR-18", []Field{{"Remote-User", "ada"}, {"X-Auth-Request-User", "ada"}}},
		{"HDR-18", []Field{{"Client-Cert", ":MIIB:"}, {"X-Client-Verify", "SUCCESS"}, {"Ssl-Client-Verify", "SUCCESS"}}},
		{"HDR-18", []Field{{"X-Middleware-Subrequest", "middleware:middleware:middleware"}}},
	} {
		all = append(all, both(Case{ID: c.id, Name: fmt.Sprint(c.fields), Anonymous: true, Want: []Class{SignIn}}, ask{fields: c.fields})...)
	}
	own := "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."
	all = append(all, both(Case{ID: "HDR-30", Name: "the app's own", Want: served, Seen: []string{"\r\nAuthorization: " + own + "\r\n"}}, ask{fields: []Field{{"Authorization", own}}})...)
	all = append(all, both(Case{ID: "HDR-30", Name: "two of the gateway's", Want: refused, Stranger: []Class{SignIn}}, ask{fields: []Field{{"Sallyport-Authorization", own}}})...)
	for _, value := range []string{"Basic YTpi", "Bearer", "Bearer a b", "bearer " + own, "Bearer " + own + ", " + own, ""} {
		all = append(all, both(Case{ID: "HDR-31", Name: "no token: " + value, Want: []Class{Refused | SignIn}, Stranger: []Class{Refused | SignIn}, Unsaid: []string{"eyj"}}, ask{fields: []Field{{"Sallyport-Authorization", value}}})...)
	}
	all = append(all, both(Case{ID: "HDR-31", Name: "twice", Want: refused, Stranger: refused}, ask{fields: []Field{{"Sallyport-Authorization", own}, {"Sallyport-Authorization", own}}})...)
	all = append(all, both(Case{ID: "HDR-31", Name: "underscores", Want: served, Unseen: []string{"attacker"}}, ask{fields: []Field{{"Sallyport_Authorization", "Bearer attacker"}, {"Sallyport-Authorization_", "Bearer attacker"}}})...)
	return all
}

// connectionFields are what Connection takes away, which HTTP/2 does not have.
func connectionFields() (all []Case) {
	ours := "X-Sallyport-User, X-Sallyport-Email, X-Sallyport-Groups, X-Sallyport-Assertion, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Forwarded-Port, X-Request-Id"
	for _, c := range []struct {
		name  string
		lines []string
		ends  bool
	}{
		{"after close", []string{"Connection: close, " + ours}, true},
		{"alone", []string{"Connection: " + ours}, false},
		{"lower case", []string{"Connection: " + strings.ToLower(ours)}, false},
		{"several lines", []string{"Connection: keep-alive", "Connection: " + ours}, false},
		{"empty elements", []string{"Connection: ,,\t" + strings.ReplaceAll(ours, ", ", " ,,\t") + ",,"}, false},
		{"quoted", []string{`Connection: "` + strings.ReplaceAll(ours, ", ", `", "`) + `"`}, false},
		{"semicolons", []string{"Connection: " + strings.ReplaceAll(ours, ", ", "; ")}, false},
		{"blanks", []string{"Connection: " + strings.ReplaceAll(ours, ", ", " ")}, false},
		{"cookie", []string{"Connection: Cookie, " + ours}, false},
		{"host", []string{"Connection: Host, Content-Length, Transfer-Encoding, " + ours}, false},
		{"proxy-connection", []string{"Proxy-Connection: " + ours}, false},
	} {
		all = append(all, Case{ID: "HDR-06", Name: c.name, Raw: get("/app/{id}", c.lines...), Want: served, Closes: c.ends, Seen: []string{"\r\nX-Request-Id: "}})
	}
	for _, judged := range []string{"Origin", "Origin, Sec-Fetch-Site", "close, sec-fetch-site", "Content-Type", "User-Agent"} {
		all = append(all, Case{ID: "HDR-06", Name: "what is judged: " + judged, Raw: post("hello", "Connection: "+judged, "Content-Length: 5", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"),
			Want: refused, Stranger: refused, Closes: strings.HasPrefix(judged, "close")})
	}
	return append(all,
		Case{ID: "HDR-06", Name: "a length", Raw: post("hello", "Connection: Content-Length", "Content-Length: 5"), Want: either, Stranger: []Class{Refused | SignIn}, Seen: []string{"\r\nContent-Length: 5\r\n"}},
		Case{ID: "HDR-06", Name: "a coding", Raw: post("5\r\nhello\r\n0\r\n\r\n", "Connection: Transfer-Encoding", "Transfer-Encoding: chunked"), Want: either, Stranger: []Class{Refused | SignIn}, Closes: true},
		Case{ID: "HDR-19", Name: "hop by hop", Raw: get("/app/{id}", "Proxy-Authorization: Basic c2VjcmV0", "Keep-Alive: timeout=99", "TE: gzip", "Proxy-Connection: keep-alive", "Proxy: http://evil.example"),
			Want: served, Unseen: []string{"proxy", "keep-alive", "\nte:", "evil.example"}},
		Case{ID: "HDR-19", Name: "TE trailers", Raw: get("/app/{id}", "TE: trailers, deflate;q=0.5", "Connection: TE"), Want: served, Unseen: []string{"\nte:", "deflate"}},
	)
}

// framedFields are lines that are no fields, as HTTP/1.1 knows them.
func framedFields() (all []Case) {
	for c := range byte(' ') {
		if c == '\t' || c == '\n' || c == '\r' {
			continue
		}
		all = append(all, Case{ID: "HDR-21", Name: fmt.Sprintf("value with %#02x", c), Raw: get("/app/{id}", "X-A: a"+string(rune(c))+"b"), Want: refused, Closes: true})
	}
	bad := func(id, name string, lines ...string) {
		all = append(all, Case{ID: id, Name: name, Raw: get("/app/{id}", lines...), Want: refused, Closes: true})
	}
	bad("HDR-21", "DEL", "X-A: a\x7fb")
	bad("HDR-21", "a name with NUL", "X-\x00A: a")
	bad("HDR-21", "CR in a value", "X-A: a\rX-Sallyport-User: attacker")
	bad("HDR-21", "CR before the end", "X-A: a\r")
	bad("HDR-21", "CR and NUL", "X-A: a\r\x00b")
	bad("HDR-23", "blank before the colon", "X-A : a")
	bad("HDR-23", "tab before the colon", "X-A\t: a")
	bad("HDR-23", "vertical tab before the colon", "X-A\x0b: a")
	bad("HDR-23", "blank in the name", "X A: a")
	bad("HDR-23", "brackets in the name", "(X-A): a")
	bad("HDR-23", "quotes in the name", `"X-A": a`)
	bad("HDR-23", "slash in the name", "X/A: a")
	bad("HDR-23", "at in the name", "X@A: a")
	bad("HDR-23", "letters beyond ASCII", "X-\xc3\x84: a")
	bad("HDR-23", "long s, which folds to s", "X-\u017fallyport-User: attacker")
	bad("HDR-23", "session cookie's name", "Cookie : {cookie}")
	bad("HDR-23", "host with a blank", "Host : {other}")
	bad("HDR-25", "no name", ": a")
	bad("HDR-25", "no colon", "X-A")
	bad("HDR-25", "a request line", "GET /admin/{id} HTTP/1.1")
	bad("HDR-25", "colon alone", ":")
	bad("HDR-25", "a pseudo field", ":path: /admin/{id}")
	bad("HDR-25", "equals", "X-A=a")
	all = append(all,
		Case{ID: "HDR-25", Name: "folding into the request line", Raw: "GET /app/{id} HTTP/1.1\r\n X-A: a\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n", Want: refused, Closes: true},
		Case{ID: "HDR-25", Name: "tab into the request line", Raw: "GET /app/{id} HTTP/1.1\r\n\tHost: {other}\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n", Want: refused, Closes: true},
		Case{ID: "folding", Raw: get("/app/{id}", "X-A: one\r\n two", "X-B: three"), Want: either, Stranger: []Class{Refused | SignIn}, Unseen: []string{"\r\n two"}},
		Case{ID: "folding", Name: "a field in it", Raw: get("/app/{id}", "X-A: one\r\n X-Sallyport-User: attacker"), Want: either, Stranger: []Class{Refused | SignIn}, Unseen: []string{"\r\n x-sallyport-user", "\r\nx-sallyport-user: attacker"}},
		Case{ID: "folding", Name: "host", Raw: message("GET /app/{id} HTTP/1.1", "Host: {host}\r\n .evil.example", "Cookie: {cookie}"), Want: refused},
		Case{ID: "folding", Name: "host on the next line", Raw: message("GET /app/{id} HTTP/1.1", "Host:\r\n {host}", "Cookie: {cookie}"), Want: either, Stranger: []Class{Refused | SignIn}},
		Case{ID: "trailer", Raw: post("0\r\nX-Sallyport-User: attacker\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-Sallyport-User"), Want: refused, Closes: true},
		Case{ID: "trailer", Name: "unannounced", Raw: post("1\r\nx\r\n0\r\nX-Sallyport-User: attacker\r\n\r\n", "Transfer-Encoding: chunked"), Want: framing, Stranger: []Class{SignIn}, Closes: true, Torn: true, Unseen: []string{"attacker"}},
		Case{ID: "trailer", Name: "a length", Raw: post("1\r\nx\r\n0\r\nContent-Length: 5\r\nHost: {other}\r\n\r\n", "Transfer-Encoding: chunked"), Want: framing, Stranger: []Class{SignIn}, Closes: true, Torn: true},
	)
	return all
}
