package canon

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// readPath decodes the path and refuses every spelling whose segments are not the same to all readers: those that
// decode once or twice, cut at ";", merge slashes, take backslashes for slashes, resolve dots or trim blanks.
func (q *Request) readPath(raw string, limit int, relaxed Relaxed) *Reject {
	path, refused := relaxed.read(q.Host, raw)
	if refused != nil {
		return refused
	}
	if len(path) > limit {
		return reject(TargetTooLong, "")
	}
	q.Path, q.EscapedPath = path, EscapePath(path)
	return nil
}

// strictPath reads a path that begins with a slash, with nothing relaxed.
func strictPath(raw string) (string, *Reject) {
	path, refused := decodePath(raw)
	if refused != nil || path == "/" {
		return path, refused
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(path[1:], "/"), "/") {
		if reason, bad := judgeSegment(segment); bad {
			return "", reject(reason, raw)
		}
	}
	return path, nil
}

// decodePath decodes percent-encoding once and refuses characters that have no single reading in a path.
func decodePath(raw string) (string, *Reject) {
	encoded := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if !isTargetByte(c) {
			return "", reject(TargetBytes, raw)
		}
		if c == '%' {
			var ok bool
			if c, ok = escaped(raw[i:]); !ok {
				return "", reject(BadEscape, raw)
			}
			encoded = true
			i += 2
			if reason, bad := judgeEncoded(c); bad {
				return "", reject(reason, raw)
			}
		}
		if c == ';' {
			return "", reject(PathParameter, raw)
		}
	}
	if !encoded {
		return raw, nil
	}
	path, err := url.PathUnescape(raw)
	if err != nil {
		return "", reject(BadEscape, raw)
	}
	if !utf8.ValidString(path) {
		return "", reject(BadUTF8, raw)
	}
	return path, nil
}

// judgeEncoded says why a byte may not come encoded.
func judgeEncoded(c byte) (reason Reason, bad bool) {
	switch {
	case c == '/' || c == '\\':
		return EncodedSeparator, true
	case c == '%':
		return DoubleEncoded, true
	case c < ' ' || c == 0x7f:
		return ControlByte, true
	}
	return "", false
}

// judgeSegment says why a decoded segment is not one name to all readers.
func judgeSegment(segment string) (reason Reason, bad bool) {
	if segment == "" {
		return EmptySegment, true
	}
	last := segment[len(segment)-1]
	if last == ' ' {
		return TrailingBlank, true
	}
	if last == '.' && isDotted(segment) {
		return DotSegment, true
	}
	if !isASCII(segment) {
		return judgeWide(segment)
	}
	return "", false
}

// isDotted finds ".", ".." and names that end in exactly two dots: a server that cuts the prefix "/app" off
// "/app../x" without looking for the segment's end is left with "../x" (CVE-2026-48020). Dots among blanks are as good:
// Windows drops blanks and dots from the end of a name.
func isDotted(segment string) bool {
	name := strings.TrimRight(segment, ".")
	dots := len(segment) - len(name)
	if name == "" {
		return dots == 1 || dots == 2
	}
	return dots == 2 || strings.Trim(name, ". ") == ""
}

// judgeWide looks at what Windows' best fit and Unicode's compatibility forms make of a segment. Full-width
// punctuation is ordinary in Chinese and Japanese names, so it is refused only where folding it yields a dot segment.
func judgeWide(segment string) (reason Reason, bad bool) {
	for _, r := range segment {
		if unicode.IsControl(r) { // U+0080 to U+009F; the others are refused as bytes
			return ControlByte, true
		}
	}
	if r, _ := utf8.DecodeLastRuneInString(segment); unicode.IsSpace(r) {
		return TrailingBlank, true
	}
	folded := wide.Replace(segment)
	if folded == segment {
		return "", false
	}
	for piece := range strings.FieldsFuncSeq(decodeAgain(folded), func(r rune) bool { return r == '/' || r == '\\' }) {
		piece, _, _ = strings.Cut(piece, ";")
		if piece = strings.TrimRightFunc(piece, unicode.IsSpace); piece != "" && isDotted(piece) {
			return DotSegment, true
		}
	}
	return "", false
}

// wide maps look-alikes of the characters that structure a path onto them. The signs of yen and won are backslashes in
// the code pages 932 and 949.
var wide = strings.NewReplacer(
	"\uff0e", ".", "\ufe52", ".", "\u2024", ".", "\u2025", "..", "\ufe30", "..",
	"\uff0f", "/", "\u2044", "/", "\u2215", "/", "\u29f8", "/",
	"\uff3c", "/", "\ufe68", "/", "\u2216", "/", "\u29f5", "/", "\u29f9", "/", "\u20e5", "/", "\u00a5", "/", "\u20a9", "/",
	"\uff1b", ";", "\ufe54", ";", "\ufe14", ";", "\u037e", ";",
	"\uff05", "%", "\ufe6a", "%",
)

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// EscapePath writes a canonical path for the wire: pchar and "/" as they are (RFC 3986 §3.3), with the escapes that a
// relaxation left written in it, everything else percent-encoded in upper-case hexadecimal.
// url.URL{Path: URLPath(p), RawPath: EscapePath(p)} keeps this spelling.
func EscapePath(path string) string {
	n := 0
	for i := 0; i < len(path); i++ {
		if !isPathChar(path[i]) {
			n++
		}
	}
	if n == 0 {
		return path
	}
	b := make([]byte, 0, len(path)+2*n)
	for i := 0; i < len(path); i++ {
		c := path[i]
		if isPathChar(c) {
			b = append(b, c)
			continue
		}
		b = append(b, '%', upperHex[c>>4], upperHex[c&15])
	}
	return string(b)
}

const upperHex = "0123456789ABCDEF"

// URLPath is what package net/url calls the Path of a canonical path: all of it decoded.
func URLPath(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	return keptEscapes.Replace(path)
}

// keptEscapes are the only ones in canonical paths.
var keptEscapes = strings.NewReplacer("%2F", "/", "%25", "%", "%3B", ";")

// isPathChar is RFC 3986's pchar, plus the slash.
func isPathChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '-', '.', '_', '~', '!', '$', '&', '\'', '(', ')', '*', '+', ',', ';', '=', ':', '@', '/', '%':
		return true
	}
	return false
}

// unhex is the value of a hexadecimal digit, or 255.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// StripPrefix returns the request's path without prefix, which begins with a slash and ends without one. It matches
// only at a segment border; "/app" leaves "/" of "/app" and of "/app/". A path that would then begin with two slashes is
// not below the prefix: "//name" is a host to some.
func (q *Request) StripPrefix(prefix string) (path, escaped string, ok bool) {
	return stripPrefix(q.Path, prefix)
}

func stripPrefix(canonical, prefix string) (path, escaped string, ok bool) {
	rest, found := strings.CutPrefix(canonical, prefix)
	switch {
	case !found || rest != "" && rest[0] != '/' || strings.HasPrefix(rest, "//"):
		return "", "", false
	case rest == "":
		return "/", "/", true
	}
	return rest, EscapePath(rest), true
}
