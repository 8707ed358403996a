package boot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/policy"
	"sallyport/policy/review"
)

// memoWatch has remembered answers of the policy in force checked, and counts what was wrong.
type memoWatch struct {
	stop        context.CancelFunc // of the engine in force; nil: none is watched yet
	differences atomic.Uint64
}

// watchMemoLocked checks what an engine that comes into force remembers, in place of the one before.
func (a *assembly) watchMemoLocked(engine *policy.Engine) {
	ctx, stop := context.WithCancel(a.ctx)
	if a.memo.stop != nil {
		a.memo.stop()
	}
	a.memo.stop = stop
	a.checkMemo(ctx, engine)
}

// checkMemo checks what an engine remembers until ctx ends.
func (a *assembly) checkMemo(ctx context.Context, engine *policy.Engine) {
	a.group.Go(func() error {
		engine.CheckMemo(ctx, func(d *policy.MemoDifference) { a.noteMemoDifference(ctx, engine, d) })
		return nil
	})
}

// noteMemoDifference says loudly that an answer was remembered which the policy does not give. The engine remembers nothing
// any more; which records hold remembered answers, their member memo tells.
func (a *assembly) noteMemoDifference(ctx context.Context, engine *policy.Engine, d *policy.MemoDifference) {
	a.memo.differences.Add(1)
	sum := sha256.Sum256(d.Input)
	input := "sha256:" + hex.EncodeToString(sum[:])
	a.opts.Log.Error("a remembered answer was wrong: this policy's answers are not remembered any more, and every request is evaluated. Remembered answers on record should be re-derived (sallyport audit verify --rederive)",
		"policy", engine.Digest(), "app", d.App, "input_digest", input, "remembered", d.Remembered.Reason, "evaluated", d.Evaluated.Reason)
	a.control(context.WithoutCancel(ctx), "memo_difference", nil, map[string]any{"policy": engine.Digest(), "app": d.App, "input_digest": input,
		"remembered": json.RawMessage(d.Remembered.JSON), "evaluated": json.RawMessage(d.Evaluated.JSON)})
}

var (
	memoOn          = prometheus.NewDesc("sallyport_policy_memo_enabled", "1 while answers of the policy in force are remembered.", nil, nil)
	memoDecisions   = prometheus.NewDesc("sallyport_policy_memo_decisions_total", "Decisions that were remembered (hit), and that might have been (miss), of the policy in force.", []string{"result"}, nil)
	memoEntries     = prometheus.NewDesc("sallyport_policy_memo_entries", "Remembered answers.", nil, nil)
	memoBytes       = prometheus.NewDesc("sallyport_policy_memo_bytes", "Memory that remembered answers take, about.", nil, nil)
	memoChecks      = prometheus.NewDesc("sallyport_policy_memo_checks_total", "Remembered answers that were evaluated anew (checked), or should have been (skipped), of the policy in force.", []string{"result"}, nil)
	memoDifferences = prometheus.NewDesc("sallyport_policy_memo_differences_total", "Remembered answers that were wrong, since the start.", nil, nil)

	shadowRunning     = prometheus.NewDesc("sallyport_shadow_running", "1 while a candidate policy is tried.", nil, nil)
	shadowDecisions   = prometheus.NewDesc("sallyport_shadow_decisions_total", "Decisions that the candidate policy was asked too (compared), or that there was no time for (dropped).", []string{"result"}, nil)
	shadowDifferences = prometheus.NewDesc("sallyport_shadow_differences_total", "Decisions that the candidate policy answers otherwise, by change.", []string{"change"}, nil)
)

// collectPolicy reads what the policy in force remembers, and how far the trial of a candidate is.
func (c collector) collectPolicy(gauge, count func(d *prometheus.Desc, value float64, labels ...string)) {
	memo := c.server.Snapshot().Policy.MemoStats()
	gauge(memoOn, truth(memo.On))
	count(memoDecisions, float64(memo.Hits), "hit")
	count(memoDecisions, float64(memo.Misses), "miss")
	gauge(memoEntries, float64(memo.Entries))
	gauge(memoBytes, float64(memo.Bytes))
	count(memoChecks, float64(memo.Checked), "checked")
	count(memoChecks, float64(memo.Skipped), "skipped")
	count(memoDifferences, float64(c.memo.differences.Load()))
	tried := shadows{c.assembly}.Shadow()
	gauge(shadowRunning, truth(tried.Running))
	if !tried.Running {
		return
	}
	count(shadowDecisions, float64(tried.Compared), "compared")
	count(shadowDecisions, float64(tried.Dropped), "dropped")
	for _, change := range review.Changes() {
		count(shadowDifferences, float64(tried.Changes[change]), string(change))
	}
}
