package decisions

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"sync"
)

// Bounds of what is held in memory.
const (
	batchBytes = 512 << 10
	maxWaiting = 128 << 20 // records of decisions taken again, before their first ones are looked for
)

// reading is one reading of a log, or two.
type reading struct {
	lines Lines
	query Query
	yield func(Batch, error) bool

	pool    sync.Pool // of *block
	current *block
	waiting []waiting
	bytes   int // of waiting
}

// waiting is a record whose first decision is wanted.
type waiting struct {
	line, changed []byte
	of            string // the first decision's id
}

// block is some lines, one after the other.
type block struct {
	text  []byte
	ends  []int
	again []waiting // what the lines, one for each, are the first decisions of; nil: they are what is wanted
}

// errEnough says that no more is wanted.
var errEnough = errors.New("enough")

func (r *reading) read() error {
	span := r.query.span()
	for line, err := range r.lines {
		if err != nil {
			return err
		}
		kind, when := look(line)
		switch {
		case kind == other || !span.holds(when):
		case kind == decided:
			err = r.add(line, nil)
		case r.query.chooses(line):
			err = r.wait(line)
		}
		if err != nil {
			return err
		}
	}
	if err := r.flush(); err != nil {
		return err
	}
	return r.readFirst()
}

// add adds a line to the block, which is yielded when it is full.
func (r *reading) add(line []byte, later *waiting) error {
	if r.current == nil {
		r.current = r.block()
	}
	b := r.current
	b.text = append(b.text, line...)
	b.ends = append(b.ends, len(b.text))
	if later != nil {
		b.again = append(b.again, *later)
	}
	if len(b.text) < batchBytes {
		return nil
	}
	return r.flush()
}

func (r *reading) block() *block {
	if b, ok := r.pool.Get().(*block); ok {
		return b
	}
	return &block{text: make([]byte, 0, batchBytes+batchBytes/8)}
}

func (r *reading) flush() error {
	b := r.current
	if b == nil {
		return nil
	}
	r.current = nil
	batch := func(yield func(Decision) bool) {
		b.decisions(&r.query, yield)
		b.text, b.ends, b.again = b.text[:0], b.ends[:0], nil
		r.pool.Put(b)
	}
	if !r.yield(batch, nil) {
		return errEnough
	}
	return nil
}

// wait keeps a record of a decision that was taken again.
func (r *reading) wait(line []byte) error {
	var p parts
	var detail struct {
		Of      string          `json:"of"`
		Changed json.RawMessage `json:"changed"`
	}
	if !p.split(line) || json.Unmarshal(p.detail, &detail) != nil || detail.Changed == nil {
		return r.one(Decision{ID: string(idOf(line)), Unusable: Unreadable})
	}
	r.waiting = append(r.waiting, waiting{line: bytes.Clone(line), changed: detail.Changed, of: detail.Of})
	if r.bytes += 2 * len(line); r.bytes < maxWaiting {
		return nil
	}
	if err := r.flush(); err != nil {
		return err
	}
	return r.readFirst()
}

// one yields a decision by itself.
func (r *reading) one(d Decision) error {
	if !r.yield(slices.Values([]Decision{d}), nil) {
		return errEnough
	}
	return nil
}

// readFirst reads from the begin for the first decisions of those that wait.
func (r *reading) readFirst() error {
	if len(r.waiting) == 0 {
		return nil
	}
	wanted := make(map[string][]waiting)
	for _, w := range r.waiting {
		wanted[w.of] = append(wanted[w.of], w)
	}
	r.waiting, r.bytes = nil, 0
	for line, err := range r.lines {
		if err != nil {
			return err
		}
		later := wanted[string(idOf(line))]
		if later == nil {
			continue
		}
		if kind, _ := look(line); kind != decided {
			continue
		}
		delete(wanted, later[0].of)
		for i := range later {
			if err := r.add(line, &later[i]); err != nil {
				return err
			}
		}
		if len(wanted) == 0 {
			break
		}
	}
	if err := r.flush(); err != nil {
		return err
	}
	return r.firstless(wanted)
}

// firstless yields what no first decision was found for.
func (r *reading) firstless(wanted map[string][]waiting) error {
	names := make(names)
	for _, later := range wanted {
		for _, w := range later {
			d := names.decision(w.line)
			d.Unusable = Firstless
			if err := r.one(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// decisions takes the lines apart.
func (b *block) decisions(q *Query, yield func(Decision) bool) {
	names, start := make(names), 0
	for i, end := range b.ends {
		line := b.text[start:end]
		start = end
		var d Decision
		switch {
		case b.again != nil:
			d = b.again[i].decision(names, line)
		case q.chooses(line):
			d = names.decision(line)
		default:
			continue
		}
		if !yield(d) {
			return
		}
	}
}

// decision reads a record of a decision that was taken again, and what had been asked first.
func (w *waiting) decision(names names, first []byte) Decision {
	d := names.decision(w.line)
	var p parts
	switch {
	case d.Unusable == Unreadable:
	case !p.split(first):
		d.Unusable = Unreadable
	case len(p.input) == 0:
		d.Unusable = Firstless
	default:
		d.Input, d.Changed, d.Unusable = p.input, w.changed, ""
	}
	return d
}

// names are strings that many records have.
type names map[string]string

func (n names) of(value []byte) (string, bool) {
	text, ok := plain(value)
	if !ok {
		var s string
		err := json.Unmarshal(value, &s)
		return s, err == nil
	}
	known, ok := n[string(text)]
	if !ok {
		known = string(text)
		n[known] = known
	}
	return known, true
}

var allowed = []byte(`"allow"`)

// decision reads a line.
func (n names) decision(line []byte) Decision {
	var p parts
	well := p.split(line)
	id, _ := plain(p.id)
	d := Decision{ID: string(id), Allow: bytes.Equal(p.effect, allowed), Input: p.input, Decision: p.decision}
	when, ok := at(p.time)
	d.Time, well = when, well && ok
	d.App, ok = n.of(p.app)
	well = well && ok
	d.Reason, ok = n.of(p.reason)
	well = well && ok
	if len(p.policy) > 0 {
		s := scan{text: p.policy}
		for s.next() {
			if string(s.name) == "digest" {
				d.Policy, ok = n.of(s.value)
				well = well && ok
			}
		}
	}
	switch {
	case !well:
		d.Unusable = Unreadable
	case len(p.input) == 0:
		d.Unusable = Unasked
	}
	return d
}
