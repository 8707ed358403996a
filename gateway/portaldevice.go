package gateway

import (
	"cmp"
	"net/netip"
	"strings"

	"sallyport/authn/session"
)

// browserName says in words what a browser calls itself, so that people recognise it. Nothing is decided by it.
func browserName(userAgent string) string {
	browser, system := firstIn(userAgent, browsers), firstIn(userAgent, systems)
	switch {
	case browser == "" && system == "":
		return "An unknown browser"
	case browser == "":
		return "A browser on " + system
	case system == "":
		return browser
	}
	return browser + " on " + system
}

// naming is a word of a User-Agent and what it stands for.
type naming struct{ word, name string }

// The order counts: most browsers name those that they want to be taken for, too.
var (
	browsers = []naming{{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"OPR/", "Opera"}, {"Vivaldi/", "Vivaldi"}, {"SamsungBrowser/", "Samsung Internet"},
		{"FxiOS/", "Firefox"}, {"Firefox/", "Firefox"}, {"CriOS/", "Chrome"}, {"HeadlessChrome/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}}
	systems = []naming{{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"CrOS", "ChromeOS"}, {"Windows", "Windows"}, {"Macintosh", "macOS"}, {"Linux", "Linux"}}
)

func firstIn(text string, names []naming) string {
	for _, n := range names {
		if strings.Contains(text, n.word) {
			return n.name
		}
	}
	return ""
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
