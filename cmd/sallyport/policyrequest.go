package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/gateway/admin"
	"sallyport/policy"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/table"
)

// asker are the flags that say who asks.
type asker struct {
	User      string            `help:"Who asks: a name of the directory file, an e-mail address or provider|subject. Default: nobody is signed in." placeholder:"WHO"`
	Directory string            `help:"The directory file. Default: directory.yaml beside the configuration, if there is one." type:"existingfile" placeholder:"FILE"`
	Sessions  bool              `help:"Take groups and address from the sessions of the running gateway."`
	Groups    []string          `name:"group" help:"Also in this group." placeholder:"NAME"`
	Claims    map[string]string `name:"claim" help:"Also with this claim." placeholder:"NAME=VALUE"`
	Service   bool              `help:"It is a service."`
}

// circumstances are the flags that say how somebody asks.
type circumstances struct {
	At       table.When        `help:"When: mon 10:00, 2026-11-30 10:00 in the policy's time zone, or 2026-11-30T10:00:00Z. Default: now." placeholder:"TIME"`
	IP       string            `name:"ip" help:"From this address, or place of the directory file." placeholder:"ADDRESS"`
	Zone     string            `help:"From this zone." placeholder:"NAME"`
	Country  string            `help:"From this country, such as DE." placeholder:"CODE"`
	MFA      *bool             `name:"mfa" negatable:"" help:"Signed in with more than one factor."`
	ACR      string            `name:"acr" help:"Signed in with this assurance." placeholder:"CLASS"`
	SignedIn *time.Duration    `help:"Signed in so long ago. Default: 1m." placeholder:"DURATION"`
	Device   map[string]bool   `help:"What is known of the device: managed, compliant, encrypted." placeholder:"FACT=BOOL"`
	Cert     map[string]string `help:"With a client certificate: its subject, issuer, serial, fingerprint, dns, email and uri, or problem for why it does not count." placeholder:"FIELD=VALUE"`
	Header   map[string]string `help:"With this request header, if policies may read it." placeholder:"NAME=VALUE"`
}

// people finds the directory file that the flags name, or the one beside the policy; nil if there is none.
func (a *asker) people(in *invocation, spec string, p *reviewed) (*directory.Directory, error) {
	file := a.Directory
	if file == "" {
		_, folder := in.besidePolicy(spec, p)
		if file = filepath.Join(folder, "directory.yaml"); !exists(file) {
			return nil, nil
		}
	}
	return directory.Load(nearer(file))
}

// subject is who asks; nobody known is anonymous.
func (a *asker) subject(in *invocation, d *directory.Directory, now time.Time) (s policy.Subject, err error) {
	if a.User == "" && len(a.Groups) == 0 {
		if a.Service || len(a.Claims) > 0 {
			return s, errors.New("--claim and --service need --user or --group: nobody is signed in otherwise")
		}
		return policy.Subject{Type: policy.TypeAnonymous}, nil
	}
	p, err := a.find(in, d)
	if err != nil {
		return s, err
	}
	if a.Service {
		p.Type = policy.TypeService
	}
	p.Groups = append(slices.Clone(p.Groups), a.Groups...)
	if err := p.Complete(); err != nil {
		return s, err
	}
	s = p.Subject(now)
	if len(a.Claims) > 0 {
		claims := map[string]any{}
		maps.Copy(claims, s.Claims)
		for name, value := range a.Claims {
			claims[name] = value
		}
		s.Claims = claims
	}
	return s, nil
}

// find is the person that --user means.
func (a *asker) find(in *invocation, d *directory.Directory) (directory.Person, error) {
	if a.Sessions {
		return a.session(in)
	}
	if d != nil && a.User != "" {
		if p, found := d.Find(a.User); found {
			return *p, nil
		}
		if a.Directory != "" || !strings.ContainsAny(a.User, "@|") && len(a.Groups) == 0 {
			return directory.Person{}, no{fmt.Errorf("%s knows no %q", cmp.Or(a.Directory, "directory.yaml"), a.User)}
		}
	}
	if strings.Contains(a.User, "|") {
		return directory.Person{ID: a.User}, nil
	}
	return directory.Person{Name: cmp.Or(a.User, "somebody"), Email: address(a.User)}, nil
}

func address(text string) string {
	if strings.Contains(text, "@") {
		return text
	}
	return ""
}

// session is the person as the newest of their sessions has them. Claims and how they signed in are not shown of sessions.
func (a *asker) session(in *invocation) (p directory.Person, err error) {
	gateway, err := in.gateway()
	if err != nil {
		return p, err
	}
	defer gateway.Close()
	found, err := gateway.Sessions(in.ctx, (&sessionFilter{User: a.User}).filter())
	if err != nil {
		return p, answered(err)
	}
	if a.User == "" || len(found) == 0 {
		return p, no{fmt.Errorf("nobody called %q is signed in", a.User)}
	}
	return personOf(slices.MaxFunc(found, func(a, b admin.Session) int { return a.Created.Compare(b.Created) })), nil
}

func personOf(s admin.Session) directory.Person {
	return directory.Person{ID: s.Subject, Name: cmp.Or(s.Email, s.Name, s.Subject), Email: s.Email, Groups: s.Groups}
}

// now is when somebody asks.
func (c *circumstances) now(zone *time.Location) time.Time {
	if c.At.Text == "" {
		return time.Now()
	}
	return c.At.In(zone)
}

// apply makes somebody ask under the circumstances.
func (c *circumstances) apply(request *policy.Input, d *directory.Directory, now time.Time, zone *time.Location) error {
	if err := c.surround(&request.Context, d, now, zone); err != nil {
		return err
	}
	if err := c.certificate(&request.Subject); err != nil {
		return err
	}
	if request.Subject.Authn == nil {
		if c.MFA != nil || c.ACR != "" || c.SignedIn != nil {
			return errors.New("--mfa, --acr and --signed-in need somebody who signed in: see --user and --group")
		}
		return nil
	}
	c.signIn(request.Subject.Authn, now)
	return c.device(&request.Subject)
}

// surround says when, from where and with which headers. A place is one of the directory's, if there is one.
func (c *circumstances) surround(around *policy.Context, d *directory.Directory, now time.Time, zone *time.Location) error {
	around.SetTime(now, zone)
	around.Client = policy.Client{IP: c.IP, Zone: c.Zone, Country: c.Country}
	if d != nil {
		if place, known := d.Places[c.IP]; known {
			around.Client = policy.Client{IP: place.IP, Zone: cmp.Or(c.Zone, place.Zone), Country: cmp.Or(c.Country, place.Country)}
		}
	}
	if ip := around.Client.IP; ip != "" {
		if _, err := netip.ParseAddr(ip); err != nil {
			return fmt.Errorf("--ip %q: it is no address, and no place of the directory file", ip)
		}
	}
	around.Request.Headers = map[string]string{}
	for name, value := range c.Header {
		around.Request.Headers[strings.ToLower(name)] = value
	}
	return nil
}

func (c *circumstances) signIn(authn *policy.Authn, now time.Time) {
	if c.MFA != nil {
		authn.MFA = *c.MFA
	}
	authn.ACR = cmp.Or(c.ACR, authn.ACR)
	if c.SignedIn != nil {
		authn.AgeS, authn.Time = policy.AgeOf(*c.SignedIn), now.Add(-*c.SignedIn).UTC().Format(time.RFC3339)
	}
}

func (c *circumstances) device(s *policy.Subject) error {
	if len(c.Device) == 0 {
		return nil
	}
	device := new(policy.Device)
	if s.Device != nil {
		*device = *s.Device
	}
	facts := map[string]**bool{"managed": &device.Managed, "compliant": &device.Compliant, "encrypted": &device.Encrypted}
	for name, is := range c.Device {
		fact := facts[name]
		if fact == nil {
			return fmt.Errorf("--device %s: the facts of a device are managed, compliant and encrypted", name)
		}
		*fact = &is
	}
	s.Device = device
	return nil
}

// certificate is what the client shows, of which the policy knows what is given.
func (c *circumstances) certificate(s *policy.Subject) error {
	if len(c.Cert) == 0 {
		return nil
	}
	cert := &policy.Cert{DNSNames: []string{}, Emails: []string{}, URIs: []string{}}
	for name, value := range c.Cert {
		switch name {
		case "subject":
			cert.Subject = value
		case "issuer":
			cert.Issuer = value
		case "serial":
			cert.Serial = value
		case "fingerprint":
			cert.Fingerprint = value
		case "dns":
			cert.DNSNames = []string{value}
		case "email":
			cert.Emails = []string{value}
		case "uri":
			cert.URIs = []string{value}
		case "problem":
			s.CertProblem = value
		default:
			return fmt.Errorf("--cert %s: the fields of a certificate are subject, issuer, serial, fingerprint, dns, email, uri and problem", name)
		}
	}
	if s.CertProblem == "" {
		s.Cert = cert
	}
	return nil
}

// requestOf is a request of an app that the policy knows.
func requestOf(p *reviewed, app, method, path string) (*policy.Input, error) {
	known, err := p.Bundle.App(app)
	if err != nil {
		return nil, no{err}
	}
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("--path %q: a path begins with /", path)
	}
	method = strings.ToUpper(method)
	request := &policy.Input{
		Action: policy.Action{Name: policy.ActionName(method, ""), Method: method, Protocol: "HTTP/2.0"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: app, Labels: known.Labels, Sensitivity: known.Sensitivity, Owner: known.Owner, Host: hostOf(p, app),
			Path: path, Segments: strings.FieldsFunc(path, func(r rune) bool { return r == '/' })},
		Context: policy.Context{TLS: &policy.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", ALPN: "h2"}, Request: policy.Request{ID: "explain", FetchSite: "none", CrossSiteUnsafe: new(false)}},
	}
	request.Context.TLS.SNI = request.Resource.Host
	return request, nil
}

// hostOf is an app's host where the configuration is at hand; an archive knows none.
func hostOf(p *reviewed, app string) string {
	if p.Config == nil {
		return ""
	}
	for i := range p.Config.Apps {
		if string(p.Config.Apps[i].Name) == app {
			return p.Config.Apps[i].Host
		}
	}
	return ""
}
