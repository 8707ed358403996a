package search

import (
	"time"

	"sallyport/audit/filter"
)

// conditionOf is what an index can do for a filter; nil chooses everything. It is exact when the filter chooses every
// record whose row meets it.
func conditionOf(f *filter.Filter) (c Condition, exact bool) {
	if f == nil {
		return Condition{}, true
	}
	b := f.Bounds()
	c = Condition{From: b.From, To: b.To, FromSeq: b.FromSeq, ToSeq: b.ToSeq, User: b.User}
	exact = f.Exact()
	columns := map[filter.Field]*string{
		"type": &c.Type, "code": &c.Code, "app": &c.App, "effect": &c.Effect, "reason": &c.Reason, "method": &c.Method,
		"policy": &c.Policy, "boot": &c.Boot, "request_id": &c.RequestID, "session": &c.Session,
	}
	for field, value := range b.Equal {
		column := columns[field]
		switch {
		case field == "id":
			c.narrow(value)
			exact = false
		case column == nil || value == "":
			exact = false
		default:
			*column = value
		}
	}
	return c, exact
}

// narrow looks for one id: among the rows of the millisecond that it states, or among none but the doubtful.
func (c *Condition) narrow(id string) {
	from, ok := idTime(id)
	to := from.Add(time.Millisecond)
	if !ok {
		from, to = nothing, nothing
	}
	if c.From.IsZero() || c.From.Before(from) {
		c.From = from
	}
	if c.To.IsZero() || c.To.After(to) {
		c.To = to
	}
}

// nothing as both bounds of time is met by no row that is sure of its time.
var nothing = time.Unix(0, 0)

// within narrows a condition to the seqs from lo on, before hi.
func (c Condition) within(lo, hi uint64) Condition {
	c.FromSeq = max(c.FromSeq, lo)
	if c.ToSeq == 0 || c.ToSeq > hi {
		c.ToSeq = hi
	}
	return c
}

// Meets reports whether a row meets a condition: what a Store that reads all its rows does.
func (r *Row) Meets(c Condition) bool {
	if r.Seq < c.FromSeq || c.ToSeq != 0 && r.Seq >= c.ToSeq {
		return false
	}
	if r.Doubtful {
		return true
	}
	return r.meetsTime(c) && r.meetsColumns(c) && r.meetsUser(c.User)
}

func (r *Row) meetsTime(c Condition) bool {
	return (c.From.IsZero() || !r.Time.Before(c.From)) && (c.To.IsZero() || r.Time.Before(c.To))
}

func (r *Row) meetsColumns(c Condition) bool {
	for _, pair := range [][2]string{
		{c.Type, r.Type}, {c.Code, r.Code}, {c.App, r.App}, {c.Effect, r.Effect}, {c.Reason, r.Reason}, {c.Method, r.Method},
		{c.Policy, r.Policy}, {c.Boot, r.Boot}, {c.RequestID, r.RequestID}, {c.Session, r.Session},
	} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	return true
}

func (r *Row) meetsUser(user string) bool {
	if user == "" {
		return true
	}
	return r.Subject == user || r.Actor == user || Fold(r.Email) == Fold(user) || Fold(r.ActorName) == Fold(user)
}
