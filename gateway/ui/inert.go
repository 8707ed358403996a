package ui

import (
	"fmt"
	"hash/fnv"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shownMax bounds one shown value, in runes; a page is no place for an 8 KiB query.
const shownMax = 400

// show makes text that a stranger may have chosen readable as what it is: characters that cannot be seen or that reorder
// their neighbours (controls, bidi marks, zero-width and tag characters, line and paragraph separators) and broken UTF-8
// appear as ⟨U+202E⟩, long values are cut with an ellipsis. html/template escapes the result afterwards. The two joiners
// U+200C and U+200D stay: names in Persian and in Indic scripts need them, and they reorder nothing.
func show(text string) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(text); n++ {
		if n == shownMax {
			b.WriteString("…")
			break
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, "⟨0x%02X⟩", text[i])
		case hidden(r):
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

func hidden(r rune) bool {
	if r == '\u200c' || r == '\u200d' {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == '\u00ad' || r == '\u115f' || r == '\u3164'
}

// initial is the letter on an app's tile.
func initial(name string) string {
	for _, r := range name {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return string(unicode.ToUpper(r))
		}
	}
	return "·"
}

// tints is the number of tile colours in the stylesheet.
const tints = 6

// tint picks an app's tile colour by its name, so that it keeps its colour when other apps come and go.
func tint(name string) string {
	sum := fnv.New32a()
	sum.Write([]byte(name))
	return fmt.Sprintf("tint-%d", sum.Sum32()%tints)
}

// origins keeps what can stand in a CSP source list: scheme://host[:port] of http and https URLs.
func origins(list []string) []string {
	var kept []string
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || strings.ContainsAny(u.Host, " ;,'\"*") {
			continue
		}
		kept = append(kept, u.Scheme+"://"+u.Host)
	}
	return kept
}

// plain is for values that forms send back and that programs read: those that we made are printable ASCII, and what is
// not is none of them.
func plain(value string) string {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return value
}
