package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"sallyport/audit/search"
)

const (
	// atOnce is how many rows one statement inserts.
	atOnce = 64
	// spanRows is how many rows make a span, about.
	spanRows = 16384
)

// State implements search.Store.
func (s *Store) State(ctx context.Context, log string) (state search.State, err error) {
	err = s.use(ctx, func(d *database) error {
		state, err = stateOf(ctx, d.read, log)
		return err
	})
	return state, err
}

func stateOf(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, log string) (search.State, error) {
	var s search.State
	var anchor []byte
	err := q.QueryRowContext(ctx, `SELECT epoch, first, next, segment, offset, line, anchor FROM state WHERE log = ?`, log).
		Scan(&s.Epoch, &s.First, &s.Next, &s.Last.Segment, &s.Last.Offset, &s.Last.Line, &anchor)
	if errors.Is(err, sql.ErrNoRows) {
		return search.State{}, nil
	}
	if err == nil && len(anchor) != len(s.Anchor) {
		err = fmt.Errorf("%w: the state of the %s log", search.ErrBroken, log)
	}
	copy(s.Anchor[:], anchor)
	return s, err
}

func setState(ctx context.Context, tx *sql.Tx, log string, s search.State) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO state (log, epoch, first, next, segment, offset, line, anchor)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, log, s.Epoch, int64(s.First), int64(s.Next), int64(s.Last.Segment), s.Last.Offset, s.Last.Line, s.Anchor[:])
	return err
}

// change runs do in one transaction that writes.
func (s *Store) change(ctx context.Context, do func(*database, *sql.Tx) error) error {
	if s.readOnly {
		return errReadOnly
	}
	return s.use(ctx, func(d *database) error {
		d.writing.Lock()
		defer d.writing.Unlock()
		tx, err := d.write.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err = do(d, tx); err == nil {
			err = tx.Commit()
		}
		if err != nil {
			d.words = newWords() // what it remembers may have been rolled back
		}
		return err
	})
}

// Extend implements search.Store.
func (s *Store) Extend(ctx context.Context, log string, was search.State, rows []search.Row, now search.State) error {
	return s.change(ctx, func(d *database, tx *sql.Tx) error {
		is, err := stateOf(ctx, tx, log)
		if err != nil {
			return err
		}
		if is.Epoch != was.Epoch || is.Next != was.Next && is.Epoch != "" {
			return search.ErrConflict
		}
		if now.First < is.First {
			now.First = is.First
		}
		x := &extension{log: log, tx: tx, words: d.words, tally: map[[2]int64]int64{}}
		if err := x.add(ctx, rows); err != nil {
			return err
		}
		return setState(ctx, tx, log, now)
	})
}

// extension is one transaction of Extend.
type extension struct {
	log   string
	tx    *sql.Tx
	words *words
	spans []span
	tally map[[2]int64]int64 // of span and kind
}

type span struct{ first, last, earliest, latest int64 }

func (x *extension) add(ctx context.Context, rows []search.Row) error {
	if err := x.lastSpan(ctx); err != nil {
		return err
	}
	many, err := x.tx.PrepareContext(ctx, insertion(x.log, atOnce))
	if err != nil {
		return err
	}
	defer many.Close()
	for len(rows) >= atOnce {
		values, err := x.values(ctx, rows[:atOnce])
		if err != nil {
			return err
		}
		if _, err := many.ExecContext(ctx, values...); err != nil {
			return err
		}
		rows = rows[atOnce:]
	}
	if len(rows) > 0 {
		values, err := x.values(ctx, rows)
		if err != nil {
			return err
		}
		if _, err := x.tx.ExecContext(ctx, insertion(x.log, len(rows)), values...); err != nil {
			return err
		}
	}
	return x.summarize(ctx)
}

// insertion is the statement for so many rows. A failure rolls everything back, so SQLite need not be able to undo a
// statement alone (OR FAIL), for which it would keep each page that it touches.
func insertion(log string, rows int) string {
	row := "(" + strings.Repeat("?, ", columns-1) + "?)"
	return "INSERT OR FAIL INTO " + log + " (seq, segment, offset, line, time, kind, person, session, request, policy, boot) VALUES " +
		strings.Repeat(row+", ", rows-1) + row
}

func (x *extension) values(ctx context.Context, rows []search.Row) ([]any, error) {
	values := make([]any, 0, len(rows)*columns)
	for i := range rows {
		r := &rows[i]
		kind, err := x.words.kindID(ctx, x.tx, r)
		if err != nil {
			return nil, err
		}
		var person any
		var policy, boot int64
		if kind != doubtful {
			if person, err = x.words.personID(ctx, x.tx, r); err != nil {
				return nil, err
			}
			if policy, err = x.words.textID(ctx, x.tx, r.Policy); err != nil {
				return nil, err
			}
			if boot, err = x.words.textID(ctx, x.tx, r.Boot); err != nil {
				return nil, err
			}
		}
		at := r.Time.UnixNano()
		x.count(int64(r.Seq), at, kind)
		values = append(values, int64(r.Seq), int64(r.Segment), r.Offset, r.Line, at, kind, person,
			sessionKey(r.Session), requestKey(r.RequestID), policy, boot)
	}
	return values, nil
}

// lastSpan goes on with the last span, unless that is full.
func (x *extension) lastSpan(ctx context.Context) error {
	var s span
	err := x.tx.QueryRowContext(ctx, `SELECT first, last, earliest, latest FROM `+x.log+`_span ORDER BY first DESC LIMIT 1`).
		Scan(&s.first, &s.last, &s.earliest, &s.latest)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	x.spans = append(x.spans, s)
	return err
}

// count has a row counted in its span.
func (x *extension) count(seq, at, kind int64) {
	if n := len(x.spans); n == 0 || seq-x.spans[n-1].first >= spanRows {
		x.spans = append(x.spans, span{seq, seq, at, at})
	}
	s := &x.spans[len(x.spans)-1]
	s.last, s.earliest, s.latest = seq, min(s.earliest, at), max(s.latest, at)
	x.tally[[2]int64{s.first, kind}]++
}

// summarize writes the spans and what they hold.
func (x *extension) summarize(ctx context.Context) error {
	for _, s := range x.spans {
		if _, err := x.tx.ExecContext(ctx, `INSERT OR REPLACE INTO `+x.log+`_span (first, last, earliest, latest) VALUES (?, ?, ?, ?)`,
			s.first, s.last, s.earliest, s.latest); err != nil {
			return err
		}
	}
	put, err := x.tx.PrepareContext(ctx, `INSERT INTO `+x.log+`_tally (span, kind, n) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET n = n + excluded.n`)
	if err != nil {
		return err
	}
	defer put.Close()
	for key, n := range x.tally {
		if _, err := put.ExecContext(ctx, key[0], key[1], n); err != nil {
			return err
		}
	}
	return nil
}

// Forget implements search.Store. What was kept once for many rows stays.
func (s *Store) Forget(ctx context.Context, log string, before uint64) error {
	return s.change(ctx, func(_ *database, tx *sql.Tx) error {
		state, err := stateOf(ctx, tx, log)
		if err != nil || state.Epoch == "" || state.First >= before {
			return err
		}
		for _, text := range []string{
			`DELETE FROM ` + log + ` WHERE seq < ?1`,
			`DELETE FROM ` + log + `_tally WHERE span IN (SELECT first FROM ` + log + `_span WHERE last < ?1)`,
			`DELETE FROM ` + log + `_span WHERE last < ?1`,
		} {
			if _, err := tx.ExecContext(ctx, text, int64(before)); err != nil {
				return err
			}
		}
		state.First = min(before, state.Next)
		return setState(ctx, tx, log, state)
	})
}

// Reset implements search.Store.
func (s *Store) Reset(ctx context.Context, log string) error {
	return s.change(ctx, func(_ *database, tx *sql.Tx) error {
		for _, table := range []string{log, log + "_span", log + "_tally"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM state WHERE log = ?`, log)
		return err
	})
}
