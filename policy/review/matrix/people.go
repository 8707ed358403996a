package matrix

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/directory"
)

// Stranger is who has not signed in, as findings call them.
const Stranger = "anonymous"

// person is somebody to ask about.
type person struct {
	review.Person
	subject policy.Subject // as they usually sign in
}

func (s *survey) peopleAxis() axis {
	asked := s.cfg.People
	if asked == nil {
		asked = s.madeUp()
	}
	s.people = []person{{review.Person{Name: Stranger}, policy.Subject{Type: policy.TypeAnonymous}}}
	for i := range asked {
		p := &asked[i]
		s.people = append(s.people, person{review.Person{ID: p.ID, Name: p.Name}, p.Subject(s.cfg.Now)})
	}
	a := axis{name: "who"}
	for i := range s.people {
		p := &s.people[i]
		a.values = append(a.values, value{label: p.Name, set: func(in *policy.Input, _ *time.Location) { in.Subject = p.copied() }})
	}
	return a
}

// copied is the person's subject with documents of its own, which the other axes change.
func (p *person) copied() policy.Subject {
	s := p.subject
	if s.Authn != nil {
		s.Authn = new(*s.Authn)
	}
	if s.Session != nil {
		s.Session = new(*s.Session)
	}
	return s
}

// appendRead appends what the app's own package can read of a person, apart from what axes of circumstances vary.
func appendRead(key []byte, s *policy.Subject, v view) []byte {
	if v.own == nil && !v.opaque {
		if s.Type == policy.TypeAnonymous {
			return append(key, 'a')
		}
		return key
	}
	groups := s.Groups
	if v.own != nil && v.own.Members && !v.opaque {
		groups = slices.DeleteFunc(slices.Clone(groups), func(g string) bool { _, named := slices.BinarySearch(v.texts.groups, g); return !named })
	}
	read := map[string]any{"type": s.Type}
	for place, what := range map[string]any{
		"subject.id": s.ID, "subject.email": s.Email, "subject.email_verified": s.EmailVerified, "subject.groups": groups, "subject.claims": s.Claims,
	} {
		if v.reads(place) {
			read[place] = what
		}
	}
	if s.Authn != nil && v.reads("subject.authn.provider") {
		read["provider"] = s.Authn.Provider
	}
	text, err := json.Marshal(read)
	if err != nil {
		panic("BUG: person: " + err.Error())
	}
	return append(key, text...)
}

// mostPairs bounds the pairs of groups that people are made up for.
const mostPairs = 300

// madeUp are people for all that either policy names on the app.
func (s *survey) madeUp() []directory.Person {
	groups, emails, domains := map[string]bool{}, map[string]bool{}, map[string]bool{}
	addAll := func(to map[string]bool, list []string) {
		for _, v := range list {
			to[v] = true
		}
	}
	for _, p := range s.sides {
		for i := range p.rules {
			addAll(groups, p.rules[i].Groups)
			addAll(emails, p.rules[i].Emails)
			addAll(domains, p.rules[i].Domains)
		}
		if p.own == nil {
			continue
		}
		for _, text := range personTexts(p.own) {
			local, domain, address := strings.Cut(text, "@")
			switch {
			case address && local != "" && domain != "" && readsPlace(p.own, "subject.email"):
				emails[text] = true
			case address && local == "" && domain != "" && readsPlace(p.own, "subject.email"):
				domains[text] = true
			case readsPlace(p.own, "subject.groups") && plausibleWord(text):
				groups[text] = true
			}
		}
	}
	list := []directory.Person{{Name: "anybody else"}, {Name: "any service", Type: policy.TypeService}}
	names := slices.Sorted(maps.Keys(groups))
	for _, g := range names {
		list = append(list, directory.Person{Name: "anybody in " + g, Groups: []string{g}})
	}
	for i := range names {
		for j := i + 1; j < len(names) && len(list) < mostPairs; j++ {
			list = append(list, directory.Person{Name: "anybody in " + names[i] + " and " + names[j], Groups: []string{names[i], names[j]}})
		}
	}
	for _, e := range slices.Sorted(maps.Keys(emails)) {
		list = append(list, directory.Person{Name: e, Email: e})
	}
	for _, d := range slices.Sorted(maps.Keys(domains)) {
		list = append(list, directory.Person{Name: "anybody " + d, Email: "somebody-else" + d})
	}
	for i := range list {
		list[i].ID = "directory|" + list[i].Name
		if list[i].Type == "" {
			list[i].Type = policy.TypeUser
		}
	}
	return list
}

// plausibleWord reports whether a text in a policy could be a name rather than a sentence or a path.
func plausibleWord(text string) bool {
	return text != "" && len(text) <= 64 && !strings.ContainsAny(text, " /%")
}
