// Package config reads the gateway's one configuration file.
//
// Every package owns the type of its section, tags and comments included; Config gathers them. Load is the only reader:
// one reflective walk over a YAML tree and the types that is strict, reports everything wrong at its line and column,
// resolves ${env:…} and ${file:…}, fills in defaults and asks each value's Check. From the same types come Schema, which
// editors understand, and Show, which prints what is in effect. Watch notices when a file changes.
//
// The package opens nothing that the configuration names, except the files of ${file:…} references.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/sink"
	"sallyport/authn/oidc"
	"sallyport/authn/personal"
	"sallyport/authn/service"
	"sallyport/authn/session"
	"sallyport/authn/token"
	"sallyport/certs"
	"sallyport/certs/acme"
	"sallyport/certs/keyring"
	"sallyport/gateway/admin"
	"sallyport/gateway/cache"
	"sallyport/gateway/canon"
	"sallyport/gateway/limit"
	"sallyport/gateway/listen"
	"sallyport/gateway/place"
	"sallyport/gateway/route"
	"sallyport/gateway/shield"
	"sallyport/gateway/spool"
	"sallyport/policy"
)

// Config is the whole file.
type Config struct {
	// Domain is the domain that the apps share, such as corp.example. People sign in at auth.<domain>. Nothing is served
	// on the domain itself unless an app claims it as its host. Required.
	Domain string `yaml:"domain" config:"required"`
	// OtherDomains are further domains below which apps may have their hosts. An app's host anywhere else is refused,
	// because it is more likely a slip than a wish. Default: none.
	OtherDomains []string `yaml:"other_domains" config:"single"`
	// Listen is the address and port for HTTPS. Without an address, all of them. Changing it needs a restart.
	// Default ":443".
	Listen string `yaml:"listen" default:":443"`
	// ListenHTTP is an address and port for plain HTTP, where everything is redirected to HTTPS. Changing it needs a
	// restart. Default: no plain HTTP.
	ListenHTTP string `yaml:"listen_http"`
	// PublicPort is the port that people's browsers connect to, when something in front of the gateway changes it. It is
	// part of every URL that the gateway prints. Default: the port of listen.
	PublicPort uint16 `yaml:"public_port"`
	// HSTS is for how long browsers remember to use HTTPS only (RFC 6797), on every host of the gateway; "0s" does not
	// ask them to. Default 365d.
	HSTS time.Duration `yaml:"hsts" default:"365d"`
	// ProxyProtocol says whose word is taken for where a connection comes from. Changing it needs a restart.
	ProxyProtocol listen.ProxyProtocol `yaml:"proxy_protocol"`
	// Admin says where operators reach the gateway.
	Admin admin.Config `yaml:"admin"`
	// Session sets how long people stay signed in.
	Session session.Config `yaml:"session"`
	// Identity says who can tell who people are.
	Identity Identity `yaml:"identity"`
	// Apps are the apps behind the gateway. Default: none.
	Apps []route.App `yaml:"apps"`
	// Cache is the memory that the apps' stored answers share. Changing it needs a restart.
	Cache cache.Config `yaml:"cache"`
	// Spool is the room for request bodies and answers that wait for a slow client.
	Spool spool.Config `yaml:"spool"`
	// Limits bound what clients can ask of the gateway.
	Limits Limits `yaml:"limits"`
	// Shield is what inspection of requests may cost; each app says whether it wants it.
	Shield shield.Config `yaml:"shield"`
	// Networks gives names to address ranges, such as {office: [192.0.2.0/24]}, for policies (input.context.client.zone) and
	// for sessions that are bound to their network. Of overlapping ranges the longest prefix counts. Default: none.
	Networks place.Networks `yaml:"networks"`
	// GeoIP says in which country an address is, for policies (input.context.client.country).
	GeoIP place.GeoIP `yaml:"geoip"`
	// Reauthorize is how often an exchange that is still open is decided again, from one second to one hour; a policy can
	// ask for less. Changes of session and policy count at once. Default 30s.
	Reauthorize time.Duration `yaml:"reauthorize" default:"30s"`
	// TLS says which certificates the gateway shows.
	TLS certs.Config `yaml:"tls"`
	// Policy says who may do what, beyond the apps' access rules.
	Policy policy.Config `yaml:"policy"`
	// Audit says where decisions are written down. Changing it needs a restart.
	Audit audit.Config `yaml:"audit"`
	// Sinks ship audit records to other systems, such as a SIEM. Default: none.
	Sinks []sink.Config `yaml:"sinks"`
	// Keys says where the key process is. Changing it needs a restart.
	Keys keyring.Config `yaml:"keys"`
	// State says where the gateway keeps sessions. Changing it needs a restart.
	State State `yaml:"state"`
}

// Identity says who can tell who people are.
type Identity struct {
	// Providers are the OpenID providers at which people sign in. Required as soon as an app's access names people.
	Providers []oidc.Config `yaml:"providers"`
	// Links join accounts at several providers into one person, each by provider and subject. Default: every account is a
	// person of its own, whatever its e-mail address.
	Links []oidc.Link `yaml:"links"`
	// Issuers are whose signed tokens programs may show in place of a sign-in: GitHub, GitLab, Kubernetes or an OpenID
	// provider. Default: none.
	Issuers []token.Issuer `yaml:"issuers"`
	// Services are programs that prove themselves by a client certificate, for apps with client_certs. Default: none.
	Services []service.Account `yaml:"services"`
	// PersonalTokens let people make tokens for programs of their own, in the portal.
	PersonalTokens personal.Config `yaml:"personal_tokens"`
}

// Limits bound what clients can ask of the gateway.
type Limits struct {
	limit.Config `yaml:",inline"`
	// Connections bounds what connections may cost. Changing it needs a restart.
	Connections listen.Connections `yaml:"connections"`
	// Request bounds the head of one request. Its limits hold for the requests that begin after a reload.
	Request canon.Limits `yaml:"request"`
}

// State says where the gateway keeps what must survive a restart besides the audit log.
type State struct {
	// SQLite is the path of the database file. It is created when absent, readable by the gateway's account alone; its
	// folder must exist. Required.
	SQLite string `yaml:"sqlite" config:"path,required"`
}

// AuthHost is the host of sign-in and portal.
func (c *Config) AuthHost() string { return "auth." + c.Domain }

// AuthOrigin is the origin of sign-in and portal, with the public port unless it is 443.
func (c *Config) AuthOrigin() string {
	if c.Port() == 443 {
		return "https://" + c.AuthHost()
	}
	return "https://" + net.JoinHostPort(c.AuthHost(), strconv.Itoa(c.Port()))
}

// Port is the port in every URL we print.
func (c *Config) Port() int {
	if c.PublicPort != 0 {
		return int(c.PublicPort)
	}
	port, err := portOf(c.Listen)
	if err != nil {
		panic("BUG: an unchecked configuration: " + err.Error())
	}
	return port
}

// AuditOrigin names the audit logs in the world; see audit.Config.Origin.
func (c *Config) AuditOrigin() string { return cmp.Or(c.Audit.Origin, c.Domain+"/audit") }

// Check holds the sections against each other. What is wrong within one, its own type knows.
func (c *Config) Check() error {
	return errors.Join(c.checkDomains(), c.checkAddresses(), c.checkProviders(), c.checkIdentity(), c.checkApps(), c.checkSinks(), c.checkACME())
}

// checkACME holds the certificates that are obtained against the doors and the domains.
func (c *Config) checkACME() error {
	obtained := c.TLS.ACME
	if obtained == nil {
		return nil
	}
	var errs []error
	if obtained.Challenge == acme.HTTP01 && c.ListenHTTP == "" {
		errs = append(errs, At("tls.acme.challenge", errors.New("http-01 is answered on listen_http, and there is none")))
	}
	for i, host := range obtained.Hosts {
		if !c.covers(strings.TrimPrefix(host, "*.")) {
			errs = append(errs, At(fmt.Sprintf("tls.acme.hosts[%d]", i), fmt.Errorf("%s is not below %s: if it is meant, add its domain to other_domains", host, c.Domain)))
		}
	}
	return errors.Join(errs...)
}

var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (c *Config) checkDomains() error {
	var errs []error
	if !domainName.MatchString(c.Domain) || len(c.Domain) > 240 {
		errs = append(errs, At("domain", fmt.Errorf("%q is not a DNS name in lower case, such as corp.example", c.Domain)))
	}
	for i, domain := range c.OtherDomains {
		if !domainName.MatchString(domain) {
			errs = append(errs, At(fmt.Sprintf("other_domains[%d]", i), fmt.Errorf("%q is not a DNS name in lower case, such as corp.example", domain)))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) checkAddresses() error {
	port, err := portOf(c.Listen)
	if err != nil {
		return At("listen", err)
	}
	if port == 0 && c.PublicPort == 0 {
		return At("listen", errors.New("port 0 needs public_port: nobody could tell people where to connect"))
	}
	if c.Reauthorize < time.Second || c.Reauthorize > time.Hour {
		return At("reauthorize", errors.New("must be from 1s to 1h"))
	}
	if c.ListenHTTP == "" {
		return nil
	}
	if _, err := portOf(c.ListenHTTP); err != nil {
		return At("listen_http", err)
	}
	if c.ListenHTTP == c.Listen {
		return At("listen_http", errors.New("is the address of listen"))
	}
	return nil
}

// portOf returns the port of an address to listen on.
func portOf(address string) (int, error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, fmt.Errorf("%q is not an address and port, such as :443 or 10.0.0.1:443", address)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port number", text)
	}
	return int(port), nil
}

func (c *Config) checkProviders() error {
	var errs []error
	first := map[string]int{}
	for i, p := range c.Identity.Providers {
		if other, taken := first[p.Name]; taken {
			errs = append(errs, At(fmt.Sprintf("identity.providers[%d].name", i), fmt.Errorf("%q is the name of providers[%d] already", p.Name, other)))
			continue
		}
		first[p.Name] = i
	}
	errs = append(errs, oidc.CheckLinks(c.Identity.Links, c.Identity.Providers))
	if len(c.Identity.Providers)+len(c.Identity.Issuers)+len(c.Identity.Services) == 0 && slices.ContainsFunc(c.Apps, asksWho) {
		errs = append(errs, At("identity.providers", errors.New("nobody can sign in: an app's access names people, and there is no provider that could tell who they are")))
	}
	return errors.Join(errs...)
}

// asksWho tells an app that is not entirely public.
func asksWho(app route.App) bool {
	return slices.ContainsFunc(app.Access, func(r policy.Rule) bool { return !r.Public })
}

func (c *Config) checkApps() error {
	var errs []error
	names, places := map[route.Name]int{}, map[string]int{}
	for i, app := range c.Apps {
		at := func(key, format string, args ...any) {
			errs = append(errs, At(fmt.Sprintf("apps[%d].%s", i, key), fmt.Errorf(format, args...)))
		}
		if other, taken := names[app.Name]; taken {
			at("name", "%q is the name of apps[%d] already", app.Name, other)
		} else {
			names[app.Name] = i
		}
		if other, taken := places[app.Host+app.Path]; taken {
			at("host", "%s%s belongs to apps[%d] already", app.Host, app.Path, other)
		} else {
			places[app.Host+app.Path] = i
		}
		if app.AsksForCertificate() && len(c.TLS.ClientCertificates.Authorities) == 0 {
			at("client_certs", "%s needs tls.client_certificates.authorities: nobody could have a certificate that counts", app.ClientCerts)
		}
		errs = append(errs, c.checkUpstreams(i)...)
		if app.Host == c.AuthHost() {
			at("host", "%s is where people sign in: no app can live there", app.Host)
		} else if !c.covers(app.Host) {
			at("host", "%s is not below %s: if it is meant, add its domain to other_domains", app.Host, c.Domain)
		}
	}
	return errors.Join(errors.Join(errs...), c.checkRelaxed())
}

// checkRelaxed refuses an app that relaxes what is not its own.
func (c *Config) checkRelaxed() error {
	var errs []error
	for i, app := range c.Apps {
		for j, relaxation := range app.Relax {
			for k, folder := range relaxation.Paths {
				if !strings.HasPrefix(string(folder), app.Path) {
					errs = append(errs, At(fmt.Sprintf("apps[%d].relax[%d].paths[%d]", i, j, k), fmt.Errorf("%s is not within the app's path %s", folder, app.Path)))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Config) checkSinks() error {
	var errs []error
	first := map[string]int{}
	for i, s := range c.Sinks {
		if other, taken := first[s.Name]; taken {
			errs = append(errs, At(fmt.Sprintf("sinks[%d].name", i), fmt.Errorf("%q is the name of sinks[%d] already, and a cursor has one owner", s.Name, other)))
			continue
		}
		first[s.Name] = i
	}
	return errors.Join(errs...)
}

// covers tells whether a host is one of our domains or below it.
func (c *Config) covers(host string) bool {
	return slices.ContainsFunc(append([]string{c.Domain}, c.OtherDomains...), func(domain string) bool {
		return host == domain || strings.HasSuffix(host, "."+domain)
	})
}
