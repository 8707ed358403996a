package main

import (
	"errors"
	"fmt"

	"sallyport/gateway/admin"
)

type cacheCommand struct {
	Purge cachePurgeCommand `cmd:"" help:"Drop stored answers, at once and for everybody."`
}

type cachePurgeCommand struct {
	App    string `help:"Answers of this app." placeholder:"NAME"`
	URL    string `name:"url" help:"Answers of this public URL." placeholder:"URL"`
	Prefix string `help:"Answers whose public URL begins with this." placeholder:"URL"`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *cachePurgeCommand) purge() admin.Purge {
	return admin.Purge{App: c.App, URL: c.URL, Prefix: c.Prefix}
}

// Validate is called while the command line is parsed: an answer of usage, not of the gateway.
func (c *cachePurgeCommand) Validate() error { return c.purge().Check() }

// Run exits with 1 when nothing was stored.
func (c *cachePurgeCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	purged, err := gateway.Purge(in.ctx, c.purge())
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		err = printJSON(in.out, purged)
	} else {
		_, err = fmt.Fprintf(in.out, "%d answers dropped, %d bytes\n", purged.Entries, purged.Bytes)
	}
	if err == nil && purged.Entries == 0 {
		return no{errors.New("nothing was stored")}
	}
	return err
}
