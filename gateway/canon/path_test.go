package canon

import (
	"net/url"
	"strings"
	"testing"
)

func TestAmbiguousPathsAreRefused(t *testing.T) {
	for _, row := range []struct {
		id, target string
		want       Reason
	}{
		{"PATH-01", "/app/../admin/x", DotSegment},
		{"PATH-01", "/app/./x", DotSegment},
		{"PATH-01", "/app/..", DotSegment},
		{"PATH-01", "/.", DotSegment},
		{"PATH-02", "/app/%2e%2e/admin/x", DotSegment},
		{"PATH-02", "/app/.%2E/admin/x", DotSegment},
		{"PATH-03", "/app/..%2fadmin/x", EncodedSeparator},
		{"PATH-03", "/app/a%2Fb", EncodedSeparator},
		{"PATH-05", "//admin/x", EmptySegment},
		{"PATH-05", "//", EmptySegment},
		{"PATH-06", "/app///..//..//admin/x", EmptySegment},
		{"PATH-06", "/app//", EmptySegment},
		{"PATH-07", "/app/..;/admin/x", PathParameter},
		{"PATH-07", "/app/..;a=b/admin/x", PathParameter},
		{"PATH-07", "/app/..%3b/admin/x", PathParameter},
		{"PATH-07", "/admin;v=1/x", PathParameter},
		{"PATH-09", `/app/..\admin\x`, TargetBytes},
		{"PATH-10", "/app/..%5cadmin%5cx", EncodedSeparator},
		{"PATH-11", "/app/%252e%252e/admin/x", DoubleEncoded},
		{"PATH-11", "/app/100%25", DoubleEncoded},
		{"PATH-15", "/admin/x#/app/y", TargetBytes},
		{"PATH-24", "/app../admin/x", DotSegment},
		{"PATH-24", "/app%2e%2e/admin/x", DotSegment},
		{"PATH-26", "/admin%20/x", TrailingBlank},
		{"PATH-26", "/admin%C2%A0/x", TrailingBlank},
		{"PATH-26", "/admin%E3%80%80", TrailingBlank},
		{"PATH-31", "http://app.example.test/admin/x", TargetForm},
		{"PATH-31", "HTTPS://app.example.test/admin/x", TargetForm},
		{"PATH-33", "admin/x", TargetForm},
		{"PATH-33", "", TargetForm},
		{"PATH-33", "?a=/app/", TargetForm},
		{"PATH-34", "/app/%zz", BadEscape},
		{"PATH-34", "/app/%4", BadEscape},
		{"PATH-34", "/app/%", BadEscape},
		{"overlong slash", "/app/%c0%af/admin", BadUTF8},
		{"overlong dot", "/app/%c0%ae%c0%ae/admin", BadUTF8},
		{"surrogate", "/app/%ed%a0%80", BadUTF8},
		{"latin-1", "/app/caf%e9", BadUTF8},
		{"raw UTF-8", "/app/café", TargetBytes},
		{"raw blank", "/app/a b", TargetBytes},
		{"raw tab", "/app/a\tb", TargetBytes},
		{"NUL", "/app/x%00.png", ControlByte},
		{"INJ-05", "/app/x%0d%0aSet-Cookie:a=b", ControlByte},
		{"DEL", "/app/%7f", ControlByte},
		{"C1", "/app/%c2%85", ControlByte},
		{"full-width dots", "/app/%ef%bc%8e%ef%bc%8e/admin", DotSegment},
		{"two-dot leader", "/app/%e2%80%a5/admin", DotSegment},
		{"full-width slash", "/app/..%ef%bc%8fadmin", DotSegment},
		{"full-width slash behind a wide blank", "/app/..%c2%a0%ef%bc%8fadmin", DotSegment},
		{"full-width backslash", "/app/x%ef%bc%bc..%ef%bc%bcadmin", DotSegment},
		{"full-width semicolon", "/app/..%ef%bc%9bx/admin", DotSegment},
		{"too long", "/" + strings.Repeat("a", 4<<10), TargetTooLong},
		{"too long encoded", "/" + strings.Repeat("%61", 4<<10), TargetTooLong},
		{"far too long", "/" + strings.Repeat("%61", 1<<20), TargetTooLong},
	} {
		t.Run(row.id+" "+row.target[:min(len(row.target), 40)], func(t *testing.T) {
			reject := refusal(t, get(t, row.target), row.want)
			if len(reject.Detail) > 4*maxDetail+3 || strings.ContainsFunc(reject.Detail, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("detail is not capped and printable: %q", reject.Detail)
			}
		})
	}
}

func TestOrdinaryPathsKeepTheirMeaning(t *testing.T) {
	for _, row := range []struct{ id, target, path, escaped string }{
		{"root", "/", "/", "/"},
		{"last slash", "/app/", "/app/", "/app/"},
		{"PATH-14", "/admin/x%23/app/y", "/admin/x#/app/y", "/admin/x%23/app/y"},
		{"PATH-17", "/%61%64%6d%69%6e/x", "/admin/x", "/admin/x"},
		{"PATH-22", "/admin/x?x=/app/public", "/admin/x", "/admin/x"},
		{"question mark", "/wiki/Who%3f", "/wiki/Who?", "/wiki/Who%3F"},
		{"blank inside", "/files/annual%20report.pdf", "/files/annual report.pdf", "/files/annual%20report.pdf"},
		{"blank first", "/files/%20x", "/files/ x", "/files/%20x"},
		{"unicode", "/wiki/Z%c3%bcrich", "/wiki/Zürich", "/wiki/Z%C3%BCrich"},
		{"cjk", "/wiki/%E6%9D%B1%E4%BA%AC%EF%BC%8F%EF%BC%91%EF%BC%8E", "/wiki/東京／１．", "/wiki/%E6%9D%B1%E4%BA%AC%EF%BC%8F%EF%BC%91%EF%BC%8E"},
		{"emoji", "/%F0%9F%9A%AA", "/🚪", "/%F0%9F%9A%AA"},
		{"sub-delims", "/a-b._~!$&'()*+,=:@/c", "/a-b._~!$&'()*+,=:@/c", "/a-b._~!$&'()*+,=:@/c"},
		{"sub-delims encoded", "/%28%27%2C%40%3A%7E%2B%3D%26%24%21%2A%29", "/(',@:~+=&$!*)", "/(',@:~+=&$!*)"},
		{"browsers leave raw", `/a[0]|{x}"<y>^` + "`", `/a[0]|{x}"<y>^` + "`", "/a%5B0%5D%7C%7Bx%7D%22%3Cy%3E%5E%60"},
		{"dots inside", "/.well-known/a..b/...", "/.well-known/a..b/...", "/.well-known/a..b/..."},
		{"hidden file", "/.git/..gitignore", "/.git/..gitignore", "/.git/..gitignore"},
		{"one last dot", "/wiki/Acme_Inc.", "/wiki/Acme_Inc.", "/wiki/Acme_Inc."},
		{"ellipsis", "/wiki/Wait...", "/wiki/Wait...", "/wiki/Wait..."},
	} {
		t.Run(row.id, func(t *testing.T) {
			q := accepted(t, get(t, row.target))
			if q.Path != row.path || q.EscapedPath != row.escaped {
				t.Errorf("got %q as %q, want %q as %q", q.Path, q.EscapedPath, row.path, row.escaped)
			}
			u := url.URL{Path: q.Path, RawPath: q.EscapedPath}
			if u.EscapedPath() != row.escaped {
				t.Errorf("net/url would write %q", u.EscapedPath())
			}
		})
	}
}

func TestPrefixIsStrippedAtSegmentBorder(t *testing.T) {
	for _, row := range []struct{ target, prefix, path, escaped string }{
		{"/app", "/app", "/", "/"},
		{"/app/", "/app", "/", "/"},
		{"/app/x/%C3%BC", "/app", "/x/ü", "/x/%C3%BC"},
		{"/application/x", "/app", "", ""}, // PATH-24
		{"/ap", "/app", "", ""},
		{"/other", "/app", "", ""},
	} {
		path, escaped, ok := accepted(t, get(t, row.target)).StripPrefix(row.prefix)
		if path != row.path || escaped != row.escaped || ok != (row.path != "") {
			t.Errorf("%s without %s: got %q, %q, %v", row.target, row.prefix, path, escaped, ok)
		}
	}
}

func TestRawTargetIsEscapedCappedAndWithoutQuery(t *testing.T) {
	q := accepted(t, get(t, "/x%20y?token=s3cret"))
	if q.RawTarget != "/x%20y" {
		t.Errorf("got %q", q.RawTarget)
	}
	for target, want := range map[string]string{
		"/a?token=s3cret":              "/a?",
		"https://u:s3cret@h.test/p?q":  "https://h.test/p?",
		"/plain":                       "/plain",
		"/see/https://u@h.test/":       "/see/https://u@h.test/",
		"https://u:s3cret@h.test":      "https://h.test/",
		"https://h.test/@x":            "https://h.test/@x",
		"https://h.test?u:s3cret@x/ab": "https://h.test?",
	} {
		if got := RedactTarget(target); got != want {
			t.Errorf("RedactTarget(%q) = %q, want %q", target, got, want)
		}
	}
	if got := Escape("a\r\n\x1b[31m\"\u202e"); got != `a\r\n\x1b[31m\"\u202e` {
		t.Errorf("INJ-08: Escape gives %q", got)
	}
	if got := Escape(strings.Repeat("x", 1<<20)); len(got) != maxEscape+3 {
		t.Errorf("Escape leaves %d bytes", len(got))
	}
}
