package export

import (
	"bytes"
	"strings"

	"sallyport/audit/filter/peek"
)

// redaction is one record on its way. It reads the text once, from the left, and copies what it has read; its methods
// report whether what they were asked for was there.
type redaction struct {
	*Redactor
	text    string
	at      int
	out     []byte
	depth   int
	path    []string // names, in JSON's spelling
	room    [16]string
	changed []byte // the paths of what was, as the members of a JSON array
	failed  []byte // the same of what could not be read
}

// rule is what members does with the values of an object, or elements with those of an array.
type rule int

const (
	asFields rule = iota // of the record itself
	asValues             // redacted by their names and by what is in them
	asSecret             // redacted whole
)

// apply copies the value of the member with that name.
func (w *redaction) apply(r rule, name string) bool {
	switch {
	case r == asSecret:
		return w.replace()
	case r == asFields && isKept(name):
		return w.copy()
	case r == asFields && name == "input_digest":
		return w.replace()
	case r == asFields:
		return w.orMark()
	case w.isPersonal(name):
		return w.replace()
	}
	return w.value()
}

// record copies the record without its closing bracket.
func (w *redaction) record() bool {
	return w.members(asFields) && w.at == len(w.text) && w.trim()
}

// trim takes the closing bracket back.
func (w *redaction) trim() bool {
	w.out = w.out[:len(w.out)-1]
	return true
}

// isKept is true of the fields of records that hold no personal data: our own ids, names and times.
func isKept(name string) bool {
	switch name {
	case "v", "id", "log", "seq", "boot", "type", "code", "time", "replica", "effect", "memo", "policy":
		return true
	}
	return false
}

// copy copies a value as it is.
func (w *redaction) copy() bool {
	end := peek.Skip(w.text, w.at)
	if end < 0 {
		return false
	}
	w.out = append(w.out, w.text[w.at:end]...)
	w.at = end
	return true
}

// orMark copies a field, or says that it could not.
func (w *redaction) orMark() bool {
	at, before, changed := w.at, len(w.out), len(w.changed)
	if w.value() {
		return true
	}
	end := peek.Skip(w.text, at)
	if end < 0 {
		return false
	}
	w.at, w.out, w.changed, w.path, w.depth = end, w.out[:before], w.changed[:changed], w.path[:1], 1
	w.out = peek.AppendString(w.out, unreadable)
	w.failed = w.listed(w.failed)
	return true
}

// members copies an object, and its values by a rule.
func (w *redaction) members(r rule) bool {
	if !w.byte('{') || w.depth == peek.MaxDepth {
		return false
	}
	if w.byte('}') {
		return true
	}
	w.depth++
	for {
		start := w.at
		end := peek.Skip(w.text, start)
		if end < 0 || w.text[start] != '"' {
			return false
		}
		w.out = append(w.out, w.text[start:end]...)
		w.at = end
		name := w.text[start+1 : end-1]
		w.path = append(w.path, name)
		if !w.byte(':') || !w.apply(r, name) {
			return false
		}
		w.path = w.path[:len(w.path)-1]
		if w.byte('}') {
			w.depth--
			return true
		}
		if !w.byte(',') {
			return false
		}
	}
}

// elements copies an array, and its values by a rule.
func (w *redaction) elements(r rule) bool {
	if !w.byte('[') || w.depth == peek.MaxDepth {
		return false
	}
	if w.byte(']') {
		return true
	}
	w.depth++
	for {
		if r == asSecret && !w.replace() || r == asValues && !w.value() {
			return false
		}
		if w.byte(']') {
			w.depth--
			return true
		}
		if !w.byte(',') {
			return false
		}
	}
}

// byte copies one byte, if it is that one, and passes over blanks around it.
func (w *redaction) byte(b byte) bool {
	if w.at < len(w.text) && w.text[w.at] <= ' ' {
		w.space()
	}
	if w.at == len(w.text) || w.text[w.at] != b {
		return false
	}
	w.out = append(w.out, b)
	w.at++
	if w.at < len(w.text) && w.text[w.at] <= ' ' {
		w.space()
	}
	return true
}

func (w *redaction) space() {
	for w.at < len(w.text) && (w.text[w.at] == ' ' || w.text[w.at] == '\t' || w.text[w.at] == '\n' || w.text[w.at] == '\r') {
		w.at++
	}
}

// value copies a value, redacted where names say so and where addresses stand in texts.
func (w *redaction) value() bool {
	if w.at == len(w.text) {
		return false
	}
	switch w.text[w.at] {
	case '{':
		return w.members(asValues)
	case '[':
		return w.elements(asValues)
	case '"':
		return w.string()
	}
	return w.copy()
}

// isPersonal is true of the names of fields whose values say who or where somebody is.
func (w *redaction) isPersonal(name string) bool {
	switch name {
	case "email", "emails", "email_address", "user_agent", "ip", "client_ip", "address", "peer", "network", "query", "target", "claims", "headers", "referer":
		return true
	case "name":
		return w.under("actor")
	case "subject":
		return w.under("cert")
	case "user", "where":
		return w.under("filter")
	}
	return false
}

// under reports whether the current field is a member of one of that name.
func (w *redaction) under(name string) bool { return len(w.path) > 1 && w.path[len(w.path)-2] == name }

// replace redacts a value and all that is in it. What is known to be empty stays so.
func (w *redaction) replace() bool {
	if w.at == len(w.text) {
		return false
	}
	switch w.text[w.at] {
	case '{':
		return w.members(asSecret)
	case '[':
		return w.elements(asSecret)
	}
	end := peek.Skip(w.text, w.at)
	if end < 0 {
		return false
	}
	value := w.text[w.at:end]
	w.at = end
	switch {
	case value == `""` || value == "null":
		w.out = append(w.out, value...)
		return true
	case value[0] == '"':
		w.out = peek.AppendString(w.out, w.mark(withoutPort(peek.Text(value))))
	default:
		w.out = peek.AppendString(w.out, w.mark(value))
	}
	w.note()
	return true
}

// note remembers that the current field was changed.
func (w *redaction) note() { w.changed = w.listed(w.changed) }

// listed adds the current path to a list, unless it is in it.
func (w *redaction) listed(list []byte) []byte {
	before := len(list)
	if before > 0 {
		list = append(list, ',')
	}
	from := len(list)
	list = append(list, '"')
	for i, name := range w.path {
		if i > 0 {
			list = append(list, '.')
		}
		list = append(list, name...)
	}
	list = append(list, '"')
	if bytes.Contains(list[:before], list[from:]) {
		return list[:before]
	}
	return list
}

// string copies a string but for the addresses in it.
func (w *redaction) string() bool {
	start := w.at
	seen, end := sighted(w.text, start)
	if end < 0 {
		return false
	}
	w.at = end
	value := w.text[start:end]
	if !seen.suspicious() && !w.isLocated() || w.isUpstream() {
		w.out = append(w.out, value...)
		return true
	}
	text := peek.Text(value)
	scrubbed := w.scrub(w.withoutQuery(text))
	if scrubbed == text {
		w.out = append(w.out, value...)
		return true
	}
	w.out = peek.AppendString(w.out, scrubbed)
	w.note()
	return true
}

// sight counts the bytes of a string that addresses have, 16 bits for each kind: "@", "%" and "\\"; "."; ":".
type sight uint64

const (
	sightMark sight = 1 << (16 * iota)
	sightDot
	sightColon
)

func (s sight) suspicious() bool {
	return s&0xffff != 0 || s/sightDot&0xffff >= 3 || s/sightColon&0xffff >= 2
}

// sights is what each byte adds.
var sights = [256]sight{'@': sightMark, '%': sightMark, '\\': sightMark, '.': sightDot, ':': sightColon}

// sighted reads the string whose quote is at i, and says what was seen in it and where it ends, or -1.
func sighted(text string, i int) (seen sight, end int) {
	for i++; i < len(text); i++ {
		b := text[i]
		if b == '"' {
			return seen, i + 1
		}
		seen += sights[b]
		if b == '\\' {
			i++
		}
	}
	return seen, -1
}

// isLocated is true of fields that may hold a URL with its query.
func (w *redaction) isLocated() bool {
	if len(w.path) == 0 {
		return false
	}
	switch w.path[len(w.path)-1] {
	case "url", "prefix", "origin", "path":
		return true
	}
	return false
}

// withoutQuery redacts the query of a field that is a URL. Paths that policies saw are decoded and have none: a "?" in one
// is a character like others, and what follows goes as well.
func (w *redaction) withoutQuery(text string) string {
	before, query, ok := strings.Cut(text, "?")
	if !ok || query == "" || !w.isLocated() {
		return text
	}
	return before + "?" + w.mark(query)
}

// isUpstream is true of the address of an app, which is the operator's own.
func (w *redaction) isUpstream() bool {
	return len(w.path) == 2 && w.path[1] == "upstream" && (w.path[0] == "outcome" || w.path[0] == "detail")
}

// list appends a member with paths.
func (w *redaction) list(name string, paths []byte) {
	if w.out[len(w.out)-1] != '{' {
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, name...)
	w.out = append(w.out, paths...)
	w.out = append(w.out, ']')
}
