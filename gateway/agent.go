package gateway

import "strings"

// agent is what a client calls itself, without versions: what stays the same when a browser is updated.
type agent struct{ Browser, System string }

// otherAgent is a browser or system that is none of those we know.
const otherAgent = "other"

// String is how records and people read it.
func (a agent) String() string { return a.Browser + " on " + a.System }

// maxAgent is how much of a User-Agent is looked at.
const maxAgent = 512

// agentBrowsers are recognised by a part of their User-Agent, in this order: most claim to be those after them, too.
var agentBrowsers = [...]struct{ token, name string }{
	{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"OPR/", "Opera"}, {"OPT/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"},
	{"Vivaldi/", "Vivaldi"}, {"FxiOS/", "Firefox"}, {"Firefox/", "Firefox"}, {"CriOS/", "Chrome"}, {"HeadlessChrome/", "Chrome"}, {"Chrome/", "Chrome"},
	{"Version/", "Safari"}, {"AppleWebKit/", "WebKit"}, {"git/", "git"}, {"curl/", "curl"}, {"Wget/", "Wget"}, {"python-requests/", "Python"},
	{"Go-http-client/", "Go"},
}

// agentSystems likewise: Android is a Linux, and iPhones are "like Mac OS X".
var agentSystems = [...]struct{ token, name string }{
	{"Windows", "Windows"}, {"Android", "Android"}, {"iPhone", "iOS"}, {"iPad", "iOS"}, {"iPod", "iOS"}, {"CrOS", "ChromeOS"},
	{"Macintosh", "macOS"}, {"Mac OS X", "macOS"}, {"FreeBSD", "FreeBSD"}, {"OpenBSD", "OpenBSD"}, {"Linux", "Linux"}, {"X11", "Linux"},
}

// agentOf reads a User-Agent, which is the client's own word.
func agentOf(userAgent string) agent {
	said := userAgent[:min(len(userAgent), maxAgent)]
	found := agent{otherAgent, otherAgent}
	for _, b := range agentBrowsers {
		if strings.Contains(said, b.token) {
			found.Browser = b.name
			break
		}
	}
	for _, s := range agentSystems {
		if strings.Contains(said, s.token) {
			found.System = s.name
			break
		}
	}
	return found
}
