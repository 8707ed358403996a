package gateway

import (
	"cmp"
	"net/netip"
	"strings"

	"sallyport/authn/session"
)

// browserName says in words what a browser calls itself, so that people recognise it. Nothing is decided by it.
func browserName(userAgent string) string {
	switch is := agentOf(userAgent); {
	case is.Browser == otherAgent && is.System == otherAgent:
		return "An unknown browser"
	case is.Browser == otherAgent:
		return "A browser on " + is.System
	case is.System == otherAgent:
		return is.Browser
	default:
		return is.String()
	}
}

// placeInWords says where a session began, as far as it is known.
func placeInWords(s *session.Session) string {
	var words []string
	// What is no prefix is the name of a network.
	if _, err := netip.ParsePrefix(s.Bound.Network); err != nil && s.Bound.Network != "" {
		words = append(words, "network "+s.Bound.Network)
	}
	if s.Bound.Country != "" {
		words = append(words, "country "+s.Bound.Country)
	}
	return strings.Join(words, ", ")
}

func compareNames(a, b string) int { return cmp.Compare(strings.ToLower(a), strings.ToLower(b)) }
