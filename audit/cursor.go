package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"sallyport/audit/segment"
)

// cursor goes through the batches of a log, from segment to segment.
type cursor struct {
	r      *Reader
	number uint64 // of the current segment, or of the first to come
	from   uint64 // records before this seq are of no interest

	file      *source // nil before the segment is there; the rest belongs to it
	header    *segment.Header
	scan      *segment.Scanner
	limit     int64           // how far the segment is acknowledged
	successor *segment.Header // once there is one: limit is final then
	whole     bool            // limit is final because nobody was writing: every run starts a segment of its own
}

// next returns the next acknowledged batch, valid until the next call; io.EOF when there is none yet.
func (c *cursor) next() (*segment.Frame, error) {
	for {
		if c.file == nil {
			if err := c.open(); err != nil {
				return nil, err
			}
			continue
		}
		if c.scan.At() < c.limit {
			f, _, err := c.scan.Next(c.limit)
			if damage, ok := errors.AsType[*Damage](err); ok {
				damage.Seq = c.scan.Seq() // a sealed file by itself does not know
			}
			return f, err
		}
		if c.successor != nil {
			if err := c.leave(); err != nil {
				return nil, err
			}
			continue
		}
		before := c.limit
		if err := c.look(); err != nil {
			return nil, err
		}
		if c.file != nil && c.limit == before && c.successor == nil {
			return nil, io.EOF
		}
		if c.file != nil && c.from > c.scan.Seq() && before == segment.Block {
			if err := c.scan.Seek(c.from, c.limit); err != nil {
				return nil, err
			}
		}
	}
}

// open opens the current segment; io.EOF when it does not exist yet.
func (c *cursor) open() error {
	s, err := openSegment(c.r.fs, c.r.log, c.number)
	if errors.Is(err, fs.ErrNotExist) {
		return c.overtaken()
	}
	if err != nil {
		return err
	}
	h, err := segment.ReadHeader(s, c.r.log, c.number)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	*c = cursor{
		r: c.r, number: c.number, from: c.from, file: s, header: h, scan: segment.NewScanner(s, h), limit: segment.Block,
	}
	return nil
}

// overtaken goes on where the log begins when the segment to be read was pruned meanwhile; io.EOF when it is not there
// yet.
func (c *cursor) overtaken() error {
	numbers, err := listSegments(c.r.fs, c.r.log)
	if err != nil {
		return err
	}
	if len(numbers) == 0 || numbers[0] <= c.number {
		return io.EOF
	}
	c.close()
	*c = cursor{r: c.r, number: numbers[0], from: c.from}
	return nil
}

// look finds out how far the current segment is acknowledged by now.
//
// A successor's header is the truth. Without one the published tail is, while somebody writes; and without a writer,
// what recovery would keep. The writer is asked about before the successor is: one that has come and gone in between
// has left a segment.
func (c *cursor) look() error {
	writing, err := c.r.fs.Locked(lockName)
	if err != nil {
		return fmt.Errorf("asking who writes the audit log: %w", err)
	}
	// The tail is read before the successor is looked for: one that names a later segment was published after it.
	t, err := readTail(c.r.fs, c.r.log)
	if err != nil {
		return fmt.Errorf("reading the end of the audit log: %w", err)
	}
	successor, err := openHeader(c.r.fs, c.r.log, c.number+1)
	switch {
	case err == nil:
		c.successor, c.limit = successor, successor.PrevEnd
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case writing && t.segment == c.number:
		c.limit = max(c.limit, t.end)
		return nil
	case writing && t.segment < c.number || c.whole:
		return nil
	case writing:
		return c.lost()
	}
	x, err := c.file.measureLast(c.header)
	if err != nil {
		return err
	}
	c.limit, c.whole = x.End, true
	return nil
}

// lost is for a segment that must have a successor, and has none: both were pruned.
func (c *cursor) lost() error {
	err := c.overtaken()
	if errors.Is(err, io.EOF) {
		return nil // seen between two looks at a folder that changes: the next one is wiser
	}
	return err
}

// leave closes a segment that was read to its end; the successor is next.
func (c *cursor) leave() error {
	if c.scan.At() != c.successor.PrevEnd || c.scan.Seq() != c.successor.FirstSeq() {
		return c.scan.Damaged(fmt.Errorf("ends otherwise than segment %d says", c.number+1))
	}
	err := c.file.Close()
	c.file, c.number = nil, c.number+1
	return err
}

func (c *cursor) close() {
	if c.file != nil {
		_ = c.file.Close() // it was only read
	}
}

// lines yields the records of the batch that was read last.
func (c *cursor) lines(batch *segment.Frame) iter.Seq[Line] {
	return func(yield func(Line) bool) {
		l := Line{Seq: batch.FirstSeq, Position: Position{Segment: c.number, Offset: c.scan.At() - int64(batch.Size)}}
		for l.Raw = range batch.Lines() {
			if !yield(l) {
				return
			}
			l.Seq++
			l.Line++
		}
	}
}

// entries yields the matching records of the batch that was read last.
func (c *cursor) entries(batch *segment.Frame, m *matcher) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for line := range c.lines(batch) {
			if line.Seq < m.filter.FromSeq || m.filter.ToSeq > 0 && line.Seq >= m.filter.ToSeq || !m.maybe(line.Raw) {
				continue
			}
			e, err := c.decode(line)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if m.matches(e.Record) && !yield(e, nil) {
				return
			}
		}
	}
}

// decode reads a line's record, which must be the one that belongs there.
func (c *cursor) decode(line Line) (Entry, error) {
	r, err := DecodeRecord(line.Raw)
	if err == nil && (r.Seq != line.Seq || r.Log != c.r.log) {
		err = fmt.Errorf("record says seq %d of log %q", r.Seq, r.Log)
	}
	if err != nil {
		return Entry{}, &Damage{File: c.scan.File(), Offset: line.Offset, Seq: line.Seq, Err: err}
	}
	return Entry{r, bytes.Clone(line.Raw), line.Position}, nil
}
