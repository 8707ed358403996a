package policy

import (
	"bytes"
	"context"
	"sync/atomic"
)

// memoSample is one use of a remembered answer. The input is kept in writing: what the caller does to his afterwards
// changes nothing.
type memoSample struct {
	app     string
	input   []byte
	verdict *Verdict
}

type memoChecks struct{ same, different, skipped atomic.Uint64 }

// MemoDifference is a remembered answer that a fresh evaluation does not give: an error in the analysis of what the
// policy reads. Every answer that was remembered is in doubt, and the records of those given tell which they are.
type MemoDifference struct {
	App        string
	Input      []byte // its one JSON form, as recorded
	Remembered *Verdict
	Evaluated  *Verdict
}

// CheckMemo evaluates uses of remembered answers anew, one in every Config.MemoCheck of them, until ctx ends. It takes
// them one at a time; while it is behind, further ones are let go and counted. At the first difference the engine stops
// remembering, for good, report is told, and CheckMemo returns: every decision from then on is evaluated. Of one engine
// it runs once; without a memo, or when nothing is to be checked, it returns at once.
func (e *Engine) CheckMemo(ctx context.Context, report func(*MemoDifference)) {
	if e.memo == nil || e.memo.every == 0 {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-e.memo.samples:
			if d := e.check(ctx, s); d != nil {
				e.memo.close()
				report(d)
				return
			}
		}
	}
}

// check compares one remembered answer with a fresh one. An evaluation that was given no time to end says nothing.
func (e *Engine) check(ctx context.Context, s memoSample) *MemoDifference {
	fresh := e.Recompute(ctx, s.input)
	switch {
	case ctx.Err() != nil || fresh.Reason == ReasonTimeout:
		e.memo.checks.skipped.Add(1)
	case fresh.Reason == s.verdict.Reason && bytes.Equal(fresh.JSON, s.verdict.JSON):
		e.memo.checks.same.Add(1)
	default:
		e.memo.checks.different.Add(1)
		return &MemoDifference{App: s.app, Input: s.input, Remembered: s.verdict, Evaluated: fresh}
	}
	return nil
}

// offer hands a use of a remembered answer to whoever checks, if they have room for it.
func (m *memo) offer(in *Input, v *Verdict) {
	if len(m.samples) == cap(m.samples) {
		m.checks.skipped.Add(1)
		return // before the input is written
	}
	select {
	case m.samples <- memoSample{in.Resource.ID, in.AppendJSON(nil), v}:
	default:
		m.checks.skipped.Add(1)
	}
}

// close forgets everything, for good.
func (m *memo) close() {
	m.off.Store(true)
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		s.entries, s.bytes = make(map[uint64]memoEntry), 0
		s.mu.Unlock()
	}
}

// MemoStats is what an engine's memory has been used for since it was compiled, and what it holds.
type MemoStats struct {
	On        bool   // it remembers: policy.memo is true and no check found a difference
	Hits      uint64 // decisions that were remembered
	Misses    uint64 // decisions that could have been, and were evaluated
	Entries   int
	Bytes     int    // estimated
	Checked   uint64 // hits that were evaluated anew, and came out the same
	Different uint64 // … and did not: 0 or 1
	Skipped   uint64 // hits that were to be checked and for which there was no time
}

// MemoStats counts. Without a memo all counts are 0.
func (e *Engine) MemoStats() MemoStats {
	m := e.memo
	if m == nil {
		return MemoStats{}
	}
	stats := MemoStats{
		On:        !m.off.Load(),
		Checked:   m.checks.same.Load(),
		Different: m.checks.different.Load(),
		Skipped:   m.checks.skipped.Load(),
	}
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.RLock()
		stats.Entries += len(s.entries)
		stats.Bytes += s.bytes
		s.mu.RUnlock()
		stats.Hits += s.hits.Load()
		stats.Misses += s.misses.Load()
	}
	return stats
}
