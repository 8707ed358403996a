package cache

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
)

// varyOf lists the request headers that Vary names, canonical, sorted and without repetition. any reports an asterisk:
// no other request may be given the answer (RFC 9110 §12.5.5).
func varyOf(h http.Header) (names []string, any bool) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.TrimSpace(name); name {
			case "":
			case "*":
				return nil, true
			default:
				names = append(names, canonical(name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), false
}

// canonical is the spelling of a header name in http.Header.
func canonical(name string) string { return http.CanonicalHeaderKey(name) }

// appendVariant appends the values that a request has for the names, normalised, so that requests of which an app can say
// the same have the same (RFC 9111 §4.1): several lines are one list, spaces around its commas say nothing, and where a
// field's specification says that case or order mean nothing, neither do they here. Absent is not empty.
func appendVariant(dst []byte, names []string, h http.Header) []byte {
	for _, name := range names {
		if values, present := h[name]; present {
			dst = append(dst, '=')
			dst = appendValue(dst, name, values)
		}
		dst = append(dst, '\n') // never in a value
	}
	return dst
}

func appendValue(dst []byte, name string, values []string) []byte {
	if !isPreference(name) {
		return appendList(dst, values)
	}
	var one [8]string
	elements := one[:0]
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			if element = preference(element); element != "" {
				elements = append(elements, element)
			}
		}
	}
	slices.Sort(elements)
	for _, element := range elements {
		dst = append(append(dst, element...), ',')
	}
	return dst
}

// isPreference holds for fields whose elements are case-insensitive and ranked by weight, not by order (RFC 9110 §12.5).
func isPreference(name string) bool {
	switch name {
	case "Accept-Language", "Accept-Encoding", "Accept-Charset":
		return true
	}
	return false
}

// preference is an element without spaces and without a weight that is the default.
func preference(element string) string {
	element = strings.ToLower(strings.TrimSpace(element))
	if strings.ContainsAny(element, " \t") {
		element = strings.NewReplacer(" ", "", "\t", "").Replace(element)
	}
	for _, whole := range []string{";q=1", ";q=1.0", ";q=1.00", ";q=1.000"} {
		if rest, found := strings.CutSuffix(element, whole); found {
			return rest
		}
	}
	return element
}

// appendList joins lines to one list and drops the spaces around commas that are not quoted.
func appendList(dst []byte, values []string) []byte {
	start := len(dst)
	for i, value := range values {
		if i > 0 {
			dst = append(trimSpaces(dst, start), ',')
		}
		inQuotes := false
		for j := 0; j < len(value); j++ {
			c := value[j]
			switch {
			case inQuotes && c == '\\' && j+1 < len(value):
				dst = append(dst, c)
				j++
				c = value[j]
			case c == '"':
				inQuotes = !inQuotes
			case inQuotes:
			case c == ',':
				dst = trimSpaces(dst, start)
			case (c == ' ' || c == '\t') && (len(dst) == start || dst[len(dst)-1] == ','):
				continue
			}
			dst = append(dst, c)
		}
	}
	return trimSpaces(dst, start)
}

func trimSpaces(b []byte, start int) []byte {
	for len(b) > start && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// maxVariant is the longest list of values that is kept as it is; longer ones, with cookies in them for example, are kept
// as a digest.
const maxVariant = 256

func digestLong(variant []byte) []byte {
	if len(variant) <= maxVariant {
		return variant
	}
	sum := sha256.Sum256(variant)
	return append(variant[:0], sum[:]...)
}
