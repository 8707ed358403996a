package headers

import (
	"bufio"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// read is a header as net/http reads it off the wire.
func read(t testing.TB, lines ...string) http.Header {
	t.Helper()
	wire := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		t.Fatal(err)
	}
	return r.Header
}

func TestClientsCannotSpeakForTheGateway(t *testing.T) {
	for id, names := range map[string][]string{
		"HDR-01": {"X-Sallyport-User", "x-sallyport-email", "X-SALLYPORT-GROUPS", "X-Sallyport-Assertion", "X-Sallyport-Anything", "Sallyport-Authorization",
			"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Auth-Request-Access-Token", "X-Forwarded-User", "X-Forwarded-Email",
			"X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "X-Pomerium-Claim-Email", "X-Pomerium-Jwt-Assertion",
			"Cf-Access-Jwt-Assertion", "Cf-Access-Authenticated-User-Email", "X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id",
			"X-Goog-Iap-Jwt-Assertion", "X-Amzn-Oidc-Data", "X-Amzn-Oidc-Identity", "X-Amzn-Mtls-Clientcert", "X-Ms-Client-Principal",
			"X-Ms-Client-Principal-Name", "Remote-User", "Remote-Groups", "Remote-Email", "X-Remote-User", "X-Remote-Group", "X-Authentik-Username",
			"Authenticated-User", "X-Auth-Id", "X-Auth-Jwt", "X-Auth-Principal", "X-Jwt", "X-Krb-User", "X-Ldap-User", "X-Ntlm-User", "X-Principal", "X-Webobjects-Remote-User",
			"X-Webauth-User", "X-Vouch-User", "X-User", "X-Email", "X-Groups", "X-Username", "Tailscale-User-Login", "Teleport-Jwt-Assertion",
			"Client-Cert", "Client-Cert-Chain", "Ssl-Client-Cert", "X-Ssl-Client-Dn", "X-Client-Cert", "X-Arr-Clientcert",
			"Impersonate-User", "Impersonate-Group", "Impersonate-Extra-Scopes", "X-Remote-Extra-Scopes", "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert",
			"X-Consumer-Username", "X-Credential-Identifier", "X-Authenticated-Userid", "X-Userinfo", "X-Id-Token", "X-Apigateway-Api-Userinfo",
			"X-Endpoint-Api-Userinfo", "Iv-User", "Sm-User", "Oam-Remote-User", "Oidc-Claim-Email", "Mellon-Name-Id", "Shib-Session-Id", "Eppn", "L5d-Client-Id",
			"X-Auth-Subject", "X-Auth-Userid", "X-Auth-Roles", "X-Token-User-Email", "X-Webauth-Email", "X-Proxy-Roles", "Ngrok-Auth-User-Email", "X-Authelia-Url",
			"X-Ms-Token-Aad-Id-Token", "X-Ext-Authz-Check-Received", "X-Istio-Attributes", "Cf-Client-Cert-Sha256", "X-Amzn-Oidc-Accesstoken"},
		"HDR-02": {"X_Sallyport_User", "X-Sallyport_User", "x_auth_request_user", "X-Auth_Request-User", "Remote_User", "X.Sallyport.User", "X-Sallyport-User!", "X~A"},
		"HDR-09": {"X-Forwarded-For", "Forwarded", "X-Forwarded", "Forwarded-For", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip",
			"X-Cluster-Client-Ip", "Fastly-Client-Ip", "X-Original-Forwarded-For", "X-Azure-Clientip", "Fly-Client-Ip", "X-Envoy-External-Address", "Via",
			"X-Azure-Fdid", "X-Azure-Socketip", "Cf-Ray", "Cf-Ipcountry", "Cf-Visitor", "Fastly-Ff", "Akamai-Origin-Hop", "X-Akamai-Edgescape", "Cloudfront-Viewer-Address",
			"X-Nf-Client-Connection-Ip", "X-Vercel-Forwarded-For", "Incap-Client-Ip", "X-Sucuri-Clientip", "Wl-Proxy-Client-Ip", "Ali-Cdn-Real-Ip", "Cdn-Src-Ip", "X-Forwarder-For",
			"X-Source-Ip", "X-Originating-Ip", "X-Remote-Addr", "Client-Ip", "X-Ms-Forwarded-Client-Ip", "X-Envoy-Internal", "Fly-Forwarded-Port", "X-Vercel-Ip-Country"},
		"HDR-10": {"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Scheme", "X-Forwarded-Ssl", "Front-End-Https",
			"X-Original-Host", "X-Host", "X-Host-Override", "X-Arr-Ssl", "X-Appservice-Proto", "Disguised-Host", "X-Amzn-Tls-Version", "Https", "X-Url-Scheme", "X-Scheme", "Wl-Proxy-Ssl"},
		"HDR-11": {"X_Forwarded_For", "X-Forwarded_Proto"},
		"HDR-12": {"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Uri", "X-Original-Method", "X-Host", "X-Middleware-Subrequest",
			"X-Replaced-Path", "X-Ms-Original-Url", "X-Waws-Unencoded-Url", "X-Envoy-Original-Path", "X-Forwarded-Path", "X-Override-Url", "X-Request-Uri", "X-Url", "X-Invoke-Path",
			"X-Matched-Path", "X-Now-Route-Matches", "X-Prerender-Revalidate", "X-Nextjs-Rewritten-Path", "X-Script-Name", "Script-Name", "Base-Path", "X-Base-Path", "X-Path", "X-Request-Path", "X-Http-Path-Override", "X-Accel-Mapping", "X-Sendfile-Type", "L5d-Dst-Override",
			"Request-Uri", "Http-Url", "Surrogate-Capability"},
		"HDR-13":  {"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Method", "X-Http-Verb", "X-Http-Action", "X-Tunneled-Method", "X-Original-Method"},
		"HDR-19":  {"Proxy-Authorization", "Keep-Alive", "TE", "Proxy-Connection", "Proxy", "Connection", "Upgrade", "Trailer", "Http2-Settings"},
		"SMUG-29": {"Transfer_Encoding", "Content_Length"},
	} {
		for _, name := range names {
			out := FromClient(read(t, name+": attacker", "X-App: kept"))
			for passed, values := range out {
				if passed != "X-App" && passed != "User-Agent" {
					t.Errorf("%s: %s passed as %s: %q", id, name, passed, values)
				}
			}
			if out.Get("X-App") != "kept" {
				t.Errorf("%s: %s took another field along", id, name)
			}
		}
	}
}

func TestClientsKeepTheirOwnHeaders(t *testing.T) {
	sent := read(t, "Accept: */*", "Accept-Language: de", "Authorization: Bearer app", "Cookie: a=1", "Origin: https://a", "Referer: https://a/",
		"Sec-Fetch-Mode: cors", "User-Agent: x", "X-Requested-With: XMLHttpRequest", "X-Csrf-Token: t", "X-Auth-Token: t", "Traceparent: 00-1",
		"Content-Type: text/plain", "Range: bytes=0-", "If-None-Match: \"a\"", "Upgrade-Insecure-Requests: 1", "Sec-Ch-Ua: \"a\"", "Sec-Ch-Ua: \"b\"",
		"X-Api-Key: k", "Idempotency-Key: 1", "Sec-Websocket-Protocol: chat", "Expect: 100-continue", "X-Userland: x", "Hostname: x", "Depth: 1",
		"X-User-Id: rocket", "X-Amzn-Trace-Id: t", "X-Amz-Date: 1", "X-Grafana-Org-Id: 1", "X-Goog-Api-Key: k", "Securitytenant: t", "X-Nextjs-Data: 1", "X-Xsrf-Token: t",
		"X-Forms: 1", "Httpx: 1", "Sms-To: x", "Viable: 1")
	before := sent.Clone()
	out := FromClient(sent)
	if !maps.EqualFunc(out, before, slices.Equal) || !maps.EqualFunc(sent, before, slices.Equal) {
		t.Errorf("got %v, want %v", out, before)
	}
}

func TestHandMadeSpellingsDoNotPass(t *testing.T) {
	out := FromClient(http.Header{"x-sallyport-user": {"a"}, "X-sallyport-user": {"a"}, "": {"a"}, "X A": {"a"}, ":path": {"a"}, "X-Ä": {"a"}})
	if delete(out, "User-Agent"); len(out) != 0 {
		t.Errorf("passed: %v", out)
	}
}

func TestConnectionCannotTakeTheGatewaysHeadersAway(t *testing.T) { // HDR-06
	out := FromClient(read(t, "Connection: close, X-Sallyport-User, X-Forwarded-For, x-a", "Connection: X-B", "X-A: 1", "X-B: 2", "X-C: 3"))
	SetForwarded(out, Forwarded{For: netip.MustParseAddr("192.0.2.7"), Host: "wiki.corp.example", Proto: "https", Port: 443})
	SetIdentity(out, Identity{User: "corp|ada", Email: "ada@corp.example", Groups: []string{"staff"}, Assertion: "jwt"})
	for name, want := range map[string]string{
		"X-A": "", "X-B": "", "X-C": "3", User: "corp|ada", Email: "ada@corp.example", Groups: "staff", Assertion: "jwt",
		"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "wiki.corp.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443",
	} {
		if got := strings.Join(out[name], "|"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestNobodyIsSaidToo(t *testing.T) {
	h := http.Header{Assertion: {"left over"}}
	SetIdentity(h, Identity{})
	for _, name := range []string{User, Email, Groups} {
		if v := h[name]; len(v) != 1 || v[0] != "" {
			t.Errorf("%s is %q", name, v)
		}
	}
	if h[Assertion] != nil {
		t.Errorf("assertion is %q", h[Assertion])
	}
}

func TestForwardedAddressIsPlain(t *testing.T) {
	for addr, want := range map[string]string{"::ffff:192.0.2.7": "192.0.2.7", "fe80::1%eth0": "fe80::1", "2001:db8::1": "2001:db8::1"} {
		h := http.Header{}
		SetForwarded(h, Forwarded{For: netip.MustParseAddr(addr)})
		if got := h.Get("X-Forwarded-For"); got != want {
			t.Errorf("%s is written %q", addr, got)
		}
	}
	h := http.Header{"X-Forwarded-For": {"6.6.6.6"}}
	if SetForwarded(h, Forwarded{}); h["X-Forwarded-For"] != nil {
		t.Errorf("an unknown peer is written %q", h["X-Forwarded-For"])
	}
}

// TestGroupsSurviveTheirHeader: what an app decodes is what the gateway knew, whatever is in a group's name.
func TestGroupsSurviveTheirHeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups := rapid.SliceOfN(rapid.OneOf(
			rapid.StringN(1, 20, -1),
			rapid.StringMatching(`[a-z ,%\r\n"é]{1,8}`),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 8), func(b []byte) string { return string(b) }),
		), 1, 8).Draw(t, "groups")
		h := http.Header{}
		SetIdentity(h, Identity{User: groups[0], Groups: groups})
		value := h.Get(Groups)
		if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("not visible ASCII: %q", value)
		}
		var decoded []string
		for item := range strings.SplitSeq(value, ",") {
			name, err := url.PathUnescape(item)
			if err != nil {
				t.Fatal(err)
			}
			decoded = append(decoded, name)
		}
		if !slices.Equal(decoded, groups) {
			t.Fatalf("an app reads %q, want %q", decoded, groups)
		}
		if user, _ := url.PathUnescape(h.Get(User)); user != groups[0] {
			t.Fatalf("an app reads user %q, want %q", user, groups[0])
		}
	})
}

func TestOrdinaryIdentitiesStayReadable(t *testing.T) {
	for value, want := range map[string]string{
		"ada@corp.example": "ada@corp.example", "corp|8f3a": "corp|8f3a", "Domain Users": "Domain%20Users",
		"a,b": "a%2Cb", "100%": "100%25", "Zürich": "Z%C3%BCrich", "x\r\nSet-Cookie: y": "x%0D%0ASet-Cookie:%20y",
	} {
		if got := Escape(value); got != want {
			t.Errorf("Escape(%q) = %q, want %q", value, got, want)
		}
	}
}

func TestAppsCannotSpeakForTheGateway(t *testing.T) {
	h := http.Header{}
	for _, name := range []string{"X-Sallyport-User", "Sallyport-Anything", "Server", "X-Powered-By", "X-Aspnet-Version", "Alt-Svc", "Connection", "Keep-Alive",
		"Transfer-Encoding", "Upgrade", "Proxy-Authenticate", "Trailer", "Strict-Transport-Security", "Via", "X-Private", "bad name", "x-lower",
		"X-Runtime", "X-Generator", "X-Served-By", "X-Accel-Redirect", "X-Sendfile", "X-Debug-Token-Link", "Nel", "X-Forwarded-Host"} {
		h[name] = []string{"x"}
	}
	h["Connection"] = []string{"close, X-Private"}
	h["Content-Type"], h["Www-Authenticate"], h["X-Frame-Options"] = []string{"text/html"}, []string{"Basic"}, []string{"DENY"}
	clean(t, h, 200)
	if got := slices.Sorted(maps.Keys(h)); !slices.Equal(got, []string{"Content-Type", "Www-Authenticate", "X-Frame-Options"}) {
		t.Errorf("left are %q", got)
	}
}

func TestSwitchingProtocolsKeepsTheUpgrade(t *testing.T) {
	h := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Accept": {"x"}, "Server": {"x"}}
	clean(t, h, 101)
	if h.Get("Upgrade") != "websocket" || h.Get("Connection") != "Upgrade" || h.Get("Sec-Websocket-Accept") != "x" || h["Server"] != nil {
		t.Errorf("header is %v", h)
	}
}

// wikiConfig is an app at two addresses of its own.
func wikiConfig() AppConfig {
	return AppConfig{Address: Address{Origin: "https://wiki.corp.example:8443", Upstreams: []string{"http://10.0.0.5:8080", "https://wiki.internal"}}}
}

// clean is what leaves of an answer of the wiki.
func clean(t testing.TB, h http.Header, status int) (blocked []string) {
	t.Helper()
	blocked, err := NewApp(wikiConfig()).FromApp(h, status)
	if err != nil {
		t.Fatal(err)
	}
	return blocked
}

// RESP-02, RESP-03: what one reader takes for two fields does not leave, wherever in the header it is.
func TestAnswersThatCouldSplitDoNotLeave(t *testing.T) {
	for _, value := range []string{"b\rSet-Cookie: evil", "a\nb", "a\x00b", "\x1b[31m", "a\x7f"} {
		for _, name := range []string{"X-A", "Set-Cookie", "Location", "Server", "Content-Type"} {
			if _, err := NewApp(wikiConfig()).FromApp(http.Header{name: {"fine", value}}, 200); err != ErrSplit {
				t.Errorf("%s: %q: %v", name, value, err)
			}
		}
	}
	clean(t, http.Header{"X-A": {"tabs\tand \u00fcml\u00e4ute", "\xe9"}}, 200)
}

func TestOneAppCannotSignPeopleOut(t *testing.T) {
	for sent, want := range map[string]string{
		`"cookies"`: "", `"cache", "cookies", "storage"`: `"cache", "storage"`, `"*"`: `"cache", "storage"`, `"cache"`: `"cache"`,
	} {
		h := http.Header{"Clear-Site-Data": {sent}}
		if clean(t, h, 200); h.Get("Clear-Site-Data") != want {
			t.Errorf("%s became %s", sent, h.Get("Clear-Site-Data"))
		}
	}
}

// FuzzFromClient: what passes cannot be taken for a name of the table, not even by a server that folds names as CGI does.
func FuzzFromClient(f *testing.F) {
	f.Fuzz(func(t *testing.T, name string) {
		wire := "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\n" + name + ": v\r\n\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
		if err != nil {
			return
		}
		for passed := range FromClient(r.Header) {
			if rule := resembles(&fromClient, cgiName(passed)); rule != "" {
				t.Errorf("%q passed as %q, which is %q to an app", name, passed, rule)
			}
		}
	})
}

// FuzzFromApp: what leaves is nothing that the table keeps, in no case, and in no field that an intermediary behind us could
// fold into one.
func FuzzFromApp(f *testing.F) {
	for _, name := range appNames {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if passed := leaves(NewApp(wikiConfig()).FromApp, name); passed != "" {
			t.Errorf("%q left as %s", name, passed)
		}
	})
}

var appNames = []string{"Server", "sErVeR", "Server_", "X_Powered_By", "X-Powered-By", "x-powered-anything", "X-Sallyport-User", "Via", "Content-Type", "Connection",
	"Strict_Transport_Security", "strict-transport-security", "Upgrade", "X.Runtime", "X-Accel-Buffering", "x-accel-redirect", "Proxy-Connection"}

// leaves is the rule that a field of an answer should have fallen under and did not.
func leaves(fromAppOf func(http.Header, int) ([]string, error), name string) string {
	wire := "HTTP/1.1 200 OK\r\n" + name + ": v\r\n\r\n"
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(wire)), nil)
	if err != nil {
		return ""
	}
	if _, err := fromAppOf(res.Header, 200); err != nil {
		return ""
	}
	for passed := range res.Header {
		if rule := resembles(&fromApp, cgiName(passed)); rule != "" {
			return rule
		}
	}
	return ""
}

func TestAnswerCorpusFindsALiteralTable(t *testing.T) {
	for name, naive := range map[string]func(http.Header, int) ([]string, error){
		"no look at odd names": func(h http.Header, _ int) ([]string, error) {
			maps.DeleteFunc(h, func(name string, _ []string) bool { return fromApp.class(name) != passes })
			return nil, nil
		},
		"no prefixes": func(h http.Header, _ int) ([]string, error) {
			maps.DeleteFunc(h, func(name string, _ []string) bool {
				return !isOrdinary(name) || slices.ContainsFunc(*fromApp.bucket(name), func(r rule) bool { return r.name == name })
			})
			return nil, nil
		},
	} {
		if !slices.ContainsFunc(appNames, func(field string) bool { return leaves(naive, field) != "" }) {
			t.Errorf("%s passes the corpus", name)
		}
	}
}

// cgiName is what becomes of a field name in an environment variable (RFC 3875 §4.1.18), and in WSGI, Rack and PHP.
func cgiName(name string) string {
	return strings.Map(func(c rune) rune {
		if 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			return c
		}
		return '_'
	}, strings.ToUpper(name))
}

// resembles finds a rule that a folded name falls under.
func resembles(t *table, folded string) string {
	for _, letters := range [][]([]rule){t.plain[:], t.x[:]} {
		for _, r := range slices.Concat(letters...) {
			if rule := cgiName(r.name); folded == rule || r.isPrefix() && strings.HasPrefix(folded, rule) {
				return r.name
			}
		}
	}
	return ""
}

func TestHeaderCorpusFindsALiteralTable(t *testing.T) {
	files, err := filepath.Glob("testdata/fuzz/FuzzFromClient/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, naive := range []func(name string) bool{ // each lets a name pass that it should not
		func(name string) bool { return fromClient.class(name) == passes },                               // no look at odd names
		func(name string) bool { return isOrdinary(name) },                                               // no table
		func(name string) bool { return fromClient.class(strings.ReplaceAll(name, "_", "-")) == passes }, // case after the fold
		func(name string) bool {
			return !strings.HasPrefix(strings.ToLower(name), "x-forwarded") && isOrdinary(name)
		}, // one family only
	} {
		found := false
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, line, _ := strings.Cut(string(data), "\nstring(")
			name, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(line), ")"))
			if err != nil {
				t.Fatal(err)
			}
			name = http.CanonicalHeaderKey(name)
			found = found || naive(name) && resembles(&fromClient, cgiName(name)) != ""
		}
		if !found {
			t.Error("a naive table passes the corpus")
		}
	}
}
