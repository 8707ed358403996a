// Package policy answers one question: may this request pass? It evaluates Rego (shipped in policies, refined by the
// operator) over an Input and yields a Decision.
//
// Build gathers shipped policy, operator's Rego and the apps' access rules into a Bundle whose archive has one digest;
// Compile prepares it; Engine.Decide asks it. A decision is pure: the same archive and the same input give the same
// answer on any machine at any time, which is why it can be remembered and recomputed. Everything that is not a clear
// yes is a no: undefined, error, deadline, anything but boolean true, an obligation nobody carries out.
//
// The package neither routes nor records, and reads no clock of its own to decide.
package policy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/policy/bundle"
)

// Config is the policy section of the configuration file.
type Config struct {
	// Bundle is a folder, a .tar or .tar.gz archive, or the https address of an archive, of your own Rego (Rego v1) in
	// the form of Open Policy Agent's bundles. Every file *.rego in it is read, at any depth, except tests (*_test.rego);
	// packages are sallyport.app["<app>"], whose decision replaces the shipped one for that app, and any helper packages
	// outside of sallyport. Files data.json and data.yaml become data. An archive is picked up when it is replaced by
	// rename, a folder on an explicit reload, an address as often as poll says. Absent: the apps' access rules alone
	// decide.
	Bundle string `yaml:"bundle" config:"path,address"`

	// Verification says whose signature the bundle must bear. Default: nobody's.
	Verification bundle.Verification `yaml:"verification"`

	// Poll is how often an address is asked for another bundle, from 1s to 24h. Default 1m.
	Poll time.Duration `yaml:"poll" default:"1m"`

	// Token is sent to the address as the Bearer (RFC 6750), usually ${file:…}. Default: none.
	Token bundle.Secret `yaml:"token"`

	// Store is the folder in which the gateway keeps what it must remember of its policies besides the audit log: a
	// policy that an operator pinned, which ones were in force, and the last good bundle that was fetched. It is made
	// when absent. Changing it needs a restart. Default: policy, beside the file of state.sqlite.
	Store string `yaml:"store" config:"path"`

	// Timezone is the IANA name of the zone in which hours of access rules and the input's weekday and hour are
	// meant, such as Europe/Berlin. Default UTC.
	Timezone string `yaml:"timezone" default:"UTC"`

	// Headers are the names of request headers that policies may read, as input.context.request.headers in lower case.
	// They are recorded with each decision; Authorization, Cookie and their kin are never among them. Default: none.
	Headers []string `yaml:"headers" config:"single"`

	// Deadline is the longest time one evaluation may take; one still running then is stopped and denies with reason
	// timeout. Evaluations of a few steps, which only a stalled machine could slow down, get ten times as long.
	// Default 100ms, at most 10s.
	Deadline time.Duration `yaml:"deadline" default:"100ms"`

	// Memo lets the gateway remember answers within one policy: requests that agree in everything the app's policy
	// can read share one evaluation. Each is still decided on and recorded. Default true; false evaluates every
	// request.
	Memo bool `yaml:"memo" default:"true"`

	// MemoCheck is how many uses of remembered answers there are to one that is evaluated anew, beside the request, to
	// make sure of it: 1 checks every one that there is time for. A difference is an error in sallyport; it is reported
	// and nothing more is remembered until the next reload. Default 1000; 0 checks none.
	MemoCheck int `yaml:"memo_check" default:"1000"`
}

// DefaultDeadline is Config.Deadline when absent.
const DefaultDeadline = 100 * time.Millisecond

const maxDeadline = 10 * time.Second

// Check reports what is wrong with the section.
func (c *Config) Check() error {
	if _, err := c.Zone(); err != nil {
		return err
	}
	for _, name := range c.Headers {
		if !headerName.MatchString(name) || credential(name) {
			return fmt.Errorf("headers: %q is no header that a policy may read", name)
		}
	}
	if err := c.checkBundle(); err != nil {
		return err
	}
	if c.Deadline < 0 || c.Deadline > maxDeadline {
		return fmt.Errorf("deadline %v is not between 1ms and %v", c.Deadline, maxDeadline)
	}
	if c.MemoCheck < 0 {
		return fmt.Errorf("memo_check %d is negative", c.MemoCheck)
	}
	return nil
}

func (c *Config) checkBundle() error {
	if c.Poll != 0 && (c.Poll < time.Second || c.Poll > 24*time.Hour) {
		return fmt.Errorf("poll %v is not between 1s and 24h", c.Poll)
	}
	if !bundle.Remote(c.Bundle) {
		return nil
	}
	return bundle.CheckAddress(c.Bundle, len(c.Verification.Keys) > 0 && c.Verification.Required, c.Token)
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// Zone is the location of Timezone, for Context.SetTime.
func (c *Config) Zone() (*time.Location, error) {
	zone, err := loadZone(c.Timezone)
	if err != nil {
		return nil, fmt.Errorf("timezone %q: %w", c.Timezone, err)
	}
	return zone, nil
}

// App is what the policy knows of an app. The zero Access lets nobody in.
type App struct {
	Name        string            // unique; input.resource.id
	Owner       string            // who answers for the app
	Sensitivity string            // a word of the operator's
	Labels      map[string]string // for policies
	Access      Access
	// ShieldThreshold is the score of inspection from which the app's requests are refused; 0: never.
	ShieldThreshold int
	// CrossSite lets pages of other sites send requests that change something.
	CrossSite bool
	// ClientCert demands a client certificate that counts, of everybody.
	ClientCert bool
	// Providers are the identity providers whose people the app is for; none: everybody's.
	Providers []string
}

var appName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// Check reports what is wrong with the app.
func (a *App) Check() error {
	if !appName.MatchString(a.Name) {
		return fmt.Errorf("app name %q: use up to 63 letters, digits, dots, hyphens and underscores, with a letter or digit at both ends", a.Name)
	}
	if n := mapSize(a.Labels); n > maxLabels {
		return fmt.Errorf("app %s: the labels take %d bytes; %d fit", a.Name, n, maxLabels)
	}
	if size(a.Owner) > maxWord || size(a.Sensitivity) > maxWord {
		return fmt.Errorf("app %s: owner and sensitivity may take %d bytes", a.Name, maxWord)
	}
	if a.ShieldThreshold < 0 {
		return fmt.Errorf("app %s: no score is less than a shield threshold of %d", a.Name, a.ShieldThreshold)
	}
	if err := a.Access.Check(); err != nil {
		return fmt.Errorf("app %s: %w", a.Name, err)
	}
	return nil
}

// Access is who may use an app: the first rule whose methods and paths match the request decides alone, and when none
// matches the answer is no. Without rules nobody may.
type Access []Rule

// Check reports what is wrong with the rules.
func (a Access) Check() error {
	named := make(map[string]int)
	for i := range a {
		r := &a[i]
		if err := r.Check(); err != nil {
			return fmt.Errorf("access rule %d: %w", i+1, err)
		}
		id := r.id(i)
		if first, taken := named[id]; taken {
			return fmt.Errorf("access rule %d: its id %q is that of rule %d", i+1, id, first)
		}
		named[id] = i + 1
	}
	return nil
}

// id is the rule's name in decisions; place counts from 0.
func (r *Rule) id(place int) string { return cmp.Or(r.ID, "access/"+strconv.Itoa(place+1)) }

// Rule is one rule of an Access. Methods and Paths say which requests it decides. Groups, Emails and Domains are
// alternatives: one is enough. MFA, ACR, MaxAge, Hours and Networks must all hold besides. A rule with paths or methods
// that names nobody closes them for everybody.
type Rule struct {
	// ID names the rule in decisions. Default: access/ and its number in the list, from 1.
	ID string `yaml:"id"`

	// Description tells other operators what the rule is for.
	Description string `yaml:"description"`

	// Paths restricts the rule to canonical paths: "/a/b" is that path exactly; "/a/b/" is that path, with or
	// without the slash at its end, and all below it. No patterns; case counts. Absent: all paths.
	Paths []string `yaml:"paths" config:"single"`

	// Methods restricts the rule to HTTP methods, in capitals. GET includes HEAD. Absent: all methods.
	Methods []string `yaml:"methods" config:"single"`

	// Groups admits people in one of these groups, as the identity provider spells them.
	Groups []string `yaml:"groups" config:"single"`

	// Emails admits people with one of these addresses, if a provider allowed to vouch verified it. Case does not
	// count.
	Emails []string `yaml:"emails" config:"single"`

	// Domains admits people whose verified address ends in @ and one of these domains (not their subdomains).
	Domains []string `yaml:"domains" config:"single"`

	// Public admits everybody, signed in or not. It excludes groups, emails, domains, mfa, acr and max_age.
	Public bool `yaml:"public"`

	// MFA demands a sign-in with more than one factor. Whoever lacks it is asked to step up.
	MFA bool `yaml:"mfa"`

	// ACR demands one of these authentication context classes (OpenID Connect Core §2) from the provider. Whoever
	// lacks it is asked to step up.
	ACR []string `yaml:"acr" config:"single"`

	// MaxAge demands that the person proved themselves to the provider less than this long ago; whole minutes.
	// Absent: the session's own limits alone count. Whoever signed in earlier is asked to step up.
	MaxAge time.Duration `yaml:"max_age"`

	// Hours restricts the rule to hours of the week.
	Hours *Hours `yaml:"hours"`

	// Networks restricts the rule to clients with an address in one of these prefixes.
	Networks []netip.Prefix `yaml:"networks" config:"single"`

	// Controls names the controls that the rule supports evidence for, such as SOC2:CC6.1, ISO27001:A.8.15 or PCI:10.2.1,
	// for `sallyport audit report controls`. Policies do not see them.
	Controls []string `yaml:"controls" config:"single"`
}

var (
	methodName  = regexp.MustCompile(`^[A-Z][A-Z0-9-]{0,31}$`)
	controlName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$`)
	ruleID      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$`)
	domainName  = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// ID names the rule at that place of the list, from 0, as decisions do.
func (a Access) ID(place int) string { return a[place].id(place) }

// Check reports what is wrong with the rule.
func (r *Rule) Check() error {
	if r.ID != "" && !ruleID.MatchString(r.ID) {
		return fmt.Errorf("id %q: use up to 64 letters, digits and . _ - / beginning with a letter or digit", r.ID)
	}
	for _, p := range r.Paths {
		if err := checkPath(p); err != nil {
			return fmt.Errorf("path %q: %w", p, err)
		}
	}
	for _, m := range r.Methods {
		if !methodName.MatchString(m) {
			return fmt.Errorf("method %q: write an HTTP method in capitals, such as GET", m)
		}
	}
	for _, c := range r.Controls {
		if !controlName.MatchString(c) {
			return fmt.Errorf("control %q: write a control such as SOC2:CC6.1, up to 64 letters, digits and . _ : / -", c)
		}
	}
	return errors.Join(r.checkWho(), r.checkConditions())
}

func (r *Rule) checkWho() error {
	for _, g := range r.Groups {
		if g == "" || clean(g) != g || size(g) > maxWord {
			return fmt.Errorf("group %q: a group name is 1 to %d bytes of UTF-8", g, maxWord)
		}
	}
	for _, e := range r.Emails {
		local, domain, ok := cutLast(e, "@")
		if !ok || local == "" || !domainName.MatchString(strings.ToLower(domain)) {
			return fmt.Errorf("email %q: write an address such as ada@corp.example", e)
		}
	}
	for _, d := range r.Domains {
		if !domainName.MatchString(strings.ToLower(d)) {
			return fmt.Errorf("domain %q: write a domain such as corp.example, without @ and without patterns", d)
		}
	}
	selects := len(r.Groups)+len(r.Emails)+len(r.Domains) > 0
	switch {
	case r.Public && selects:
		return errors.New("public: true lets everybody in; groups, emails and domains beside it would have no effect")
	case r.Public && r.signIn():
		return errors.New("public: true lets people in who have not signed in; mfa, acr and max_age cannot be demanded of them")
	case !r.Public && !selects && r.restricts():
		return errors.New("nobody is named whom mfa, acr, max_age, hours or networks could restrict: add groups, emails, domains or public: true")
	case !r.Public && !selects && len(r.Paths) == 0 && len(r.Methods) == 0:
		return errors.New("the rule names nobody: add groups, emails, domains or public: true")
	}
	return nil
}

// signIn reports whether the rule demands something of the sign-in.
func (r *Rule) signIn() bool { return r.MFA || len(r.ACR) > 0 || r.MaxAge != 0 }

// restricts reports whether the rule demands something besides who it is.
func (r *Rule) restricts() bool { return r.signIn() || r.Hours != nil || len(r.Networks) > 0 }

func (r *Rule) checkConditions() error {
	if slices.Contains(r.ACR, "") {
		return errors.New("acr: an empty authentication context class")
	}
	if r.MaxAge < 0 || r.MaxAge%time.Minute != 0 {
		return fmt.Errorf("max_age %v: write whole minutes, such as 15m", r.MaxAge)
	}
	for _, n := range r.Networks {
		switch {
		case !n.IsValid():
			return errors.New("networks: not an address prefix; write one such as 10.0.0.0/8")
		case n.Addr().Is4In6():
			return fmt.Errorf("network %v: write the IPv4 prefix itself", n)
		case n != n.Masked():
			return fmt.Errorf("network %v has bits beyond its length; %v is the network it lies in", n, n.Masked())
		}
	}
	if r.Hours != nil {
		return r.Hours.Check()
	}
	return nil
}

// checkPath refuses paths that could never match a canonical one, and those that look like patterns.
func checkPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return errors.New("a path begins with /")
	case strings.ContainsAny(p, "*?[]{}^$|"):
		return errors.New("patterns are not offered: write a path, with a slash at its end for all below it")
	case strings.Contains(p, "%"):
		return errors.New("write the path decoded: it is compared with the canonical path")
	case strings.ContainsAny(p, `#;\`):
		return errors.New(`no canonical path contains #, ; or \`)
	case clean(p) != p || strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return errors.New("control characters and broken UTF-8 occur in no canonical path")
	case path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/":
		return fmt.Errorf("not canonical; write %q", path.Clean(p))
	case size(p) > MaxPath:
		return fmt.Errorf("longer than %d bytes", MaxPath)
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
