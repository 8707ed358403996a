package canon

import (
	"net/http"
	"slices"
	"testing"
)

// copying is a COPY of /dav/a with these lines.
func copying(t testing.TB, lines ...string) *http.Request {
	r := get(t, "/dav/a", lines...)
	r.Method = "COPY"
	return r
}

// destinations are what clients name, with the path that is written to; empty ones are refused.
var destinations = []struct{ field, path string }{
	{"/dav/b", "/dav/b"},
	{"/dav/b/", "/dav/b/"},
	{"https://app.example.test/dav/b", "/dav/b"},
	{"HTTPS://APP.example.test/dav/b", "/dav/b"},
	{"https://app.example.test:443/dav/b", "/dav/b"},
	{"/dav/%c3%bc%20b,c", "/dav/ü b,c"},
	{"/%64av/b", "/dav/b"},

	{"", ""},
	{"b", ""},
	{"../b", ""},
	{"//app.example.test/dav/b", ""},
	{"https://app.example.test", ""},
	{"https:/dav/b", ""},
	{"https:///dav/b", ""},
	{"http://app.example.test/dav/b", ""},
	{"ftp://app.example.test/dav/b", ""},
	{"https://other.example.test/dav/b", ""},
	{"https://app.example.test:8443/dav/b", ""},
	{"https://app.example.test@other.example.test/dav/b", ""},
	{"https://ada:secret@app.example.test/dav/b", ""},
	{`https://app.example.test\@other.example.test/dav/b`, ""},
	{"https://app.example.test?/dav/b", ""},
	{"/dav/b?token=secret", ""},
	{"/dav/b#c", ""},
	{"/dav/../admin/b", ""},
	{"/dav/%2e%2e/admin/b", ""},
	{"/dav/..%2fadmin/b", ""},
	{"/dav/..;/admin/b", ""},
	{`/dav/..\admin\b`, ""},
	{"/dav//b", ""},
	{"/dav/b%00", ""},
	{"/dav/%25b", ""},
	{"/dav/b /dav/c", ""},
	{"</dav/b>", ""},
}

// A destination is a second target: it has one reading, which is what goes upstream, or the request is refused.
func TestDestinationsAreReadAsTargetsAre(t *testing.T) {
	for _, row := range destinations {
		r := copying(t, "Destination: "+row.field)
		if row.path == "" {
			if reject := refusal(t, r, SecondTarget); reject.Status != http.StatusBadRequest || reject.Close {
				t.Errorf("%s: refused as %+v", row.field, reject)
			}
			continue
		}
		q := accepted(t, r)
		if q.Destination != row.path || !slices.Equal(q.Header["Destination"], []string{EscapePath(row.path)}) {
			t.Errorf("%s: read as %q, sent as %q", row.field, q.Destination, q.Header["Destination"])
		}
		if path, escaped, ok := q.StripDestination("/dav"); !ok || EscapePath(path) != escaped || "/dav"+path != row.path {
			t.Errorf("%s: stripped to %q, %q, %v", row.field, path, escaped, ok)
		}
	}
	refusal(t, copying(t, "Destination: /dav/b", "Destination: /dav/c"), RepeatedField)
	if q := accepted(t, copying(t, "Overwrite: F", "If: </dav/b> (<urn:x>)")); q.Destination != "" || q.Header["Destination"] != nil || q.Header["If"] == nil {
		t.Errorf("without a destination: %q, header %v", q.Destination, q.Header)
	}
}

func TestDestinationHasTheClientsPort(t *testing.T) {
	r := copying(t, "Destination: https://app.example.test:8443/dav/b")
	r.Host = "app.example.test:8443"
	if q := accepted(t, r); q.Destination != "/dav/b" {
		t.Errorf("read as %q", q.Destination)
	}
	r.Header["Destination"] = []string{"https://app.example.test/dav/b"}
	refusal(t, r, SecondTarget)
}

// What an app relaxes holds for both targets.
func TestDestinationsAreRelaxedAsTargetsAre(t *testing.T) {
	rules := NewRules(Limits{}, Relaxed{})
	rules.relaxed.Add(host, "/", []Relaxation{{Paths: []Folder{"/r/"}, Allow: []Spelling{EncodedSlash}}})
	q, err := parse(copying(t, "Destination: /r/a%2fb"), rules)
	if err != nil || q.Destination != "/r/a%2Fb" || q.Header.Get("Destination") != "/r/a%2Fb" {
		t.Errorf("%v, %v", q, err)
	}
	if _, err := parse(copying(t, "Destination: /s/a%2fb"), rules); err == nil {
		t.Error("relaxed outside of the folder")
	}
}

// Only COPY and MOVE have a destination (RFC 4918 §10.3): apps get none with other methods.
func TestDestinationsOfOtherMethodsDoNotPass(t *testing.T) {
	for _, method := range []string{"GET", "PUT", "POST", "LOCK", "PROPPATCH", "DELETE", "MKCOL"} {
		r := get(t, "/dav/a", "Destination: /admin/b")
		r.Method = method
		if q := accepted(t, r); q.Destination != "" || q.Header["Destination"] != nil {
			t.Errorf("%s: read as %q, header %q", method, q.Destination, q.Header["Destination"])
		}
	}
	refusal(t, copying(t, "Connection: destination", "Destination: /admin/b"), BadConnection)
}

// Object stores copy from where a field says, which no policy sees.
func TestCopiesFromUnseenObjectsAreRefused(t *testing.T) {
	for _, line := range []string{"x-amz-copy-source: /secrets/key", "X-Copy-From: secrets/key", "x-ms-copy-source: https://other.example.test/key", "X-Goog-Copy-Source: secrets/key"} {
		r := get(t, "/bucket/object", line)
		accepted(t, r) // nothing is copied by reading
		r.Method = "PUT"
		refusal(t, r, SecondTarget)
	}
}
