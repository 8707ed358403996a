package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// Tally counts decisions.
type Tally struct {
	Allowed  uint64 `json:"allowed"`
	Denied   uint64 `json:"denied"`
	Rejected uint64 `json:"rejected"`
}

func (t *Tally) add(effect audit.Effect) {
	switch effect {
	case audit.Allow:
		t.Allowed++
	case audit.Deny:
		t.Denied++
	case audit.Reject:
		t.Rejected++
	}
}

func (t *Tally) sum() uint64 { return t.Allowed + t.Denied + t.Rejected }

// Totals are the counts of a period.
type Totals struct {
	Tally
	Decisions      uint64 `json:"decisions"`
	Reevaluated    uint64 `json:"reevaluated"`
	Outcomes       uint64 `json:"outcomes"`
	NotForwarded   uint64 `json:"not_forwarded"` // allowed, and given up before anything was done
	Windows        uint64 `json:"windows"`       // refusals of strangers that are counted without a record each
	People         int    `json:"people"`        // whose requests were decided
	SignIns        uint64 `json:"sign_ins"`
	SignInsFailed  uint64 `json:"sign_ins_failed"`
	SignOuts       uint64 `json:"sign_outs"`
	Starts         uint64 `json:"starts"`
	UncleanStarts  uint64 `json:"unclean_starts"` // without a stop before, as far as the period shows
	Outages        uint64 `json:"outages"`
	PolicyChanges  uint64 `json:"policy_changes"`
	ConfigChanges  uint64 `json:"config_changes"` // that left the policy as it was
	ConfigsRefused uint64 `json:"configs_refused"`
	Reads          uint64 `json:"log_reads"`
}

// AppRow is one app of a period.
type AppRow struct {
	App string `json:"app"`
	Tally
	People int       `json:"people"`
	Last   time.Time `json:"last"`
}

// ReasonRow is one reason for a no.
type ReasonRow struct {
	Reason  string       `json:"reason"`
	Effect  audit.Effect `json:"effect,omitzero"` // empty: counted in windows
	Records uint64       `json:"records"`
}

// DeniedRow is one person who was denied.
type DeniedRow struct {
	Person string `json:"person"`
	Email  string `json:"email,omitzero"`
	Denied uint64 `json:"denied"`
}

// CountRow is how often something happened.
type CountRow struct {
	What  string `json:"what"`
	Count uint64 `json:"count"`
}

// Happening is one thing that happened.
type Happening struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"`
	By     string    `json:"by,omitzero"`
	Detail string    `json:"detail,omitzero"`
	Record string    `json:"record"` // its id

	actor actor
}

// SummaryReport is the JSON of a summary.
type SummaryReport struct {
	Header
	Totals      Totals       `json:"totals"`
	Apps        []AppRow     `json:"apps"`
	Reasons     []ReasonRow  `json:"reasons"`
	Denied      []DeniedRow  `json:"most_denied"` // the first 20
	Activity    []Bar        `json:"activity"`
	Failures    []CountRow   `json:"sign_in_failures"`
	Controls    []CountRow   `json:"control_records"`
	Changes     []Happening  `json:"changes"` // the latest 1,000
	Incidents   []Happening  `json:"incidents"`
	Checkpoints []Checkpoint `json:"checkpoints"`
	Verify      string       `json:"verify"`
}

const (
	maxHappenings = 1000
	mostDenied    = 20
	// VerifyCommand is what the integrity box tells people to run.
	VerifyCommand = "sallyport audit verify AUDIT_DIRECTORY --trust TRUSTFILE"
)

// summary collects what happened in a period.
type summary struct {
	opts     *Options
	people   *directory
	totals   Totals
	apps     map[string]*AppRow
	visits   map[pair]bool // people of apps
	asked    map[string]bool
	reasons  map[ReasonRow]uint64 // without its count
	denied   map[string]uint64
	hours    map[int64]*Tally // since 1970
	failures map[string]uint64
	codes    map[string]uint64
	changes  []Happening
	troubles []Happening
	running  bool // a start was seen, and no stop since
}

func newSummary(o *Options) *summary {
	return &summary{opts: o, people: newDirectory(o), apps: map[string]*AppRow{}, visits: map[pair]bool{}, asked: map[string]bool{},
		reasons: map[ReasonRow]uint64{}, denied: map[string]uint64{}, hours: map[int64]*Tally{}, failures: map[string]uint64{}, codes: map[string]uint64{}}
}

func (c *summary) add(e *event) {
	switch e.kind {
	case audit.TypeDecision:
		c.addDecision(e)
	case audit.TypeReevaluated:
		c.totals.Reevaluated++
	case audit.TypeOutcome:
		c.totals.Outcomes++
	case audit.TypeWindow:
		c.addWindow(e)
	case audit.TypeRecovered:
		c.totals.Outages++
		c.troubles = happen(c.troubles, e, outageWords(e))
	case audit.TypeControl:
		c.addControl(e)
	}
}

func (c *summary) addDecision(e *event) {
	c.totals.Decisions++
	c.totals.Tally.add(e.effect)
	hour := e.time.Unix() / 3600
	if c.hours[hour] == nil {
		c.hours[hour] = &Tally{}
	}
	c.hours[hour].add(e.effect)
	a := c.apps[e.app]
	if a == nil {
		a = &AppRow{App: strings.Clone(e.app)}
		c.apps[a.App] = a
	}
	a.add(e.effect)
	a.Last = latest(a.Last, e.time)
	if e.effect != audit.Allow {
		count(c.reasons, ReasonRow{Reason: e.reason, Effect: e.effect}, 1)
	}
	p := c.people.seen(e)
	if p == nil {
		return
	}
	c.asked[p.id] = true
	if key := (pair{p.id, a.App}); !c.visits[key] {
		c.visits[key] = true
		a.People++
	}
	if e.effect == audit.Deny {
		c.denied[p.id]++
	}
}

// count adds to a count by reason; the key is cloned when it is new.
func count(m map[ReasonRow]uint64, key ReasonRow, n uint64) {
	if _, ok := m[key]; !ok {
		key = ReasonRow{Reason: strings.Clone(key.Reason), Effect: audit.Effect(strings.Clone(string(key.Effect)))}
	}
	m[key] += n
}

func (c *summary) addWindow(e *event) {
	for row := range peek.Elements(peek.Member(e.detail, "rows")) {
		n := peek.Uint(peek.Member(row, "count"))
		c.totals.Windows += n
		count(c.reasons, ReasonRow{Reason: peek.Text(peek.Member(row, "reason"))}, n)
	}
	if n := peek.Uint(peek.Member(e.detail, "other")); n > 0 {
		c.totals.Windows += n
		count(c.reasons, ReasonRow{Reason: "other"}, n)
	}
}

func (c *summary) addControl(e *event) {
	c.codes[strings.Clone(e.code)]++
	switch e.code {
	case "sign_in":
		c.totals.SignIns++
	case "sign_in_failed":
		c.totals.SignInsFailed++
		c.failures[strings.Clone(e.reason)]++
	case "sign_out":
		c.totals.SignOuts++
	case "log_read":
		c.totals.Reads++
	case "started":
		c.addStart(e)
	case "stopped":
		c.running = false
	case "config_changed":
		what := "configuration changed"
		if before := peek.At(e.detail, "before", "policy"); before != peek.Member(e.detail, "policy") {
			what = "policy changed"
			c.totals.PolicyChanges++
		} else {
			c.totals.ConfigChanges++
		}
		c.changes = happen(c.changes, e, what)
	case "config_refused":
		c.totals.ConfigsRefused++
		c.changes = happen(c.changes, e, "configuration refused")
	case audit.CodeClockStepped:
		c.troubles = happen(c.troubles, e, "clock stepped")
	}
}

func (c *summary) addStart(e *event) {
	c.totals.Starts++
	what := "started"
	if c.running {
		c.totals.UncleanStarts++
		what = "started without a stop before"
		c.troubles = happen(c.troubles, e, what)
	}
	c.running = true
	c.changes = happen(c.changes, e, what)
}

func outageWords(e *event) string {
	switch e.code {
	case audit.CodeTornTail:
		return "an incomplete last write was dropped at start"
	case audit.CodeResumed:
		return "the log could be written again after an outage"
	}
	return "recovered: " + strings.Clone(e.code)
}

// happen adds to a list of the latest.
func happen(list []Happening, e *event, what string) []Happening {
	if len(list) >= 2*maxHappenings {
		list = append(list[:0], list[len(list)-maxHappenings:]...)
	}
	return append(list, Happening{Time: e.time, What: what, actor: e.by().clone(), Detail: strings.Clone(e.detail), Record: strings.Clone(e.id)})
}

// happened are the latest of a list, as the report shows them.
func (c *summary) happened(list []Happening) []Happening {
	list = slices.Clone(list[max(0, len(list)-maxHappenings):])
	for i := range list {
		list[i].Detail = c.people.shownText(list[i].Detail)
		if list[i].actor.id != "" {
			list[i].By = c.people.shownActor(list[i].actor)
		}
	}
	if list == nil {
		return []Happening{}
	}
	return list
}

func (c *summary) reasonRows() []ReasonRow {
	rows := []ReasonRow{}
	for key, n := range c.reasons {
		key.Records = n
		rows = append(rows, key)
	}
	slices.SortFunc(rows, func(a, b ReasonRow) int {
		return cmp.Or(cmp.Compare(b.Records, a.Records), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Effect, b.Effect))
	})
	return rows
}

func (c *summary) deniedRows() []DeniedRow {
	rows := []DeniedRow{}
	for id, n := range c.denied {
		rows = append(rows, DeniedRow{id, c.people.shownEmail(c.people.byID[id].email), n})
	}
	slices.SortFunc(rows, func(a, b DeniedRow) int {
		return cmp.Or(cmp.Compare(b.Denied, a.Denied), cmp.Compare(a.Person, b.Person))
	})
	rows = rows[:min(len(rows), mostDenied)]
	for i := range rows {
		rows[i].Person = c.people.shown(rows[i].Person)
	}
	return rows
}

func countRows(m map[string]uint64) []CountRow {
	rows := []CountRow{}
	for what, n := range m {
		rows = append(rows, CountRow{what, n})
	}
	slices.SortFunc(rows, func(a, b CountRow) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.What, b.What)) })
	return rows
}

func (c *summary) report(h Header) *Report {
	c.totals.People = len(c.asked)
	data := SummaryReport{Header: h, Totals: c.totals, Reasons: c.reasonRows(), Denied: c.deniedRows(), Activity: bars(c.hours, c.opts),
		Failures: countRows(c.failures), Controls: countRows(c.codes), Changes: c.happened(c.changes), Incidents: c.happened(c.troubles),
		Checkpoints: append([]Checkpoint{}, c.opts.Checkpoints...), Verify: VerifyCommand, Apps: []AppRow{}}
	for _, name := range slices.Sorted(maps.Keys(c.apps)) {
		data.Apps = append(data.Apps, *c.apps[name])
	}
	return &Report{Header: h, data: data, page: data.page(), csv: data.csv()}
}
