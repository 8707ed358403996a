package main

import (
	"os"

	"sallyport/gateway/config"
)

type configCommand struct {
	Schema schemaCommand `cmd:"" help:"Print the JSON Schema of the configuration file, for editors."`
	Show   showCommand   `cmd:"" help:"Print the configuration as it takes effect: defaults filled in, secrets redacted."`
}

type schemaCommand struct{}

func (c *schemaCommand) Run(in *invocation) error {
	text, err := config.Schema[config.Config]()
	if err != nil {
		return err
	}
	_, err = in.out.Write(text)
	return err
}

type showCommand struct{}

func (c *showCommand) Run(in *invocation) error {
	cfg, _, err := config.Load[config.Config](in.file, os.LookupEnv)
	if err != nil {
		return no{err}
	}
	text, err := config.Show(cfg)
	if err != nil {
		return err
	}
	_, err = in.out.Write(text)
	return err
}
