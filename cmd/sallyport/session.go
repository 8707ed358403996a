package main

import (
	"cmp"
	"context"
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
	ID              string        `arg:"" optional:"" help:"The session with this id."`
	User            string        `help:"Sessions of this e-mail address, or of this provider|subject." placeholder:"WHO"`
	Provider        string        `help:"Sessions signed in with this provider." placeholder:"NAME"`
	ProviderSession string        `help:"Sessions that belong to this session (sid) of the provider's." placeholder:"SID"`
	App             string        `help:"Sessions that were used for this app, or for another on its host." placeholder:"NAME"`
	Host            string        `help:"Sessions that were used on this app host." placeholder:"HOST"`
	OlderThan       time.Duration `help:"Sessions that signed in at least this long ago."`
	IdleFor         time.Duration `help:"Sessions not seen for at least this long, to the minute."`
}

func (f *sessionFilter) filter() admin.Filter {
	filter := admin.Filter{
		ID: f.ID, Provider: f.Provider, ProviderSession: f.ProviderSession, App: f.App, Host: f.Host,
		OlderThan: seconds(f.OlderThan), IdleFor: seconds(f.IdleFor),
	}
	if strings.Contains(f.User, "|") {
		filter.Subject = f.User
	} else {
		filter.Email = f.User
	}
	return filter
}

// seconds rounds up, away from younger sessions: a part of a second is not nothing, which would select all.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

type sessionListCommand struct {
	sessionFilter
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *sessionListCommand) Run(in *invocation) error {
	_, err := answerWith(in, (*admin.Client).Sessions, c.filter(), printSessions, c.JSON)
	return err
}

type sessionRevokeCommand struct {
	sessionFilter
	All  bool `help:"Every session."`
	JSON bool `name:"json" help:"Print JSON."`
}

// Run exits with 1 when there was nothing to end.
func (c *sessionRevokeCommand) Run(in *invocation) error {
	filter := c.filter()
	filter.All = c.All
	ended, err := answerWith(in, (*admin.Client).Revoke, filter, printSessions, c.JSON)
	if err == nil && ended == 0 {
		return no{errors.New("no session matches")}
	}
	return err
}

// answerWith asks the gateway for what a filter selects, prints it, and returns how many it was.
func answerWith[F, T any](in *invocation, ask func(*admin.Client, context.Context, F) ([]T, error), filter F,
	print func(*invocation, []T, bool) error, asJSON bool) (int, error) {
	gateway, err := in.gateway()
	if err != nil {
		return 0, err
	}
	defer gateway.Close()
	found, err := ask(gateway, in.ctx, filter)
	if err != nil {
		return 0, answered(err)
	}
	return len(found), print(in, found, asJSON)
}

func printSessions(in *invocation, sessions []admin.Session, asJSON bool) error {
	if asJSON {
		return printJSON(in.out, sessions)
	}
	now := time.Now()
	rows := make([][]string, 0, len(sessions))
	for _, s := range sessions {
		rows = append(rows, []string{
			s.ID, cmp.Or(s.Email, s.Subject), s.Provider, ago(s.Created, now), ago(s.Seen, now), ago(s.Checked, now), s.Address,
			used(s), cmp.Or(s.Bound.UserAgent, s.UserAgent),
		})
	}
	return printTable(in.out, []string{"SESSION", "WHO", "PROVIDER", "SIGNED IN", "SEEN", "CHECKED", "ADDRESS", "USED ON", "DEVICE"}, rows)
}

// used names the hosts of a session; a session that has ended is on none.
func used(s admin.Session) string { return strings.Join(s.Hosts, " ") }
