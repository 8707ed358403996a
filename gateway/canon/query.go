package canon

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// readQuery keeps the query as it came, and sees that its parameters can be decoded. Only queries that every server splits
// the same way pass: "&" separates, ";" does not exist unless the app relaxes that, every escape is whole, and what is
// decoded is UTF-8. Parameters beyond the limit are a refusal, not a cut: some parsers stop counting where the policy
// would not (CVE-2026-39825).
func (q *Request) readQuery(raw string, limit int, relaxed Relaxed) *Reject {
	if raw == "" {
		return nil
	}
	semicolons := 0
	for i := 0; i < len(raw); i++ {
		switch {
		case raw[i] == ';':
			semicolons++
		case !isTargetByte(raw[i]) && raw[i] != '\\': // a backslash separates nothing in a query, and browsers send it raw
			return reject(TargetBytes, "in the query")
		}
	}
	if semicolons > 0 && relaxed.below(q.Host, q.Path)&allowQuerySemicolon == 0 {
		return reject(QuerySeparator, "")
	}
	if 1+strings.Count(raw, "&")+semicolons > limit {
		return reject(TooManyParams, "")
	}
	q.Query = raw
	if strings.IndexByte(raw, '%') < 0 {
		return nil // visible ASCII, which decodes to itself and spaces
	}
	for pair := range strings.SplitSeq(raw, "&") {
		if _, reason := decodeParam(pair); reason != "" {
			return reject(reason, "in the query")
		}
	}
	return nil
}

// Param is one query parameter, decoded as a form's would be: "+" is a space.
type Param struct{ Name, Value string }

// Params are the parameters of Query, decoded, in order, repetitions included. They are decoded again with each call.
func (q *Request) Params() []Param {
	if q.Query == "" {
		return nil
	}
	params := make([]Param, 0, 1+strings.Count(q.Query, "&"))
	for pair := range strings.SplitSeq(q.Query, "&") {
		if pair == "" {
			continue
		}
		param, reason := decodeParam(pair)
		if reason != "" {
			panic("BUG: a query that was admitted cannot be decoded")
		}
		params = append(params, param)
	}
	return params
}

func decodeParam(pair string) (Param, Reason) {
	name, value, _ := strings.Cut(pair, "=")
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
