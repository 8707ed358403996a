package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/gateway/admin"
	"sallyport/policy"
	"sallyport/policy/review/access"
	"sallyport/policy/review/directory"
)

// policyWhoCanCommand tells who may open an app.
type policyWhoCanCommand struct {
	Policy    string `help:"The policy: ${policy} Default: the configuration's." placeholder:"POLICY"`
	App       string `required:"" help:"The app." placeholder:"NAME"`
	Method    string `help:"Only this method. Default: any." placeholder:"METHOD"`
	Path      string `help:"Only this path. Default: any." placeholder:"PATH"`
	Directory string `help:"Name people of this directory file. Default: directory.yaml beside the configuration, if there is one." type:"existingfile" placeholder:"FILE"`
	Sessions  bool   `help:"Name those who are signed in at the running gateway, in place of a directory."`
	circumstances
	JSON     bool `name:"json" help:"Print JSON." xor:"form"`
	Markdown bool `help:"Print Markdown." xor:"form"`
}

// Help is what the command's own help adds.
func (c *policyWhoCanCommand) Help() string {
	return `What is not asked about, such as the time or the strength of the sign-in, stays a condition of the answer. For an app whose
access rules decide, the list of people is complete. For an app with a package of its own everybody listed was tried and is
allowed; somebody may be missing whose conditions the search does not find.
The exit code is 1 when nobody can.`
}

// Run prints who can.
func (c *policyWhoCanCommand) Run(in *invocation) error {
	p, err := in.openPolicy(c.Policy)
	if err != nil {
		return err
	}
	if c.Path != "" && !strings.HasPrefix(c.Path, "/") {
		return fmt.Errorf("--path %q: a path begins with /", c.Path)
	}
	d, err := (&asker{Directory: c.Directory}).people(in, c.Policy, p)
	if err != nil {
		return err
	}
	people, err := c.people(in, d)
	if err != nil {
		return err
	}
	asking, err := c.asking(p, d)
	if err != nil {
		return err
	}
	for i := range people {
		if authn := people[i].Subject.Authn; authn != nil {
			c.signIn(authn, time.Now())
		}
	}
	answer, err := asking.WhoCan(in.ctx, access.Question{App: c.App, Method: strings.ToUpper(c.Method), Path: c.Path}, people)
	if err != nil {
		return no{err}
	}
	if err := c.print(in.out, answer); err != nil {
		return err
	}
	if len(answer.Ways) == 0 || len(people) > 0 && len(answer.People) == 0 {
		return no{errors.New("nobody can")}
	}
	return nil
}

// people are those to name.
func (c *policyWhoCanCommand) people(in *invocation, d *directory.Directory) (list []access.Person, err error) {
	if c.Sessions {
		return in.signedIn()
	}
	if d == nil {
		return nil, nil
	}
	for i := range d.People {
		list = append(list, access.Person{Name: d.People[i].Name, Subject: d.People[i].Subject(time.Now())})
	}
	return list, nil
}

// signedIn are the people with a session at the running gateway, each once.
func (in *invocation) signedIn() ([]access.Person, error) {
	gateway, err := in.gateway()
	if err != nil {
		return nil, err
	}
	defer gateway.Close()
	sessions, err := gateway.Sessions(in.ctx, admin.Filter{})
	if err != nil {
		return nil, answered(err)
	}
	people := map[string]access.Person{}
	for _, s := range slices.SortedFunc(slices.Values(sessions), func(a, b admin.Session) int { return a.Created.Compare(b.Created) }) {
		p := personOf(s)
		if p.Complete() == nil {
			people[s.Subject] = access.Person{Name: p.Name, Subject: p.Subject(time.Now())}
		}
	}
	var list []access.Person
	for _, id := range slices.Sorted(maps.Keys(people)) {
		list = append(list, people[id])
	}
	return list, nil
}

// asking is a policy under the circumstances that the flags give.
func (c *circumstances) asking(p *reviewed, d *directory.Directory) (*access.Policy, error) {
	zone, err := p.Bundle.Zone()
	if err != nil {
		return nil, err
	}
	var around policy.Context
	if err := c.surround(&around, d, c.now(zone), zone); err != nil {
		return nil, err
	}
	given := map[string]bool{
		"context.time": c.At.Text != "", "context.client.ip": c.IP != "", "context.client.zone": c.Zone != "", "context.client.country": c.Country != "",
		"subject.authn.mfa": c.MFA != nil, "subject.authn.acr": c.ACR != "", "subject.authn.age_s": c.SignedIn != nil,
		"context.request.headers": len(c.Header) > 0,
	}
	given["context.hour"], given["context.weekday"], given["context.time_ns"] = c.At.Text != "", c.At.Text != "", c.At.Text != ""
	return access.Of(p.Engine, around, func(field string) bool { return given[field] })
}

func (c *policyWhoCanCommand) print(out io.Writer, a *access.Answer) error {
	if c.JSON {
		return printJSON(out, a)
	}
	table := printTable
	title := func(text string) { fmt.Fprintln(out, inert(text)) }
	if c.Markdown {
		table = func(out io.Writer, head []string, rows [][]string) error { markdownTable(out, head, rows); return nil }
		title = func(text string) { fmt.Fprintf(out, "### %s\n\n", markdownText(text)) }
	}
	title(fmt.Sprintf("Who can open %s%s", a.App, askedAbout(a)))
	var rows [][]string
	for _, w := range a.Ways {
		rows = append(rows, []string{cmp.Or(w.Rule, "own package"), cmp.Or(w.Who, "whoever meets the conditions"), w.Requests, joined(w.Conditions)})
	}
	if err := table(out, []string{"BY", "WHO", "REQUESTS", "CONDITIONS"}, rows); err != nil {
		return err
	}
	if len(a.People)+len(a.Nobody) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	title(fmt.Sprintf("%d people can, %d cannot", persons(a.People), len(a.Nobody)))
	rows = nil
	for _, g := range a.People {
		rows = append(rows, []string{g.Name, cmp.Or(g.Rule, "own package"), g.Requests, joined(g.Conditions)})
	}
	return table(out, []string{"NAME", "BY", "REQUESTS", "CONDITIONS"}, rows)
}

func persons(grants []access.Grant) int {
	names := map[string]bool{}
	for _, g := range grants {
		names[g.Name] = true
	}
	return len(names)
}

func askedAbout(a *access.Answer) string {
	text := ""
	if a.Method != "" {
		text += " with " + a.Method
	}
	if a.Path != "" {
		text += " at " + a.Path
	}
	return text
}

// joined are the conditions of a grant, in one cell.
func joined(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, "; ")
}

// policyWhatCanCommand tells what somebody may open.
type policyWhatCanCommand struct {
	Who       string   `arg:"" help:"Who: a name of the directory file, an e-mail address, provider|subject, or anonymous."`
	Policy    string   `help:"The policy: ${policy} Default: the configuration's." placeholder:"POLICY"`
	Directory string   `help:"The directory file. Default: directory.yaml beside the configuration, if there is one." type:"existingfile" placeholder:"FILE"`
	Sessions  bool     `help:"Take groups and address from the sessions of the running gateway."`
	Groups    []string `name:"group" help:"Also in this group." placeholder:"NAME"`
	circumstances
	JSON     bool `name:"json" help:"Print JSON." xor:"form"`
	Markdown bool `help:"Print Markdown." xor:"form"`
}

// Help is what the command's own help adds.
func (c *policyWhatCanCommand) Help() string {
	return `Of an app whose access rules decide, every rule that admits the person is listed; of an app with a package of its own, the
nearest request that is allowed. What is not given, such as the time, stays a condition. The exit code is 1 when it is nothing.`
}

// Run prints what they can.
func (c *policyWhatCanCommand) Run(in *invocation) error {
	p, err := in.openPolicy(c.Policy)
	if err != nil {
		return err
	}
	a := &asker{User: c.Who, Directory: c.Directory, Sessions: c.Sessions, Groups: c.Groups}
	if c.Who == policy.TypeAnonymous {
		a.User = ""
	}
	d, err := a.people(in, c.Policy, p)
	if err != nil {
		return err
	}
	subject, err := a.subject(in, d, time.Now())
	if err != nil {
		return err
	}
	if err := c.certificate(&subject); err != nil {
		return err
	}
	if subject.Authn != nil {
		c.signIn(subject.Authn, time.Now())
		if err := c.device(&subject); err != nil {
			return err
		}
	}
	asking, err := c.asking(p, d)
	if err != nil {
		return err
	}
	grants, err := asking.WhatCan(in.ctx, access.Person{Name: c.Who, Subject: subject})
	if err != nil {
		return err
	}
	if err := c.print(in.out, grants); err != nil {
		return err
	}
	if len(grants) == 0 {
		return no{fmt.Errorf("%s can open nothing", c.Who)}
	}
	return nil
}

func (c *policyWhatCanCommand) print(out io.Writer, grants []access.Grant) error {
	if c.JSON {
		return printJSON(out, grants)
	}
	head := []string{"APP", "BY", "REQUESTS", "CONDITIONS"}
	var rows [][]string
	for _, g := range grants {
		rows = append(rows, []string{g.App, cmp.Or(g.Rule, "own package"), g.Requests, joined(g.Conditions)})
	}
	if c.Markdown {
		fmt.Fprintf(out, "### What %s can open\n\n", markdownText(c.Who))
		markdownTable(out, head, rows)
		return nil
	}
	return printTable(out, head, rows)
}
