package headers

import "strings"

// class says why a header does not pass.
type class uint8

const (
	passes     class = iota
	identity         // names who is asking: only the gateway says that
	forwarding       // says where a request came from or was meant to go: only the gateway says that
	rewriting        // makes a framework act on another method, path or host than the one that was decided on
	hop              // belongs to one connection, or to the framing of one message (RFC 9110 §7.6.1, RFC 9112 §6)
	credential       // the gateway's own credential
	disclosure       // an app's inner workings
	transport        // promises about the origin's transport and storage that only the gateway may make
)

// rule is one line of the table. A name that ends in a hyphen stands for every name that begins with it.
type rule struct {
	name  string // canonical spelling (RFC 9110 §5.1: names are compared without case)
	class class
}

// fromClient is what a client may not say to an app. Names of gateways and proxies other than ours are in it because
// apps keep believing them after they moved behind this one.
//
// Tracing headers (Traceparent, Tracestate, Baggage, B3, X-Request-Id, X-Correlation-Id) pass: they are
// correlation, not trust. So does Authorization, which belongs to the app until it is told otherwise.
var fromClient = index([]rule{
	// ours
	{"Sallyport-", credential},
	{"X-Sallyport-", identity},

	// who is asking, in the words of other gateways, single sign-on modules and clouds
	{"Cf-Access-", identity},
	{"Client-Cert", identity}, // RFC 9440
	{"Client-Cert-", identity},
	{"Remote-", identity}, // Remote-User, -Groups, -Email, -Name: Authelia, CGI habits
	{"Ssl-Client-", identity},
	{"Tailscale-", identity},
	{"Teleport-", identity},
	{"X-Amzn-Mtls-", identity},
	{"X-Amzn-Oidc-", identity},
	{"X-Appengine-", identity},
	{"X-Arr-Clientcert", identity},
	{"X-Auth-Email", identity},
	{"X-Auth-Group", identity},
	{"X-Auth-Groups", identity},
	{"X-Auth-Name", identity},
	{"X-Auth-Request-", identity},
	{"X-Auth-Roles", identity},
	{"X-Auth-Subject", identity},
	{"X-Auth-User", identity},
	{"X-Auth-Userid", identity},
	{"X-Auth-Username", identity},
	{"X-Authenticated-", identity},
	{"X-Authentik-", identity},
	{"X-Client-Cert", identity},
	{"X-Client-Cert-", identity},
	{"X-Client-Dn", identity},
	{"X-Client-Verify", identity},
	{"X-Email", identity},
	{"X-Goog-Authenticated-", identity},
	{"X-Goog-Iap-", identity},
	{"X-Groups", identity},
	{"X-Jwt-Assertion", identity},
	{"X-Ms-Client-Principal", identity},
	{"X-Ms-Client-Principal-", identity},
	{"X-Ms-Token-", identity},
	{"X-Pomerium-", identity},
	{"X-Proxy-User", identity},
	{"X-Remote-", identity},
	{"X-Ssl-", identity},
	{"X-Token-Subject", identity},
	{"X-Token-User-", identity},
	{"X-User", identity},
	{"X-User-Email", identity},
	{"X-User-Groups", identity},
	{"X-User-Name", identity},
	{"X-Userinfo", identity},
	{"X-Username", identity},
	{"X-Vouch-", identity},
	{"X-Webauth-", identity},

	// where it came from
	{"Cf-Connecting-", forwarding},
	{"Cf-Ipcountry", forwarding},
	{"Cf-Visitor", forwarding},
	{"Client-Ip", forwarding},
	{"Fastly-Client-", forwarding},
	{"Fastly-Ff", forwarding},
	{"Fly-", forwarding},
	{"Forwarded", forwarding}, // RFC 7239
	{"Forwarded-For", forwarding},
	{"Front-End-Https", forwarding},
	{"True-Client-", forwarding},
	{"Via", forwarding},
	{"X-Azure-Clientip", forwarding},
	{"X-Azure-Socketip", forwarding},
	{"X-Client-Ip", forwarding},
	{"X-Cluster-Client-", forwarding},
	{"X-Envoy-", forwarding},
	{"X-Forward-For", forwarding},
	{"X-Forwarded", forwarding},
	{"X-Forwarded-", forwarding},
	{"X-Original-", forwarding}, // X-Original-URL, -Forwarded-For, -Host, -Method
	{"X-Originating-", forwarding},
	{"X-Proxyuser-", forwarding},
	{"X-Real-", forwarding},
	{"X-True-Client-", forwarding},
	{"X-Vercel-", forwarding},

	// what was meant
	{"X-Accel-", rewriting},
	{"X-Host", rewriting},
	{"X-Http-Destinationurl", rewriting},
	{"X-Http-Host-Override", rewriting},
	{"X-Http-Method", rewriting},
	{"X-Http-Method-Override", rewriting},
	{"X-Method-Override", rewriting},
	{"X-Middleware-", rewriting}, // CVE-2025-29927: a request that says it already passed the middleware
	{"X-Rewrite-", rewriting},
	{"X-Scheme", rewriting},
	{"X-Sendfile-", rewriting},
	{"X-Url-", rewriting},

	// one connection, one message
	{"Connection", hop},
	{"Content-Length", hop}, // the length that counts is the one the message was read with
	{"Host", hop},
	{"Http2-Settings", hop},
	{"Keep-Alive", hop},
	{"Proxy", hop}, // CVE-2016-5385: becomes HTTP_PROXY in CGI
	{"Proxy-", hop},
	{"Te", hop},
	{"Trailer", hop},
	{"Trailers", hop},
	{"Transfer-Encoding", hop},
	{"Upgrade", hop},
})

// fromApp is what an app may not say to a browser.
var fromApp = index([]rule{
	{"Sallyport-", credential},
	{"X-Sallyport-", identity},

	{"Connection", hop},
	{"Keep-Alive", hop},
	{"Proxy-", hop},
	{"Te", hop},
	{"Trailer", hop},
	{"Transfer-Encoding", hop},
	{"Upgrade", hop},

	{"Server", disclosure},
	{"X-Aspnet-Version", disclosure},
	{"X-Aspnetmvc-Version", disclosure},
	{"X-Backend-", disclosure},
	{"X-Envoy-", disclosure},
	{"X-Powered-", disclosure},
	{"X-Real-Server", disclosure},
	{"X-Server", disclosure},
	{"X-Upstream", disclosure},
	{"X-Upstream-", disclosure},
	{"Via", disclosure},

	{"Alt-Svc", transport},                   // RFC 7838: would send browsers past the gateway
	{"Public-Key-Pins", transport},           // would outlive our certificates
	{"Strict-Transport-Security", transport}, // the gateway terminates TLS, so it states the policy
})

// table is the rules by the first byte of their names: what browsers send mostly begins with letters that few rules
// have, so a look-up is a handful of comparisons.
type table ['Z' + 1][]rule

func index(rules []rule) (t table) {
	for _, r := range rules {
		t[r.name[0]] = append(t[r.name[0]], r)
	}
	return t
}

// class finds the rule for a name in canonical spelling.
func (t *table) class(name string) class {
	if name == "" || int(name[0]) >= len(t) {
		return passes
	}
	for _, r := range t[name[0]] {
		if name == r.name || r.isPrefix() && strings.HasPrefix(name, r.name) {
			return r.class
		}
	}
	return passes
}

func (r rule) isPrefix() bool { return r.name[len(r.name)-1] == '-' }
