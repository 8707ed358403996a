// Package peek reads members of JSON that is known to be well-formed, without decoding the whole: the lines of an audit
// log, which have one spelling each.
//
// It works on strings, so that what it returns shares the line's memory. It checks no more than it needs to stay inside
// the text: text that is not well-formed gives fewer members or nonsense, never a panic. Use audit.DecodeRecord to know
// that a line is what the log writes.
package peek

import (
	"iter"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth bounds the nesting that is followed; audit records are bounded to the same.
const MaxDepth = 130

// Members yields the names and values of an object, in their order, as they are spelled: a name without its quotes, a
// value with everything. It yields nothing for what is not an object and stops where the text is not well-formed.
func Members(object string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) { EachMember(object, yield) }
}

// EachMember is Members that also reports whether it came to the object's end: it did not where yield returned false or
// the text is not well-formed.
func EachMember(object string, yield func(name, value string) bool) bool {
	i := space(object, 0)
	if i >= len(object) || object[i] != '{' {
		return false
	}
	if i = space(object, i+1); i < len(object) && object[i] == '}' {
		return i+1 == len(object)
	}
	for {
		i = space(object, i)
		if i >= len(object) || object[i] != '"' {
			return false
		}
		end := skipString(object, i)
		if end < 0 {
			return false
		}
		name := object[i+1 : end-1]
		i = space(object, end)
		if i >= len(object) || object[i] != ':' {
			return false
		}
		i = space(object, i+1)
		end = skip(object, i)
		if end < 0 || !yield(name, object[i:end]) {
			return false
		}
		i = space(object, end)
		if i >= len(object) || object[i] != ',' {
			return i+1 == len(object) && object[i] == '}'
		}
		i++
	}
}

// Elements yields the values of an array as they are spelled; nothing for what is not an array.
func Elements(array string) iter.Seq[string] {
	return func(yield func(string) bool) { EachElement(array, yield) }
}

// EachElement is Elements that also reports whether it came to the array's end.
func EachElement(array string, yield func(value string) bool) bool {
	i := space(array, 0)
	if i >= len(array) || array[i] != '[' {
		return false
	}
	if i = space(array, i+1); i < len(array) && array[i] == ']' {
		return i+1 == len(array)
	}
	for {
		i = space(array, i)
		end := skip(array, i)
		if end < 0 || !yield(array[i:end]) {
			return false
		}
		i = space(array, end)
		if i >= len(array) || array[i] != ',' {
			return i+1 == len(array) && array[i] == ']'
		}
		i++
	}
}

// Member is the value of the first member with that name (spelled without escapes), or empty.
func Member(object, name string) string {
	for n, value := range Members(object) {
		if n == name {
			return value
		}
	}
	return ""
}

// At is the value at a path of member names, or empty.
func At(value string, path ...string) string {
	for _, name := range path {
		value = Member(value, name)
	}
	return value
}

// Whole reports whether text is one JSON value by its brackets and quotes, without anything around it.
func Whole(text string) bool { return len(text) > 0 && skip(text, 0) == len(text) }

// skip is the index behind the value that begins at i, or -1.
func skip(s string, i int) int {
	if i >= len(s) {
		return -1
	}
	switch s[i] {
	case '"':
		return skipString(s, i)
	case '{', '[':
		return skipNested(s, i)
	case ',', ':', ']', '}', ' ', '\t', '\n', '\r':
		return -1
	}
	for ; i < len(s); i++ {
		switch s[i] {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			return i
		}
	}
	return i
}

func skipNested(s string, i int) int {
	var stack [MaxDepth]byte
	depth := 0
	for i < len(s) {
		switch s[i] {
		case '"':
			if i = skipString(s, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			if depth == MaxDepth {
				return -1
			}
			stack[depth] = s[i] + 2 // the closing bracket of either is two further in ASCII
			depth++
		case '}', ']':
			depth--
			if stack[depth] != s[i] {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// skipString is the index behind the string whose quote is at i, or -1. Most strings are short: a loop beats a search.
func skipString(s string, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// Skip is the index behind the value that begins at i, or -1 where there is none or it does not end.
func Skip(text string, i int) int { return skip(text, i) }

func space(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// IsString reports whether a value is a string.
func IsString(value string) bool { return len(value) >= 2 && value[0] == '"' }

// Text is what a string says; empty for other values. A string without escapes shares the line's memory.
func Text(value string) string {
	if !IsString(value) {
		return ""
	}
	inner := value[1 : len(value)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner
	}
	return unescape(inner, false)
}

// Shown is what a string says in printable characters: what does not show as itself stays escaped as \uXXXX.
func Shown(value string) string {
	if !IsString(value) {
		return ""
	}
	inner := value[1 : len(value)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner
	}
	return unescape(inner, true)
}

func unescape(s string, shown bool) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			i++
			continue
		}
		r, size := escape(s[i:])
		i += size
		if shown && (r == utf8.RuneError || !unicode.IsPrint(r)) {
			b = AppendEscape(b, r)
			continue
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

// escape reads one escape sequence, or the two of a surrogate pair.
func escape(s string) (r rune, size int) {
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
	default:
		return rune(s[1]), 2
	}
	r, ok := hex4(s)
	if !ok {
		return utf8.RuneError, 2
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if low, ok := hex4(s[6:]); ok {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), err == nil
}

const hexDigits = "0123456789abcdef"

// AppendEscape appends a character as \uXXXX, as two of them beyond the first plane.
func AppendEscape(dst []byte, r rune) []byte {
	if r >= 0x10000 {
		r -= 0x10000
		dst = AppendEscape(dst, 0xd800+r>>10)
		return AppendEscape(dst, 0xdc00+r&0x3ff)
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// AppendString appends text as a JSON string of printable characters, in the spelling that audit records have.
func AppendString(dst []byte, text string) []byte {
	dst = append(dst, '"')
	if isPlain(text) {
		return append(append(dst, text...), '"')
	}
	for _, r := range text { // what is not UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= ' ' && r < 0x7f:
			dst = append(dst, byte(r))
		case r < utf8.RuneSelf || r == utf8.RuneError || !unicode.IsPrint(r):
			dst = AppendEscape(dst, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// isPlain reports whether text stands in a JSON string as it is.
func isPlain(text string) bool {
	for i := range len(text) {
		if b := text[i]; b < ' ' || b >= 0x7f || b == '"' || b == '\\' {
			return false
		}
	}
	return true
}

// Int is what a number says; 0 for other values and for numbers that are no int64.
func Int(value string) int64 {
	n, _ := strconv.ParseInt(value, 10, 64)
	return n
}

// Uint is what a number says; 0 for other values and for numbers that are no uint64.
func Uint(value string) uint64 {
	n, _ := strconv.ParseUint(value, 10, 64)
	return n
}

// Texts is what an array of strings says.
func Texts(array string) []string {
	var all []string
	for value := range Elements(array) {
		all = append(all, Text(value))
	}
	return all
}
