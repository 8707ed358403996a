package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
	"sync"
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

	mu   sync.Mutex
	last *cursor // in the segment that At read last; nil before
}

// Position is where a record stands. It stays true as long as the record is there: sealing moves nothing.
type Position struct {
	Segment uint64 // number of the segment
	Offset  int64  // of the frame within the segment, as it was before sealing
	Line    int    // which of the frame's records, from 0
}

// Entry is one record as it was read.
type Entry struct {
	Record *Record
	Raw    []byte // its JSON as stored, without a line break; the receiver's to keep
	Position
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

// OpenReaderFS reads one log of a directory that is open already, and lets go of that directory when it is closed.
func OpenReaderFS(fsys FileSystem, log string) *Reader { return &Reader{fs: fsys, log: log} }

// OpenDirectory opens an existing audit directory as Reader and Open see it.
func OpenDirectory(dir string) (FileSystem, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Close lets go of the directory. No reading may be under way.
func (r *Reader) Close() error {
	r.forget()
	return r.fs.Close()
}

// All yields the records that f chooses in the order of seq, up to what is acknowledged when it gets there. An error
// ends it: *Damage where the log cannot be read, ctx's cause when ctx ends.
//
// A log that was pruned begins with its first record that is left. Records that are pruned while they are about to be read
// are passed over: the seqs tell, and nothing but pruning makes them jump.
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
		case f.ToSeq > 0 && batch.FirstSeq >= f.ToSeq:
			return nil
		case m.everything() && skip >= int(batch.Count):
			skip -= int(batch.Count)
			continue
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
	return &cursor{r: r, number: numbers[at], from: f.FromSeq}, skip, nil
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
		if m.everything() {
			n += int(batch.Count)
			continue
		}
		for _, err := range c.entries(batch, m) {
			if err != nil {
				return 0, err
			}
			n++
		}
	}
}

// findSeq returns the segment in which a seq is, or will be; the first one for a seq that was pruned.
func (r *Reader) findSeq(seq uint64, numbers []uint64) (at int, err error) {
	after := sort.Search(len(numbers)-1, func(i int) bool {
		if err != nil {
			return false
		}
		var h *segment.Header
		if h, err = openHeader(r.fs, r.log, numbers[i+1]); err != nil {
			return false
		}
		return h.FirstSeq() > seq
	})
	return after, err
}
