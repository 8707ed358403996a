package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"sallyport/audit"
	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// maxPerChunk bounds the findings of one chunk.
const maxPerChunk = 20

// event is a record that says something about the log, or a clock that went back.
type event struct {
	seq    uint64
	kind   eventKind
	unix   int64  // time of the record
	before int64  // clockBack: time of the record before
	raw    []byte // the record's JSON, until the chunk is given back; nil for clockBack
	anchor *anchor
}

type eventKind uint8

const (
	clockBack  eventKind = iota + 1 // the time is more than a second before that of the record before
	heartbeat                       // a heartbeat, with what it says of the other log
	stepped                         // control, clock_stepped
	tornTail                        // recovered, torn_tail
	resumed                         // recovered, resumed
	pruning                         // control, pruning or pruned
	keyChange                       // control, checkpoint_key_changed
	reevaluate                      // reevaluated
	decided                         // a decision that such a record refers to
)

// codeRead is the code of a control record that announces a reading of the log (package admin).
const codeRead = "log_read"

// backStep is how far the clock may go back unremarked (clockTolerance in package audit).
const backStep = int64(1e9)

// work checks the frames of a chunk, hashes its records and picks out what the collector needs.
func (l *logCheck) work(c *chunk) {
	at, seq := 0, c.first
	c.fields.begin(l.name, c.boot, c.header.BootN)
	for at < len(c.buf) {
		f, err := l.parseFrame(c.buf[at:], c.header)
		if err == nil && f.FirstSeq != seq && !l.skip.seq {
			err = fmt.Errorf("the batch begins with seq %d, not %d", f.FirstSeq, seq)
		}
		if err != nil {
			c.bad, c.badAt = err, c.at+int64(at)
			break
		}
		l.records(c, f, seq, c.at+int64(at), c.buf[at:])
		at += f.Size
		seq += uint64(f.Count)
	}
	c.hashGroups()
	l.compareGroups(c)
}

func (l *logCheck) parseFrame(b []byte, h *segment.Header) (*segment.Frame, error) {
	if l.skip.parseFrame != nil {
		return l.skip.parseFrame(b, h.ID)
	}
	return segment.ParseFrame(b, h.ID)
}

// records checks the lines of a frame. Each is hashed where it lies: the byte before it, a line break or the last byte of
// the frame's header (the high byte of a length below 2^24), becomes the zero that a leaf's hash begins with.
func (l *logCheck) records(c *chunk, f *segment.Frame, seq uint64, at int64, frame []byte) {
	end := segment.FrameHeaderLen + len(f.Payload)
	for from := segment.FrameHeaderLen; from < end; seq++ {
		n := bytes.IndexByte(frame[from:end], '\n')
		line := frame[from : from+n]
		l.record(c, line, seq, at)
		frame[from-1] = 0
		c.leaves = append(c.leaves, tree.Hash(sha256.Sum256(frame[from-1:from+n])))
		from += n + 1
	}
}

// record checks one record by itself.
func (l *logCheck) record(c *chunk, line []byte, seq uint64, at int64) {
	f, err := c.fields.scan(line)
	if err != nil {
		c.find(l.name, seq, at, ClassRecord, "it is not as the log writes records: %v", err)
		return
	}
	if f.seq != seq || !f.ours {
		l.misplaced(c, &f, seq, at)
	}
	if len(c.leaves) == 0 {
		c.from = f.unix
	} else if f.unix < c.to-backStep {
		c.events = append(c.events, event{seq: seq, kind: clockBack, unix: f.unix, before: c.to})
	}
	c.to = f.unix
	if e, ok := l.event(line, &f); ok {
		e.seq, e.unix, e.raw = seq, f.unix, line
		c.events = append(c.events, e)
	}
	if l.name != audit.ControlLog || string(f.code) != codeRead || !is(f.kind, audit.TypeControl) {
		c.others = true
	}
	c.sign(l.name, &f, seq)
	if l.full {
		l.decode(c, line, &f, seq, at)
	}
}

// misplaced says what is wrong with a record that is not the one that belongs here.
func (l *logCheck) misplaced(c *chunk, f *fields, seq uint64, at int64) {
	h := c.header
	switch {
	case f.seq != seq && !l.skip.seq:
		c.find(l.name, seq, at, ClassSequence, "it says that it is record %d", f.seq)
	case f.ours:
	case f.log != l.name && !l.skip.names:
		c.find(l.name, seq, at, ClassSequence, "it says that it is of log %q", f.log)
	case f.boot != audit.Boot{ID: c.boot, N: h.BootN} && !l.skip.boot:
		c.find(l.name, seq, at, ClassSequence, "it is of boot %s, number %d, and its segment of %s, number %d", f.boot.ID, f.boot.N, c.boot, h.BootN)
	}
}

// event is what a record says about the log.
func (l *logCheck) event(line []byte, f *fields) (e event, ok bool) {
	switch {
	case is(f.kind, audit.TypeHeartbeat):
		return event{kind: heartbeat, anchor: l.anchorOf(line)}, true
	case is(f.kind, audit.TypeRecovered) && string(f.code) == audit.CodeTornTail:
		return event{kind: tornTail}, true
	case is(f.kind, audit.TypeRecovered) && string(f.code) == audit.CodeResumed:
		return event{kind: resumed}, true
	case is(f.kind, audit.TypeControl) && string(f.code) == audit.CodeClockStepped:
		return event{kind: stepped}, true
	case is(f.kind, audit.TypeControl) && (string(f.code) == audit.CodePruning || string(f.code) == audit.CodePruned):
		return event{kind: pruning}, true
	case is(f.kind, audit.TypeControl) && string(f.code) == audit.CodeCheckpointKeyChanged && l.name == audit.ControlLog:
		return event{kind: keyChange}, true
	case is(f.kind, audit.TypeReevaluated) && l.judged():
		return event{kind: reevaluate}, true
	}
	return event{}, false
}

func is(kind []byte, t audit.Type) bool { return string(kind) == string(t) }

// find notes what is wrong with a record.
func (c *chunk) find(log string, seq uint64, at int64, class Class, format string, args ...any) {
	c.findAs(Tampered, log, seq, at, class, format, args...)
}

func (c *chunk) findAs(severity Result, log string, seq uint64, at int64, class Class, format string, args ...any) {
	if len(c.found) == maxPerChunk {
		c.more++
		return
	}
	c.found = append(c.found, Finding{Severity: severity, Class: class, Log: log, Seq: seq, File: c.name, Offset: at,
		Text: fmt.Sprintf("record %d of the %s log: ", seq, log) + fmt.Sprintf(format, args...)})
}

// hashGroups computes the roots of the groups of 256 that lie within the chunk.
func (c *chunk) hashGroups() {
	skip := int(-c.first % groupLen)
	var level [groupLen]tree.Hash
	for at := skip; at+groupLen <= len(c.leaves); at += groupLen {
		copy(level[:], c.leaves[at:])
		c.groups = append(c.groups, rootOf(level[:]))
	}
}
