package oidc

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// Link says that accounts at several providers are one person. Nothing but a link joins accounts: neither an e-mail address
// nor a name does.
type Link struct {
	// Person is the account that gives the person their name, as "provider|sub". Required.
	Person string `yaml:"person" config:"required"`
	// Also are further accounts of the same person, each as "provider|sub": whoever signs in with one of them is the person
	// to policies, in records, in sessions and to apps, while groups, e-mail and the strength of the sign-in are those of the
	// account that was used (input.subject.authn.provider). Required.
	Also []string `yaml:"also" config:"required,single"`
}

// Standing is what a provider needs to know about the other ones of a configuration.
type Standing struct {
	// Reserved are the e-mail domains, in A-label form, that other providers list as theirs.
	Reserved []string
	// People are the persons that accounts of this provider are linked to, by sub, as "provider|sub".
	People map[string]string
}

// Stand tells each provider, by its name, where it stands among the others.
func Stand(providers []Config, links []Link) map[string]Standing {
	standings := map[string]Standing{}
	for _, p := range providers {
		s := Standing{People: map[string]string{}}
		for _, other := range providers {
			if other.Name != p.Name {
				s.Reserved = append(s.Reserved, other.domains()...)
			}
		}
		slices.Sort(s.Reserved)
		s.Reserved = slices.Compact(s.Reserved)
		for _, l := range links {
			for _, account := range l.Also {
				if name, sub, _ := strings.Cut(account, "|"); name == p.Name {
					s.People[sub] = l.Person
				}
			}
		}
		standings[p.Name] = s
	}
	return standings
}

// CheckLinks tells what in links cannot work among providers: unknown providers, accounts that are linked twice, and persons
// that are themselves linked to another. The error knows which field of identity.links it is about.
func CheckLinks(links []Link, providers []Config) error {
	person := map[string]bool{}
	for i, l := range links {
		if person[l.Person] {
			return inLink(i, "person", fmt.Errorf("%q has a link already", l.Person))
		}
		person[l.Person] = true
	}
	linked := map[string]bool{}
	for i, l := range links {
		if err := checkAccount(l.Person, providers); err != nil {
			return inLink(i, "person", err)
		}
		if len(l.Also) == 0 {
			return inLink(i, "also", fmt.Errorf("which further accounts does %q have?", l.Person))
		}
		for _, account := range l.Also {
			if err := checkAccount(account, providers); err != nil {
				return inLink(i, "also", err)
			}
			if linked[account] || person[account] {
				return inLink(i, "also", fmt.Errorf("%q is in another link, or a person itself: one account is one person", account))
			}
			linked[account] = true
		}
	}
	return nil
}

// linkError is a mistake in one field of the links.
type linkError struct {
	error
	field string
}

func inLink(i int, field string, err error) error {
	return linkError{err, fmt.Sprintf("identity.links[%d].%s", i, field)}
}

// Field is where the mistake is, below the configuration.
func (e linkError) Field() string { return e.field }
func (e linkError) Unwrap() error { return e.error }

func checkAccount(account string, providers []Config) error {
	name, sub, found := strings.Cut(account, "|")
	switch {
	case !found || sub == "":
		return fmt.Errorf("%q: want provider|sub", account)
	case !slices.ContainsFunc(providers, func(p Config) bool { return p.Name == name }):
		return fmt.Errorf("%q: there is no provider %q", account, name)
	}
	return nil
}

// domains are the listed e-mail domains in A-label form.
func (c Config) domains() []string {
	var all []string
	for _, d := range c.EmailDomains {
		if ascii, err := idna.Lookup.ToASCII(d); err == nil {
			all = append(all, ascii)
		}
	}
	return all
}
