package filter

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/audit"
)

// From is the filter that chooses what an audit.Filter does, but for Last, which is no property of a record.
// A Where is asked as well, and is not part of the text.
func From(f audit.Filter) (*Filter, error) {
	var all []string
	add := func(field, operator, value string) {
		if value != "" {
			all = append(all, field+" "+operator+" "+Quote(value))
		}
	}
	if !f.From.IsZero() {
		add(fieldTime, ">=", f.From.UTC().Format(time.RFC3339Nano))
	}
	if !f.To.IsZero() {
		add(fieldTime, "<", f.To.UTC().Format(time.RFC3339Nano))
	}
	if f.FromSeq > 0 {
		all = append(all, fmt.Sprintf("seq >= %d", signed(f.FromSeq)))
	}
	if f.ToSeq > 0 {
		all = append(all, fmt.Sprintf("seq < %d", signed(f.ToSeq)))
	}
	add(fieldUser, "==", f.User)
	add("app", "==", f.App)
	add("effect", "==", string(f.Effect))
	add("reason", "==", f.Reason)
	add("request_id", "==", f.RequestID)
	add("type", "==", string(f.Type))
	add("code", "==", f.Code)
	made, err := Compile(strings.Join(all, " && "))
	if err == nil && f.Where != nil {
		made.exact = false
		made.parts = append(made.parts, part{native: func(x *facts) bool { return f.Where(x.whole()) }})
	}
	return made, err
}

// Audit is the filter for audit.Reader: it chooses the same records, and lets the reader pass over most others without
// decoding them.
func (f *Filter) Audit() audit.Filter {
	b := f.bounds
	return audit.Filter{
		From: b.From, To: b.To, FromSeq: b.FromSeq, ToSeq: b.ToSeq, Where: f.Matches, App: b.Equal["app"], Effect: audit.Effect(b.Equal["effect"]),
		Reason: b.Equal["reason"], RequestID: b.Equal["request_id"], Type: audit.Type(b.Equal["type"]), Code: b.Equal["code"],
	}
}

// Quote is text as a string of the filter language.
func Quote(text string) string {
	b := []byte{'"'}
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = fmt.Appendf(b, `\x%02x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return string(append(b, '"'))
}
