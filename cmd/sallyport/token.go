package main

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"sallyport/gateway/admin"
)

type tokenCommand struct {
	List   tokenListCommand   `cmd:"" help:"List people's personal access tokens, those that ended within a month among them."`
	Revoke tokenRevokeCommand `cmd:"" help:"End personal access tokens, everywhere and at once."`
}

// tokenFilter selects tokens; what is given must all hold.
type tokenFilter struct {
	ID   string `arg:"" optional:"" help:"The token with this id."`
	User string `help:"Tokens of this e-mail address, or of this provider|subject." placeholder:"WHO"`
	App  string `help:"Tokens that name this app." placeholder:"NAME"`
}

func (f *tokenFilter) filter() admin.TokenFilter {
	filter := admin.TokenFilter{ID: f.ID, App: f.App}
	if strings.Contains(f.User, "|") {
		filter.Owner = f.User
	} else {
		filter.Email = f.User
	}
	return filter
}

type tokenListCommand struct {
	tokenFilter
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *tokenListCommand) Run(in *invocation) error {
	_, err := answerWith(in, (*admin.Client).Tokens, c.filter(), printTokens, c.JSON)
	return err
}

type tokenRevokeCommand struct {
	tokenFilter
	All  bool `help:"Every token."`
	JSON bool `name:"json" help:"Print JSON."`
}

// Run exits with 1 when there was nothing to end.
func (c *tokenRevokeCommand) Run(in *invocation) error {
	filter := c.filter()
	filter.All = c.All
	ended, err := answerWith(in, (*admin.Client).RevokeTokens, filter, printTokens, c.JSON)
	if err == nil && ended == 0 {
		return no{errors.New("no active token matches")}
	}
	return err
}

func printTokens(in *invocation, tokens []admin.Token, asJSON bool) error {
	if asJSON {
		return printJSON(in.out, tokens)
	}
	now := time.Now()
	rows := make([][]string, 0, len(tokens))
	for _, t := range tokens {
		rows = append(rows, []string{t.ID, cmp.Or(t.Email, t.Owner), t.Name, scopeText(t.Apps), scopeText(t.Methods), ago(t.Created, now), ago(t.Used, now),
			moment(t.Expires), t.State})
	}
	return printTable(in.out, []string{"TOKEN", "WHO", "NAME", "APPS", "METHODS", "MADE", "USED", "EXPIRES", "STATE"}, rows)
}

func scopeText(names []string) string {
	if len(names) == 1 && names[0] == "*" {
		return "all"
	}
	return strings.Join(names, ",")
}
