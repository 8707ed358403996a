package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"sallyport/audit/segment"
)

// Line is one record as its bytes.
type Line struct {
	Seq uint64
	Raw []byte // its JSON as stored, without a line break; it belongs to the reading, and changes with its next step
	Position
}

// Lines yields the records from a seq on as All does, without a look into their JSON: for whoever needs each record's bytes
// and nothing or little else. The frames' checksums are checked; that a line is a record, and says that seq, is not.
func (r *Reader) Lines(ctx context.Context, from uint64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		if err := r.lines(ctx, from, yield); err != nil {
			yield(Line{}, err)
		}
	}
}

func (r *Reader) lines(ctx context.Context, from uint64, yield func(Line, error) bool) error {
	c, _, err := r.begin(ctx, Filter{FromSeq: from})
	if err != nil {
		return err
	}
	defer c.close()
	for {
		batch, err := c.next()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		for line := range c.lines(batch) {
			if line.Seq >= from && !yield(line, nil) {
				return nil
			}
		}
	}
}

// ErrNoRecord says that a record is not in the log: it was pruned, or is not acknowledged yet.
var ErrNoRecord = errors.New("no such audit record")

// Get returns the record of that seq. ErrNoRecord when there is none.
func (r *Reader) Get(ctx context.Context, seq uint64) (Entry, error) {
	c, _, err := r.begin(ctx, Filter{FromSeq: seq})
	if err != nil {
		return Entry{}, err
	}
	defer c.close()
	for {
		batch, err := c.next()
		switch {
		case ctx.Err() != nil:
			return Entry{}, context.Cause(ctx)
		case errors.Is(err, io.EOF) || err == nil && batch.FirstSeq > seq:
			return Entry{}, fmt.Errorf("%w: seq %d of the %s log", ErrNoRecord, seq, r.log)
		case err != nil:
			return Entry{}, err
		}
		for line := range c.lines(batch) {
			if line.Seq == seq {
				return c.decode(line)
			}
		}
	}
}

// At returns the record at a position that an earlier reading told, without reading what is before it. ErrNoRecord when
// there is none. Positions in the same segment, in order, are the quickest; callers wait for each other.
func (r *Reader) At(ctx context.Context, p Position) (Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return Entry{}, err
	}
	none := fmt.Errorf("%w: line %d of the batch at %d in segment %d of the %s log", ErrNoRecord, p.Line, p.Offset, p.Segment, r.log)
	c, err := r.cursorAt(p)
	if errors.Is(err, io.EOF) {
		return Entry{}, none
	}
	if err == nil {
		err = c.scan.Jump(p.Offset, c.limit)
	}
	if err != nil {
		r.forgetLocked()
		if _, damaged := errors.AsType[*Damage](err); damaged {
			// Nothing starts there. Whether it should is told by all that is before.
			if err = r.sound(ctx, p); err == nil {
				err = none
			}
		}
		return Entry{}, err
	}
	batch, _, err := c.scan.Next(c.limit)
	if err != nil {
		r.forgetLocked()
		return Entry{}, err
	}
	for line := range c.lines(batch) {
		if line.Line == p.Line {
			return c.decode(line)
		}
	}
	return Entry{}, none
}

// cursorAt returns a cursor in a position's segment that knows how far that reaches; io.EOF when the segment does not reach
// the position, or is not there.
func (r *Reader) cursorAt(p Position) (*cursor, error) {
	if r.last == nil || r.last.number != p.Segment || r.last.file == nil {
		r.forgetLocked()
		r.last = &cursor{r: r, number: p.Segment}
		if err := r.last.open(); err != nil {
			return nil, err
		}
	}
	c := r.last
	if c.file != nil && p.Offset >= c.limit {
		if err := c.look(); err != nil {
			return nil, err
		}
	}
	if c.number != p.Segment || c.file == nil || p.Offset >= c.limit {
		r.forgetLocked()
		return nil, io.EOF
	}
	return c, nil
}

// sound reads a segment up to a position and reports whether anything is wrong with it.
func (r *Reader) sound(ctx context.Context, p Position) error {
	c := &cursor{r: r, number: p.Segment}
	defer c.close()
	for {
		_, err := c.next()
		switch {
		case errors.Is(err, io.EOF) || err == nil && (c.number != p.Segment || c.scan.At() > p.Offset):
			return context.Cause(ctx)
		case err != nil:
			return err
		}
	}
}

// forget closes what At keeps open.
func (r *Reader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked()
}

func (r *Reader) forgetLocked() {
	if r.last != nil {
		r.last.close()
		r.last = nil
	}
}

// Bounds says what a log holds.
type Bounds struct {
	First  uint64          // seq of the first record that is left; more than 0 in a log that was pruned
	Next   uint64          // seq after the last acknowledged record
	Header *segment.Header // of the first segment; nil in a log that was never written to
}

// Bounds returns where the log begins and where it is acknowledged up to.
func (r *Reader) Bounds() (Bounds, error) {
	numbers, err := listSegments(r.fs, r.log)
	if err != nil || len(numbers) == 0 {
		return Bounds{}, err
	}
	h, err := openHeader(r.fs, r.log, numbers[0])
	if errors.Is(err, fs.ErrNotExist) {
		return r.Bounds() // pruned a moment ago
	}
	if err != nil {
		return Bounds{}, err
	}
	b := Bounds{First: h.FirstSeq(), Next: h.FirstSeq(), Header: h}
	// While somebody writes, what they publish says it, and the segment need not be read.
	if writing, err := r.fs.Locked(lockName); err == nil && writing {
		if t, err := readTail(r.fs, r.log); err == nil && t.segment >= numbers[len(numbers)-1] {
			b.Next = max(b.Next, t.nextSeq)
			return b, nil
		}
	}
	c := &cursor{r: r, number: numbers[len(numbers)-1]}
	defer c.close()
	for {
		batch, err := c.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Bounds{}, err
		}
		b.Next = batch.FirstSeq + uint64(batch.Count)
	}
	if c.header != nil {
		b.Next = max(b.Next, c.header.FirstSeq())
	}
	return b, nil
}
