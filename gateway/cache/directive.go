package cache

import "strings"

// directives are what a Cache-Control field says, of a request or an answer (RFC 9111 §5.2).
type directives struct {
	noStore, noCache, private, public, mustRevalidate, proxyRevalidate, mustUnderstand, onlyIfCached bool

	maxAge, sMaxAge, minFresh, maxStale, staleWhileRevalidate, staleIfError seconds

	// hidden are the fields that no-cache="…" and private="…" name: the rest of the answer may be stored.
	hidden []string
	// malformed says that the field does not follow its grammar, so that a directive may have been missed.
	malformed bool
}

// seconds is the argument of a directive; absent when the directive is.
type seconds int64

const (
	absent seconds = -1
	// forever is what larger numbers count as (RFC 9111 §1.2.2).
	forever seconds = 1 << 31
)

var noDirectives = directives{maxAge: absent, sMaxAge: absent, minFresh: absent, maxStale: absent, staleWhileRevalidate: absent, staleIfError: absent}

// parseDirectives reads Cache-Control lines. Where it is in doubt it reads what stores less and shorter: a malformed
// element spoils the field, an argument that is no number is 0, and so are two different numbers for one directive
// (RFC 9111 §4.2.1 lets such an answer count as stale).
func parseDirectives(lines []string) directives {
	d := noDirectives
	for _, line := range lines {
		for rest := line; rest != ""; {
			var e element
			e, rest = nextElement(rest)
			if e.malformed {
				d.malformed = true
			}
			if e.name != "" {
				d.add(e)
			}
		}
	}
	return d
}

// element is one directive: token [ "=" ( token / quoted-string ) ].
type element struct {
	name      string
	value     string
	hasValue  bool
	malformed bool
}

// nextElement reads up to the next comma that is not quoted. A name before something malformed still counts.
func nextElement(s string) (e element, rest string) {
	s = strings.TrimLeft(s, " \t")
	n := tokenLen(s)
	e.name, s = s[:n], s[n:]
	if n > 0 && s != "" && s[0] == '=' {
		e.hasValue = true
		if e.value, s, e.malformed = argument(s[1:]); e.malformed {
			return e, skipElement(s)
		}
	}
	s = strings.TrimLeft(s, " \t")
	switch {
	case s == "":
		return e, ""
	case s[0] == ',':
		return e, s[1:]
	}
	e.malformed = true
	return e, skipElement(s)
}

// argument reads a token or a quoted string.
func argument(s string) (value, rest string, malformed bool) {
	if s != "" && s[0] == '"' {
		return quoted(s[1:])
	}
	n := tokenLen(s)
	return s[:n], s[n:], n == 0
}

// quoted reads a quoted string after its opening quote.
func quoted(s string) (value, rest string, malformed bool) {
	end := strings.IndexAny(s, `"\`)
	if end >= 0 && s[end] == '"' { // nothing escaped: no copy
		return s[:end], s[end+1:], false
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], false
		case '\\':
			if i++; i == len(s) {
				return "", "", true
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", true // never closed: what follows may have been a directive
}

// skipElement looks for the next comma without regard to quotes, so that nothing hides behind a stray one.
func skipElement(s string) string {
	_, rest, _ := strings.Cut(s, ",")
	return rest
}

func tokenLen(s string) int {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return i
		}
	}
	return len(s)
}

// isTokenByte holds for tchar (RFC 9110 §5.6.2).
func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func (d *directives) add(e element) {
	switch strings.ToLower(e.name) {
	case "no-store":
		d.noStore = true
	case "no-cache":
		d.qualify(&d.noCache, e)
	case "private":
		d.qualify(&d.private, e)
	case "public":
		d.public = true
	case "must-revalidate":
		d.mustRevalidate = true
	case "proxy-revalidate":
		d.proxyRevalidate = true
	case "must-understand":
		d.mustUnderstand = true
	case "only-if-cached":
		d.onlyIfCached = true
	case "max-age":
		d.maxAge.set(e)
	case "s-maxage":
		d.sMaxAge.set(e)
	case "min-fresh":
		d.minFresh.set(e)
	case "max-stale":
		if !e.hasValue { // however stale (RFC 9111 §5.2.1.2)
			e.value, e.hasValue = "2147483648", true
		}
		d.maxStale.set(e)
	case "stale-while-revalidate":
		d.staleWhileRevalidate.set(e)
	case "stale-if-error":
		d.staleIfError.set(e)
	}
}

// qualify reads no-cache and private, which are about some fields if they name any (RFC 9111 §5.2.2.4, §5.2.2.7).
func (d *directives) qualify(whole *bool, e element) {
	named := false
	for name := range strings.SplitSeq(e.value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			d.hidden = append(d.hidden, canonical(name))
			named = true
		}
	}
	if !named {
		*whole = true
	}
}

// set takes a number; what is none, or another one than before, counts as 0.
func (s *seconds) set(e element) {
	n, ok := parseSeconds(e.value)
	if !ok || *s != absent && *s != n {
		n = 0
	}
	*s = n
}

// parseSeconds reads delta-seconds (RFC 9111 §1.2.2): digits and nothing else.
func parseSeconds(s string) (seconds, bool) {
	if s == "" {
		return 0, false
	}
	var n seconds
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+seconds(s[i]-'0'), forever)
	}
	return n, true
}

// restrictsStale reports whether the app forbids to use the answer past its time without asking (RFC 9111 §4.2.4;
// §5.2.2.10: s-maxage means proxy-revalidate too).
func (d *directives) restrictsStale() bool {
	return d.mustRevalidate || d.proxyRevalidate || d.noCache || d.sMaxAge != absent
}
