package shield

import (
	"slices"
	"strings"
	"testing"
)

const (
	script    = "<script>alert(document.cookie)</script>"
	union     = "1' UNION SELECT password FROM users-- "
	multiX    = "multipart/form-data; boundary=X"
	formField = "Content-Disposition: form-data; name=\"q\"\r\n\r\n"
	formFile  = "Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\n"
	urlForm   = "application/x-www-form-urlencoded"
)

// oddBody is a body that two readers may read in two ways, or that says it is what it is not.
type oddBody struct {
	name, contentType, body string
	malformed               bool // want FindingMalformed; or else the payload must be found by itself
}

// one is a body of one part.
func one(header, value string) string {
	return "--X\r\n" + header + "\r\n\r\n" + value + "\r\n--X--\r\n"
}

var oddMultiparts = []oddBody{
	{"a parameter that contains filename", multiX, one(`Content-Disposition: form-data; name="q"; xfilename=1`, script), true},
	{"a field that is named filename", multiX, one(`Content-Disposition: form-data; name="filename"`, script), false},
	{"a field that is named filename, SQL", multiX, one(`Content-Disposition: form-data; name="filename"`, union), false},
	{"a field whose name holds a filename", multiX, one(`Content-Disposition: form-data; name="a; filename=b"`, script), false},
	{"fields after the end", multiX, "--X--\r\n--X\r\n" + formField + union + "\r\n--X--\r\n", true},
	{"fields after an end that follows others", multiX, "--X\r\n" + formField + "ok\r\n--X--\r\n--X\r\n" + formField + union + "\r\n--X--\r\n", true},
	{"fields before the beginning", multiX, "--Y\r\n" + formField + union + "\r\n--X\r\n" + formField + "ok\r\n--X--\r\n", true},
	{"a delimiter after LF in a file", multiX, "--X\r\n" + formFile + "abc\n--X\r\n" + formField + script + "\r\n--X--\r\n", true},
	{"a delimiter after CR in a file", multiX, "--X\r\n" + formFile + "abc\r--X\r\n" + formField + script + "\r\n--X--\r\n", true},
	{"a delimiter before LF", multiX, "--X\n" + formField + script + "\r\n--X--\r\n", true},
	{"a longer delimiter in a file", multiX, "--X\r\n" + formFile + "abc\r\n--XY\r\n" + formField + script + "\r\n--X--\r\n", true},
	{"a padded delimiter in a file", multiX, "--X\r\n" + formFile + "abc\r\n--X \r\n" + formField + script + "\r\n--X--\r\n", true},
	{"no end", multiX, "--X\r\n" + formField + script, true},
	{"quoted-printable", multiX, one("Content-Disposition: form-data; name=\"q\"\r\nContent-Transfer-Encoding: quoted-printable", "=3Cscript=3Ealert(1)"), true},
	{"base64", multiX, one("Content-Disposition: form-data; name=\"q\"\r\nContent-Transfer-Encoding: base64", "PHNjcmlwdD4="), true},
	{"a header line that is folded", multiX, one("Content-Disposition: form-data; name=\"q\";\r\n filename=x", script), true},
	{"header lines after LF", multiX, one("Content-Disposition: form-data; name=\"f\"\nX: y; filename=x", script), true},
	{"two dispositions", multiX, one("Content-Disposition: form-data; name=\"f\"; filename=x\r\nContent-Disposition: form-data; name=\"q\"", script), true},
	{"two names", multiX, one(`Content-Disposition: form-data; name="q"; name="f"; filename="x"`, script), true},
	{"two filenames", multiX, one(`Content-Disposition: form-data; name="q"; filename="x"; filename="y"`, script), true},
	{"no name", multiX, one(`Content-Disposition: form-data; filename="x"`, script), true},
	{"no disposition", multiX, one(`Content-Type: text/plain`, script), true},
	{"another disposition", multiX, one(`Content-Disposition: attachment; name="q"; filename="x"`, script), true},
	{"filename* alone", multiX, one(`Content-Disposition: form-data; name="q"; filename*=UTF-8''x`, script), true},
	{"an escaped quote", multiX, one(`Content-Disposition: form-data; name="q\"; filename="x"`, script), true},
	{"an open quote", multiX, one(`Content-Disposition: form-data; name="q; filename=x`, script), true},
	{"an empty filename", multiX, one(`Content-Disposition: form-data; name="q"; filename=""`, script), false},
	{"parts in a part", multiX, one("Content-Disposition: form-data; name=\"f\"; filename=x\r\nContent-Type: multipart/mixed; boundary=Y", script), true},
	{"a charset in a part", multiX, one("Content-Disposition: form-data; name=\"q\"\r\nContent-Type: text/plain; charset=utf-7", "+ADw-script+AD4-"), true},
	{"a charset in a field", multiX, one(`Content-Disposition: form-data; name="_charset_"`, "utf-7"), true},
	{"two boundaries", multiX + "; boundary=Y", one(`Content-Disposition: form-data; name="f"; filename="x"`, script), true},
	{"a name that ends in boundary", "multipart/form-data; xboundary=Y; boundary=X", one(`Content-Disposition: form-data; name="f"; filename="x"`, script), true},
	{"a boundary with a comma", `multipart/form-data; boundary="X,Y"`, "--X,Y\r\n" + formFile + script + "\r\n--X,Y--\r\n", true},
	{"a boundary in pieces", "multipart/form-data; boundary*0=X", one(`Content-Disposition: form-data; name="q"`, script), true},
	{"no boundary", "multipart/form-data", one(`Content-Disposition: form-data; name="q"`, script), true},
}

var oddXML = []oddBody{
	{"comments in a text", "text/xml", "<a>1' UN<!---->ION SEL<!---->ECT pass<!---->word FR<!---->OM users-- </a>", false},
	{"instructions in a text", "text/xml", "<a>1' UN<?x?>ION SEL<?x?>ECT pass<?x?>word FR<?x?>OM users-- </a>", false},
	{"sections in a text", "text/xml", "<a><![CDATA[<scr]]><![CDATA[ipt>al]]><![CDATA[ert(1)</script>]]></a>", false},
	{"a section after text", "application/xml", "<a>1' UNION SEL<![CDATA[ECT password FROM users-- ]]></a>", false},
	{"elements in a text", "text/xml", "<a>1' UN<b/>ION SEL<b/>ECT pass<b/>word FR<b/>OM users-- </a>", false},
	{"ends before beginnings", "text/xml", "</a></a></a>" + strings.Repeat("<b>", 34), true},
	{"ends of others", "text/xml", "<a><b></a></b>", true},
	{"no end", "text/xml", "<a>", true},
	{"a document type", "application/soap+xml", `<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`, true},
	{"a document type alone", "text/xml", `<!DOCTYPE a SYSTEM "http://evil.example/x.dtd"><a/>`, true},
	{"an entity that is not declared", "text/xml", `<a>&e;</a>`, true},
	{"UTF-7", "text/xml", `<?xml version="1.0" encoding="utf-7"?><a>+ADw-script+AD4-</a>`, true},
	{"UTF-16", "text/xml", "\xff\xfe<\x00a\x00/\x00>\x00", true},
	{"a payload in an instruction", "text/xml", "<a><?x " + script[:20] + script[20:38] + " ?></a>", false},
}

var oddJSON = []oddBody{
	{"the same key twice", "application/json", `{"q":"` + script + `","q":"ok"}`, false},
	{"the same key twice, later", "application/json", `{"q":"ok","q":"` + script + `"}`, false},
	{"a second value", "application/json", `{"q":"ok"} {"q":"` + script + `"}`, false},
	{"something after it", "application/json", `{"q":"ok"} q=x`, true},
	{"a byte that is not UTF-8", "application/json", `{"q":"ok` + "\xff" + `"}`, true},
	{"a byte order mark", "application/json", "\ufeff" + `{"q":"ok"}`, true},
	{"UTF-16", "application/json", "{\x00\"\x00q\x00\"\x00:\x001\x00}\x00", true},
	{"a comment", "application/json", `{"q":/**/"ok"}`, true},
	{"no end", "application/json", `{"q":"ok"`, true},
	{"a charset", "application/json; charset=utf-16", `{"q":"ok"}`, true},
	{"two charsets", "application/json; charset=utf-8; charset=utf-7", `{"q":"ok"}`, true},
}

var oddForms = []oddBody{
	{"a semicolon", urlForm, "text=ok;q=%3Cscript%3Ealert(1)%3C/script%3E", false},
	{"the same name twice", urlForm, "q=%3Cscript%3Ealert(1)%3C/script%3E&q=ok", false},
	{"%u", urlForm, "q=%u003cscript%u003eok", true},
	{"UTF-7", urlForm + "; charset=utf-7", "q=ok", true},
	{"UTF-16", urlForm + "; charset=utf-16le", "q=ok", true},
	{"EBCDIC", urlForm + "; charset=ibm037", "q=ok", true},
	{"no name", urlForm, "=%3Cscript%3Ealert(1)%3C/script%3E", false},
}

var oddOthers = []oddBody{
	{"a byte that is not UTF-8 in JSON", "text/plain", `{"q":"` + script + `","z":"` + "\xff" + `"}`, false},
	{"a byte after JSON", "text/plain", `{"q":"` + script + `"}` + "\x01", false},
	{"a byte that is not UTF-8 in text/json", "text/json", `{"q":"` + script + `","z":"` + "\xff" + `"}`, false},
	{"a byte after a report", "application/csp-report", `{"q":"` + script + `"}` + "\x01", false},
	{"a byte that is not UTF-8 in bytes", "application/octet-stream", `{"q":"` + script + `","z":"` + "\xff" + `"}`, false},
	{"a byte after JSON in bytes", "application/octet-stream", `{"q":"` + script + `"}` + "\x01", false},
	{"noise after JSON in bytes", "application/octet-stream", `{"q":"` + script + `"}` + strings.Repeat("\x01\xff", 400), false},
	{"noise in a picture of JSON", "image/png", `{"q":"\u003cscript\u003ealert(1)\u003c/script\u003e","z":"` + strings.Repeat("\xff", 400) + `"}`, false},
	{"a text without a type", "", script + "\xff", false},
	{"noise in a text", "text/plain", script + strings.Repeat("\xff\x01", 400), false},
	{"noise in an unknown type", "application/x-odd", script + strings.Repeat("\xff\x01", 400), false},
	{"other parts", "multipart/related; boundary=X", one("Content-Type: text/plain", script), false},
	{"UTF-16 without a type", "", "{\x00\"\x00q\x00\"\x00:\x001\x00}\x00", true},
	{"UTF-16, the other way", "text/plain", "\x00{\x00\"\x00q\x00\"\x00:\x001\x00}", true},
	{"a charset", "text/plain; charset=utf-7", "+ADw-script+AD4-", true},
}

// What two readers could read differently is a finding, and what an app could take for a value is seen by the rules.
func TestBodiesThatReadersReadDifferently(t *testing.T) {
	i := compiled(t, testRules)
	for _, row := range slices.Concat(oddMultiparts, oddXML, oddJSON, oddForms, oddOthers) {
		found := i.Inspect(ordinary("POST", "/form", row.contentType, row.body))
		if malformed := slices.Contains(found.Rules, FindingMalformed); found.Score < 5 || row.malformed && !malformed {
			t.Errorf("%s, %s: score %d by %v", row.contentType, row.name, found.Score, found.Rules)
		}
		if !row.malformed && len(found.Rules) == 1 && found.Rules[0] == FindingMalformed {
			t.Errorf("%s, %s: the payload is not seen", row.contentType, row.name)
		}
	}
}

// What browsers and programs send is none of that.
func TestOrdinaryBodiesAreReadPlainly(t *testing.T) {
	webkit := "----WebKitFormBoundary7MA4YWxkTrZu0gW"
	for name, row := range map[string]oddBody{
		"Chrome": {contentType: "multipart/form-data; boundary=" + webkit, body: strings.ReplaceAll("--B\r\n"+formField+"a -- b\r\n-- \r\n---\r\n--B\r\n"+
			"Content-Disposition: form-data; name=\"photo[]\"; filename=\"Zoë's %22cat%22 (1).jpg\"\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\n--\r\n--\x00\r\n--B--\r\n", "B", webkit)},
		"no file chosen":        {contentType: multiX, body: one("Content-Disposition: form-data; name=\"f\"; filename=\"\"\r\nContent-Type: application/octet-stream", "")},
		"no fields":             {contentType: multiX, body: "--X--\r\n"},
		"curl":                  {contentType: "multipart/form-data; boundary=------------------------d74496d66958873e", body: strings.ReplaceAll(one(`Content-Disposition: form-data; name="q"`, "x"), "--X", "--------------------------d74496d66958873e")},
		".NET":                  {contentType: `multipart/form-data; boundary="X"`, body: one("Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=q", "x")},
		"both names of a file":  {contentType: multiX, body: one(`Content-Disposition: form-data; name=f; filename=a.txt; filename*=utf-8''a.txt`, "x")},
		"okhttp":                {contentType: multiX, body: one("Content-Disposition: form-data; name=\"q\"\r\nContent-Transfer-Encoding: binary\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 1", "x")},
		"Latin-1 XML":           {contentType: "text/xml", body: `<?xml version="1.0" encoding="ISO-8859-1"?><a>caf` + "\xe9" + `</a>`},
		"XML":                   {contentType: "application/xml; charset=utf-8", body: "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- a --><D:propfind xmlns:D=\"DAV:\"><D:prop><D:getetag/> </D:prop></D:propfind>\n"},
		"JSON":                  {contentType: `application/json; charset="UTF-8"`, body: `{"q":"Zoë","z":[1,null,{}]}` + "\n"},
		"JSON without its type": {body: `{"q":"x"}`},
		"a form":                {contentType: urlForm + ";charset=UTF-8", body: "q=a%3Bb&q=c+d&e"},
		"bytes":                 {contentType: "application/octet-stream", body: "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00"},
		"a pack":                {contentType: "application/x-git-receive-pack-request", body: "PACK\x00\x00\x00\x02\x00\x00\x00\x01\x9d\xcb"},
	} {
		c := read(&testRules, row.contentType, "", []byte(row.body), true)
		if len(c.findings) > 0 {
			t.Errorf("%s: findings %v, arguments %q", name, c.findings, c.args)
		}
	}
}
