package compress

import (
	"iter"
	"net/http"
	"strings"
)

// accepts reports whether a client that sent these Accept-Encoding fields wants gzip at least as much as the plain
// answer (RFC 9110 §12.5.3). A client that sent none could be given anything; we give it what the app said. What is not
// grammar counts as a no.
func accepts(fields []string) bool {
	gzip, identity, others := -1, -1, -1
	for element := range tokens(fields) {
		coding, parameters, _ := strings.Cut(element, ";")
		q := weight(parameters)
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip": // §8.4.1.3: the same
			gzip = lower(gzip, q)
		case "identity":
			identity = lower(identity, q)
		case "*":
			others = lower(others, q)
		}
	}
	if gzip < 0 {
		gzip = others
	}
	return gzip > 0 && gzip >= identity
}

// lower is the lower of two weights of which the first may not be known yet.
func lower(known, weight int) int {
	if known < 0 {
		return weight
	}
	return min(known, weight)
}

// weight is a q-value in thousandths (RFC 9110 §12.4.2): 1000 when there is none, 0 when it is none.
func weight(parameters string) int {
	parameters = strings.TrimSpace(parameters)
	if parameters == "" {
		return 1000
	}
	name, value, found := strings.Cut(parameters, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 0
	}
	whole, fraction, _ := strings.Cut(strings.TrimSpace(value), ".")
	if len(fraction) > 3 || (whole != "0" && whole != "1") {
		return 0
	}
	thousandths := 0
	for _, c := range []byte((fraction + "000")[:3]) {
		if c < '0' || c > '9' {
			return 0
		}
		thousandths = thousandths*10 + int(c-'0')
	}
	if whole == "1" {
		if thousandths > 0 {
			return 0
		}
		return 1000
	}
	return thousandths
}

// cacheDirectives are the elements of a Cache-Control field.
type cacheDirectives []string

func directives(header http.Header) cacheDirectives { return header["Cache-Control"] }

// has reports whether a directive is there, with or without argument. What stands in quotes is no directive.
func (d cacheDirectives) has(name string) bool {
	for element := range tokens(d) {
		directive, _, _ := strings.Cut(element, "=")
		if strings.EqualFold(strings.TrimSpace(directive), name) {
			return true
		}
	}
	return false
}

// tokens are the elements of a list field (RFC 9110 §5.6.1): split at commas outside quoted strings, trimmed, none
// of them empty.
func tokens(fields []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, field := range fields {
			for field != "" {
				end := elementEnd(field)
				element := strings.Trim(field[:end], " \t")
				field = strings.TrimPrefix(field[end:], ",")
				if element != "" && !yield(element) {
					return
				}
			}
		}
	}
}

// elementEnd is where the first element of a list ends.
func elementEnd(list string) int {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return i
		}
	}
	return len(list)
}

// entityTags are the elements of If-None-Match. An entity tag knows no backslash escapes (RFC 9110 §8.8.3), so it is not
// split as other lists are.
func entityTags(fields []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, field := range fields {
			for {
				start := strings.IndexByte(field, '"')
				if start < 0 {
					break
				}
				length := strings.IndexByte(field[start+1:], '"')
				if length < 0 {
					break
				}
				tag, rest := field[start:start+length+2], field[start+length+2:]
				if strings.HasSuffix(field[:start], "W/") {
					tag = "W/" + tag
				}
				if !yield(tag) {
					return
				}
				field = rest
			}
		}
	}
}
