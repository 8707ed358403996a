package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a raw JSON field: far above any input or decision, far below what a stack minds.
const maxDepth = 128

var errMalformed = errors.New("not well-formed JSON")

// checkJSON reports whether raw is exactly one JSON value (RFC 8259), and whether it is also plain: printable ASCII
// throughout, so that it can stand in a line as it is. It is encoding/json's Valid at several times the speed, which
// the hot path needs: every input and decision passes here before it is durable.
func checkJSON(raw []byte) (plain bool, err error) {
	c := checker{raw: raw, plain: true}
	c.space()
	if !c.value(maxDepth) {
		return false, errMalformed
	}
	c.space()
	if c.at != len(raw) {
		return false, errMalformed
	}
	return c.plain, nil
}

// isPlain reports whether text is printable ASCII throughout. It looks at eight bytes at a time.
func isPlain(text []byte) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; len(text) >= 8; text = text[8:] {
		x := binary.LittleEndian.Uint64(text)
		// A byte's highest bit is set in x from 0x80 on, in x+1 at 0x7f, in x-0x20 below a space. Where a byte's sum or
		// difference disturbs its neighbour's, the byte itself is one of these.
		if (x|(x+each)|(x-0x20*each))&high != 0 {
			return false
		}
	}
	for _, b := range text {
		if b < ' ' || b >= 0x7f {
			return false
		}
	}
	return true
}

// checker reads one JSON text from the left. Its methods report whether what they were asked for was there.
type checker struct {
	raw   []byte
	at    int
	plain bool
}

func (c *checker) value(depth int) bool {
	if c.at == len(c.raw) || depth == 0 {
		return false
	}
	switch b := c.raw[c.at]; {
	case b == '"':
		return c.text()
	case b == '{':
		return c.list('}', depth, true)
	case b == '[':
		return c.list(']', depth, false)
	case b == '-' || isDigit(b):
		return c.number()
	case b == 't':
		return c.word("true")
	case b == 'f':
		return c.word("false")
	case b == 'n':
		return c.word("null")
	}
	return false
}

// list reads an array, or with names an object.
func (c *checker) list(end byte, depth int, names bool) bool {
	c.at++
	c.space()
	if c.byte(end) {
		return true
	}
	for {
		c.space()
		if names {
			if c.at == len(c.raw) || c.raw[c.at] != '"' || !c.text() {
				return false
			}
			c.space()
			if !c.byte(':') {
				return false
			}
			c.space()
		}
		if !c.value(depth - 1) {
			return false
		}
		c.space()
		if c.byte(end) {
			return true
		}
		if !c.byte(',') {
			return false
		}
	}
}

func (c *checker) text() bool {
	c.at++
	for c.at < len(c.raw) {
		b := c.raw[c.at]
		c.at++
		switch {
		case b == '"':
			return true
		case b == '\\':
			if !c.escape() {
				return false
			}
		case b < ' ':
			return false
		case b >= 0x7f:
			c.plain = false
		}
	}
	return false
}

func (c *checker) escape() bool {
	if c.at == len(c.raw) {
		return false
	}
	b := c.raw[c.at]
	c.at++
	switch b {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			if c.at == len(c.raw) || !isHex(c.raw[c.at]) {
				return false
			}
			c.at++
		}
		return true
	}
	return false
}

// number reads RFC 8259 §6: no plus sign, no leading zeros, no bare point.
func (c *checker) number() bool {
	c.byte('-')
	if !c.byte('0') && !c.digits() {
		return false
	}
	if c.byte('.') && !c.digits() {
		return false
	}
	if c.byte('e') || c.byte('E') {
		_ = c.byte('+') || c.byte('-')
		return c.digits()
	}
	return true
}

func (c *checker) digits() bool {
	from := c.at
	for c.at < len(c.raw) && isDigit(c.raw[c.at]) {
		c.at++
	}
	return c.at > from
}

func (c *checker) word(w string) bool {
	if len(c.raw)-c.at < len(w) || string(c.raw[c.at:c.at+len(w)]) != w {
		return false
	}
	c.at += len(w)
	return true
}

func (c *checker) byte(b byte) bool {
	if c.at == len(c.raw) || c.raw[c.at] != b {
		return false
	}
	c.at++
	return true
}

func (c *checker) space() {
	for c.at < len(c.raw) {
		switch c.raw[c.at] {
		case ' ':
		case '\n', '\r', '\t':
			c.plain = false
		default:
			return
		}
		c.at++
	}
}

// appendRaw appends a raw JSON value, without white space around it, so that it stays on its line and shows what it says.
func appendRaw(dst, raw []byte) ([]byte, error) {
	raw = bytes.Trim(raw, " \t\r\n")
	plain, err := checkJSON(raw)
	if err != nil {
		return dst, err
	}
	if plain {
		return append(dst, raw...), nil
	}
	for i := 0; i < len(raw); {
		b := raw[i]
		if b < utf8.RuneSelf {
			// Control characters of well-formed JSON are line breaks and tabs between tokens: they mean nothing.
			switch {
			case b == 0x7f:
				dst = append(dst, `\u007f`...)
			case b >= ' ':
				dst = append(dst, b)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(raw[i:])
		dst = appendRune(dst, r, raw[i:i+size])
		i += size
	}
	return dst, nil
}

// appendString appends s as a JSON string of printable characters: quotes, backslashes, control characters, invalid
// UTF-8 and whatever does not show as itself (U+202E and its kin, zero-width characters, line separators) are escaped.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b >= ' ' && b < 0x7f && b != '"' && b != '\\' {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		size := 1
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < utf8.RuneSelf:
			dst = appendEscape(dst, rune(b))
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			dst = appendRune(dst, r, s[i:i+size])
		}
		i += size
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// appendRune appends a character beyond ASCII as it is when it is printable. U+FFFD is always escaped: invalid bytes
// become it, and one meaning has one spelling here.
func appendRune[bytes []byte | string](dst []byte, r rune, as bytes) []byte {
	if r != utf8.RuneError && unicode.IsPrint(r) {
		return append(dst, as...)
	}
	return appendEscape(dst, r)
}

func appendEscape(dst []byte, r rune) []byte {
	if r >= 0x10000 {
		r -= 0x10000
		dst = appendEscape(dst, 0xd800+r>>10)
		return appendEscape(dst, 0xdc00+r&0x3ff)
	}
	return append(dst, '\\', 'u', hexDigits[r>>12], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

const hexDigits = "0123456789abcdef"

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isHex(b byte) bool {
	return isDigit(b) || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}
