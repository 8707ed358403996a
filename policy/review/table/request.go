package table

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/directory"
)

// facts are what the policy knows of its apps and of time.
type facts struct {
	bundle *policy.Bundle
	zone   *time.Location
	apps   map[string]*policy.App // those that were asked for
}

func factsOf(b *policy.Bundle) (*facts, error) {
	var data struct {
		Timezone string `json:"timezone"`
	}
	if err := json.Unmarshal(b.Data(), &data); err != nil {
		return nil, fmt.Errorf("reading the policy's data: %w", err)
	}
	zone, err := time.LoadLocation(data.Timezone)
	return &facts{bundle: b, zone: zone, apps: map[string]*policy.App{}}, err
}

func (f *facts) app(name string) (*policy.App, error) {
	if app := f.apps[name]; app != nil {
		return app, nil
	}
	app, err := f.bundle.App(name)
	f.apps[name] = app
	return app, err
}

// asked is one request of a row.
type asked struct {
	person            *directory.Person // nil: anonymous
	app, method, path string
	when              When
	from              policy.Client
}

// who names the person.
func (a *asked) who() string {
	if a.person == nil {
		return anonymous
	}
	return a.person.Name
}

// madeUp reports whether the person is in no directory: they stand in the table.
func (a *asked) madeUp() bool { return a.person != nil && a.person.At.Line == 0 }

// requests yields what a row asks: each of its people, of each app, and so on.
func (r *Row) requests(people []*directory.Person, places []policy.Client) iter.Seq[asked] {
	return func(yield func(asked) bool) {
		for _, person := range people {
			for _, app := range r.App {
				for _, method := range r.Method {
					for _, path := range r.Path {
						for _, when := range r.When {
							for _, from := range places {
								if !yield(asked{person, app, method, path, when, from}) {
									return
								}
							}
						}
					}
				}
			}
		}
	}
}

// The words for people who are no name.
const (
	anonymous   = "anonymous"
	everybody   = "everybody"
	groupPrefix = "group "
)

// people are those a row means; nil among them is anonymous.
func (r *Row) people(d *directory.Directory) ([]*directory.Person, error) {
	meant, err := find(r.Who, d)
	if err != nil {
		return nil, fmt.Errorf("who: %w", err)
	}
	except, err := find(r.Except, d)
	if err == nil && slices.ContainsFunc(r.Except, func(w Who) bool { return w.Word == "" }) {
		err = errors.New("name people of the directory")
	}
	if err != nil {
		return nil, fmt.Errorf("except: %w", err)
	}
	meant = slices.DeleteFunc(meant, func(p *directory.Person) bool { return slices.Contains(except, p) })
	if len(meant) == 0 {
		return nil, errors.New("who: nobody is left to ask")
	}
	return meant, nil
}

func find(who []Who, d *directory.Directory) (people []*directory.Person, err error) {
	for i := range who {
		found, err := who[i].find(d)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if !slices.Contains(people, p) {
				people = append(people, p)
			}
		}
	}
	return people, nil
}

func (w *Who) find(d *directory.Directory) ([]*directory.Person, error) {
	if w.Word == "" {
		return w.madeUp()
	}
	if group, is := strings.CutPrefix(w.Word, groupPrefix); is {
		if !slices.Contains(d.GroupNames(), group) {
			return nil, fmt.Errorf("the directory has no group %q", group)
		}
		return members(d, func(p *directory.Person) bool { return slices.Contains(p.Groups, group) }), nil
	}
	switch w.Word {
	case anonymous:
		return []*directory.Person{nil}, nil
	case everybody:
		return members(d, func(*directory.Person) bool { return true }), nil
	}
	p, found := d.Find(w.Word)
	if !found && len(d.People) == 0 {
		return nil, fmt.Errorf("nobody is called %q: there is no directory with people", w.Word)
	}
	if !found {
		return nil, fmt.Errorf("the directory has nobody called %q", w.Word)
	}
	return []*directory.Person{p}, nil
}

func members(d *directory.Directory, is func(*directory.Person) bool) (people []*directory.Person) {
	for i := range d.People {
		if p := &d.People[i]; is(p) {
			people = append(people, p)
		}
	}
	return people
}

// madeUp is somebody who is in no directory; those who have no name are called by their groups.
func (w *Who) madeUp() ([]*directory.Person, error) {
	p := w.Person
	if p.Name == "" && p.Email == "" && p.ID == "" {
		p.Name = strings.Join(append([]string{"somebody in"}, p.Groups...), " ")
		if len(p.Groups) == 0 {
			p.Name = "somebody in no group"
		}
	}
	if err := p.Complete(); err != nil {
		return nil, err
	}
	return []*directory.Person{&p}, nil
}

// places are where a row's requests come from.
func (r *Row) places(d *directory.Directory) ([]policy.Client, error) {
	clients := make([]policy.Client, len(r.From))
	for i, p := range r.From {
		clients[i] = p.Client
		if p.Word == "" {
			continue
		}
		var known bool
		if clients[i], known = d.Places[p.Word]; !known {
			return nil, fmt.Errorf("from: %q is no address, and no place of the directory", p.Word)
		}
	}
	return clients, nil
}

// input is what the policy would be asked.
func (f *facts) input(a asked, with With) (*policy.Input, error) {
	app, err := f.app(a.app)
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(a.path, "?")
	now := a.when.In(f.zone)
	in := &policy.Input{
		Subject: with.subject(a.person, now),
		Action:  policy.Action{Name: policy.ActionName(a.method, with.Upgrade), Method: a.method, Protocol: "HTTP/2.0", Upgrade: with.Upgrade},
		Resource: policy.Resource{Type: policy.TypeApp, ID: a.app, Labels: app.Labels, Sensitivity: app.Sensitivity, Owner: app.Owner,
			Host: with.Host, Path: path, Segments: segments(path), Query: query},
		Context: policy.Context{Client: a.from, TLS: &policy.TLS{Version: "1.3", SNI: with.Host}, Request: with.request(), Shield: with.shield()},
	}
	in.Context.SetTime(now, f.zone)
	return in, in.Bound()
}

// segments are the pieces of a path between its slashes.
func segments(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

func (w *With) request() policy.Request {
	headers := make(map[string]string, len(w.Headers))
	for name, value := range w.Headers {
		headers[strings.ToLower(name)] = value
	}
	return policy.Request{ID: "table", ContentType: w.ContentType, Origin: w.Origin, CrossOrigin: w.CrossOrigin,
		CrossSiteUnsafe: new(w.CrossSite), Headers: headers}
}

// shield is nil where the row says nothing of inspection.
func (w *With) shield() *policy.Shield {
	if w.ShieldScore == nil && !w.ShieldTimeout {
		return nil
	}
	found := &policy.Shield{Rules: []int64{}, Body: "whole", Timeout: w.ShieldTimeout}
	if w.ShieldScore != nil {
		found.Score = *w.ShieldScore
	}
	return found
}

// subject is who asks, with the certificate of the row's client.
func (w *With) subject(p *directory.Person, now time.Time) policy.Subject {
	s := w.person(p, now)
	s.Cert, s.CertProblem = w.Cert, w.CertProblem
	return s
}

// person is the person, signed in as the row says.
func (w *With) person(p *directory.Person, now time.Time) policy.Subject {
	if p == nil {
		return policy.Subject{Type: policy.TypeAnonymous, Groups: []string{}, Claims: map[string]any{}, Grants: []policy.Grant{}}
	}
	s := p.Subject(now)
	if w.MFA != nil {
		s.Authn.MFA = *w.MFA
	}
	if w.ACR != "" {
		s.Authn.ACR = w.ACR
	}
	if w.Token != nil {
		s.Token, s.Session = w.Token, nil
	}
	if len(w.AMR) > 0 {
		s.Authn.AMR = w.AMR
	}
	if ago := time.Duration(w.SignedIn); ago > 0 {
		s.Authn.AgeS, s.Authn.Time = policy.AgeOf(ago), now.Add(-ago).UTC().Format(time.RFC3339)
		if s.Session != nil {
			s.Session.AgeS = policy.AgeOf(ago)
		}
	}
	if w.Device != nil {
		s.Device = w.Device
	}
	if len(w.Claims) > 0 {
		claims := maps.Clone(w.Claims)
		for name, value := range s.Claims {
			if _, given := claims[name]; !given {
				claims[name] = value
			}
		}
		s.Claims = claims
	}
	return s
}

// or takes from d what w leaves out.
func (w With) or(d With) With {
	if w.MFA == nil {
		w.MFA = d.MFA
	}
	if w.Device == nil {
		w.Device = d.Device
	}
	if w.Claims == nil {
		w.Claims = d.Claims
	}
	if w.Cert == nil && w.CertProblem == "" {
		w.Cert, w.CertProblem = d.Cert, d.CertProblem
	}
	if w.Token == nil {
		w.Token = d.Token
	}
	if w.Headers == nil {
		w.Headers = d.Headers
	}
	if w.AMR == nil {
		w.AMR = d.AMR
	}
	if w.SignedIn == 0 {
		w.SignedIn = d.SignedIn
	}
	if w.ShieldScore == nil {
		w.ShieldScore = d.ShieldScore
	}
	w.CrossOrigin, w.CrossSite = w.CrossOrigin || d.CrossOrigin, w.CrossSite || d.CrossSite
	w.ShieldTimeout = w.ShieldTimeout || d.ShieldTimeout
	w.ACR, w.ContentType, w.Origin = cmp.Or(w.ACR, d.ACR), cmp.Or(w.ContentType, d.ContentType), cmp.Or(w.Origin, d.Origin)
	w.Upgrade, w.Host = cmp.Or(w.Upgrade, d.Upgrade), cmp.Or(w.Host, d.Host)
	return w
}
