package cache

import (
	"net/http"
	"strconv"
	"strings"
)

// policyOf reads what an answer says about being stored. CDN-Cache-Control takes the place of Cache-Control and Expires
// where it is valid and says something (RFC 9213 §2.2); otherwise it is as if it were not there.
func policyOf(h http.Header) (d directives, targeted bool) {
	if lines := h["Cdn-Cache-Control"]; lines != nil {
		if d, ok := parseTargeted(lines); ok {
			return d, true
		}
	}
	return parseDirectives(h["Cache-Control"]), false
}

// parseTargeted reads a targeted field: a dictionary of structured fields (RFC 9651 §3.2), whose grammar is stricter than
// Cache-Control's. The last of several members of one name counts.
func parseTargeted(lines []string) (d directives, ok bool) {
	members, ok := parseDictionary(strings.Join(lines, ","))
	if !ok || len(members) == 0 {
		return d, false
	}
	d = noDirectives
	for name, v := range members {
		if v.kind == sfBoolean && !v.yes {
			continue // no-store=?0 is no no-store
		}
		d.add(v.element(name))
	}
	return d, true
}

// element is a member as the directive it stands for. Arguments of another type than the directive's lose their value:
// what wants a number is 0 then, and what may name fields is about all.
func (v sfValue) element(name string) element {
	e := element{name: name, hasValue: v.kind != sfBoolean}
	switch {
	case name == "private" || name == "no-cache":
		if v.kind == sfString || v.kind == sfToken {
			e.value = v.text
		}
	case v.kind == sfInteger:
		e.value = v.text
	}
	return e
}

type sfKind uint8

const (
	sfInteger sfKind = iota
	sfDecimal
	sfString
	sfToken
	sfBytes
	sfBoolean
	sfDate
	sfDisplay
	sfList
)

// sfValue is an item without its parameters, which mean nothing to caches, or an inner list without its items.
type sfValue struct {
	kind sfKind
	text string // integers and tokens as written, strings without quotes
	yes  bool
}

// sfReader walks over a structured field.
type sfReader struct{ s string }

func parseDictionary(s string) (map[string]sfValue, bool) {
	r := sfReader{strings.Trim(s, " ")}
	members := map[string]sfValue{}
	for r.s != "" {
		name, ok := r.key()
		if !ok {
			return nil, false
		}
		value := sfValue{kind: sfBoolean, yes: true}
		if r.take('=') {
			if value, ok = r.member(); !ok {
				return nil, false
			}
		}
		if !r.parameters() {
			return nil, false
		}
		members[name] = value
		if r.space(" \t"); r.s == "" {
			break
		}
		if !r.take(',') {
			return nil, false
		}
		if r.space(" \t"); r.s == "" {
			return nil, false // a comma at the end
		}
	}
	return members, true
}

func (r *sfReader) take(c byte) bool {
	if r.s == "" || r.s[0] != c {
		return false
	}
	r.s = r.s[1:]
	return true
}

func (r *sfReader) space(set string) { r.s = strings.TrimLeft(r.s, set) }

// while takes the longest beginning of bytes that hold.
func (r *sfReader) while(holds func(byte) bool) string {
	n := 0
	for n < len(r.s) && holds(r.s[n]) {
		n++
	}
	taken := r.s[:n]
	r.s = r.s[n:]
	return taken
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isAlpha(c byte) bool { return isLower(c | 0x20) }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (r *sfReader) key() (string, bool) {
	if r.s == "" || !isLower(r.s[0]) && r.s[0] != '*' {
		return "", false
	}
	return r.while(func(c byte) bool { return isLower(c) || isDigit(c) || strings.IndexByte("_-.*", c) >= 0 }), true
}

func (r *sfReader) parameters() bool {
	for r.take(';') {
		r.space(" ")
		if _, ok := r.key(); !ok {
			return false
		}
		if r.take('=') {
			if _, ok := r.item(); !ok {
				return false
			}
		}
	}
	return true
}

func (r *sfReader) member() (sfValue, bool) {
	if !r.take('(') {
		return r.item()
	}
	for {
		r.space(" ")
		if r.take(')') {
			return sfValue{kind: sfList}, true
		}
		if _, ok := r.item(); !ok || !r.parameters() {
			return sfValue{}, false
		}
		if r.s == "" || r.s[0] != ' ' && r.s[0] != ')' {
			return sfValue{}, false
		}
	}
}

func (r *sfReader) item() (sfValue, bool) {
	if r.s == "" {
		return sfValue{}, false
	}
	switch c := r.s[0]; {
	case c == '-' || isDigit(c):
		return r.number()
	case c == '"':
		text, ok := r.str()
		return sfValue{kind: sfString, text: text}, ok
	case c == '*' || isAlpha(c):
		return sfValue{kind: sfToken, text: r.while(func(c byte) bool { return isTokenByte(c) || c == ':' || c == '/' })}, true
	case c == ':':
		_, rest, ok := strings.Cut(r.s[1:], ":")
		r.s = rest
		return sfValue{kind: sfBytes}, ok
	case c == '?':
		return r.boolean()
	case c == '@':
		r.s = r.s[1:]
		v, ok := r.number()
		return sfValue{kind: sfDate}, ok && v.kind == sfInteger
	case strings.HasPrefix(r.s, `%"`):
		r.s = r.s[1:]
		_, ok := r.str()
		return sfValue{kind: sfDisplay}, ok
	}
	return sfValue{}, false
}

func (r *sfReader) boolean() (sfValue, bool) {
	if len(r.s) < 2 || r.s[1] != '0' && r.s[1] != '1' {
		return sfValue{}, false
	}
	v := sfValue{kind: sfBoolean, yes: r.s[1] == '1'}
	r.s = r.s[2:]
	return v, true
}

// number reads an integer of at most 15 digits, or a decimal of at most 12 and 3.
func (r *sfReader) number() (sfValue, bool) {
	sign := ""
	if r.take('-') {
		sign = "-"
	}
	digits := r.while(isDigit)
	if digits == "" || len(digits) > 15 {
		return sfValue{}, false
	}
	if !r.take('.') {
		n, err := strconv.ParseInt(sign+digits, 10, 64)
		return sfValue{kind: sfInteger, text: strconv.FormatInt(n, 10)}, err == nil
	}
	fraction := r.while(isDigit)
	return sfValue{kind: sfDecimal}, len(digits) <= 12 && fraction != "" && len(fraction) <= 3
}

// str reads a string: printable ASCII, of which only quote and backslash may be, and have to be, escaped.
func (r *sfReader) str() (string, bool) {
	var b strings.Builder
	for i := 1; i < len(r.s); i++ {
		c := r.s[i]
		switch {
		case c == '"':
			r.s = r.s[i+1:]
			return b.String(), true
		case c == '\\':
			if i++; i == len(r.s) || r.s[i] != '"' && r.s[i] != '\\' {
				return "", false
			}
			c = r.s[i]
		case c < 0x20 || c > 0x7e:
			return "", false
		}
		b.WriteByte(c)
	}
	return "", false
}
