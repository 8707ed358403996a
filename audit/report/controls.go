package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
)

// ControlRow is what supports evidence for one control.
type ControlRow struct {
	Control string   `json:"control"` // SOC2:CC6.1
	App     string   `json:"app,omitzero"`
	Rule    string   `json:"rule,omitzero"`
	Event   string   `json:"event,omitzero"` // what is recorded, where it is no rule
	Allowed uint64   `json:"allowed"`
	Denied  uint64   `json:"denied"`
	Records uint64   `json:"records"`
	Samples []Sample `json:"samples"` // of these records, chosen by their ids alone
}

// Sample is one record to look at.
type Sample struct {
	Record string    `json:"record"` // its id
	Log    string    `json:"log"`
	Seq    string    `json:"seq"`
	Time   time.Time `json:"time"`
	rank   uint64
}

// ControlsReport is the JSON of a report by controls.
type ControlsReport struct {
	Header
	Rows []ControlRow `json:"rows"`
}

// recorded are kinds of records that support evidence by their being there, with the controls that ask for them: PCI DSS
// 4.0.1, ISO/IEC 27001:2022 Annex A, the AICPA's trust services criteria.
var recorded = []struct {
	event    string
	controls []string
	is       func(*event) bool
}{
	{"individual access to apps", []string{"PCI:10.2.1.1", "ISO27001:A.8.15"}, func(e *event) bool {
		return e.kind == audit.TypeDecision && e.effect == audit.Allow
	}},
	{"actions of administrators", []string{"PCI:10.2.1.2", "ISO27001:A.8.15"}, func(e *event) bool {
		return e.kind == audit.TypeControl && strings.HasPrefix(e.actor, `{"kind":"os"`)
	}},
	{"access to the audit log", []string{"PCI:10.2.1.3"}, func(e *event) bool { return e.kind == audit.TypeControl && e.code == "log_read" }},
	{"denied access and failed sign-ins", []string{"PCI:10.2.1.4", "ISO27001:A.8.15"}, func(e *event) bool {
		return e.kind == audit.TypeDecision && e.effect != audit.Allow || e.code == "sign_in_failed"
	}},
	{"sign-in, sign-out and revocation of sessions", []string{"PCI:10.2.1.5", "ISO27001:A.8.5"}, func(e *event) bool {
		return e.kind == audit.TypeControl && (strings.HasPrefix(e.code, "sign_") && e.code != "sign_in_failed" || strings.HasPrefix(e.code, "sessions_"))
	}},
	{"starts, stops and gaps of the audit log", []string{"PCI:10.2.1.6"}, func(e *event) bool {
		return e.kind == audit.TypeRecovered || e.kind == audit.TypeControl && (e.code == "started" || e.code == "stopped")
	}},
	{"changes of configuration and policy", []string{"PCI:10.2.1.7", "SOC2:CC8.1", "ISO27001:A.8.32"}, func(e *event) bool {
		return e.kind == audit.TypeControl && strings.HasPrefix(e.code, "config_")
	}},
}

// evidence is the count for a rule or a kind of records.
type evidence struct {
	records, allowed, denied uint64
	samples                  []Sample
}

func (x *evidence) add(e *event, samples int) {
	x.records++
	switch e.effect {
	case audit.Allow:
		x.allowed++
	case audit.Deny, audit.Reject:
		x.denied++
	}
	sum := sha256.Sum256([]byte(e.id)) // so that the choice is everybody's to repeat, and nobody's to make
	rank := binary.BigEndian.Uint64(sum[:])
	if len(x.samples) == samples && rank >= x.samples[samples-1].rank {
		return
	}
	s := Sample{Record: strings.Clone(e.id), Log: strings.Clone(e.log), Seq: strings.Clone(e.seq), Time: e.time, rank: rank}
	at, _ := slices.BinarySearchFunc(x.samples, s, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Record, b.Record))
	})
	x.samples = slices.Insert(x.samples, at, s)
	x.samples = x.samples[:min(len(x.samples), samples)]
}

// byControl collects what supports evidence for which control.
type byControl struct {
	opts  *Options
	apps  map[string]*App
	rules map[ruleKey]*evidence // rule empty: decided without one
	kinds []evidence            // as recorded
}

func newControls(o *Options) *byControl {
	c := &byControl{opts: o, apps: map[string]*App{}, rules: map[ruleKey]*evidence{}, kinds: make([]evidence, len(recorded))}
	for i := range o.Apps {
		c.apps[o.Apps[i].Name] = &o.Apps[i]
	}
	return c
}

func (c *byControl) add(e *event) {
	for i := range recorded {
		if recorded[i].is(e) {
			c.kinds[i].add(e, c.opts.Samples)
		}
	}
	a := c.apps[e.app]
	if e.kind != audit.TypeDecision || a == nil {
		return
	}
	found := false
	for _, id := range e.rules() {
		if r := a.rule(id); r != nil {
			c.rule(a.Name, r.ID).add(e, c.opts.Samples)
			found = true
		}
	}
	if !found {
		c.rule(a.Name, "").add(e, c.opts.Samples)
	}
}

func (c *byControl) rule(app, id string) *evidence {
	key := ruleKey{app: app, rule: id}
	if c.rules[key] == nil {
		c.rules[key] = &evidence{}
	}
	return c.rules[key]
}

func (c *byControl) rows() []ControlRow {
	rows := []ControlRow{}
	row := func(control, app, rule, event string, x *evidence) {
		if x == nil {
			x = &evidence{}
		}
		samples := x.samples
		if samples == nil {
			samples = []Sample{}
		}
		rows = append(rows, ControlRow{control, app, rule, event, x.allowed, x.denied, x.records, samples})
	}
	for i := range c.opts.Apps {
		a := &c.opts.Apps[i]
		for _, r := range a.Rules {
			for _, control := range union(a.Controls, r.Controls) {
				row(control, a.Name, r.ID, "", c.rules[ruleKey{app: a.Name, rule: r.ID}])
			}
		}
		if x := c.rules[ruleKey{app: a.Name}]; x != nil {
			for _, control := range union(a.Controls, nil) {
				row(control, a.Name, "", "decided without a rule", x)
			}
		}
	}
	for i, kind := range recorded {
		for _, control := range kind.controls {
			row(control, "", "", kind.event, &c.kinds[i])
		}
	}
	slices.SortStableFunc(rows, func(a, b ControlRow) int {
		return cmp.Or(strings.Compare(a.Control, b.Control), strings.Compare(a.App, b.App))
	})
	return rows
}

func union(a, b []string) []string {
	set := map[string]bool{}
	for _, s := range slices.Concat(a, b) {
		if s = strings.TrimSpace(s); s != "" {
			set[s] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// ControlsOf are the controls that labels name: the values of control and controls, separated by commas or spaces.
func ControlsOf(labels map[string]string) []string {
	words := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
	}
	return union(words(labels["control"]), words(labels["controls"]))
}

func (r *ControlRow) source() string {
	switch {
	case r.Event == "":
		return "rule " + r.Rule
	case r.App != "":
		return r.Event
	}
	return "records of " + r.Event
}

func (c *byControl) report(h Header) *Report {
	rows := c.rows()
	p := page{Title: "Controls", Lead: "Which rules and records support evidence for which control. Whether a control is met is for its owner and an auditor to judge: " +
		"these counts say what was recorded, no more.", Header: h}
	csv := table{Columns: []column{{Name: "control"}, {Name: "app"}, {Name: "supports_evidence_by"}, {Name: "allowed"}, {Name: "denied"}, {Name: "records"}, {Name: "samples"}}}
	controls := 0
	var t *table
	for i := range rows {
		r := &rows[i]
		if i == 0 || rows[i-1].Control != r.Control {
			controls++
			p.Sections = append(p.Sections, section{ID: "control-" + number(controls), Title: r.Control, Tables: []table{{ID: "table-" + number(controls),
				Caption: "Supports evidence for " + r.Control, Columns: []column{{Name: "App"}, {Name: "By"}, {Name: "Allowed", Number: true},
					{Name: "Denied", Number: true}, {Name: "Records", Number: true}, {Name: "Records to look at"}}}}})
			t = &p.Sections[len(p.Sections)-1].Tables[0]
		}
		var ids []string
		for _, s := range r.Samples {
			ids = append(ids, s.Log+" "+s.Seq+": "+s.Record)
		}
		t.Rows = append(t.Rows, []any{cmp.Or(r.App, "all"), r.source(), r.Allowed, r.Denied, r.Records, ids})
		csv.Rows = append(csv.Rows, []any{r.Control, r.App, r.source(), r.Allowed, r.Denied, r.Records, ids})
	}
	p.Facts = []fact{{"Controls", controls}, {"Rows", len(rows)}}
	return &Report{Header: h, data: ControlsReport{h, rows}, page: p, csv: csv}
}
