package search

import (
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// rowOf reads what a line can be found by, without decoding more of it. Fields have the meaning that package filter
// gives them: a row lacks nothing that a filter would find in the record.
func rowOf(l audit.Line) Row {
	text := string(l.Raw)
	r := Row{Seq: l.Seq, Position: l.Position, Doubtful: !peek.Whole(text)}
	var id, at, input, detail string
	for name, value := range peek.Members(text) {
		switch name {
		case "id":
			id = peek.Text(value)
		case "time":
			at = peek.Text(value)
		case "boot":
			r.Boot = peek.Text(peek.Member(value, "id"))
		case "type":
			r.Type = peek.Text(value)
		case "code":
			r.Code = peek.Text(value)
		case "request_id":
			r.RequestID = peek.Text(value)
		case "session":
			r.Session = peek.Text(value)
		case "app":
			r.App = peek.Text(value)
		case "effect":
			r.Effect = peek.Text(value)
		case "reason":
			r.Reason = peek.Text(value)
		case "policy":
			r.Policy = peek.Text(peek.Member(value, "digest"))
		case "actor":
			r.Actor, r.ActorName = peek.Text(peek.Member(value, "id")), peek.Text(peek.Member(value, "name"))
		case "input":
			input = value
		case "detail":
			detail = value
		}
	}
	r.setTimes(id, at)
	r.fromInput(input, detail)
	return r
}

// fromInput takes who asked and how, as filter's fields user and method do.
func (r *Row) fromInput(input, detail string) {
	method := ""
	seen := 0
	for name, value := range peek.Members(input) {
		switch {
		case name == "subject" && seen&1 == 0:
			seen |= 1
			r.Subject, r.Email = peek.Text(peek.Member(value, "id")), peek.Text(peek.Member(value, "email"))
		case name == "action" && seen&2 == 0:
			seen |= 2
			method = peek.Member(value, "method")
		}
		if seen == 3 {
			break
		}
	}
	if method == "" {
		method = peek.Member(detail, "method")
	}
	r.Method = peek.Text(method)
}

// setTimes takes the record's time, and has every record doubted whose id is not one of that time: a record with a certain
// id is looked for among those of the millisecond that the id states.
func (r *Row) setTimes(id, text string) {
	stated, isID := idTime(id)
	at, err := time.Parse(time.RFC3339Nano, text)
	r.Time = at
	if err != nil || !isID || at.UnixMilli() != stated.UnixMilli() || at.Year() < minYear || at.Year() > maxYear {
		r.Doubtful = true
	}
}

// Times that a database keeps as nanoseconds: 64 bits reach from 1678 to 2261.
const (
	minYear = 1700
	maxYear = 2200
)

// idTime is the millisecond that a UUIDv7 (RFC 9562 §5.7) in the log's spelling states.
func idTime(id string) (at time.Time, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[14] != '7' {
		return time.Time{}, false
	}
	var ms int64
	for _, c := range []byte(id[:8] + id[9:13]) {
		digit := strings.IndexByte("0123456789abcdef", c)
		if digit < 0 {
			return time.Time{}, false
		}
		ms = ms<<4 | int64(digit)
	}
	return time.UnixMilli(ms), true
}
