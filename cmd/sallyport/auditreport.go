package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter"
	"sallyport/audit/report"
	"sallyport/gateway/admin"
	"sallyport/gateway/boot"
	"sallyport/gateway/config"
	"sallyport/policy"
)

type auditReportCommand struct {
	Kind     string        `arg:"" help:"access-review: who may use what, by which rule, and whether they do. unused: access that nobody uses. summary: what happened in a period. controls: which records support evidence for which control." enum:"access-review,unused,summary,controls"`
	From     instant       `help:"The period's begin: 2026-11-30, 2026-11-30T08:00 (UTC) or with a zone, 2026-11-30T08:00:00+01:00. Default: the oldest record." placeholder:"TIME"`
	To       instant       `help:"The period's end, which does not belong to it. Default: now." placeholder:"TIME"`
	Since    time.Duration `help:"The period begins so long ago, such as 2160h." placeholder:"DURATION"`
	Days     int           `help:"How far back from the end a use counts as one of late." default:"90" placeholder:"COUNT"`
	Where    string        `help:"Of the records that meet this condition only." placeholder:"EXPRESSION"`
	Format   string        `help:"html is one page without scripts, to be read and printed." enum:"html,csv,json" default:"html"`
	Disclose bool          `help:"Show e-mail addresses and account names. It takes a permission, and is on record."`
	Out      string        `short:"o" help:"Write to this file, which appears when it is complete. Default: standard output." placeholder:"FILE" type:"path"`
}

func (c *auditReportCommand) Run(in *invocation) error {
	options, where, err := c.options(time.Now())
	if err != nil {
		return err
	}
	apps, cfg, err := reportedApps(in.ctx, in.file)
	if err != nil {
		return err
	}
	options.Apps, options.Gateway = apps, cfg.Domain
	reading := admin.Reading{Command: "report " + c.Kind, Log: "both", Filter: c.described(), Disclose: c.Disclose}
	places, err := in.announce(reading)
	if err != nil {
		return err
	}
	source, err := openSource(places.Audit.Dir)
	if err != nil {
		return err
	}
	defer source.Close()
	for _, log := range logsOf("both") {
		signed, checkpoint, err := source.Checkpoint(log)
		if _, none := errors.AsType[no](err); none {
			continue
		}
		if err != nil {
			return err
		}
		options.Checkpoints = append(options.Checkpoints, report.Checkpoint{Log: log, Origin: checkpoint.Origin, Size: checkpoint.Size, Root: checkpoint.Root.String(), Signed: string(signed)})
	}
	bar := newProgress(in.errOut)
	made, err := report.Build(in.ctx, report.Kind(c.Kind), source.all(in.ctx, where, bar), options)
	bar.close()
	if err != nil {
		return err
	}
	out, err := openOutput(in.out, c.Out)
	if err != nil {
		return err
	}
	if err := made.Write(out, c.Format); err != nil {
		return errors.Join(err, out.abandon())
	}
	return out.complete()
}

func (c *auditReportCommand) options(now time.Time) (report.Options, *filter.Filter, error) {
	o := report.Options{From: c.From.Time, To: c.To.Time, Days: c.Days, Disclose: c.Disclose, Query: c.Where, Program: "sallyport " + version}
	if o.To.IsZero() {
		o.To = now.Truncate(time.Second).Add(time.Second) // this second included
	}
	if c.Since != 0 {
		if !c.From.IsZero() {
			return o, nil, errors.New("--from and --since say the same: give one")
		}
		o.From = o.To.Add(-c.Since)
	}
	if c.Days < 1 {
		return o, nil, errors.New("--days counts days: it is at least 1")
	}
	where, err := filter.Compile(c.Where)
	if err != nil {
		return o, nil, fmt.Errorf("--where: %w", err)
	}
	return o, where, nil
}

func (c *auditReportCommand) described() map[string]string {
	all := map[string]string{"from": c.From.String(), "to": c.To.String(), "where": c.Where}
	if c.Since != 0 {
		all["since"] = c.Since.String()
	}
	for name, value := range all {
		if value == "" {
			delete(all, name)
		}
	}
	return all
}

// all yields both logs, one after the other.
func (s *auditSource) all(ctx context.Context, where *filter.Filter, bar *progress) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		n := uint64(0)
		for _, log := range logsOf("both") {
			for entry, err := range chosenFrom(ctx, s.logs[log], where, 0) {
				n++
				bar.count(n)
				if !yield(entry, err) {
					return
				}
			}
		}
	}
}

// reportedApps are the apps of the configuration with their rules, as reports show them.
func reportedApps(ctx context.Context, path string) ([]report.App, *config.Config, error) {
	cfg, engine, err := boot.Policy(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	var apps []report.App
	for _, app := range cfg.Apps {
		made := report.App{Name: string(app.Name), Title: app.DisplayName(), Owner: app.Owner, Sensitivity: app.Sensitivity, Own: engine.Own(string(app.Name)),
			Controls: report.ControlsOf(app.Labels)}
		for i, rule := range app.Access {
			made.Rules = append(made.Rules, report.Rule{ID: app.Access.ID(i), Description: rule.Description, Groups: rule.Groups, Emails: rule.Emails, Domains: rule.Domains,
				Public: rule.Public, Conditions: conditions(rule), Controls: rule.Controls})
		}
		apps = append(apps, made)
	}
	return apps, cfg, nil
}

// conditions are what a rule asks besides who, in words.
func conditions(r policy.Rule) []string {
	var words []string
	say := func(condition bool, format string, args ...any) {
		if condition {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	say(len(r.Methods) > 0, "%s only", strings.Join(r.Methods, ", "))
	say(len(r.Paths) > 0, "below %s", strings.Join(r.Paths, ", "))
	say(r.MFA, "several factors")
	say(len(r.ACR) > 0, "assurance %s", strings.Join(r.ACR, " or "))
	say(r.MaxAge > 0, "signed in less than %v ago", r.MaxAge)
	if r.Hours != nil {
		say(true, "%s", r.Hours)
	}
	var networks []string
	for _, n := range r.Networks {
		networks = append(networks, n.String())
	}
	say(len(networks) > 0, "from %s", strings.Join(networks, ", "))
	return words
}
