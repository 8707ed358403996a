package audit

import (
	"context"
	"encoding/json"
	"time"
)

// Heartbeat is the detail of a heartbeat record, which shows that nothing happened rather than that nobody wrote it down.
type Heartbeat struct {
	Log string `json:"log"` // whose heartbeat it is
	// Other is the latest signed checkpoint of the other log, as a note, character by character: whoever holds a
	// checkpoint of one log knows the other up to there. Empty before there is one.
	Other string          `json:"other"`
	Clock Clock           `json:"clock"`
	Disk  *Disk           `json:"disk,omitempty"`  // absent where it cannot be known
	Sinks json.RawMessage `json:"sinks,omitempty"` // what the sinks say of themselves
	Tree  TreeState       `json:"tree"`
}

// Clock says how far the time of records can be relied upon.
type Clock struct {
	DriftMS int64 `json:"drift_ms"` // wall clock less monotonic clock since the start: what somebody, or a time server, set it by
	// Sync is "synchronised", "unsynchronised", or "unknown" where the kernel does not say (adjtimex(2)).
	Sync    string `json:"sync"`
	ErrorUS int64  `json:"max_error_us"` // the kernel's bound of its error, in microseconds; it means something when synchronised
}

// Disk is the file system of the audit directory, in bytes.
type Disk struct {
	Free uint64 `json:"free"` // to us
	Size uint64 `json:"size"`
}

// TreeState is how far a log's tree is signed.
type TreeState struct {
	Size   uint64 `json:"size"`   // acknowledged records before the heartbeat
	Signed uint64 `json:"signed"` // of these
}

// pulse writes heartbeats.
type pulse struct {
	audit *Audit
	sinks func() any
	began time.Time // with its monotonic reading
	wall  time.Time // of the records' clock, then
	late  bool      // the first one comes after a period
}

// beat writes heartbeats into both logs until ctx ends. One that a log cannot take is left out, and nothing waits. The
// first comes when the run has its first checkpoints: a log that is put back to before a run is found by the other then.
func (p *pulse) beat(ctx context.Context, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	first := time.NewTimer(min(period, checkpointPeriod))
	defer first.Stop()
	if p.late {
		first.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-first.C:
			p.once(ctx)
		case <-ticker.C:
			p.once(ctx)
		}
	}
}

func (p *pulse) once(ctx context.Context) {
	p.each(func(k *keeper, r *Record) { _ = k.log.Post(ctx, r) })
}

// last writes the last heartbeats of a run, and waits for them.
func (p *pulse) last(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, slowCommit)
	defer cancel()
	p.each(func(k *keeper, r *Record) { _, _ = k.log.Append(ctx, r) })
}

func (p *pulse) each(write func(*keeper, *Record)) {
	clock, disk, sinks := p.clock(), p.disk(), p.report()
	for _, k := range p.audit.keepers {
		if k.log.failing.Load() != nil {
			continue // the record that ends the outage will say how long there was nothing
		}
		_, signed := p.audit.Checkpoint(k.log.name)
		h := Heartbeat{
			Log: k.log.name, Other: p.other(k), Clock: clock, Disk: disk, Sinks: sinks,
			Tree: TreeState{Size: k.log.Records(), Signed: signed.Size},
		}
		write(k, &Record{Type: TypeHeartbeat, Detail: detail(h)})
	}
}

// other is the note of the log that k does not keep.
func (p *pulse) other(k *keeper) string {
	for _, o := range p.audit.keepers {
		if latest := o.latest.Load(); o != k && latest != nil {
			return string(latest.note)
		}
	}
	return ""
}

func (p *pulse) clock() Clock {
	c := kernelClock()
	wall := p.audit.now().Round(0).Sub(p.wall.Round(0))
	c.DriftMS = (wall - time.Since(p.began)).Milliseconds()
	return c
}

func (p *pulse) disk() *Disk {
	free, size, known := diskSpace(p.audit.fs)
	if !known {
		return nil
	}
	return &Disk{free, size}
}

// maxSinks bounds what sinks may say in a heartbeat, in bytes.
const maxSinks = 16 << 10

// report is what the sinks say; nil where that is nothing, or nothing that a record has room for.
func (p *pulse) report() json.RawMessage {
	if p.sinks == nil {
		return nil
	}
	b, err := json.Marshal(p.sinks())
	if err != nil || len(b) > maxSinks {
		p.audit.decisions.log.Warn("the state of the audit sinks does not go into a heartbeat", "bytes", len(b), "error", err)
		return nil
	}
	return b
}
