package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
)

// UnusedRow is one piece of access that nobody used, or a rule that decided nothing.
type UnusedRow struct {
	What string    `json:"what"` // app, rule, group or person
	App  string    `json:"app"`
	Rule string    `json:"rule,omitzero"`
	Who  string    `json:"who,omitzero"`       // the group or the person
	Last time.Time `json:"last_used,omitzero"` // before the last days, as far as records reach; absent: never
}

// UnusedReport is the JSON of a report on unused access.
type UnusedReport struct {
	Header
	Rows []UnusedRow `json:"rows"`
}

// ruleKey is a rule of an app, and one of its groups where it is about that.
type ruleKey struct{ app, rule, group string }

// unused collects when access was used last.
type unused struct {
	opts    *Options
	people  *directory
	apps    map[string]*App
	decided map[ruleKey]time.Time // by rule: its last decision, whatever it was
	groups  map[ruleKey]time.Time // by group of a rule: the last allowed request of somebody in it
	used    map[pair]time.Time
	usedApp map[string]time.Time
}

func newUnused(o *Options) *unused {
	c := &unused{opts: o, people: newDirectory(o), apps: map[string]*App{}, decided: map[ruleKey]time.Time{},
		groups: map[ruleKey]time.Time{}, used: map[pair]time.Time{}, usedApp: map[string]time.Time{}}
	for i := range o.Apps {
		c.apps[o.Apps[i].Name] = &o.Apps[i]
	}
	return c
}

func (c *unused) add(e *event) {
	if e.kind != audit.TypeDecision {
		return
	}
	p := c.people.seen(e)
	a := c.apps[e.app] // what is not configured any more cannot be unused
	if a == nil {
		return
	}
	if e.effect == audit.Allow {
		c.usedApp[a.Name] = latest(c.usedApp[a.Name], e.time)
	}
	if p != nil && e.effect == audit.Allow {
		key := pair{p.id, a.Name}
		c.used[key] = latest(c.used[key], e.time)
	}
	for _, id := range e.rules() {
		if r := a.rule(id); r != nil {
			c.addRule(a, r, p, e)
		}
	}
}

func (c *unused) addRule(a *App, r *Rule, p *person, e *event) {
	key := ruleKey{app: a.Name, rule: r.ID}
	c.decided[key] = latest(c.decided[key], e.time)
	if p == nil || e.effect != audit.Allow {
		return
	}
	for _, g := range r.Groups {
		if slices.Contains(p.groups, g) {
			key := ruleKey{a.Name, r.ID, g}
			c.groups[key] = latest(c.groups[key], e.time)
		}
	}
}

func (a *App) rule(id string) *Rule {
	i := slices.IndexFunc(a.Rules, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &a.Rules[i]
}

// rows are what was not used in the last days: apps, rules, groups, people, each in the order of names.
func (c *unused) rows() []UnusedRow {
	since := c.opts.since()
	rows := []UnusedRow{}
	for _, a := range c.opts.Apps {
		if len(a.Rules) == 0 {
			continue
		}
		if last := c.usedApp[a.Name]; last.Before(since) {
			rows = append(rows, UnusedRow{What: "app", App: a.Name, Last: last})
		}
		for _, r := range a.Rules {
			if last := c.decided[ruleKey{app: a.Name, rule: r.ID}]; last.Before(since) {
				rows = append(rows, UnusedRow{What: "rule", App: a.Name, Rule: r.ID, Last: last})
			}
			for _, g := range r.Groups {
				if last := c.groups[ruleKey{a.Name, r.ID, g}]; last.Before(since) {
					rows = append(rows, UnusedRow{What: "group", App: a.Name, Rule: r.ID, Who: g, Last: last})
				}
			}
		}
	}
	for _, p := range c.people.all() {
		for i := range c.opts.Apps {
			a := &c.opts.Apps[i]
			last := c.used[pair{p.id, a.Name}]
			if grants := c.people.grants(a, p); len(grants) > 0 && last.Before(since) {
				rows = append(rows, UnusedRow{What: "person", App: a.Name, Rule: grants[0].Rule, Who: c.people.shown(p.id), Last: last})
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b UnusedRow) int {
		return cmp.Or(cmp.Compare(rank(a.What), rank(b.What)), strings.Compare(a.App, b.App))
	})
	return rows
}

func rank(what string) int { return slices.Index([]string{"app", "rule", "group", "person"}, what) }

func (c *unused) report(h Header) *Report {
	rows := c.rows()
	late := fmt.Sprintf("the last %d days", h.Days)
	tables := map[string]*table{
		"app":    {ID: "unused-apps", Caption: "Apps with rules and no allowed request in " + late, Columns: []column{{Name: "App"}, {Name: "Last used"}}},
		"rule":   {ID: "dead-rules", Caption: "Rules that decided nothing in " + late, Columns: []column{{Name: "App"}, {Name: "Rule"}, {Name: "Last decision"}}},
		"group":  {ID: "unused-groups", Caption: "Groups of rules through which nobody came in " + late, Columns: []column{{Name: "App"}, {Name: "Rule"}, {Name: "Group"}, {Name: "Last used"}}},
		"person": {ID: "unused-people", Caption: "People with access to an app they did not use in " + late, Columns: []column{{Name: "App"}, {Name: "Person"}, {Name: "By rule"}, {Name: "Last used"}}},
	}
	csv := table{Columns: []column{{Name: "what"}, {Name: "app"}, {Name: "rule"}, {Name: "who"}, {Name: "last_used"}}}
	for _, r := range rows {
		t, last := tables[r.What], when{r.Last, "never"}
		switch r.What {
		case "app":
			t.Rows = append(t.Rows, []any{r.App, last})
		case "rule":
			t.Rows = append(t.Rows, []any{r.App, r.Rule, last})
		case "group":
			t.Rows = append(t.Rows, []any{r.App, r.Rule, r.Who, last})
		case "person":
			t.Rows = append(t.Rows, []any{r.App, r.Who, r.Rule, last})
		}
		csv.Rows = append(csv.Rows, []any{r.What, r.App, r.Rule, r.Who, when{r.Last, ""}})
	}
	p := page{Title: "Unused access", Lead: "Access that the rules give and nobody used, and rules that decided nothing. What is here can often go.", Header: h,
		Facts: []fact{{"Apps", len(tables["app"].Rows)}, {"Rules", len(tables["rule"].Rows)}, {"Groups", len(tables["group"].Rows)}, {"People and apps", len(tables["person"].Rows)}}}
	for _, s := range []struct{ what, title, text string }{
		{"app", "Unused apps", ""},
		{"rule", "Dead rules", "A rule decides a request when its paths and methods are the first to match, whatever the answer."},
		{"group", "Unused groups", "A request counts for every group of its rule that the person was in."},
		{"person", "Unused access of people", "People are those the records or the session store know. Public rules name nobody."},
	} {
		x := section{ID: "section-" + s.what, Title: s.title, Tables: []table{*tables[s.what]}}
		if s.text != "" {
			x.Text = []string{s.text}
		}
		p.Sections = append(p.Sections, x)
	}
	return &Report{Header: h, data: UnusedReport{h, rows}, page: p, csv: csv}
}
