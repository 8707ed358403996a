package verify

import (
	"fmt"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/audit/segment"
)

// codeStarted is the code of the control record with which a gateway begins to serve (package boot).
const codeStarted = "started"

// runTrace is what a log shows of one run: of a gateway, or of a command that announces in the control log what it reads.
type runTrace struct {
	n       uint64
	id      uuid.UUID
	records uint64
	served  uint64 // one more than the seq of its first record about a request; 0 when there is none
	gateway bool   // a gateway wrote it: it says that it starts, or has a heartbeat
}

// trace notes that a run begins.
func (l *logCheck) trace(h *segment.Header) {
	l.runs = append(l.runs, runTrace{n: h.BootN, id: h.Boot})
}

// traced adds a chunk to the run that wrote it.
func (l *logCheck) traced(c *chunk) {
	t := &l.runs[len(l.runs)-1]
	t.records += uint64(len(c.leaves))
	t.gateway = t.gateway || c.gateway
	if t.served == 0 {
		t.served = c.served
	}
}

// sign looks at a record for what it says of the run that wrote it.
func (c *chunk) sign(log string, f *fields, seq uint64) {
	switch {
	case log == audit.DecisionLog:
		if c.served == 0 && (is(f.kind, audit.TypeDecision) || is(f.kind, audit.TypeOutcome) || is(f.kind, audit.TypeReevaluated)) {
			c.served = seq + 1
		}
	case is(f.kind, audit.TypeHeartbeat), is(f.kind, audit.TypeControl) && string(f.code) == codeStarted:
		c.gateway = true
	}
}

// holds reports whether the log, as it is here, must hold what it ever had of run n: the runs before the first that is left
// may have been pruned, and of that one a part.
func (l *logCheck) holds(n uint64) bool {
	return len(l.runs) > 0 && (n > l.runs[0].n || l.firstNumber == 1)
}

// compareRuns compares what the two logs show of the same runs. A run begins a segment in the decision log, then one in the
// control log, and records there that it starts before it answers a request; so logs of two histories, or of two days,
// contradict each other although each is signed. A run that was cut off early may have segments without records, or one in
// the decision log only.
func (r *run) compareRuns(decision, control *logCheck) {
	if r.skip.runs || len(decision.runs) == 0 || len(control.runs) == 0 {
		return
	}
	last := decision.runs[len(decision.runs)-1].n
	i, late := 0, false
	for _, c := range control.runs {
		for ; i < len(decision.runs) && decision.runs[i].n < c.n; i++ {
			r.unstarted(decision, control, &decision.runs[i])
		}
		var d *runTrace
		for ; i < len(decision.runs) && decision.runs[i].n == c.n; i++ {
			d = &decision.runs[i]
			r.sameRun(decision, control, d, &c)
		}
		switch {
		case d != nil || !c.gateway || !decision.holds(c.n):
		case c.n < last:
			decision.contradicts(control, "the control log has %d records of run %d of the gateway (%s), and the decision log, which has later runs, has no segment of it", c.records, c.n, c.id)
		case !late:
			late = true // a copy leaves out segments without records at the end
			decision.gap(Gap{Class: ClassTail, First: decision.out.Size, End: decision.out.Size},
				"the decision log ends before run %d of the gateway, of which the control log has records", c.n)
		}
	}
	for ; i < len(decision.runs); i++ {
		r.unstarted(decision, control, &decision.runs[i])
	}
}

// sameRun compares a run that has segments in both logs.
func (r *run) sameRun(decision, control *logCheck, d, c *runTrace) {
	if d.id != c.id {
		decision.contradicts(control, "run %d of the gateway is %s in the decision log and %s in the control log: they are of two histories", d.n, d.id, c.id)
	} else if c.records == 0 {
		r.unstarted(decision, control, d)
	}
}

// unstarted reports a run that answered requests, under a signed root, and is not in the control log.
func (r *run) unstarted(decision, control *logCheck, d *runTrace) {
	if d.served == 0 || d.served > decision.newest.size || !control.holds(d.n) {
		return
	}
	control.contradicts(decision, "the decision log has %d records of run %d of the gateway (%s), from record %d on signed, and the control log has none: each run records first that it starts",
		d.records, d.n, d.id, d.served-1)
}

// contradicts reports that this log lacks what the other has. Where the key process's operator has stated a loss of either,
// that is what is seen.
func (l *logCheck) contradicts(other *logCheck, format string, args ...any) {
	if l.gaveUp || other.gaveUp {
		l.gap(Gap{Class: ClassRun}, format, args...)
		return
	}
	l.add(Finding{Severity: Tampered, Class: ClassRun, Text: fmt.Sprintf(format, args...)})
}

// compareSizes reports what no two logs of a gateway can be: one of them without anything, and both without a signature.
func (r *run) compareSizes(decision, control *logCheck) {
	r.oneMissing(decision, control)
	if control.out.Segments > 0 && control.out.Size == control.out.First && decision.out.Size > 0 && !r.skip.missing {
		control.add(Finding{Severity: Tampered, Class: ClassSegment, File: control.name,
			Text: fmt.Sprintf("the control log has no records, and the decision log has had %d: each run records first that it starts", decision.out.Size)})
	}
	empty := func(l *logCheck) bool { return l.out.Size == l.out.First && !l.seen && !l.foreign }
	switch {
	case empty(decision) && empty(control):
		r.report.add(Finding{Severity: Incomplete, Class: ClassSignature, Text: "there are no records, and no signed checkpoint of either log"})
	case decision.out.Segments > 0 && empty(decision) && control.newest.size > 0 && !control.gaveUp:
		decision.gap(Gap{Class: ClassTail}, "the decision log has no records, although the control log has %d that are signed", control.newest.size)
	}
}
