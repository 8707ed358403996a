package filter

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/audit"
)

// From is the filter that chooses what an audit.Filter does, but for Last, which is no property of a record.
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
	add(fieldUser, "==", f.User)
	add("app", "==", f.App)
	add("effect", "==", string(f.Effect))
	add("reason", "==", f.Reason)
	add("request_id", "==", f.RequestID)
	add("type", "==", string(f.Type))
	add("code", "==", f.Code)
	return Compile(strings.Join(all, " && "))
}

// Audit is what of the filter audit.Reader understands, which passes over most other records without decoding them. It
// chooses everything that the filter does and may choose more: ask Matches of what it yields.
func (f *Filter) Audit() audit.Filter {
	b := f.bounds
	return audit.Filter{
		From: b.From, To: b.To, FromSeq: b.FromSeq, User: b.User, App: b.Equal["app"], Effect: audit.Effect(b.Equal["effect"]),
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
