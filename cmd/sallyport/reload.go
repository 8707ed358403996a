package main

import "fmt"

type reloadCommand struct{}

func (c *reloadCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	if err := gateway.Reload(in.ctx); err != nil {
		return answered(err)
	}
	in.say("The new configuration is in effect.")
	status, err := gateway.Status(in.ctx)
	if err != nil {
		return err
	}
	if status.Policy.Pinned != nil {
		fmt.Fprintln(in.errOut, inert("Its policy is not, if it is another one. In force: "+policyLine(status.Policy)+". sallyport policy unpin lets it go."))
	}
	return nil
}
