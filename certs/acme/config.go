package acme

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// The challenges by which an authority may be shown that a host is ours.
const (
	HTTP01    = "http-01"     // RFC 8555 §8.3: a page on port 80
	DNS01     = "dns-01"      // RFC 8555 §8.4: a record in the zone
	TLSALPN01 = "tls-alpn-01" // RFC 8737: a handshake on port 443
)

// Config is `tls.acme` in the configuration. All but hosts needs a restart to change.
type Config struct {
	// Directory is the address of the authority's directory, such as https://acme-v02.api.letsencrypt.org/directory.
	// Everything else that is asked of the authority must be on the same host. Plain http is for loopback only. Required.
	Directory string `yaml:"directory" config:"required"`
	// TermsAgreed says that you have read the authority's terms of service and agree to them. It must be true.
	TermsAgreed bool `yaml:"terms_agreed"`
	// Email is where the authority can reach you. Default: nowhere.
	Email string `yaml:"email"`
	// Hosts are the hosts that get a certificate each, at most 1000; `*.` stands for one label and needs dns-01. Nothing is
	// ever asked for a name that a client made up. Default: the sign-in host and the host of every app.
	Hosts []string `yaml:"hosts" config:"single"`
	// Challenge is how a host is shown to be ours: tls-alpn-01 on the port of listen, http-01 on that of listen_http, or
	// dns-01 by a program of yours. Default tls-alpn-01.
	Challenge string `yaml:"challenge" default:"tls-alpn-01" enum:"http-01,tls-alpn-01,dns-01"`
	// DNS says how records are made for dns-01.
	DNS DNS `yaml:"dns"`
	// Dir is the folder of the chains and of what must survive a restart: orders under way, and failures, so that a gateway
	// that is restarted does not ask all over again. It must exist and be writable by the gateway's account, and by no other.
	// It holds no secrets. Required.
	Dir string `yaml:"dir" config:"path,required"`
	// CA is a PEM file of authorities that vouch for the directory's own certificate, besides those of the system: for an
	// authority of your own. Default: none.
	CA string `yaml:"ca" config:"path"`
	// EAB binds the account to one that you have with the authority already (RFC 8555 §7.3.4). Default: none.
	EAB *EAB `yaml:"eab"`
	// PreferredChain is the common name of the issuer of a chain's last certificate; of several chains that the authority
	// offers, one that ends there is taken. Default: the authority's own choice.
	PreferredChain string `yaml:"preferred_chain"`
	// Account is the name in keyd.yaml of the account's key, which has purpose acme-account. Default acme-account.
	Account string `yaml:"account" default:"acme-account"`
	// Slots are the names in keyd.yaml of the hosts' keys, each host's own, with purpose tls-server and `managed: true`. Default: each
	// is called like its host.
	Slots map[string]string `yaml:"slots"`
	// Retry is how long to wait after a first failure, from one second to one day. It doubles with each further one, up to
	// one day, and is never shorter than what the authority asks for. Default 1m.
	Retry time.Duration `yaml:"retry" default:"1m"`
	// Attempts is how often a host's certificate is asked for in 24 hours at most, from 1 to 100. Default 8.
	Attempts int `yaml:"attempts" default:"8"`
}

// EAB is an account that one has with an authority outside of ACME.
type EAB struct {
	// KeyID is the name that the authority gave the binding. Required.
	KeyID string `yaml:"key_id" config:"required"`
	// HMACFile is a file with the key that the authority gave along, in base64url. It is read when the account is made.
	// Required.
	HMACFile string `yaml:"hmac_file" config:"path,required"`
}

// DNS says how records are made for dns-01.
type DNS struct {
	// Command is a program with its first arguments. It is called with three more: `present` or `cleanup`, the name of the
	// TXT record, and its value. It runs with an empty environment but for PATH; an exit code other than 0 is a failure,
	// and what it printed is then part of the error. Required for dns-01.
	Command []string `yaml:"command" config:"single"`
	// Timeout is how long the program may take, from one second to one hour. Default 2m.
	Timeout time.Duration `yaml:"timeout" default:"2m"`
	// Resolvers are addresses and ports of name servers that are asked until all of them know the record. Default: none;
	// the program then returns when the record is there.
	Resolvers []string `yaml:"resolvers" config:"single"`
	// Propagation is how long the resolvers are asked, from one second to one hour. Default 5m.
	Propagation time.Duration `yaml:"propagation" default:"5m"`
}

// maxHosts bounds the certificates that are kept.
const maxHosts = 1000

var (
	hostName = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	slotName = regexp.MustCompile(`^[A-Za-z0-9._*-]{1,253}$`)
)

// Check tells whether the settings make sense.
func (c *Config) Check() error {
	var errs []error
	if _, err := c.directory(); err != nil {
		errs = append(errs, &fieldError{"directory", err})
	}
	if !c.TermsAgreed {
		errs = append(errs, &fieldError{"terms_agreed", errors.New("must be true: read the authority's terms of service first")})
	}
	if strings.ContainsAny(c.Email, " ,:?\r\n") || c.Email != "" && !strings.Contains(c.Email, "@") {
		errs = append(errs, &fieldError{"email", fmt.Errorf("%q is not one e-mail address", c.Email)})
	}
	for _, host := range c.Hosts {
		if err := c.checkHost(host); err != nil {
			errs = append(errs, &fieldError{"hosts", err})
		}
	}
	if len(c.Hosts) > maxHosts {
		errs = append(errs, &fieldError{"hosts", fmt.Errorf("are more than %d", maxHosts)})
	}
	for host, slot := range c.Slots {
		if !hostName.MatchString(host) || !slotName.MatchString(slot) {
			errs = append(errs, &fieldError{"slots", fmt.Errorf("%q: %q is not a host and the name of a key", host, slot)})
		}
	}
	if !slotName.MatchString(c.Account) {
		errs = append(errs, &fieldError{"account", fmt.Errorf("%q is not the name of a key", c.Account)})
	}
	if c.Retry < time.Second || c.Retry > maxBackoff {
		errs = append(errs, &fieldError{"retry", errors.New("must be from 1s to 24h")})
	}
	if c.Attempts < 1 || c.Attempts > 100 {
		errs = append(errs, &fieldError{"attempts", errors.New("must be from 1 to 100")})
	}
	return errors.Join(append(errs, c.checkDNS())...)
}

// CheckFiles holds the settings against what they name: the folder, files and program that there must be, and the hosts that
// certificates are obtained for.
func (c *Config) CheckFiles(hosts []string) error {
	errs := []error{c.checkHosts(hosts)}
	folder, err := openFolder(c.Dir)
	if err == nil {
		err = folder.close()
	}
	errs = append(errs, err)
	if _, err := rootsWith(c.CA); err != nil {
		errs = append(errs, fmt.Errorf("tls.acme: %w", err))
	}
	if c.EAB != nil {
		if _, err := readHMAC(c.EAB.HMACFile); err != nil {
			errs = append(errs, fmt.Errorf("tls.acme: %w", err))
		}
	}
	if c.Challenge == DNS01 {
		if _, err := exec.LookPath(c.DNS.Command[0]); err != nil {
			errs = append(errs, fmt.Errorf("tls.acme: dns.command: %w", err))
		}
	}
	return errors.Join(errs...)
}

// checkHosts tells whether a certificate can be kept for each of the hosts. Each has a key of its own: another one's
// renewal would take it away.
func (c *Config) checkHosts(hosts []string) error {
	if len(hosts) > maxHosts {
		return fmt.Errorf("tls.acme: more than %d hosts", maxHosts)
	}
	of := map[string]string{}
	for _, host := range hosts {
		if err := c.checkHost(host); err != nil {
			return fmt.Errorf("tls.acme: %w", err)
		}
		if other, taken := of[c.Slot(host)]; taken && other != host {
			return fmt.Errorf("tls.acme: slots: %s and %s have the key %q: each host needs its own", other, host, c.Slot(host))
		}
		of[c.Slot(host)] = host
	}
	return nil
}

func (c *Config) checkHost(host string) error {
	if !hostName.MatchString(host) || len(host) > 253 {
		return fmt.Errorf("%q is not a DNS name in lower case", host)
	}
	if strings.HasPrefix(host, "*.") && c.Challenge != DNS01 {
		return fmt.Errorf("%s: wildcards need challenge: dns-01", host)
	}
	return nil
}

func (c *Config) checkDNS() error {
	if c.Challenge != DNS01 {
		return nil
	}
	d := c.DNS
	switch {
	case len(d.Command) == 0:
		return &fieldError{"dns", errors.New("command is missing: challenge dns-01 needs a program that makes records")}
	case !strings.HasPrefix(d.Command[0], "/"):
		return &fieldError{"dns", fmt.Errorf("command: %q is not an absolute path", d.Command[0])}
	case d.Timeout < time.Second || d.Timeout > time.Hour:
		return &fieldError{"dns", errors.New("timeout must be from 1s to 1h")}
	case d.Propagation < time.Second || d.Propagation > time.Hour:
		return &fieldError{"dns", errors.New("propagation must be from 1s to 1h")}
	}
	for _, r := range d.Resolvers {
		if _, err := netip.ParseAddrPort(r); err != nil {
			return &fieldError{"dns", fmt.Errorf("resolvers: %q is not an IP address and port, such as 10.0.0.53:53", r)}
		}
	}
	return nil
}

// directory returns the checked address of the directory.
func (c *Config) directory() (*url.URL, error) {
	u, err := url.Parse(c.Directory)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("%q is not an https address", c.Directory)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (err == nil && ip.IsLoopback()) {
		return u, nil
	}
	return nil, fmt.Errorf("%q is not an https address; http is for loopback only", c.Directory)
}

// Slot is the name in keyd.yaml of a host's keys.
func (c *Config) Slot(host string) string {
	if slot := c.Slots[host]; slot != "" {
		return slot
	}
	return host
}

// Restart reports whether only a restart can put the other settings into effect.
func (c *Config) Restart(other *Config) bool {
	if c == nil || other == nil {
		return c != other
	}
	a, b := *c, *other
	a.Hosts, b.Hosts = nil, nil
	return !reflect.DeepEqual(a, b)
}

// fieldError says which field of the configuration it is about.
type fieldError struct {
	field string
	error
}

func (e *fieldError) Field() string { return e.field }

func (e *fieldError) Unwrap() error { return e.error }

// stripPort is the host of a Host header.
func stripPort(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport
	}
	return host
}
