package main

import (
	"fmt"
	"os"
	"time"

	"sallyport/gateway/boot"
	"sallyport/gateway/route"
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
	for _, app := range cfg.Apps {
		sayRelaxed(in, &app)
	}
	concerns, err := boot.CertificateConcerns(cfg, time.Now())
	for _, concern := range concerns {
		fmt.Fprintf(in.out, "warning: %s\n", concern)
	}
	return err
}

// sayRelaxed tells what an app relaxes, in pipes too: a line for each folder and spelling, with what it risks.
func sayRelaxed(in *invocation, app *route.App) {
	for _, relaxation := range app.Relax {
		for _, folder := range relaxation.Paths {
			for _, spelling := range relaxation.Allow {
				fmt.Fprintf(in.out, "%s relaxes %s below %s%s: %s.\n", app.Name, spelling, app.Host, folder, spelling.Risk())
			}
		}
	}
}
