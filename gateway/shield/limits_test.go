package shield

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is more than a body's limits allow is a finding by itself, which blocks at the default threshold: nobody hides
// behind a limit.
func TestLimitsAreFindings(t *testing.T) {
	rules := testRules
	rules.Arguments, rules.Depth, rules.Parts = 10, 4, 3
	i := compiled(t, rules)
	parts := func(n int) string {
		var b strings.Builder
		for k := range n {
			fmt.Fprintf(&b, "--x\r\nContent-Disposition: form-data; name=\"f%d\"\r\n\r\nv\r\n", k)
		}
		return b.String() + "--x--\r\n"
	}
	for _, row := range []struct {
		name, contentType, body string
		want                    int64 // 0: nothing of ours
		seen                    Body
	}{
		{"form", "application/x-www-form-urlencoded", strings.Repeat("a=b&", 10), 0, Whole},
		{"form", "application/x-www-form-urlencoded", strings.Repeat("a=b&", 11), FindingArguments, Part},
		{"JSON list", "application/json", "[1" + strings.Repeat(",1", 9) + "]", 0, Whole},
		{"JSON list", "application/json", "[1" + strings.Repeat(",1", 10) + "]", FindingArguments, Part},
		{"empty lists", "application/json", "[[]" + strings.Repeat(",[]", 10) + "]", FindingArguments, Part},
		{"many values", "application/json", strings.Repeat("{}\n", 11), FindingArguments, Part},
		{"JSON depth", "application/json", "[[[[1]]]]", 0, Whole},
		{"JSON depth", "application/json", "[[[[[1]]]]]", FindingDepth, Part},
		{"JSON depth", "text/plain", `{"a":{"a":{"a":{"a":{"a":1}}}}}`, FindingDepth, Part},
		{"XML depth", "application/xml", "<a><a><a><a>x</a></a></a></a>", 0, Whole},
		{"XML depth", "application/xml", "<a><a><a><a><a>x</a></a></a></a></a>", FindingDepth, Part},
		{"XML texts", "application/xml", "<a>" + strings.Repeat("<b>x</b>", 11) + "</a>", FindingArguments, Part},
		{"XML attributes", "application/xml", "<a " + strings.Repeat(`b="x" `, 11) + "/>", FindingArguments, Part},
		{"parts", "multipart/form-data; boundary=x", parts(3), 0, Whole},
		{"parts", "multipart/form-data; boundary=x", parts(4), FindingParts, Part},
		{"no boundary", "multipart/form-data", parts(1), FindingMalformed, Whole},
		{"cut off by the client", "multipart/form-data; boundary=x", parts(2)[:20], FindingMalformed, Whole},
		{"two names", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=a; filename=a.txt; filename*=utf-8''a.php\r\n\r\nv\r\n--x--\r\n", FindingMalformed, Whole},
		{"two dispositions", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\nv\r\n--x--\r\n", FindingMalformed, Whole},
		{"no JSON", "application/json", `{"a":1`, FindingMalformed, Whole},
		{"no JSON", "application/json", `{"a":1}}`, FindingMalformed, Whole},
		{"no XML", "application/xml", `<a`, FindingMalformed, Whole},
		{"binary", "application/octet-stream", "\x00\x01\x02", 0, None},
	} {
		found := i.Inspect(ordinary("POST", "/", row.contentType, row.body))
		if row.want != 0 && (found.Score < 5 || !slices.Contains(found.Rules, row.want)) || row.want == 0 && len(ours(found)) > 0 || found.Body != row.seen {
			t.Errorf("%s, %.60q: %+v, want %d and %s", row.name, row.body, found, row.want, row.seen)
		}
	}
	if found := i.Inspect(ordinary("GET", "/?"+strings.Repeat("a=b&", 10), "", "")); !slices.Contains(found.Rules, FindingArguments) {
		t.Errorf("eleven parameters: %+v", found)
	}
}

func ours(f Findings) (ids []int64) {
	for _, id := range f.Rules {
		if id >= FindingArguments && id <= FindingMalformed {
			ids = append(ids, id)
		}
	}
	return ids
}

// A form, JSON or XML that goes on after what is inspected is a finding; an upload or a text is none, but not whole.
func TestBodiesThatGoOnAreFindings(t *testing.T) {
	i := compiled(t, testRules)
	for contentType, want := range map[string]int64{"application/x-www-form-urlencoded": FindingLong, "application/json": FindingLong,
		"application/xml": FindingLong, "multipart/form-data; boundary=x": 0, "text/csv": 0} {
		body := map[string]string{"application/x-www-form-urlencoded": "a=bcd", "application/json": `{"a":"bcd`, "application/xml": "<a><b>cd",
			"multipart/form-data; boundary=x": "--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv", "text/csv": "a,b\nc,é"[:8]}[contentType]
		q := ordinary("POST", "/", contentType, body)
		q.Whole, q.Length = false, 1<<20
		if found := i.Inspect(q); found.Body != Part || want != 0 && !slices.Contains(found.Rules, want) || want == 0 && len(ours(found)) > 0 {
			t.Errorf("%s: %+v, want %d", contentType, found, want)
		}
	}
}

// DOS-20: an encoded body is not decoded, and the rules find the field that announces it.
func TestDOS20EncodedBodiesAreNotDecoded(t *testing.T) {
	i := compiled(t, testRules)
	for _, encoding := range []string{"gzip", "gzip, gzip", "br", "deflate", "zstd", "x"} {
		q := ordinary("POST", "/", "application/json", "\x1f\x8b\x08\x00")
		q.Header.Set("Content-Encoding", encoding)
		if found := i.Inspect(q); found.Body != None || found.Score < 5 || !slices.Contains(found.Rules, 920450) {
			t.Errorf("%s: %+v", encoding, found)
		}
	}
}

// Paranoia finds more, the threshold and the mode change nothing in what is found.
func TestParanoiaFindsMore(t *testing.T) {
	q := ordinary("GET", "/?text=it%27s+%3D+--+a+%22quote%22+%28x%29+%3B", "", "")
	var scores []int
	for _, paranoia := range []int{1, 2, 4} {
		rules := testRules
		rules.Paranoia = paranoia
		scores = append(scores, compiled(t, rules).Inspect(q).Score)
	}
	if !slices.IsSorted(scores) || scores[0] == scores[2] {
		t.Errorf("scores are %v at paranoia 1, 2 and 4", scores)
	}
}

// Findings name the gravest rules and no more than fit their record.
func TestFindingsAreBounded(t *testing.T) {
	rules := testRules
	rules.Paranoia = 4
	i := compiled(t, rules)
	var payloads []string
	for _, a := range attacks {
		payloads = append(payloads, a.payload)
	}
	q := ordinary("POST", "/../../.git/config", "text/plain", strings.Join(payloads, "\n"))
	q.Header.Set("User-Agent", "sqlmap")
	found := i.Inspect(q)
	if len(found.Rules) != MaxRules || !slices.IsSorted(found.Rules) || found.Score < 5*MaxRules/2 {
		t.Errorf("%d rules, score %d: %v", len(found.Rules), found.Score, found.Rules)
	}
}

// Own rules score beside the core ones, and what they may not say is refused with its line.
func TestOwnRules(t *testing.T) {
	write := func(text string) []string {
		name := filepath.Join(t.TempDir(), "own.conf")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{name}
	}
	rules := testRules
	rules.Rules = write("# no exports at night\nSecRule REQUEST_FILENAME \"@beginsWith /export/\" \\\n" +
		"  \"id:1001,phase:2,pass,nolog,t:none,severity:WARNING,setvar:tx.inbound_anomaly_score_pl1=+%{tx.warning_anomaly_score}\"\n" +
		"SecRuleUpdateTargetById 942100 \"!ARGS:raw\"\n")
	i := compiled(t, rules)
	if found := i.Inspect(ordinary("GET", "/export/all", "", "")); found.Score != 3 || !slices.Equal(found.Rules, []int64{1001}) {
		t.Errorf("an own rule: %+v", found)
	}
	for _, row := range []struct{ text, want string }{
		{"SecRuleEngine Off\n", ":1: SecRuleEngine"},
		{"\n\nInclude /etc/passwd\n", ":3: Include"},
		{"SecAction \"id:5,phase:1,pass,nolog,ctl:ruleEngine=Off\"", ":1: own rules may not say ctl:ruleengine"},
		{"SecRule ARGS \"@rbl example.org\" \"id:5,phase:2,pass\"", "@rbl"},
		{"SecRule ARGS \"@pmFromFile /etc/passwd\" \"id:5,phase:2,pass\"", "fromfile"},
		{"SecAction \"id:5,phase:1,pass,exec:/bin/sh\"", "exec:"},
		{"SecAction \"id:949110,phase:1,pass\"", "ids from 1 to 99999"},
		{"SecAction \"id:5,phase:1,pass\"\nSecRule ARGS \"@rx (\" \\\n\"id:6,phase:2,pass\"\n", ":2: "},
		{"SecAction \"id:5,phase:1,pass,nolog\"\nSecAction \"id:5,phase:1,pass,nolog\"\n", ":2: "},
		{"SecAction \"id:5,phase:1,pass\" \\", "has no end"},
	} {
		rules.Rules = write(row.text)
		if _, err := Compile(rules); err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), rules.Rules[0]) {
			t.Errorf("%q: %v, want %q", row.text, err, row.want)
		}
	}
	rules.Rules = []string{filepath.Join(t.TempDir(), "absent.conf")}
	if _, err := Compile(rules); err == nil {
		t.Error("a file that is not there compiles")
	}
}

// Apps with equal rules share an inspector, whatever they do with its findings; other rules make another.
func TestEqualRulesShareAnInspector(t *testing.T) {
	first := compiled(t, testRules)
	same := testRules
	same.Mode, same.Threshold = Detect, 20
	if shared, err := Compile(same, nil, first); err != nil || shared != first {
		t.Errorf("equal rules: %p, %v, want %p", shared, err, first)
	}
	same.Depth++
	other, err := Compile(same, first)
	if err != nil || other == first {
		t.Fatalf("other rules share: %v", err)
	}
	other.Close()
	if off, err := Compile(Rules{}); off != nil || err != nil {
		t.Errorf("no rules: %v, %v", off, err)
	}
	if found := first.Inspect(attacks[0].request()); found.Score < 5 {
		t.Errorf("after another was closed: %+v", found)
	}
}

// The core rules' exception for what a web server on the same machine asks itself is not ours: a proxy may make every
// client look like that.
func TestLoopbackIsNotTrusted(t *testing.T) {
	q := attacks[0].request()
	q.Client = "127.0.0.1"
	q.Header.Set("User-Agent", "Apache (internal dummy connection)")
	if found := compiled(t, testRules).Inspect(q); found.Score < 5 {
		t.Errorf("got %+v", found)
	}
}

// Nothing that a request holds makes the readers or the rules panic, whatever type it claims, and limits hold.
func FuzzInspect(f *testing.F) {
	for _, a := range attacks {
		q := a.request()
		f.Add(q.Target, q.Header.Get("Content-Type"), q.Header.Get("Cookie"), q.Body, true)
	}
	for _, q := range usual() {
		f.Add(q.Target, q.Header.Get("Content-Type"), q.Header.Get("Cookie"), q.Body, false)
	}
	i, err := Compile(testRules)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target, contentType, cookie string, body []byte, whole bool) {
		body = body[:min(len(body), 4<<10)]
		q := &Request{Method: "POST", Protocol: "HTTP/1.1", Host: "wiki.corp.test", Path: "/", Target: target, Client: "10.1.2.3", Length: int64(len(body)), Body: body, Whole: whole,
			Header: http.Header{"Content-Type": {contentType}, "Cookie": {cookie}}}
		c := read(&testRules, contentType, "", body, whole)
		names := 0
		for _, a := range c.args {
			names += len(a.name)
		}
		if len(c.args) > testRules.Arguments || len(c.texts)+len(c.attrs) > testRules.Arguments+256 || names > len(body)*(testRules.Depth+1)*maxKey {
			t.Errorf("%d arguments, %d texts, %d bytes of names", len(c.args), len(c.texts)+len(c.attrs), names)
		}
		if found := i.Inspect(q); len(found.Rules) > MaxRules || found.Score < 0 {
			t.Errorf("%+v", found)
		}
	})
}
