// Package headers decides which header fields pass through the gateway, in both directions, and writes the ones the
// gateway itself vouches for. What does not pass is one table, in table.go.
//
// A request's header goes through [FromClient] once, when the request is made canonical; [SetForwarded] and
// [SetIdentity] then say what is true about it. An answer's header goes through [FromApp]. Names are judged in their
// canonical spelling, and a name that is not made of letters, digits and hyphens never passes: servers behind us map
// underscores, dots and other token characters onto the very names that are in the table
// (RFC 9110 §5.1 would allow them; CGI's HTTP_ variables cannot tell them apart).
//
// The package knows nothing of cookies in requests (the canonical request takes ours out) and nothing of caching.
package headers

import (
	"net/http"
	"net/textproto"
	"strings"
)

// FromClient returns what a client may say to an app: h without the fields of the table, without oddly spelt names
// and without the fields that Connection names (RFC 9110 §7.6.1). The map is new, the values are shared with h,
// which stays as it was. User-Agent is never made up for a client that sent none: it is then present and empty, which
// is how net/http's transport is told to send nothing.
func FromClient(h http.Header) http.Header {
	out := make(http.Header, len(h)+8) // room for what the gateway adds
	for name, values := range h {
		if isOrdinary(name) && fromClient.class(name) == passes {
			out[name] = values
		}
	}
	for _, name := range NamedByConnection(h) {
		delete(out, name)
	}
	if _, sent := out["User-Agent"]; !sent {
		out["User-Agent"] = noUserAgent
	}
	return out
}

// noUserAgent is shared between requests; nothing writes to header values in place.
var noUserAgent = []string{""}

// isOrdinary reports whether a name is made of letters, digits and hyphens, each word beginning with a capital. That
// is how net/http spells all such names it reads, so any other spelling did not come off the wire.
func isOrdinary(name string) bool {
	first := true // of a word
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z':
			if first {
				return false
			}
		case 'A' <= c && c <= 'Z':
			if !first {
				return false
			}
		case '0' <= c && c <= '9', c == '-':
		default:
			return false
		}
		first = name[i] == '-'
	}
	return name != ""
}

// NamedByConnection are the fields that a Connection header claims for one connection only. They are removed before the
// gateway adds its own, so that a client cannot take those away (CVE-2024-45410). "close" and "keep-alive" name no field.
func NamedByConnection(h http.Header) (names []string) {
	for _, value := range h["Connection"] {
		for option := range strings.SplitSeq(value, ",") {
			option = textproto.TrimString(option)
			if option == "" || strings.EqualFold(option, "keep-alive") || strings.EqualFold(option, "close") {
				continue
			}
			names = append(names, textproto.CanonicalMIMEHeaderKey(option))
		}
	}
	return names
}
