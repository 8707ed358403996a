package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"sallyport/gateway/admin"
)

type statusCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run exits with 0 when the gateway is ready and 1 when it is not.
func (c *statusCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	status, err := gateway.Status(in.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(in.out, status)
	} else {
		err = printStatus(in.out, status, time.Now())
	}
	if err == nil && !status.Ready {
		return no{errors.New("the gateway is not ready: " + status.Why)}
	}
	return err
}

func printStatus(out io.Writer, s admin.Status, now time.Time) error {
	if err := printTable(out, []string{"WHAT", "STATE"}, summary(s, now)); err != nil {
		return err
	}
	for _, list := range []struct {
		head []string
		rows [][]string
	}{
		{[]string{"CERTIFICATE", "NAMES", "VALID UNTIL", "KEY"}, certificateRows(s.Certificates, now)},
		{renewalHead, renewalRows(s.Renewals)},
		{[]string{"CLIENT AUTHORITY", "VALID UNTIL", "REVOKED", "NEXT LIST"}, clientAuthorityRows(s.ClientAuthorities)},
		{[]string{"PROVIDER", "STATE"}, providerRows(s.Providers)},
		{upstreamHead, upstreamRows(s.Upstreams)},
		{[]string{"SINK", "STATE", "BEHIND", "DELIVERED"}, sinkRows(s.Audit.Sinks)},
	} {
		if len(list.rows) == 0 {
			continue
		}
		fmt.Fprintln(out)
		if err := printTable(out, list.head, list.rows); err != nil {
			return err
		}
	}
	return nil
}

func summary(s admin.Status, now time.Time) [][]string {
	rows := [][]string{
		{"gateway", state(s.Ready, s.Why) + ", version " + s.Version + ", up " + ago(s.Started, now)},
		{"configuration", s.Config.Path + ", loaded " + moment(s.Config.Loaded)},
		{"", s.Config.Digest},
	}
	rows = append(rows, policyRows(s.Policy)...)
	rows = append(rows, [][]string{
		{"keys", s.Keys.Mode + ", " + state(s.Keys.Ready, s.Keys.Why)},
		{"audit", fmt.Sprintf("%s, %d decision and %d control records, %d and %d of them signed", state(s.Audit.Healthy, s.Audit.Why), s.Audit.Decisions, s.Audit.Control,
			s.Audit.SignedDecisions, s.Audit.SignedControl)},
		{"sessions", strconv.Itoa(s.Session.Active)},
		{"cache", cacheLine(s.Cache)},
		{"spool", spoolLine(s.Spool)},
	}...)
	for i, line := range strings.Split(s.Config.Error, "\n") {
		if i == 0 && line != "" {
			rows = append(rows, []string{"last reload", "failed " + moment(s.Config.Failed) + "; the configuration before it is in effect"})
		}
		if line != "" {
			rows = append(rows, []string{"", line})
		}
	}
	return rows
}

func clientAuthorityRows(list []admin.ClientAuthority) (rows [][]string) {
	for _, a := range list {
		until, revoked, next := moment(a.NotAfter), "-", "-"
		if a.Revocation != "" {
			revoked, next = strconv.Itoa(a.Revoked), moment(a.NextUpdate)
		}
		if !a.Counts {
			next += ", ITS CERTIFICATES DO NOT COUNT"
		}
		rows = append(rows, []string{a.Subject, until, revoked, next})
	}
	return rows
}

func cacheLine(c admin.CacheStatus) string {
	if !c.Enabled {
		return "no memory"
	}
	return fmt.Sprintf("%d answers, %s; %d hits, %d misses", c.Entries, size(c.Bytes), c.Hits, c.Misses)
}

func spoolLine(s admin.SpoolStatus) string {
	line := fmt.Sprintf("%d bodies, %s in memory, %s on disk", s.Bodies, size(s.Memory), size(s.Disk))
	if s.Stalled > 0 {
		line += fmt.Sprintf(", %d WAIT FOR ROOM", s.Stalled)
	}
	return line
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return strconv.FormatInt(n, 10) + " B"
	case n < 1<<20:
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
}

func state(good bool, why string) string {
	if good {
		return "ready"
	}
	return "NOT READY: " + why
}

func certificateRows(certificates []admin.Certificate, now time.Time) [][]string {
	var rows [][]string
	for _, c := range certificates {
		until := moment(c.NotAfter)
		switch {
		case c.NotAfter.Before(now):
			until += " EXPIRED"
		case c.State == "expires_soon":
			until += fmt.Sprintf(" EXPIRES IN %d DAYS", c.DaysLeft)
		}
		rows = append(rows, []string{c.File, strings.Join(c.Names, " "), until, c.Key})
	}
	return rows
}

func sinkRows(sinks []admin.SinkStatus) [][]string {
	var rows [][]string
	for _, s := range sinks {
		how := "ready"
		if s.Error != "" {
			how = "FAILING since " + moment(s.Failing) + ": " + s.Error
		}
		rows = append(rows, []string{s.Name, how, strconv.FormatUint(s.Lag, 10), strconv.FormatUint(s.Delivered, 10)})
	}
	return rows
}

func providerRows(providers []admin.Provider) [][]string {
	var rows [][]string
	for _, p := range providers {
		rows = append(rows, []string{p.Name, state(p.Ready, p.Why)})
	}
	return rows
}
