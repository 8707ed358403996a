package sqlite

import (
	"container/heap"
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"sallyport/audit/search"
)

// Find implements search.Store. It goes through several lists of rows, each in the order of the index that it is in, and
// merges them: one for each kind or person that meets the condition, and that of doubtful rows.
func (s *Store) Find(ctx context.Context, log string, c search.Condition, limit int) (hits []search.Hit, state search.State, err error) {
	err = s.look(ctx, log, c, func(f *finder) error {
		state = f.state
		hits, err = f.find(ctx, limit)
		return err
	})
	return hits, state, err
}

// look runs do on one moment of the file.
func (s *Store) look(ctx context.Context, log string, c search.Condition, do func(*finder) error) error {
	return s.use(ctx, func(d *database) error {
		tx, err := d.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback()
		f := &finder{tx: tx, log: log, c: c}
		if f.state, err = stateOf(ctx, tx, log); err != nil {
			return err
		}
		if f.state.Epoch != "" {
			err = f.resolve(ctx)
		}
		if err != nil {
			return err
		}
		return do(f)
	})
}

// finder is a condition in terms of a file.
type finder struct {
	tx    *sql.Tx
	log   string
	c     search.Condition
	state search.State

	lo, hi   int64          // seqs that are looked at, from lo on, before hi
	from, to int64          // times in nanoseconds
	tlo, thi int64          // seqs at which such times are
	kinds    set            // nil for all
	persons  set            // nil for all
	words    map[string]set // of policy and boot; nil for all
}

type set map[int64]bool

// admits reports whether a set that may be absent has an id.
func (s set) admits(id int64) bool { return s == nil || s[id] }

func (f *finder) resolve(ctx context.Context) (err error) {
	f.lo, f.hi = int64(max(f.c.FromSeq, f.state.First)), int64(f.state.Next)
	if f.c.ToSeq != 0 {
		f.hi = int64(min(f.c.ToSeq, f.state.Next))
	}
	f.from, f.to = nanoseconds(f.c.From, math.MinInt64), nanoseconds(f.c.To, math.MaxInt64)
	if err := f.resolveTime(ctx); err != nil {
		return err
	}
	if f.kinds, err = f.resolveKinds(ctx); err != nil {
		return err
	}
	if f.c.User != "" {
		f.persons, err = f.ids(ctx, `SELECT person FROM called WHERE name IN (?, ?)`, "="+f.c.User, "~"+search.Fold(f.c.User))
	}
	f.words = map[string]set{}
	for column, text := range map[string]string{"policy": f.c.Policy, "boot": f.c.Boot} {
		if text != "" && err == nil {
			f.words[column], err = f.ids(ctx, `SELECT id FROM word WHERE text = ?`, text)
		}
	}
	return err
}

// nanoseconds is a time as it is stored; none when it is zero. Times beyond what fits are as good as the end of it.
func nanoseconds(t time.Time, none int64) int64 {
	switch {
	case t.IsZero():
		return none
	case t.Year() < 1678:
		return math.MinInt64
	case t.Year() > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// resolveTime turns times into seqs. They need no more than include all that are meant.
func (f *finder) resolveTime(ctx context.Context) error {
	f.tlo, f.thi = f.lo, f.hi
	if f.c.From.IsZero() && f.c.To.IsZero() {
		return nil
	}
	var first, last sql.NullInt64
	err := f.tx.QueryRowContext(ctx, `SELECT min(first), max(last) FROM `+f.log+`_span WHERE latest >= ? AND earliest < ?`, f.from, f.to).
		Scan(&first, &last)
	if !first.Valid {
		f.tlo, f.thi = 0, 0
		return err
	}
	f.tlo, f.thi = max(f.lo, first.Int64), min(f.hi, last.Int64+1)
	return err
}

func (f *finder) resolveKinds(ctx context.Context) (set, error) {
	var where []string
	var args []any
	for _, pair := range [][2]string{{"app", f.c.App}, {"type", f.c.Type}, {"code", f.c.Code}, {"effect", f.c.Effect},
		{"reason", f.c.Reason}, {"method", methodOf(f.c.Method)}} {
		if pair[1] != "" {
			where, args = append(where, pair[0]+" = ?"), append(args, pair[1])
		}
	}
	if len(where) == 0 {
		return nil, nil
	}
	return f.ids(ctx, `SELECT id FROM kind WHERE `+strings.Join(where, " AND "), args...)
}

func (f *finder) ids(ctx context.Context, text string, args ...any) (set, error) {
	rows, err := f.tx.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := set{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		all[id] = true
	}
	return all, rows.Err()
}

// find merges the lists.
func (f *finder) find(ctx context.Context, limit int) ([]search.Hit, error) {
	if f.state.Epoch == "" {
		return nil, nil
	}
	lists, err := f.lists(ctx, limit)
	if err != nil {
		return nil, err
	}
	m := &merge{newest: f.c.Newest}
	for _, l := range lists {
		if err := l.fill(ctx); err != nil {
			return nil, err
		}
		if len(l.rows) > 0 {
			m.lists = append(m.lists, l)
		}
	}
	heap.Init(m)
	var hits []search.Hit
	for len(m.lists) > 0 && len(hits) < limit {
		r := m.lists[0].rows[0]
		if err := m.next(ctx); err != nil {
			return nil, err
		}
		if n := len(hits); f.admits(r) && (n == 0 || hits[n-1].Seq != r.hit.Seq) {
			hits = append(hits, r.hit)
		}
	}
	return hits, nil
}

// admits reports whether a row meets what its list does not promise.
func (f *finder) admits(r row) bool {
	if r.kind == doubtful {
		return true
	}
	return r.time >= f.from && r.time < f.to && f.kinds.admits(r.kind) && (f.persons == nil || r.person.Valid && f.persons[r.person.Int64]) &&
		f.words["policy"].admits(r.policy) && f.words["boot"].admits(r.boot)
}

// lists chooses the lists that hold all rows which meet the condition.
func (f *finder) lists(ctx context.Context, limit int) ([]*list, error) {
	column, ids, err := f.driver(ctx)
	if err != nil {
		return nil, err
	}
	size := min(max(2*limit/max(len(ids), 1), 4), limit)
	stmt, err := f.prepare(ctx, column)
	if err != nil {
		return nil, err
	}
	var all []*list
	for _, id := range ids {
		all = append(all, &list{stmt: stmt, key: []any{id}, lo: f.tlo, hi: f.thi, newest: f.c.Newest, size: size})
	}
	if column == "" {
		all = append(all, &list{stmt: stmt, lo: f.tlo, hi: f.thi, newest: f.c.Newest, size: size})
	}
	if stmt, err = f.prepare(ctx, "kind"); err != nil {
		return nil, err
	}
	return append(all, &list{stmt: stmt, key: []any{int64(doubtful)}, lo: f.lo, hi: f.hi, newest: f.c.Newest, size: size}), nil
}

// prepare is the statement for lists of a column; all of them end with the transaction.
func (f *finder) prepare(ctx context.Context, column string) (*sql.Stmt, error) {
	where, order := "", "ASC"
	if column != "" {
		where = column + " = ? AND"
	}
	if f.c.Newest {
		order = "DESC"
	}
	return f.tx.PrepareContext(ctx, fmt.Sprintf(`SELECT seq, segment, offset, line, time, kind, person, policy, boot FROM %s
		WHERE %s seq >= ? AND seq < ? ORDER BY seq %s LIMIT ?`, f.log, where, order))
}

// probe is how many rows are counted before a column is taken for one that many rows meet.
const probe = 1000

// driver chooses the column whose lists are gone through, and their keys.
func (f *finder) driver(ctx context.Context) (column string, keys []any, err error) {
	switch {
	case f.c.RequestID != "":
		return "request", []any{requestKey(f.c.RequestID)}, nil
	case f.c.Session != "":
		return "session", []any{sessionKey(f.c.Session)}, nil
	case f.kinds == nil && f.persons == nil:
		return "", nil, nil
	case f.persons == nil:
		return "kind", f.kinds.keys(), nil
	case f.kinds == nil:
		return "person", f.persons.keys(), nil
	}
	rare, err := f.fewOf(ctx, "kind", f.kinds)
	if rare {
		return "kind", f.kinds.keys(), err
	}
	return "person", f.persons.keys(), err
}

func (s set) keys() []any {
	var all []any
	for id := range s {
		all = append(all, id)
	}
	return all
}

// fewOf reports whether few rows have one of a column's keys.
func (f *finder) fewOf(ctx context.Context, column string, keys set) (bool, error) {
	stmt, err := f.tx.PrepareContext(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT 1 FROM %s WHERE %s = ? AND seq >= ? AND seq < ? LIMIT ?)`,
		f.log, column))
	if err != nil {
		return false, err
	}
	left := probe
	for key := range keys {
		var n int
		if err := stmt.QueryRowContext(ctx, key, f.tlo, f.thi, left+1).Scan(&n); err != nil {
			return false, err
		}
		if left -= n; left < 0 {
			return false, nil
		}
	}
	return true, nil
}

// next takes the first row off.
func (m *merge) next(ctx context.Context) error {
	first := m.lists[0]
	first.rows = first.rows[1:]
	if err := first.fill(ctx); err != nil {
		return err
	}
	if len(first.rows) == 0 {
		heap.Pop(m)
		return nil
	}
	heap.Fix(m, 0)
	return nil
}
