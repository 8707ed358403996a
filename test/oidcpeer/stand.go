package oidcpeer

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/test/harness"
)

// Clients of a provider that an installation uses.
const (
	Gateway = "sallyport" // is told who signed out by sid
	Another = "another"   // another app of the company, which has its own logout address; nobody listens there
)

// For starts a company's provider in place of the stand's own, before the stand is started. Changes may alter the options.
func For(t testing.TB, s *harness.Stand, changes ...func(*Options)) *Peer {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(s.Dir, "keys", "public", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		CA: string(ca),
		Clients: []Client{{
			ID: Gateway, Secret: "a secret of the test", RedirectURIs: []string{s.URL("auth", "/.sallyport/callback/corp")},
			AfterLogout: []string{s.URL("auth", "/.sallyport/signedout")},
			BackChannel: s.URL("auth", "/.sallyport/backchannel/corp"), BackChannelBySID: true,
		}, {
			ID: Another, Secret: "another secret", RedirectURIs: []string{"http://127.0.0.1:1/callback"},
			BackChannel: "http://127.0.0.1:1/logout", BackChannelBySID: true,
		}},
		People: map[string]Person{
			"ada": {Email: "ada@corp.test", EmailVerified: true, Name: "Ada", Groups: []string{"staff"}},
			"ben": {Email: "ben@corp.test", EmailVerified: true, Name: "Ben", Groups: []string{"staff"}},
		},
	}
	for _, change := range changes {
		change(&o)
	}
	p := Start(t, o)
	config, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	s.WriteRaw(t, strings.ReplaceAll(string(config), "issuer: "+s.Provider.Issuer+"\n", "issuer: "+p.Issuer+"\n"))
	return p
}

// Page is where a browser came to rest.
type Page struct {
	Status  int
	URL     *url.URL
	Body    string
	Header  http.Header
	Visited []string // addresses of the forms that were filled in
}

// Login is what somebody types at the provider.
type Login struct {
	Name string
	Code string // of a second factor; empty: they have none at hand
}

// Open opens an address in a browser and signs in as often as the provider asks.
func (p *Peer) Open(t testing.TB, browser *http.Client, address string, as Login) Page {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.Follow(t, browser, request, as)
}

// Follow sends any request and goes on as Open does.
func (p *Peer) Follow(t testing.TB, browser *http.Client, request *http.Request, as Login) (page Page) {
	t.Helper()
	for range 5 {
		visited := page.Visited
		page = read(t, browser, request)
		page.Visited = visited
		action := formAction.FindStringSubmatch(page.Body)
		if !strings.HasPrefix(page.URL.String(), p.Issuer+"/") || action == nil {
			return page
		}
		page.Visited = append(page.Visited, page.URL.String())
		request = p.form(t, page, html.UnescapeString(action[1]), as)
	}
	t.Fatalf("the provider never came to an end; last at %s: %.2000s", page.URL, page.Body)
	return page
}

// form is what a person sends from a page of the provider: a name and a password, or that they do want to sign out.
func (p *Peer) form(t testing.TB, page Page, action string, as Login) *http.Request {
	t.Helper()
	target, err := page.URL.Parse(action)
	if err != nil {
		t.Fatal(err)
	}
	values := url.Values{"login": {as.Name}, "password": {"any"}, "code": {as.Code}}
	if found := hiddenField.FindStringSubmatch(page.Body); found != nil {
		values = url.Values{found[1]: {found[2]}, "logout": {"yes"}}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target.String(), strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return request
}

var (
	formAction  = regexp.MustCompile(`(?i)<form[^>]*\baction="([^"]+)"`)
	hiddenField = regexp.MustCompile(`<input type="hidden" name="(xsrf)" value="([^"]*)"`)
)

func read(t testing.TB, browser *http.Client, request *http.Request) Page {
	t.Helper()
	res, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return Page{Status: res.StatusCode, URL: res.Request.URL, Body: string(body), Header: res.Header}
}
