package export

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"sallyport/audit/filter/peek"
)

// Redacted stands for a value that was redacted.
const Redacted = "[redacted]"

// unreadable stands for a field that could not be redacted, and so is left out whole.
const unreadable = "[redacted: unreadable]"

// Redactor replaces personal data in the JSON of records:
//
//   - e-mail addresses, IP addresses, user agents, queries and the like by the names of their fields, wherever those
//     occur, and the names and addresses of actors;
//   - all values of claims and of recorded headers;
//   - the query of a URL;
//   - what looks like an e-mail or IP address in any other text, so that a person's id stays unless it is an address;
//   - the digest of the input, from which the rest could be guessed.
//
// A value becomes [Redacted]; with a key, "[redacted:" and 16 hexadecimal digits of HMAC-SHA-256 over it in lower case, so
// that equal ones stay equal to whoever does not have the key, and nobody without it can try out addresses. Without a
// key, records correlate by ids: subject, session, request and decision ids stay. Field names, the order of fields and
// everything else stay as they are.
//
// The record gets one more member, "redacted": the paths of the fields that were changed. A field that cannot be read is
// replaced whole and named in "redaction_errors"; the record is never lost.
type Redactor struct{ key []byte }

// Redact returns a Redactor; key may be nil.
func Redact(key []byte) *Redactor { return &Redactor{key: key} }

func (o *Options) redactor() *Redactor {
	if o.Disclose {
		return nil
	}
	return Redact(o.Key)
}

// Append appends the redacted form of a record's JSON.
func (r *Redactor) Append(dst, record []byte) []byte {
	start := len(dst)
	w := redaction{Redactor: r, out: dst}
	if !w.record(string(record)) {
		w = redaction{Redactor: r, out: w.out[:start], failed: []string{"*"}}
		w.out = append(w.out, '{')
	}
	w.list(`"redacted":[`, w.changed)
	if w.failed != nil {
		w.list(`"redaction_errors":[`, w.failed)
	}
	return append(w.out, '}')
}

// redaction is one record on its way.
type redaction struct {
	*Redactor
	out     []byte
	path    []string
	changed []string
	failed  []string
}

// kept are the fields of records that hold no personal data: our own ids, names and times.
var kept = map[string]bool{"v": true, "id": true, "log": true, "seq": true, "boot": true, "type": true, "code": true, "time": true,
	"replica": true, "effect": true, "memo": true, "policy": true}

// record copies the record, redacted and without its closing bracket.
func (w *redaction) record(line string) bool {
	w.out = append(w.out, '{')
	first := true
	return peek.EachMember(line, func(name, value string) bool {
		if !first {
			w.out = append(w.out, ',')
		}
		first = false
		w.enter(name)
		defer w.leave()
		switch {
		case kept[name]:
			w.out = append(w.out, value...)
		case name == "input_digest":
			w.replace(value)
		default:
			w.orMark(value)
		}
		return true
	})
}

// orMark copies a field, or says that it could not.
func (w *redaction) orMark(value string) {
	before, changed := len(w.out), len(w.changed)
	if w.value(value) {
		return
	}
	w.out, w.changed = w.out[:before], w.changed[:changed]
	w.out = peek.AppendString(w.out, unreadable)
	w.failed = append(w.failed, strings.Join(w.path, "."))
}

func (w *redaction) enter(name string) {
	w.out = append(append(append(w.out, '"'), name...), '"', ':')
	w.path = append(w.path, name)
}

func (w *redaction) leave() { w.path = w.path[:len(w.path)-1] }

// value copies a value and what is in it.
func (w *redaction) value(value string) bool {
	switch value[0] {
	case '{':
		return w.nested('{', '}', func(comma func()) bool {
			return peek.EachMember(value, func(name, value string) bool {
				comma()
				w.enter(name)
				defer w.leave()
				if w.isPersonal(name) {
					return w.replace(value)
				}
				return w.value(value)
			})
		})
	case '[':
		return w.nested('[', ']', func(comma func()) bool {
			return peek.EachElement(value, func(value string) bool { comma(); return w.value(value) })
		})
	case '"':
		w.text(value)
		return true
	}
	w.out = append(w.out, value...)
	return true
}

func (w *redaction) nested(open, end byte, each func(comma func()) bool) bool {
	w.out = append(w.out, open)
	first := true
	ok := each(func() {
		if !first {
			w.out = append(w.out, ',')
		}
		first = false
	})
	w.out = append(w.out, end)
	return ok
}

// personal are the names of fields whose values say who or where somebody is, wherever they occur.
var personal = map[string]bool{"email": true, "emails": true, "email_address": true, "user_agent": true, "ip": true, "client_ip": true,
	"address": true, "peer": true, "network": true, "query": true, "target": true, "claims": true, "headers": true, "referer": true}

// personalAt are those that do in one place only.
var personalAt = map[string]bool{"actor.name": true, "cert.subject": true, "filter.user": true}

func (w *redaction) isPersonal(name string) bool {
	if personal[name] {
		return true
	}
	if n := len(w.path); n >= 2 {
		switch name {
		case "name", "subject", "user":
			return personalAt[w.path[n-2]+"."+name]
		}
	}
	return false
}

// replace redacts a value and all that is in it. What is known to be empty stays so.
func (w *redaction) replace(value string) bool {
	switch {
	case value == `""` || value == "null":
		w.out = append(w.out, value...)
	case value[0] == '{':
		return w.nested('{', '}', func(comma func()) bool {
			return peek.EachMember(value, func(name, value string) bool {
				comma()
				w.out = append(append(append(w.out, '"'), name...), '"', ':')
				return w.replace(value)
			})
		})
	case value[0] == '[':
		return w.nested('[', ']', func(comma func()) bool {
			return peek.EachElement(value, func(value string) bool { comma(); return w.replace(value) })
		})
	case value[0] == '"':
		w.out = peek.AppendString(w.out, w.mark(withoutPort(peek.Text(value))))
		w.note()
	default:
		w.out = peek.AppendString(w.out, w.mark(value))
		w.note()
	}
	return true
}

// withoutPort makes a peer the same address whatever port it came from.
func withoutPort(text string) string {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().String()
	}
	return text
}

// mark is what a value becomes.
func (r *Redactor) mark(value string) string {
	if len(r.key) == 0 {
		return Redacted
	}
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(strings.ToLower(value)))
	return Redacted[:len(Redacted)-1] + ":" + hex.EncodeToString(mac.Sum(nil)[:8]) + "]"
}

// isMarked reports whether a text is what a redacted value became.
func isMarked(text string) bool {
	return strings.HasPrefix(text, Redacted[:len(Redacted)-1]) && strings.HasSuffix(text, "]")
}

// note remembers that the current field was changed.
func (w *redaction) note() {
	if path := strings.Join(w.path, "."); !slices.Contains(w.changed, path) {
		w.changed = append(w.changed, path)
	}
}

// text copies a string but for the addresses in it.
func (w *redaction) text(value string) {
	if w.isUpstream() {
		w.out = append(w.out, value...)
		return
	}
	text := value
	if strings.IndexByte(value, '\\') >= 0 {
		text = `"` + peek.Text(value) + `"`
	}
	text = text[1 : len(text)-1]
	scrubbed := w.withoutQuery(text)
	scrubbed = w.scrub(scrubbed)
	if scrubbed == text {
		w.out = append(w.out, value...)
		return
	}
	w.out = peek.AppendString(w.out, scrubbed)
	w.note()
}

// located are the names of fields that may hold a URL with its query.
var located = map[string]bool{"url": true, "prefix": true, "origin": true, "path": true}

// withoutQuery redacts the query of a field that is a URL. Paths that policies saw are decoded and have none: a "?" in one
// is a character like others, and what follows goes as well.
func (w *redaction) withoutQuery(text string) string {
	if len(w.path) == 0 || !located[w.path[len(w.path)-1]] {
		return text
	}
	before, query, ok := strings.Cut(text, "?")
	if !ok || query == "" {
		return text
	}
	return before + "?" + w.mark(query)
}

// isUpstream is true of the address of an app, which is the operator's own.
func (w *redaction) isUpstream() bool {
	return len(w.path) == 2 && w.path[1] == "upstream" && (w.path[0] == "outcome" || w.path[0] == "detail")
}

// list appends a member with paths, whose names are in JSON's spelling already.
func (w *redaction) list(name string, paths []string) {
	if w.out[len(w.out)-1] != '{' {
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, name...)
	for i, path := range paths {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.out = append(append(append(w.out, '"'), path...), '"')
	}
	w.out = append(w.out, ']')
}
