package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"sallyport/audit/segment"
)

// followPoll is how often Follow looks for new records.
const followPoll = 200 * time.Millisecond

// Reader reads one log of an audit directory, beside the gateway that writes it or without one, from any process that
// may read the files. It sees what was acknowledged and never more; while no gateway runs, all that the next one
// would keep. Several readings may run at once.
type Reader struct {
	fs  FileSystem
	log string
}

// Entry is one record as it was read.
type Entry struct {
	Record *Record
	Raw    []byte // its JSON as stored, without a line break; the receiver's to keep
}

// OpenReader opens DecisionLog or ControlLog of an audit directory for reading. A directory that does not exist
// answers fs.ErrNotExist; one without records is empty.
func OpenReader(dir, log string) (*Reader, error) {
	if log != DecisionLog && log != ControlLog {
		return nil, fmt.Errorf("there is no audit log %q, only %q and %q", log, DecisionLog, ControlLog)
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	return &Reader{fs: d, log: log}, nil
}

// Close lets go of the directory. No reading may be under way.
func (r *Reader) Close() error { return r.fs.Close() }

// All yields the records that f chooses in the order of seq, up to what is acknowledged when it gets there. An error
// ends it: *Damage where the log cannot be read, ctx's cause when ctx ends.
func (r *Reader) All(ctx context.Context, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := r.read(ctx, f, false, yield); err != nil {
			yield(Entry{}, err)
		}
	}
}

// Follow yields what All does and then new records as they are acknowledged, within a second, until ctx ends.
func (r *Reader) Follow(ctx context.Context, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := r.read(ctx, f, true, yield); err != nil && ctx.Err() == nil {
			yield(Entry{}, err)
		}
	}
}

func (r *Reader) read(ctx context.Context, f Filter, follow bool, yield func(Entry, error) bool) error {
	c, skip, err := r.begin(ctx, f)
	if err != nil {
		return err
	}
	defer c.close()
	m := newMatcher(f)
	for {
		batch, err := c.next()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF) && !follow:
			return nil
		case errors.Is(err, io.EOF):
			skip = 0
			rest(ctx)
			continue
		case err != nil:
			return err
		}
		for e, err := range c.entries(batch, m) {
			if err != nil {
				return err
			}
			if skip > 0 {
				skip--
				continue
			}
			if !yield(e, nil) {
				return nil
			}
		}
	}
}

// rest waits for the next look, or for ctx to end.
func rest(ctx context.Context) {
	timer := time.NewTimer(followPoll)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// begin returns where a reading starts, and how many matches it passes over.
func (r *Reader) begin(ctx context.Context, f Filter) (c *cursor, skip int, err error) {
	numbers, err := listSegments(r.fs, r.log)
	if err != nil {
		return nil, 0, err
	}
	if len(numbers) == 0 {
		return &cursor{r: r, number: 1}, 0, nil
	}
	at, skip := 0, 0
	switch {
	case f.Last != 0:
		at, skip, err = r.findLast(ctx, f, numbers)
	case f.FromSeq > 0:
		at, err = r.findSeq(f.FromSeq, numbers)
	}
	if err != nil {
		return nil, 0, err
	}
	return &cursor{r: r, number: numbers[at]}, skip, nil
}

// findLast goes back from the newest segment until the wanted number of matches lies ahead.
func (r *Reader) findLast(ctx context.Context, f Filter, numbers []uint64) (at, skip int, err error) {
	found := 0
	for at = len(numbers) - 1; ; at-- {
		n, err := r.count(ctx, numbers[at], newMatcher(f))
		if err != nil {
			return 0, 0, err
		}
		found += n
		if at == 0 || found >= f.Last {
			return at, max(0, found-max(0, f.Last)), nil
		}
	}
}

// count counts the matches in one segment.
func (r *Reader) count(ctx context.Context, number uint64, m *matcher) (n int, err error) {
	c := &cursor{r: r, number: number}
	defer c.close()
	for {
		batch, err := c.next()
		if errors.Is(err, io.EOF) || c.number != number {
			return n, nil
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return 0, err
		}
		for _, err := range c.entries(batch, m) {
			if err != nil {
				return 0, err
			}
			n++
		}
	}
}

// findSeq returns the segment in which a seq is, or will be.
func (r *Reader) findSeq(seq uint64, numbers []uint64) (at int, err error) {
	for at = len(numbers) - 1; at > 0; at-- {
		h, err := openHeader(r.fs, r.log, numbers[at])
		if err != nil {
			return 0, err
		}
		if h.FirstSeq() <= seq {
			break
		}
	}
	return at, nil
}

// cursor goes through the batches of a log, from segment to segment.
type cursor struct {
	r      *Reader
	number uint64 // of the current segment, or of the first to come

	file      File // nil before the segment is there; the rest belongs to it
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
		}
		if c.scan.At() < c.limit {
			f, _, err := c.scan.Next(c.limit)
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
		if c.limit == before && c.successor == nil {
			return nil, io.EOF
		}
	}
}

// open opens the current segment; io.EOF when it does not exist yet.
func (c *cursor) open() error {
	name := segment.Name(c.r.log, c.number)
	f, err := c.r.fs.OpenFile(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("opening audit segment: %w", err)
	}
	h, err := segment.ReadHeader(f, c.r.log, c.number)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	*c = cursor{r: c.r, number: c.number, file: f, header: h, scan: segment.NewScanner(f, h), limit: segment.Block}
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
	case writing || c.whole:
		return nil
	}
	x, err := measureLast(c.file, c.scan.File(), c.header)
	if err != nil {
		return err
	}
	c.limit, c.whole = x.End, true
	return nil
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

// entries yields the matching records of a batch.
func (c *cursor) entries(batch *segment.Frame, m *matcher) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		seq := batch.FirstSeq
		for line := range batch.Lines() {
			seq++
			if !m.maybe(line) {
				continue
			}
			r, err := DecodeRecord(line)
			if err == nil && (r.Seq != seq-1 || r.Log != c.r.log) {
				err = fmt.Errorf("record says seq %d of log %q", r.Seq, r.Log)
			}
			if err != nil {
				yield(Entry{}, &Damage{File: c.scan.File(), Offset: c.scan.At() - int64(batch.Size), Seq: seq - 1, Err: err})
				return
			}
			if m.matches(r) && !yield(Entry{r, bytes.Clone(line)}, nil) {
				return
			}
		}
	}
}
