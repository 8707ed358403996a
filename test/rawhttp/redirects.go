package rawhttp

import (
	"net/url"
	"strings"
)

// Astray are places to return to that lead elsewhere: what browsers make of slashes, blanks, schemes and user
// information, after the lists that oauth2-proxy, PayloadsAllTheThings and PortSwigger publish. {host} is ours.
var Astray = map[string][]string{
	"REDIR-01": {"https://evil.example", "//evil.example", "///evil.example", "////evil.example", "https:evil.example", "https:/evil.example", "https:///evil.example", "https:////evil.example", "http:evil.example", "HtTpS://evil.example", "javascript:alert('evil')", "JaVaScRiPt://%0aalert('evil')",
		"data:text/html,evil", "vbscript:evil", "//evil.example/%2e%2e", "//evil.example/%2f..", "//evil.example//", "/.//evil.example", "/..//evil.example", "/./evil//../..//evil.example", "evil.example", ".evil.example", "..//evil.example", "///evil.example/..;/", "//%2fevil.example", "//evil%E3%80%82example", "//\u3002evil",
		"//evil%00.example", "https://%65vil.example/evil", "//3627734734/evil", "//0x7f.1/evil", "//[::1]/evil", "ftp://evil.example", "//evil.example:443", "https:%2f%2fevil.example", "http:%5c%5cevil.example", "%2f%2fevil.example", "%68ttps://evil.example", ":evil.example", "://evil.example", "/ /evil.example", "?//evil.example", "#//evil.example"},
	"REDIR-02": {`/\evil.example`, `\\evil.example`, `/\/evil.example`, `\/evil.example`, `/\\evil.example`, `\/\/evil.example`, `\\\evil.example`, `//\evil.example`, `/\/\/evil.example`, "/%5cevil.example", "/%5c%5cevil.example", `/%5c/evil.example`, `\%5cevil.example`, "/%09/evil.example", "/%0a/evil.example", "/%0d/evil.example", "/%0d%0a/evil.example",
		"/%00/evil.example", "/%20/evil.example", "/%a0/evil.example", "/%2f/evil.example", "/%2f%2fevil.example", "/%2f%5cevil.example", "/%252fevil.example", "/%255cevil.example", "/%e3%80%82evil.example", "/%ef%bc%8fevil.example", "%09//evil.example", "%0a//evil.example", "%20//evil.example", "/%c0%afevil.example", "/%u2215evil.example", `https:\\evil.example`, `https:/\evil.example`,
		"/\t/evil.example", "/\n/evil.example", "\t//evil.example", "\x01//evil.example", "/\u2028/evil.example", "/\uff0fevil.example", "/\u2215evil.example", "/;/evil.example//", "/.%2f/evil.example", "/%2e%2e//evil.example", "/..%2f..%2f/evil.example", `/..\/evil.example`, `/.\evil.example`},
	"REDIR-04": {"https://{host}@evil.example/", "https://{host}:443@evil.example/", "//{host}@evil.example", "//{host}:x@evil.example", "https://evil.example#{host}", "https://evil.example?{host}", "https://evil.example/{host}", `https://evil.example\@{host}`, "https://evil.example%23@{host}", "https://evil.example%2f@{host}", "https://evil.example;@{host}", "@evil.example", "//@evil.example",
		"https://{host}%40evil.example", "https://{host}%00.evil.example", "https://{host}%0d.evil.example", "https://{host}%2eevil.example", "https://[{host}]@evil.example", "https://evil.example:80#@{host}/", "https://evil.example:80?@{host}/", "https://{host}:80%40evil.example"},
	"REDIR-06": {"https://{host}.evil.example/", "https://evil{host}/", "https://{host}evil.example/", "https://evil.corp.test/", "https://corp.test.evil.example", "//{host}.evil.example", "https://{host}-evil.example", "https://{host}_.evil.example", "https://evil.example.{host}/"},
}

// astraySaid is in no answer to any of them. A path of our own host may be called evil.
var astraySaid = []string{"//evil", `\evil`, "@evil", "https:evil", "http:evil", "javascript:", "data:text", "vbscript:", "[evil:", "%2fevil.example", "%5cevil"}

func redirects() []Case {
	var all []Case
	add := func(c Case, sni, target string, fields ...Field) {
		c.SNI, c.Anonymous, c.Own, c.Unsaid = sni, true, true, astraySaid
		c.Want = []Class{Elsewhere}
		host := strings.ReplaceAll(orElse(sni, "{host}"), "{hostname}", "{host}")
		c.Raw = message("GET "+target+" HTTP/1.1", "Host: "+host, "Accept: text/html")
		all = append(all, c)
		c.Raw = ""
		c.Fields = append(pseudo("GET", "https", host, target), append(fields, Field{"accept", "text/html"})...)
		c.Want = []Class{Elsewhere | Hangup}
		all = append(all, c)
	}
	for id, targets := range Astray {
		for _, target := range targets {
			query := "app={hostname}&rd=" + escapeTarget(target)
			add(Case{ID: id, Name: "start " + target}, "{auth}", "/.sallyport/start?"+query)
			add(Case{ID: id, Name: "return " + target}, "", "/.sallyport/return?code=x&"+query)
			add(Case{ID: id, Name: "sign out " + target}, "", "/.sallyport/signout?rd="+escapeTarget(target)+"&return="+escapeTarget(target)+"&post_logout_redirect_uri="+escapeTarget(target))
			add(Case{ID: id, Name: "callback " + target}, "{auth}", "/.sallyport/callback/corp?code=x&state="+escapeTarget(target)+"&rd="+escapeTarget(target))
			if strings.HasPrefix(target, "/") && !strings.ContainsAny(target, "\t\n\r ?#") {
				all = append(all, both(Case{ID: id, Name: "path " + target, Anonymous: true, Want: []Class{Refused | Misroute | SignIn}}, ask{target: target, fields: []Field{{"Accept", "text/html"}, {"Sec-Fetch-Mode", "navigate"}, {"Sec-Fetch-Dest", "document"}}})...)
			}
		}
	}
	for _, app := range []string{"evil.example", "{hostname}.evil.example", "{hostname}@evil.example", "evil.example/{hostname}", "//evil.example", "{hostname}:evil", "", "{hostname}%00evil.example", "https://evil.example", "{hostname}\\evil.example"} {
		add(Case{ID: "REDIR-06", Name: "app " + app}, "{auth}", "/.sallyport/start?rd=/&app="+escapeTarget(app))
	}
	navigate := []Field{{"Sec-Fetch-Mode", "navigate"}, {"Sec-Fetch-Dest", "document"}, {"X-Forwarded-Host", "evil.example"}, {"X-Forwarded-Prefix", "//evil.example"}, {"X-Original-URL", "//evil.example"}, {"X-Forwarded-Uri", "//evil.example"}, {"X-Auth-Request-Redirect", "https://evil.example"},
		{"X-Forwarded-Server", "evil.example"}, {"Forwarded", "host=evil.example"}, {"Referer", "https://evil.example/"}, {"Origin", "https://evil.example"}, {"X-Host", "evil.example"}}
	return append(all, both(Case{ID: "REDIR-09", Anonymous: true, Want: []Class{SignIn}, Unsaid: []string{"evil"}}, ask{fields: navigate})...)
}

// escapeTarget makes any text a query value and keeps placeholders.
func escapeTarget(s string) string {
	return strings.NewReplacer("%7B", "{", "%7D", "}", "+", "%20").Replace(url.QueryEscape(s))
}

func floods() (all []Case) {
	for _, r := range []struct {
		id, name string
		fields   []Field
	}{
		{"DOS-09", "one field of 2 MiB", []Field{{"X-A", strings.Repeat("b", 2<<20)}}},
		{"DOS-09", "one name of 1 MiB", []Field{{"X-" + strings.Repeat("a", 1<<20), "b"}}},
		{"DOS-10", "20,000 fields", each(strings.Split(strings.Repeat("X-A,", 19_999)+"X-B", ","), "b", asIs)},
		{"DOS-10", "300 fields", each(strings.Split(strings.Repeat("X-A,", 299)+"X-B", ","), "b", asIs)},
	} {
		all = append(all, both(Case{ID: r.id, Name: r.name, Want: []Class{Refused | Hangup}}, ask{fields: r.fields})...)
	}
	all = append(all, both(Case{ID: "DOS-09", Name: "a long target", Want: []Class{Refused | Hangup}}, ask{target: "/app/{id}" + strings.Repeat("a", 5000)})...)
	all = append(all, both(Case{ID: "DOS-09", Name: "a target of 1 MiB", Want: []Class{Refused | Hangup}}, ask{target: "/app/{id}" + strings.Repeat("a", 1<<20)})...)
	return append(all, both(Case{ID: "DOS-09", Name: "many segments", Want: []Class{Refused | Served}, Stranger: []Class{Refused | SignIn}}, ask{target: "/app/{id}" + strings.Repeat("/a", 2000)})...)
}
