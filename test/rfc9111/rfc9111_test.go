package rfc9111

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sallyport/gateway/headers"
)

// absent is a gateway without a cache: it says who is asking, and nothing that a client says about that reaches the app.
type absent struct {
	transport *http.Transport
	origin    *Origin
}

func newAbsent(t *testing.T, origin *Origin) *absent {
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: atOnce}
	t.Cleanup(transport.CloseIdleConnections)
	return &absent{transport, origin}
}

func (a *absent) Send(_, _ string, r *http.Request) (*http.Response, error) {
	r.Header = headers.FromClient(r.Header)
	if strings.HasPrefix(r.URL.Path, "/free/") {
		r.Header.Del("Cookie")
		r.Header.Del("Authorization")
	}
	return answered(a.transport.RoundTrip(toward(r, a.origin)))
}

func (*absent) Base(app string) string { return "https://" + app + ".corp.test" }

// answered makes a 502 of what was not answered.
func answered(res *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return &http.Response{StatusCode: http.StatusBadGateway, Header: http.Header{}, Body: http.NoBody}, nil
	}
	return res, nil
}

func toward(r *http.Request, origin *Origin) *http.Request {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(origin.URL, "http://")
	return r
}

// reckless is a cache that keeps every answer for everybody and never asks again.
type reckless struct {
	*absent
	mu   sync.Mutex
	kept map[string]kept
}

type kept struct {
	http.Response
	body []byte
}

func (c *reckless) Send(person, app string, r *http.Request) (*http.Response, error) {
	key := strings.ToLower(strings.TrimSuffix(r.URL.Path, "/"))
	c.mu.Lock()
	entry, found := c.kept[key]
	c.mu.Unlock()
	if !found {
		res, err := c.absent.Send(person, app, r)
		if err != nil {
			return nil, err
		}
		entry = kept{Response: *res}
		entry.body, _ = io.ReadAll(res.Body) // whole or not
		res.Body.Close()
		c.mu.Lock()
		c.kept[key] = entry
		c.mu.Unlock()
	}
	res := entry.Response
	res.Body = io.NopCloser(bytes.NewReader(entry.body))
	return &res, nil
}

// The cases themselves are tested by two caches that do one thing only: none may pass both, and what is forbidden is
// found in the one that does everything.
func TestCasesTellCachesApart(t *testing.T) {
	cases := Cases(t)
	origin := NewOrigin(t)
	never := Play(t.Context(), newAbsent(t, origin), origin, cases)
	always := Play(t.Context(), &reckless{absent: newAbsent(t, origin), kept: map[string]kept{}}, origin, cases)
	for i, c := range cases {
		if len(never[i].Wrong) > 0 {
			t.Errorf("%s %s: without a cache: %s", c.Where, c.Name, never[i].Wrong)
		}
		passed := never[i].Passed()
		if passed && always[i].Passed() && len(c.Steps) > 1 && !c.indifferent() {
			t.Errorf("%s %s: passes without a cache and with a reckless one", c.Where, c.Name)
		}
		if !passed && c.Kind == Required && !c.needsCache() {
			t.Errorf("%s %s: fails without a cache: %s", c.Where, c.Name, never[i].Missed)
		}
	}
}

// indifferent cases look at something else than whether an answer was reused.
func (c Case) indifferent() bool {
	for _, s := range c.Steps[1:] {
		if s.See.Who != "any" {
			return false
		}
	}
	return true
}

// needsCache holds for cases about what a cache does with what it has.
func (c Case) needsCache() bool {
	for _, s := range c.Steps {
		if s.See.Who == "stored" || s.See.Who == "validated" || s.See.Who == "stale" || s.See.Who == "gateway" {
			return true
		}
	}
	return false
}
