package verify

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"sallyport/audit"
	"sallyport/audit/segment"
)

const (
	// silence is how long a log may have no heartbeat within a run: two and a half periods.
	silence = int64(150 * time.Second)
	// outageSlack is how long before an outage was noticed records may have been stamped that were written after it.
	outageSlack = int64(10 * time.Second)
	// maxGaps bounds how many gaps are listed.
	maxGaps = 1000
)

// continuity is what the collector knows of the present run of the gateway: whether time passed as its records say.
type continuity struct {
	running  bool
	empty    bool  // no record of this run yet
	last     int64 // time of the record before
	beatSeq  uint64
	beat     int64 // time of the last heartbeat, or of the run's first record
	backs    int   // clocks that went back, and no record has said so yet
	backSeq  uint64
	backFrom int64
	backTo   int64
	since    int64 // the last outage
	until    int64
	others   bool // the run wrote something else than that somebody is about to read
}

// newRun notes that a segment begins.
func (l *logCheck) newRun(h *segment.Header) {
	if l.running && l.prev != nil && l.prev.BootN == h.BootN {
		return
	}
	l.endRun()
	l.continuity = continuity{running: true, empty: true, last: l.last}
	l.out.Boots++
	l.trace(h)
}

// endRun states what the run has not explained.
func (l *logCheck) endRun() {
	if l.backs > 0 {
		l.gap(Gap{Class: ClassClock, First: l.backSeq, End: l.backSeq, From: at(l.backFrom), To: at(l.backTo)},
			"the clock goes back from %s to %s at record %d, and no record says so (%d times in this run)", at(l.backFrom), at(l.backTo), l.backSeq, l.backs)
		l.backs = 0
	}
	if l.running && !l.empty {
		l.silent(l.grow.size, l.last)
	}
	if l.others {
		l.readings = l.grow.size
	}
	l.running = false
}

// silent states a stretch without heartbeats.
func (l *logCheck) silent(seq uint64, until int64) {
	if until-l.beat > silence {
		l.gap(Gap{Class: ClassSilence, First: l.beatSeq, End: seq, From: at(l.beat), To: at(until)},
			"there is no heartbeat between %s and %s, records %d to %d", at(l.beat), at(until), l.beatSeq, seq)
	}
}

// follow takes a chunk's times and what its records say.
func (l *logCheck) follow(c *chunk) {
	if l.out.From.IsZero() {
		l.out.From = at(c.from)
	}
	switch {
	case l.empty && l.last != 0 && c.from < l.last-backStep:
		l.gap(Gap{Class: ClassClock, First: c.first, End: c.first, From: at(l.last), To: at(c.from)},
			"a run of the gateway begins at %s, before the end of the last at %s", at(c.from), at(l.last))
	case !l.empty && c.from < l.last-backStep:
		l.back(c.first, l.last, c.from)
	}
	if l.empty {
		l.beat, l.beatSeq, l.empty = c.from, c.first, false
	}
	l.others = l.others || c.others
	l.traced(c)
	for i := range c.events {
		l.happened(&c.events[i])
	}
	l.last = c.to
	l.out.To = at(c.to)
	l.rederiveLater(c)
}

func (l *logCheck) happened(e *event) {
	switch e.kind {
	case clockBack:
		l.back(e.seq, e.before, e.unix)
	case stepped:
		l.backs = 0
		l.beat = min(l.beat, e.unix)
	case heartbeat:
		l.silent(e.seq, e.unix)
		l.beat, l.beatSeq = e.unix, e.seq
		l.anchored(e)
	case tornTail:
		l.torn(e)
	case resumed:
		l.outage(e)
	case pruning:
		l.statement(e)
	case keyChange:
		l.handedOver(e)
	}
}

// back notes a clock that went back. What waited while the log could not be written comes after the record that says so.
func (l *logCheck) back(seq uint64, from, to int64) {
	if l.until != 0 && to >= l.since-outageSlack && to <= l.until {
		return
	}
	if l.backs++; l.backs == 1 {
		l.backSeq, l.backFrom, l.backTo = seq, from, to
	}
	l.beat = min(l.beat, to)
}

func (l *logCheck) torn(e *event) {
	var d struct {
		Detail struct {
			File    string `json:"file"`
			Offset  int64  `json:"offset"`
			Dropped int64  `json:"dropped_bytes"`
			Missing int64  `json:"missing_bytes"`
		} `json:"detail"`
	}
	_ = json.Unmarshal(e.raw, &d) // what is not there is not told
	l.gap(Gap{Class: ClassTail, First: e.seq, End: e.seq, To: at(e.unix)},
		"after a crash an incomplete batch was dropped before record %d: %d bytes at %d of %q, %d bytes missing", e.seq, d.Detail.Dropped, d.Detail.Offset, d.Detail.File, d.Detail.Missing)
}

func (l *logCheck) outage(e *event) {
	var d struct {
		Detail struct {
			Cause   string    `json:"cause"`
			Since   time.Time `json:"since"`
			Refused uint64    `json:"refused"`
			Lost    uint64    `json:"lost_outcomes"`
		} `json:"detail"`
	}
	_ = json.Unmarshal(e.raw, &d) // what is not there is not told
	l.since, l.until = d.Detail.Since.UnixNano(), e.unix
	l.beat, l.beatSeq = max(l.beat, e.unix), e.seq
	l.gap(Gap{Class: ClassOutage, First: e.seq, End: e.seq, From: d.Detail.Since, To: at(e.unix)},
		"nothing could be written from %s to %s (%q): %d records were refused and %d outcomes lost", d.Detail.Since.Format(time.RFC3339), at(e.unix).Format(time.RFC3339), d.Detail.Cause, d.Detail.Refused, d.Detail.Lost)
}

// gap states a gap.
func (l *logCheck) gap(g Gap, format string, args ...any) {
	if l.quiet {
		return
	}
	g.Log = l.name
	if len(l.report.Gaps) < maxGaps {
		l.report.Gaps = append(l.report.Gaps, g)
	}
	l.add(Finding{Severity: Gaps, Class: g.Class, Seq: g.First, Text: fmt.Sprintf(format, args...)})
}

func at(unix int64) time.Time { return time.Unix(0, unix).UTC() }

// anchor is what a heartbeat says of the other log.
type anchor struct {
	claim claim
	bad   *Finding
}

// anchorOf reads a heartbeat; nil when it says nothing of the other log.
func (l *logCheck) anchorOf(line []byte) *anchor {
	var h struct {
		Detail struct {
			Other string `json:"other"`
		} `json:"detail"`
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return &anchor{bad: &Finding{Severity: Tampered, Class: ClassRecord, Text: fmt.Sprintf("a heartbeat cannot be read: %v", err)}}
	}
	if h.Detail.Other == "" {
		return nil
	}
	c, _, bad := l.peer.open([]byte(h.Detail.Other), "")
	c.from = fromAnchor
	return &anchor{c, bad}
}

// anchored keeps what a heartbeat says of the other log, to be compared with that.
func (l *logCheck) anchored(e *event) {
	switch {
	case e.anchor == nil:
		return
	case e.anchor.bad != nil:
		f := *e.anchor.bad
		f.Log, f.Seq = l.name, e.seq
		f.Text = fmt.Sprintf("heartbeat %d of the %s log: %s", e.seq, l.name, f.Text)
		l.add(f)
		return
	}
	c := e.anchor.claim
	c.place = e.seq
	if n := len(l.anchors); n > 0 && l.anchors[n-1].size == c.size && l.anchors[n-1].root == c.root {
		return
	}
	l.anchors = append(l.anchors, c)
}

// tailLen is the length of a log's tail file (FORMAT.md).
const tailLen = 28

// acknowledgedTo is the seq that a log's tail file says comes next; ok is false where it says nothing. It is signed by
// nobody and may be older than the log, but a log that is shorter has lost something that was acknowledged.
func (f folder) acknowledgedTo(log string) (next uint64, ok bool) {
	b, err := f.read(log+"/tail", 4096)
	if err != nil || len(b) != tailLen || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[20:]), true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// acknowledged compares the log's end with its tail file, as that was before the log was read.
func (l *logCheck) acknowledged() {
	if l.tailOK && l.tailSeq > l.out.Size && !l.unsure && !l.broken {
		l.gap(Gap{Class: ClassTail, First: l.out.Size, End: l.tailSeq},
			"the file %s/tail says that %d records were acknowledged, and %d are here", l.name, l.tailSeq, l.out.Size)
	}
}

// prunedTo is where a log may begin, according to a record of the control log.
type prunedTo struct {
	audit.LogBegin
	seq uint64 // of the record
}

// statement keeps what a record about pruning says.
func (l *logCheck) statement(e *event) {
	var d struct {
		Detail audit.PruneDetail `json:"detail"`
	}
	if err := json.Unmarshal(e.raw, &d); err != nil {
		l.add(Finding{Severity: Tampered, Class: ClassRecord, Seq: e.seq, Text: fmt.Sprintf("record %d of the %s log, about pruning, cannot be read: %v", e.seq, l.name, err)})
		return
	}
	for _, b := range d.Detail.Begins {
		if n := len(l.pruned); n > 1 && l.pruned[n-1].LogBegin == b || n > 1 && l.pruned[n-2].LogBegin == b {
			continue
		}
		l.pruned = append(l.pruned, prunedTo{b, e.seq})
	}
}

// begins judges a log that does not begin with record 0, by what the control log says under a signed root.
func (l *logCheck) begins(control *logCheck) {
	if l.out.First == 0 && l.firstNumber <= 1 || l.skip.begins {
		return
	}
	said := false
	for _, p := range control.pruned {
		if p.Log != l.name || p.seq >= control.newest.size {
			continue
		}
		if p.Seq == l.out.First && p.Root != l.firstRoot.String() {
			l.add(Finding{Severity: Tampered, Class: ClassPruned, Seq: p.Seq, Text: fmt.Sprintf(
				"the control log says at record %d that the %s log begins with record %d after root %s; here it is root %s", p.seq, l.name, p.Seq, p.Root, l.firstRoot)})
		}
		said = said || p.Seq >= l.out.First
	}
	if !said {
		severity := Tampered
		if !control.seen {
			severity = Incomplete // and the control log has a finding that says so
		}
		l.add(Finding{Severity: severity, Class: ClassPruned, Seq: l.out.First, Text: fmt.Sprintf(
			"the %s log begins with record %d, and no signed record of the control log says that those before were pruned", l.name, l.out.First)})
		return
	}
	l.gap(Gap{Class: ClassPruned, First: 0, End: l.out.First}, "the %s log begins with record %d: those before were pruned, as the control log says", l.name, l.out.First)
}
