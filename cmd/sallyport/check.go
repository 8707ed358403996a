package main

import (
	"fmt"
	"os"

	"sallyport/gateway/boot"
)

type checkCommand struct{}

func (c *checkCommand) Run(in *invocation) error {
	if _, err := os.Stat(in.file); err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	cfg, err := boot.Check(in.file)
	if err != nil {
		return no{err}
	}
	in.say("%s is good: %d apps below %s.", in.file, len(cfg.Apps), cfg.Domain)
	return nil
}
