// Package directory reads the file that says who could ask: people, services and their groups. Policies are tried on
// them in tables and matrices; the running gateway never reads it.
package directory

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport/policy"
)

// Directory is who could ask.
type Directory struct {
	// People are those who could sign in, services among them.
	People []Person `yaml:"people"`
	// Groups are groups that exist beyond those of people, with what they are for.
	Groups map[string]string `yaml:"groups"`
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
}

// Load reads a directory file.
func Load(name string) (*Directory, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading directory: %w", err)
	}
	d, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading directory %s: %w", name, err)
	}
	return d, nil
}

// Parse reads the text of a directory file. Unknown fields and people who are there twice are errors.
func Parse(text []byte) (*Directory, error) {
	d := new(Directory)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(d); err != nil {
		return nil, err
	}
	var errs []error
	seen := map[string]bool{}
	for i := range d.People {
		p := &d.People[i]
		errs = append(errs, p.complete(i))
		if seen[p.Name] {
			errs = append(errs, fmt.Errorf("people[%d]: %q is there twice", i, p.Name))
		}
		seen[p.Name] = true
	}
	return d, errors.Join(errs...)
}

func (p *Person) complete(place int) error {
	p.Name = cmp.Or(p.Name, p.Email, p.ID)
	p.Type = cmp.Or(p.Type, policy.TypeUser)
	switch {
	case p.Name == "":
		return fmt.Errorf("people[%d]: name, email or id is missing", place)
	case p.Type != policy.TypeUser && p.Type != policy.TypeService:
		return fmt.Errorf("people[%d]: type is %q; it is user or service", place, p.Type)
	}
	p.ID = cmp.Or(p.ID, "directory|"+p.Name)
	if !strings.Contains(p.ID, "|") {
		return fmt.Errorf("people[%d]: id is %q; it is provider|sub, as in records", place, p.ID)
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
