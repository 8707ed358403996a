package boot

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"sallyport/audit"
	"sallyport/audit/search"
	"sallyport/audit/search/sqlite"
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
)

// indexPeriod is how often the searchable copy catches up: queries read what it lacks from the log itself.
const indexPeriod = 5 * time.Second

// openSearch keeps a searchable copy of the logs. It is derived: a gateway whose copy cannot be opened serves without, and
// says so.
func (a *assembly) openSearch(ctx context.Context, cfg *config.Config) error {
	files, err := a.auditFiles(cfg)
	if err != nil {
		return err
	}
	for _, log := range []string{audit.DecisionLog, audit.ControlLog} {
		a.indexed = append(a.indexed, search.Named{Log: log, Source: audit.OpenReaderFS(files, log)})
	}
	store, err := sqlite.Open(ctx, filepath.Join(cfg.Audit.Dir, "search"))
	if err != nil {
		a.opts.Log.Warn("the audit logs have no searchable copy; queries read them from end to end", "error", err)
		return nil
	}
	a.index = search.New(store)
	a.onClose(a.index.Close)
	a.group.Go(func() error {
		a.index.Keep(a.ctx, indexPeriod, a.opts.Log, a.indexed...)
		return nil
	})
	return nil
}

var errNoIndex = errors.New("this gateway keeps no searchable copy of its logs: its log says why")

// auditing is what auditors ask of the running gateway.
type auditing struct{ *assembly }

var _ admin.Auditing = auditing{}

// SignManifest has the key process sign.
func (a auditing) SignManifest(ctx context.Context, sha256 [32]byte) ([]byte, error) {
	return a.keys.SignManifest(ctx, sha256)
}

// VerifierKeys are the key process's.
func (a auditing) VerifierKeys(ctx context.Context) ([]string, error) {
	return a.keys.VerifierKeys(ctx)
}

// Reindex builds the searchable copy anew.
func (a auditing) Reindex(ctx context.Context) error {
	if a.index == nil {
		return errNoIndex
	}
	for _, log := range a.indexed {
		if _, err := a.index.Rebuild(ctx, log.Log, log.Source); err != nil {
			return err
		}
	}
	return nil
}
