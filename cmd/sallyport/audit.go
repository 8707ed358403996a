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
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
)

type auditCommand struct {
	Tail   auditTailCommand   `cmd:"" help:"Print the last records, and new ones as they come."`
	Query  auditQueryCommand  `cmd:"" help:"Print the records that match."`
	Export auditExportCommand `cmd:"" help:"Write the records that match, complete, for other programs."`
}

// recordFilter chooses records; what is given must all hold.
type recordFilter struct {
	Log       string        `help:"Which log: decision or control." enum:"decision,control" default:"decision"`
	From      instant       `help:"At this time or later: 2026-11-30, 2026-11-30T08:00 or with a zone, 2026-11-30T08:00:00Z." placeholder:"TIME"`
	To        instant       `help:"Before this time." placeholder:"TIME"`
	Since     time.Duration `help:"So long ago or later, such as 90m or 24h." placeholder:"DURATION"`
	User      string        `help:"About this e-mail address or provider|subject, or done by it; in the control log also an account's name." placeholder:"WHO"`
	App       string        `help:"About this app." placeholder:"NAME"`
	Effect    string        `help:"With this effect: allow, deny or reject." enum:",allow,deny,reject" default:"" placeholder:"EFFECT"`
	Reason    string        `help:"With this reason, such as policy or step_up." placeholder:"REASON"`
	RequestID string        `help:"About the request with this id, which pages show as their reference." placeholder:"ID"`
	Type      string        `help:"Of this type: decision, reevaluated, outcome, control, heartbeat, recovered, window or all. Of the decision log, tail and query print decisions unless told otherwise." placeholder:"TYPE" enum:",all,decision,reevaluated,outcome,control,heartbeat,recovered,window" default:""`
	Code      string        `help:"With this code, such as log_read, of the control log." placeholder:"CODE"`
}

// filter is the choice in the log's own terms. usual is the type when none is given.
func (f *recordFilter) filter(now time.Time, usual audit.Type) (audit.Filter, error) {
	chosen := audit.Filter{From: f.From.Time, To: f.To.Time, User: f.User, App: f.App, Effect: audit.Effect(f.Effect), Reason: f.Reason,
		RequestID: f.RequestID, Type: audit.Type(f.Type), Code: f.Code}
	if f.Since != 0 {
		if !f.From.IsZero() {
			return audit.Filter{}, errors.New("--from and --since say the same: give one")
		}
		chosen.From = now.Add(-f.Since)
	}
	switch {
	case f.Type == "all":
		chosen.Type = ""
	case f.Type == "" && f.Log == audit.DecisionLog && f.Code == "":
		chosen.Type = usual
	}
	return chosen, nil
}

// described is the choice for the control log: what was asked for, in the words of the command line.
func (f *recordFilter) described() map[string]string {
	all := map[string]string{"from": f.From.String(), "to": f.To.String(), "user": f.User, "app": f.App, "effect": f.Effect,
		"reason": f.Reason, "request_id": f.RequestID, "type": f.Type, "code": f.Code}
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
	filter, err := c.filter(time.Now(), audit.TypeDecision)
	if err != nil {
		return err
	}
	filter.Last = c.Lines
	if c.Lines == 0 {
		filter.Last = -1
	}
	return in.readLog("tail", &c.recordFilter, c.JSON, func(ctx context.Context, log *audit.Reader) iter.Seq2[audit.Entry, error] {
		if c.Follow {
			return log.Follow(ctx, filter)
		}
		return log.All(ctx, filter)
	})
}

type auditQueryCommand struct {
	recordFilter
	JSON bool `name:"json" help:"Print records as JSON, one a line."`
}

func (c *auditQueryCommand) Run(in *invocation) error {
	filter, err := c.filter(time.Now(), audit.TypeDecision)
	if err != nil {
		return err
	}
	return in.readLog("query", &c.recordFilter, c.JSON, func(ctx context.Context, log *audit.Reader) iter.Seq2[audit.Entry, error] {
		return log.All(ctx, filter)
	})
}

type auditExportCommand struct {
	recordFilter
	Format string `help:"How to write: jsonl is one JSON object a line." enum:"jsonl" default:"jsonl"`
}

func (c *auditExportCommand) Run(in *invocation) error {
	filter, err := c.filter(time.Now(), "")
	if err != nil {
		return err
	}
	return in.readLog("export", &c.recordFilter, true, func(ctx context.Context, log *audit.Reader) iter.Seq2[audit.Entry, error] {
		return log.All(ctx, filter)
	})
}

// readLog announces the read, and only then reads and prints.
func (in *invocation) readLog(command string, f *recordFilter, asJSON bool, choose func(context.Context, *audit.Reader) iter.Seq2[audit.Entry, error]) error {
	places, err := config.Find(in.file, os.LookupEnv)
	if err != nil {
		return err
	}
	if err := announce(in.ctx, places, admin.Reading{Command: command, Log: f.Log, Filter: f.described()}); err != nil {
		return fmt.Errorf("the log is not read, because the read cannot be put on record: %w", err)
	}
	log, err := audit.OpenReader(places.Audit.Dir, f.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	print := newRecordPrinter(in.out, f.Log, asJSON)
	for entry, err := range choose(in.ctx, log) {
		if err != nil {
			return err
		}
		if err := print.entry(entry); err != nil {
			return fmt.Errorf("printing records: %w", err)
		}
	}
	return print.close()
}

// announce puts on record what is about to be read: through the running gateway or, when none runs, by holding the log
// for a moment.
func announce(ctx context.Context, places config.Places, reading admin.Reading) error {
	gateway := admin.NewClient(places.Admin.Socket)
	defer gateway.Close()
	err := gateway.AnnounceRead(ctx, reading)
	if !errors.Is(err, admin.ErrNoGateway) {
		return err
	}
	if err := mayWrite(places.Audit.Dir); err != nil {
		return err
	}
	detail, err := json.Marshal(reading)
	if err != nil {
		return err
	}
	record := &audit.Record{Type: audit.TypeControl, Code: admin.CodeRead, Actor: admin.Account(uint32(os.Getuid())), Detail: detail}
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

// UnmarshalText reads a date, a time of day on it, or both with a zone (RFC 3339). Without a zone it is meant here.
func (i *instant) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, string(text), time.Local); err == nil {
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
