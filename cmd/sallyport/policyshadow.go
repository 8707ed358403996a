package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"sallyport/gateway/admin"
	"sallyport/gateway/shadow"
	"sallyport/policy/review"
	"sallyport/policy/review/suite"
)

// candidateTestTime is how long the tests of a candidate may take, as they may where a gateway runs them.
const candidateTestTime = 30 * time.Second

// policyShadowCommand tries a candidate policy on live traffic.
type policyShadowCommand struct {
	Start   policyShadowStartCommand   `cmd:"" help:"Compare a candidate policy with the policy in force, request by request. Nobody is let in or turned away by it."`
	Status  policyShadowStatusCommand  `cmd:"" help:"What the comparison has come to."`
	Stop    policyShadowStopCommand    `cmd:"" help:"End the comparison."`
	Promote policyShadowPromoteCommand `cmd:"" help:"Put the candidate in force, pinned, when the comparison is clean."`
}

type policyShadowStartCommand struct {
	Policy string `arg:"" help:"The candidate: ${policy}" placeholder:"POLICY"`
	Why    string `help:"Why, for the record."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// Run sends the effective policy to the gateway, which need not be able to read where it is.
func (c *policyShadowStartCommand) Run(in *invocation) error {
	candidate, err := in.openPolicy(c.Policy)
	if err != nil {
		return err
	}
	if err := in.passesItsTests(c.Policy, candidate); err != nil {
		return err
	}
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	status, err := gateway.StartShadow(in.ctx, admin.ShadowStart{Name: c.Policy, Why: c.Why, Archive: candidate.Bundle.Archive()})
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return printJSON(in.out, status)
	}
	in.say("Tried from now on: %s. See sallyport policy shadow status.", shortDigest(status.Candidate))
	return nil
}

// passesItsTests refuses a policy on disk whose own tests fail. The gateway is sent the policy alone, and could not know
// when it is told to promote it.
func (in *invocation) passesItsTests(spec string, p *reviewed) error {
	if !exists(spec) {
		return nil
	}
	tests, err := (&policyTestCommand{Policy: spec}).suite(in, p)
	if err != nil {
		return err
	}
	results, err := tests.Run(in.ctx, p.Engine, suite.Options{Timeout: candidateTestTime})
	if err != nil {
		return no{err}
	}
	if !results.OK() {
		return no{fmt.Errorf("%s: sallyport policy test %s tells which", results.Summary(), spec)}
	}
	return nil
}

type policyShadowStatusCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *policyShadowStatusCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	status, err := gateway.Shadow(in.ctx)
	if err != nil {
		return answered(err)
	}
	return printShadow(in.out, status, c.JSON)
}

type policyShadowStopCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *policyShadowStopCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	status, err := gateway.StopShadow(in.ctx)
	if err != nil {
		return answered(err)
	}
	return printShadow(in.out, status, c.JSON)
}

type policyShadowPromoteCommand struct {
	Why   string `help:"Why, for the record."`
	Force bool   `help:"Promote the candidate although nothing was compared, or somebody's access would differ."`
}

func (c *policyShadowPromoteCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	if err := gateway.PromoteShadow(in.ctx, admin.ShadowPromote{Why: c.Why, Force: c.Force}); err != nil {
		return answered(err)
	}
	return in.sayPolicy(gateway)
}

// printShadow prints how far a trial is.
func printShadow(out io.Writer, s admin.ShadowStatus, asJSON bool) error {
	if asJSON {
		return printJSON(out, s)
	}
	if s.Report == nil {
		fmt.Fprintln(out, "no candidate policy is being tried")
		return nil
	}
	for _, row := range shadowRows(s) {
		fmt.Fprintf(out, "%-11s %s\n", row[0], inert(row[1]))
	}
	if len(s.Differences) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	var rows [][]string
	for _, d := range s.Differences {
		rows = append(rows, []string{d.App, string(d.Change), shadowAnswer(d.From), shadowAnswer(d.To), strconv.FormatUint(d.Requests, 10),
			strconv.Itoa(d.People), moment(d.Last), shadowExamples(d.Examples)})
	}
	return printTable(out, []string{"APP", "CHANGE", "IN FORCE", "CANDIDATE", "REQUESTS", "PEOPLE", "LAST", "FOR EXAMPLE"}, rows)
}

func shadowRows(s admin.ShadowStatus) [][2]string {
	candidate := s.Candidate
	if s.Name != "" && s.Name != s.Candidate {
		candidate += " (" + s.Name + ")"
	}
	rows := [][2]string{{"candidate", candidate}, {"in force", s.Active}, {"started", strings.TrimSpace(moment(s.Started) + " " + s.Who)}}
	if s.Why != "" {
		rows = append(rows, [2]string{"why", s.Why})
	}
	if s.Since.After(s.Started) {
		rows = append(rows, [2]string{"counted", "since " + moment(s.Since) + ", when the policy in force changed"})
	}
	rows = append(rows, [2]string{"compared", shadowCompared(s.Report)}, [2]string{"clean", shadowClean(s.Report)})
	if changes := shadowChanges(s.Changes); changes != "" {
		rows = append(rows, [2]string{"changes", changes})
	}
	if s.Unnamed > 0 {
		rows = append(rows, [2]string{"not listed", fmt.Sprintf("%d more differences, for which there was no room", s.Unnamed)})
	}
	if s.Latency.Candidate.P50 > 0 {
		rows = append(rows, [2]string{"latency", "in force " + shadowLatency(s.Latency.Active) + "; candidate " + shadowLatency(s.Latency.Candidate)})
	}
	return rows
}

func shadowCompared(r *shadow.Report) string {
	text := fmt.Sprintf("%d decisions", r.Compared)
	if r.Dropped > 0 {
		text += fmt.Sprintf("; there was no time for %d more", r.Dropped)
	}
	return text
}

func shadowClean(r *shadow.Report) string {
	switch {
	case r.Clean:
		return "yes, since " + moment(r.CleanSince)
	case r.Compared == 0:
		return "not known: nothing was compared yet"
	}
	return "no: access would have differed, last " + moment(r.CleanSince)
}

func shadowChanges(changes map[review.Change]uint64) string {
	var words []string
	for _, change := range review.Changes() {
		if n := changes[change]; n > 0 {
			words = append(words, fmt.Sprintf("%s %d", change, n))
		}
	}
	return strings.Join(words, ", ")
}

func shadowAnswer(a shadow.Answer) string {
	text := "no"
	if a.Allow {
		text = "yes"
	}
	if a.Reason != "" && !a.Allow {
		text += ", " + a.Reason
	}
	if a.Rule != "" {
		text += " (" + a.Rule + ")"
	}
	return text
}

func shadowExamples(examples []shadow.Example) string {
	var words []string
	for _, e := range examples {
		words = append(words, cmp.Or(e.Person.Name, e.Person.ID)+" "+e.Record)
	}
	return strings.Join(words, ", ")
}

func shadowLatency(p shadow.Percentiles) string {
	round := func(d time.Duration) string { return d.Round(100 * time.Nanosecond).String() }
	return fmt.Sprintf("%s (95 %% %s, 99 %% %s)", round(p.P50), round(p.P95), round(p.P99))
}
