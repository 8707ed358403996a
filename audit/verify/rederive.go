package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"sallyport/audit"
)

// reasonTimeout is the one reason that says more of the machine than of the policy: it may come out otherwise.
const reasonTimeout = "timeout"

// judges are the policies that were opened, by digest.
type judges struct {
	run     *run
	archive func(digest string) ([]byte, error)

	mu     sync.Mutex
	opened map[string]*judgeEntry
}

type judgeEntry struct {
	once    sync.Once
	decider Decider
	err     error
	absent  bool
	log     string
	first   uint64 // the first record that needs it
	needed  uint64 // records; under the mutex of judges
}

func newJudges(r *run) *judges {
	return &judges{run: r, archive: r.policyArchive, opened: make(map[string]*judgeEntry)}
}

// maxPolicies bounds how many policies are open; more than anybody had.
const maxPolicies = 10_000

// get opens a policy, once.
func (j *judges) get(digest, log string, seq uint64) *judgeEntry {
	j.mu.Lock()
	e := j.opened[digest]
	if e == nil {
		e = &judgeEntry{log: log, first: seq}
		if len(j.opened) < maxPolicies {
			j.opened[digest] = e
		}
	}
	e.needed++
	j.mu.Unlock()
	e.once.Do(func() {
		archive, err := j.archive(digest)
		if e.absent = errors.Is(err, fs.ErrNotExist); err == nil {
			e.decider, err = j.run.opts.Rederive.Open(digest, archive)
		}
		e.err = err
	})
	return e
}

// missing reports the policies that could not be opened.
func (j *judges) missing() {
	for digest, e := range j.opened {
		switch {
		case e.absent:
			j.run.report.add(Finding{Severity: Incomplete, Class: ClassPolicy, Log: e.log, Seq: e.first, Text: fmt.Sprintf(
				"the policy archive %s is not here: %d decisions, the first of them record %d, cannot be decided again", digest, e.needed, e.first)})
		case e.err != nil:
			j.run.report.add(Finding{Severity: Tampered, Class: ClassPolicy, Log: e.log, Seq: e.first, Text: fmt.Sprintf(
				"the policy %s cannot be opened: %v", digest, e.err)})
		}
	}
}

// judged reports whether decisions are decided again.
func (l *logCheck) judged() bool { return l.opts.Rederive != nil && !l.quiet }

// decode reads a record in full, and decides it again where it is a decision.
func (l *logCheck) decode(c *chunk, line []byte, f *fields, seq uint64, at int64) {
	r, err := audit.DecodeRecord(line)
	if err != nil {
		c.find(l.name, seq, at, ClassRecord, "%v", err)
		return
	}
	if r.ID != string(f.id) || r.Time.UnixNano() != f.unix || r.Type != audit.Type(f.kind) {
		c.find(l.name, seq, at, ClassRecord, "its first fields can be read in two ways")
		return
	}
	if l.opts.Rederive == nil || r.Type != audit.TypeDecision {
		return
	}
	if why := l.judge(r, r.Input, nil); why != "" {
		c.find(l.name, seq, at, ClassDecision, "%s", why)
	}
	if len(r.Input) > 0 {
		c.rederived++
	}
}

// judge decides a record again and says what is different. A policy that is missing is reported once for all.
func (r *run) judge(rec *audit.Record, input, changed []byte) string {
	if len(input) == 0 {
		if rec.Effect == audit.Allow {
			return "it allows without an input to decide on"
		}
		return ""
	}
	if rec.Policy.Digest == "" {
		return "it has an input, and names no policy that decided"
	}
	e := r.judges.get(rec.Policy.Digest, rec.Log, rec.Seq)
	if e.err != nil {
		return ""
	}
	v := e.decider.Decide(r.ctx, input, changed)
	switch {
	case rec.Reason == reasonTimeout || r.ctx.Err() != nil:
		return ""
	case (rec.Effect == audit.Allow) != v.Allow:
		return fmt.Sprintf("it says %q, and by its policy %s this is %v", rec.Effect, rec.Policy.Digest, effect(v.Allow))
	case rec.Reason != v.Reason:
		return fmt.Sprintf("it gives the reason %q, and by its policy it is %q", rec.Reason, v.Reason)
	case !sameJSON(rec.Decision, v.Decision):
		return fmt.Sprintf("its decision is %s, and by its policy it is %s", clip(rec.Decision), clip(v.Decision))
	}
	return ""
}

func effect(allow bool) audit.Effect {
	if allow {
		return audit.Allow
	}
	return audit.Deny
}

// sameJSON compares two values whatever the order of their members, and without rounding numbers.
func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := anyJSON(a)
	y, errY := anyJSON(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func anyJSON(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

func clip(b []byte) []byte { return b[:min(len(b), 300)] }

// Records of type reevaluated hold only what has changed in the input of an earlier decision, so that one is needed too. It
// may lie far back: a stream can last for days. They are decided again in a second reading, which keeps of the first
// decisions only those that are still to be referred to.

// again counts by the id of a first decision how many records refer to it.
type again map[uuid.UUID]uint32

// maxKept bounds the bytes of first decisions that are kept at a time.
const maxKept = 256 << 20

// reevaluation is the part of such a record that leads to the first.
type reevaluation struct {
	Of      string          `json:"of"`
	Changed json.RawMessage `json:"changed"`
}

// rederiveLater notes which first decisions are needed.
func (l *logCheck) rederiveLater(c *chunk) {
	for i := range c.events {
		e := &c.events[i]
		if e.kind != reevaluate {
			continue
		}
		var r struct {
			Detail reevaluation `json:"detail"`
		}
		id, err := uuid.UUID{}, json.Unmarshal(e.raw, &r)
		if err == nil {
			id, err = uuid.Parse(r.Detail.Of)
		}
		if err != nil {
			l.add(Finding{Severity: Tampered, Class: ClassDecision, Seq: e.seq, Text: fmt.Sprintf("record %d of the %s log does not say what it decides again: %v", e.seq, l.name, err)})
			continue
		}
		if l.again == nil {
			l.again = make(again)
		}
		l.again[id]++
	}
}

// rederiveAgain is the second reading.
func (r *run) rederiveAgain(of *logCheck) error {
	if len(of.again) == 0 {
		return nil
	}
	x := newAgainCheck(r, of.name, of.again)
	x.partial = of.out.First > 0
	files, err := r.folder.listSegments(of.name, func(fs.DirEntry) {})
	if err != nil {
		return err
	}
	s := newScanner(r.folder, of.name, files, r.opts.Workers, x.work)
	if err := s.scan(r.ctx, r.opts.Workers, x.collect); err != nil {
		return err
	}
	x.finish()
	return nil
}

func newAgainCheck(r *run, log string, wanted again) *againCheck {
	x := &againCheck{run: r, name: log, wanted: wanted, known: make(map[uuid.UUID]bool, len(wanted)), kept: make(map[uuid.UUID][]byte)}
	for id := range wanted {
		x.known[id] = true
	}
	x.group.SetLimit(r.opts.Workers)
	return x
}

// againCheck decides reevaluated records again. Damage was reported by the first reading and is passed over.
type againCheck struct {
	*run
	name    string
	partial bool                 // the log begins late: a first decision may be missing
	known   map[uuid.UUID]bool   // read by workers, does not change
	wanted  again                // how often each is still needed
	kept    map[uuid.UUID][]byte // inputs of first decisions
	bytes   int
	absent  uint64 // records whose first decision is not there
	absAt   uint64
	full    uint64 // first decisions for which there was no room
	group   errgroup.Group

	mu    sync.Mutex
	found []Finding
}

func (x *againCheck) work(c *chunk) {
	at, seq := 0, c.first
	l := &logCheck{run: x.run, name: x.name}
	c.fields.begin(x.name, c.boot, c.header.BootN)
	for at < len(c.buf) {
		f, err := l.parseFrame(c.buf[at:], c.header)
		if err != nil {
			return
		}
		for line := range f.Lines() {
			if e, ok := x.event(c, line); ok {
				e.seq, e.raw = seq, line
				c.events = append(c.events, e)
			}
			seq++
		}
		at += f.Size
	}
}

func (x *againCheck) event(c *chunk, line []byte) (event, bool) {
	f, err := c.fields.scan(line)
	if err != nil {
		return event{}, false
	}
	switch {
	case is(f.kind, audit.TypeReevaluated):
		return event{kind: reevaluate}, true
	case is(f.kind, audit.TypeDecision):
		id, err := uuid.ParseBytes(f.id)
		return event{kind: decided}, err == nil && x.known[id]
	}
	return event{}, false
}

func (x *againCheck) collect(p part) error {
	if p.chunk == nil {
		return nil
	}
	for i := range p.chunk.events {
		e := &p.chunk.events[i]
		r, err := audit.DecodeRecord(e.raw)
		if err != nil {
			continue // reported already
		}
		x.take(r)
	}
	return nil
}

// take takes the next record of those that matter, in the order of the log.
func (x *againCheck) take(r *audit.Record) {
	switch r.Type {
	case audit.TypeDecision:
		x.keep(r)
	case audit.TypeReevaluated:
		x.again(r)
	}
}

func (x *againCheck) keep(r *audit.Record) {
	id, err := uuid.Parse(r.ID)
	if err != nil || x.wanted[id] == 0 {
		return
	}
	if x.bytes+len(r.Input) > maxKept {
		x.full++
		return
	}
	x.kept[id] = r.Input
	x.bytes += len(r.Input)
}

func (x *againCheck) again(r *audit.Record) {
	var d reevaluation
	if json.Unmarshal(r.Detail, &d) != nil {
		return
	}
	id, err := uuid.Parse(d.Of)
	if err != nil {
		return
	}
	if x.wanted[id] == 0 {
		return // the first reading did not take it for one
	}
	input, ok := x.kept[id]
	if !ok {
		if x.absent++; x.absent == 1 {
			x.absAt = r.Seq
		}
	} else {
		x.group.Go(func() error {
			if why := x.judge(r, input, d.Changed); why != "" {
				x.mu.Lock()
				x.found = append(x.found, Finding{Severity: Tampered, Class: ClassDecision, Log: x.name, Seq: r.Seq, Text: fmt.Sprintf("record %d of the %s log: %s", r.Seq, x.name, why)})
				x.mu.Unlock()
			}
			return nil
		})
		x.report.Rederived++
	}
	if x.wanted[id]--; x.wanted[id] == 0 {
		x.bytes -= len(input)
		delete(x.kept, id)
		delete(x.wanted, id)
	}
}

func (x *againCheck) finish() {
	_ = x.group.Wait() // its functions return nothing
	for _, f := range x.found {
		x.report.add(f)
	}
	if x.absent == 0 {
		return
	}
	f := Finding{Severity: Tampered, Class: ClassDecision, Log: x.name, Seq: x.absAt, Text: fmt.Sprintf(
		"%d records, the first of them %d, decide something again of which there is no first decision", x.absent, x.absAt)}
	if x.partial || x.full > 0 {
		f.Severity = Gaps
		f.Text += ", or not any more: they cannot be decided again"
	}
	x.report.add(f)
}
