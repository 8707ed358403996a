package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"sallyport/audit/segment"
)

// Codes of control records about pruning.
const (
	// CodePruning announces that the oldest segments of a log are about to be removed; detail is PruneDetail. It is
	// durable, and covered by a signed checkpoint of the control log, before the first of them goes.
	CodePruning = "pruning"
	// CodePruned says that they are gone; detail is PruneDetail too.
	CodePruned = "pruned"
)

// Retention says how long the records of each log are kept at least. Whole segments go, the oldest first, once their last
// record is older and a signed checkpoint covers them; the newest segment always stays. 0 keeps all for ever.
//
// Proofs of the records that are left keep working, and so do checkpoints: the tree's hashes stay. The clock is trusted.
type Retention struct {
	// Decision is how long the log of decisions is kept, such as 400d. Default for ever.
	Decision time.Duration `yaml:"decision"`
	// Control is how long the log of control events is kept. Default for ever.
	Control time.Duration `yaml:"control"`
}

func (r Retention) of(log string) time.Duration {
	if log == ControlLog {
		return r.Control
	}
	return r.Decision
}

// PruneDetail is the detail of a pruning and of a pruned record.
//
// Begins says of both logs where they begin once this is done: so the newest pruning record speaks for both, and older ones
// may themselves be pruned with the control log. A log may begin earlier than that, while the removal is under way or after
// it was cut off; it never begins later.
type PruneDetail struct {
	Log          string     `json:"log"`
	FirstSegment uint64     `json:"first_segment"` // of those that go
	LastSegment  uint64     `json:"last_segment"`
	FirstSeq     uint64     `json:"first_seq"`
	NextSeq      uint64     `json:"next_seq"` // of the first record that stays
	Reason       string     `json:"reason"`   // "retention"
	Retention    string     `json:"retention"`
	Signed       uint64     `json:"signed"` // size of the log's last signed checkpoint, which covers them
	Begins       []LogBegin `json:"begins"`
}

// LogBegin is where a log begins.
type LogBegin struct {
	Log     string `json:"log"`
	Segment uint64 `json:"segment"` // number of its first segment
	Seq     uint64 `json:"seq"`     // of its first record
	Root    string `json:"root"`    // root of the tree of all records before, base64: what the first segment's frontier amounts to
}

// pruning is an announced removal.
type pruning struct {
	detail PruneDetail
	seq    uint64 // of the announcement in the control log
}

// prune removes the segments of a log that retention lets go, in two steps: one call announces them, and a later one, when
// the announcement was signed, removes them. After a restart they are announced again, as many as are left.
func (a *Audit) prune(ctx context.Context, l *Log) error {
	p := a.upkeep.pending[l.name]
	if p == nil {
		return a.announcePruning(ctx, l)
	}
	if a.covered(ControlLog) <= p.seq {
		return nil
	}
	if err := a.removeSegments(ctx, &p.detail); err != nil {
		return err
	}
	delete(a.upkeep.pending, l.name)
	_, err := a.control.Append(ctx, &Record{Type: TypeControl, Code: CodePruned, Detail: detail(p.detail)})
	return err
}

func (a *Audit) announcePruning(ctx context.Context, l *Log) error {
	keep := a.upkeep.retention.of(l.name)
	if keep == 0 || l.Healthy() != nil {
		return nil
	}
	d, err := a.outdated(ctx, l.name, a.upkeep.now().Add(-keep))
	if err != nil || d == nil {
		return err
	}
	d.Reason, d.Retention = "retention", keep.String()
	receipt, err := a.control.Append(ctx, &Record{Type: TypeControl, Code: CodePruning, Detail: detail(d)})
	if err != nil {
		return err
	}
	a.upkeep.pending[l.name] = &pruning{*d, receipt.Seq}
	a.upkeep.log.Info("audit segments are about to be removed", "log", d.Log, "first", d.FirstSegment, "last", d.LastSegment,
		"retention", d.Retention)
	return nil
}

// outdated describes the segments of a log that hold nothing from limit on and are covered by a signed checkpoint; nil
// when there are none.
func (a *Audit) outdated(ctx context.Context, log string, limit time.Time) (*PruneDetail, error) {
	numbers, err := listSegments(a.fs, log)
	if err != nil {
		return nil, err
	}
	signed, err := a.prunable(log)
	if err != nil {
		return nil, err
	}
	var first, begin *segment.Header // of all, and of what is to be the first
	for i := 0; i < len(numbers)-1; i++ {
		h, next, err := a.pair(log, numbers[i], begin)
		if err != nil {
			return nil, err
		}
		goes, err := a.goes(ctx, h, next, limit)
		if err != nil {
			return nil, err
		}
		if !goes || next.FirstSeq() > signed {
			break
		}
		if first == nil {
			first = h
		}
		begin = next
	}
	if first == nil {
		return nil, nil
	}
	begins, err := a.begins(begin)
	return &PruneDetail{
		Log: log, FirstSegment: first.Number, LastSegment: begin.Number - 1, FirstSeq: first.FirstSeq(),
		NextSeq: begin.FirstSeq(), Signed: signed, Begins: begins,
	}, err
}

// prunable is up to which seq the tree can do without a log's records: a signed checkpoint covers them, and their hashes are
// durable in tiles, which could not be made again.
func (a *Audit) prunable(log string) (uint64, error) {
	signed := a.covered(log)
	if a.upkeep.asSigned != nil {
		return signed, nil
	}
	for _, k := range a.keepers {
		if k.log.name == log {
			durable, err := k.durable()
			return min(signed, durable), err
		}
	}
	return 0, nil
}

// pair reads the headers of a segment, unless it is known, and of the next.
func (a *Audit) pair(log string, number uint64, known *segment.Header) (h, next *segment.Header, err error) {
	if h = known; h == nil {
		if h, err = openHeader(a.fs, log, number); err != nil {
			return nil, nil, err
		}
	}
	next, err = openHeader(a.fs, log, number+1)
	return h, next, err
}

// goes reports whether all of a segment is older than limit: its making, and its last record. Where a clock that was wrong for
// a while makes later records look older, the segments before them, which go first, keep them.
func (a *Audit) goes(ctx context.Context, h, next *segment.Header, limit time.Time) (bool, error) {
	if !h.Created.Before(limit) {
		return false, nil
	}
	if next.FirstSeq() == h.FirstSeq() {
		return true, nil
	}
	last, err := (&Reader{fs: a.fs, log: h.Log}).Get(ctx, next.FirstSeq()-1)
	if err != nil {
		return false, err
	}
	return last.Record.Time.Before(limit), nil
}

// begins says where both logs begin when one of them is to begin with that header.
func (a *Audit) begins(future *segment.Header) ([]LogBegin, error) {
	var begins []LogBegin
	for _, log := range []string{DecisionLog, ControlLog} {
		h := future
		if log != future.Log {
			numbers, err := listSegments(a.fs, log)
			if err != nil {
				return nil, err
			}
			if h, err = openHeader(a.fs, log, numbers[0]); err != nil {
				return nil, err
			}
		}
		begins = append(begins, LogBegin{log, h.Number, h.FirstSeq(), h.Before.Root().String()})
	}
	return begins, nil
}

// removeSegments removes what was announced, the oldest first, each durably before the next: a power cut leaves a log that
// begins later, and never one with a hole.
func (a *Audit) removeSegments(ctx context.Context, d *PruneDetail) error {
	for n := d.FirstSegment; n <= d.LastSegment; n++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		err := errors.Join(removeIfThere(a.fs, segment.Name(d.Log, n)), removeIfThere(a.fs, segment.SealedName(d.Log, n)))
		if err == nil {
			err = a.fs.SyncDir(d.Log)
		}
		if err != nil {
			return fmt.Errorf("removing audit segment %d of the %s log: %w", n, d.Log, err)
		}
		a.upkeep.storage.pruned.Add(1)
	}
	return nil
}

// removeIfThere removes a file that may be gone already.
func removeIfThere(fsys FileSystem, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
