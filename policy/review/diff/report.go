// Package diff sums up what a change of policy changes: what a matrix of people and apps found, and what a replay of
// recorded requests did. A Report is JSON for programs; rendering it for people is the command line's part.
package diff

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/matrix"
	"sallyport/policy/review/replay"
)

// Report is what a change of policy changes.
type Report struct {
	From       Policy                  `json:"from"`
	To         Policy                  `json:"to"`
	Complete   bool                    `json:"complete"`             // no difference can have been missed for want of time, memory or records
	Incomplete []string                `json:"incomplete,omitempty"` // why one may have been
	Totals     map[review.Change]Total `json:"totals"`               // of each change that there is
	Apps       []App                   `json:"apps"`
	Findings   []Finding               `json:"findings"` // the gravest change first, then by app
	By         By                      `json:"by"`
	Matrix     *Matrix                 `json:"matrix,omitempty"`
	Replay     *Replay                 `json:"replay,omitempty"`
}

// Policy is one of the two.
type Policy struct {
	Name     string `json:"name"` // as it was asked for
	Digest   string `json:"digest"`
	Revision string `json:"revision"`
}

// Total counts the findings of one change.
type Total struct {
	Findings int   `json:"findings"`
	People   int   `json:"people"`
	Apps     int   `json:"apps"`
	Requests int64 `json:"requests"` // recorded ones
}

// App says how the findings on an app put methods, paths, addresses and assurances into classes.
type App struct {
	Name     string   `json:"name"`
	In       [2]bool  `json:"in"`                 // whether the old and the new policy have it
	Same     bool     `json:"same"`               // all that its decisions depend on is the same in both: no findings
	Methods  []string `json:"methods,omitempty"`  // any other method is "*"
	Paths    []string `json:"paths,omitempty"`    // a path's class is the first that it matches; a star is any text
	Networks []string `json:"networks,omitempty"` // an address's class is the longest prefix that contains it, else "*"
	ACR      []string `json:"acr,omitempty"`      // any other class of assurance is "*"; "" is none
}

// Finding is a set of requests whose answer changed in one way: each combination of its people, methods, paths and
// circumstances. What is absent does not count: any method, any path, always.
type Finding struct {
	Change   review.Change `json:"change"`
	Source   string        `json:"source"` // matrix or replay
	App      string        `json:"app"`
	Resource Resource      `json:"resource"`
	People   []string      `json:"people"`           // names in the directory, "anonymous" for strangers, ids from records
	Usual    []string      `json:"usual,omitempty"`  // those of People whom it concerns when they sign in as they usually do
	Groups   []string      `json:"groups,omitempty"` // groups of the directory all of whose members are among People
	Methods  []string      `json:"methods,omitempty"`
	Paths    []string      `json:"paths,omitempty"`
	When     *matrix.When  `json:"when,omitempty"`
	From     Answer        `json:"from"`
	To       Answer        `json:"to"`
	Requests int64         `json:"requests"` // recorded ones that it concerns
	LastUse  time.Time     `json:"last_use,omitzero"`
	Records  []string      `json:"records,omitempty"` // a few of their ids
	Example  *policy.Input `json:"example"`
}

// Resource is the app as the new policy describes it, or the old one if the new one does not have it.
type Resource struct {
	ID          string            `json:"id"`
	Owner       string            `json:"owner"`
	Sensitivity string            `json:"sensitivity"`
	Labels      map[string]string `json:"labels"`
	// Before is the app as the old policy describes it, where that differs.
	Before *Resource `json:"before,omitempty"`
}

// Answer is what a policy says, in short.
type Answer struct {
	Allow  bool   `json:"allow"`
	Reason string `json:"reason"`         // allow, policy, unauthenticated, step_up, error, …
	Code   string `json:"code,omitempty"` // of the decision's first reason: not_listed, hours, …
	Rule   string `json:"rule,omitempty"` // of the decision's first reason
	Text   string `json:"text,omitempty"` // its sentence for administrators
	// Obligations are those of the decision.
	Obligations []policy.Obligation `json:"obligations,omitempty"`
}

// Matrix says what was asked.
type Matrix struct {
	Directory   string `json:"directory,omitempty"` // absent: people were made up from what the policies name
	Timezone    string `json:"timezone"`            // in which hours are meant
	People      int    `json:"people"`
	Apps        int    `json:"apps"`
	Unchanged   int    `json:"unchanged"` // apps
	Evaluations int64  `json:"evaluations"`
}

// Replay says what was replayed.
type Replay struct {
	Source        string                 `json:"source"`
	Parity        replay.Parity          `json:"parity"`
	Totals        replay.Totals          `json:"totals"`
	NotReplayable []replay.NotReplayable `json:"not_replayable,omitempty"`
	From          replay.Latency         `json:"latency_from"`
	To            replay.Latency         `json:"latency_to"`
}

// Sources of findings.
const (
	FromMatrix = "matrix"
	FromReplay = "replay"
)

// New begins a report on two policies.
func New(from, to Policy) *Report {
	return &Report{From: from, To: to, Complete: true, Totals: make(map[review.Change]Total), Apps: []App{}, Findings: []Finding{}}
}

// fail notes why differences may be missing.
func (r *Report) fail(why ...string) {
	r.Incomplete = append(r.Incomplete, why...)
	r.Complete = len(r.Incomplete) == 0
}

// AddMatrix takes in what a matrix found. The directory may be nil.
func (r *Report) AddMatrix(m *matrix.Result, d *directory.Directory, name, timezone string) {
	r.Matrix = &Matrix{Directory: name, Timezone: timezone, People: m.People, Apps: len(m.Apps), Evaluations: m.Evaluations}
	apps := make(map[string]*matrix.App, len(m.Apps))
	for i := range m.Apps {
		a := &m.Apps[i]
		apps[a.Name] = a
		if a.Same {
			r.Matrix.Unchanged++
		}
		r.Apps = append(r.Apps, App{Name: a.Name, In: a.In, Same: a.Same, Methods: a.Methods, Paths: a.Paths, Networks: a.Networks, ACR: a.ACR})
	}
	members := membersOf(d)
	for i := range m.Findings {
		f := &m.Findings[i]
		found := Finding{
			Change: f.Change, Source: FromMatrix, App: f.App, Resource: resourceOf(apps[f.App]), Usual: f.Usual, Methods: f.Methods, Paths: f.Paths,
			From: answerOf(f.From), To: answerOf(f.To), Example: f.Input,
		}
		if !f.When.Always() {
			found.When = &f.When
		}
		found.People = names(f.People)
		found.Groups = covered(members, found.People)
		r.Findings = append(r.Findings, found)
	}
	r.fail(m.Incomplete...)
}

// AddReplay takes in what a replay found. What a finding of the matrix says already is counted there.
func (r *Report) AddReplay(p *replay.Result, source string, d *directory.Directory) {
	r.Replay = &Replay{Source: source, Parity: p.Parity, Totals: p.Totals, NotReplayable: p.NotReplayable, From: p.From, To: p.To}
	known := make(map[string]string) // names by id
	if d != nil {
		for i := range d.People {
			known[d.People[i].ID] = d.People[i].Name
		}
	}
	place := make(map[string]int)
	for i := range r.Findings {
		f := &r.Findings[i]
		for _, person := range f.People {
			place[f.key(person)] = i
		}
	}
	for i := range p.Differences {
		r.addReplayed(&p.Differences[i], known, place)
	}
	if p.Cut {
		r.fail("the replay found more differences than a report holds; those that came first are listed, and the totals of the replay count all")
	}
	if p.Parity.Different > 0 {
		r.fail("some recorded answers do not come out again; see parity")
	}
}

func (r *Report) addReplayed(d *review.Difference, known map[string]string, place map[string]int) {
	f := Finding{
		Change: d.Change, Source: FromReplay, App: d.Input.Resource.ID, From: answerOf(d.From), To: answerOf(d.To), Requests: d.Requests,
		LastUse: d.Last, Records: d.Records, Example: d.Input, Methods: []string{d.Input.Action.Method}, Paths: []string{d.Input.Resource.Path},
		Resource: Resource{ID: d.Input.Resource.ID, Owner: d.Input.Resource.Owner, Sensitivity: d.Input.Resource.Sensitivity, Labels: d.Input.Resource.Labels},
	}
	for _, p := range d.People {
		f.People = append(f.People, cmp.Or(known[p.ID], p.Name, p.ID))
	}
	if len(f.People) == 0 {
		f.People = []string{matrix.Stranger}
	}
	if at, found := place[f.key(f.People[0])]; found && r.Findings[at].Source == FromMatrix && r.covers(&r.Findings[at], d.Input) {
		r.Findings[at].use(&f)
		return
	}
	r.Findings = append(r.Findings, f)
}

// use counts the requests of a replayed finding here.
func (f *Finding) use(o *Finding) {
	f.Requests += o.Requests
	if o.LastUse.After(f.LastUse) {
		f.LastUse = o.LastUse
	}
	f.Records = append(f.Records, o.Records...)
	f.Records = f.Records[:min(len(f.Records), mostRecords)]
}

// mostRecords bounds the ids of one finding.
const mostRecords = 5

// key is what findings on one person's requests agree in that say the same.
func (f *Finding) key(person string) string {
	text, err := json.Marshal([]any{f.Change, f.App, person, f.From.Reason, f.From.Rule, f.To.Reason, f.To.Rule})
	if err != nil {
		panic("BUG: finding: " + err.Error())
	}
	return string(text)
}

// covers reports whether a request is among the methods and paths of a finding.
func (r *Report) covers(f *Finding, in *policy.Input) bool {
	at := slices.IndexFunc(r.Apps, func(a App) bool { return a.Name == f.App })
	if at < 0 {
		return false
	}
	a := &r.Apps[at]
	return (f.Methods == nil || slices.Contains(f.Methods, a.Method(in.Action.Method))) && (f.Paths == nil || slices.Contains(f.Paths, a.Path(in.Resource.Path)))
}

// Method is the class of a method in the findings on the app.
func (a *App) Method(method string) string {
	if slices.Contains(a.Methods, method) {
		return method
	}
	return "*"
}

// Path is the class of a path in the findings on the app; empty if there is none.
func (a *App) Path(path string) string {
	at := slices.IndexFunc(a.Paths, func(glob string) bool { return matrix.Matches(glob, path) })
	if at < 0 {
		return ""
	}
	return a.Paths[at]
}

// Finish sorts the findings and counts them.
func (r *Report) Finish() {
	defer r.sumUp()
	gravity := review.Changes()
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(gravity, a.Change), slices.Index(gravity, b.Change)), strings.Compare(a.App, b.App),
			cmp.Compare(len(b.People), len(a.People)))
	})
	people, apps := make(map[review.Change]map[string]bool), make(map[review.Change]map[string]bool)
	for i := range r.Findings {
		f := &r.Findings[i]
		if people[f.Change] == nil {
			people[f.Change], apps[f.Change] = make(map[string]bool), make(map[string]bool)
		}
		for _, p := range f.People {
			people[f.Change][p] = true
		}
		apps[f.Change][f.App] = true
		t := r.Totals[f.Change]
		r.Totals[f.Change] = Total{Findings: t.Findings + 1, People: len(people[f.Change]), Apps: len(apps[f.Change]), Requests: t.Requests + f.Requests}
	}
}

func names(people []review.Person) []string {
	list := make([]string, len(people))
	for i, p := range people {
		list[i] = cmp.Or(p.Name, p.ID)
	}
	return list
}

// membersOf are the people of each group.
func membersOf(d *directory.Directory) map[string][]string {
	members := make(map[string][]string)
	if d == nil {
		return members
	}
	for i := range d.People {
		for _, g := range d.People[i].Groups {
			members[g] = append(members[g], d.People[i].Name)
		}
	}
	return members
}

// covered are the groups all of whose members are among people, sorted.
func covered(members map[string][]string, people []string) []string {
	among := make(map[string]bool, len(people))
	for _, p := range people {
		among[p] = true
	}
	var list []string
	for g, all := range members {
		if !slices.ContainsFunc(all, func(p string) bool { return !among[p] }) {
			list = append(list, g)
		}
	}
	slices.Sort(list)
	return list
}

func resourceOf(a *matrix.App) Resource {
	var facts [2]Resource
	for i, f := range a.Facts {
		facts[i] = Resource{ID: a.Name, Owner: f.Owner, Sensitivity: f.Sensitivity, Labels: f.Labels}
	}
	if !a.In[1] {
		return facts[0]
	}
	if a.In[0] && !sameFacts(&facts[0], &facts[1]) {
		facts[1].Before = &facts[0]
	}
	return facts[1]
}

func answerOf(v *policy.Verdict) Answer {
	a := Answer{Allow: v.Allow, Reason: v.Reason, Obligations: v.Decision.Obligations}
	if len(v.Decision.Reasons) > 0 {
		first := v.Decision.Reasons[0]
		a.Code, a.Rule, a.Text = first.Code, first.Rule, first.Admin
	}
	return a
}

func sameFacts(a, b *Resource) bool {
	return a.Owner == b.Owner && a.Sensitivity == b.Sensitivity && maps.Equal(a.Labels, b.Labels)
}

// Anonymous reports whether a finding concerns strangers.
func (f *Finding) Anonymous() bool { return slices.Contains(f.People, matrix.Stranger) }
