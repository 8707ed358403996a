package main

import (
	"io"
	"strconv"
	"time"

	"sallyport/gateway/admin"
)

type upstreamCommand struct {
	List  upstreamListCommand  `cmd:"" help:"List the addresses of the apps and how they are."`
	Drain upstreamDrainCommand `cmd:"" help:"Send an address no more requests; those under way finish."`
}

type upstreamListCommand struct {
	App  string `help:"Addresses of this app." placeholder:"NAME"`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *upstreamListCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	list, err := gateway.Upstreams(in.ctx)
	if err != nil {
		return answered(err)
	}
	return printUpstreams(in.out, ofApp(list, c.App), c.JSON)
}

type upstreamDrainCommand struct {
	App     string `arg:"" help:"The app's name."`
	Address string `arg:"" help:"The address, as listed, or its id."`
	Undo    bool   `help:"Put the address back into service."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

func (c *upstreamDrainCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	list, err := gateway.Drain(in.ctx, admin.Drain{App: c.App, Address: c.Address, Undo: c.Undo})
	if err != nil {
		return answered(err)
	}
	return printUpstreams(in.out, ofApp(list, c.App), c.JSON)
}

// ofApp is the part of a list that belongs to an app, or all of it.
func ofApp(list []admin.Upstream, app string) []admin.Upstream {
	kept := []admin.Upstream{}
	for _, u := range list {
		if app == "" || u.App == app {
			kept = append(kept, u)
		}
	}
	return kept
}

var upstreamHead = []string{"APP", "ID", "UPSTREAM", "STATE", "OPEN", "REQUESTS", "FAILURES", "RETRIES", "LATENCY", "LAST ERROR"}

func printUpstreams(out io.Writer, list []admin.Upstream, asJSON bool) error {
	if asJSON {
		return printJSON(out, list)
	}
	return printTable(out, upstreamHead, upstreamRows(list))
}

func upstreamRows(upstreams []admin.Upstream) [][]string {
	var rows [][]string
	for _, u := range upstreams {
		address := u.URL
		if u.Resolved != "" {
			address += " (" + u.Resolved + ")"
		}
		state := u.State
		if u.Backup {
			state += ", backup"
		}
		rows = append(rows, []string{u.App, u.ID, address, state, strconv.FormatInt(u.Open, 10), strconv.FormatUint(u.Requests, 10),
			strconv.FormatUint(u.Failures, 10), strconv.FormatUint(u.Retries, 10), latency(u.Latency), u.Error})
	}
	return rows
}

func latency(seconds float64) string {
	if seconds == 0 {
		return ""
	}
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}
