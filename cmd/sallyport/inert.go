package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// shortMax bounds what a row shows of one value that a stranger may have chosen, in characters.
const shortMax = 200

// inert returns text that a stranger may have chosen so that a terminal shows it and does nothing else: control
// characters (escape sequences begin with one), marks that reorder their neighbours or cannot be seen, and broken UTF-8
// become escapes.
func inert(text string) string {
	if !strings.ContainsFunc(text, harmful) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case harmful(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// inertLines leaves line breaks as they are: messages of ours have several lines.
func inertLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = inert(lines[i])
	}
	return strings.Join(lines, "\n")
}

// inertJSON passes JSON on with the escapes that JSON has, of the same meaning to programs, for what a terminal would not
// show as itself. Packages json and slog escape what is below a blank and leave the rest as it is: DEL, the control
// characters from U+0080 on, of which U+009B begins an escape sequence, and marks that reorder their neighbours.
type inertJSON struct{ out io.Writer }

// Write takes whole characters, such as a line.
func (w inertJSON) Write(text []byte) (int, error) {
	if !bytes.ContainsFunc(text, harmfulInJSON) {
		return w.out.Write(text)
	}
	var made []byte
	for _, r := range string(text) {
		switch high, low := utf16.EncodeRune(r); {
		case !harmfulInJSON(r):
			made = utf8.AppendRune(made, r)
		case high == utf8.RuneError:
			made = fmt.Appendf(made, `\u%04x`, r)
		default:
			made = fmt.Appendf(made, `\u%04x\u%04x`, high, low)
		}
	}
	if _, err := w.out.Write(made); err != nil {
		return 0, err
	}
	return len(text), nil
}

// harmfulInJSON leaves what is between values as it is: within them, control characters of ASCII but DEL are escapes.
func harmfulInJSON(r rune) bool { return r >= 0x7f && harmful(r) }

// cell is one value in a table: inert and never empty.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	return inert(text)
}

// short is a cell that is not too long.
func short(text string) string {
	if begin, cut := firstRunes(text, shortMax); cut {
		text = begin + "…"
	}
	return cell(text)
}

func firstRunes(text string, count int) (begin string, cut bool) {
	for i := range text {
		if count == 0 {
			return text[:i], true
		}
		count--
	}
	return text, false
}

// harmful tells what never reaches a terminal. U+FFFD stands for broken UTF-8.
func harmful(r rune) bool {
	return r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) ||
		unicode.IsSpace(r) && r != ' '
}
