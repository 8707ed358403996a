package headers

import (
	"cmp"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
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
		p.names[readHost(strings.ToLower(host))] = true
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
			keys = append(keys, at.spellings()...)
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

// link rewrites every address of a Link field (RFC 8288 §3): what is in angle brackets, and what a parameter has for a
// value, in quotes or without, as an anchor does.
func (p *places) link(line string) (string, bool) {
	var out strings.Builder
	rest := line
	for i := strings.IndexAny(rest, linkMarks); i >= 0; i = strings.IndexAny(rest, linkMarks) {
		mark, start := rest[i], i+1
		end := start + addressEnd(mark, rest[start:])
		public, ok := p.public(rest[start:end])
		if mark == '"' && ok && public == rest[start:end] {
			public, ok = p.quoted(public)
		}
		if !ok {
			return "", false
		}
		out.WriteString(rest[:start])
		out.WriteString(public)
		if rest = rest[end:]; rest != "" && mark != '=' {
			out.WriteByte(rest[0]) // what closes it
			rest = rest[1:]
		}
	}
	return out.String() + rest, true
}

// linkMarks stand before an address.
const linkMarks = `<"=`

// addressEnd is where what may be an address ends in what comes after a mark.
func addressEnd(mark byte, s string) (end int) {
	switch mark {
	case '<':
		end = strings.IndexByte(s, '>')
	case '"':
		end = closingQuote(s)
	default:
		blanks := len(s) - len(strings.TrimLeft(s, " \t"))
		if strings.HasPrefix(s[blanks:], `"`) {
			return blanks // its own mark comes next
		}
		if end = strings.IndexAny(s[blanks:], " \t;,"); end >= 0 {
			end += blanks
		}
	}
	if end < 0 {
		return len(s)
	}
	return end
}

// quoted is public for the address that a quoted string with escapes means.
func (p *places) quoted(raw string) (string, bool) {
	var meant strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' && i+1 < len(raw) {
			i++
		}
		meant.WriteByte(raw[i])
	}
	public, ok := p.public(meant.String())
	if !ok || public != meant.String() && strings.ContainsAny(public, `"\`) {
		return "", false
	}
	if public == meant.String() {
		return raw, true
	}
	return public, true
}

// closingQuote is where a quoted string ends, in which a backslash takes the next byte as it is (RFC 9110 §5.6.4).
func closingQuote(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
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
	case found && webScheme(scheme) != "":
		at.scheme = webScheme(scheme)
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
	if number, err := strconv.ParseUint(at.port, 10, 16); err == nil {
		at.port = strconv.FormatUint(number, 10)
	}
	at.host = readHost(at.host)
	return at, at.host != ""
}

// webScheme is http or https, of which WebSockets are two more spellings; empty: something else.
func webScheme(scheme string) string {
	switch strings.ToLower(scheme) {
	case "http", "ws":
		return "http"
	case "https", "wss":
		return "https"
	}
	return ""
}

// readHost gives the hosts that a browser, or the system behind it, takes for one the same spelling: without escapes, wide
// letters and the last dot, addresses as numbers in the usual form (https://url.spec.whatwg.org/#host-parsing).
func readHost(host string) string {
	if inner, isLiteral := strings.CutPrefix(host, "["); isLiteral {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		switch ip = ip.Unmap(); {
		case err != nil:
			return host
		case ip.Is4():
			return ip.String()
		}
		return "[" + ip.String() + "]"
	}
	if decoded, err := url.PathUnescape(host); err == nil {
		host = decoded
	}
	host = strings.ToLower(strings.Map(narrow, host))
	host = strings.TrimSuffix(host, ".")
	if ip, ok := readIPv4(host); ok {
		return ip.String()
	}
	return host
}

// narrow maps the wide forms of letters, digits and dots (UTS #46).
func narrow(r rune) rune {
	switch {
	case r == '\u3002' || r == '\uff61':
		return '.'
	case '\uff01' <= r && r <= '\uff5e':
		return r - '\uff01' + '!'
	case r == '\u00ad' || r == '\u200b' || r == '\u2060' || r == '\ufeff':
		return -1
	}
	return r
}

// readIPv4 reads an address of one to four numbers, decimal, octal or hexadecimal, of which the last fills what is left
// (https://url.spec.whatwg.org/#concept-ipv4-parser).
func readIPv4(host string) (ip netip.Addr, ok bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return ip, false
	}
	var address uint64
	for i, part := range parts {
		number, ok := readNumber(part)
		room := 8
		if i == len(parts)-1 {
			room = 8 * (5 - len(parts))
		}
		if !ok || number >= 1<<room {
			return ip, false
		}
		address = address<<room | number
	}
	return netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)}), true
}

func readNumber(s string) (uint64, bool) {
	base, digits := 10, s
	switch {
	case strings.HasPrefix(s, "0x"):
		base, digits = 16, s[2:]
	case len(s) > 1 && s[0] == '0':
		base, digits = 8, s[1:]
	}
	if digits == "" {
		return 0, base == 16 // "0x" is 0
	}
	number, err := strconv.ParseUint(digits, base, 64)
	return number, err == nil
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// spellings are the keys of an app's own address whatever it believes of TLS in front of it.
func (at *place) spellings() (keys []string) {
	port := cmp.Or(at.port, map[string]string{"http": "80", "https": "443"}[at.scheme])
	ports := []string{port}
	if port == "80" || port == "443" {
		ports = []string{"80", "443"}
	}
	for _, port := range ports {
		keys = append(keys, "http://"+at.host+":"+port, "https://"+at.host+":"+port)
	}
	return keys
}

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
