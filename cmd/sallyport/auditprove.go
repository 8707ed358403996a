package main

import (
	"fmt"
	"iter"
	"os"

	"sallyport/audit"
	"sallyport/audit/tree"
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
)

type auditProveCommand struct {
	ID  string `arg:"" help:"The record's id, or LOG:SEQ such as decision:1041."`
	Out string `short:"o" help:"Write to this file. Default: standard output." placeholder:"FILE" type:"path"`
}

// Run prints the proof with the record itself in it, so that it can be verified alone.
func (c *auditProveCommand) Run(in *invocation) error {
	places, err := in.announce(admin.Reading{Command: "prove", Log: "both", Filter: map[string]string{"id": c.ID}, Disclose: true})
	if err != nil {
		return err
	}
	source, err := openSource(places.Audit.Dir)
	if err != nil {
		return err
	}
	defer source.Close()
	log, entry, err := source.find(in, places, c.ID)
	if err != nil {
		return err
	}
	signed, checkpoint, err := source.Checkpoint(log)
	if err != nil {
		return err
	}
	if entry.Record.Seq >= checkpoint.Size {
		return no{fmt.Errorf("record %d of the %s log is newer than the last checkpoint, which covers %d: try again in a moment", entry.Record.Seq, log, checkpoint.Size)}
	}
	_, hashes, err := source.trees[log].Inclusion(in.ctx, entry.Record.Seq)
	if err != nil {
		return err
	}
	proof := tree.WriteProof(tree.Proof{Extra: entry.Raw, Index: entry.Record.Seq, Hashes: hashes, Signed: signed})
	if c.Out != "" {
		return writeWhole(c.Out, proof)
	}
	_, err = in.out.Write(proof)
	return err
}

type auditReceiptCommand struct {
	Log string `help:"Of which log: decision, control or both." enum:"decision,control,both" default:"both"`
}

func (c *auditReceiptCommand) Run(in *invocation) error {
	places, err := in.announce(admin.Reading{Command: "receipt", Log: c.Log})
	if err != nil {
		return err
	}
	source, err := openSource(places.Audit.Dir)
	if err != nil {
		return err
	}
	defer source.Close()
	for i, log := range logsOf(c.Log) {
		signed, _, err := source.Checkpoint(log)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(in.out)
		}
		if _, err := in.out.Write(signed); err != nil {
			return err
		}
	}
	return nil
}

func logsOf(choice string) []string {
	if choice == "both" {
		return []string{audit.DecisionLog, audit.ControlLog}
	}
	return []string{choice}
}

type auditTilesCommand struct {
	Log string `help:"Which log: decision or control." enum:"decision,control" default:"decision"`
	Out string `required:"" short:"o" help:"The folder to write, or to bring up to date. Entry bundles hold the records as they are." placeholder:"FOLDER" type:"path"`
}

func (c *auditTilesCommand) Run(in *invocation) error {
	places, err := in.announce(admin.Reading{Command: "tiles", Log: c.Log, Disclose: true})
	if err != nil {
		return err
	}
	return publishTiles(in, places, c.Log, c.Out)
}

// publishTiles writes the folder as far as the log is signed.
func publishTiles(in *invocation, places config.Places, log, out string) error {
	source, err := openSource(places.Audit.Dir)
	if err != nil {
		return err
	}
	defer source.Close()
	signed, checkpoint, err := source.Checkpoint(log)
	if err != nil {
		return err
	}
	oldest, err := source.Oldest(log)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		return err
	}
	defer root.Close()
	done, err := tree.Publish(tree.RootFiles(root), tree.Source{Signed: signed, Checkpoint: checkpoint, First: oldest, Hashes: source.trees[log].Prover(),
		Leaves: func(from uint64) iter.Seq2[[]byte, error] { return source.Records(in.ctx, log, from, checkpoint.Size) }})
	if err != nil {
		return err
	}
	in.say("%d records in the tree, %d of them new in %s", done.Size, done.Added, out)
	return nil
}

type auditCopyCommand struct {
	Out string `required:"" short:"o" help:"The folder to make." placeholder:"FOLDER" type:"path"`
}

func (c *auditCopyCommand) Run(in *invocation) error {
	places, err := in.announce(admin.Reading{Command: "copy", Log: "both", Disclose: true})
	if err != nil {
		return err
	}
	return audit.Copy(in.ctx, places.Audit.Dir, c.Out)
}
