package main

import (
	"cmp"
	"fmt"
	"strings"
)

// policyCommand is everything about the policy: what it says, who it lets in, and what a change of it would change.
type policyCommand struct {
	WhoCan   policyWhoCanCommand   `cmd:"" help:"Tell who may open an app, and under which conditions."`
	WhatCan  policyWhatCanCommand  `cmd:"" help:"Tell what somebody may open, and under which conditions."`
	Activate policyActivateCommand `cmd:"" help:"Put a policy in force beside the configuration, and pin it."`
	Build    policyBuildCommand    `cmd:"" help:"Pack a policy into a bundle, and sign it."`
	Check    policyCheckCommand    `cmd:"" help:"Tell what is wrong with a policy, whether it compiles or not."`
	Diff     policyDiffCommand     `cmd:"" help:"Tell whose access a change of policy changes."`
	Explain  policyExplainCommand  `cmd:"" help:"Tell why a request is answered as it is, and what would be allowed."`
	List     policyListCommand     `cmd:"" help:"The policies that the running gateway keeps."`
	Rollback policyRollbackCommand `cmd:"" help:"Put a kept policy in force again, and pin it."`
	Unpin    policyUnpinCommand    `cmd:"" help:"Let the configured policy come into force again."`
	Shadow   policyShadowCommand   `cmd:"" help:"Try a candidate policy on live traffic."`
	Show     policyShowCommand     `cmd:"" help:"What a policy consists of."`
	Verify   policyVerifyCommand   `cmd:"" help:"Hold a bundle against its signature."`
	Test     policyTestCommand     `cmd:"" help:"Run a policy's tests and tables, and tell which rules they try."`
}

// policyShowCommand prints a policy's digest, revision, apps and what its answers depend on.
type policyShowCommand struct {
	Policy string `arg:"" optional:"" help:"The policy: ${policy}" placeholder:"POLICY"`
	JSON   bool   `help:"Print JSON."`
}

// shownPolicy is what policy show prints.
type shownPolicy struct {
	Digest   string     `json:"digest"`
	Revision string     `json:"revision"`
	OPA      string     `json:"opa"`
	Files    []string   `json:"files"` // the operator's own
	Apps     []shownApp `json:"apps"`
}

type shownApp struct {
	Name  string   `json:"name"`
	Own   bool     `json:"own"`           // a package of the operator's decides
	Reads []string `json:"reads"`         // the input fields that its decisions depend on
	Why   string   `json:"why,omitempty"` // why its answers are not remembered
}

// Run prints it.
func (c *policyShowCommand) Run(in *invocation) error {
	p, err := in.openPolicy(c.Policy)
	if err != nil {
		return err
	}
	shown := shownPolicy{Digest: p.Bundle.Digest, Revision: p.Bundle.Revision, OPA: p.Bundle.OPA, Files: []string{}, Apps: []shownApp{}}
	for _, s := range p.Bundle.Sources() {
		if s.Operators() {
			shown.Files = append(shown.Files, s.Name)
		}
	}
	for _, name := range p.Engine.Apps() {
		shown.Apps = append(shown.Apps, showApp(in, p, name))
	}
	if c.JSON {
		return printJSON(in.out, shown)
	}
	fmt.Fprintf(in.out, "digest    %s\nrevision  %s\nOPA       %s\nfiles     %s\n\n", shown.Digest, inert(shown.Revision), inert(shown.OPA),
		cmp.Or(inert(strings.Join(shown.Files, " ")), "none: the apps' access rules alone decide"))
	var rows [][]string
	for _, a := range shown.Apps {
		decides := "access rules"
		if a.Own {
			decides = "own package"
		}
		rows = append(rows, []string{a.Name, decides, strings.Join(a.Reads, " "), a.Why})
	}
	return printTable(in.out, []string{"APP", "DECIDED BY", "DEPENDS ON", "NOT REMEMBERED"}, rows)
}

func showApp(in *invocation, p *reviewed, name string) shownApp {
	shown := shownApp{Name: name, Own: p.Engine.Own(name), Reads: []string{"all"}}
	if projection, err := p.Engine.Projection(in.ctx, name); err == nil {
		shown.Reads = projection.Fields()
	}
	if _, err := p.Engine.Dependencies(in.ctx, name); err != nil {
		shown.Why = err.Error()
	}
	return shown
}
