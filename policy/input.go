package policy

// Input is everything a policy can know about one request, shaped after AuthZEN's subject, action, resource and
// context. The same value is evaluated, written to the record and read back for recomputation.
//
// A field that is known to be empty is present with its empty value; a field that is not known is absent, so that a
// policy reading it is undefined and denies. "Not known" is the zero value of the fields marked omitzero.
type Input struct {
	Subject  Subject  `json:"subject"`
	Action   Action   `json:"action"`
	Resource Resource `json:"resource"`
	Context  Context  `json:"context"`
}

// Types of Subject.
const (
	TypeUser      = "user"
	TypeService   = "service"
	TypeAnonymous = "anonymous"
)

// Subject is who asks.
type Subject struct {
	Type             string         `json:"type"`                  // user, service or anonymous
	ID               string         `json:"id,omitzero"`           // provider|sub; absent for anonymous
	Email            string         `json:"email,omitzero"`        // as the provider states it
	EmailVerified    bool           `json:"email_verified"`        // by a provider allowed to vouch
	Groups           []string       `json:"groups"`                // sorted, unique
	GroupsIncomplete bool           `json:"groups_incomplete"`     // there are more than Groups holds
	Claims           map[string]any `json:"claims"`                // allow-listed claims, JSON values
	Authn            *Authn         `json:"authn,omitzero"`        // absent for anonymous
	Session          *Session       `json:"session,omitzero"`      // absent without a session
	Token            *Token         `json:"token,omitzero"`        // absent unless the request came with one
	Device           *Device        `json:"device,omitzero"`       // absent when nothing is known of the device
	Cert             *Cert          `json:"cert,omitzero"`         // the client's certificate; absent without one
	CertProblem      string         `json:"cert_problem,omitzero"` // why the one it showed does not count: expired, revoked, …
	Grants           []Grant        `json:"grants"`                // access given for a time

	prepared *prepared // see Prepared
}

// Authn is how and when the subject proved who they are.
type Authn struct {
	Provider string   `json:"provider"`
	ACR      string   `json:"acr,omitzero"`  // OpenID Connect Core §2
	AMR      []string `json:"amr"`           // RFC 8176
	Time     string   `json:"time,omitzero"` // RFC 3339, UTC
	AgeS     Age      `json:"age_s,omitzero"`
	MFA      bool     `json:"mfa"`
}

// Session is the sign-in session the request came with.
type Session struct {
	ID    string `json:"id"`
	AgeS  Age    `json:"age_s,omitzero"`
	IdleS Age    `json:"idle_s,omitzero"`
}

// Kinds of Token.
const (
	TokenPersonal = "personal" // made by a person in the portal, whom it stands for
	TokenIssued   = "issued"   // signed by a configured issuer, who names its bearer
)

// AnyScope in Token.Apps or Token.Methods stands for all there are.
const AnyScope = "*"

// Token is what a program showed in place of a sign-in. What Apps and Methods do not name, it is not good for.
type Token struct {
	ID      string   `json:"id"` // its public name; tells nothing about the token
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`    // as its owner named it, or the issuer's name
	Apps    []string `json:"apps"`    // names of apps, or "*"
	Methods []string `json:"methods"` // HTTP methods, or "*"; GET includes HEAD
	Scopes  []string `json:"scopes"`  // of an issued token: RFC 6749 §3.3
	Expires string   `json:"expires"` // RFC 3339, UTC
}

// Device is what is known of the device; a nil fact is not known.
type Device struct {
	ID        string `json:"id,omitzero"`
	Platform  string `json:"platform,omitzero"` // linux, macos, windows, ios, android
	Version   string `json:"version,omitzero"`  // of the operating system
	Managed   *bool  `json:"managed,omitzero"`
	Compliant *bool  `json:"compliant,omitzero"`
	Encrypted *bool  `json:"encrypted,omitzero"`
	Source    string `json:"source,omitzero"` // who says so
	AgeS      Age    `json:"age_s,omitzero"`  // since it was said
}

// Cert is a verified client certificate.
type Cert struct {
	Fingerprint string   `json:"fingerprint"` // SHA-256 of the DER form, hexadecimal
	Subject     string   `json:"subject"`     // RFC 4514
	Issuer      string   `json:"issuer"`      // RFC 4514
	Serial      string   `json:"serial"`      // hexadecimal
	DNSNames    []string `json:"dns_names"`
	Emails      []string `json:"emails"`
	URIs        []string `json:"uris"`
	NotAfter    string   `json:"not_after"` // RFC 3339, UTC
}

// Grant is access given to one person for a time.
type Grant struct {
	ID      string `json:"id"`
	App     string `json:"app"`
	Name    string `json:"name"`
	Expires string `json:"expires,omitzero"` // RFC 3339, UTC; absent: until withdrawn
}

// Names of Action.
const (
	ActionRead    = "read"
	ActionWrite   = "write"
	ActionDelete  = "delete"
	ActionConnect = "connect"
)

// Action is what is asked for.
type Action struct {
	Name     string `json:"name"` // read, write, delete or connect
	Method   string `json:"method"`
	Protocol string `json:"protocol"` // HTTP/1.1, HTTP/2.0
	Upgrade  string `json:"upgrade"`  // websocket, or empty
}

// ActionName is the name of a request's action: connect for an upgrade, read for the safe methods of RFC 9110 §9.2.1,
// delete for DELETE, write for every other method.
func ActionName(method, upgrade string) string {
	if upgrade != "" {
		return ActionConnect
	}
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return ActionRead
	case "DELETE":
		return ActionDelete
	}
	return ActionWrite
}

// Resource is what it is asked of.
type Resource struct {
	Type        string            `json:"type"` // app
	ID          string            `json:"id"`   // the app's name
	Labels      map[string]string `json:"labels"`
	Sensitivity string            `json:"sensitivity"`
	Owner       string            `json:"owner"`
	Host        string            `json:"host"`
	Path        string            `json:"path"` // canonical, decoded
	Segments    []string          `json:"segments"`
	Query       string            `json:"query"` // secret parameters redacted
}

// TypeApp is the only Type of Resource.
const TypeApp = "app"

// Context is the circumstances.
type Context struct {
	TimeNS  int64   `json:"time_ns"` // since 1970, the policy's only clock
	Time    string  `json:"time"`    // RFC 3339 with seconds, in policy.timezone
	Weekday string  `json:"weekday"` // mon … sun, in policy.timezone
	Hour    int     `json:"hour"`    // 0 … 23, in policy.timezone
	Client  Client  `json:"client"`
	TLS     *TLS    `json:"tls,omitzero"` // absent without TLS
	Request Request `json:"request"`
	Shield  *Shield `json:"shield,omitzero"` // absent when the request was not inspected
}

// Client is where the request comes from.
type Client struct {
	IP      string `json:"ip,omitzero"`      // the peer's address
	Zone    string `json:"zone,omitzero"`    // the operator's name for its network
	Country string `json:"country,omitzero"` // ISO 3166-1 alpha-2
}

// TLS is the client's connection.
type TLS struct {
	Version string `json:"version"` // 1.2, 1.3
	Cipher  string `json:"cipher"`  // IANA name
	SNI     string `json:"sni"`
	ALPN    string `json:"alpn"`
}

// Request is what else the request says.
type Request struct {
	ID              string            `json:"id"`
	ContentType     string            `json:"content_type"`
	ContentLength   *int64            `json:"content_length,omitzero"` // absent when not stated
	UserAgent       string            `json:"user_agent"`
	Origin          string            `json:"origin"`
	FetchSite       string            `json:"fetch_site"`
	CrossOrigin     bool              `json:"cross_origin"`               // Origin is neither the app's own nor one it admits
	CrossSiteUnsafe *bool             `json:"cross_site_unsafe,omitzero"` // a page the app does not admit sends what may change something; absent from old records
	Headers         map[string]string `json:"headers"`                    // allow-listed, names in lower case
}

// Shield is what inspection found. It is a finding, not a verdict.
type Shield struct {
	Score   int     `json:"score"`
	Rules   []int64 `json:"rules"`
	Body    string  `json:"body"` // none, whole, part
	Timeout bool    `json:"timeout"`
}
