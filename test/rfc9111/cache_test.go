package rfc9111

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"sallyport/gateway/cache"
	"sallyport/gateway/headers"
)

// rules are those of the apps in the cases.
var rules = cache.Rules{Enabled: true, Shared: true, Paths: []cache.PathRule{
	{Path: "/own/", Shared: new(false)},
	{Path: "/free/", IdentityFree: new(true)},
	{Path: "/cookies/", StoreSetCookie: new(true)},
}}

// cached is the gateway's cache without the gateway.
type cached struct {
	*absent
	cache http.RoundTripper
}

func (c *cached) Send(person, app string, r *http.Request) (*http.Response, error) {
	credentials := r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != ""
	rule := rules.For(r.URL.Path)
	r.Header = headers.FromClient(r.Header)
	viewer := &cache.Viewer{App: app, URL: c.Base(app) + r.URL.RequestURI(), Rule: rule, Credentials: credentials,
		IdentityHeaders: func(name string) bool { return strings.HasPrefix(name, "X-Sallyport-") }}
	if rule.IdentityFree {
		r.Header.Del("Cookie")
		r.Header.Del("Authorization")
	} else {
		viewer.Person, viewer.Told = person, sha256.Sum256([]byte(person))
		headers.SetIdentity(r.Header, headers.Identity{User: person, Email: person + "@corp.test", Groups: []string{"staff"}, Assertion: person})
	}
	return answered(c.cache.RoundTrip(r.WithContext(cache.WithViewer(r.Context(), viewer))))
}

// clean is what stands between the cache and the app.
type clean struct{ *absent }

func (c clean) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.transport.RoundTrip(toward(r, c.origin))
	if err != nil {
		return nil, err
	}
	app := headers.NewApp(headers.AppConfig{Address: headers.Address{Origin: c.Base("wiki"), Upstreams: []string{c.origin.URL}}})
	if _, err := app.FromApp(res.Header, res.StatusCode); err != nil {
		res.Body.Close()
		return nil, err
	}
	return res, nil
}

// The same cases run through the whole gateway in package test. Here a failure names the cache alone, and the race
// detector sees it work for many at once.
func TestTheCacheByItself(t *testing.T) {
	origin := NewOrigin(t)
	c := cache.New(cache.NewMemory(64<<20), cache.Options{})
	t.Cleanup(c.Close)
	front := &cached{absent: newAbsent(t, origin)}
	front.cache = c.For(clean{front.absent})
	t.Log(Run(t, front, origin, Cases(t)))
}
