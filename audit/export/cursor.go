package export

import (
	"fmt"
	"strconv"
	"strings"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// Cursor is how far an export came: give it to the next one to go on without a gap and without repeating a record. The
// zero value is the begin of no log in particular.
type Cursor struct {
	Log  string // "decision" or "control"
	Next uint64 // seq of the first record that was not written
}

// String is the cursor for a file or a person: decision:4711.
func (c Cursor) String() string { return c.Log + ":" + strconv.FormatUint(c.Next, 10) }

// ParseCursor reads what String writes.
func ParseCursor(text string) (Cursor, error) {
	log, next, ok := strings.Cut(text, ":")
	seq, err := strconv.ParseUint(next, 10, 64)
	if !ok || err != nil || log != audit.DecisionLog && log != audit.ControlLog {
		return Cursor{}, fmt.Errorf("%q is no place in a log: it reads decision:4711 or control:4711", text)
	}
	return Cursor{Log: log, Next: seq}, nil
}

// After is the cursor behind a record.
func After(e audit.Entry) Cursor {
	if e.Record != nil {
		return Cursor{Log: e.Record.Log, Next: e.Record.Seq + 1}
	}
	c := Cursor{}
	for name, value := range peek.Members(string(e.Raw[:min(len(e.Raw), headBytes)])) {
		switch name {
		case "log":
			c.Log = peek.Text(value)
		case "seq":
			c.Next = peek.Uint(value) + 1
			return c
		}
	}
	return c
}

// headBytes is more than v, id, log and seq take at the begin of a record.
const headBytes = 160
