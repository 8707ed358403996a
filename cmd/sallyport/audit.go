package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter"
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
)

type auditCommand struct {
	Tail    auditTailCommand    `cmd:"" help:"Print the last records, and new ones as they come."`
	Query   auditQueryCommand   `cmd:"" help:"Print the records that match."`
	Export  auditExportCommand  `cmd:"" help:"Write the records that match for other programs: JSON lines, CSV, OCSF, CEF or syslog."`
	Bundle  auditBundleCommand  `cmd:"" help:"Write an evidence bundle: records of a period with all that is needed to verify them."`
	Corpus  auditCorpusCommand  `cmd:"" help:"Write the distinct requests of the log, without names: what changes of the policy are tried on elsewhere."`
	Copy    auditCopyCommand    `cmd:"" help:"Copy the logs for an auditor, as they are at one moment, also beside a running gateway."`
	Verify  auditVerifyCommand  `cmd:"" help:"Verify a copy of an audit directory, a live one, an evidence bundle or a proof, offline."`
	Prove   auditProveCommand   `cmd:"" help:"Print the proof that a record is in the log."`
	Receipt auditReceiptCommand `cmd:"" help:"Print the signed checkpoints of this moment, to be kept where nobody can reach them from here."`
	Trust   auditTrustCommand   `cmd:"" help:"Print the keys that checkpoints and bundles are signed with: the beginning of a trust file."`
	Tiles   auditTilesCommand   `cmd:"" help:"Write a log as a static folder for monitors and witnesses (C2SP tlog-tiles)."`
	Report  auditReportCommand  `cmd:"" help:"Reports: access review, unused access, summary of a period, evidence for controls."`
	Review  auditReviewCommand  `cmd:"" help:"Put on record what a review of somebody's access found."`
	Fields  auditFieldsCommand  `cmd:"" help:"Print the fields that conditions (--where) can ask about."`
	Reindex auditReindexCommand `cmd:"" help:"Build the searchable copy of the log anew."`
}

// recordFilter chooses records; what is given must all hold.
type recordFilter struct {
	Log       string        `help:"Which log: decision or control." enum:"decision,control" default:"decision"`
	From      instant       `help:"At this time or later: 2026-11-30, 2026-11-30T08:00 (UTC) or with a zone, 2026-11-30T08:00:00+01:00." placeholder:"TIME"`
	To        instant       `help:"Before this time." placeholder:"TIME"`
	Since     time.Duration `help:"So long ago or later, such as 90m or 24h." placeholder:"DURATION"`
	User      string        `help:"About this e-mail address or provider|subject, or done by it; in the control log also an account's name." placeholder:"WHO"`
	App       string        `help:"About this app." placeholder:"NAME"`
	Effect    *string       `help:"With this effect: allow, deny or reject." enum:"allow,deny,reject" placeholder:"EFFECT"`
	Reason    string        `help:"With this reason, such as policy or step_up." placeholder:"REASON"`
	RequestID string        `help:"About the request with this id, which pages show as their reference." placeholder:"ID"`
	Type      *string       `help:"Of this type: decision, reevaluated, outcome, control, heartbeat, recovered, window or all. Of the decision log, tail and query print decisions, unless told otherwise or given --where." placeholder:"TYPE" enum:"all,decision,reevaluated,outcome,control,heartbeat,recovered,window"`
	Code      string        `help:"With this code, such as log_read, of the control log." placeholder:"CODE"`
	Where     string        `help:"Also meeting this condition, such as 'app == \"payroll\" && effect != \"allow\"'; sallyport audit fields lists what it can ask." placeholder:"EXPRESSION"`
}

// filter is the choice, compiled. usual is the type when none is given.
func (f *recordFilter) filter(now time.Time, usual audit.Type) (*filter.Filter, error) {
	chosen := audit.Filter{From: f.From.Time, To: f.To.Time, User: f.User, App: f.App, Effect: audit.Effect(given(f.Effect)), Reason: f.Reason,
		RequestID: f.RequestID, Type: audit.Type(given(f.Type)), Code: f.Code}
	if f.Since != 0 {
		if !f.From.IsZero() {
			return nil, errors.New("--from and --since say the same: give one")
		}
		chosen.From = now.Add(-f.Since)
	}
	if !chosen.From.IsZero() && !chosen.To.IsZero() && !chosen.From.Before(chosen.To) {
		return nil, errors.New("the period ends before it begins: see --from and --to")
	}
	switch {
	case chosen.Type == "all":
		chosen.Type = ""
	case f.Type == nil && f.Log == audit.DecisionLog && f.Code == "" && f.Where == "":
		chosen.Type = usual
	}
	flags, err := filter.From(chosen)
	if err != nil {
		return nil, err
	}
	where, err := filter.Compile(f.Where)
	if err != nil {
		return nil, fmt.Errorf("--where: %w", err)
	}
	return filter.And(flags, where)
}

// described is the choice for the control log: what was asked for, in the words of the command line.
func (f *recordFilter) described() map[string]string {
	all := map[string]string{"from": f.From.String(), "to": f.To.String(), "user": f.User, "app": f.App, "effect": given(f.Effect),
		"reason": f.Reason, "request_id": f.RequestID, "type": given(f.Type), "code": f.Code, "where": f.Where}
	if f.Since != 0 {
		all["since"] = f.Since.String()
	}
	for name, value := range all {
		if value == "" {
			delete(all, name)
		}
	}
	return all
}

// given is the value of a flag, or nothing without it.
func given(flag *string) string {
	if flag == nil {
		return ""
	}
	return *flag
}

type auditTailCommand struct {
	recordFilter
	Follow bool `short:"f" help:"Go on with new records until interrupted."`
	Lines  int  `short:"n" help:"How many of the last records to print first." default:"20" placeholder:"COUNT"`
	JSON   bool `name:"json" help:"Print records as JSON, one a line."`
}

func (c *auditTailCommand) Run(in *invocation) error {
	if c.Lines < 0 {
		return errors.New("-n counts records: it is not negative")
	}
	chosen, err := c.filter(time.Now(), audit.TypeDecision)
	if err != nil {
		return err
	}
	f := chosen.Audit()
	f.Last = c.Lines
	if c.Lines == 0 {
		f.Last = -1
	}
	places, err := in.announce(admin.Reading{Command: "tail", Log: c.Log, Filter: c.described()})
	if err != nil {
		return err
	}
	log, err := audit.OpenReader(places.Audit.Dir, c.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	if c.Follow {
		return in.printRecords(log.Follow(in.ctx, f), c.Log, c.JSON)
	}
	return in.printRecords(log.All(in.ctx, f), c.Log, c.JSON)
}

type auditQueryCommand struct {
	recordFilter
	Limit int  `help:"Print no more than the newest so many." placeholder:"COUNT"`
	JSON  bool `name:"json" help:"Print records as JSON, one a line."`
}

func (c *auditQueryCommand) Run(in *invocation) error {
	if c.Limit < 0 {
		return errors.New("--limit counts records: it is not negative")
	}
	chosen, err := c.filter(time.Now(), audit.TypeDecision)
	if err != nil {
		return err
	}
	places, err := in.announce(admin.Reading{Command: "query", Log: c.Log, Filter: c.described()})
	if err != nil {
		return err
	}
	log, err := audit.OpenReader(places.Audit.Dir, c.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	return in.printRecords(in.query(log, places, c.Log, chosen, c.Limit), c.Log, c.JSON)
}

type auditFieldsCommand struct{}

func (c *auditFieldsCommand) Run(in *invocation) error {
	var rows [][]string
	for _, f := range filter.Fields() {
		rows = append(rows, []string{string(f.Name), string(f.Kind), f.Doc})
	}
	return printTable(in.out, []string{"FIELD", "TYPE", "MEANING"}, rows)
}

// printRecords prints records as they come.
func (in *invocation) printRecords(records iter.Seq2[audit.Entry, error], log string, asJSON bool) error {
	print := newRecordPrinter(in.out, log, asJSON)
	for entry, err := range records {
		if err != nil {
			return err
		}
		if err := print.entry(entry); err != nil {
			return fmt.Errorf("printing records: %w", err)
		}
	}
	return print.close()
}

// announce puts on record what is about to be read, and only then tells where it is: through the running gateway or,
// when none runs, by holding the log for a moment.
func (in *invocation) announce(reading admin.Reading) (config.Places, error) {
	places, err := config.Find(in.file, os.LookupEnv)
	if err != nil {
		return config.Places{}, err
	}
	if err := announceAt(in.ctx, places, reading); err != nil {
		return config.Places{}, fmt.Errorf("the log is not read, because the read cannot be put on record: %w", err)
	}
	return places, nil
}

func announceAt(ctx context.Context, places config.Places, reading admin.Reading) error {
	gateway := admin.NewClient(places.Admin.Socket)
	defer gateway.Close()
	err := gateway.AnnounceRead(ctx, reading)
	if !errors.Is(err, admin.ErrNoGateway) {
		return err
	}
	return recordAlone(ctx, places, admin.CodeRead, reading)
}

// recordAlone appends a control record when no gateway runs.
func recordAlone(ctx context.Context, places config.Places, code string, detail any) error {
	if err := mayWrite(places.Audit.Dir); err != nil {
		return err
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	record := &audit.Record{Type: audit.TypeControl, Code: code, Actor: admin.Account(uint32(os.Getuid())), Detail: text}
	_, err = audit.Announce(ctx, places.Audit, audit.Options{}, record)
	return err
}

// mayWrite keeps root from leaving files in the log that the gateway's own account could not continue.
func mayWrite(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if os.Geteuid() != 0 || owner == 0 {
		return nil
	}
	name := strconv.FormatUint(uint64(owner), 10)
	if account, err := user.LookupId(name); err == nil {
		name = account.Username
	}
	return fmt.Errorf("no gateway is running, and %s belongs to %s, who could not continue what root writes there: run this as %s", dir, name, name)
}

// instant is a moment on the command line.
type instant struct{ time.Time }

// UnmarshalText reads a date, a time of day on it, or both with a zone (RFC 3339). Without a zone it is UTC,
// as in conditions and in what is printed: a command line means the same wherever it is run.
func (i *instant) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, string(text), time.UTC); err == nil {
			i.Time = t
			return nil
		}
	}
	return fmt.Errorf("%q is no time such as 2026-11-30, 2026-11-30T08:00 or 2026-11-30T08:00:00Z", text)
}

func (i instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(time.RFC3339)
}
