package main

import (
	"fmt"
	"io"
	"time"

	"sallyport/gateway/admin"
)

type certificateCommand struct {
	List   certificateListCommand   `cmd:"" help:"List the certificates that are obtained by ACME, and how that goes."`
	Renew  certificateRenewCommand  `cmd:"" help:"Replace a host's certificate now, with a new key."`
	Revoke certificateRevokeCommand `cmd:"" help:"Have the authority revoke a host's certificate, and get another one."`
}

type certificateListCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *certificateListCommand) Run(in *invocation) error {
	return withGateway(in, c.JSON, func(g *admin.Client) ([]admin.Renewal, error) { return g.Renewals(in.ctx) })
}

type certificateRenewCommand struct {
	Host string `arg:"" help:"The host."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Run returns when the new certificate is served, or it is known why there is none.
func (c *certificateRenewCommand) Run(in *invocation) error {
	return withGateway(in, c.JSON, func(g *admin.Client) ([]admin.Renewal, error) { return g.Renew(in.ctx, admin.Renew{Host: c.Host}) })
}

type certificateRevokeCommand struct {
	Host   string `arg:"" help:"The host."`
	Reason string `help:"Why: unspecified, key-compromise, superseded, affiliation-changed or cessation-of-operation." default:"unspecified" placeholder:"WHY"`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *certificateRevokeCommand) Run(in *invocation) error {
	return withGateway(in, c.JSON, func(g *admin.Client) ([]admin.Renewal, error) {
		return g.RevokeCertificate(in.ctx, admin.Revocation{Host: c.Host, Reason: c.Reason})
	})
}

// withGateway asks the running gateway and prints its certificates.
func withGateway(in *invocation, asJSON bool, ask func(*admin.Client) ([]admin.Renewal, error)) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	list, err := ask(gateway)
	if err != nil {
		return answered(err)
	}
	return printRenewals(in.out, list, asJSON)
}

func printRenewals(out io.Writer, list []admin.Renewal, asJSON bool) error {
	if asJSON {
		return printJSON(out, list)
	}
	return printTable(out, renewalHead, renewalRows(list))
}

var renewalHead = []string{"HOST", "KEY", "VALID UNTIL", "RENEWAL", "LAST ERROR"}

func renewalRows(list []admin.Renewal) [][]string {
	var rows [][]string
	for _, r := range list {
		rows = append(rows, []string{r.Host, r.Key, dateOr(r.NotAfter, "none yet"), renewal(r), r.Error})
	}
	return rows
}

// renewal says how the next certificate is coming.
func renewal(r admin.Renewal) string {
	switch {
	case r.Failures > 0:
		return fmt.Sprintf("FAILED, %d in a row, last %s, again %s", r.Failures, moment(r.Failed), dateOr(r.NextAt, "now"))
	case r.UnderWay:
		return "under way"
	case r.Advised:
		return dateOr(r.NextAt, "now") + ", as advised"
	}
	return dateOr(r.NextAt, "now")
}

func dateOr(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return moment(t)
}
