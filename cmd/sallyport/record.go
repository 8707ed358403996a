package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"sallyport/audit"
)

// recordPrinter prints records one by one as they are read: there may be millions, and the next may take hours.
type recordPrinter struct {
	out    *bufio.Writer
	asJSON bool
	format string // of a row
	headed bool
}

// The formats of rows keep columns in place without knowing the rows to come; what is wider moves the rest of its row.
// Codes of the control log are longer than effects, and have no reason or app.
const (
	decisionFormat = "%-20[1]s  %-11[2]s  %-16[3]s  %-14[4]s  %-26[5]s  %[6]s\n"
	controlFormat  = "%-20[1]s  %-22[2]s  %-26[5]s  %[6]s\n"
)

func newRecordPrinter(out io.Writer, log string, asJSON bool) *recordPrinter {
	p := &recordPrinter{out: bufio.NewWriter(out), asJSON: asJSON, format: decisionFormat}
	if log == audit.ControlLog {
		p.format = controlFormat
	}
	return p
}

// entry prints one record. Everything that a stranger may have put into it is inert: the log escapes control characters
// in the JSON it stores, short does in tables.
func (p *recordPrinter) entry(e audit.Entry) error {
	if p.asJSON {
		p.out.Write(e.Raw)
		p.out.WriteByte('\n')
		return p.out.Flush()
	}
	if !p.headed {
		p.head()
	}
	row := recordRow(e.Record)
	p.row(e.Record.Time.UTC().Format("2006-01-02T15:04:05Z"), short(row.what), short(row.reason), short(row.app), short(row.who), short(row.detail))
	return p.out.Flush()
}

func (p *recordPrinter) head() {
	p.row("TIME", "WHAT", "REASON", "APP", "WHO", "DETAIL")
	p.headed = true
}

func (p *recordPrinter) row(cells ...any) { fmt.Fprintf(p.out, p.format, cells...) }

// close prints the head of an empty table.
func (p *recordPrinter) close() error {
	if !p.asJSON && !p.headed {
		p.head()
	}
	return p.out.Flush()
}

// row is a record in a few words.
type row struct{ what, reason, app, who, detail string }

func recordRow(r *audit.Record) row {
	made := row{what: string(r.Effect), reason: r.Reason, app: r.App, detail: string(r.Detail)}
	if r.Actor != nil {
		made.who = first(r.Actor.Name, r.Actor.ID)
	}
	switch {
	case r.Outcome != nil:
		o := r.Outcome
		made.what, made.reason = string(r.Type), o.Error
		made.detail = fmt.Sprintf("%d, %d bytes in, %d out, %v, of %s", o.Status, o.BytesIn, o.BytesOut, time.Duration(o.DurationNS).Round(time.Millisecond), o.Of)
	case len(r.Input) > 0:
		made.who, made.detail = asked(r.Input)
	case made.what == "":
		made.what = first(r.Code, string(r.Type))
	default:
		made.detail = refused(r.Detail)
	}
	return made
}

// asked tells who asked for what, out of a decision's input.
func asked(input json.RawMessage) (who, what string) {
	var in struct {
		Subject  struct{ ID, Email, Type string }
		Action   struct{ Method, Upgrade string }
		Resource struct{ Host, Path string }
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return "", string(input)
	}
	return first(in.Subject.Email, in.Subject.ID, in.Subject.Type), first(in.Action.Upgrade, in.Action.Method) + " " + in.Resource.Host + in.Resource.Path
}

// refused tells what was asked, out of the detail of a request that the policy never saw.
func refused(detail json.RawMessage) string {
	var d struct{ Method, Host, Target, Peer string }
	if err := json.Unmarshal(detail, &d); err != nil || d.Method == "" {
		return string(detail)
	}
	return d.Method + " " + d.Host + d.Target + " from " + d.Peer
}

// first returns the first text that there is.
func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
