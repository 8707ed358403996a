package canon

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport/gateway/headers"
)

// A reading is what a server might take a forwarded path for.
var readings = map[string]func(string) string{
	"decoded once":         decode,
	"decoded twice":        func(p string) string { return decode(decode(p)) },
	"backslashes as slash": func(p string) string { return strings.ReplaceAll(decode(decode(p)), `\`, "/") },
	"cut at semicolons":    func(p string) string { return cutParameters(decode(p)) },
	"cut, then decoded":    func(p string) string { return decode(cutParameters(p)) },
	"C string":             func(p string) string { p, _, _ = strings.Cut(decode(p), "\x00"); return p },
	"blanks trimmed": func(p string) string {
		return eachSegment(decode(p), func(s string) string { return strings.TrimRight(s, " \u00a0\t") })
	},
	"overlong UTF-8": func(p string) string { return overlong.Replace(decode(p)) },
	"wide folded":    func(p string) string { return foldDots(decode(p)) },
	"prefix cut in segment": func(p string) string {
		return eachSegment(decode(p), func(s string) string { return strings.TrimPrefix(s, "app") })
	},
}

// decode is the lenient decoder of many servers: bad escapes stay.
func decode(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			if n, err := strconv.ParseUint(p[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

func eachSegment(p string, f func(string) string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i] = f(s)
	}
	return strings.Join(segments, "/")
}

func cutParameters(p string) string {
	return eachSegment(p, func(s string) string { s, _, _ = strings.Cut(s, ";"); return s })
}

var overlong = strings.NewReplacer("\xc0\xae", ".", "\xc0\xaf", "/", "\xc1\x9c", "/", "\xe0\x80\xae", ".", "\xe0\x80\xaf", "/")

// foldDots folds full-width characters where that makes a way up, and only there: elsewhere they are text.
func foldDots(p string) string {
	folded := strings.NewReplacer("．", ".", "‥", "..", "․", ".", "／", "/", "＼", "/", "∕", "/").Replace(p)
	for segment := range strings.SplitSeq(folded, "/") {
		if segment == "." || segment == ".." {
			return folded
		}
	}
	return p
}

// resolved is where a reading ends up: slashes merged, dots resolved. A name in front of it keeps path.Clean from
// hiding that a path climbs above its root.
func resolved(p string) string { return path.Clean("/root/" + p) }

// parsed is what a parser made of a target: what was decided on, and what goes out.
type parsed struct{ path, escaped string }

// breaksPath says what is wrong with what a parser made of a target, or "".
func breaksPath(parse func(string) (parsed, bool), target string) string {
	p, ok := parse(target)
	if !ok {
		return ""
	}
	again, ok := parse(p.escaped)
	if !ok {
		return "what goes out would be refused coming in: " + p.escaped
	}
	if again != p {
		return "what goes out is read as " + strconv.Quote(again.path) + " again"
	}
	u, err := url.ParseRequestURI(p.escaped)
	if err != nil || u.Path != p.path || u.RawQuery != "" {
		return "net/url reads " + strconv.Quote(p.escaped) + " differently"
	}
	if !utf8.ValidString(p.path) {
		return "not UTF-8"
	}
	for name, read := range readings {
		if got := resolved(read(p.escaped)); name != "prefix cut in segment" && got != resolved(p.path) {
			return name + ": decided on " + strconv.Quote(p.path) + ", could be read as " + strconv.Quote(got)
		} else if !strings.HasPrefix(got, "/root") {
			return name + ": climbs to " + strconv.Quote(got)
		}
	}
	if resolved(p.path) != strings.TrimSuffix("/root"+p.path, "/") {
		return "the path itself is not resolved"
	}
	return ""
}

func parseTarget(target string) (parsed, bool) {
	q := &Request{}
	if strings.Contains(target, "?") || q.readTarget(&http.Request{RequestURI: target}, strictRules) != nil {
		return parsed{}, false
	}
	return parsed{q.Path, q.EscapedPath}, true
}

// FuzzPath: what is forwarded reads back as what was decided on, whoever reads it and however often.
func FuzzPath(f *testing.F) {
	f.Fuzz(func(t *testing.T, target string) {
		if wrong := breaksPath(parseTarget, target); wrong != "" {
			t.Errorf("%q: %s", target, wrong)
		}
	})
}

// forgetting is the parser with one of its refusals taken out: it takes the target for what net/url reads in it.
func forgetting(reason Reason) func(string) (parsed, bool) {
	return func(target string) (parsed, bool) {
		q := &Request{}
		refused := q.readTarget(&http.Request{RequestURI: target}, strictRules)
		if refused == nil {
			return parsed{q.Path, q.EscapedPath}, true
		}
		if refused.Reason != string(reason) {
			return parsed{}, false
		}
		decoded := decode(target)
		return parsed{decoded, target}, true
	}
}

// TestPathCorpusFindsEachMissingRefusal puts the bugs back: without any one of the refusals the committed corpus must
// show a path that is read in two ways.
func TestPathCorpusFindsEachMissingRefusal(t *testing.T) {
	seeds := corpus(t, "FuzzPath")
	for _, reason := range []Reason{
		TargetForm, TargetBytes, BadEscape, DoubleEncoded, EncodedSeparator, ControlByte, BadUTF8, DotSegment,
		EmptySegment, PathParameter, TrailingBlank,
	} {
		if !slices.ContainsFunc(seeds, func(s string) bool { return breaksPath(forgetting(reason), s) != "" }) {
			t.Errorf("no seed shows that %s is not refused", reason)
		}
	}
	raw := func(target string) (parsed, bool) { // decides on the decoded path, forwards the received one
		p, ok := parseTarget(target)
		return parsed{p.path, target}, ok
	}
	if !slices.ContainsFunc(seeds, func(s string) bool { return strings.Contains(s, "%61") && breaksSpelling(raw, s) }) {
		t.Error("no seed shows that the received spelling is forwarded")
	}
}

// breaksSpelling wants one spelling for one path.
func breaksSpelling(parse func(string) (parsed, bool), target string) bool {
	p, ok := parse(target)
	return ok && p.escaped != EscapePath(p.path)
}

// corpus reads the committed seeds of a fuzz test.
func corpus(t *testing.T, name string) (seeds []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus for %s: %v", name, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := bytes.Cut(data, []byte("\nstring("))
		seed, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(string(line)), ")"))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

// queryReader makes parameters of a query, or refuses it.
type queryReader func(query string) (params []Param, ok bool)

func parseQuery(query string) ([]Param, bool) {
	q := &Request{}
	if q.readQuery(query, 1000, nil) != nil {
		return nil, false
	}
	return q.Params(), true
}

// breaksQuery compares with what apps see: WHATWG's parser, one that also splits at ";", and net/url's strict one.
func breaksQuery(read queryReader, query string) string {
	params, ok := read(query)
	if !ok {
		return ""
	}
	for _, separators := range []string{"&", "&;"} {
		var theirs []Param
		for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
			name, value, _ := strings.Cut(pair, "=")
			plus := func(s string) string { return decode(strings.ReplaceAll(s, "+", " ")) }
			theirs = append(theirs, Param{plus(name), plus(value)})
		}
		if !slices.Equal(theirs, params) {
			return "split at " + separators + " it is " + strconv.Quote(paramText(theirs)) + ", decided on " + strconv.Quote(paramText(params))
		}
	}
	if _, err := url.ParseQuery(query); err != nil {
		return "net/url: " + err.Error()
	}
	if !utf8.ValidString(paramText(params)) {
		return "not UTF-8"
	}
	if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
		return "bytes that no target may hold"
	}
	if len(params) > 1000 {
		return "more parameters than the limit"
	}
	return ""
}

func paramText(params []Param) string {
	var b strings.Builder
	for _, p := range params {
		b.WriteString(p.Name + "=" + p.Value + "\n")
	}
	return b.String()
}

// FuzzQuery: the parameters decided on are the ones an app finds, whichever way it splits them.
func FuzzQuery(f *testing.F) {
	f.Add(strings.Repeat("a=1&", 1000) + "hidden=1") // DOS-11
	f.Fuzz(func(t *testing.T, query string) {
		if wrong := breaksQuery(parseQuery, query); wrong != "" {
			t.Errorf("%q: %s", query, wrong)
		}
	})
}

func TestQueryCorpusFindsEachMissingRefusal(t *testing.T) {
	seeds := append(corpus(t, "FuzzQuery"), strings.Repeat("a=1&", 1000)+"hidden=1")
	for _, reason := range []Reason{QuerySeparator, TargetBytes, BadEscape, BadUTF8, TooManyParams} {
		lenient := func(query string) ([]Param, bool) {
			q := &Request{}
			refused := q.readQuery(query, 1000, nil)
			if refused == nil {
				return q.Params(), true
			}
			var params []Param
			for pair := range strings.SplitSeq(query, "&") {
				name, value, _ := strings.Cut(pair, "=")
				params = append(params, Param{decode(name), decode(value)})
			}
			return params, refused.Reason == string(reason)
		}
		if !slices.ContainsFunc(seeds, func(s string) bool { return breaksQuery(lenient, s) != "" }) {
			t.Errorf("no seed shows that %s is not refused", reason)
		}
	}
}

// cookieReader splits a Cookie field into session handles and what the app gets.
type cookieReader func(field string) (handles []string, theirs string)

func parseCookies(field string) ([]string, string) {
	q := &Request{Header: http.Header{"Cookie": {field}}}
	q.readCookies(&http.Request{Header: http.Header{"Cookie": {field}}}, NewRules(Limits{Cookies: 1 << 20}, nil))
	return q.Handles, q.Header.Get("Cookie")
}

func breaksCookies(read cookieReader, field string) string {
	handles, theirs := read(field)
	if strings.Contains(strings.ToLower(theirs), strings.ToLower(headers.CookiePrefix)) {
		return "the app gets " + strconv.Quote(theirs)
	}
	if again, same := read(theirs); len(again) != 0 || same != theirs {
		return "not the same a second time: " + strconv.Quote(same)
	}
	rest := field
	for pair := range strings.SplitSeq(theirs, ";") {
		i := strings.Index(rest, strings.Trim(pair, " \t"))
		if i < 0 {
			return "an app's cookie was changed: " + strconv.Quote(pair)
		}
		rest = rest[i:]
	}
	if len(pairs(theirs)) != len(slices.DeleteFunc(pairs(field), headers.MentionsCookie)) {
		return "an app's cookie is missing: " + strconv.Quote(theirs)
	}
	for _, pair := range pairs(field) {
		value, ours := strings.CutPrefix(pair, headers.CookiePrefix+"=")
		if bare := strings.Trim(value, `"`); ours && bare == value && value != "" && !slices.Contains(handles, value) {
			return "a handle was passed over: " + strconv.Quote(value)
		}
	}
	for _, handle := range handles {
		if strings.HasPrefix(handle, `"`) && strings.HasSuffix(handle, `"`) && strings.Trim(handle, `"`) != "" && !strings.Contains(field, `"`+handle+`"`) {
			return "the quotes are taken for a part of the handle"
		}
		if !strings.Contains(field, headers.CookiePrefix+"="+handle) && !strings.Contains(field, headers.CookiePrefix+`="`+handle+`"`) {
			return "handle " + strconv.Quote(handle) + " was never sent"
		}
	}
	return ""
}

// pairs are the cookies of a field.
func pairs(field string) (list []string) {
	for pair := range strings.SplitSeq(field, ";") {
		if pair = strings.Trim(pair, " \t"); pair != "" {
			list = append(list, pair)
		}
	}
	return list
}

// FuzzCookies: no spelling of our cookies reaches an app, and every other cookie does, in order and byte for byte.
func FuzzCookies(f *testing.F) {
	f.Fuzz(func(t *testing.T, field string) {
		if wrong := breaksCookies(parseCookies, field); wrong != "" {
			t.Errorf("%q: %s", field, wrong)
		}
	})
}

func TestCookieCorpusFindsNaiveParsers(t *testing.T) {
	seeds := corpus(t, "FuzzCookies")
	without := func(ours func(name string) bool) cookieReader {
		return func(field string) ([]string, string) {
			var theirs []string
			for pair := range strings.SplitSeq(field, ";") {
				pair = strings.Trim(pair, " \t")
				if name, _, _ := strings.Cut(pair, "="); pair != "" && !ours(name) {
					theirs = append(theirs, pair)
				}
			}
			return nil, strings.Join(theirs, "; ")
		}
	}
	for name, naive := range map[string]cookieReader{
		"exact name only":     without(func(name string) bool { return name == headers.CookiePrefix }),
		"case-sensitive":      without(func(name string) bool { return strings.HasPrefix(name, headers.CookiePrefix) }),
		"name without quotes": without(func(name string) bool { return strings.HasPrefix(strings.ToLower(name), "__host-sallyport") }),
		"the first one wins": func(field string) ([]string, string) {
			handles, theirs := parseCookies(field)
			return handles[:min(1, len(handles))], theirs
		},
		"the last one wins": func(field string) ([]string, string) {
			handles, theirs := parseCookies(field)
			return handles[max(0, len(handles)-1):], theirs
		},
		"quotes stay": func(field string) (handles []string, theirs string) {
			for _, pair := range pairs(field) {
				if value, ours := strings.CutPrefix(pair, headers.CookiePrefix+"="); ours && value != "" {
					handles = append(handles, value)
				}
			}
			_, theirs = parseCookies(field)
			return handles, theirs
		},
		"the whole field goes": func(field string) ([]string, string) {
			if headers.MentionsCookie(field) {
				return nil, ""
			}
			return nil, field
		},
		"net/http and back": func(field string) ([]string, string) {
			r := http.Request{Header: http.Header{"Cookie": {field}}}
			out := http.Request{Header: http.Header{}}
			for _, c := range r.Cookies() {
				if !headers.MentionsCookie(c.Name) {
					out.AddCookie(c)
				}
			}
			return nil, out.Header.Get("Cookie")
		},
	} {
		if !slices.ContainsFunc(seeds, func(s string) bool { return breaksCookies(naive, s) != "" }) {
			t.Errorf("no seed shows what is wrong with %s", name)
		}
	}
}

// authorityReader splits an authority into name and port, or refuses it.
type authorityReader func(authority string) (name, port string, ok bool)

func parseAuthority(authority string) (name, port string, ok bool) {
	name, port, hasPort := strings.Cut(lower(authority), ":")
	return name, port, isHostName(name) && (!hasPort || isPort(port))
}

// breaksAuthority says what is wrong with an authority that was accepted, or "".
func breaksAuthority(read authorityReader, authority string) string {
	name, port, ok := read(authority)
	if !ok {
		return ""
	}
	authority = lower(authority)
	u, err := url.Parse("https://" + authority + "/")
	if err != nil || u.Host != authority || u.Hostname() != name || u.Port() != port || u.User != nil || u.Path != "/" {
		return fmt.Sprintf("net/url reads %+v (%v)", u, err)
	}
	if n, err := strconv.Atoi(port); port != "" && (err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port) || strings.HasSuffix(authority, ":") {
		return "no port"
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r >= 0x7f || strings.ContainsRune(" ,@/\\[]%;:\"'", r) }) || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || name != strings.ToLower(name) || len(name) > 253 {
		return "no plain name"
	}
	return ""
}

// FuzzAuthority: an accepted host is a plain name that net/url reads as the same host and port.
func FuzzAuthority(f *testing.F) {
	f.Fuzz(func(t *testing.T, authority string) {
		if wrong := breaksAuthority(parseAuthority, authority); wrong != "" {
			t.Errorf("%q: %s", authority, wrong)
		}
	})
}

func TestAuthorityCorpusFindsNaiveReaders(t *testing.T) {
	seeds := corpus(t, "FuzzAuthority")
	for name, naive := range map[string]authorityReader{
		"any port": func(authority string) (string, string, bool) {
			name, port, _ := strings.Cut(lower(authority), ":")
			return name, port, isHostName(name)
		},
		"any name": func(authority string) (string, string, bool) {
			name, port, hasPort := strings.Cut(lower(authority), ":")
			return name, port, !hasPort || isPort(port)
		},
		"letters folded as Unicode has them": func(authority string) (string, string, bool) { return parseAuthority(strings.ToLower(authority)) },
		"a final dot dropped": func(authority string) (string, string, bool) {
			return parseAuthority(strings.TrimSuffix(authority, "."))
		},
		"what stands before @ dropped": func(authority string) (string, string, bool) {
			return parseAuthority(authority[strings.LastIndexByte(authority, '@')+1:])
		},
		"the first of a list": func(authority string) (string, string, bool) {
			first, _, _ := strings.Cut(authority, ",")
			return parseAuthority(first)
		},
		"what net/url takes": func(authority string) (string, string, bool) {
			u, err := url.Parse("//" + authority)
			if err != nil {
				return "", "", false
			}
			return u.Hostname(), u.Port(), true
		},
	} {
		if !slices.ContainsFunc(seeds, func(s string) bool { return breaksAuthority(naive, s) != "" }) {
			t.Errorf("no seed shows what is wrong with %s", name)
		}
	}
}

// writer puts a request on the wire towards an app.
type writer func(r *http.Request, q *Request) string

// written is how the gateway sends what it decided on.
func written(_ *http.Request, q *Request) string {
	var b strings.Builder
	b.WriteString(q.Method + " " + q.EscapedPath)
	if q.Query != "" {
		b.WriteString("?" + q.Query)
	}
	b.WriteString(" HTTP/1.1\r\nHost: " + q.Authority + "\r\n")
	q.Header.Write(&b)
	b.WriteString("\r\n")
	return b.String()
}

// breaksRequest says what is wrong with what an app would read.
func breaksRequest(write writer, wire string) string {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(r.Host, ":")
	r.TLS = &tls.ConnectionState{ServerName: name}
	q, err := parse(r, strictRules)
	if err != nil {
		return badReject(err)
	}
	sent := write(r, q)
	r, err = http.ReadRequest(bufio.NewReader(strings.NewReader(sent)))
	if err != nil {
		return "an app could not read it: " + err.Error()
	}
	r.TLS = &tls.ConnectionState{ServerName: q.SNI}
	again, err := parse(r, strictRules)
	if err != nil {
		return "it would be refused coming in: " + err.Error()
	}
	app := r.Header
	if _, named := app["User-Agent"]; !named {
		app["User-Agent"] = []string{""}
	}
	switch {
	case again.Method != q.Method || again.Path != q.Path || again.Query != q.Query || again.Authority != q.Authority || again.Destination != q.Destination || !slices.Equal(again.Params(), q.Params()):
		return "an app reads another request line or host"
	case !maps.EqualFunc(again.Header, app, slices.Equal):
		return "an app gets header fields that no client may send"
	case len(again.Handles) > 0 || again.Token != "":
		return "an app gets a credential of the gateway"
	}
	return ""
}

func badReject(err error) string {
	reject, ok := err.(*Reject)
	if !ok || reject.Status < 400 || reject.Status > 505 || reject.Reason == "" {
		return "no proper refusal: " + err.Error()
	}
	if strings.ContainsFunc(reject.Detail, func(r rune) bool { return r < ' ' || r > '~' }) || len(reject.Detail) > 2000 {
		return "a refusal that cannot be written down: " + strconv.Quote(reject.Detail)
	}
	return ""
}

// FuzzParse: what an app reads off the wire is what was decided on, and would be accepted unchanged if it came back.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, wire string) {
		if wrong := breaksRequest(written, wire); wrong != "" {
			t.Errorf("%q: %s", wire, wrong)
		}
	})
}

func TestRequestCorpusFindsCarelessForwarding(t *testing.T) {
	seeds := corpus(t, "FuzzParse")
	for name, careless := range map[string]writer{
		"the received header": func(r *http.Request, q *Request) string {
			raw := *q
			raw.Header = r.Header
			return written(r, &raw)
		},
		"the session cookie": func(r *http.Request, q *Request) string {
			raw := *q
			raw.Header = maps.Clone(q.Header)
			if cookies := r.Header["Cookie"]; cookies != nil {
				raw.Header["Cookie"] = cookies
			}
			return written(r, &raw)
		},
		"the received Destination": func(r *http.Request, q *Request) string {
			raw := *q
			raw.Header = maps.Clone(q.Header)
			if to := r.Header["Destination"]; to != nil {
				raw.Header["Destination"] = to
			}
			return written(r, &raw)
		},
		"the received Host": func(r *http.Request, q *Request) string {
			raw := *q
			if host := r.Header.Get("X-Forwarded-Host"); host != "" {
				raw.Authority = host
			}
			return written(r, &raw)
		},
		"the received target": func(r *http.Request, q *Request) string {
			raw := *q
			raw.EscapedPath, raw.Query = r.URL.Path, r.URL.RawQuery // decoded, as "req.URL.Path" invites to
			return written(r, &raw)
		},
	} {
		if !slices.ContainsFunc(seeds, func(s string) bool { return breaksRequest(careless, s) != "" }) {
			t.Errorf("no seed shows what is wrong with forwarding %s", name)
		}
	}
}
