// Package report makes reports for people out of audit records: who has access and uses it, what access nobody uses, what
// happened in a period, and what supports evidence for which control.
//
// [Build] goes through the records once and keeps aggregates only. What rules there are comes from the active
// configuration, as [App] and [Rule]: the package knows neither its form nor the policy. Each report is one page of HTML
// without scripts or anything from elsewhere, one CSV table, or JSON. The same arguments make the same bytes: the period's
// end is "now".
//
// Unless it discloses them, a report names people by their id and shows no e-mail addresses or names.
package report

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"time"

	"sallyport/audit"
)

// Kind is which report.
type Kind string

// The kinds of reports.
const (
	AccessReview Kind = "access-review" // who may use which app, by which rule, and whether they do
	Unused       Kind = "unused"        // access that nobody used, rules that decided nothing
	Summary      Kind = "summary"       // what happened in a period
	Controls     Kind = "controls"      // which rules and records support evidence for which control
)

// Kinds are all kinds there are.
func Kinds() []Kind { return []Kind{AccessReview, Unused, Summary, Controls} }

// Formats are the formats of Report.Write.
func Formats() []string { return []string{"html", "csv", "json"} }

// Options are what a report is about.
type Options struct {
	// From and To are the period: records with a time at or after From and before To. To is when the report is "now", and
	// required. From zero is the beginning.
	From, To time.Time
	// Days is how far back from To a use counts as one of late. Default 90.
	Days int
	// Samples is how many records are named for each control. Default 5.
	Samples int
	// Disclose shows e-mail addresses and names of accounts.
	Disclose bool
	// Apps are the apps of the active configuration with their access rules.
	Apps []App
	// People are known from elsewhere, such as the session store. They need not be in the records; where they are, the
	// records' word on groups counts.
	People []Person
	// Checkpoints are the newest of the logs, for the integrity box of the summary.
	Checkpoints []Checkpoint
	// Query is the filter by which the caller chose the records, as text; empty when those are all.
	Query string
	// Gateway names what the report is about, such as the domain; Program is what wrote it.
	Gateway, Program string
}

// App is an app of the configuration.
type App struct {
	Name        string
	Title       string // what people call it; empty: Name
	Owner       string
	Sensitivity string
	Own         bool     // a package of the operator's decides, so that the rules need not be all there is
	Controls    []string // such as SOC2:CC6.1; of every rule of the app, and what it decided without one
	Rules       []Rule
}

// Rule is one access rule of an app.
type Rule struct {
	ID          string // as decisions name it
	Description string
	Groups      []string
	Emails      []string
	Domains     []string
	Public      bool
	Conditions  []string // what must hold besides, and where the rule applies, in words
	Controls    []string // such as SOC2:CC6.1
}

// Person is one person or service.
type Person struct {
	ID       string // provider|subject
	Email    string
	Verified bool // a provider allowed to vouch says that the address is theirs
	Groups   []string
}

// Checkpoint is a log's signed state.
type Checkpoint struct {
	Log    string `json:"log"`
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"`            // base64
	Signed string `json:"signed,omitzero"` // the signed note
}

// Header is what every report says about itself.
type Header struct {
	Report    Kind      `json:"report"`
	Gateway   string    `json:"gateway,omitzero"`
	Program   string    `json:"program,omitzero"`
	From      time.Time `json:"from,omitzero"` // of the period; absent: the beginning
	To        time.Time `json:"to"`
	Days      int       `json:"days"`
	Query     string    `json:"query,omitzero"`
	Disclosed bool      `json:"disclosed"`
	Records   uint64    `json:"records"` // of the period that were looked at
}

// Report is a finished report.
type Report struct {
	Header Header
	data   any // for JSON, with the header in it
	page   page
	csv    table
}

// Build makes a report of records, which come in the order of each log. Only their Raw is looked at. An error of the
// records, ctx's end, or a record that is none ends it.
func Build(ctx context.Context, kind Kind, records iter.Seq2[audit.Entry, error], opts Options) (*Report, error) {
	if opts.To.IsZero() {
		return nil, fmt.Errorf("report %s: it has no end", kind)
	}
	if opts.Days == 0 {
		opts.Days = 90
	}
	if opts.Samples == 0 {
		opts.Samples = 5
	}
	c := opts.collector(kind)
	if c == nil {
		return nil, fmt.Errorf("there is no report %q", kind)
	}
	h := Header{Report: kind, Gateway: opts.Gateway, Program: opts.Program, From: utc(opts.From), To: utc(opts.To),
		Days: opts.Days, Query: opts.Query, Disclosed: opts.Disclose}
	for entry, err := range records {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		var e event
		if err == nil {
			e, err = readEvent(entry.Raw)
		}
		if err != nil {
			return nil, fmt.Errorf("report %s: %w", kind, err)
		}
		if e.time.Before(opts.To) && !e.time.Before(opts.From) {
			h.Records++
			c.add(&e)
		}
	}
	return c.report(h), nil
}

// collector makes one report.
type collector interface {
	add(*event)
	report(Header) *Report
}

func (o *Options) collector(kind Kind) collector {
	switch kind {
	case AccessReview:
		return newReview(o)
	case Unused:
		return newUnused(o)
	case Summary:
		return newSummary(o)
	case Controls:
		return newControls(o)
	}
	return nil
}

// since is when late begins.
func (o *Options) since() time.Time { return o.To.AddDate(0, 0, -o.Days) }

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// Write writes the report in a format of Formats.
func (r *Report) Write(w io.Writer, format string) error {
	switch format {
	case "html":
		return r.WriteHTML(w)
	case "csv":
		return r.WriteCSV(w)
	case "json":
		return r.WriteJSON(w)
	}
	return fmt.Errorf("a report is written as html, csv or json, not as %q", format)
}

// WriteJSON writes the report as one indented JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r.data); err != nil {
		return fmt.Errorf("writing report %s: %w", r.Header.Report, err)
	}
	return nil
}
