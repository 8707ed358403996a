package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/audit"
	"sallyport/certs/keyring"
	"sallyport/gateway/config"
)

const (
	// keyLogEvery is how often the key process is asked what it signed and refused.
	keyLogEvery = 3 * time.Second
	// keyLogReach is how many of the newest control records are searched for the last one about the key process.
	keyLogReach = 50_000
)

// Codes of control records about what the key process did.
const (
	CodeKeyUse     = "key_use"
	CodeKeyRefused = "key_refused"
	CodeKeyLogGap  = "key_log_gap"
)

// keyMark says which entry of the key process's signing log a record is about. It goes into the record, so that the next
// gateway goes on behind it: nothing is lost, and nothing recorded twice.
type keyMark struct {
	Run string `json:"run"` // of the key process, by the name that it gave itself
	Seq uint64 `json:"seq"` // within the run, from 1
}

// Details of the records. A window's counts are those of the key process; a refusal has what it saw of who asked.
type (
	keyUse struct {
		keyMark
		keyring.SigningWindow
	}
	keyRefused struct {
		keyMark
		keyring.SigningRefusal
	}
	// keyGap is what nobody can say any more: entries of this run before Seq that were dropped before they were read, or
	// whatever came behind the last entry of a run that is over.
	keyGap struct {
		keyMark
		Why   string  `json:"why"`
		After keyMark `json:"after"` // the last entry that is on record
	}
)

// keyLog carries the key process's signing log over into the control log. It belongs to one goroutine.
type keyLog struct {
	read     func(ctx context.Context, after uint64) (keyring.SigningLog, error)
	record   func(ctx context.Context, code string, detail any) error
	log      *slog.Logger
	refusals *prometheus.CounterVec // by code
	last     keyMark                // the newest entry that is on record; zero: none is
	listed   map[string]uint64      // refusals by code that were counted one by one since the last window
}

// keepKeyLog starts it.
func (a *assembly) keepKeyLog(cfg *config.Config) error {
	files, err := a.auditFiles(cfg)
	if err != nil {
		return err
	}
	k := &keyLog{
		read:   a.keys.SigningLog,
		record: func(ctx context.Context, code string, detail any) error { return a.control(ctx, code, nil, detail) },
		log:    a.opts.Log, listed: map[string]uint64{},
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_key_refusals_total", Help: "Requests that the key process refused, by its answer."}, []string{"code"}),
	}
	a.metrics.MustRegister(k.refusals)
	before := a.audit.Control().Records()
	a.group.Go(func() error {
		if err := k.resume(a.ctx, audit.OpenReaderFS(files, audit.ControlLog), before); err != nil && a.ctx.Err() == nil {
			k.log.Error("control log not read: what the key process did may be recorded twice", "error", err)
		}
		return k.run(a.ctx, a.audit.Healthy)
	})
	return nil
}

// resume finds the last entry that is on record. That of older records than the last keyLogReach does not count.
func (k *keyLog) resume(ctx context.Context, control *audit.Reader, records uint64) error {
	f := audit.Filter{Type: audit.TypeControl, Where: isKeyRecord}
	if records > keyLogReach {
		f.FromSeq = records - keyLogReach
	}
	for e, err := range control.All(ctx, f) {
		if err != nil {
			return err
		}
		var mark keyMark
		if err := json.Unmarshal(e.Record.Detail, &mark); err != nil {
			return fmt.Errorf("control record %d: %w", e.Record.Seq, err)
		}
		k.last = mark
	}
	return nil
}

func isKeyRecord(r *audit.Record) bool {
	return slices.Contains([]string{CodeKeyUse, CodeKeyRefused, CodeKeyLogGap}, r.Code)
}

// run looks until ctx ends, while records can be written.
func (k *keyLog) run(ctx context.Context, healthy func() error) error {
	turn := time.NewTicker(keyLogEvery)
	defer turn.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-turn.C:
		}
		if healthy() == nil {
			k.look(ctx)
		}
	}
}

// look takes over everything that is new. What fails, because the key process is away or the log cannot be written, is
// told elsewhere, and done at the next look.
func (k *keyLog) look(ctx context.Context) {
	for {
		l, err := k.read(ctx, k.last.Seq)
		if err != nil {
			return
		}
		if more, err := k.take(ctx, l); err != nil || !more {
			return
		}
	}
}

// take records an answer and reports whether to ask again at once.
func (k *keyLog) take(ctx context.Context, l keyring.SigningLog) (more bool, err error) {
	if l.Boot != k.last.Run {
		return true, k.begin(ctx, l.Boot)
	}
	if l.Oldest > k.last.Seq+1 {
		if err := k.gap(ctx, keyMark{l.Boot, l.Oldest - 1}, "the key process dropped entries before they were read"); err != nil {
			return false, err
		}
	}
	for _, e := range l.Entries {
		if err := k.entry(ctx, keyMark{l.Boot, e.Seq}, e); err != nil {
			return false, err
		}
		k.last.Seq = e.Seq
	}
	return len(l.Entries) > 0 && k.last.Seq+1 < l.Next, nil
}

// begin goes over to another run of the key process.
func (k *keyLog) begin(ctx context.Context, run string) error {
	clear(k.listed)
	if k.last == (keyMark{}) { // there was never a record
		k.last.Run = run
		return nil
	}
	return k.gap(ctx, keyMark{run, 0}, "the key process began anew")
}

// gap records that entries are missing between the last one on record and next.
func (k *keyLog) gap(ctx context.Context, next keyMark, why string) error {
	if err := k.record(ctx, CodeKeyLogGap, keyGap{next, why, k.last}); err != nil {
		return err
	}
	k.log.Warn("what the key process did is not all on record", "why", why, "run", k.last.Run, "after", k.last.Seq)
	k.last = next
	return nil
}

func (k *keyLog) entry(ctx context.Context, at keyMark, e keyring.SigningEntry) error {
	switch {
	case e.Refusal != nil:
		if err := k.record(ctx, CodeKeyRefused, keyRefused{at, *e.Refusal}); err != nil {
			return err
		}
		k.refused(e.Refusal)
	case e.Window != nil:
		if !onlyCheckpoints(e.Window) {
			if err := k.record(ctx, CodeKeyUse, keyUse{at, *e.Window}); err != nil {
				return err
			}
		}
		k.counted(e.Window)
	}
	return nil
}

// refused counts a refusal, and tells people of it: as an error where an honest gateway never asks so.
func (k *keyLog) refused(r *keyring.SigningRefusal) {
	k.listed[r.Code]++
	k.refusals.WithLabelValues(r.Code).Inc()
	level := slog.LevelWarn
	if slices.Contains([]string{"wrong_purpose", "refused", "malformed", "unknown_op", "forbidden"}, r.Code) {
		level = slog.LevelError
	}
	k.log.Log(context.Background(), level, "the key process refused a request", "op", r.Op, "code", r.Code, "key", r.Key, "why", r.Why, "peer_uid", r.UID, "peer_pid", r.PID)
}

// counted adds the refusals of a window that had no entries of their own.
func (k *keyLog) counted(w *keyring.SigningWindow) {
	for code, n := range w.Codes {
		if n > k.listed[code] {
			k.refusals.WithLabelValues(code).Add(float64(n - k.listed[code]))
		}
	}
	clear(k.listed)
	if w.Dropped > 0 {
		k.log.Error("the key process was flooded with requests that it refuses", "from", w.From, "refusals", w.Codes, "without_entries", w.Dropped)
	}
}

// onlyCheckpoints tells whether nothing else happened. Such a window is not recorded: its record would be the cause of the
// next checkpoint, and so on for ever. The checkpoints themselves are kept.
func onlyCheckpoints(w *keyring.SigningWindow) bool {
	return w.Other.Signed+w.Other.Refused == 0 && !slices.ContainsFunc(w.Rows, func(r keyring.SigningRow) bool {
		return r.Op != "sign_checkpoint" || r.Refused > 0
	})
}
