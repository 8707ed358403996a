package verify

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/audit/evidence"
)

// readPart checks the records of one part by themselves. It runs beside others.
func (l *bundleLog) readPart(part *evidence.Part) *partResult {
	p := &partResult{part: part, counts: map[[2]string]*evidence.Count{}}
	for leaf, err := range l.bundle.PartRecords(part) {
		if err != nil {
			p.err = err
			return p
		}
		p.leaves = append(p.leaves, leaf.LeafHash())
		if leaf.Raw == nil {
			p.withheld++
			continue
		}
		l.record(p, &leaf)
	}
	return p
}

// record checks one record: that it is what the log writes, where it belongs, and is rightly said to match.
func (l *bundleLog) record(p *partResult, leaf *evidence.Leaf) {
	r, err := audit.DecodeRecord(leaf.Raw)
	switch {
	case err != nil:
		l.find(p, leaf, ClassRecord, "%v", err)
		return
	case r.Seq != leaf.Index || r.Log != l.Log:
		l.find(p, leaf, ClassSequence, "it says that it is record %d of log %q", r.Seq, r.Log)
	}
	p.count(r, leaf.Match)
	if p.from.IsZero() {
		p.from = r.Time
	}
	p.to = r.Time
	inside := l.inside(r.Time)
	if inside {
		p.inPeriod++
	}
	l.matches(p, leaf, r, inside)
	if first, last := leaf.Index == l.First && l.First > l.Oldest, leaf.Index == l.End-1 && l.End < l.Size; (first || last) && inside && !l.skip.period {
		l.find(p, leaf, ClassBundle, "it is in the period, and at the edge of what the bundle holds: others may be missing beyond")
	}
	l.decide(p, leaf, r)
}

// matches compares what the bundle says of a record with the period and the query.
func (l *bundleLog) matches(p *partResult, leaf *evidence.Leaf, r *audit.Record, inside bool) {
	should := inside
	if l.manifest.Query != "" {
		if l.query == nil {
			return // nobody vouches for the query, or it cannot be read: reported already
		}
		should = inside && l.query.Matches(r)
	}
	if should != leaf.Match && !l.skip.matches {
		l.find(p, leaf, ClassBundle, "whether it matches is said to be %v, and is %v", leaf.Match, should)
	}
}

// decide decides a record again.
func (l *bundleLog) decide(p *partResult, leaf *evidence.Leaf, r *audit.Record) {
	if l.opts.Rederive == nil {
		return
	}
	if r.Type == audit.TypeReevaluated {
		var d reevaluation
		id, err := uuid.UUID{}, json.Unmarshal(r.Detail, &d)
		if err == nil {
			id, err = uuid.Parse(d.Of)
		}
		if err != nil {
			l.find(p, leaf, ClassDecision, "it does not say what it decides again: %v", err)
			return
		}
		p.again = append(p.again, id)
	}
	if r.Type != audit.TypeDecision {
		return
	}
	if why := l.judge(r, r.Input, nil); why != "" {
		l.find(p, leaf, ClassDecision, "%s", why)
	}
	if len(r.Input) > 0 {
		p.judged++
	}
}

func (l *bundleLog) find(p *partResult, leaf *evidence.Leaf, class Class, format string, args ...any) {
	if len(p.found) < maxPerChunk {
		p.found = append(p.found, Finding{Severity: Tampered, Class: class, Log: l.Log, Seq: leaf.Index, File: p.part.File,
			Text: fmt.Sprintf("record %d of the %s log: ", leaf.Index, l.Log) + fmt.Sprintf(format, args...)})
	}
}

func (l *bundleLog) inside(t time.Time) bool {
	return !t.Before(l.manifest.From) && (l.manifest.To.IsZero() || t.Before(l.manifest.To))
}

func (p *partResult) count(r *audit.Record, match bool) {
	key := [2]string{string(r.Type), string(r.Effect)}
	c := p.counts[key]
	if c == nil {
		c = &evidence.Count{Type: key[0], Effect: key[1]}
		p.counts[key] = c
	}
	c.Records++
	if match {
		c.Matching++
	}
}

// rederiveAgain decides records of type reevaluated again, in a second reading: each needs the first decision.
func (l *bundleLog) rederiveAgain() {
	if len(l.again) == 0 || l.unread {
		return
	}
	x := newAgainCheck(l.run, l.Log, l.again)
	x.partial = true
	for leaf, err := range l.bundle.Records(l.Log) {
		if err != nil {
			break // reported already
		}
		if r, err := audit.DecodeRecord(leaf.Raw); err == nil {
			x.take(r)
		}
	}
	x.finish()
}
