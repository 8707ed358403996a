package sqlite

import (
	"context"
	"database/sql"

	"sallyport/audit/search"
)

// row is what a list yields.
type row struct {
	hit          search.Hit
	time, kind   int64
	person       sql.NullInt64
	policy, boot int64
}

// list is a sequence of rows in the order of seqs, of which a part is in memory.
type list struct {
	stmt   *sql.Stmt
	key    []any // what the statement asks for first
	lo, hi int64 // seqs that are still to be asked for
	newest bool
	size   int   // how many rows to ask for
	rows   []row // what was asked for and not taken
}

// maxListed bounds the rows that a list has in memory.
const maxListed = 1024

// fill asks for more rows when there are none in memory; there are none at the end after it.
func (l *list) fill(ctx context.Context) error {
	if len(l.rows) > 0 || l.lo >= l.hi {
		return nil
	}
	rows, err := l.stmt.QueryContext(ctx, append(append([]any{}, l.key...), l.lo, l.hi, l.size)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		var seq, segment int64
		if err := rows.Scan(&seq, &segment, &r.hit.Offset, &r.hit.Line, &r.time, &r.kind, &r.person, &r.policy, &r.boot); err != nil {
			return err
		}
		r.hit.Seq, r.hit.Segment = uint64(seq), uint64(segment)
		l.rows = append(l.rows, r)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	l.asked()
	return nil
}

// asked moves the bounds past what is in memory.
func (l *list) asked() {
	n := len(l.rows)
	switch {
	case n < l.size:
		l.lo = l.hi
	case l.newest:
		l.hi = int64(l.rows[n-1].hit.Seq)
	default:
		l.lo = int64(l.rows[n-1].hit.Seq) + 1
	}
	l.size = min(2*l.size, maxListed)
}

// merge is a heap of lists by their next row.
type merge struct {
	lists  []*list
	newest bool
}

func (m *merge) Len() int      { return len(m.lists) }
func (m *merge) Swap(i, j int) { m.lists[i], m.lists[j] = m.lists[j], m.lists[i] }
func (m *merge) Push(any)      { panic("BUG: lists are all there from the start") }

func (m *merge) Less(i, j int) bool {
	a, b := m.lists[i].rows[0].hit.Seq, m.lists[j].rows[0].hit.Seq
	if m.newest {
		return a > b
	}
	return a < b
}

func (m *merge) Pop() any {
	last := m.lists[len(m.lists)-1]
	m.lists = m.lists[:len(m.lists)-1]
	return last
}
