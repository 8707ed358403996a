package search

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"sallyport/audit"
	"sallyport/audit/filter"
)

// Query says what is searched for in one log.
type Query struct {
	Where  *filter.Filter // nil for all records
	Newest bool           // the newest first, else the oldest
	After  *uint64        // go on behind the record of this seq, in that order; nil to begin
	Limit  int            // at most so many; 0 for all
}

const (
	// firstPage and lastPage are how many hits are asked for at once: few for a page that people read, more when a
	// search goes on.
	firstPage = 64
	lastPage  = 4096
	// window is how many records are read at once when a log is read backwards.
	window = 1 << 16
)

// Query yields the records that a search chooses, in the order of their seqs: exactly those that reading the log
// would choose, including what is not copied yet. An error ends it.
func (c *Copy) Query(ctx context.Context, log string, src Source, q Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		s, err := c.newSearch(ctx, log, src, q)
		if err == nil {
			s.yield = yield
			err = s.run(ctx)
		}
		if err != nil && !errors.Is(err, errEnough) {
			yield(audit.Entry{}, err)
		}
	}
}

// Count is how many records of a log a filter chooses. The count of a filter that the copy knows all about is the copy's
// word: nothing is read then but what is not copied yet.
func (c *Copy) Count(ctx context.Context, log string, src Source, where *filter.Filter) (uint64, error) {
	s, err := c.newSearch(ctx, log, src, Query{Where: where})
	if err != nil {
		return 0, err
	}
	var n uint64
	s.yield = func(audit.Entry, error) bool { n++; return true }
	if s.exact {
		counted, state, err := c.store.Count(ctx, log, s.condition.within(s.lo, max(s.lo, s.copied)))
		if err == nil && state.Epoch == s.state.Epoch {
			n, s.lo = counted, max(s.lo, s.copied)
			s.copied = s.lo
		}
	}
	if err := s.run(ctx); err != nil {
		return 0, err
	}
	return n, nil
}

// errEnough says that whoever iterates has enough.
var errEnough = errors.New("enough")

// search is one search under way.
type search struct {
	copy      *Copy
	log       string
	src       Source
	q         Query
	condition Condition
	exact     bool
	state     State
	yield     func(audit.Entry, error) bool

	lo, hi uint64 // seqs that are still to be searched; hi is the end of the log
	copied uint64 // what lies before is in the copy
	found  int
}

func (c *Copy) newSearch(ctx context.Context, log string, src Source, q Query) (*search, error) {
	bounds, err := src.Bounds()
	if err != nil {
		return nil, err
	}
	s := &search{copy: c, log: log, src: src, q: q, lo: bounds.First, hi: bounds.Next}
	s.condition, s.exact = conditionOf(q.Where)
	s.condition.Newest = q.Newest
	s.lo = max(s.lo, s.condition.FromSeq)
	if to := s.condition.ToSeq; to != 0 {
		s.hi = min(s.hi, to)
	}
	switch {
	case q.After == nil:
	case q.Newest:
		s.hi = min(s.hi, *q.After)
	default:
		s.lo = max(s.lo, *q.After+1)
	}
	s.state, err = c.usable(ctx, log, src)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil && s.state.First <= bounds.First { // else something is missing at its beginning
		s.copied = s.state.Next
	}
	return s, nil
}

// run searches: the part that is not copied by reading it, the rest by the copy. When the copy turns out to be wrong, what
// is left is read as well.
func (s *search) run(ctx context.Context) error {
	if s.q.Newest {
		if err := s.readBackwards(ctx, max(s.lo, s.copied)); err != nil {
			return err
		}
	}
	for s.lo < s.hi && s.lo < s.copied {
		if err := s.look(ctx); err != nil {
			if ctx.Err() != nil || errors.Is(err, errEnough) {
				return err
			}
			s.copied = 0
		}
	}
	if s.q.Newest {
		return s.readBackwards(ctx, s.lo)
	}
	return s.read(ctx)
}

// look searches the copy, in pages, and each hit's record in the log.
func (s *search) look(ctx context.Context) error {
	for size := firstPage; s.lo < min(s.hi, s.copied); size = min(4*size, lastPage) {
		hits, state, err := s.copy.store.Find(ctx, s.log, s.condition.within(s.lo, min(s.hi, s.copied)), size)
		if err != nil {
			return err
		}
		if state.Epoch != s.state.Epoch {
			return errStale
		}
		for _, h := range hits {
			if err := s.hit(ctx, h); err != nil {
				return err
			}
		}
		if len(hits) < size {
			s.passed()
		}
	}
	return nil
}

// passed notes that the copy is searched through.
func (s *search) passed() {
	if s.q.Newest {
		s.hi = s.lo
		return
	}
	s.lo = min(s.hi, s.copied)
}

// hit takes the record that a row points at, if it is one.
func (s *search) hit(ctx context.Context, h Hit) error {
	e, err := s.src.At(ctx, h.Position)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, audit.ErrNoRecord):
		return s.gone(h)
	case err != nil:
		return err
	case e.Record.Seq != h.Seq:
		return fmt.Errorf("%w: record %d is not where it says", errStale, h.Seq)
	}
	if s.q.Newest {
		s.hi = h.Seq
	} else {
		s.lo = h.Seq + 1
	}
	return s.offer(e)
}

// gone is for a record that is not there: it was pruned meanwhile, or it never was.
func (s *search) gone(h Hit) error {
	bounds, err := s.src.Bounds()
	if err != nil {
		return err
	}
	if h.Seq >= bounds.First {
		return fmt.Errorf("%w: record %d is not where it says", errStale, h.Seq)
	}
	if !s.q.Newest {
		s.lo = h.Seq + 1
		return nil
	}
	s.hi = h.Seq
	return nil
}

// offer yields a record if the filter chooses it.
func (s *search) offer(e audit.Entry) error {
	if s.q.Where != nil && !s.q.Where.Matches(e.Record) {
		return nil
	}
	if !s.yield(e, nil) {
		return errEnough
	}
	if s.found++; s.found == s.q.Limit {
		return errEnough
	}
	return nil
}

// read searches the log from lo on.
func (s *search) read(ctx context.Context) error {
	for l, err := range lines(ctx, s.src, s.state, s.lo) {
		switch {
		case err != nil:
			return err
		case l.Seq >= s.hi:
			return nil
		case s.q.Where != nil && !s.q.Where.MatchesRaw(l.Raw):
			continue
		}
		e, err := entry(s.log, l)
		if err != nil {
			return err
		}
		if err := s.offer(e); err != nil {
			return err
		}
	}
	return nil
}

// readBackwards searches the log from hi down to lo, a window at a time: a log can only be read forwards.
func (s *search) readBackwards(ctx context.Context, lo uint64) error {
	for s.hi > lo {
		from := lo
		if s.hi-lo > window {
			from = s.hi - window
		}
		var found []audit.Position
		for l, err := range lines(ctx, s.src, s.state, from) {
			if err != nil {
				return err
			}
			if l.Seq >= s.hi {
				break
			}
			if s.q.Where == nil || s.q.Where.MatchesRaw(l.Raw) {
				found = append(found, l.Position)
			}
		}
		s.hi = from
		for _, p := range slices.Backward(found) {
			e, err := s.src.At(ctx, p)
			if errors.Is(err, audit.ErrNoRecord) {
				continue // pruned meanwhile
			}
			if err != nil {
				return err
			}
			if err := s.offer(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry decodes a line, which must be the record that belongs there.
func entry(log string, l audit.Line) (audit.Entry, error) {
	r, err := audit.DecodeRecord(l.Raw)
	if err == nil && (r.Seq != l.Seq || r.Log != log) {
		err = fmt.Errorf("record says seq %d of log %q", r.Seq, r.Log)
	}
	if err != nil {
		return audit.Entry{}, fmt.Errorf("record %d of the %s log: %w", l.Seq, log, err)
	}
	return audit.Entry{Record: r, Raw: slices.Clone(l.Raw), Position: l.Position}, nil
}
