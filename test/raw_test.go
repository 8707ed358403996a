package test

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"sallyport/test/harness"
	"sallyport/test/rawhttp"
)

// guarded is the fixture of the threat list's rows: ada may use /app/ and nothing else.
const guarded = `
  - name: wiki
    host: wiki.corp.test
    upstreams: ["RAW"]
    access: [{ paths: ["/app/"], groups: [staff] }]
  - name: payroll
    host: payroll.corp.test
    upstreams: ["RAW"]
    access: { groups: [finance] }
`

// TestThreatsAsBytes sends the rows of path confusion, header, smuggling, HTTP/2, host, method, cookie and redirect
// confusion to the real gateway, as exact bytes, with and without a session.
func TestThreatsAsBytes(t *testing.T) {
	origin := rawhttp.NewOrigin(t)
	s := harness.New(t, strings.ReplaceAll(guarded, "RAW", origin.URL), "")
	gateway := s.Start(t)
	session := func(label, person string) string {
		browser := s.Browser()
		s.SignIn(t, browser, label, person, "staff")
		return s.Cookie(t, browser, label).Value
	}
	authority := func(label string) string {
		u, err := url.Parse(s.URL(label, "/"))
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
	provider, err := url.Parse(s.Provider.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	rawhttp.Run(t, rawhttp.Target{
		Dialer: rawhttp.Dialer{Address: s.Address(), Roots: s.Roots()}, Origin: origin,
		Host: authority("wiki"), Other: authority("payroll"), Auth: authority("auth"),
		Provider: net.JoinHostPort(provider.Hostname(), provider.Port()),
		Session:  session("wiki", "ada"), OtherSession: session("payroll", "ada"), Neighbour: session("wiki", "bob"),
	}, rawhttp.Cases())
	if t.Failed() {
		t.Logf("the gateway said:\n%s", gateway.Output())
	}
}
