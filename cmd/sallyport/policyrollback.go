package main

import (
	"strings"
	"time"

	"sallyport/gateway/admin"
)

// policyListCommand lists the policies that the running gateway keeps.
type policyListCommand struct {
	JSON bool `help:"Print JSON."`
}

// Run prints them, the last used first.
func (c *policyListCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	list, err := gateway.Policies(in.ctx)
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return printJSON(in.out, list)
	}
	var rows [][]string
	for _, k := range list {
		rows = append(rows, []string{shortDigest(k.Digest), policyState(k), moment(k.Used), k.Revision, k.Who, k.Why})
	}
	return printTable(in.out, []string{"DIGEST", "STATE", "LAST USED", "REVISION", "BY", "WHY"}, rows)
}

func policyState(k admin.KeptPolicy) string {
	switch {
	case k.Active && k.Pinned:
		return "active, pinned"
	case k.Active:
		return "active"
	case k.Used.IsZero():
		return "never used"
	}
	return "kept"
}

// shortDigest is as much of a digest as commands ask for.
func shortDigest(digest string) string {
	digits := strings.TrimPrefix(digest, "sha256:")
	return digits[:min(len(digits), 12)]
}

// policyRollbackCommand puts a kept policy in force again.
type policyRollbackCommand struct {
	Digest string `arg:"" optional:"" help:"The policy, by twelve digits of its digest or more. Default: the one that was in force before."`
	Why    string `help:"Why, for the record."`
}

// Run pins it.
func (c *policyRollbackCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	if err := gateway.UsePolicy(in.ctx, admin.PolicyUse{Digest: c.Digest, Why: c.Why}); err != nil {
		return answered(err)
	}
	return in.sayPolicy(gateway)
}

// policyUnpinCommand lets the configured policy come into force again.
type policyUnpinCommand struct {
	Why string `help:"Why, for the record."`
}

// Run ends the pin.
func (c *policyUnpinCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	if err := gateway.ReleasePolicy(in.ctx, admin.PolicyRelease{Why: c.Why}); err != nil {
		return answered(err)
	}
	return in.sayPolicy(gateway)
}

// sayPolicy tells people which policy is in force now.
func (in *invocation) sayPolicy(gateway *admin.Client) error {
	status, err := gateway.Status(in.ctx)
	if err != nil {
		return err
	}
	in.say("In force: %s", policyLine(status.Policy))
	return nil
}

// policyLine is the policy in force, in one line.
func policyLine(p admin.PolicyStatus) string {
	line := strings.TrimSpace(p.Digest + " " + p.Revision)
	if p.Pinned != nil {
		line += ", PINNED by " + p.Pinned.Who + " " + moment(p.Pinned.Since)
		if p.Pinned.Why != "" {
			line += " (" + p.Pinned.Why + ")"
		}
	}
	return line
}

// policyRows is what status says of the policy.
func policyRows(p admin.PolicyStatus) [][]string {
	rows := [][]string{{"policy", policyLine(p)}}
	if p.Configured != "" {
		rows = append(rows, []string{"", "configured is " + p.Configured + ": sallyport policy unpin puts it in force"})
	}
	if p.Candidate != "" {
		rows = append(rows, []string{"", "tried beside it: " + p.Candidate + " (sallyport policy shadow status)"})
	}
	for i, line := range strings.Split(p.Error, "\n") {
		if i == 0 && line != "" {
			rows = append(rows, []string{"last policy", "refused " + p.Failed.Local().Format(time.DateTime) + "; the one before it is in force"})
		}
		if line != "" {
			rows = append(rows, []string{"", line})
		}
	}
	return rows
}
