package cache

import (
	"net/http"
	"slices"
	"strings"
)

// mayStore holds for fields that belong to the answer and not to the connection it came over (RFC 9111 §3.1). Age is
// computed anew, and what Cache-Status says is about the exchange that is over.
func mayStore(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Age", "Cache-Status":
		return false
	}
	return true
}

// connectionFields are the fields that Connection names: they too belong to the connection (RFC 9110 §7.6.1).
func connectionFields(h http.Header) (names []string) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, canonical(name))
			}
		}
	}
	return names
}

// mayUpdate holds for fields of a 304 or of an answer to HEAD that take the place of stored ones: all but those that
// describe the bytes we keep (RFC 9111 §3.2).
func mayUpdate(name string) bool {
	switch name {
	case "Content-Length", "Content-Encoding", "Content-Range":
		return false
	}
	return mayStore(name)
}

// freshened is the entry's header with what a newer answer without body says (RFC 9111 §3.2, §4.3.4). The newer answer's
// age and date count.
func (e *Entry) freshened(newer http.Header, rule Rule) http.Header {
	h, _ := e.header(len(newer))
	delete(h, "Date")
	dropped := connectionFields(newer)
	for name, lines := range newer {
		switch {
		case name == "Age":
			h[name] = lines
		case !mayUpdate(name), slices.Contains(dropped, name):
		case name == "Set-Cookie" && !rule.StoreSetCookie:
		default:
			h[name] = lines
		}
	}
	return h
}
