package main

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
	return nil
}
