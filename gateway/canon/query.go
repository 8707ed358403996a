package canon

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// readQuery keeps the query as it came and decodes its parameters. Only queries that every server splits the same way
// pass: "&" separates, ";" does not exist, every escape is whole, and what is decoded is UTF-8. Parameters beyond the
// limit are a refusal, not a cut: some parsers stop counting where the policy would not (CVE-2026-39825).
func (q *Request) readQuery(raw string, limit int) *Reject {
	if raw == "" {
		return nil
	}
	for i := 0; i < len(raw); i++ {
		switch {
		case raw[i] == ';':
			return reject(QuerySeparator, "")
		case !isTargetByte(raw[i]) && raw[i] != '\\': // a backslash separates nothing in a query, and browsers send it raw
			return reject(TargetBytes, "in the query")
		}
	}
	count := 1 + strings.Count(raw, "&")
	if count > limit {
		return reject(TooManyParams, "")
	}
	q.Query, q.Params = raw, make([]Param, 0, count)
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		param, reason := decodeParam(name, value)
		if reason != "" {
			return reject(reason, "in the query")
		}
		q.Params = append(q.Params, param)
	}
	return nil
}

func decodeParam(name, value string) (Param, Reason) {
	name, err1 := url.QueryUnescape(name)
	value, err2 := url.QueryUnescape(value)
	if err1 != nil || err2 != nil {
		return Param{}, BadEscape
	}
	if !utf8.ValidString(name) || !utf8.ValidString(value) {
		return Param{}, BadUTF8
	}
	return Param{name, value}, ""
}
