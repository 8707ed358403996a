package canon

import (
	"net/url"
	"strings"
	"testing"
)

// relaxedRules are those of a host with an app that relaxes everything below /all/, one spelling below folders of their
// names, and another app below /all/strict/.
func relaxedRules() *Rules {
	relaxed := Relaxed{}
	every := []Spelling{EncodedSlash, DoubleSlash, PathSemicolon, Percent, SemicolonInQuery}
	rules := []Relaxation{{Paths: []Folder{"/all/", "/app/all/"}, Allow: every}, {Paths: []Folder{"/"}, Allow: []Spelling{DoubleSlash}}}
	for _, spelling := range every {
		rules = append(rules, Relaxation{Paths: []Folder{Folder("/" + string(spelling) + "/")}, Allow: []Spelling{spelling}})
	}
	relaxed.Add(host, "/", rules)
	relaxed.Add(host, "/all/strict/", nil)
	relaxed.Add("other.example.test", "/", []Relaxation{{Paths: []Folder{"/"}, Allow: every}})
	return NewRules(Limits{}, relaxed)
}

func TestRelaxedSpellingsStayWritten(t *testing.T) {
	rules := relaxedRules()
	for _, row := range []struct{ id, target, path string }{
		{"GitLab project", "/encoded_slash/group%2Fsub%2fproject/issues", "/encoded_slash/group%2Fsub%2Fproject/issues"},
		{"wiki title", "/percent/100%25", "/percent/100%25"},
		{"percent and blank", "/percent/50%25%20off", "/percent/50%25 off"},
		{"decoded twice it is a name", "/percent/caf%25C3%25A9", "/percent/caf%25C3%25A9"},
		{"Jenkins branch", "/all/job/feature%252Flogin/1", "/all/job/feature%252Flogin/1"},
		{"matrix parameter", "/path_parameter/page;v=1;w/x", "/path_parameter/page;v=1;w/x"},
		{"encoded semicolon", "/path_parameter/a%3bb", "/path_parameter/a%3Bb"},
		{"double slash", "/double_slash/a//b//", "/double_slash/a//b//"},
		{"double slash at the folder", "/double_slash//b", "/double_slash//b"},
		{"in the root", "/a//b", "/a//b"},
		{"several", "/all/a%2Fb//c;d=100%25/", "/all/a%2Fb//c;d=100%25/"},
		{"strict below a relaxed folder", "/all/Z%c3%bcrich", "/all/Zürich"},
		{"odd, then strict", "/all/a%2Fb/Z%c3%bcrich%20x", "/all/a%2Fb/Zürich x"},
	} {
		t.Run(row.id, func(t *testing.T) {
			q, err := parse(get(t, row.target), rules)
			if err != nil {
				t.Fatalf("refused: %v", err)
			}
			if q.Path != row.path {
				t.Errorf("path is %q, want %q", q.Path, row.path)
			}
			again, err := parse(get(t, q.EscapedPath), rules)
			if err != nil || again.Path != q.Path || again.EscapedPath != q.EscapedPath {
				t.Errorf("%q is read as %+v again (%v)", q.EscapedPath, again, err)
			}
			u := url.URL{Path: URLPath(q.Path), RawPath: q.EscapedPath}
			if u.RequestURI() != q.EscapedPath {
				t.Errorf("net/url would write %q", u.RequestURI())
			}
		})
	}
}

func TestRelaxationsAreNarrow(t *testing.T) {
	rules := relaxedRules()
	for _, row := range []struct {
		id, target string
		want       Reason
	}{
		{"elsewhere", "/api/group%2Fproject", EncodedSeparator},
		{"the folder itself", "/encoded_slash%2Fproject", EncodedSeparator},
		{"into the folder", "/x%2Fy/encoded_slash/a", EncodedSeparator},
		{"another spelling", "/encoded_slash/100%25", DoubleEncoded},
		{"another spelling", "/percent/a;b", PathParameter},
		{"another spelling", "/percent/a%3Bb", PathParameter},
		{"another spelling", "/path_parameter/a%2Fb", EncodedSeparator},
		{"through double decoding", "/percent/a%252Fb", EncodedSeparator},
		{"through double decoding", "/percent/a%253Bb", PathParameter},
		{"another app's folder", "/all/strict/a%2Fb", EncodedSeparator},
		{"PATH-03", "/all/..%2fadmin/x", DotSegment},
		{"PATH-03", "/all/x%2f..%2f..%2fadmin", DotSegment},
		{"PATH-03", "/all/x%2f.", DotSegment},
		{"first", "/all/%2Fadmin", EmptySegment},
		{"last", "/all/x%2F", EmptySegment},
		{"blank at the end", "/all/x%20%2Fy", TrailingBlank},
		{"two encoded slashes", "/all/x%2F%2Fy", EmptySegment},
		{"PATH-05", "//admin/x", EmptySegment},
		{"PATH-05", "//", EmptySegment},
		{"PATH-06", "/all///..//..//admin/x", DotSegment},
		{"PATH-07", "/all/..;/admin/x", DotSegment},
		{"PATH-07", "/all/..;a=b/admin/x", DotSegment},
		{"PATH-07", "/all/..%3b/admin/x", DotSegment},
		{"PATH-07", "/all/;/admin", EmptySegment},
		{"PATH-07", "/all/x;..", DotSegment},
		{"PATH-07", "/all/x;a%2F..%2F../admin", DotSegment},
		{"PATH-10", "/all/..%5cadmin%5cx", EncodedSeparator},
		{"PATH-10", "/all/x%255cy", EncodedSeparator},
		{"PATH-11", "/all/%252e%252e/admin/x", DotSegment},
		{"PATH-11", "/all/%252e./admin/x", DotSegment},
		{"PATH-11", "/all/x%2F%252e%252e/admin/x", DotSegment},
		{"PATH-11", "/all/x%252F..%252Fadmin", DotSegment},
		{"decoded three times", "/all/%25252e%25252e/admin/x", DoubleEncoded},
		{"decoded very often", "/all/%" + strings.Repeat("25", 1000) + "2e", DoubleEncoded},
		{"IIS", "/all/%25u002e%25u002e/admin", DoubleEncoded},
		{"NUL", "/all/..%2500/admin", ControlByte},
		{"NUL", "/all/a%2Fb%00", ControlByte},
		{"INJ-05", "/all/x%250d%250aSet-Cookie:a=b", ControlByte},
		{"overlong", "/all/%25c0%25ae%25c0%25ae/admin", BadUTF8},
		{"overlong", "/all/a%2F%c0%ae%c0%ae", BadUTF8},
		{"full-width", "/all/a%2F%ef%bc%8e%ef%bc%8e", DotSegment},
		{"full-width percent", "/all/a;%ef%bc%852e%ef%bc%852e", DotSegment},
		{"bad escape", "/all/a%2Fb%zz", BadEscape},
		{"fragment", "/all/a%2Fb#", TargetBytes},
		{"raw backslash", `/all/a%2Fb\c`, TargetBytes},
		{"query elsewhere", "/path_parameter/x?a;b", QuerySeparator},
		{"query of another app", "/all/strict/x?a;b", QuerySeparator},
		{"DOS-11", "/all/x?" + strings.Repeat("a;", 1000), TooManyParams},
	} {
		t.Run(row.id+" "+row.target[:min(len(row.target), 40)], func(t *testing.T) {
			q, err := parse(get(t, row.target), rules)
			if err == nil {
				t.Fatalf("accepted as %q", q.Path)
			}
			if got := err.(*Reject).Reason; got != string(row.want) {
				t.Errorf("refused as %s, want %s", got, row.want)
			}
		})
	}
	accepted := func(target string) { // the relaxation is there at all
		if _, err := parse(get(t, target), rules); err != nil {
			t.Errorf("%s is refused: %v", target, err)
		}
	}
	accepted("/query_semicolon/x?a=1;b=2&c")
	accepted("/all/strict/x?a=1")
	other := get(t, "/a%2Fb")
	other.Host, other.TLS.ServerName = "other.example.test", "other.example.test"
	if _, err := parse(other, rules); err != nil {
		t.Errorf("the whole of a host: %v", err)
	}
}

func TestStripPrefixKeepsRelaxedSpellings(t *testing.T) {
	rules := relaxedRules()
	for target, want := range map[string]string{
		"/app/all/a%2fb;v": "/all/a%2Fb;v",
		"/app/all/100%25":  "/all/100%25",
		"/app//x":          "", // "//x" is a host to some
	} {
		q, err := parse(get(t, target), rules)
		if err != nil {
			t.Fatal(err)
		}
		if path, escaped, ok := q.StripPrefix("/app"); path != want || escaped != want || ok != (want != "") {
			t.Errorf("%s: %q, %q, %v", target, path, escaped, ok)
		}
	}
}

func TestFoldersArePlain(t *testing.T) {
	for _, path := range []string{"", "/", "/api/", "/api/v4/projects/"} {
		var f Folder
		if err := f.UnmarshalText([]byte(path)); (err == nil) != (path != "") {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, path := range []string{"api/", "/api", "/a//b/", "//", "/a/../", "/a%2Fb/", "/%61/", "/a;b/", "/a%25/", "/ä/", "/a b/", "/a?/", "/a../"} {
		var f Folder
		if err := f.UnmarshalText([]byte(path)); err == nil {
			t.Errorf("%q is taken for a folder", path)
		}
	}
}

func TestLimitsHaveBounds(t *testing.T) {
	good := Limits{}.orDefaults()
	if err := good.Check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	for _, wrong := range []func(*Limits){
		func(l *Limits) { l.Path = 4097 }, func(l *Limits) { l.Path = 255 }, func(l *Limits) { l.Query = 8193 }, func(l *Limits) { l.Params = 0 },
		func(l *Limits) { l.Params = 8193 }, func(l *Limits) { l.Fields = 1025 }, func(l *Limits) { l.Header = 65537 }, func(l *Limits) { l.Cookies = -1 },
	} {
		lim := good
		if wrong(&lim); lim.Check() == nil {
			t.Errorf("%+v is accepted", lim)
		}
	}
	small := NewRules(Limits{Path: 256, Query: 1024, Params: 16, Fields: 32, Header: 4096, Cookies: 16}, nil)
	for target, want := range map[string]Reason{
		"/" + strings.Repeat("a", 256):   TargetTooLong,
		"/?" + strings.Repeat("a", 1025): TargetTooLong,
		"/?" + strings.Repeat("a&", 16):  TooManyParams,
	} {
		if _, err := parse(get(t, target), small); err == nil || err.(*Reject).Reason != string(want) {
			t.Errorf("%.20s: %v, want %s", target, err, want)
		}
	}
	for line, want := range map[string]Reason{
		strings.Repeat("X-A: b\r\n", 33):            HeaderTooLarge,
		"X-A: " + strings.Repeat("b", 4096):         HeaderTooLarge,
		"Cookie: a=1" + strings.Repeat("; a=1", 16): TooManyCookies,
	} {
		if _, err := parse(get(t, "/", strings.TrimSuffix(line, "\r\n")), small); err == nil || err.(*Reject).Reason != string(want) {
			t.Errorf("%.20s: %v, want %s", line, err, want)
		}
	}
}
