package search

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/audit"
)

// batchRows is how many rows make a transaction: large enough that its cost does not show, small enough for other
// processes to come in between.
const batchRows = 32768

// Progress says what Index did.
type Progress struct {
	Rows    uint64 // copied by this call
	Next    uint64 // seq of the first record that is not copied
	Rebuilt bool   // the copy was of another log, or broken, and was begun anew
}

// Index copies what the copy lacks, at most limit records (0: all there are), and drops what the log does not have any
// more. A copy that is not of this log, or broken, is begun anew. It may be called from several processes at once: they take turns.
func (c *Copy) Index(ctx context.Context, log string, src Source, limit int) (Progress, error) {
	var p Progress
	for {
		left := 0
		if limit > 0 {
			left = limit - int(p.Rows)
		}
		n, next, err := c.index(ctx, log, src, left)
		p.Rows += n
		p.Next = next
		switch {
		case err == nil:
			return p, nil
		case errors.Is(err, ErrConflict):
		case errors.Is(err, errStale) && !p.Rebuilt:
			p.Rebuilt = true
			err = c.store.Reset(ctx, log)
			if errors.Is(err, ErrBroken) {
				err = c.store.Discard(ctx)
			}
			if err != nil {
				return p, fmt.Errorf("beginning the copy of the %s log anew: %w", log, err)
			}
		case errors.Is(err, ErrBroken) && !p.Rebuilt:
			p.Rebuilt = true
			if err := c.store.Discard(ctx); err != nil {
				return p, fmt.Errorf("beginning the copy anew: %w", err)
			}
		default:
			return p, fmt.Errorf("copying the %s log: %w", log, err)
		}
		if limit > 0 && p.Rows >= uint64(limit) {
			return p, nil
		}
	}
}

// Rebuild throws the copy of a log away and makes it again.
func (c *Copy) Rebuild(ctx context.Context, log string, src Source) (Progress, error) {
	err := c.store.Reset(ctx, log)
	if errors.Is(err, ErrBroken) {
		err = c.store.Discard(ctx)
	}
	if err != nil {
		return Progress{}, fmt.Errorf("beginning the copy of the %s log anew: %w", log, err)
	}
	return c.Index(ctx, log, src, 0)
}

// index goes on where the copy ends.
func (c *Copy) index(ctx context.Context, log string, src Source, limit int) (rows, next uint64, err error) {
	was, err := c.begin(ctx, log, src)
	if err != nil {
		return 0, 0, err
	}
	s := was
	if s.Epoch == "" {
		s.Epoch, was = rand.Text(), State{}
	}
	next = s.Next
	full := make(chan extension, 2)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(full)
		return readRows(ctx, src, s, limit, full)
	})
	group.Go(func() error {
		for x := range full {
			if err := c.store.Extend(ctx, log, was, x.rows, x.state); err != nil {
				return err
			}
			rows += uint64(len(x.rows))
			was, next = x.state, x.state.Next
		}
		return nil
	})
	err = group.Wait()
	return rows, next, err
}

// begin returns where to go on, after what was pruned is dropped.
func (c *Copy) begin(ctx context.Context, log string, src Source) (State, error) {
	bounds, err := src.Bounds()
	if err != nil {
		return State{}, err
	}
	s, err := c.store.State(ctx, log)
	if err != nil {
		return State{}, err
	}
	if s.Next < bounds.First && s.Epoch != "" {
		return State{}, errStale // nothing of it is left in the log
	}
	if s, err = c.usable(ctx, log, src); err != nil {
		return State{}, err
	}
	switch {
	case s.Epoch == "":
		s.First, s.Next = bounds.First, bounds.First
	case s.First < bounds.First:
		if err := c.store.Forget(ctx, log, bounds.First); err != nil {
			return State{}, err
		}
		return c.store.State(ctx, log)
	}
	return s, nil
}

// extension is one call of Extend.
type extension struct {
	rows  []Row
	state State
}

// readRows reads rows from where a state ends and passes them on in batches.
func readRows(ctx context.Context, src Source, s State, limit int, full chan<- extension) error {
	var rows []Row
	var last []byte
	send := func() error {
		if len(rows) == 0 {
			return nil
		}
		s.Next, s.Last, s.Anchor = rows[len(rows)-1].Seq+1, rows[len(rows)-1].Position, sha256.Sum256(last)
		select {
		case full <- extension{rows, s}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		rows = make([]Row, 0, batchRows)
		return nil
	}
	n := 0
	for l, err := range lines(ctx, src, s, s.Next) {
		if err != nil {
			return err
		}
		if l.Seq != s.Next+uint64(len(rows)) { // pruned while it was about to be read
			return errors.Join(send(), errStale)
		}
		rows = append(rows, rowOf(l))
		last = append(last[:0], l.Raw...)
		n++
		if len(rows) == batchRows || n == limit {
			if err := send(); err != nil || n == limit {
				return err
			}
		}
	}
	return send()
}

// Named is a log with its name.
type Named struct {
	Log    string
	Source Source
}

const (
	// keepRows is how many records Keep copies before it rests.
	keepRows = 8192
	// keepShare is which part of the time it works while it catches up: the rest belongs to requests.
	keepShare = 10
)

// Keep keeps the copy of logs up to date until ctx ends, with a look at each of them every so often. While there is much to copy it
// works a tenth of the time. What goes wrong is logged once, until it is well again: searches are complete without the
// copy, only slower.
func (c *Copy) Keep(ctx context.Context, every time.Duration, logger *slog.Logger, logs ...Named) {
	failing := map[string]bool{}
	for ctx.Err() == nil {
		began, more := time.Now(), false
		for _, l := range logs {
			p, err := c.Index(ctx, l.Log, l.Source, keepRows)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil && !failing[l.Log]:
				logger.Warn("searchable copy of the audit log falls behind", "log", l.Log, "error", err)
			case err == nil && failing[l.Log]:
				logger.Info("searchable copy of the audit log catches up again", "log", l.Log)
			}
			if p.Rebuilt {
				logger.Info("searchable copy of the audit log is made anew", "log", l.Log)
			}
			failing[l.Log] = err != nil
			more = more || err == nil && p.Rows >= keepRows
		}
		pause := every
		if more {
			pause = min(every, (keepShare-1)*time.Since(began))
		}
		rest(ctx, pause)
	}
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

var _ Source = (*audit.Reader)(nil)
