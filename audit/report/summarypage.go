package report

import (
	"cmp"
	"strconv"
)

func number(n int) string { return strconv.Itoa(n) }

// page is the summary for people.
func (r *SummaryReport) page() page {
	t := &r.Totals
	p := page{Title: "Summary", Lead: "What was decided and what happened in the period.", Header: r.Header, Facts: []fact{
		{"Decisions", t.Decisions}, {"Allowed", t.Allowed}, {"Denied", t.Denied}, {"Rejected", t.Rejected}, {"People", t.People}, {"Sign-ins", t.SignIns},
		{"Failed sign-ins", t.SignInsFailed}, {"Policy changes", t.PolicyChanges}, {"Starts", t.Starts}, {"Outages", t.Outages}}}
	p.Sections = []section{r.integrity(), r.activity(), r.byApp(), r.refusals(), r.signIns(), r.changed(), r.incidents(), r.others()}
	return p
}

func (r *SummaryReport) integrity() section {
	s := section{ID: "integrity", Title: "Integrity", Box: true, Text: []string{
		"Each log is a Merkle tree, and its root was signed by the key process. Whoever has the public keys can check that no record was changed, left out or moved:"},
		Code: []string{r.Verify}}
	if len(r.Checkpoints) == 0 {
		s.Text = append(s.Text, "This report was made without a checkpoint at hand.")
		return s
	}
	t := table{ID: "checkpoints", Caption: "The newest signed checkpoints", Columns: []column{{Name: "Log"}, {Name: "Origin"}, {Name: "Records", Number: true}, {Name: "Root"}}}
	for _, c := range r.Checkpoints {
		t.Rows = append(t.Rows, []any{c.Log, c.Origin, c.Size, c.Root})
		if c.Signed != "" {
			s.Code = append(s.Code, c.Signed)
		}
	}
	s.Tables = []table{t}
	return s
}

func (r *SummaryReport) activity() section {
	t := table{ID: "activity-table", Caption: "Decisions over time (UTC)", Columns: []column{{Name: "From"}, {Name: "Allowed", Number: true}, {Name: "Denied", Number: true}, {Name: "Rejected", Number: true}}}
	for _, b := range r.Activity {
		t.Rows = append(t.Rows, []any{b.Label, b.Allowed, b.Denied, b.Rejected})
	}
	return section{ID: "activity", Title: "Activity", Chart: newChart("Decisions over time", r.Activity), Tables: []table{t}}
}

func (r *SummaryReport) byApp() section {
	t := table{ID: "apps-table", Caption: "Decisions by app", Columns: []column{{Name: "App"}, {Name: "Allowed", Number: true}, {Name: "Denied", Number: true},
		{Name: "Rejected", Number: true}, {Name: "People", Number: true}, {Name: "Last request"}}}
	for _, a := range r.Apps {
		t.Rows = append(t.Rows, []any{cmp.Or(a.App, "no app"), a.Allowed, a.Denied, a.Rejected, a.People, when{a.Last, "never"}})
	}
	return section{ID: "apps", Title: "Apps", Tables: []table{t}}
}

func (r *SummaryReport) refusals() section {
	reasons := table{ID: "reasons", Caption: "Refusals by reason", Columns: []column{{Name: "Reason"}, {Name: "Effect"}, {Name: "Refusals", Number: true}}}
	for _, x := range r.Reasons {
		reasons.Rows = append(reasons.Rows, []any{cmp.Or(x.Reason, "none stated"), cmp.Or(string(x.Effect), "counted in windows"), x.Records})
	}
	people := table{ID: "denied", Caption: "People who were denied most often", Columns: []column{{Name: "Person"}, {Name: "Denied", Number: true}}}
	for _, x := range r.Denied {
		who := []string{x.Person}
		if x.Email != "" {
			who = append(who, x.Email)
		}
		people.Rows = append(people.Rows, []any{who, x.Denied})
	}
	return section{ID: "refusals", Title: "Refusals", Text: []string{
		"Denied is what the policy refused, rejected what was refused before it was asked. Refusals of strangers above a rate are counted in windows and have no record each."},
		Tables: []table{reasons, people}}
}

func (r *SummaryReport) signIns() section {
	t := table{ID: "sign-in-failures", Caption: "Failed sign-ins by reason", Columns: []column{{Name: "Reason"}, {Name: "Sign-ins", Number: true}}}
	for _, x := range r.Failures {
		t.Rows = append(t.Rows, []any{cmp.Or(x.What, "none stated"), x.Count})
	}
	return section{ID: "sign-ins", Title: "Sign-ins", Tables: []table{t}}
}

func happenings(id, caption string, list []Happening) table {
	t := table{ID: id, Caption: caption, Columns: []column{{Name: "Time"}, {Name: "What"}, {Name: "By"}, {Name: "Detail"}}}
	for _, x := range list {
		t.Rows = append(t.Rows, []any{when{x.Time, ""}, x.What, x.By, []string{x.Detail, "record " + x.Record}})
	}
	return t
}

func (r *SummaryReport) changed() section {
	return section{ID: "changes", Title: "Changes", Tables: []table{happenings("changes-table", "Starts, and changes of configuration and policy", r.Changes)}}
}

func (r *SummaryReport) incidents() section {
	return section{ID: "incidents", Title: "Outages and incidents", Tables: []table{happenings("incidents-table", "What kept the log from being written, or the clock from being right", r.Incidents)}}
}

func (r *SummaryReport) others() section {
	t := table{ID: "codes", Caption: "Control records by code", Columns: []column{{Name: "Code"}, {Name: "Records", Number: true}}}
	for _, x := range r.Controls {
		t.Rows = append(t.Rows, []any{cmp.Or(x.What, "none"), x.Count})
	}
	return section{ID: "control", Title: "Control log", Tables: []table{t}}
}

// csv is the summary as one table, a figure a row.
func (r *SummaryReport) csv() table {
	t := table{Columns: []column{{Name: "section"}, {Name: "item"}, {Name: "measure"}, {Name: "value"}}}
	add := func(section, item, measure string, value any) {
		t.Rows = append(t.Rows, []any{section, item, measure, value})
	}
	x := &r.Totals
	for _, f := range []fact{{"decisions", x.Decisions}, {"allowed", x.Allowed}, {"denied", x.Denied}, {"rejected", x.Rejected}, {"reevaluated", x.Reevaluated},
		{"outcomes", x.Outcomes}, {"windows", x.Windows}, {"people", x.People}, {"sign_ins", x.SignIns},
		{"sign_ins_failed", x.SignInsFailed}, {"sign_outs", x.SignOuts}, {"starts", x.Starts}, {"unclean_starts", x.UncleanStarts}, {"outages", x.Outages},
		{"policy_changes", x.PolicyChanges}, {"config_changes", x.ConfigChanges}, {"configs_refused", x.ConfigsRefused}, {"log_reads", x.Reads}} {
		add("totals", "", f.Name, f.Value)
	}
	for _, a := range r.Apps {
		add("apps", a.App, "allowed", a.Allowed)
		add("apps", a.App, "denied", a.Denied)
		add("apps", a.App, "rejected", a.Rejected)
		add("apps", a.App, "people", a.People)
	}
	for _, x := range r.Reasons {
		add("reasons", x.Reason, cmp.Or(string(x.Effect), "window"), x.Records)
	}
	for _, x := range r.Denied {
		add("most_denied", x.Person, "denied", x.Denied)
	}
	for _, b := range r.Activity {
		add("activity", b.Label, "allowed", b.Allowed)
		add("activity", b.Label, "denied", b.Denied)
		add("activity", b.Label, "rejected", b.Rejected)
	}
	for _, x := range r.Failures {
		add("sign_in_failures", x.What, "count", x.Count)
	}
	for _, x := range r.Controls {
		add("control_records", x.What, "count", x.Count)
	}
	for _, x := range r.Changes {
		add("changes", x.What, "time", when{x.Time, ""})
	}
	for _, x := range r.Incidents {
		add("incidents", x.What, "time", when{x.Time, ""})
	}
	for _, x := range r.Checkpoints {
		add("checkpoints", x.Log, "size", x.Size)
		add("checkpoints", x.Log, "root", x.Root)
	}
	return t
}
