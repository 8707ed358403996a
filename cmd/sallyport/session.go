package main

import (
	"errors"
	"strings"
	"time"

	"sallyport/gateway/admin"
)

type sessionCommand struct {
	List   sessionListCommand   `cmd:"" help:"List who is signed in."`
	Revoke sessionRevokeCommand `cmd:"" help:"End sessions, everywhere and at once."`
}

// sessionFilter selects sessions; what is given must all hold.
type sessionFilter struct {
	ID       string `arg:"" optional:"" help:"The session with this id."`
	User     string `help:"Sessions of this e-mail address, or of this provider|subject." placeholder:"WHO"`
	Provider string `help:"Sessions signed in with this provider." placeholder:"NAME"`
	Host     string `help:"Sessions that were used on this app host." placeholder:"HOST"`
}

func (f *sessionFilter) filter() admin.Filter {
	filter := admin.Filter{ID: f.ID, Provider: f.Provider, Host: f.Host}
	if strings.Contains(f.User, "|") {
		filter.Subject = f.User
	} else {
		filter.Email = f.User
	}
	return filter
}

type sessionListCommand struct {
	sessionFilter
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *sessionListCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	found, err := gateway.Sessions(in.ctx, c.filter())
	if err != nil {
		return answered(err)
	}
	return printSessions(in, found, c.JSON)
}

type sessionRevokeCommand struct {
	sessionFilter
	OlderThan time.Duration `help:"Sessions that signed in at least this long ago."`
	All       bool          `help:"Every session."`
	JSON      bool          `name:"json" help:"Print JSON."`
}

// Run exits with 1 when there was nothing to end.
func (c *sessionRevokeCommand) Run(in *invocation) error {
	filter := c.filter()
	filter.OlderThan, filter.All = int64(c.OlderThan/time.Second), c.All
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	ended, err := gateway.Revoke(in.ctx, filter)
	if err != nil {
		return answered(err)
	}
	if err := printSessions(in, ended, c.JSON); err != nil {
		return err
	}
	if len(ended) == 0 {
		return no{errors.New("no session matches")}
	}
	return nil
}

func printSessions(in *invocation, sessions []admin.Session, asJSON bool) error {
	if asJSON {
		return printJSON(in.out, sessions)
	}
	now := time.Now()
	rows := make([][]string, 0, len(sessions))
	for _, s := range sessions {
		who := s.Email
		if who == "" {
			who = s.Subject
		}
		rows = append(rows, []string{s.ID, who, ago(s.Created, now), ago(s.Seen, now), s.Address, s.UserAgent})
	}
	return printTable(in.out, []string{"SESSION", "WHO", "SIGNED IN", "SEEN", "ADDRESS", "BROWSER"}, rows)
}
