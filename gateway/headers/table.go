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
// Tracing headers (Traceparent, Tracestate, Baggage, B3, X-Request-Id, X-Correlation-Id, X-Amzn-Trace-Id) pass: they are
// correlation, not trust. So do Authorization, which belongs to the app until it is told otherwise, and what apps' own
// clients say by habit: X-Auth-Token (OpenStack, Rocket.Chat), X-User-Id (Rocket.Chat), X-Api-Key, X-Access-Token.
//
// Where two rules fit a name, the first one counts.
var fromClient = index([]rule{
	// ours
	{"Sallyport-", credential},
	{"X-Sallyport-", identity},

	// who is asking, in the words of other gateways, single sign-on modules and clouds
	{"Auth-User", identity},
	{"Authenticated-User", identity},
	{"Cas-User", identity},
	{"Cf-Access-", identity},
	{"Cf-Client-", identity},  // Cloudflare's mTLS
	{"Client-Cert", identity}, // RFC 9440
	{"Client-Cert-", identity},
	{"Eppn", identity},                 // Shibboleth's attribute
	{"Es-Security-Runas-", identity},   // Elasticsearch
	{"Impersonate-", identity},         // Kubernetes, Rancher, OpenShift: believed from a trusted proxy
	{"Iv-", identity},                  // IBM WebSEAL: Iv-User, Iv-Groups, Iv-Creds
	{"L5d-Client-", identity},          // Linkerd
	{"Mellon-", identity},              // mod_auth_mellon
	{"Ngrok-", identity},               // Ngrok-Auth-User-Email
	{"Oam-", identity},                 // Oracle Access Manager
	{"Oidc-", identity},                // mod_auth_openidc: Oidc-Claim-Email
	{"Osso-", identity},                // Oracle single sign-on
	{"Persistent-Id", identity},        // Shibboleth's attribute
	{"Remote-", identity},              // Remote-User, -Groups, -Email, -Name: Authelia, CGI habits
	{"Shib-", identity},                // Shibboleth
	{"Sm-", identity},                  // SiteMinder, and Spring's RequestHeaderAuthenticationFilter
	{"Ssl-", identity},                 // Ssl-Client-Cert, Ssl-Client-S-Dn
	{"Tailscale-", identity},           //
	{"Teleport-", identity},            //
	{"X-Amzn-Mtls-", identity},         // AWS load balancers
	{"X-Amzn-Oidc-", identity},         //
	{"X-Anonymous-Consumer", identity}, // Kong
	{"X-Apigateway-", identity},        // Google API Gateway
	{"X-Appengine-", identity},         //
	{"X-Arr-Clientcert", identity},     // IIS, Azure App Service
	{"X-Auth-Audience", identity},      // Keycloak gatekeeper, as the next
	{"X-Auth-Email", identity},
	{"X-Auth-Expiresin", identity},
	{"X-Auth-Family-Name", identity},
	{"X-Auth-Given-Name", identity},
	{"X-Auth-Group", identity},
	{"X-Auth-Groups", identity},
	{"X-Auth-Id", identity},
	{"X-Auth-Jwt", identity},
	{"X-Auth-Name", identity},
	{"X-Auth-Principal", identity},
	{"X-Auth-Request-", identity}, // oauth2-proxy
	{"X-Auth-Role", identity},
	{"X-Auth-Roles", identity},
	{"X-Auth-Subject", identity},
	{"X-Auth-User", identity},
	{"X-Auth-User-", identity},
	{"X-Auth-Userid", identity},
	{"X-Auth-Username", identity},
	{"X-Authelia-", identity},
	{"X-Authenticated-", identity}, // X-Authenticated-User, Kong's -Groups and -Userid
	{"X-Authentik-", identity},
	{"X-Authn-", identity},
	{"X-Client-Cert", identity},
	{"X-Client-Cert-", identity},
	{"X-Client-Dn", identity},
	{"X-Client-Verify", identity},
	{"X-Consumer-", identity},   // Kong
	{"X-Credential-", identity}, // Kong
	{"X-Email", identity},
	{"X-Endpoint-Api-", identity},         // Google Cloud Endpoints
	{"X-Ext-Authz-", identity},            // Envoy's external authorization
	{"X-Forwarded-Access-", identity},     // oauth2-proxy, as the next
	{"X-Forwarded-Client-", identity},     // Envoy, Istio
	{"X-Forwarded-Displayname", identity}, // Jenkins
	{"X-Forwarded-Email", identity},
	{"X-Forwarded-Group", identity},
	{"X-Forwarded-Groups", identity},
	{"X-Forwarded-Mail", identity}, // Jenkins
	{"X-Forwarded-Name", identity},
	{"X-Forwarded-Preferred-", identity},
	{"X-Forwarded-Role", identity},
	{"X-Forwarded-Roles", identity},
	{"X-Forwarded-User", identity},
	{"X-Forwarded-Username", identity},
	{"X-Goog-Authenticated-", identity}, // Google IAP
	{"X-Goog-Iap-", identity},
	{"X-Group", identity},
	{"X-Groups", identity},
	{"X-Id-Token", identity}, // APISIX
	{"X-Istio-", identity},
	{"X-Jwt", identity},
	{"X-Jwt-Assertion", identity},
	{"X-Kong-", identity},
	{"X-Krb-User", identity},
	{"X-Ldap-User", identity},
	{"X-Ms-Client-Principal", identity}, // Azure App Service
	{"X-Ms-Client-Principal-", identity},
	{"X-Ms-Token-", identity},
	{"X-Mtls-", identity},
	{"X-Ntlm-User", identity},
	{"X-Oidc-", identity},
	{"X-Pomerium-", identity},
	{"X-Principal", identity},
	{"X-Proxy-", identity},  // X-Proxy-User, -Roles: OpenSearch
	{"X-Remote-", identity}, // Kubernetes' request header authentication, and X-Remote-Ip, -Addr
	{"X-Role", identity},
	{"X-Roles", identity},
	{"X-Saml-", identity},
	{"X-Shib-", identity},
	{"X-Spiffe-", identity},
	{"X-Ssl", identity},
	{"X-Ssl-", identity},
	{"X-Sso-", identity},
	{"X-Teleport-", identity},
	{"X-Tls-Client-", identity},
	{"X-Token-Roles", identity}, // caddy-security
	{"X-Token-Subject", identity},
	{"X-Token-User-", identity},
	{"X-User", identity},
	{"X-User-Email", identity},
	{"X-User-Group", identity},
	{"X-User-Groups", identity},
	{"X-User-Name", identity},
	{"X-User-Role", identity},
	{"X-User-Roles", identity},
	{"X-Userinfo", identity}, // Kong, APISIX
	{"X-Username", identity},
	{"X-Vouch-", identity},
	{"X-Webauth-", identity}, // Grafana, Gitea
	{"X-Webobjects-Remote-", identity},

	// where it came from
	{"Akamai-", forwarding},
	{"Ali-Cdn-", forwarding},
	{"Cdn-Real-Ip", forwarding},
	{"Cdn-Src-Ip", forwarding},
	{"Cf-", forwarding}, // Cloudflare: Cf-Connecting-Ip, -Ipcountry, -Ray, -Visitor, -Worker
	{"Client-Ip", forwarding},
	{"Cloudfront-", forwarding},
	{"Fastly-", forwarding},
	{"Fly-", forwarding},
	{"Forwarded", forwarding}, // RFC 7239
	{"Forwarded-", forwarding},
	{"Front-End-", forwarding}, // Front-End-Https: Microsoft
	{"Https", forwarding},      // becomes HTTP_HTTPS in CGI, which PHP apps ask
	{"Incap-", forwarding},
	{"Real-Ip", forwarding},
	{"True-Client-", forwarding}, // Akamai, Cloudflare
	{"Via", forwarding},
	{"Wl-", forwarding}, // WebLogic: Wl-Proxy-Client-Ip
	{"X-Akamai-", forwarding},
	{"X-Amzn-Tls-", forwarding},
	{"X-Appservice-", forwarding}, // Azure App Service
	{"X-Arr-", forwarding},        // IIS application request routing
	{"X-Azure-", forwarding},      // Azure Front Door: X-Azure-Fdid is believed to prove the way
	{"X-Cdn-Src-Ip", forwarding},
	{"X-Bluecoat-Via", forwarding},
	{"X-Client-Ip", forwarding},
	{"X-Clientip", forwarding},
	{"X-Cluster-Client-", forwarding},
	{"X-Coming-From", forwarding},
	{"X-Envoy-", forwarding},
	{"X-Fd-", forwarding}, // Azure Front Door
	{"X-Forward-", forwarding},
	{"X-Forwarded", forwarding},
	{"X-Forwarded-", forwarding},
	{"X-Forwarder-", forwarding},
	{"X-Https", forwarding},
	{"X-Ip", forwarding},
	{"X-Ms-Forwarded-", forwarding},
	{"X-Netlify-", forwarding},
	{"X-Nf-", forwarding},       // Netlify
	{"X-Original-", forwarding}, // X-Original-URL, -Forwarded-For, -Host, -Method
	{"X-Originating-", forwarding},
	{"X-Proxyuser-", forwarding},
	{"X-Real-", forwarding},
	{"X-Source-Ip", forwarding},
	{"X-Sucuri-", forwarding},
	{"X-Traefik-", forwarding},
	{"X-True-Client-", forwarding},
	{"X-Vercel-", forwarding},

	// what was meant
	{"Base-Path", rewriting},
	{"Base-Url", rewriting},
	{"Disguised-Host", rewriting}, // Azure App Service
	{"Http-", rewriting},
	{"L5d-", rewriting}, // Linkerd: L5d-Dst-Override
	{"Request-Uri", rewriting},
	{"Script-Name", rewriting}, // CGI's and WSGI's
	{"Surrogate-", rewriting},  // Surrogate-Capability makes apps write ESI for whoever says that it reads it
	{"Was-Default-Hostname", rewriting},
	{"X-Accel-", rewriting}, // X-Accel-Mapping: with Rack's Sendfile, files of the client's choice
	{"X-Backend-", rewriting},
	{"X-Base-Path", rewriting},
	{"X-Host", rewriting},
	{"X-Host-", rewriting},
	{"X-Http-Action", rewriting},
	{"X-Http-Destinationurl", rewriting},
	{"X-Http-Host-Override", rewriting},
	{"X-Http-Method", rewriting},
	{"X-Http-Method-", rewriting},
	{"X-Http-Path-Override", rewriting},
	{"X-Http-Verb", rewriting},
	{"X-Invoke-", rewriting}, // Next.js
	{"X-Matched-Path", rewriting},
	{"X-Method", rewriting},
	{"X-Method-", rewriting},
	{"X-Middleware-", rewriting}, // CVE-2025-29927: a request that says it already passed the middleware
	{"X-Ms-Original-Url", rewriting},
	{"X-Nextjs-Rewrite", rewriting},
	{"X-Nextjs-Rewritten-", rewriting},
	{"X-Now-", rewriting},
	{"X-Override-", rewriting},
	{"X-Path", rewriting},
	{"X-Prerender-Revalidate", rewriting}, // Next.js
	{"X-Replaced-Path", rewriting},        // Traefik
	{"X-Request-Path", rewriting},
	{"X-Request-Uri", rewriting},
	{"X-Rewrite-", rewriting}, // IIS, Zend, Symfony
	{"X-Scheme", rewriting},
	{"X-Script-Name", rewriting}, // WSGI behind proxies
	{"X-Sendfile-", rewriting},
	{"X-Tunneled-Method", rewriting},
	{"X-Upstream-", rewriting},
	{"X-Uri", rewriting},
	{"X-Url", rewriting},
	{"X-Url-", rewriting},
	{"X-Waws-", rewriting}, // Azure App Service: X-Waws-Unencoded-Url

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

	{"Liferay-Portal", disclosure},
	{"Microsoftsharepointteamservices", disclosure},
	{"Server", disclosure},
	{"Via", disclosure},
	{"X-Accel-Charset", disclosure}, // to nginx, with names of files; X-Accel-Buffering is for us, too
	{"X-Accel-Expires", disclosure},
	{"X-Accel-Limit-", disclosure},
	{"X-Accel-Redirect", disclosure},
	{"X-Aspnet-Version", disclosure},
	{"X-Aspnetmvc-Version", disclosure},
	{"X-Backend", disclosure},
	{"X-Backend-", disclosure},
	{"X-Cf-Powered-By", disclosure},
	{"X-Container-Id", disclosure},
	{"X-Debug-Token", disclosure}, // Symfony's profiler
	{"X-Debug-Token-Link", disclosure},
	{"X-Drupal-", disclosure},
	{"X-Envoy-", disclosure},
	{"X-Forwarded-", disclosure},
	{"X-Generator", disclosure},
	{"X-Host", disclosure},
	{"X-Hostname", disclosure},
	{"X-Instance", disclosure},
	{"X-Instance-Id", disclosure},
	{"X-Kong-", disclosure},
	{"X-Lighttpd-Send-", disclosure},
	{"X-Litespeed-", disclosure},
	{"X-Middleware-", disclosure}, // Next.js to itself: rewrites with the address behind them
	{"X-Mod-Pagespeed", disclosure},
	{"X-Node", disclosure},
	{"X-Origin-Server", disclosure},
	{"X-Original-", disclosure},
	{"X-Owa-Version", disclosure},
	{"X-Page-Speed", disclosure},
	{"X-Php-", disclosure},
	{"X-Pod", disclosure},
	{"X-Pod-Name", disclosure},
	{"X-Powered-", disclosure},
	{"X-Rack-Cache", disclosure},
	{"X-Real-", disclosure},
	{"X-Reproxy-", disclosure},
	{"X-Runtime", disclosure},
	{"X-Sendfile", disclosure},
	{"X-Served-By", disclosure},
	{"X-Server", disclosure},
	{"X-Server-", disclosure},
	{"X-Servername", disclosure},
	{"X-Turbo-Charged-By", disclosure},
	{"X-Upstream", disclosure},
	{"X-Upstream-", disclosure},
	{"X-Varnish", disclosure},
	{"X-Varnish-", disclosure},

	{"Alt-Svc", transport}, // RFC 7838: would send browsers past the gateway
	{"Alternate-Protocol", transport},
	{"Expect-Ct", transport},
	{"Nel", transport},                       // would have browsers report the whole origin's errors to whom the app likes
	{"Public-Key-Pins", transport},           // would outlive our certificates
	{"Public-Key-Pins-", transport},          //
	{"Strict-Transport-Security", transport}, // the gateway terminates TLS, so it states the policy
})

// table is the rules by the first letter of their names, those that begin with "X-" apart by the letter after that: what
// browsers send mostly begins with letters that few rules have, so a look-up is a handful of comparisons.
type table struct{ plain, x ['Z' + 1][]rule }

func index(rules []rule) (t table) {
	for _, r := range rules {
		bucket := t.bucket(r.name)
		*bucket = append(*bucket, r)
	}
	return t
}

// bucket is where the rules for a name are; nil when its first letter has none.
func (t *table) bucket(name string) *[]rule {
	at, letters := 0, &t.plain
	if strings.HasPrefix(name, "X-") {
		at, letters = len("X-"), &t.x
	}
	if len(name) <= at || int(name[at]) >= len(letters) {
		return nil
	}
	return &letters[name[at]]
}

// class finds the rule for a name in canonical spelling.
func (t *table) class(name string) class {
	bucket := t.bucket(name)
	if bucket == nil {
		return passes
	}
	for _, r := range *bucket {
		if name == r.name || r.isPrefix() && strings.HasPrefix(name, r.name) {
			return r.class
		}
	}
	return passes
}

func (r rule) isPrefix() bool { return r.name[len(r.name)-1] == '-' }
