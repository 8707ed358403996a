package boot

import (
	"context"
	"fmt"

	"sallyport/audit"
	"sallyport/audit/sink"
	"sallyport/gateway/config"
)

func (a *assembly) openAudit(cfg *config.Config) (err error) {
	settings := cfg.Audit
	settings.Origin = cfg.AuditOrigin()
	a.audit, err = audit.Open(settings, audit.Options{FS: a.opts.AuditFiles, Now: a.opts.Now, Log: a.opts.Log})
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	a.onClose(a.audit.Close)
	return nil
}

// keepAudit holds the logs against what the key process has signed of them, before anything is served, and starts what
// goes on behind them: signed checkpoints, heartbeats, sealing and pruning.
func (a *assembly) keepAudit(ctx context.Context, cfg *config.Config) error {
	signer := checkpoints{a.keys, cfg.AuditOrigin()}
	if err := a.audit.Attach(ctx, signer); err != nil {
		return fmt.Errorf("the audit log and the key process: %w", err)
	}
	a.group.Go(func() error {
		return a.audit.Keep(a.ctx, audit.Keeping{Signer: signer, Sinks: func() any { return a.sinks.Lags() }})
	})
	return nil
}

// openSinks starts what ships records elsewhere. Each sink reads the files on its own: nothing of it is on a request's way.
func (a *assembly) openSinks(cfg *config.Config) error {
	files, err := a.auditFiles(cfg)
	if err != nil {
		return err
	}
	options := sink.Options{FS: files, Record: a.recordOfSink, Log: a.opts.Log}
	for _, log := range []*audit.Log{a.audit.Decisions(), a.audit.Control()} {
		options.Logs = append(options.Logs, sink.Reading(log, audit.OpenReaderFS(files, log.Name())))
	}
	if a.sinks, err = sink.New(cfg.Sinks, options); err != nil {
		return err
	}
	a.group.Go(func() error { return a.sinks.Run(a.ctx) })
	return nil
}

// auditFiles is the audit directory as those see it who read beside the log.
func (a *assembly) auditFiles(cfg *config.Config) (audit.FileSystem, error) {
	if a.opts.AuditFiles != nil {
		return a.opts.AuditFiles, nil
	}
	if a.files == nil {
		files, err := audit.OpenDirectory(cfg.Audit.Dir)
		if err != nil {
			return nil, err
		}
		a.files = files
		a.onClose(files.Close)
	}
	return a.files, nil
}

func (a *assembly) recordOfSink(ctx context.Context, r *audit.Record) error {
	_, err := a.audit.Control().Append(ctx, r)
	return err
}

// checkSinks makes, and drops, the sinks of a configuration.
func checkSinks(cfg *config.Config) error {
	_, err := sink.New(cfg.Sinks, sink.Options{})
	return err
}
