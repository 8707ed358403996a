package main

import (
	"errors"
	"fmt"
	"os"
)

type backupCommand struct {
	To string `arg:"" name:"file" help:"The file to write. It must not exist: a backup overwrites nothing." type:"path"`
}

// Run writes a copy that is complete or not there. It holds sealed refresh tokens and the key they are sealed with, so
// its owner alone can read it.
func (c *backupCommand) Run(in *invocation) error {
	gateway, err := in.gateway()
	if err != nil {
		return err
	}
	defer gateway.Close()
	file, err := os.OpenFile(c.To, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	err = gateway.Backup(in.ctx, file)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing the backup: %w", err), os.Remove(c.To))
	}
	in.say("Wrote %s. To restore it: stop the gateway, put it in place of the file that state.sqlite names, remove the -wal and -shm files beside that, start the gateway.", c.To)
	return nil
}
