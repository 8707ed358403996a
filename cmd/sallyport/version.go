package main

import (
	"fmt"
	"runtime"
)

type versionCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *versionCommand) Run(in *invocation) error {
	if c.JSON {
		return printJSON(in.out, map[string]string{"version": version, "go": runtime.Version()})
	}
	_, err := fmt.Fprintf(in.out, "sallyport %s, %s\n", version, runtime.Version())
	return err
}
