// Package search finds audit records without reading the whole log.
//
// A [Copy] keeps for each record a row with what it can be found by, in a [Store]: a database in a folder of its own. It is
// derived, holds nothing that the log does not, and may be thrown away at any time. [Copy.Index] catches up with the log,
// from any process and beside others.
//
// Its word is never taken for a record. A row only says where to look; what [Copy.Query] yields is the record that stands
// there in the log, after its checksum, its seq and the whole filter were checked on it. What is not copied yet is read from the
// log, and so is everything when the copy belongs to another log, to one that was put back, or is broken: results are
// always those of reading the log from end to end. What a row cannot show is that another is missing: a copy that somebody
// tampers with can hide records, and evidence is made from the log alone.
package search

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"sallyport/audit"
)

// Source is one log of an audit directory; *audit.Reader is one. Its methods may be called from several goroutines.
type Source interface {
	// Lines yields the acknowledged records from a seq on, up to the last there is.
	Lines(ctx context.Context, from uint64) iter.Seq2[audit.Line, error]
	// At returns the record at a position; audit.ErrNoRecord when there is none.
	At(ctx context.Context, p audit.Position) (audit.Entry, error)
	// Bounds says where the log begins and ends.
	Bounds() (audit.Bounds, error)
}

// placed is a Source that finds the place of a record faster when it is told.
type placed interface {
	// LinesFrom is Lines from the record on whose seq and position are given.
	LinesFrom(ctx context.Context, p audit.Position, seq uint64) iter.Seq2[audit.Line, error]
}

// Copy is the searchable copy of the logs of one audit directory. Its methods may be called from several goroutines.
type Copy struct{ store Store }

// New searches in a store.
func New(s Store) *Copy { return &Copy{s} }

// Close closes the store.
func (c *Copy) Close() error { return c.store.Close() }

// Size is how many bytes the copy takes on the disk.
func (c *Copy) Size(ctx context.Context) (int64, error) { return c.store.Size(ctx) }

// errStale says that the copy is not one of this log as it is.
var errStale = errors.New("the copy is of another log")

// usable returns the state of the copy if it is one of this log, as far as a look at its last record can tell. Otherwise
// it is errStale, ErrBroken, or what keeps the log from being read.
func (c *Copy) usable(ctx context.Context, log string, src Source) (State, error) {
	s, err := c.store.State(ctx, log)
	if err != nil || s.Next == s.First {
		return s, err
	}
	e, err := src.At(ctx, s.Last)
	switch {
	case ctx.Err() != nil:
		return State{}, context.Cause(ctx)
	case err != nil: // also where the segment is another now, or damaged: whoever reads the log will say so
		return State{}, fmt.Errorf("%w: its last record is not there: %w", errStale, err)
	case e.Record.Seq != s.Next-1 || sha256.Sum256(e.Raw) != s.Anchor:
		return State{}, fmt.Errorf("%w: it holds another record %d", errStale, s.Next-1)
	}
	return s, nil
}

// lines reads a log from a seq on, that of the record after p if that is known.
func lines(ctx context.Context, src Source, s State, from uint64) iter.Seq2[audit.Line, error] {
	quick, ok := src.(placed)
	if !ok || s.Next == 0 || from < s.Next {
		return src.Lines(ctx, from)
	}
	return func(yield func(audit.Line, error) bool) {
		for l, err := range quick.LinesFrom(ctx, s.Last, s.Next-1) {
			if err == nil && l.Seq < from {
				continue
			}
			if !yield(l, err) {
				return
			}
		}
	}
}
