package rawhttp

import (
	"slices"
	"strings"
)

// paths are targets on which gateways and apps have disagreed. In HTTP/1.1 a target ends at the first blank.
func paths() (all []Case) {
	allowed := []Class{Served}
	denied := []Class{Denied}
	for _, r := range []row{
		{"PATH-01", "/app/../admin/{id}", refused}, {"PATH-01", "/app/./../admin/{id}", refused}, {"PATH-01", "/app/..", refused},
		{"PATH-01", "/app/../", refused}, {"PATH-01", "/../admin/{id}", refused}, {"PATH-01", "/../../app/{id}", refused},
		{"PATH-01", "/app/{id}/../../admin/x", refused}, {"PATH-01", "/app/{id}/..", refused}, {"PATH-01", "/app/{id}/.", refused},
		{"PATH-01", "/./app/{id}", refused}, {"PATH-01", "/app/./{id}", refused}, {"PATH-01", "/./admin/{id}", refused}, {"PATH-01", "/.", refused}, {"PATH-01", "/..", refused},
		{"PATH-02", "/app/%2e%2e/admin/{id}", refused}, {"PATH-02", "/app/%2E%2E/admin/{id}", refused}, {"PATH-02", "/app/.%2e/admin/{id}", refused},
		{"PATH-02", "/app/%2e./admin/{id}", refused}, {"PATH-02", "/app/%2e/{id}", refused}, {"PATH-02", "/%2e%2e/admin/{id}", refused}, {"PATH-02", "/app/{id}/%2e%2e", refused},
		{"PATH-03", "/app/..%2fadmin/{id}", refused}, {"PATH-03", "/app/..%2Fadmin/{id}", refused}, {"PATH-03", "/app%2f..%2fadmin%2f{id}", refused},
		{"PATH-03", "/app%2f{id}", refused}, {"PATH-03", "/app/a%2fb/{id}", refused}, {"PATH-03", "/admin%2f{id}", refused}, {"PATH-03", "%2fapp%2f{id}", refused},
		{"PATH-03", "/%2fadmin/{id}", refused}, {"PATH-03", "/app/%2e%2e%2fadmin/{id}", refused},
		{"PATH-05", "//admin/{id}", refused}, {"PATH-05", "//{host}/admin/{id}", refused}, {"PATH-05", "///admin/{id}", refused}, {"PATH-05", "//app/{id}", refused},
		{"PATH-05", "//admin@{host}/app/{id}", refused}, {"PATH-05", "//app/../admin/{id}", refused}, {"PATH-05", "//", refused},
		{"PATH-06", "/app///..//..//admin/{id}", refused}, {"PATH-06", "/app//{id}", refused}, {"PATH-06", "/app/{id}//", refused}, {"PATH-06", "/app//../admin/{id}", refused},
		{"PATH-07", "/app/..;/admin/{id}", refused}, {"PATH-07", "/app/x;y=z/{id}", refused}, {"PATH-07", "/app/..;a=b/admin/{id}", refused}, {"PATH-07", "/app;/admin/{id}", refused},
		{"PATH-07", "/;/admin/{id}", refused}, {"PATH-07", "/app/%2e%2e;/admin/{id}", refused}, {"PATH-07", "/app/..%3b/admin/{id}", refused}, {"PATH-07", "/app/.;/{id}", refused},
		{"PATH-07", "/app/{id};jsessionid=1", refused}, {"PATH-07", "/admin;/{id}", refused}, {"PATH-07", "/app/..;%2fadmin/{id}", refused},
		{"PATH-09", `/app/..\admin\{id}`, refused}, {"PATH-09", `/app\..\admin\{id}`, refused}, {"PATH-09", `\app\{id}`, refused}, {"PATH-09", `/\admin/{id}`, refused}, {"PATH-09", `/app/{id}\`, refused},
		{"PATH-10", "/app/..%5cadmin%5c{id}", refused}, {"PATH-10", "/app/..%5Cadmin/{id}", refused}, {"PATH-10", "/app%5c..%5cadmin%5c{id}", refused}, {"PATH-10", "/app/%2e%2e%5cadmin/{id}", refused}, {"PATH-10", "/%5cadmin/{id}", refused},
		{"PATH-11", "/app/%252e%252e/admin/{id}", refused}, {"PATH-11", "/app/..%252fadmin/{id}", refused}, {"PATH-11", "/app/..%255cadmin/{id}", refused}, {"PATH-11", "/app/%25252e%25252e/admin/{id}", refused},
		{"PATH-11", "/app/%%32%65%%32%65/admin/{id}", refused}, {"PATH-11", "/app/%25%32%65/{id}", refused}, {"PATH-11", "/app/100%25/{id}", refused}, {"PATH-11", "/app/%2500/{id}", refused},
		{"PATH-14", "/admin/{id}%23/app/y", denied}, {"PATH-14", "/admin/{id}%3f/app/y", denied}, {"PATH-14", "/admin/{id}%23", denied}, {"PATH-14", "/admin%23/{id}", denied}, {"PATH-14", "/app%3f/{id}", denied},
		{"PATH-15", "/admin/{id}#/app/y", refused}, {"PATH-15", "/app/{id}#", refused}, {"PATH-15", "/app/{id}#/../admin", refused}, {"PATH-15", "#/app/{id}", refused}, {"PATH-15", "/#/app/{id}", refused},
		{"PATH-17", "/%61%64%6d%69%6e/{id}", denied}, {"PATH-17", "/%61dmin/{id}", denied}, {"PATH-17", "/admi%6E/{id}", denied}, {"PATH-17", "/%41DMIN/{id}", denied}, {"PATH-17", "/ADMIN/{id}", denied}, {"PATH-17", "/adm%C4%B1n/{id}", denied},
		{"PATH-22", "/admin/{id}?x=/app/public", denied}, {"PATH-22", "/admin/{id}?/app/", denied}, {"PATH-22", "/admin?/../app/{id}", denied}, {"PATH-22", "/?/app/{id}", denied}, {"PATH-22", "/admin/{id}?.css", denied},
		{"PATH-24", "/app../admin/{id}", refused}, {"PATH-24", "/app%2e%2e/admin/{id}", refused}, {"PATH-24", "/application/{id}", denied}, {"PATH-24", "/app./admin/{id}", kept}, {"PATH-24", "/app.../admin/{id}", kept},
		{"PATH-24", "/app-admin/{id}", denied}, {"PATH-24", "/app", []Class{Denied | Served}}, {"PATH-24", "/ap/{id}", denied}, {"PATH-24", "/app.css/{id}", denied},
		{"PATH-26", "/admin%20/{id}", refused}, {"PATH-26", "/app/{id}%20", refused}, {"PATH-26", "/app%20/{id}", refused}, {"PATH-26", "/admin%09/{id}", refused}, {"PATH-26", "/app/..%20/admin/{id}", refused},
		{"PATH-26", "/admin%c2%a0/{id}", refused}, {"PATH-26", "/admin%a0/{id}", refused}, {"PATH-26", "/admin./{id}", kept}, {"PATH-26", "/app/%20/{id}", refused}, {"PATH-26", "/admin%e3%80%80/{id}", refused}, {"PATH-26", "/admin%0b/{id}", refused},
		{"PATH-31", "https://{host}/admin/{id}", refused}, {"PATH-31", "http://{host}/app/{id}", refused}, {"PATH-31", "https://{host}/app/{id}", refused}, {"PATH-31", "https://{other}/app/{id}", elsewhere},
		{"PATH-31", "HTTPS://{host}/app/{id}", refused}, {"PATH-31", "https:/app/{id}", refused}, {"PATH-31", "https:///app/{id}", refused}, {"PATH-31", "https:app/{id}", refused}, {"PATH-31", "ftp://{host}/app/{id}", refused},
		{"PATH-31", "http://127.0.0.1:22/{id}", elsewhere}, {"PATH-31", "https://{host}", refused}, {"PATH-31", "javascript:alert({id})", refused}, {"PATH-31", "https://a:b@{host}/app/{id}", refused}, {"PATH-31", "file:///etc/passwd?{id}", refused},
		{"PATH-33", "admin/{id}", refused}, {"PATH-33", "app/{id}", refused}, {"PATH-33", "./app/{id}", refused}, {"PATH-33", "../app/{id}", refused}, {"PATH-33", "?{id}", refused}, {"PATH-33", "{host}/app/{id}", refused}, {"PATH-33", ".", refused},
		{"PATH-33", "@{other}/app/{id}", refused}, {"PATH-33", "%2fapp/{id}", refused}, {"PATH-33", ":443/app/{id}", refused},
		{"PATH-34", "/app/%zz{id}", refused}, {"PATH-34", "/app/{id}%", refused}, {"PATH-34", "/app/{id}%2", refused}, {"PATH-34", "/app/%/{id}", refused}, {"PATH-34", "/app/%u002e%u002e/admin/{id}", refused}, {"PATH-34", "/app/%0x2e/{id}", refused},
		{"PATH-34", "/app/%%/{id}", refused}, {"PATH-34", "/app/%-1{id}", refused}, {"PATH-34", "/app/% 2e/{id}", refused}, {"PATH-34", "/app/%2g/{id}", refused},
		{"overlong UTF-8", "/app/%c0%ae%c0%ae/admin/{id}", refused}, {"overlong UTF-8", "/app/..%c0%afadmin/{id}", refused}, {"overlong UTF-8", "/app/%e0%80%ae%e0%80%ae/admin/{id}", refused}, {"overlong UTF-8", "/app/%f0%80%80%ae./admin/{id}", refused},
		{"overlong UTF-8", "/app/..%c1%9cadmin/{id}", refused}, {"overlong UTF-8", "/app/..%c1%afadmin/{id}", refused}, {"overlong UTF-8", "/app/%f8%80%80%80%ae/{id}", refused}, {"overlong UTF-8", "/app/%c0%80/{id}", refused},
		{"bad UTF-8", "/app/%ff/{id}", refused}, {"bad UTF-8", "/app/%c3/{id}", refused}, {"bad UTF-8", "/app/%80/{id}", refused}, {"bad UTF-8", "/app/%ed%a0%80/{id}", refused}, {"bad UTF-8", "/app/%f5%80%80%80/{id}", refused}, {"bad UTF-8", "/app/\xff/{id}", refused},
		{"bad UTF-8", "/app/\xc3\xbc/{id}", refused}, {"bad UTF-8", "/app/..\xc0\xafadmin/{id}", refused},
		{"wide", "/app/%ef%bc%8e%ef%bc%8e/admin/{id}", refused}, {"wide", "/app/..%ef%bc%8fadmin/{id}", refused}, {"wide", "/app/%e2%80%a5/admin/{id}", refused}, {"wide", "/app/%e2%80%a4%e2%80%a4/admin/{id}", refused}, {"wide", "/app/..%e2%88%95admin/{id}", refused},
		{"wide", "/app/..%ef%bc%bcadmin/{id}", refused}, {"wide", "/%ef%bd%81dmin/{id}", denied},
		{"NUL", "/app/{id}%00.png", refused}, {"NUL", "/admin%00/app/{id}", refused}, {"NUL", "/app/..%00/admin/{id}", refused}, {"NUL", "/%00/admin/{id}", refused},
		{"control", "/app/%01{id}", refused}, {"control", "/app/{id}%7f", refused}, {"control", "/app/{id}%1b%5b31m", refused}, {"control", "/app/%c2%85{id}", refused}, {"control", "/app/{id}%08%08", refused},
		{"INJ-05", "/app/{id}%0d%0aSet-Cookie:evil=1", refused}, {"INJ-05", "/app/{id}%0aSet-Cookie:evil=1", refused}, {"INJ-05", "/app/{id}%0dSet-Cookie:evil=1", refused},
		{"INJ-05", "/app/{id}%e5%98%8d%e5%98%8aSet-Cookie:evil=1", either}, {"INJ-05", "/app/{id}?x=%0d%0aSet-Cookie:evil=1", either}, {"INJ-05", "/app/{id}%c4%8d%c4%8aSet-Cookie:evil=1", either},
		{"INJ-01", "/admin/<script>x</script>{id}", kept}, {"INJ-02", "/admin/%3cscript%3ex%3c/script%3e{id}", kept},
		{"other case", "/APP/{id}", denied}, {"other case", "/App/{id}", denied}, {"other case", "/a%50p/{id}", denied}, {"nowhere", "/{id}", denied},
		{"allowed", "/app/{id}", allowed}, {"allowed folder", "/app/{id}/", allowed}, {"allowed dots", "/app/.well-known/..hidden/a.b/{id}", allowed}, {"allowed signs", "/app/@scope:tag/a+b,c=d&e(f)!$'*~/{id}", allowed},
	} {
		all = append(all, both(Case{ID: r.id, Name: r.text, Want: r.want, Unsaid: []string{"\nset-cookie: evil", "<script>x"}}, ask{target: r.text})...)
	}
	navigate := []Field{{"Sec-Fetch-Mode", "navigate"}, {"Sec-Fetch-Dest", "document"}, {"Accept", "text/html"}}
	for _, target := range []string{"/app/{id}?a=/healthz", "/healthz/../app/{id}", "/healthz", "/app/{id}?rd=/.sallyport/start", "/.well-known/{id}", "/robots.txt?{id}", "/favicon.ico?{id}", "/ping", "/app/{id}.css?/static/"} {
		c := Case{ID: "PATH-40", Name: target, Anonymous: true, Want: []Class{SignIn | Refused}}
		all = append(all, both(c, ask{target: target})...)
		c.Name += " navigation"
		all = append(all, both(c, ask{target: target, fields: navigate})...)
	}
	all = append(all, both(Case{ID: "INJ-05", Name: "navigation", Want: refused, Unsaid: []string{"\nset-cookie:evil"}}, ask{target: "/app/{id}%0d%0aSet-Cookie:evil=1", fields: navigate})...)
	all = append(all, both(Case{ID: "INJ-01", Name: "page", Want: kept, Unsaid: []string{"<script>x", "<img"}},
		ask{target: "/admin/<script>x</script><img/src=x>{id}?<img/src=x>", fields: append(slices.Clone(navigate), Field{"User-Agent", "<img src=x>"}, Field{"Referer", "https://x/<img src=x>"})})...)
	return append(all, both(Case{ID: "spelling", Name: "one for one path", Want: allowed, Seen: []string{"GET /app/{id}/Z%C3%BCrich%20(a'b),@:~+=&$!*?q=%c3%bc+x HTTP/1.1\r\n"}},
		ask{target: "/%61pp/{id}/Z%c3%bcrich%20(a'b),@:~+=&$!*?q=%c3%bc+x"})...)
}

// queries are what parsers of queries split differently.
func queries() (all []Case) {
	for _, r := range []row{
		{"PATH-43", "a=1;b=2&c=%zz", refused}, {"PATH-43", "a=1;b=2", refused}, {"PATH-43", "c=%zz", refused}, {"PATH-43", "c=%", refused}, {"PATH-43", "c=%2", refused}, {"PATH-43", "%zz=1", refused}, {"PATH-43", "a=%u0061", refused},
		{"PATH-43", "a=%ff", refused}, {"PATH-43", "a=%c0%ae", refused}, {"PATH-43", "a=\xff", refused}, {"PATH-43", "a=1#b", refused}, {"PATH-43", "a=%ed%a0%80", refused}, {"PATH-43", ";", refused}, {"PATH-43", "a=1&;b", refused},
		{"PATH-43", "a=%3b", served}, {"PATH-43", "?a=1", served}, {"PATH-43", "a=1&a=2&A=3", served}, {"PATH-43", "a=b=c&&d&=e", served}, {"PATH-43", "a[b]=c&d{}=|", served}, {"PATH-43", "/../admin/", served},
		{"DOS-11", strings.Repeat("a&", 3000) + "hidden=1", refused}, {"DOS-11", strings.Repeat("a=1&", 10_001) + "hidden=1", refused}, {"DOS-11", strings.Repeat("&", 1001), refused},
		{"DOS-11", strings.Repeat("a", 9000), refused},
	} {
		c := Case{ID: r.id, Name: r.text[:min(len(r.text), 40)], Want: r.want}
		if r.want[0] == Served {
			c.Seen = []string{"GET /app/{id}?" + r.text + " HTTP/1.1\r\n"}
		}
		all = append(all, both(c, ask{target: "/app/{id}?" + r.text})...)
	}
	return all
}

// Ways up and ways on, of which [Climbs] are all pairs.
var (
	ups = []string{"..", "%2e%2e", ".%2e", "%2E.", "..;", "..;x=y", "%2e%2e;", "..%00", "..%20", "..%09", "%252e%252e", "%25%32%65.", "%c0%ae%c0%ae",
		"%e0%80%ae.", "%u002e%u002e", "%ef%bc%8e%ef%bc%8e", "%e2%80%a5", ".%00.", "..%c2%a0", "..%0d", ".%5c..", "....//.."}
	ons = []string{"/", "%2f", "%2F", "%5c", `\`, "%252f", "%255c", "//", "/./", "/;/", ";/", "%00/", "%20/", "%09/", "%c0%af", "%e0%80%af", "%ef%bc%8f", "%e2%88%95", "%2f%2f", "%u2215", "%0d%0a/", "#/"}
)

// Climbs are targets that lead from /app/ to /admin/ by some reading. All of them must be refused or denied.
func Climbs() (targets []string) {
	for _, up := range ups {
		for _, on := range ons {
			targets = append(targets, "/app/"+up+on+"admin/x", "/app/y"+on+up+on+"admin/x")
		}
	}
	return targets
}
