package oidc

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"sallyport/authn/remote"
)

// Config is one OpenID provider at which people sign in.
type Config struct {
	// Name identifies the provider in records, in policies (input.subject.id is "name|sub") and in its callback URL,
	// https://auth.<domain>/.sallyport/callback/<name>. Lower-case letters, digits and hyphens, at most 32. Changing it
	// makes everyone a new person to the policies. Required.
	Name string `yaml:"name" config:"required"`
	// Title is what people read where they choose between providers. Default: the name.
	Title string `yaml:"title"`
	// Issuer is the provider's issuer URL, exactly as it writes it itself: a trailing slash counts. Must be https://,
	// except on loopback. The provider is discovered below it at .well-known/openid-configuration. Required.
	Issuer string `yaml:"issuer" config:"required"`
	// Connect is the address to dial instead of looking the issuer's name up, as host or host:port, for networks where
	// that name leads elsewhere. TLS and HTTP still use the name, and endpoints on other hosts are not affected. When
	// set, proxies from the environment are not used. Default: look the name up.
	Connect string `yaml:"connect"`
	// CA is a PEM file of the authorities that may vouch for the provider. Default: the system's.
	CA string `yaml:"ca" config:"path"`
	// ClientID is the client that the provider knows Sallyport as. Required.
	ClientID string `yaml:"client_id" config:"required"`
	// ClientAuth says how Sallyport proves to be that client: "private_key_jwt" signs with the key process's key of
	// purpose oidc-client, "client_secret_basic" and "client_secret_post" send the secret. Default:
	// "client_secret_basic" when there is a secret, otherwise "private_key_jwt".
	ClientAuth ClientAuth `yaml:"client_auth" enum:"private_key_jwt,client_secret_basic,client_secret_post"`
	// ClientSecret is the client's secret; write ${file:…} or ${env:…} here, or use client_secret_file.
	ClientSecret Secret `yaml:"client_secret"`
	// ClientSecretFile is a file that holds the client's secret; a line end after it is ignored.
	ClientSecretFile string `yaml:"client_secret_file" config:"path"`
	// AssertionAudience is what private_key_jwt names as its audience: "issuer", or "token_endpoint" for providers that
	// insist on it (Entra ID does). Default "issuer".
	AssertionAudience AssertionAudience `yaml:"assertion_audience" default:"issuer" enum:"issuer,token_endpoint"`
	// Scopes are asked for at sign-in; openid is always among them. Default: openid, profile, email.
	Scopes []string `yaml:"scopes" default:"openid,profile,email"`
	// OfflineAccess says whether the scope offline_access is asked for as well, by which providers such as Entra ID and
	// Okta give out the refresh token that lets Sallyport look after a session in the background: "auto" asks for it where
	// the provider lists it among its scopes, "never" does not, for providers such as Keycloak that give refresh tokens
	// without it. Default "auto".
	OfflineAccess OfflineAccess `yaml:"offline_access" default:"auto" enum:"auto,never"`
	// MaxAge is how long ago people may have proved themselves to the provider, sent as max_age and checked against
	// auth_time. Default: however long ago the provider accepts.
	MaxAge time.Duration `yaml:"max_age"`
	// Userinfo also asks the provider's userinfo endpoint at sign-in, for providers that put groups or e-mail only
	// there. Claims of the ID token win. Default false.
	Userinfo bool `yaml:"userinfo"`
	// Claims says which claims carry what.
	Claims Claims `yaml:"claims"`
	// GroupsEndpoint is where a person's groups are asked for, with their access token, when the provider says that they
	// are too many for an ID token, as Entra ID does above 200: https://graph.microsoft.com/v1.0/me/getMemberObjects, or a
	// URL that answers with a list of texts, or with such a list as "groups" or "value". It must be https://. Default: such
	// groups are not known, which policies are told (input.subject.groups_incomplete).
	GroupsEndpoint string `yaml:"groups_endpoint"`
	// EmailDomains are the domains for whose addresses this provider may vouch: an address elsewhere is never verified,
	// whatever the provider says. Where people give their address first, those of these domains are sent to this provider.
	// A domain that several providers list is vouched for by each of them. Default: every domain that no other provider
	// lists.
	EmailDomains []string `yaml:"email_domains" config:"single"`
	// TrustEmail takes addresses as verified when the provider does not say whether they are, for company providers
	// that manage all addresses themselves. Needs email_domains. Default false.
	TrustEmail bool `yaml:"trust_email"`
	// MFA says what counts as having used a second factor.
	MFA MFA `yaml:"mfa"`
	// Skew is how far the provider's clock may be from ours, at most 5m. Default 1m.
	Skew time.Duration `yaml:"skew" default:"1m"`
}

// Claims names the claims that describe a person. A name is first looked for as it is; if there is none, its dots
// descend into objects: realm_access.roles.
type Claims struct {
	// Groups lists the person's groups, as a list of texts or one text. Default "groups".
	Groups string `yaml:"groups" default:"groups"`
	// Email is the e-mail address. Default "email".
	Email string `yaml:"email" default:"email"`
	// EmailVerified tells whether the address is verified: true or "true". Default "email_verified".
	EmailVerified string `yaml:"email_verified" default:"email_verified"`
	// Name is what the person is called. Default "name".
	Name string `yaml:"name" default:"name"`
	// Extra are further claims that policies may read as input.subject.claims. Default: none.
	Extra []string `yaml:"extra" config:"single"`
}

// MFA says which of the provider's words mean that a second factor was used; one match is enough.
type MFA struct {
	// AMR are authentication methods (RFC 8176). Default: mfa.
	AMR []string `yaml:"amr" config:"single" default:"mfa"`
	// ACR are authentication context classes. Default: none.
	ACR []string `yaml:"acr" config:"single"`
	// Request are the authentication context classes to ask the provider for (acr_values) when an app wants a second
	// factor, the preferred one first. Default: those of acr.
	Request []string `yaml:"request" config:"single"`
}

// OfflineAccess says whether offline_access is asked for.
type OfflineAccess string

// Asking automatically is the default.
const (
	OfflineAuto  OfflineAccess = "auto"
	OfflineNever OfflineAccess = "never"
)

// ClientAuth is a client authentication method (OpenID Connect Core §9).
type ClientAuth string

// The methods that Sallyport offers.
const (
	PrivateKeyJWT     ClientAuth = "private_key_jwt"
	ClientSecretBasic ClientAuth = "client_secret_basic"
	ClientSecretPost  ClientAuth = "client_secret_post"
)

// AssertionAudience says what a client assertion names as its audience.
type AssertionAudience string

// The issuer is the safe audience: an assertion for it is of no use at another provider's token endpoint.
const (
	AudienceIssuer        AssertionAudience = "issuer"
	AudienceTokenEndpoint AssertionAudience = "token_endpoint"
)

// Secret is a text that prints as [redacted].
type Secret string

const redacted = "[redacted]"

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const (
	maxSkew   = 5 * time.Minute
	maxSecret = 4 << 10
)

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Check tells what in c cannot work.
func (c Config) Check() error {
	issuer, err := c.issuerURL()
	switch {
	case !nameForm.MatchString(c.Name):
		return fmt.Errorf("name %q: want lower-case letters, digits and hyphens, at most 32", c.Name)
	case err != nil:
		return err
	case c.ClientID == "":
		return errors.New("client_id is missing")
	case c.Skew < 0 || c.Skew > maxSkew:
		return fmt.Errorf("skew %s: want 0 to %s", c.Skew, maxSkew)
	case c.MaxAge < 0:
		return fmt.Errorf("max_age %s is negative", c.MaxAge)
	case c.TrustEmail && len(c.EmailDomains) == 0:
		return errors.New("trust_email needs email_domains: for which addresses may this provider vouch?")
	case c.GroupsEndpoint != "" && !remote.AllowedEndpoint(c.GroupsEndpoint, issuer):
		return fmt.Errorf("groups_endpoint %q: want an https:// URL", c.GroupsEndpoint)
	case c.OfflineAccess != "" && c.OfflineAccess != OfflineAuto && c.OfflineAccess != OfflineNever:
		return fmt.Errorf("offline_access %q is unknown", c.OfflineAccess)
	}
	if err := remote.CheckConnect(c.Connect, issuer); err != nil {
		return err
	}
	for _, domain := range c.EmailDomains {
		if _, err := idna.Lookup.ToASCII(domain); err != nil || strings.ContainsAny(domain, "@*") {
			return fmt.Errorf("email_domains: %q is no domain name", domain)
		}
	}
	for _, class := range slices.Concat(c.MFA.ACR, c.MFA.Request) {
		if class == "" || strings.ContainsAny(class, " \t\r\n") { // OpenID Connect Core §3.1.2.1: acr_values are parted by spaces
			return fmt.Errorf("mfa: %q is no authentication context class", class)
		}
	}
	return c.checkClientAuth()
}

func (c Config) issuerURL() (*url.URL, error) {
	u, err := remote.ParseBase(c.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer %w", err)
	}
	return u, nil
}

func (c Config) checkClientAuth() error {
	hasSecret := c.ClientSecret != "" || c.ClientSecretFile != ""
	switch auth := c.clientAuth(); {
	case c.ClientSecret != "" && c.ClientSecretFile != "":
		return errors.New("client_secret and client_secret_file are both set: choose one")
	case auth == PrivateKeyJWT && hasSecret:
		return errors.New("client_auth private_key_jwt uses no client secret: remove it, or choose client_secret_basic")
	case auth != PrivateKeyJWT && !hasSecret:
		return fmt.Errorf("client_auth %s needs client_secret_file or client_secret", auth)
	case auth != PrivateKeyJWT && auth != ClientSecretBasic && auth != ClientSecretPost:
		return fmt.Errorf("client_auth %q is unknown", auth)
	case c.AssertionAudience != "" && c.AssertionAudience != AudienceIssuer && c.AssertionAudience != AudienceTokenEndpoint:
		return fmt.Errorf("assertion_audience %q is unknown", c.AssertionAudience)
	}
	return nil
}

func (c Config) clientAuth() ClientAuth {
	switch {
	case c.ClientAuth != "":
		return c.ClientAuth
	case c.ClientSecret != "" || c.ClientSecretFile != "":
		return ClientSecretBasic
	}
	return PrivateKeyJWT
}

// secret returns the client secret from wherever the configuration keeps it.
func (c Config) secret() (Secret, error) {
	if c.ClientSecretFile == "" {
		return c.ClientSecret, nil
	}
	f, err := os.Open(c.ClientSecretFile)
	if err != nil {
		return "", fmt.Errorf("reading client_secret_file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("reading client_secret_file: %w", err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" || len(data) > maxSecret {
		return "", fmt.Errorf("client_secret_file %s: want 1 to %d bytes", c.ClientSecretFile, maxSecret)
	}
	return Secret(secret), nil
}

// SignsAssertions tells whether the provider needs the key of purpose oidc-client.
func (c Config) SignsAssertions() bool { return c.clientAuth() == PrivateKeyJWT }
