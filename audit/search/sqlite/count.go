package sqlite

import (
	"context"
	"fmt"
	"strings"

	"sallyport/audit/search"
)

// Count implements search.Store. Whole spans are counted by their tallies, unless a person, a policy or a boot is asked for.
func (s *Store) Count(ctx context.Context, log string, c search.Condition) (n uint64, state search.State, err error) {
	err = s.look(ctx, log, c, func(f *finder) error {
		state = f.state
		if state.Epoch == "" || f.lo >= f.hi {
			return nil
		}
		if err := f.countable(ctx); err != nil {
			return err
		}
		n, err = f.count(ctx)
		return err
	})
	return n, state, err
}

// countable is nil when rows alone tell what meets the condition.
func (f *finder) countable(ctx context.Context) error {
	if f.c.RequestID != "" || f.c.Session != "" || methodOf(f.c.Method) == otherMethod {
		return search.ErrDoubtful // these are kept shortened
	}
	var some bool
	err := f.tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+f.log+` WHERE kind = 0 AND seq >= ? AND seq < ?)`, f.lo, f.hi).Scan(&some)
	if err == nil && some {
		err = search.ErrDoubtful
	}
	return err
}

func (f *finder) count(ctx context.Context) (n uint64, err error) {
	if f.persons != nil || f.words["policy"] != nil || f.words["boot"] != nil {
		return f.countRows(ctx, f.tlo, f.thi)
	}
	inner, outer, err := f.spans(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range outer {
		part, err := f.countRows(ctx, max(s.first, f.lo), min(s.last+1, f.hi))
		if err != nil {
			return 0, err
		}
		n += part
	}
	for _, s := range inner {
		part, err := f.countSpans(ctx, s)
		if err != nil {
			return 0, err
		}
		n += part
	}
	return n, nil
}

// spans returns the spans that meet the condition as a whole, in runs of neighbours, and those of which a part may.
func (f *finder) spans(ctx context.Context) (inner, outer []span, err error) {
	rows, err := f.tx.QueryContext(ctx, `SELECT first, last, earliest, latest FROM `+f.log+`_span
		WHERE last >= ? AND first < ? AND latest >= ? AND earliest < ? ORDER BY first`, f.lo, f.hi, f.from, f.to)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	next := false // the span before this one is inner
	for rows.Next() {
		var s span
		if err := rows.Scan(&s.first, &s.last, &s.earliest, &s.latest); err != nil {
			return nil, nil, err
		}
		whole := s.first >= f.lo && s.last < f.hi && s.earliest >= f.from && s.latest < f.to
		switch {
		case !whole:
			outer = append(outer, s)
		case next && inner[len(inner)-1].last == s.first-1:
			inner[len(inner)-1].last = s.last
		default:
			inner = append(inner, s)
		}
		next = whole
	}
	return inner, outer, rows.Err()
}

// countSpans adds up the tallies of a run of spans.
func (f *finder) countSpans(ctx context.Context, s span) (n uint64, err error) {
	if f.kinds == nil {
		return uint64(s.last - s.first + 1), nil
	}
	err = f.tx.QueryRowContext(ctx, `SELECT coalesce(sum(n), 0) FROM `+f.log+`_tally WHERE span >= ? AND span <= ?`+among("kind", f.kinds),
		s.first, s.last).Scan(&n)
	return n, err
}

// countRows counts one by one.
func (f *finder) countRows(ctx context.Context, lo, hi int64) (n uint64, err error) {
	text := fmt.Sprintf(`SELECT count(*) FROM %s WHERE seq >= ? AND seq < ?`, f.log)
	args := []any{lo, hi}
	and := func(where string, more ...any) { text, args = text+where, append(args, more...) }
	if !f.c.From.IsZero() {
		and(" AND time >= ?", f.from)
	}
	if !f.c.To.IsZero() {
		and(" AND time < ?", f.to)
	}
	for column, ids := range map[string]set{"kind": f.kinds, "person": f.persons, "policy": f.words["policy"], "boot": f.words["boot"]} {
		if ids != nil {
			and(among(column, ids))
		}
	}
	err = f.tx.QueryRowContext(ctx, text, args...).Scan(&n)
	return n, err
}

// among is a condition on a column. SQLite has a limit to parameters, and integers cannot be mistaken for SQL.
func among(column string, ids set) string {
	var list []string
	for id := range ids {
		list = append(list, fmt.Sprint(id))
	}
	return fmt.Sprintf(" AND %s IN (%s)", column, strings.Join(list, ", "))
}
