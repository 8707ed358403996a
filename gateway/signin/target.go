package signin

import (
	"net/url"
	"strings"
)

// maxTarget bounds where people return to, since it travels in cookies. What is longer returns to "/".
const maxTarget = 2 << 10

// Target returns rd when it is a path, with or without a query, on the host where it will be used, and "/" for everything
// else: other hosts in any spelling, our own endpoints but [ResendPath], and what browsers and servers might read in two ways. It is
// decided on the parsed URL and the result is what was parsed, written anew.
func Target(rd string) string {
	if !strings.HasPrefix(rd, "/") || len(rd) > maxTarget || strings.ContainsFunc(rd, notInURL) {
		return "/"
	}
	u, err := url.Parse(rd)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return "/"
	}
	if !plainPath(u.Path) || strings.HasPrefix(u.Path+"/", Prefix) && u.EscapedPath() != ResendPath {
		return "/"
	}
	if u.RawQuery == "" {
		return u.EscapedPath()
	}
	return u.EscapedPath() + "?" + u.RawQuery
}

// notInURL tells characters that RFC 3986 does not allow anywhere or that browsers change: they read "\" as "/" and
// drop tabs and line ends (WHATWG URL §4.4).
func notInURL(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }

// plainPath accepts paths from the root without dot segments, backslashes and control characters, once decoded. Empty
// segments are admitted where they make no host, since there are apps that have them.
func plainPath(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return false
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return !strings.HasPrefix(p, "//")
}
