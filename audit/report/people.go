package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sallyport/audit/export"
	"sallyport/audit/filter/peek"
)

// person is somebody who was seen, as they were seen last.
type person struct {
	number   int
	id       string
	email    string
	verified bool
	groups   []string
	raw      string // groups as the record spells them
}

// directory knows everybody by their id.
type directory struct {
	byID     map[string]*person
	disclose bool
	hidden   map[string]string // what stands for ids that are addresses
}

func newDirectory(o *Options) *directory {
	d := &directory{byID: make(map[string]*person, len(o.People)), disclose: o.Disclose}
	for _, p := range o.People {
		if p.ID == "" || d.byID[p.ID] != nil {
			continue
		}
		d.byID[p.ID] = &person{number: len(d.byID), id: p.ID, email: p.Email, verified: p.Verified, groups: slices.Sorted(slices.Values(p.Groups))}
	}
	return d
}

// seen returns who asked, as the input of a decision says; nil for strangers.
func (d *directory) seen(e *event) *person {
	if e.input == "" {
		return nil
	}
	var id, kind, email, groups string
	verified := false
	for name, value := range peek.Members(peek.Member(e.input, "subject")) {
		switch name {
		case "type":
			kind = peek.Text(value)
		case "id":
			id = peek.Text(value)
		case "email":
			email = peek.Text(value)
		case "email_verified":
			verified = value == "true"
		case "groups":
			groups = value
		}
	}
	if id == "" || kind == "anonymous" {
		return nil
	}
	p := d.byID[id]
	if p == nil {
		id = strings.Clone(id)
		p = &person{number: len(d.byID), id: id}
		d.byID[id] = p
	}
	if p.email != email {
		p.email = strings.Clone(email)
	}
	p.verified = verified
	if p.raw != groups {
		p.raw = strings.Clone(groups)
		p.groups = peek.Texts(p.raw)
	}
	return p
}

// all is everybody, in the order of their ids.
func (d *directory) all() []*person {
	return slices.SortedFunc(maps.Values(d.byID), func(a, b *person) int { return cmp.Compare(a.id, b.id) })
}

// shown is the id as the report may show it. Ids that are addresses get a number, by the order of ids, unless the report
// discloses.
func (d *directory) shown(id string) string {
	if d.disclose || !strings.Contains(id, "@") {
		return id
	}
	if d.hidden == nil {
		d.hidden = map[string]string{}
		for _, p := range d.all() {
			if strings.Contains(p.id, "@") {
				d.hidden[p.id] = hide(p.id, len(d.hidden)+1)
			}
		}
	}
	if name, ok := d.hidden[id]; ok {
		return name
	}
	return hide(id, 0)
}

// hide keeps the provider of an id.
func hide(id string, number int) string {
	provider, _, ok := strings.Cut(id, "|")
	if !ok || strings.Contains(provider, "@") {
		provider = ""
	} else {
		provider += "|"
	}
	if number == 0 {
		return provider + redacted
	}
	return fmt.Sprintf("%s[redacted %d]", provider, number)
}

// redacted stands for what is not disclosed.
const redacted = "[redacted]"

// shownEmail is the address where the report may show it.
func (d *directory) shownEmail(email string) string {
	if d.disclose {
		return email
	}
	return ""
}

// shownText is what people wrote, without what looks like an address.
func (d *directory) shownText(text string) string {
	if d.disclose {
		return text
	}
	return export.Redact(nil).Text(text)
}

// actor is who caused a control record.
type actor struct{ kind, id, name string }

func (e *event) by() actor {
	return actor{peek.Text(peek.Member(e.actor, "kind")), peek.Text(peek.Member(e.actor, "id")), peek.Text(peek.Member(e.actor, "name"))}
}

func (a actor) clone() actor {
	return actor{strings.Clone(a.kind), strings.Clone(a.id), strings.Clone(a.name)}
}

// shownActor is an actor in words.
func (d *directory) shownActor(a actor) string {
	if a.id == "" {
		return "nobody named"
	}
	if d.disclose && a.name != "" {
		return a.id + " (" + a.name + ")"
	}
	return d.shown(a.id)
}

// grant is one way in which somebody has access.
type grant struct {
	Rule       string   `json:"rule"`
	Via        string   `json:"via"` // group NAME, e-mail address, domain NAME
	Conditions []string `json:"conditions,omitzero"`
}

// grants are the rules of an app that name a person. Public rules name nobody.
func (d *directory) grants(a *App, p *person) []grant {
	var list []grant
	for i := range a.Rules {
		r := &a.Rules[i]
		for _, via := range d.named(r, p) {
			list = append(list, grant{r.ID, via, r.Conditions})
		}
	}
	return list
}

// named is how a rule names a person.
func (d *directory) named(r *Rule, p *person) (ways []string) {
	for _, g := range r.Groups {
		if slices.Contains(p.groups, g) {
			ways = append(ways, "group "+g)
		}
	}
	if !p.verified || p.email == "" {
		return ways
	}
	for _, address := range r.Emails {
		if strings.EqualFold(address, p.email) {
			ways = append(ways, strings.TrimSuffix("e-mail address "+d.shownEmail(p.email), " "))
		}
	}
	_, domain, _ := cutLast(p.email, "@")
	for _, name := range r.Domains {
		if strings.EqualFold(name, domain) {
			ways = append(ways, "domain "+name)
		}
	}
	return ways
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
