// Package directory reads the file that says who could ask: people, services and their groups. Policies are tried on
// them in tables and matrices; the running gateway never reads it.
package directory

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/document"
)

// Directory is who could ask, and from where.
type Directory struct {
	// People are those who could sign in, services among them.
	People []Person `yaml:"people"`
	// Groups are groups that exist beyond those of people, with what they are for.
	Groups map[string]string `yaml:"groups"`
	// Places are where people could be, by names of your choice such as office.
	Places map[string]policy.Client `yaml:"places"`
}

// Person is one person or service, as they are when they have signed in.
type Person struct {
	// ID is "provider|sub", input.subject.id. Default: "directory|" and the name.
	ID string `yaml:"id"`
	// Name is how tables and reports call them; unique. Default: the e-mail address.
	Name string `yaml:"name"`
	// Type is user or service. Default user.
	Type string `yaml:"type"`
	// Email is their address, verified unless EmailVerified is false.
	Email         string `yaml:"email"`
	EmailVerified *bool  `yaml:"email_verified"`
	// Groups they are in.
	Groups []string `yaml:"groups"`
	// Claims are further claims that policies may read.
	Claims map[string]any `yaml:"claims"`
	// MFA, ACR and AMR are how they usually sign in. Default: one factor, a minute ago.
	MFA bool     `yaml:"mfa"`
	ACR string   `yaml:"acr"`
	AMR []string `yaml:"amr"`
	// Device is what is known of the device they usually use. Default: nothing.
	Device *policy.Device `yaml:"device"`

	At document.Position `yaml:"-"`
}

// Load reads a directory file. What is wrong with it is policy.Problems.
func Load(name string) (*Directory, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading directory: %w", err)
	}
	return ParseFile(name, text)
}

// Parse reads the text of a directory file.
func Parse(text []byte) (*Directory, error) { return ParseFile("directory.yaml", text) }

// ParseFile reads the text of the directory file of that name. Unknown keys, people who are there twice and impossible
// addresses are policy.Problems, each with its place.
func ParseFile(name string, text []byte) (*Directory, error) {
	d := new(Directory)
	if err := document.Read(name, text, d); err != nil {
		return nil, err
	}
	problems := d.completePeople()
	for _, place := range slices.Sorted(maps.Keys(d.Places)) {
		if ip := d.Places[place].IP; !address(ip) {
			problems = append(problems, policy.Problem{File: name, Text: fmt.Sprintf("places.%s.ip: %q is no address such as 10.1.2.3", place, ip)})
		}
	}
	if problems != nil {
		return nil, problems
	}
	return d, nil
}

func address(ip string) bool {
	_, err := netip.ParseAddr(ip)
	return ip == "" || err == nil
}

func (d *Directory) completePeople() (problems policy.Problems) {
	names, ids := map[string]bool{}, map[string]bool{}
	for i := range d.People {
		p := &d.People[i]
		if err := p.Complete(); err != nil {
			problems = append(problems, p.At.Problem("people[%d]: %s", i, err))
			continue
		}
		if names[p.Name] || ids[p.ID] {
			problems = append(problems, p.At.Problem("people[%d]: %s (%s) is there twice", i, p.Name, p.ID))
		}
		names[p.Name], ids[p.ID] = true, true
	}
	return problems
}

// Complete fills in what is left out, and reports what is wrong.
func (p *Person) Complete() error {
	p.Name = cmp.Or(p.Name, p.Email, p.ID)
	p.Type = cmp.Or(p.Type, policy.TypeUser)
	switch {
	case p.Name == "":
		return errors.New("name, email or id is missing")
	case p.Type != policy.TypeUser && p.Type != policy.TypeService:
		return fmt.Errorf("type is %q; it is user or service", p.Type)
	}
	p.ID = cmp.Or(p.ID, "directory|"+p.Name)
	if !strings.Contains(p.ID, "|") {
		return fmt.Errorf("id is %q; it is provider|sub, as in records", p.ID)
	}
	p.Groups = slices.Compact(slices.Sorted(slices.Values(p.Groups)))
	return nil
}

// Find is the person called that: by name, id or e-mail address.
func (d *Directory) Find(who string) (*Person, bool) {
	for _, is := range []func(*Person) string{
		func(p *Person) string { return p.Name }, func(p *Person) string { return p.ID }, func(p *Person) string { return p.Email },
	} {
		for i := range d.People {
			if is(&d.People[i]) == who {
				return &d.People[i], true
			}
		}
	}
	return nil, false
}

// GroupNames are all groups, sorted: those declared and those that somebody is in.
func (d *Directory) GroupNames() []string {
	var names []string
	for name := range d.Groups {
		names = append(names, name)
	}
	for i := range d.People {
		names = append(names, d.People[i].Groups...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Subject is the person as a policy sees them who signed in a minute before now.
func (p *Person) Subject(now time.Time) policy.Subject {
	provider, _, _ := strings.Cut(p.ID, "|")
	return policy.Subject{
		Type: p.Type, ID: p.ID, Email: p.Email, EmailVerified: p.Email != "" && (p.EmailVerified == nil || *p.EmailVerified),
		Groups: p.Groups, Claims: p.Claims,
		Authn: &policy.Authn{Provider: provider, ACR: p.ACR, AMR: p.AMR, MFA: p.MFA, AgeS: policy.AgeOf(time.Minute),
			Time: now.Add(-time.Minute).UTC().Format(time.RFC3339)},
		Session: &policy.Session{ID: "review", AgeS: policy.AgeOf(time.Minute), IdleS: policy.AgeOf(0)},
		Device:  p.Device,
	}
}
