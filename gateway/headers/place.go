package headers

import (
	"cmp"
	"net/http"
	"strings"
)

// Address is where an app is, inside and outside.
type Address struct {
	Origin    string   // public, such as https://wiki.corp.example:8443
	Path      string   // its part of the public host; empty is "/"
	Prefix    string   // what is taken off public paths before the app sees them
	Upstreams []string // its own origins, such as http://10.0.0.5:8080: scheme, host and port, no path
}

// places are the addresses that an app's answers may name and people cannot reach, by what people know them as.
type places struct {
	own    map[string]Address   // by place; the app itself
	names  map[string]bool      // hosts that mean the app, whatever the port
	others map[string][]Address // by place
	self   Address
}

func newPlaces(cfg AppConfig) places {
	p := places{own: map[string]Address{}, names: map[string]bool{}, others: map[string][]Address{}, self: cfg.Address}
	for _, host := range cfg.InternalHosts {
		p.names[strings.ToLower(host)] = true
	}
	for _, other := range cfg.Others {
		for _, key := range placesOf(other.Upstreams) {
			p.others[key] = append(p.others[key], other)
		}
	}
	// An app that does not know of TLS in front of it names itself without.
	if at, ok := parsePlace(cfg.Origin); ok {
		public := Address{Origin: cfg.Origin}
		for _, port := range []string{"80", "443", at.port} {
			p.own["http://"+at.host+":"+port] = public
		}
	}
	for _, key := range placesOf(cfg.Upstreams) {
		p.own[key] = cfg.Address
	}
	return p
}

func placesOf(origins []string) (keys []string) {
	for _, origin := range origins {
		if at, ok := parsePlace(origin); ok {
			keys = append(keys, at.keys()...)
		}
	}
	return keys
}

// rewrite replaces addresses by their public forms, and takes away fields whose address has none. Addresses of anything
// else pass untouched; the gateway follows none of them.
func (p *places) rewrite(h http.Header) {
	for _, name := range [...]string{"Location", "Content-Location", "Refresh", "Link"} {
		lines := h[name]
		if lines == nil {
			continue
		}
		kept := lines[:0]
		for _, line := range lines {
			if line, ok := p.line(name, line); ok {
				kept = append(kept, line)
			}
		}
		if h[name] = kept; len(kept) == 0 {
			delete(h, name)
		}
	}
}

func (p *places) line(name, line string) (string, bool) {
	switch name {
	case "Refresh":
		return p.refresh(line)
	case "Link":
		return p.link(line)
	}
	return p.public(line)
}

// refresh reads "5; url=http://10.0.0.5/", and as browsers do a comma for the semicolon, quotes, and an address without
// "url=" (https://html.spec.whatwg.org/#shared-declarative-refresh-steps).
func (p *places) refresh(line string) (string, bool) {
	i := strings.IndexAny(line, ";, \t")
	if i < 0 {
		return line, true
	}
	delay, rest := line[:i], strings.TrimLeft(line[i:], ";, \t")
	target := rest
	if len(rest) >= len("url") && strings.EqualFold(rest[:len("url")], "url") {
		if value, found := strings.CutPrefix(strings.TrimLeft(rest[len("url"):], " \t"), "="); found {
			target = strings.TrimLeft(value, " \t")
		}
	}
	if target != "" && (target[0] == '"' || target[0] == '\'') {
		target, _, _ = strings.Cut(target[1:], target[:1])
	}
	public, ok := p.public(target)
	if !ok || public == target {
		return line, ok
	}
	return delay + "; url=" + public, true
}

// link rewrites every address of a Link field (RFC 8288 §3): what is in angle brackets, and in quotes, where an anchor is.
func (p *places) link(line string) (string, bool) {
	var out strings.Builder
	rest := line
	for {
		start := strings.IndexAny(rest, `<"`)
		if start < 0 {
			break
		}
		closing := byte('>')
		if rest[start] == '"' {
			closing = '"'
		}
		end := strings.IndexByte(rest[start+1:], closing)
		if end < 0 {
			break
		}
		public, ok := p.public(rest[start+1 : start+1+end])
		if !ok {
			return "", false
		}
		out.WriteString(rest[:start+1])
		out.WriteString(public)
		out.WriteByte(closing)
		rest = rest[start+1+end+1:]
	}
	if out.Len() == 0 {
		return line, true
	}
	return out.String() + rest, true
}

// public is an address as people may know it; false means that they may not.
func (p *places) public(address string) (string, bool) {
	at, ok := parsePlace(address)
	if !ok {
		return address, true
	}
	if p.names[at.host] {
		return p.self.at(at.rest), true
	}
	for _, key := range at.keys() {
		if own, is := p.own[key]; is {
			return own.at(at.rest), true
		}
	}
	known := false
	var best Address
	for _, key := range at.keys() {
		for _, other := range p.others[key] {
			known = true
			if other.owns(at.rest) && len(cmp.Or(other.Path, "/")) > len(best.Path) {
				best = other
				best.Path = cmp.Or(best.Path, "/")
			}
		}
	}
	switch {
	case !known:
		return address, true
	case best.Path == "":
		return "", false
	}
	return best.at(at.rest), true
}

// at is the public address of what is at an inner path of the app.
func (a *Address) at(rest string) string {
	if rest == "" || rest[0] != '/' {
		rest = "/" + strings.TrimPrefix(rest, `\`)
	}
	return a.Origin + a.Prefix + rest
}

// owns reports whether people reach an inner path of the app: it is in the app's part of the public host.
func (a *Address) owns(rest string) bool {
	path, _, _ := strings.Cut(strings.TrimPrefix(a.at(rest), a.Origin), "?")
	return strings.HasPrefix(path+"/", cmp.Or(a.Path, "/"))
}

// place is where an absolute URL leads.
type place struct {
	scheme string // http, https, or empty for the page's own
	host   string // lower case
	port   string // empty: the scheme's
	rest   string // from the path on
}

// parsePlace reads the place of a URL in the way browsers do, which take backslashes for slashes, any number of them, and
// overlook tabs and blanks at the ends (https://url.spec.whatwg.org/#url-parsing). False: it leads nowhere else.
func parsePlace(address string) (at place, ok bool) {
	s := strings.Trim(address, " \t")
	if strings.Contains(s, "\t") {
		s = strings.ReplaceAll(s, "\t", "")
	}
	scheme, after, found := strings.Cut(s, ":")
	switch {
	case found && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")):
		at.scheme = strings.ToLower(scheme)
		s = strings.TrimLeft(after, `/\`)
	case len(s) > 1 && isSlash(s[0]) && isSlash(s[1]):
		s = strings.TrimLeft(s, `/\`)
	default:
		return at, false
	}
	authority := s
	if i := strings.IndexAny(s, `/\?#`); i >= 0 {
		authority, at.rest = s[:i], s[i:]
	}
	authority = authority[strings.LastIndexByte(authority, '@')+1:]
	at.host = strings.ToLower(authority)
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		at.host, at.port = at.host[:i], authority[i+1:]
	}
	at.host = strings.TrimSuffix(at.host, ".")
	return at, at.host != ""
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// keys are the names of a place that has a port: one, or two for a URL that leaves the scheme open.
func (at *place) keys() []string {
	switch at.scheme {
	case "http":
		return []string{"http://" + at.host + ":" + cmp.Or(at.port, "80")}
	case "https":
		return []string{"https://" + at.host + ":" + cmp.Or(at.port, "443")}
	}
	return []string{"https://" + at.host + ":" + cmp.Or(at.port, "443"), "http://" + at.host + ":" + cmp.Or(at.port, "80")}
}
