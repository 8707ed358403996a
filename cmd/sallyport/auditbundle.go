package main

import (
	"errors"
	"fmt"
	"time"

	"sallyport/audit/evidence"
	"sallyport/audit/filter"
	"sallyport/gateway/admin"
)

type auditBundleCommand struct {
	From         instant       `help:"The period's begin: 2026-11-30, 2026-11-30T08:00 (UTC) or with a zone, 2026-11-30T08:00:00+01:00. Default: the oldest record." placeholder:"TIME"`
	To           instant       `help:"The period's end, which does not belong to it. Default: the newest signed record." placeholder:"TIME"`
	Since        time.Duration `help:"The period begins so long ago, such as 24h." placeholder:"DURATION"`
	Log          string        `help:"Which log: decision, control or both." enum:"decision,control,both" default:"both"`
	Where        string        `help:"Which records of the period are the answer, such as 'app == \"payroll\"'. The others are there too, so that nobody has to believe that none was left out." placeholder:"EXPRESSION"`
	OnlyMatching bool          `help:"With --where: of the other records only the hashes, so that their contents stay here."`
	For          string        `help:"For whom or what the bundle is made; stands in the manifest." placeholder:"TEXT"`
	Out          string        `required:"" short:"o" help:"The bundle to write, a zip file. It appears when it is complete." placeholder:"FILE" type:"path"`
}

func (c *auditBundleCommand) Run(in *invocation) error {
	options, err := c.options(time.Now())
	if err != nil {
		return err
	}
	reading := admin.Reading{Command: "bundle", Log: c.Log, Filter: c.described(), Disclose: true}
	places, err := in.announce(reading)
	if err != nil {
		return err
	}
	bar := newProgress(in.errOut)
	options.Progress = func(done, total uint64) { bar.show(int64(done), int64(total), "records", done) }
	options.Sign = func(sum [32]byte) ([]byte, error) { return signManifest(in.ctx, places, sum) }
	source, err := openSource(places.Audit.Dir)
	if err != nil {
		return err
	}
	defer source.Close()
	out, err := openOutput(nil, c.Out)
	if err != nil {
		return err
	}
	manifest, err := evidence.Write(in.ctx, out, source, options)
	bar.close()
	if err != nil {
		return errors.Join(err, out.abandon())
	}
	if err := out.complete(); err != nil {
		return err
	}
	for _, log := range manifest.Logs {
		in.say("%s log: records %d to %d", log.Log, log.First, log.End)
	}
	in.say("verify it with: sallyport audit verify %s --trust FILE", c.Out)
	return nil
}

func (c *auditBundleCommand) options(now time.Time) (evidence.Options, error) {
	o := evidence.Options{From: c.From.Time, To: c.To.Time, OnlyMatching: c.OnlyMatching, Created: now.Truncate(time.Second), Who: c.For, Program: "sallyport " + version}
	if c.Since != 0 {
		if !c.From.IsZero() {
			return o, errors.New("--from and --since say the same: give one")
		}
		o.From = now.Add(-c.Since)
	}
	if c.Log != "both" {
		o.Logs = []string{c.Log}
	}
	if c.Where == "" {
		if c.OnlyMatching {
			return o, errors.New("--only-matching needs --where: otherwise every record matches")
		}
		return o, nil
	}
	where, err := filter.Compile(c.Where)
	if err != nil {
		return o, fmt.Errorf("--where: %w", err)
	}
	o.Query = where.String()
	o.Match = where.MatchesRaw
	return o, nil
}

func (c *auditBundleCommand) described() map[string]string {
	all := map[string]string{"from": c.From.String(), "to": c.To.String(), "where": c.Where, "for": c.For}
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
