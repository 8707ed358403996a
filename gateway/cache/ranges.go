package cache

import "strings"

// byteRange is a part of a body: n bytes from the first.
type byteRange struct{ from, n int64 }

type rangeVerdict uint8

const (
	rangeIgnored       rangeVerdict = iota // no range that we understand: the whole body (RFC 9110 §14.2)
	rangeSatisfiable                       // one part
	rangeUnsatisfiable                     // 416
	rangeSeveral                           // several parts: the app knows how
)

// parseRange reads a Range field for a body of so many bytes (RFC 9110 §14.1.2).
func parseRange(field string, size int64) (byteRange, rangeVerdict) {
	unit, spec, found := strings.Cut(field, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return byteRange{}, rangeIgnored
	}
	if strings.Contains(spec, ",") {
		return byteRange{}, rangeSeveral
	}
	first, last, found := strings.Cut(strings.Trim(spec, " \t"), "-")
	from, hasFrom := parsePosition(first)
	to, hasTo := parsePosition(last)
	switch {
	case !found || first != "" && !hasFrom || last != "" && !hasTo || !hasFrom && !hasTo:
		return byteRange{}, rangeIgnored
	case !hasFrom: // the last bytes
		if to == 0 || size == 0 {
			return byteRange{}, rangeUnsatisfiable
		}
		n := min(to, size)
		return byteRange{size - n, n}, rangeSatisfiable
	case hasTo && to < from:
		return byteRange{}, rangeIgnored
	case from >= size:
		return byteRange{}, rangeUnsatisfiable
	case !hasTo || to >= size:
		to = size - 1
	}
	return byteRange{from, to - from + 1}, rangeSatisfiable
}

// parsePosition reads digits. Numbers that no body reaches are as good as the largest.
func parsePosition(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), 1<<58)
	}
	return n, true
}
