package canon

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Relaxed is what apps relax, by the host they live on. It does not change once requests are parsed by it; nil relaxes
// nothing.
type Relaxed map[string][]place

// place is the part of a host that one app owns.
type place struct {
	path    string // starts and ends with a slash
	folders []relaxedFolder
}

type relaxedFolder struct {
	path  string
	allow allowance
}

// allowance is a set of spellings.
type allowance uint8

const (
	allowSlash allowance = 1 << iota
	allowEmpty
	allowParameter
	allowPercent
	allowQuerySemicolon
)

// Add tells of an app that owns path on host, which starts and ends with a slash. Apps that relax nothing must be told of
// too: their part of the host is not relaxed by an app that has the rest.
func (r Relaxed) Add(host, path string, rules []Relaxation) {
	added := place{path: path}
	for _, rule := range rules {
		var allow allowance
		for _, spelling := range rule.Allow {
			allow |= spelling.bit()
		}
		for _, folder := range rule.Paths {
			added.folders = append(added.folders, relaxedFolder{string(folder), allow})
		}
	}
	r[host] = append(r[host], added)
	slices.SortStableFunc(r[host], func(a, b place) int { return cmp.Compare(len(b.path), len(a.path)) })
}

// below is what is allowed below a path whose spelling is strict.
func (r Relaxed) below(host, path string) (allow allowance) {
	for _, app := range r[host] { // the longest first, as routes match
		if !strings.HasPrefix(path, app.path) && path+"/" != app.path {
			continue
		}
		for _, folder := range app.folders {
			if strings.HasPrefix(path, folder.path) {
				allow |= folder.allow
			}
		}
		return allow
	}
	return 0
}

// read reads a path of host.
func (r Relaxed) read(host, raw string) (string, *Reject) {
	path, refused := strictPath(raw)
	if refused != nil && r[host] != nil {
		return r.path(host, raw, refused)
	}
	return path, refused
}

// path reads a path that was refused by the strict rules. From the first segment on that they refuse, segments are read
// by what is allowed below those before it; a folder can therefore not be named in an odd way to get at what it allows.
func (r Relaxed) path(host, raw string, strict *Reject) (string, *Reject) {
	var b strings.Builder
	var allow allowance
	b.Grow(len(raw))
	for rest, more := raw, true; more && rest != "/"; {
		var segment string
		segment, rest, more = strings.Cut(rest[1:], "/")
		rest = "/" + rest
		text, refused := strictSegment(segment)
		if refused != nil && allow == 0 {
			allow = r.below(host, b.String()+"/")
		}
		switch {
		case refused == nil:
		case allow == 0 || segment == "" && b.Len() == 0: // "//name" is a host to some, whatever is allowed
			return "", strict
		default:
			if text, refused = allow.segment(segment); refused != nil {
				return "", refused
			}
		}
		b.WriteString("/" + text)
	}
	if raw[len(raw)-1] == '/' {
		b.WriteByte('/')
	}
	return b.String(), nil
}

func strictSegment(raw string) (string, *Reject) {
	text, refused := decodePath(raw)
	if refused != nil {
		return "", refused
	}
	if reason, bad := judgeSegment(text); bad {
		return "", reject(reason, raw)
	}
	return text, nil
}

// segment reads one segment with what is allowed in it. Escapes that stand for something else than the character would
// (%2F, %25, %3B) stay written in its text, so that no two segments have the same.
func (a allowance) segment(raw string) (string, *Reject) {
	if raw == "" && a&allowEmpty != 0 {
		return "", nil
	}
	text, decoded, reason := a.decode(raw)
	if reason != "" {
		return "", reject(reason, raw)
	}
	for range 2 { // a server may decode once, as all do, or once more
		if reason := a.judge(decoded); reason != "" {
			return "", reject(reason, raw)
		}
		again := decodeAgain(decoded)
		if again == decoded {
			return text, nil
		}
		decoded = again
	}
	return "", reject(DoubleEncoded, raw)
}

// decode is a segment as it is written canonically, and decoded once.
func (a allowance) decode(raw string) (text, decoded string, reason Reason) {
	written, plain := make([]byte, 0, len(raw)), make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if !isTargetByte(c) {
			return "", "", TargetBytes
		}
		if c != '%' {
			written, plain = append(written, c), append(plain, c)
			continue
		}
		c, ok := escaped(raw[i:])
		if !ok {
			return "", "", BadEscape
		}
		i += 2
		switch reason, bad := judgeEncoded(c); {
		case c == '/' && a&allowSlash != 0 || c == '%' && a&allowPercent != 0 || c == ';':
			written = append(written, '%', upperHex[c>>4], upperHex[c&15])
		case bad:
			return "", "", reason
		default:
			written = append(written, c)
		}
		plain = append(plain, c)
	}
	return string(written), string(plain), ""
}

// judge says why a segment, decoded once or more often, does not stay below its folder, or why it is nothing that is
// allowed there. What a server could take for a slash or for the end of a name makes pieces that are judged like segments.
func (a allowance) judge(decoded string) Reason {
	switch {
	case !utf8.ValidString(decoded):
		return BadUTF8
	case strings.ContainsFunc(decoded, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return ControlByte
	case strings.IndexByte(decoded, '\\') >= 0, a&allowSlash == 0 && strings.IndexByte(decoded, '/') >= 0:
		return EncodedSeparator
	case a&allowParameter == 0 && strings.IndexByte(decoded, ';') >= 0:
		return PathParameter
	case strings.Contains(decoded, "%u"), strings.Contains(decoded, "%U"): // %u002e is a dot to IIS
		return DoubleEncoded
	}
	for piece := range strings.SplitSeq(decoded, "/") {
		name, parameters, _ := strings.Cut(piece, ";")
		if reason, bad := judgeSegment(name); bad {
			return reason
		}
		for parameter := range strings.SplitSeq(parameters, ";") {
			if reason, bad := judgeSegment(parameter); bad && parameter != "" {
				return reason
			}
		}
	}
	return ""
}

// decodeAgain is what a second decoder makes of a text; what is no escape stays, as it does in most.
func decodeAgain(text string) string {
	if strings.IndexByte(text, '%') < 0 {
		return text
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c, ok := escaped(text[i:])
		if ok {
			i += 2
		}
		b = append(b, c)
	}
	return string(b)
}

// escaped is the byte that stands at the beginning of text; ok says that it is written as %XX.
func escaped(text string) (c byte, ok bool) {
	if text[0] != '%' || len(text) < 3 {
		return text[0], false
	}
	hi, lo := unhex(text[1]), unhex(text[2])
	if hi > 15 || lo > 15 {
		return text[0], false
	}
	return hi<<4 | lo, true
}
