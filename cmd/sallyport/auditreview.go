package main

import (
	"errors"
	"os"

	"sallyport/audit/report"
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
)

type auditReviewCommand struct {
	Person   string `required:"" help:"Whose access: provider|subject, as the access review prints it." placeholder:"WHO"`
	App      string `required:"" help:"To which app." placeholder:"NAME"`
	Decision string `required:"" help:"What was decided: keep, revoke, change or later. It is put on record; to make it so is the policy's affair." enum:"keep,revoke,change,later" placeholder:"DECISION"`
	Note     string `help:"Why." placeholder:"TEXT"`
}

func (c *auditReviewCommand) Run(in *invocation) error {
	places, err := config.Find(in.file, os.LookupEnv)
	if err != nil {
		return err
	}
	review := report.Review{Person: c.Person, App: c.App, Decision: c.Decision, Note: c.Note}
	if err := review.Check(); err != nil {
		return err
	}
	gateway := admin.NewClient(places.Admin.Socket)
	defer gateway.Close()
	err = gateway.Review(in.ctx, review)
	if errors.Is(err, admin.ErrNoGateway) {
		err = recordAlone(in.ctx, places, report.CodeReviewed, review)
	}
	if err != nil {
		return err
	}
	in.say("recorded: %s %s of %s", c.Decision, c.App, c.Person)
	return nil
}

type auditReindexCommand struct{}

func (c *auditReindexCommand) Run(in *invocation) error {
	places, err := config.Find(in.file, os.LookupEnv)
	if err != nil {
		return err
	}
	gateway := admin.NewClient(places.Admin.Socket)
	defer gateway.Close()
	err = gateway.Reindex(in.ctx)
	if errors.Is(err, admin.ErrNoGateway) {
		if err = recordAlone(in.ctx, places, admin.CodeReindex, struct{}{}); err == nil {
			err = reindexAlone(in.ctx, places)
		}
	}
	return err
}
