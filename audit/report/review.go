package report

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// CodeReviewed is the code of the control record by which a reviewer's decision is recorded back; its detail is a Review.
const CodeReviewed = "access_reviewed"

// Review is what a reviewer decided about one person and one app. Who and when is the record's.
type Review struct {
	Person   string `json:"person"` // provider|subject
	App      string `json:"app"`
	Decision string `json:"decision"` // keep, revoke, change or later
	Note     string `json:"note,omitzero"`
}

// ReviewDecisions are what a reviewer can decide: that access stays, is to be taken away, is to be made another, or that
// it is for somebody else to say. A report only shows them; taking access away is a change of rules.
var reviewDecisions = []string{"keep", "revoke", "change", "later"}

// ReviewDecisions are the decisions there are.
func ReviewDecisions() []string { return slices.Clone(reviewDecisions) }

const maxNote = 2000

// Check reports what is wrong with a review before it is recorded.
func (r *Review) Check() error {
	switch {
	case !strings.Contains(r.Person, "|") || len(r.Person) > 1024:
		return errors.New("review: name the person by their id, provider|subject")
	case r.App == "" || len(r.App) > 64:
		return errors.New("review: name the app")
	case !slices.Contains(reviewDecisions, r.Decision):
		return fmt.Errorf("review: the decision is one of %s, not %q", strings.Join(reviewDecisions, ", "), r.Decision)
	case len(r.Note) > maxNote:
		return fmt.Errorf("review: the note takes %d bytes, at most %d fit", len(r.Note), maxNote)
	}
	return nil
}

// ReviewMade is a review with who made it and when.
type ReviewMade struct {
	Decision string    `json:"decision"`
	Note     string    `json:"note,omitzero"`
	By       string    `json:"by"`
	Time     time.Time `json:"time"`
	Record   string    `json:"record"` // id of the control record
}

// AccessRow is one person and one app.
type AccessRow struct {
	Person     string      `json:"person"`
	Email      string      `json:"email,omitzero"`
	App        string      `json:"app"`
	Access     []grant     `json:"access"` // rules that name the person now; empty: none does
	Own        bool        `json:"own_policy,omitzero"`
	LastUsed   time.Time   `json:"last_used,omitzero"`
	Uses       uint64      `json:"uses"` // allowed requests in the last days
	UsedRules  []string    `json:"used_rules,omitzero"`
	Denials    uint64      `json:"denials"` // in the last days
	LastDenied time.Time   `json:"last_denied,omitzero"`
	Review     *ReviewMade `json:"review,omitzero"` // the latest
	Reviews    int         `json:"reviews"`         // how many there are
}

// AccessReport is the JSON of an access review.
type AccessReport struct {
	Header
	People int         `json:"people"`
	Apps   int         `json:"apps"`
	Rows   []AccessRow `json:"rows"`
}

// use is what one person did with one app.
type use struct {
	last, lastDenied time.Time
	uses, denials    uint64
	rules            []string
	review           *ReviewMade
	by               actor // who made it
	reviews          int
}

// maxUsedRules bounds the rules that are remembered for each person and app; no app needs more.
const maxUsedRules = 32

type pair struct{ person, app string }

// review collects what an access review needs.
type review struct {
	opts   *Options
	people *directory
	uses   map[pair]*use
}

func newReview(o *Options) *review {
	return &review{opts: o, people: newDirectory(o), uses: map[pair]*use{}}
}

func (c *review) use(person, app string) *use {
	u := c.uses[pair{person, app}]
	if u == nil {
		u = &use{}
		c.uses[pair{strings.Clone(person), strings.Clone(app)}] = u
	}
	return u
}

func (c *review) add(e *event) {
	if e.kind == audit.TypeControl && e.code == CodeReviewed {
		c.addReview(e)
	}
	if e.kind != audit.TypeDecision {
		return
	}
	p := c.people.seen(e)
	if p == nil || e.app == "" {
		return
	}
	u, late := c.use(p.id, e.app), !e.time.Before(c.opts.since())
	switch e.effect {
	case audit.Allow:
		u.last = latest(u.last, e.time)
		if late {
			u.uses++
			u.addRules(e.rules())
		}
	case audit.Deny:
		u.lastDenied = latest(u.lastDenied, e.time)
		if late {
			u.denials++
		}
	}
}

func (u *use) addRules(ids []string) {
	for _, id := range ids {
		if !slices.Contains(u.rules, id) && len(u.rules) < maxUsedRules {
			u.rules = append(u.rules, strings.Clone(id))
		}
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (c *review) addReview(e *event) {
	word := func(name string) string { return peek.Text(peek.Member(e.detail, name)) }
	person, app := word("person"), word("app")
	if person == "" || app == "" {
		return
	}
	u := c.use(person, app)
	u.reviews++
	u.by = e.by().clone()
	u.review = &ReviewMade{Decision: strings.Clone(word("decision")), Note: strings.Clone(word("note")), Time: e.time, Record: strings.Clone(e.id)}
}

// rows are all people and apps where there is access, a use, a denial or a review.
func (c *review) rows() []AccessRow {
	for key := range c.uses {
		if c.people.byID[key.person] == nil { // reviewed, and not seen otherwise
			c.people.byID[key.person] = &person{number: len(c.people.byID), id: key.person}
		}
	}
	apps := map[string]*App{}
	for i := range c.opts.Apps {
		apps[c.opts.Apps[i].Name] = &c.opts.Apps[i]
	}
	names := slices.Collect(maps.Keys(apps))
	for key := range c.uses {
		if apps[key.app] == nil {
			apps[key.app] = &App{Name: key.app}
			names = append(names, key.app)
		}
	}
	slices.Sort(names)
	rows := []AccessRow{}
	for _, p := range c.people.all() {
		for _, name := range names {
			a, u := apps[name], c.uses[pair{p.id, name}]
			grants := c.people.grants(a, p)
			if u == nil && len(grants) == 0 {
				continue
			}
			rows = append(rows, c.row(p, a, grants, u))
		}
	}
	return rows
}

func (c *review) row(p *person, a *App, grants []grant, u *use) AccessRow {
	if u == nil {
		u = &use{}
	}
	for i := range a.Rules {
		if r := &a.Rules[i]; r.Public && slices.Contains(u.rules, r.ID) {
			grants = append(grants, grant{r.ID, "public", r.Conditions})
		}
	}
	row := AccessRow{Person: c.people.shown(p.id), Email: c.people.shownEmail(p.email), App: a.Name, Access: grants, Own: a.Own,
		LastUsed: u.last, Uses: u.uses, UsedRules: slices.Sorted(slices.Values(u.rules)), Denials: u.denials, LastDenied: u.lastDenied,
		Reviews: u.reviews}
	if row.Access == nil {
		row.Access = []grant{}
	}
	if u.review != nil {
		made := *u.review
		made.By, made.Note = c.people.shownActor(u.by), c.people.shownText(made.Note)
		row.Review = &made
	}
	return row
}

// how is the access of a row in words.
func (r *AccessRow) how() []string {
	var words []string
	for _, g := range r.Access {
		text := "rule " + g.Rule + ": " + g.Via
		if len(g.Conditions) > 0 {
			text += " (" + strings.Join(g.Conditions, ", ") + ")"
		}
		words = append(words, text)
	}
	if r.Own {
		words = append(words, "the app's own policy may decide otherwise")
	}
	if words == nil {
		words = []string{"no rule names this person now"}
	}
	return words
}

func (r *AccessRow) reviewed() []string {
	if r.Review == nil {
		return nil
	}
	text := r.Review.Decision + ", by " + r.Review.By + " on " + day(r.Review.Time)
	if r.Review.Note == "" {
		return []string{text}
	}
	return []string{text, r.Review.Note}
}

func (c *review) report(h Header) *Report {
	rows := c.rows()
	data := AccessReport{Header: h, Rows: rows}
	people, apps, unreviewed, idle := map[string]bool{}, map[string]bool{}, 0, 0
	for i := range rows {
		people[rows[i].Person], apps[rows[i].App] = true, true
		if rows[i].Review == nil {
			unreviewed++
		}
		if rows[i].Uses == 0 && len(rows[i].Access) > 0 {
			idle++
		}
	}
	data.People, data.Apps = len(people), len(apps)
	late := fmt.Sprintf("last %d days", h.Days)
	t := table{ID: "access", Caption: "People and the apps they may use, did use, or were denied", Columns: []column{{Name: "Person"}, {Name: "App"},
		{Name: "Access comes from"}, {Name: "Last used"}, {Name: "Uses, " + late, Number: true}, {Name: "Denials, " + late, Number: true}, {Name: "Reviewed"}}}
	csv := table{Columns: []column{{Name: "person"}, {Name: "email"}, {Name: "app"}, {Name: "access"}, {Name: "last_used"}, {Name: "uses"}, {Name: "used_rules"},
		{Name: "denials"}, {Name: "last_denied"}, {Name: "decision"}, {Name: "decided_by"}, {Name: "decided"}, {Name: "note"}}}
	for i := range rows {
		r := &rows[i]
		who := []string{r.Person}
		if r.Email != "" {
			who = append(who, r.Email)
		}
		t.Rows = append(t.Rows, []any{who, r.App, r.how(), when{r.LastUsed, "never"}, r.Uses, r.Denials, r.reviewed()})
		made := cmp.Or(r.Review, &ReviewMade{})
		csv.Rows = append(csv.Rows, []any{r.Person, r.Email, r.App, r.how(), when{r.LastUsed, ""}, r.Uses, r.UsedRules, r.Denials,
			when{r.LastDenied, ""}, made.Decision, made.By, when{made.Time, ""}, made.Note})
	}
	p := page{Title: "Access review", Lead: "Who may use which app, by which rule, and whether they do.", Header: h,
		Facts: []fact{{"People", len(people)}, {"Apps", len(apps)}, {"Rows", len(rows)}, {"Without a review", unreviewed}, {"With access and no use in the " + late, idle}}}
	p.Sections = []section{{ID: "people", Title: "People and apps", Text: []string{
		"Access is what the rules of the active configuration say of the groups and address a person was last seen with. A use is an allowed request.",
		"A reviewer's decision is recorded in the control log (code " + CodeReviewed + ") and shown in every review made after it; it changes no rule. " +
			"Record one with: sallyport audit review --person PERSON --app APP --decision " + strings.Join(reviewDecisions, "|")}, Tables: []table{t}}}
	return &Report{Header: h, data: data, page: p, csv: csv}
}
